"""Every normal image is scored by a detector that has not seen it, as by hand."""

import numpy as np
import pandas as pd
import pytest

from kdad.content_store import ContentStore, content_key
from kdad.detectors.cross_fitting import fold_splits, judge_by_folds, parts_wanted
from kdad.detectors.detector import Detector
from kdad.detectors.registry import SYSTEMS
from kdad.detectors.workshop import Fitting, Raw
from kdad.errors import InputError
from kdad.features.seen import SeenImages
from kdad.images.splits import Split
from kdad.parameters.scoring import MeasuringParameters
from kdad.parameters.system import SystemSettings
from kdad.scoring.image_score import ImageScore


class BrightnessDetector(Detector):
    """Learns the mean brightness of its training images; the score is how far an image's is from it."""

    system, Settings, methods, image_score = "brightness", SystemSettings, (), ImageScore("distance", "raw")

    @classmethod
    def refer(cls, settings, seen, workshop):
        """Look through nothing."""
        return {}

    def fit(self, seen, workshop):
        """Take the mean."""
        self.size, rows = seen.images.size, seen.split.rows("train")
        self.mean = float(seen.batch(rows).mean())
        self.key = content_key(mean=self.mean)
        return Fitting(None, 0.0, False)

    def maps(self, images, outputs=None, methods=None):
        """Return the distance alone."""
        return Raw({"distance": (images.mean((1, 2, 3)) - self.mean).abs().numpy()}, {})

    def raw_key(self, methods, seen):
        """Name what is said after mean and images."""
        return content_key(learnt=self.key, scored=seen.split.digest)

    learnt_state = learnt_facts = restore = None


def split_into(train: int, held_out: int, test: int = 2) -> Split:
    """Return a split of so many images."""
    parts = ["train"] * train + ["validation"] * held_out + ["test"] * test
    ids = [f"image{number}" for number in range(len(parts))]
    return Split(pd.DataFrame({"id": ids, "label": 0, "kind": "good", "split": parts, "fingerprint": ids}))


@pytest.mark.parametrize(
    ("given", "train", "held_out", "parts"),
    [
        ("auto", 22, 2, 5),
        ("auto", 81, 9, 5),
        ("auto", 90, 10, 0),  # from ten on
        ("auto", 2, 1, 3),  # no more parts than images
        ("off", 22, 2, 0),
        (False, 22, 2, 0),  # as YAML reads `off`
        (4, 120, 30, 4),
        (3, 2, 1, 3),
    ],
)
def test_how_many_parts(given, train, held_out, parts):
    assert parts_wanted(split_into(train, held_out), MeasuringParameters(cross_fit=given)) == parts


def test_a_quantile_that_few_images_reach_is_not_cross_fitted_for():
    # 3 scores promise 1 / 4.
    measuring = MeasuringParameters(threshold_quantile=0.75)
    assert [parts_wanted(split_into(20, count), measuring) for count in (2, 3)] == [5, 0]


def test_more_parts_than_images_are_refused():
    with pytest.raises(InputError, match=r"measuring\.cross_fit is 5, but 3 training images .* lower it to 4 at most"):
        parts_wanted(split_into(3, 1), MeasuringParameters(cross_fit=5))


@pytest.mark.parametrize("value", [1, 0, True, "on", 2.5])
def test_what_is_no_number_of_parts(value):
    with pytest.raises(ValueError, match="cross_fit"):
        MeasuringParameters(cross_fit=value)


def test_folds_hold_out_each_training_image_once_and_train_on_all_other_normal_ones():
    split = split_into(10, 3)
    folds = fold_splits(split, 5, seed=0)
    held_out = [set(fold.rows("validation")) for fold in folds]
    assert sorted(map(len, held_out)) == [2, 2, 3, 3]
    assert sorted(row for rows in held_out for row in rows) == list(range(10))
    for fold, rows in zip(folds, held_out, strict=True):
        assert set(fold.rows("train")) == set(range(13)) - rows
        assert not fold.is_part("test").any()
    assert [fold.digest for fold in folds] == [fold.digest for fold in fold_splits(split, 5, seed=0)]
    assert [fold.digest for fold in folds] != [fold.digest for fold in fold_splits(split, 5, seed=1)]


def test_folds_follow_ids_whatever_the_order():
    split = split_into(10, 3)
    turned = Split(split.table.iloc[::-1].reset_index(drop=True))
    found = [
        [set(fold.table["id"].iloc[fold.rows("validation")]) for fold in fold_splits(one, 4, 0)]
        for one in (split, turned)
    ]
    assert found[0] == found[1]


def test_scores_are_those_of_detectors_that_have_not_seen_the_image(images, split, workshop, tmp_path):
    seen = SeenImages(images, split, {})
    cases = ContentStore(tmp_path / "cases")
    found = judge_by_folds(BrightnessDetector, SystemSettings(), seen, {}, workshop, cases, 4)
    table = split.table
    normal = table["split"].isin(["train", "validation"]).to_numpy()
    assert sorted(found["id"]) == sorted(table["id"][split.rows("train")])
    assert sorted(found["fold"].unique()) == [1, 2, 3]
    means = images.pixels.mean(axis=(1, 2, 3), dtype=np.float64)
    for fold, rows in found.groupby("fold"):
        judged = table["id"].isin(rows["id"]).to_numpy()
        expected = np.abs(means[table.index[judged]] - means[normal & ~judged].mean())
        got = rows.set_index("id")["score"][table["id"][judged]]
        np.testing.assert_allclose(got, expected, atol=1e-6, err_msg=f"fold {fold}")


def test_no_part_is_no_score(images, split, workshop, tmp_path):
    given = (BrightnessDetector, SystemSettings(), SeenImages(images, split, {}), {}, workshop, ContentStore(tmp_path))
    assert judge_by_folds(*given, 0).columns.tolist() == ["id", "fold", "score"]


def test_a_learnt_half_of_a_fold_is_not_taken_for_that_of_the_whole(prepare, workshop, tmp_path):
    settings = SYSTEMS["baselines"].Settings.model_validate(
        {
            "source": {"name": "timm:test_resnet", "weights": "random"},
            "features": {},
            "baselines": {"methods": {"near": {"detector": "memory_bank", "options": {"patches": 50}}}},
        }
    )
    detector, seen = prepare(SYSTEMS["baselines"].detector, settings)
    detector.fit(seen, workshop)
    keys = [detector.key]

    class Noting(type(detector)):
        def fit(self, seen, workshop):
            fitting = super().fit(seen, workshop)
            keys.append(self.key)
            return fitting

    judge_by_folds(Noting, settings, seen, detector.references, workshop, ContentStore(tmp_path / "cases"), 3)
    assert len(keys) == len(set(keys)) == 3
