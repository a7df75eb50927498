"""What cannot be exported, and files that cannot be used: one message each, and nothing written."""

import json
import pickle
import shutil
import sys
import zipfile

import numpy as np
import onnx
import pytest
import torch

from exported_detectors import export, wave_images
from kdad.detectors import load
from kdad.detectors.exported import writing
from kdad.detectors.exported.checked_images import VerificationImages, drawn
from kdad.detectors.exported.folder import keep
from kdad.detectors.exported.runtime import FileKind, Runtime
from kdad.detectors.exported.writing import export_detector
from kdad.errors import InputError


class _Shifted(Runtime, FileKind):
    """A format whose files answer as the detector, but for a shift of the scores."""

    def __init__(self, detector, shift: float) -> None:
        self.detector, self.shift = detector, shift

    def run_pixels(self, image):
        found = self.detector.predict(image[0])
        return np.array([found.score + self.shift], dtype=np.float32), found.map[None]

    run_prepared = read_texts = None

    def build(self, whole, size, path, precision, normal):
        path.write_bytes(b"built")

    def write_metadata(self, path, texts, target):
        target.write_bytes(b"stamped")

    def open(self, path, precision):
        return self


def _written(folder) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name.startswith("detector")}


def _range(detector) -> float:
    return float(np.ptp([detector.predict(image.pixels()).score for image in wave_images().images]))


def _shift(detector, share: float, monkeypatch) -> None:
    found = _Shifted(detector, share * _range(detector))
    monkeypatch.setattr(writing, "kind_of", lambda format, writes: found)
    monkeypatch.setattr(writing, "_check_written", lambda *arguments: None)


def test_a_file_that_answers_otherwise_is_not_written(detector, tmp_path, monkeypatch):
    _shift(detector, 2e-4, monkeypatch)
    with pytest.raises(InputError, match=r"nothing is written: scores differ by 0.0002 of their range"):
        export(detector, tmp_path)
    assert _written(tmp_path) == set()


def test_a_difference_below_the_limit_is_not_refused(detector, tmp_path, monkeypatch):
    _shift(detector, 5e-5, monkeypatch)
    assert export(detector, tmp_path).loss.score_difference == pytest.approx(5e-5, rel=0.05)
    assert _written(tmp_path) == {"detector.onnx"}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_scores_that_are_not_finite_are_refused_in_any_precision(precision, detector, tmp_path, monkeypatch):
    _shift(detector, float("nan"), monkeypatch)
    with pytest.raises(InputError, match="scores are not finite"):
        export(detector, tmp_path, precision=precision)
    assert _written(tmp_path) == set()


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_what_loses_digits_takes_held_out_images(precision, detector, tmp_path):
    with pytest.raises(
        InputError, match=r"takes normal validation images, and there are drawn ones.*give export.images"
    ):
        export_detector(detector, "float32", drawn(detector.size), "openvino", precision, tmp_path)
    assert _written(tmp_path) == set()


def test_drawn_images_do_for_float32(detector, tmp_path, monkeypatch):
    _shift(detector, 0.0, monkeypatch)
    images = VerificationImages(drawn(detector.size).images[:4], "drawn")
    facts = export_detector(detector, "float32", images, "torch_export", "float32", tmp_path)
    assert facts.loss.score_difference < 1e-4
    assert (facts.loss.image_auroc, facts.loss.images) == (None, 4)


@pytest.mark.parametrize(
    ("package", "format", "extra"),
    [("onnxscript", "onnx", "onnx"), ("onnxruntime", "onnx", "onnx"), ("openvino", "openvino", "onnx,openvino")],
)
def test_a_missing_package_is_named_with_what_installs_it(package, format, extra, detector, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"the package '{package}' is not installed.*pip install \"kdad\[{extra}\]\""):
        export(detector, tmp_path, format)


@pytest.mark.long
def test_a_missing_package_is_named_when_a_file_is_read(exported, monkeypatch):
    folder = exported("openvino")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(InputError, match="the package 'openvino' is not installed"):
        load(folder)


@pytest.mark.parametrize(
    ("format", "name"),
    [("onnx", "detector.onnx"), pytest.param("torch_export", "detector.pt2", marks=pytest.mark.long)],
)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_file_that_is_cut_short_is_refused(format, name, share, exported, tmp_path):
    content = (exported(format) / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=rf"{name}' cannot be read as .*undamaged copy"):
        load(tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("name", ["detector.xml", "detector.bin"])
def test_a_part_of_openvinos_that_is_cut_short_is_refused(name, exported, tmp_path):
    shutil.copytree(exported("openvino"), tmp_path / "cut")
    path = tmp_path / "cut" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 9 // 10])
    with pytest.raises(InputError, match=r"cannot be read as .*undamaged copy|its hash differs"):
        load(tmp_path / "cut")


@pytest.mark.long
def test_openvinos_weights_of_another_file_are_refused(exported, tmp_path):
    folder = shutil.copytree(exported("openvino"), tmp_path / "changed")
    content = bytearray((folder / "detector.bin").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "detector.bin").write_bytes(content)
    with pytest.raises(InputError, match=r"'detector.xml' was written with: its hash differs"):
        load(folder)
    (folder / "detector.bin").unlink()
    with pytest.raises(InputError, match=r"lacks its weights: there is no 'detector.bin' beside it"):
        load(folder / "detector.xml")


def test_a_file_of_another_program_is_refused(exported, tmp_path):
    model = onnx.load(exported() / "detector.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(InputError, match="was not exported by kdad"):
        load(tmp_path / "other.onnx")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 1}, "an export of format 1, and this version of kdad reads format 2"),
        ({"threshold": "low"}, "was changed"),
        ({"file_format": "openvino"}, "says that it is of the format openvino"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(change, said, exported, tmp_path):
    model = onnx.load(exported() / "detector.onnx")
    texts = {one.key: one.value for one in model.metadata_props}
    texts["kdad"] = json.dumps(json.loads(texts["kdad"]) | change)
    onnx.helper.set_model_props(model, texts)
    onnx.save(model, tmp_path / "detector.onnx")
    with pytest.raises(InputError, match=said):
        load(tmp_path)


def test_a_file_of_an_unknown_kind_is_refused(tmp_path):
    (tmp_path / "detector.tflite").write_bytes(b"?")
    with pytest.raises(InputError, match=r"it ends in none of .onnx \(onnx\), .pt2 \(torch_export\), .xml"):
        load(tmp_path / "detector.tflite")


@pytest.mark.long
def test_a_folder_of_several_files_asks_for_one(exported, tmp_path):
    for format in ("onnx", "torch_export"):
        shutil.copytree(exported(format), tmp_path, dirs_exist_ok=True)
    with pytest.raises(InputError, match=r"holds detector.onnx and detector.pt2; name one"):
        load(tmp_path)
    assert load(tmp_path / "detector.pt2").facts.file_format == "torch_export"


class _Told:
    """What would be run if it were unpickled."""

    def __reduce__(self):
        return (print, ("unpickled",))


@pytest.mark.parametrize("where", ["samples", "weight", "object"])
def test_a_program_with_pickled_objects_is_not_opened(where, exported, tmp_path, capsys):
    source, target = exported("torch_export") / "detector.pt2", tmp_path / "detector.pt2"
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target, "w") as after:
        for entry in before.infolist():
            content = before.read(entry)
            if where == "samples" and "sample_inputs" in entry.filename:
                content = pickle.dumps(_Told())
            config = {"weight": "model_weights_config", "object": "model_constants_config"}.get(where)
            if config and config in entry.filename:
                said = json.loads(content)
                first = next(iter(said["config"].values()))
                first |= {"use_pickle": True} if where == "weight" else {"path_name": "opaque_obj_0"}
                content = json.dumps(said).encode()
            after.writestr(entry.filename, content)
    with pytest.raises(InputError, match=r"holds pickled objects.*it is not opened"):
        load(target)
    assert "unpickled" not in capsys.readouterr().out


def test_a_folder_of_anything_else_is_not_replaced(tmp_path):
    (tmp_path / "built").mkdir()
    (tmp_path / "built/detector.onnx").write_bytes(b"new")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    with pytest.raises(InputError, match="is there already and is no exported detector"):
        keep(tmp_path / "built", tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]
    (tmp_path / "older").mkdir()
    (tmp_path / "older/detector.pt2").write_bytes(b"old")
    keep(tmp_path / "built", tmp_path / "older")
    assert [path.name for path in (tmp_path / "older").iterdir()] == ["detector.onnx"]


def test_a_network_that_cannot_be_traced_is_one_message(detector, tmp_path, monkeypatch):
    class Deciding(torch.nn.Module):
        def forward(self, images):
            return (images.sum(dim=(1, 2, 3)) if images.mean() > 0.5 else images.amax(dim=(1, 2, 3)),)

    monkeypatch.setattr(detector, "graph", Deciding)
    with pytest.raises(InputError, match=r"torch.export cannot write this detector's networks \(.*\); take another"):
        export(detector, tmp_path, "torch_export")
    assert _written(tmp_path) == set()
