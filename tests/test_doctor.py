"""What a run finds is said, and what would stop it is the exit code."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from click.testing import CliRunner

from kdad import doctor
from projects import PROJECT


@pytest.fixture
def conf(tmp_path, monkeypatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Path(shutil.copytree(PROJECT / "conf", tmp_path / "conf"))


def stops(conf: Path, env: str | None = "test") -> dict[str, str]:
    return {found.what: found.note for found in doctor.findings(conf, env) if found.stops}


def test_nothing_stops_a_run_here_and_a_table_says_what_there_is(conf):
    assert stops(conf) == {}
    ended = CliRunner().invoke(doctor.main, ["--env=test", f"--conf-source={conf}"], env={"COLUMNS": "200"})
    assert ended.exit_code == 0
    for said in ("Python 3.", "usable", "bfloat16", "threads", "GB free", "reachable", "of efficientnet_lite0: found"):
        assert said in ended.output, said


def test_what_would_stop_a_run_is_said_with_its_remedy(conf, monkeypatch):
    Usage = namedtuple("Usage", "free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: Usage(10**9))
    monkeypatch.setattr(doctor, "requires", lambda _: ["torch<1", "no-such-package", "absent; extra == 'docs'"])
    (conf / "test/mlflow.yml").write_text("server: {mlflow_tracking_uri: http://127.0.0.1:1}\n")
    (conf / "test/parameters.yml").write_text(
        "source: {weights: nowhere.safetensors}\ncompute: {device: mps}\ntracking: {when_unreachable: stop}\n"
    )
    found = stops(conf)
    assert set(found) == {"disk", "versions", "MLflow", "weights", "compute"}
    assert "wanted <1; no-such-package is missing" in found["versions"]
    assert "there is no file 'nowhere.safetensors'" in found["weights"]
    ended = CliRunner().invoke(doctor.main, ["--env=test", f"--conf-source={conf}"])
    assert ended.exit_code == 1


def test_a_mistake_in_the_configuration_is_a_line(conf):
    (conf / "test/parameters.yml").write_text("sede: 1\n")
    assert "did you mean 'seed'" in stops(conf)["configuration"]
    assert "there is no environment 'tset'" in stops(conf, "tset")["configuration"]
    for text, said in (
        ("compute: {device: cdua}", "compute.device: Input should be"),
        ("compute: cpu", "compute:"),
        ("source: {wieghts: random}", "did you mean 'weights'"),
    ):
        (conf / "test/parameters.yml").write_text(text)
        assert said in stops(conf)["configuration"], text
    assert "give --conf-source" in stops(conf / "nowhere")["configuration"]


def test_a_source_that_there_is_not_is_a_line_though_its_weights_would_be_fetched(conf):
    for name, said in (("resnet81", "did you mean 'resnet18'"), ("timm:resnet_18", "timm"), ("resnet18", None)):
        (conf / "test/parameters.yml").write_text(f"source: {{name: '{name}'}}")
        found = stops(conf)
        assert found == {} if said is None else said in found["weights"], name
