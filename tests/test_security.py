"""What the code may not do: unpickle, evaluate, unpack archives, listen, or print a name that is markup."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from PIL import Image

import kdad
from kdad.errors import InputError
from kdad.images.files.decoding import FORMATS
from kdad.inference.predictions import read_predictions
from kdad.networks.source import build_source
from kdad.parameters.blocks import ServingParameters
from kdad.reporting.html import render_html
from kdad.reporting.predictions import render_predictions
from projects import PROJECT

ROOT = Path(kdad.__file__).parent
#: The published batches of CIFAR-10 are pickles: its reader takes arrays, lists and text alone.
MAY_PICKLE = {"images/published.py"}
MODULES = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle", "tarfile", "zipfile"}
CALLS = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.hub.load"),
}
METHODS = {"read_pickle", "to_pickle", "unpack_archive", "extractall"}
#: Options of calls that make them harmless, which must be given.
NEEDED = {"torch.load": ("weights_only", True), "get_state_dict": ("weights_only", True)}
FORBIDDEN_OPTIONS = {("allow_pickle", True), ("shell", True), ("autoescape", False), ("weights_only", False)}


def dangers(source: str, name: str = "trial.py") -> list[str]:
    """Return what in a source could run what a file holds."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom) and name not in MAY_PICKLE:
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"{name} imports {one}" for one in modules if one.split(".")[0] in MODULES]
        if isinstance(node, ast.Call):
            called, options = ast.unparse(node.func), {key.arg: ast.unparse(key.value) for key in node.keywords}
            if called in CALLS or called.rpartition(".")[2] in METHODS:
                found.append(f"{name} calls {called}")
            for end, (option, value) in NEEDED.items():
                if called.endswith(end) and options.get(option) != repr(value):
                    found.append(f"{name} calls {called} without {option}={value}")
            found += [
                f"{name} calls {called} with {option}={value}"
                for option, value in FORBIDDEN_OPTIONS
                if options.get(option) == repr(value)
            ]
    return found


def test_nothing_in_the_package_runs_what_a_file_holds():
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        found += dangers(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import torch\ntorch.load('a')",
        "import torch\ntorch.load('a', weights_only=False)",
        "np.load('a', allow_pickle=True)",
        "pd.read_pickle('a')",
        "eval('1')",
        "yaml.load(text)",
        "subprocess.run('ls', shell=True)",
        "weights.get_state_dict(progress=True)",
        "archive.extractall('there')",
        "Environment(autoescape=False)",
    ],
)
def test_a_danger_that_comes_in_is_found(source):
    assert dangers(source)


def test_the_one_reader_of_pickles_takes_no_class_that_it_does_not_name():
    source = (ROOT / "images/published.py").read_text(encoding="utf-8")
    calls = {ast.unparse(node.func) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)}
    assert not {"pickle.load", "pickle.loads", "pickle.Unpickler"} & calls
    assert "class _BatchUnpickler(pickle.Unpickler)" in source and "def find_class" in source


def test_no_data_set_of_the_catalog_is_a_pickle():
    kinds = set()
    for path in (PROJECT / "conf").rglob("catalog/*.yml"):
        kinds |= set(re.findall(r"type: (\S+)", path.read_text(encoding="utf-8")))
    assert kinds
    assert not [kind for kind in kinds if re.search("pickle|joblib|torch|Cached", kind, re.IGNORECASE)]


def test_predicting_unpickles_nothing_opens_no_connection_and_starts_no_program(tmp_path):
    """Checked by the interpreter's own audit while a detector is saved, opened and predicts."""
    script = f"""
import sys
import numpy as np, torch
sys.path[:0] = [{str(PROJECT / "tests")!r}]
from kdad.compute import Compute
from kdad.storage.content_store import ContentStore
from kdad.detectors.mkd.detector import MkdDetector
from kdad.detectors.mkd.parameters import MkdSettings
from kdad.detectors.opening import open_detector
from kdad.detectors.evaluation import extract_features
from kdad.detectors.detector import TrainContext
from kdad.features.extraction import FeatureSet
from kdad.scoring.threshold import quantile_threshold
from memory_images import MemoryImages, split_of
from pathlib import Path

place = Path({str(tmp_path)!r})
settings = MkdSettings(
    source={{"name": "timm:test_resnet", "weights": "random"}}, features={{}},
    cloner={{"architecture": {{"hidden_width": 4}}, "loss": {{}}, "training": {{"epochs": 1}}}},
    scoring={{"localisation": ["discrepancy"], "smoothing": {{"discrepancy": {{}}}}}},
)
images = MemoryImages()
seen = FeatureSet(images, split_of(images), {{}})
train_context = TrainContext(Compute(torch.device("cpu"), torch.float32), 0, ContentStore(place / "models"))
references = MkdDetector.frozen_networks(settings, seen, train_context)
store = ContentStore(place / "features")
seen = extract_features(MkdDetector, settings, seen, references, train_context.compute, store)
detector = MkdDetector(settings, references, train_context.compute)
detector.fit(seen, train_context)
detector.calibrated(quantile_threshold(np.arange(3.0), 0.5), np.arange(3.0), (0.0, 1.0))
detector.save(place / "detector")
seen_events = []
kinds = ("pickle.find_class", "socket.connect", "socket.bind", "subprocess.Popen", "os.system", "os.exec", "exec")
sys.addaudithook(lambda event, args: seen_events.append((event, str(args)[:200])) if event in kinds[:6] else None)
open_detector(place / "detector", "cpu").predict(np.zeros((40, 40), np.uint8))
print(seen_events)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_everything_that_listens_does_so_on_the_loopback():
    settings = yaml.safe_load((PROJECT / "conf/base/mlflow.yml").read_text(encoding="utf-8"))
    assert settings["ui"]["host"] in ("127.0.0.1", "localhost")
    serving = yaml.safe_load((PROJECT / "conf/base/parameters/serving.yml").read_text(encoding="utf-8"))
    assert serving["serving"]["host"] == "127.0.0.1" == ServingParameters().host
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    assert "0.0.0.0" not in makefile and "--host" not in makefile
    given = {"HOST": "0.0.0.0", "PORT": "80", "PATH": os.environ["PATH"]}
    command = ["make", "--dry-run", "--assume-old=.venv/installed", "serve"]
    for asked, expected in (([], []), (["HOST=::1", "PORT=81"], ["--host=::1", "--port=81"])):
        done = subprocess.run([*command, *asked], cwd=PROJECT, env=given, capture_output=True, text=True, check=True)
        assert re.findall(r"--(?:host|port)=\S+", done.stdout) == expected


def test_only_decoders_of_the_named_formats_see_a_file(tmp_path):
    """Pillow would hand an EPS file, whatever its name, to Ghostscript."""
    assert not {"EPS", "PDF", "WMF", "FPX", "MIC", "HDF5", "GRIB", "BUFR"} & set(FORMATS)
    opened = [
        ast.unparse(node)
        for path in sorted(ROOT.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Image.open"
    ]
    own = "Image.open(io.BytesIO(picture))"  # pictures that this process has drawn
    assert opened and all("formats=" in call for call in opened if call != own)


@pytest.mark.parametrize("name", ["timm:hf-hub:someone/something", "timm:local-dir:/tmp", "timm:someone/resnet18.x"])
def test_no_network_is_fetched_from_where_its_name_says(name):
    with pytest.raises(InputError, match="is no network of timm's own"):
        build_source(name)


MARKUP = [
    *('<img src=x onerror="alert(1)">.png', "</script><script>alert(1)</script>.png"),
    *("{{ 7 * 7 }}<.png", "&lt;b.png", "' onclick='alert(1)"),
]


@pytest.mark.parametrize("name", MARKUP)
def test_names_of_files_are_text_on_the_page_of_predictions(name):
    row = {"path": f"folder/{name}", "score": 1.0, "threshold": 0.5, "decision": 1, "percentile": 0.5}
    row |= {"height": 9, "width": 9, "milliseconds": 1.0, "label": None, "problem": None}
    row |= {"heat_map": f"heat_maps/{name}.png", "thumbnail": "thumbnails/000000.png"}
    broken = row | {"score": None, "problem": f"{name}: cannot be read", "heat_map": None, "thumbnail": None}
    page = render_predictions(name, [(name, name)], pd.DataFrame([row, broken]), None)
    assert_harmless(page, name)


@pytest.mark.parametrize("name", MARKUP)
def test_names_are_text_on_the_page_of_an_ablation(name):
    axis = {"name": name, "question": name, "figure": "data:,", "spread": False, "header": [name, "paper"]}
    axis |= {"rows": [[name, name]], "pairs": [[name]], "pairs_header": [name], "real": [name]}
    axis |= {"settings": [(name, name)], "tile": (name, name, name)}
    axis |= {"categories_header": [name], "categories": [[name]]}
    missing = [{"axis": name, "variant": name, "category": name, "seed": 0, "error": name}]
    values = {"title": name, "facts": name, "protocol": name, "axes": [axis], "missing": missing}
    assert_harmless(render_html("kdad.experiments", "ablation", **values), name)


def assert_harmless(page: str, name: str) -> None:
    """Fail where a page holds a name as it is, or what a template would make of it."""
    assert name not in page
    assert "<img src=x" not in page and "<script>alert" not in page and "49&lt;.png" not in page


def test_no_template_switches_escaping_off():
    for path in ROOT.rglob("*.j2"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\|\s*safe|autoescape\s+false|Markup", text), path


@pytest.mark.parametrize("place", ["../secret.png", "/etc/passwd", "link.png", "thumbnails/../../secret.png"])
def test_a_table_of_predictions_names_pictures_of_its_own_folder_alone(tmp_path, place):
    folder = tmp_path / "predicted"
    (folder / "thumbnails").mkdir(parents=True)
    Image.new("L", (9, 9)).save(tmp_path / "secret.png")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    pd.DataFrame([{"path": "a.png", "thumbnail": place}]).to_csv(folder / "predictions.csv", index=False)
    predicted = read_predictions(folder)
    with pytest.raises(InputError, match="names a picture outside of its folder"):
        predicted.thumbnail(place)


def test_the_list_of_what_was_checked_names_every_danger():
    text = (PROJECT / "SECURITY.md").read_text(encoding="utf-8")
    for word in ("pickle", "loopback", "decompression", "SHA-256", "Threat model", "pip-audit"):
        assert word in text


def test_the_locked_packages_have_versions():
    lines = (PROJECT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    packages = [line for line in lines if line and not line.startswith(("#", "-", " "))]
    assert packages and all("==" in line or " @ " in line for line in packages)
