"""What a run replaces is kept once, compared on the same images, and never taken for the latest."""

import json
from pathlib import Path

import pytest

from kdad.errors import InputError
from kdad.project.kept_results import better_than, drop_if_remade, drop_if_untouched, keep_results, newest_record
from kdad.project.places import find_latest


@pytest.fixture
def place(tmp_path) -> tuple[Path, Path]:
    """Where a detector lies, and its reports."""
    return tmp_path / "data/06_models/textures/brick/mkd/detector", tmp_path / "data/08_reporting/textures/brick/mkd"


def _write(place, made: str, auroc: float | None, *, epochs: int = 50, test_images: str = "t", commit: str = "a"):
    """Replace the detector, whose folder is new, and its reports, whose files are written over."""
    detector, reports = place
    made_by = {"made": f"2026-11-{made}T10:00:00+00:00", "seed": 0, "images": "i", "test_images": test_images}
    made_by |= {"metrics": {"image_auroc": auroc, "peak_memory_gb": int(made)}, "commit": commit}
    facts = {"system": "mkd", "settings": {"epochs": epochs}, "made_by": made_by, "sha256": made}
    detector.mkdir(parents=True, exist_ok=True)
    for name, content in {"detector.json": json.dumps(facts), "learnt.safetensors": f"learnt in {made}"}.items():
        (detector / name).unlink(missing_ok=True)
        (detector / name).write_text(content)
    reports.mkdir(parents=True, exist_ok=True)
    (reports / "metrics.json").write_text(f"figures of {made}")


def test_what_is_replaced_is_kept_whole_and_the_better_one_is_said(place):
    detector, reports = place
    assert keep_results(detector, reports) is None  # nothing is there yet
    _write(place, "01", 1.0)
    kept = keep_results(detector, reports)
    assert keep_results(detector, reports) == kept  # as after a run that was killed
    _write(place, "02", 0.876, epochs=2)
    assert not drop_if_remade(kept, detector)
    assert kept.name == "2026-11-01_10-00-00_mkd"
    assert (kept / "detector/learnt.safetensors").read_text() == "learnt in 01"
    assert (kept / "reports/metrics.json").read_text() == "figures of 01"
    assert better_than(detector).detector == kept / "detector"
    keep_results(detector, reports)
    _write(place, "03", 0.9)
    assert better_than(detector).image_auroc == 1.0  # the best of two
    _write(place, "04", 1.0)
    assert better_than(detector) is None  # as good


def test_other_test_images_and_unknown_figures_are_not_compared(place):
    _write(place, "01", 1.0)
    keep_results(*place)
    _write(place, "02", 0.5, test_images="others")
    assert better_than(place[0]) is None
    _write(place, "03", None)
    assert better_than(place[0]) is None
    _write(place, "04", 0.5)
    assert better_than(place[0]) is not None


def test_the_same_detector_made_again_and_one_that_a_failed_run_left_are_not_kept(place):
    _write(place, "01", 1.0)
    kept = keep_results(*place)
    _write(place, "02", 1.0, commit="b")
    assert drop_if_remade(kept, place[0])
    assert not kept.parent.exists()
    kept = keep_results(*place)
    drop_if_untouched(kept, *place)
    assert not kept.exists()
    kept = keep_results(*place)
    (place[1] / "metrics.json").write_text("half a run")
    drop_if_untouched(kept, *place)
    assert (kept / "reports/metrics.json").read_text() == "figures of 02"


def test_the_newest_of_the_same_images_and_split_is_found_the_latest_or_a_kept_one(place):
    models, origin = place[0].parent.parent, {"images": "i", "test_images": "t", "seed": 0}
    origin |= {"training_images": None, "validation_images": None}
    assert newest_record(models, "mkd", origin) is None
    _write(place, "01", 1.0)
    keep_results(*place)
    _write(place, "02", 0.9)
    keep_results(*place)
    _write(place, "03", 0.8)
    assert newest_record(models, "mkd", origin)["metrics"]["image_auroc"] == 0.8
    _write(place, "04", 0.7, test_images="others")
    assert newest_record(models, "mkd", origin)["metrics"]["image_auroc"] == 0.9
    assert newest_record(models, "uninformed_students", origin) is None
    for name, other in (("images", "j"), ("seed", 1), ("training_images", 3), ("validation_images", 3)):
        assert newest_record(models, "mkd", origin | {name: other}) is None


def test_a_kept_result_is_not_the_latest(place, tmp_path):
    _write(place, "01", 1.0)
    keep_results(*place)
    _write(place, "02", 0.5)
    assert find_latest(tmp_path / "data")[0] == place[0]
    for path in place[0].iterdir():
        path.unlink()
    with pytest.raises(InputError, match="there is no detector in 'data/06_models' yet"):
        find_latest(tmp_path / "data")
