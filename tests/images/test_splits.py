"""Splits: shares, determinism, independence of order."""

import dataclasses
import random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdad.errors import InputError
from kdad.images.image_set import Sample
from kdad.images.splits import Split, split_samples, split_set, validation_count
from kdad.parameters.dataset import DatasetParameters


def training(count: int) -> list[Sample]:
    return [Sample(f"train/{number}.png", 0, "good", "train", False) for number in range(count)]


TEST = [Sample("test/a.png", 0, "good", "test", False), Sample("test/b.png", 1, "hole", "test", True)]
NAMES = st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=40, unique=True)


@settings(deadline=None)
@given(NAMES, st.floats(0.01, 0.99), st.integers(0, 2**32), st.randoms())
def test_split_follows_ids_and_seed_whatever_the_order(names, fraction, seed, shuffler: random.Random):
    samples = [Sample(name, 0, "good", "train", False) for name in names] + TEST
    by_id = dict(zip((s.id for s in samples), split_samples(samples, fraction, seed), strict=True))
    shuffler.shuffle(samples)
    again = dict(zip((s.id for s in samples), split_samples(samples, fraction, seed), strict=True))
    assert again == by_id
    assert {by_id.pop(s.id) for s in TEST} == {"test"}
    assert set(by_id.values()) == {"train", "validation"}
    validation = sum(split == "validation" for split in by_id.values())
    assert abs(validation - fraction * len(names)) <= 0.5 or validation in (1, len(names) - 1)


@pytest.mark.parametrize(
    ("count", "fraction", "validation"), [(40, 0.1, 4), (209, 0.1, 21), (2, 0.01, 1), (3, 0.99, 2)]
)
def test_share(count, fraction, validation):
    assert split_samples(training(count), fraction, 0).count("validation") == validation


def test_seeds_hold_out_different_images():
    chosen = {tuple(split_samples(training(100), 0.1, seed)) for seed in range(5)}
    assert len(chosen) == 5


def test_adding_an_image_moves_few_others():
    before = split_samples(training(100), 0.1, 0)
    after = split_samples(training(101), 0.1, 0)[:100]
    assert sum(a != b for a, b in zip(before, after, strict=True)) <= 1


def test_own_validation_part_is_kept():
    samples = [*training(5), Sample("v", 0, "good", "validation", False), *TEST]
    assert split_samples(samples, 0.5, 0) == ["train"] * 5 + ["validation", "test", "test"]


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_training_images(count):
    with pytest.raises(InputError, match=f"there are {count} normal training images; at least 2"):
        split_samples([*training(count), *TEST], 0.1, 0)


def test_validation_without_training():
    with pytest.raises(InputError, match="no normal training images"):
        split_samples([Sample("v", 0, "good", "validation", False)], 0.1, 0)


@pytest.fixture
def split() -> Split:
    """Six images, in no order."""
    return Split(
        pd.DataFrame(
            {
                "id": list("abcdef"),
                "label": [1, 0, 0, 0, 0, 0],
                "split": ["test", "train", "validation", "test", "train", "validation"],
                "fingerprint": list("uvwxyz"),
            }
        )
    )


def test_rows_of_a_part_are_in_the_sets_order(split):
    assert split.rows("train").tolist() == [1, 4]
    assert split.rows("validation").tolist() == [2, 5]
    assert split.rows("test").tolist() == [0, 3]
    assert split.is_part("train").tolist() == [False, True, False, False, True, False]
    assert len(split) == 6


def test_held_out_images_are_scored_before_test_images(split):
    assert split.scored.tolist() == [2, 5, 0, 3]
    assert split.test_table["id"].tolist() == ["a", "d"]


def test_maps_of_test_images_are_the_last_whether_or_not_held_out_ones_are_there(split):
    scored = split.scored[:, None, None] * np.ones((4, 2, 3))
    assert split.test_maps(scored)[:, 0, 0].tolist() == [0, 3]
    assert split.test_maps(scored[2:])[:, 0, 0].tolist() == [0, 3]
    without_test = Split(split.table.assign(split="validation"))
    assert len(without_test.test_maps(np.ones((6, 2, 3)))) == 0


@pytest.mark.parametrize(
    ("column", "value", "differing"),
    [
        ("id", list("abcdeg"), {"images_digest", "digest"}),  # f is held out
        ("id", list("agcdef"), {"images_digest", "training_digest", "digest"}),
        ("fingerprint", list("uvwxyy"), {"images_digest", "digest"}),
        ("split", ["validation", "train", "test", "test", "train", "validation"], {"digest"}),
        ("split", ["test", "train", "train", "test", "train", "validation"], {"training_digest", "digest"}),
        ("label", [1, 0, 0, 1, 0, 0], {"digest"}),
    ],
)
def test_digests_change_with_what_they_are_of(split, column, value, differing):
    changed = Split(split.table.assign(**{column: value}))
    names = ("images_digest", "training_digest", "digest")
    assert {name for name in names if getattr(changed, name) != getattr(split, name)} == differing
    same = Split(split.table.copy())
    assert all(getattr(same, name) == getattr(split, name) for name in names)


@pytest.mark.parametrize(("part", "use"), [("train", "learn from"), ("validation", "set the threshold with")])
def test_a_split_without_normal_images_to_learn_from_or_to_hold_out(split, part, use):
    split.require_normal()
    with pytest.raises(InputError, match=f"no {part} image to .*{use}; add normal images"):
        Split(split.table[split.table["split"] != part]).require_normal()


@pytest.mark.parametrize(
    ("images", "fraction", "validation"),
    [
        (2, "auto", 1),
        (3, "auto", 1),
        (20, "auto", 10),  # half, as 19 would be more
        (38, "auto", 19),
        (100, "auto", 19),  # the 19 that 5 % takes, as a tenth would be fewer
        (209, "auto", 21),
        (20, 0.1, 2),
        (2, 0.9, 1),
    ],
)
def test_how_many_images_are_held_out(images, fraction, validation):
    assert validation_count(images, fraction) == validation


def test_part_of_the_training_images_trains_the_others_are_unused_and_what_is_held_out_stays():
    samples = [Sample(f"{number}.png", 0, "good", "train", False) for number in range(20)]
    samples += [Sample("bad.png", 1, "dent", "test", False)]
    whole = split_samples(samples, 0.25, 3)
    few, more = (split_samples(samples, 0.25, 3, count) for count in (2, 8))
    counts = {part: few.count(part) for part in ("train", "validation", "test", "unused")}
    assert counts == {"train": 2, "validation": 5, "test": 1, "unused": 13}
    for part in ("validation", "test"):
        rows = [[row for row, found in enumerate(split) if found == part] for split in (whole, few, more)]
        assert rows[0] == rows[1] == rows[2]
    trained = [{row for row, found in enumerate(split) if found == "train"} for split in (few, more, whole)]
    assert trained[0] < trained[1] < trained[2]
    assert split_samples(samples, 0.25, 3, 99) == whole
    own = [*samples, Sample("held.png", 0, "good", "validation", False)]
    assert split_samples(own, "auto", 3, 4).count("unused") == 16


def frames(*films: int, part: str = "train") -> list[Sample]:
    """Return films of so many frames each."""
    return [
        Sample(f"{part}/{film}_{number}.png", 0, "good", part, False, f"film {film}")
        for film, count in enumerate(films)
        for number in range(count)
    ]


def test_groups_stay_together_and_count_as_one_each():
    samples = [*frames(40, 1, 7, 3, 12, 5), *TEST]
    for seed in range(10):
        split = split_samples(samples, "auto", seed)
        parts = {}
        for sample, part in zip(samples, split, strict=True):
            parts.setdefault(sample.group, set()).add(part)
        of_films = [parts[name].pop() for name in parts if name is not None and len(parts[name]) == 1]
        assert sorted(of_films) == ["train"] * 3 + ["validation"] * 3  # half of six, as 19 are not to be had
        shuffled = random.Random(seed).sample(list(range(len(samples))), len(samples))
        again = split_samples([samples[row] for row in shuffled], "auto", seed)
        assert again == [split[row] for row in shuffled]


def test_one_group_cannot_be_split():
    with pytest.raises(InputError, match=r"1 groups of normal training images \(dataset\.groups\); at least 2"):
        split_samples(frames(40), "auto", 0)


def test_a_category_of_a_united_set_has_its_groups_split_as_if_alone():
    dataset = DatasetParameters(name="folder", root="x", category=["a", "b"], image_size=16, groups="folder")
    alone = split_samples(frames(3, 3, 3, 3), "auto", 0)
    united = [
        dataclasses.replace(sample, id=f"{member}/{sample.id}", group=f"{member}/{sample.group}")
        for member in "ab"
        for sample in frames(3, 3, 3, 3)
    ]
    assert split_set(united, dataset, 0) == alone * 2
