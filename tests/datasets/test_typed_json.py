"""Typed objects in files come back as they were."""

import numpy as np
import pytest

from kdad.datasets.typed_json import CaseResultsDataset, ThresholdDataset
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


def test_an_interruption_leaves_the_older_result(tmp_path, monkeypatch):
    dataset = CaseResultsDataset(filepath=str(tmp_path / "file.json"))
    dataset.save([RESULT])

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("kdad.storage.replacing.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        dataset.save([RESULT.model_copy(update={"seed": 7})])
    assert dataset.load() == [RESULT]
