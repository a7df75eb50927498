"""A journal keeps what was appended, whenever its process ends."""

import json

import numpy as np
import pytest

from kdad.detectors.predictor import FilePrediction, Prediction
from kdad.errors import InputError
from kdad.inference.parameters import InferenceParameters
from kdad.inference.predictions import Groups
from kdad.inference.watching import Journal, Watch, WatchReport
from kdad.scoring.drift import NormalReference
from kdad.scoring.threshold import quantile_threshold

HEADING = {"format": 1, "detector": "a"}
ENTRIES = [{"row": {"path": "x\ny.png", "score": 0.1}}, {"row": {"path": "\udcff ü.png", "score": None}}]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "new/journal.jsonl"
    journal = Journal(path, HEADING)
    for entry in ENTRIES:
        journal.append(entry)
    journal.close()
    return path


def test_entries_are_there_again(path):
    assert Journal(path, HEADING).earlier == ENTRIES
    assert len(path.read_bytes().splitlines()) == 3


def test_cut_at_any_byte_the_whole_lines_are_kept_and_it_goes_on(path):
    content = path.read_bytes()
    ends = [place for place, byte in enumerate(content) if byte == ord("\n")]
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        journal = Journal(path, HEADING)
        whole = sum(end < length for end in ends)
        assert journal.earlier == ENTRIES[: max(whole - 1, 0)]
        journal.append({"row": "new"})
        journal.close()
        assert Journal(path, HEADING).earlier == [*ENTRIES[: max(whole - 1, 0)], {"row": "new"}]


def test_an_entry_is_on_the_disk_when_append_returns(path, monkeypatch):
    synced = []
    monkeypatch.setattr("kdad.inference.watching.os.fsync", lambda file: synced.append(path.read_bytes()))
    Journal(path, HEADING).append({"row": "new"})
    assert json.loads(synced[-1].splitlines()[-1]) == {"row": "new"}


def test_a_journal_of_another_detector_is_refused(path):
    with pytest.raises(InputError, match="predicted with detector a, and this watch has detector b"):
        Journal(path, HEADING | {"detector": "b"})
    assert Journal(path, HEADING).earlier == ENTRIES


@pytest.mark.parametrize("line", [b"no json\n", b"[1]\n"])
def test_what_is_no_journal_is_refused_and_left_alone(path, line):
    content = path.read_bytes() + line + path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not as it was written"):
        Journal(path, HEADING)
    assert path.read_bytes() == content


class _Scores:
    """Says of a file what its content is: a score, or none."""

    colour_limits = (0.0, 1.0)

    def predict_files(self, paths, batch_size):
        for path in paths:
            said = path.read_text()
            score = float(said) if said else None
            predicted = None if score is None else Prediction(score, 0.5, score > 0.5, 0.5, None)
            image = None if score is None else np.zeros((3, 8, 8), np.float32)
            yield FilePrediction(path, image, predicted, 1.0, None if said else f"{path}: is empty")


def test_a_group_is_decided_on_by_the_images_that_have_come(tmp_path):
    threshold = quantile_threshold(np.array([0.5, 0.3, 0.1]), 0.9, np.array(list("aab")), "mean")
    assert (threshold.value, threshold.group_value) == (0.5, 0.4)
    fast = {"polling": True, "poll_seconds": 0.01, "settle_seconds": 0, "patience_seconds": 0, "idle_seconds": 0.1}
    block = InferenceParameters(images="camera", groups="^(.)_", watch=True, watching=fast)

    def watch(**files):
        for name, content in files.items():
            (tmp_path / f"camera/{name}.png").write_text(content)
        report = WatchReport([], NormalReference(threshold, np.array([0.1, 0.3, 0.5])), block)
        heading = {"groups": block.groups}
        groups = Groups(block.groups, [threshold])
        watched = Watch(tmp_path / "out", tmp_path / "camera", _Scores(), heading, report, block, groups=groups)
        return watched.run(lambda: False).table, report

    (tmp_path / "camera").mkdir()
    watch(p_1="0.2", q_1="0.9", r_1="0.9", r_2="")
    table, report = watch(p_2="0.8")  # a second watch goes on
    table = table.set_index("path")
    assert table["group"].tolist() == ["p", "q", "r", "r", "p"]
    scores = [0.2, 0.9, 0.9, np.nan, 0.5]
    assert table["group_score"].tolist() == pytest.approx(scores, nan_ok=True)
    assert table["group_decision"].dropna().tolist() == [0, 1, 1, 1]
    assert report.found == (
        "4 predicted, 3 anomalous, 1 unreadable; 2 of 3 groups anomalous (p, q), 1 not decided on, as a file could not "
        "be read or only some are in tiles"
    )
    assert report.metrics() | {"groups": 3, "anomalous_groups": 2} == report.metrics()
    table, _ = watch(p_2="0.4")  # written again: the later one counts
    assert table["group_score"].iloc[-1] == pytest.approx(0.3)
    with pytest.raises(InputError, match=r"predicted with groups \^\(\.\)_, and this watch has groups folder"):
        Journal(tmp_path / "out/journal.jsonl", {"groups": "folder"})
