import json
import mmap
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from kdad.compute import Compute
from kdad.detectors.baselines.parameters import BaselineSettings
from kdad.detectors.evaluation import extract_features
from kdad.detectors.mkd.detector import MkdDetector
from kdad.detectors.mkd.parameters import MkdSettings
from kdad.detectors.opening import open_detector
from kdad.errors import InputError
from kdad.experiments.case import Case, CaseResult, failed_case, histograms_of, history_of
from kdad.experiments.run import resident_rise, run_case
from kdad.experiments.steps import RunContext
from kdad.features.extraction import FeatureSet
from kdad.images.splits import Split
from kdad.scoring.parameters import MeasuringParameters
from kdad.storage.content_store import ContentStore, Stores
from kdad.storage.provenance import code_version
from memory_images import MemoryImages, split_of

_SOURCE = {"name": "timm:test_resnet", "weights": "random"}


def mkd(seed: int = 0, variant: str = "small", **scoring) -> Case:
    cloner = {"architecture": {"hidden_width": 4}, "loss": {}, "training": {"epochs": 1, "batch_size": 4}}
    maps = {"localisation": ["discrepancy"], "smoothing": {"discrepancy": {"gaussian_sigma": 1.0}}}
    settings = MkdSettings(source=_SOURCE, features={}, cloner=cloner, scoring=maps | scoring)
    return Case("size", variant, "waves", seed, "mkd", settings, {"cloner.architecture.hidden_width": 4})


def nearest(seed: int = 0, detector: str = "knn", **options) -> Case:
    method = {"detector": detector, "representation": "pixels", "options": options}
    settings = BaselineSettings(source=_SOURCE, features={}, baselines={"methods": {"nearest": method}})
    return Case("baselines", "nearest", "waves", seed, "baselines", settings, {})


class Counted:
    """How often detectors were fitted, cloners trained, and maps made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fitted = self.trained = self.mapped = 0
        self._count(monkeypatch, "kdad.detectors.mkd.detector.MkdDetector.fit", "fitted")
        self._count(monkeypatch, "kdad.detectors.baselines.detector.BaselineDetector.fit", "fitted")
        self._count(monkeypatch, "kdad.detectors.mkd.cloner.train", "trained")
        self._count(monkeypatch, "kdad.detectors.mkd.detector.MkdDetector.maps", "mapped")

    def _count(self, monkeypatch: pytest.MonkeyPatch, name: str, counter: str) -> None:
        owner, _, attribute = name.rpartition(".")
        module, _, cls = owner.rpartition(".")
        found = getattr(__import__(module, fromlist=[cls]), cls)
        original = getattr(found, attribute)

        def counting(*arguments, **named):
            setattr(self, counter, getattr(self, counter) + 1)
            return original(*arguments, **named)

        monkeypatch.setattr(name, counting)


@pytest.fixture
def counted(monkeypatch) -> Counted:
    return Counted(monkeypatch)


@pytest.fixture
def bench(tmp_path) -> RunContext:
    compute = Compute(torch.device("cpu"), torch.float32)
    return RunContext(compute, Stores.below(tmp_path / "stores"), MeasuringParameters(bootstrap_resamples=100), 0)


@pytest.fixture
def feature_set() -> FeatureSet:
    images = MemoryImages()
    return FeatureSet(images, split_of(images), {})


@pytest.fixture
def run(feature_set, bench) -> Callable[..., CaseResult]:
    """Run a case on the tiny set, or on another, with the stores of this test."""

    def start(case: Case, images: MemoryImages | None = None, **bench_settings) -> CaseResult:
        taken = feature_set if images is None else FeatureSet(images, split_of(images), {})
        return run_case(case, taken, replace(bench, **bench_settings))

    return start


def test_the_folder_holds_detector_scores_sheet_and_history(run, feature_set):
    found = run(mkd())
    folder = Path(found.folder)
    assert {path.name for path in folder.iterdir()} == {
        *("checksums.json", "made_by.json", "detector", "scores.csv", "heatmaps.png"),
        *("loss_history.csv", "histograms.npz", "result.json"),
    }
    scores = pd.read_csv(folder / "scores.csv")
    assert scores["id"].tolist() == feature_set.split.test_table["id"].tolist()
    assert scores["score"].tolist() == pytest.approx(found.scores)
    assert scores["label"].tolist() == found.labels == feature_set.split.test_table["label"].tolist()
    assert (scores["decision"] == (scores["score"] > found.threshold)).all()
    assert (folder / "heatmaps.png").read_bytes().startswith(b"\x89PNG")
    assert history_of(found).columns.tolist() == ["epoch", "split", "term", "value"]
    normal, anomalous = histograms_of(found)
    assert len(normal) == len(anomalous) == 6
    assert (normal.sum(1) + anomalous.sum(1) == 32 * 48).all()


def test_a_member_of_united_images_is_measured_alone_by_the_detector_of_all(feature_set, bench, counted):
    table = feature_set.split.table
    members = np.where(np.arange(len(table)) % 2, "odd", "even")
    united = replace(feature_set, split=Split(table.assign(member=members)))
    whole, odd = (run_case(replace(mkd(), member=member), united, bench) for member in ("", "odd"))
    assert counted.trained == 1
    test = united.split.test_table
    rows = test.index[test["member"] == "odd"].to_numpy()
    of_all = open_detector(Path(whole.folder) / "detector", "cpu").for_category("odd")
    expected = of_all.predict_batch(torch.from_numpy(feature_set.images.pixels[rows]))
    assert odd.scores == pytest.approx([one.score for one in expected], rel=1e-4)
    assert odd.labels == test.loc[rows, "label"].tolist()
    assert odd.training_images == whole.training_images == 8
    kept = open_detector(Path(odd.folder) / "detector", "cpu")
    held_out = united.split.rows("validation")
    assert len(kept.validation_scores) == (members[held_out] == "odd").sum() < len(held_out)
    assert odd.threshold == kept.threshold.value != whole.threshold


def test_the_detector_that_is_kept_says_the_same_scores(run, feature_set):
    found = run(mkd())
    detector = open_detector(Path(found.folder) / "detector", "cpu")
    images = torch.from_numpy(feature_set.images.pixels[feature_set.split.rows("test")])
    assert [one.score for one in detector.predict_batch(images)] == pytest.approx(found.scores, rel=1e-4)
    assert detector.threshold.value == found.threshold


def test_a_result_remembers_commit_and_date_and_what_it_is_of(run):
    before = datetime.now(UTC).replace(microsecond=0)
    found = run(mkd())
    assert found.commit == code_version(Path.cwd())
    assert before <= datetime.fromisoformat(found.made) <= datetime.now(UTC)
    assert (found.place, found.system, found.method) == (("size", "small", "waves", 0), "mkd", "discrepancy")
    assert (found.status, found.error, found.training_images) == ("finished", None, 8)
    assert found.overrides == {"cloner.architecture.hidden_width": 4}
    made_by = json.loads((Path(found.folder) / "detector/detector.json").read_text())["made_by"]
    assert (made_by["commit"], made_by["made"], made_by["metrics"]) == (found.commit, found.made, found.metrics)


def test_a_second_call_trains_and_maps_nothing_and_says_reused(run, counted):
    first = run(mkd())
    assert (first.reused, counted.fitted, counted.trained) == (False, 1, 1)
    mapped = counted.mapped
    again = run(mkd())
    assert again == first.model_copy(update={"reused": True})
    assert (counted.fitted, counted.trained, counted.mapped) == (1, 1, mapped)


def test_the_same_work_under_another_name_is_found_and_has_its_own_place(run, counted):
    run(mkd())
    other = run(mkd(variant="equal"))
    assert (other.reused, other.variant, counted.trained) == (True, "equal", 1)


def test_another_seed_trains(run, counted):
    first, second = run(mkd(0)), run(mkd(1))
    assert (second.reused, second.seed, counted.trained) == (False, 1, 2)
    assert first.scores != second.scores
    assert first.folder != second.folder


def test_a_deterministic_baseline_is_fitted_once_for_all_seeds(run, counted):
    results = [run(nearest(seed)) for seed in (0, 1, 2)]
    assert counted.fitted == 1
    assert [result.reused for result in results] == [False, True, True]
    assert [result.seed for result in results] == [0, 1, 2]
    assert results[0].scores == results[2].scores


def test_a_baseline_that_draws_is_fitted_for_each_seed(run, counted):
    results = [run(nearest(seed, "kmeans", n_clusters=2)) for seed in (0, 1)]
    assert counted.fitted == 2
    assert not any(result.reused for result in results)


def test_a_case_without_maps_or_history_leaves_neither(run):
    found = run(nearest())
    names = {path.name for path in Path(found.folder).iterdir()}
    assert names == {"checksums.json", "made_by.json", "detector", "scores.csv", "result.json"}
    assert (history_of(found), histograms_of(found)) == (None, None)
    assert found.metrics["pixel_auroc"] is None


def test_a_changed_mask_is_measured_again_without_training(run, counted, monkeypatch):
    first = run(mkd())
    mapped = counted.mapped
    monkeypatch.setattr(MemoryImages, "mask", lambda self, index: np.roll(self._defect(index), 5, axis=1) * (index > 8))
    again = run(mkd())
    assert (again.reused, counted.trained, counted.mapped) == (False, 1, mapped)
    assert again.metrics["pixel_auroc"] != first.metrics["pixel_auroc"]
    assert again.scores == first.scores
    assert run(mkd()).reused


@pytest.mark.parametrize("changed", ["measuring", "sheet_rows"])
def test_other_measuring_or_another_sheet_is_made_again_without_training(run, counted, changed):
    run(mkd())
    values = {"measuring": MeasuringParameters(bootstrap_resamples=100, threshold_quantile=0.5), "sheet_rows": 2}
    again = run(mkd(), **{changed: values[changed]})
    assert (again.reused, counted.trained) == (False, 1)


def test_other_images_train(run, counted):
    run(mkd())
    assert not run(mkd(), MemoryImages(seed=1)).reused
    assert counted.trained == 2


def test_other_code_makes_the_case_again(run, counted, monkeypatch):
    run(mkd())
    monkeypatch.setattr("kdad.experiments.case.code_digest", lambda *_: "other code")
    assert not run(mkd()).reused


@pytest.mark.parametrize("place", ["kdad.experiments.steps.measure", "kdad.detectors.detector.Detector.save"])
def test_failing_leaves_nothing(run, bench, monkeypatch, place):
    def fail(*_):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(place, fail)
        with pytest.raises(OSError, match="full"):
            run(mkd())
    assert not list(bench.stores.cases.rglob("result.json"))
    assert not list(bench.stores.cases.rglob("*.partial"))
    assert not run(mkd()).reused


def test_settings_that_cannot_be_used_stop_before_anything_is_trained(run, counted, bench):
    with pytest.raises(InputError, match="block7"):
        run(mkd(forward_map={"points": ["block7"]}))
    assert (counted.fitted, list(bench.stores.models.glob("*"))) == (0, [])


def test_a_split_without_held_out_images_is_refused(feature_set, bench):
    table = feature_set.split.table
    bare = replace(feature_set, split=Split(table[table["split"] != "validation"].reset_index(drop=True)))
    with pytest.raises(InputError, match="no validation image"):
        run_case(mkd(), bare, bench)


def test_only_outputs_of_another_network_are_computed(feature_set, bench, monkeypatch):
    asked = []

    def obtain(store, network, *_):
        asked.append(network.reference.name)
        return f"features of {network.reference.critical_points}"

    settings = mkd().settings
    references = MkdDetector.frozen_networks(settings, feature_set, bench.train_context(0))
    store = ContentStore(bench.stores.features)
    shared = extract_features(MkdDetector, settings, feature_set, references, bench.compute, store)
    monkeypatch.setattr("kdad.detectors.evaluation.obtain_features", obtain)
    again = extract_features(MkdDetector, settings, shared, references, bench.compute, store)
    assert again.features["source"] is shared.features["source"]
    assert asked == []
    fewer = references["source"].model_copy(update={"critical_points": references["source"].critical_points[:2]})
    other = extract_features(MkdDetector, settings, shared, {"source": fewer}, bench.compute, store)
    assert other.features == {"source": f"features of {fewer.critical_points}"}


def test_a_failed_case_says_what_it_died_of():
    case = mkd(seed=2)
    found = failed_case(case, "OSError: the disk is full")
    assert (found.status, found.error, found.place) == (
        "failed",
        "OSError: the disk is full",
        tuple(case.head.values()),
    )
    assert found.overrides == case.overrides


def test_a_case_has_a_name():
    assert mkd(seed=3).name == "size.small.waves_seed_3"


def test_a_large_array_is_seen():
    with resident_rise() as peak:
        held = mmap.mmap(-1, 64_000_000)  # pages of its own, and not what earlier tests have freed
        np.frombuffer(held, dtype=np.uint8)[:] = 1
        time.sleep(0.2)  # many looks: what is freed before the first would be missed
    assert peak[0] == pytest.approx(64e6, rel=0.25)


def test_the_watcher_ends_when_the_block_fails():
    with pytest.raises(ValueError, match="inside"), resident_rise():
        raise ValueError("inside")
    assert "resident memory" not in [thread.name for thread in threading.enumerate()]
