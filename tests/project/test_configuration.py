from pathlib import Path

import pytest
import yaml
from kedro.framework.cli.utils import KedroCliError
from kedro.io import AbstractDataset, DatasetError

from kdad.detectors.registry import SYSTEMS
from kdad.networks.source import build_source
from kdad.parameters.written_names import unescape_placeholders
from kdad.project import LOADER_ARGS
from kdad.project.command_line import CommandLineError
from kdad.project.configuration import RunConfigLoader, block_model, check_types, check_values, wrong_entry
from kdad.project.places import reserve

CONF = Path(__file__).resolve().parents[2] / "conf"
ENVIRONMENTS = sorted(
    folder.name for folder in CONF.iterdir() if folder.is_dir() and folder.name not in ("base", "local", "schema")
)
# What an environment asks the user for.
NEEDED = {
    "folder": {"dataset": {"root": "photos"}},
    "mvtec": {"dataset": {"root": "photos"}},
    "paper": {"dataset": {"root": "photos"}},
}


def loader(env: str = "test", **runtime_params) -> RunConfigLoader:
    return RunConfigLoader(str(CONF), env=env, runtime_params=runtime_params, **LOADER_ARGS)


@pytest.fixture(scope="module")
def published() -> dict:
    """The parameters of the environment `paper`."""
    return loader("paper", **NEEDED["paper"])["parameters"]


@pytest.fixture(scope="module")
def catalog() -> dict:
    """The catalog of the environment `test`."""
    return loader()["catalog"]


@pytest.mark.sample(3)
@pytest.mark.parametrize("env", [*ENVIRONMENTS, "local"])
def test_every_environment_gives_a_catalog_and_mlflow_settings(env):
    config = loader(env, **NEEDED.get(env, {}))
    outputs = "data/test" if env == "test" else "data"  # a trial run replaces nothing
    assert config["catalog"]["{system}.metrics"]["filepath"].startswith(f"{outputs}/08_reporting/")
    uri = config["mlflow"]["server"]["mlflow_tracking_uri"]
    assert uri.startswith("http://127.0.0.1:" if env == "server" else "sqlite:////")
    assert config["mlflow"]["tracking"]["experiment"]["name"] == "kdad"


def test_a_server_is_named_by_the_environment_server_or_beside_any_other_by_a_variable(monkeypatch):
    def tracking(env) -> str:
        return loader(env)["catalog"]["inference.detector"]["tracking"]

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking("server") == "http://127.0.0.1:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
    assert tracking("server") == tracking("digits") == "http://tracking.example:5000"


def test_the_published_settings_of_uninformed_students(published):
    found = SYSTEMS["uninformed_students"].Settings
    found = found.model_validate({name: published[name] for name in found.model_fields})
    teacher, students = found.teacher, found.students
    assert teacher.training.epochs * teacher.patches_per_epoch // teacher.training.batch_size == 50_000
    assert teacher.distillation == "patches"
    assert (teacher.width, teacher.depth, teacher.source.name) == (1.0, 128, "resnet18")
    assert teacher.source.critical_points is None  # the last: the default's block of another network does not remain
    assert (students.receptive_fields, students.count, students.output_stride) == ([17, 33, 65], 3, 1)
    assert students.training.epochs == 100


def test_the_published_settings_of_reverse_distillation(published):
    found = (
        SYSTEMS["reverse_distillation"]
        .Settings.model_validate({"reverse_distillation": published["reverse_distillation"]})
        .reverse_distillation
    )
    training = found.training
    assert (training.optimiser, training.learning_rate, training.momentum) == ("adam", 0.005, 0.5)  # betas 0.5, 0.999
    assert (training.schedule, training.epochs, training.batch_size, training.weight_decay) == ("constant", 200, 16, 0)
    assert (found.loss, found.fusion, found.score, found.points) == ("whole_map", "sum", "map_maximum", "first 3")
    assert found.smoothing.gaussian_sigma == 4.0
    assert build_source(found.source.name).critical_points[:3] == ("stage1", "stage2", "stage3")  # layer1 to layer3


def test_the_published_settings_of_efficient_ad(published):
    settings = SYSTEMS["efficient_ad"].Settings.model_validate({"efficient_ad": published["efficient_ad"]})
    found, teacher = settings.efficient_ad, settings.efficient_ad.teacher
    dense = teacher.dense
    assert (teacher.distillation, teacher.depth, teacher.width) == ("dense", 384, 1.0)
    assert (teacher.knowledge_weight, teacher.metric_weight, teacher.compactness_weight) == (1.0, 0.0, 0.0)
    assert build_source(teacher.source.name).select(teacher.source.critical_points)  # layer2 and layer3
    assert dense.crop_size * dense.enlargement == 512
    assert dense.training.epochs * dense.crops_per_epoch // dense.training.batch_size == 60_000
    assert (found.hard_quantile, found.penalty_weight, found.autoencoder) == (0.999, 1.0, True)
    for training in (dense.training, found.training):
        assert (training.optimiser, training.learning_rate, training.weight_decay) == ("adam", 0.0001, 0.00001)
    assert (found.training.epochs * 242, found.training.batch_size, found.score) == (70_180, 1, "map_maximum")


def test_an_environment_holds_only_what_differs_from_base():
    base = loader("local")["parameters"]

    def same(value, path) -> list[str]:
        at = base
        for key in path:
            at = at.get(key) if isinstance(at, dict) else None
        if isinstance(value, dict):
            return [line for key, inner in value.items() for line in same(inner, (*path, key))]
        return [".".join(path)] if at == value else []

    repeated = {
        env: same(yaml.safe_load((CONF / env / "parameters.yml").read_text()), ())
        for env in ENVIRONMENTS
        if env not in ("paper", "server")  # the published settings in full; no parameters at all
    }
    assert not {env: lines for env, lines in repeated.items() if lines}


def test_outputs_of_roots_of_one_name_lie_apart(tmp_path):
    def filepath(root) -> str:
        config = loader("folder", dataset={"root": str(tmp_path / root)})
        config.project = tmp_path
        found = config["catalog"]
        folder = Path(found["split_table"]["filepath"]).parents[1]
        assert found["paper_tables.split_table"]["filepath"] == f"{folder}/paper_tables/split.csv"
        for claim in config.claims:
            reserve(tmp_path / "data", claim)
        return found["{system}.metrics"]["filepath"]

    first, second = filepath("screw/images"), filepath("nut/images")
    assert first == "data/08_reporting/folder/images/{system}/metrics.json"
    assert second.startswith("data/08_reporting/folder-")
    assert [filepath("screw/images"), filepath("nut/images")] == [first, second]


def test_outputs_of_data_sets_and_categories_lie_apart():
    places = {
        loader(env, dataset=dataset)["catalog"]["{system}.metrics"]["filepath"]
        for env, dataset in [
            ("local", {"category": "brick"}),
            ("digits", {"normal_class": 1}),
            ("folder", {"root": "a/photos"}),
            ("folder", {"root": "a", "category": "tiles"}),
        ]
    }
    assert len(places) == 4
    assert "data/08_reporting/digits/class_1/{system}/metrics.json" in places


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"datset": {}}, "did you mean 'dataset'"),
        ({"clone": {"training": {}}}, "did you mean 'cloner'"),
        ({"mkd_ablatoin": {}}, "did you mean 'mkd_ablation'"),
        ({"dataset": {"category": "bricks"}}, "did you mean 'brick'"),
        ({"dataset": {"imagesize": 64}}, "did you mean 'image_size'"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0 (given: -1)"),
    ],
)
def test_a_mistake_that_concerns_every_pipeline_ends_the_run_with_one_message(given, said):
    with pytest.raises(KedroCliError, match="parameters cannot be used") as caught:
        loader(**given)["parameters"]
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cloner": {"trainin": {}}}, "did you mean 'training'"),
        ({"cloner": {"training": {"epochs": 0}}}, "cloner.training.epochs"),
        ({"measuring": {"threshold_quantile": 1.5}}, "measuring.threshold_quantile"),
    ],
)
def test_a_mistake_in_a_block_is_one_message(given, said):
    parameters = loader(**given)["parameters"]
    with pytest.raises(KedroCliError, match="parameters cannot be used") as caught:
        check_values({name: block_model(name) for name in given}, parameters)
    assert said in str(caught.value)


def test_every_catalog_entry_has_a_layer_but_those_which_are_places(catalog):
    layers = {name: (entry.get("metadata") or {}).get("kedro-viz", {}).get("layer") for name, entry in catalog.items()}
    assert {name for name, layer in layers.items() if not layer} == {"stores", "{system}.addresses"}


def test_two_variants_of_one_name_are_an_error(project):
    path = project / "conf/base/parameters/ablation.yml"
    text = path.read_text()
    path.write_text(text.replace("        last_2:\n", "        last_1:\n", 1))
    with pytest.raises(KedroCliError, match=r"ablation\.yml: 'last_1' is there twice, in lines"):
        RunConfigLoader(str(project / "conf"), env="test", **LOADER_ARGS)["parameters"]


def test_parameters_changed_by_who_asked_for_them_are_not_the_sessions():
    one = loader()
    one["parameters"]["dataset"]["image_size"] = 8
    assert one["parameters"]["dataset"]["image_size"] != 8


def test_a_dollar_and_a_brace_in_a_name_stand_for_themselves():
    found = loader("folder", dataset={"root": "/data/a${b}", "category": "c${d"})
    assert found["parameters"]["dataset"]["root"] == "/data/a${b}"
    catalog = found["catalog"]
    assert unescape_placeholders(catalog["image_set"])["dataset"]["category"] == "c${d"
    assert catalog["split_table"]["filepath"] == r"data/03_primary/folder/c$\x7bd/split.csv"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("server: {mlflow_tracking_url: sqlite:///a.db}", "did you mean 'mlflow_tracking_uri'?"),
        ("trakking: {}", "mlflow.yml: unknown parameter 'trakking'; did you mean 'tracking'?"),
        ("tracking: {experiment: {nam: mine}}", "did you mean 'name'?"),
        ("ui: {port: []}", "ui.port"),
    ],
)
def test_a_mistake_in_mlflow_yml_is_one_message(project, text, said):
    (project / "conf/test/mlflow.yml").write_text(text)
    with pytest.raises(KedroCliError, match=r"mlflow\.yml cannot be used") as caught:
        RunConfigLoader(str(project / "conf"), env="test", **LOADER_ARGS)["mlflow"]
    assert said in str(caught.value)


def test_a_key_that_is_there_twice_is_named_with_its_file_and_lines(project):
    path = project / "conf/test/parameters.yml"
    path.write_text("seed: 1\ncloner:\n  training: {epochs: 2}\n\nseed: 2\n")
    with pytest.raises(KedroCliError) as caught:
        RunConfigLoader(str(project / "conf"), env="test", **LOADER_ARGS)["parameters"]
    assert str(caught.value).splitlines()[1:] == [f"  {path}: 'seed' is there twice, in lines 1 and 5; keep one"]
    path.write_text("cloner: {training: {epochs: 2, epochs: 3}}\n")
    with pytest.raises(KedroCliError) as caught:
        RunConfigLoader(str(project / "conf"), env="test", **LOADER_ARGS)["parameters"]
    assert str(caught.value).splitlines()[1:] == [f"  {path}: 'epochs' is there twice, in lines 1 and 1; keep one"]


def test_a_category_named_by_a_number_stays_a_name(catalog):
    for name in ("split_table", "{system}.scores"):
        assert catalog[name]["load_args"]["dtype"]["member"] == "str"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("pandas.CSVDatset", "did you mean 'pandas.CSVDataset'?"),
        ("pandsa.CSVDataset", "did you mean 'pandas.CSVDataset'?"),
        ("MemoryDatset", "did you mean 'MemoryDataset'?"),
        ("kdad.datasets.shown.HtmlPageDatset", "did you mean 'kdad.datasets.shown.HtmlPageDataset'?"),
    ],
)
def test_a_type_that_there_is_not_is_named_with_its_file_and_the_nearest(tmp_path, wrong, said):
    (tmp_path / "catalog.yml").write_text(f"table:\n  type: {wrong}\n")
    (tmp_path / "other.yml").write_text("type: pandas.CSVDataset\n")
    with pytest.raises(CommandLineError) as caught:
        check_types({"table": {"type": wrong}}, [tmp_path])
    assert str(caught.value).splitlines()[1:] == [f"  {tmp_path / 'catalog.yml'}: there is no type '{wrong}'; {said}"]


def test_types_that_there_are():
    known = ("pandas.CSVDataset", "kedro_datasets.json.JSONDataset", "MemoryDataset", "kedro.io.CachedDataset")
    check_types({name: {"type": name} for name in (*known, "kdad.datasets.place.StoresDataset")}, [])


def test_a_type_of_an_integrators_own_need_not_be_called_data_set(tmp_path, monkeypatch):
    (tmp_path / "their_own.py").write_text("class Camera(AbstractDataset): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    check_types({"camera": {"type": "their_own.Camera"}}, [])
    with pytest.raises(CommandLineError, match=r"there is no type 'their_own\.Camra'"):
        check_types({"camera": {"type": "their_own.Camra"}}, [])


def test_entries_without_a_type_are_named():
    with pytest.raises(CommandLineError) as caught:
        check_types({"a": 3, "b": {"filepath": "x"}, "c": {"type": ["MemoryDataset"]}, "_shared": {"x": 1}}, [])
    said = [f"  catalog: '{name}' has no type; give one, such as pandas.CSVDataset" for name in "abc"]
    assert str(caught.value).splitlines()[1:] == said


def test_a_key_that_a_type_does_not_take_is_named_with_the_nearest():
    with pytest.raises(DatasetError) as caught:
        AbstractDataset.from_config("table", {"type": "kdad.datasets.shown.HtmlPageDataset", "filpath": "a"})
    said = str(wrong_entry(caught.value))
    assert said == "catalog: 'table' has an unknown key 'filpath'; did you mean 'filepath'?"
    assert wrong_entry(DatasetError("something else")) is None
