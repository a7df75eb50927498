"""The record of what teachers see: one table, from which the patches are cut."""

import numpy as np
import pandas as pd
import pytest
import torch

from kdad.detectors.uninformed_students.parameters import TeacherParameters
from kdad.detectors.uninformed_students.patches import EMBEDDING, TRAINING, VALIDATION, part_of, sample_patches
from kdad.errors import InputError
from kdad.images.natural_pool import NaturalPool

COUNTS = {"distillation": "patches", "patches_per_epoch": 6, "validation_patches": 4}
CROPS = {
    "distillation": "dense",
    "dense": {
        "crop_size": 40,
        "crops_per_epoch": 6,
        "validation_crops": 4,
        "zoom": [1, 2],
        "training": {"epochs": 3, "batch_size": 4},
    },
}


@pytest.fixture(scope="module")
def pool() -> NaturalPool:
    return NaturalPool()


def _parameters(**top) -> TeacherParameters:
    return TeacherParameters(**(COUNTS | {"training": {"epochs": 3, "batch_size": 4}} | top))


def test_every_epoch_has_patches_of_its_own_and_validation_has_fixed_ones(pool):
    table = sample_patches(pool, _parameters(), [17, 33])
    counts = table.groupby(["receptive_field", "use", "epoch"], observed=True).size().to_dict()
    expected = {(EMBEDDING, 0): 1024, (VALIDATION, 0): 4, **{(TRAINING, epoch): 6 for epoch in range(3)}}
    assert counts == {(field, *part): count for field in (17, 33) for part, count in expected.items()}
    own = table[table["receptive_field"] == 17]
    places = [part_of(own, TRAINING, epoch)[["image", "side", "top", "left"]].to_numpy().tolist() for epoch in range(3)]
    assert len({str(each) for each in places}) == 3


def test_a_seed_gives_one_table_whatever_other_fields_and_epochs_are_asked_for(pool):
    first = sample_patches(pool, _parameters(), [17])
    more = sample_patches(pool, _parameters(training={"epochs": 5, "batch_size": 4}), [33, 17])
    again = more[(more["receptive_field"] == 17) & (more["epoch"] < 3)].reset_index(drop=True)
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(sample_patches(pool, _parameters(seed=1), [17]))


def test_places_lie_inside_their_images_at_the_published_zooms(pool):
    table = sample_patches(pool, _parameters(patches_per_epoch=300, metric_weight=1.0), [17])
    table = table[table["use"] == TRAINING]
    for prefix in ("", "other_"):
        size = pool.sizes[table[f"{prefix}image"].astype(int)]
        assert (table[f"{prefix}top"] >= 0).all()
        assert (table[f"{prefix}top"] + table[f"{prefix}side"] <= size[:, 0]).all()
        assert (table[f"{prefix}left"] + table[f"{prefix}side"] <= size[:, 1]).all()
        zoom = size.min(axis=1) / table[f"{prefix}side"]
        assert zoom.between(3.8, 17).all()  # 4 to 16, and whole pixels
    assert (table["image"] != table["other_image"]).all()
    moved = np.maximum((table["moved_top"] - table["top"]).abs(), (table["moved_left"] - table["left"]).abs())
    assert (moved <= table["side"] * 4 / 17 + 0.5).all()
    assert (moved > 0).any()


def test_crops_are_as_many_and_zoomed_as_asked_and_positives_move_by_a_quarter_of_a_patch(pool):
    parameters = _parameters(**CROPS, metric_weight=1.0)
    table = sample_patches(pool, parameters, [17])
    counts = table.groupby(["use", "epoch"], observed=True).size().to_dict()
    assert counts == {(EMBEDDING, 0): 64, (VALIDATION, 0): 4, **{(TRAINING, epoch): 6 for epoch in range(3)}}
    zoom = pool.sizes[table["image"]].min(axis=1) / table["side"]
    assert zoom.between(0.99, 2.01).all()  # whole pixels
    trained = table[table["use"] == TRAINING]
    moved = np.maximum((trained["moved_top"] - trained["top"]).abs(), (trained["moved_left"] - trained["left"]).abs())
    assert (moved <= trained["side"] * 4 / 40 + 0.5).all()  # 4 of the crop's 40 pixels
    assert (moved > 0).any()


@pytest.mark.parametrize("fields", [[65], [17, 65]])
def test_crops_smaller_than_a_receptive_field_are_refused(pool, fields):
    message = r"teacher\.dense\.crop_size is 40, which is less than the receptive field 65; raise it, or leave 65 out"
    with pytest.raises(InputError, match=message):
        sample_patches(pool, _parameters(**CROPS), fields)


def test_without_a_source_nothing_is_sampled_for_its_embedding(pool):
    assert EMBEDDING not in set(
        sample_patches(pool, _parameters(knowledge_weight=0.0, compactness_weight=1.0), [17])["use"]
    )


def test_a_table_read_from_a_file_gives_the_same_patches(pool, tmp_path):
    table = sample_patches(pool, _parameters(metric_weight=1.0), [17])
    table.to_parquet(tmp_path / "patches.parquet")
    read = part_of(pd.read_parquet(tmp_path / "patches.parquet"), TRAINING, 2)
    first, second = (pool.cut_triplets(rows, 17) for rows in (part_of(table, TRAINING, 2), read))
    for name in ("anchors", "positives", "negatives"):
        assert torch.equal(getattr(first, name), getattr(second, name))
