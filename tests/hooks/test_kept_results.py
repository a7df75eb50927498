"""What the console says of what a run replaced."""

import json
from types import SimpleNamespace

import pytest

from kdad.hooks.kept_results import KeptResultsHook


@pytest.fixture
def made(tmp_path):
    """Write a system's detector and report."""

    def write(day: str, auroc: float) -> None:
        record = {"made": f"2026-11-{day}T10:00:00+00:00", "test_images": "t", "metrics": {"image_auroc": auroc}}
        for place in ("models/mkd/detector", "reports/mkd"):
            (tmp_path / place).mkdir(parents=True, exist_ok=True)
        facts = tmp_path / "models/mkd/detector/detector.json"
        facts.unlink(missing_ok=True)
        facts.write_text(json.dumps({"system": "mkd", "made_by": record}))
        (tmp_path / "reports/mkd/metrics.json").write_text(day)

    return write


def test_the_console_says_which_is_which(made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    places = {"mkd.detector": "models/mkd/detector", "mkd.metrics": "reports/mkd/metrics.json"}
    catalog = SimpleNamespace(get=lambda name: SimpleNamespace(_filepath=str(tmp_path / places[name])))
    pipeline, hook = SimpleNamespace(all_outputs=lambda: set(places)), KeptResultsHook()

    def run(day: str, auroc: float) -> list[str]:
        hook.before_pipeline_run(pipeline, catalog)
        made(day, auroc)
        hook.after_pipeline_run(pipeline, catalog)
        return capsys.readouterr().out.splitlines()

    latest = "Latest: image AUROC {}, in models/mkd/detector"
    assert run("01", 1.0) == []
    better = "Better on the same test images: image AUROC 1.0000, kept from before in "
    better += "models/runs/2026-11-01_10-00-00_mkd"
    assert run("02", 0.876) == [latest.format("0.8760"), better]
    replaced = "Replaced: image AUROC 0.8760, kept in models/runs/2026-11-02_10-00-00_mkd"
    assert run("03", 0.95) == [latest.format("0.9500"), replaced, better]
    assert run("04", 0.95) == [latest.format("0.9500"), better]  # the same again

    hook.before_pipeline_run(pipeline, catalog)
    hook.on_pipeline_error()
    assert sorted(path.name[:10] for path in (tmp_path / "models/runs").iterdir()) == ["2026-11-01", "2026-11-02"]
