"""Typed objects in files: they come back as they were, and what is not there yet is None."""

import numpy as np
import pytest

from kdad.datasets.typed_json import CaseResultDataset, CaseResultsDataset, ThresholdDataset
from kdad.experiments.result import CaseResult
from kdad.scoring.threshold import quantile_threshold

RESULT = CaseResult(
    axis="form",
    variant="a",
    category="brick",
    seed=0,
    system="mkd",
    status="finished",
    metrics={"image_auroc": 0.5, "pro_auc": None},
    scores=[0.1, 1 / 3],
    labels=[0, 1],
)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (ThresholdDataset, quantile_threshold(np.arange(9.0) / 7, 0.9)),
        (CaseResultDataset, RESULT),
        (CaseResultsDataset, [RESULT, RESULT.model_copy(update={"seed": 1})]),
        (CaseResultsDataset, []),
    ],
)
def test_what_is_saved_is_loaded_again(tmp_path, kind, value):
    dataset = kind(filepath=str(tmp_path / "new/file.json"))
    assert not dataset.exists()
    dataset.save(value)
    assert dataset.exists()
    assert dataset.load() == value
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file.json"]


@pytest.mark.parametrize("kind", [CaseResultDataset, CaseResultsDataset])
def test_results_that_were_not_run_are_none(tmp_path, kind):
    assert kind(filepath=str(tmp_path / "file.json")).load() is None


@pytest.mark.parametrize("content", ["{", "{}", '{"status": "finished"}', "[]"])
def test_a_result_that_another_version_wrote_counts_as_not_run(tmp_path, content):
    (tmp_path / "file.json").write_text(content)
    assert CaseResultDataset(filepath=str(tmp_path / "file.json")).load() is None
    (tmp_path / "files.json").write_text(f"[{content}]")
    assert CaseResultsDataset(filepath=str(tmp_path / "files.json")).load() is None


def test_an_interruption_leaves_the_older_result(tmp_path, monkeypatch):
    dataset = CaseResultDataset(filepath=str(tmp_path / "file.json"))
    dataset.save(RESULT)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("kdad.storage.replacing.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        dataset.save(RESULT.model_copy(update={"seed": 7}))
    assert dataset.load() == RESULT
