"""What is said of an image set before anything is trained on it: what it holds, which images are there twice."""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, get_args

import numpy as np
import pandas as pd

from kdad.errors import PLAIN, InputError, first_of
from kdad.images.image_set import ImageSet, Subset
from kdad.images.splits import PARTS, rows_by_category, whole_name

logger = logging.getLogger(__name__)

#: A row a pair: whether it is ``exact`` or ``near``, and of both images id, part and kind.
PAIR_COLUMNS = ["how", "first", "first_part", "first_kind", "second", "second_part", "second_kind"]
#: The side of the thumbnails that pictures are compared by.
THUMBNAIL_SIDE = 16
#: Beyond this many images, near ones are not looked for: the time grows with the square.
MOST_COMPARED = 20_000

_NEAR = 0.4  # of how far the nearest other image usually is
_BLOCK = 1024
_SHOWN_PAIRS = 10
_TWIN = 0.2  # of how far a validation image is from a usual training image
_FEWEST_TWINS, _MOST_TWINS = 5, 2000
_FRAMES_OF_A_FILM = 5
_FILM = "(.+?)(?:[_-][0-9]+)?[.][^.]*$"  # of names; one without a number at its end is a film of its own
_SHOWN = 20  # problems

Facts = list[tuple[str, str]]


def check_images(images: ImageSet) -> None:
    """Raise one `InputError` that lists all problems of an image set, the first 20 in full."""
    problems = images.problems()
    if problems:
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        lines = [f"the image set {images.name} / {images.category} cannot be used:", *problems[:_SHOWN], *more]
        raise InputError("\n  ".join(lines))


@dataclass(frozen=True)
class DatasetSummary:
    """Images by part and kind (columns part, kind, label, images, masks), and what else was understood, in words."""

    title: str
    table: pd.DataFrame
    remarks: Facts

    def facts(self) -> Facts:
        """Return everything in lines: each part with its kinds, then the remarks."""
        said = []
        for part, rows in self.table.groupby("part", sort=False):
            kinds = ", ".join(
                f"{row.images} {row.kind}" + (f" ({row.masks} with masks)" if row.label and row.masks else "")
                for row in rows.itertuples()
            )
            said.append((part, f"{rows['images'].sum()} images: {kinds}"))
        return [*said, *self.remarks]


def summarise_set(images: ImageSet) -> DatasetSummary:
    """Count a set's images by part and kind, and gather what it says of itself."""
    samples = pd.DataFrame(
        [(sample.subset, sample.kind, sample.label, sample.has_mask) for sample in images.samples],
        columns=["part", "kind", "label", "masks"],
    )
    samples["part"] = pd.Categorical(samples["part"], get_args(Subset))
    samples = samples.sort_values("part", kind="stable").astype({"part": str})
    counted = samples.groupby(["part", "kind", "label"], sort=False)["masks"].agg(["size", "sum"]).reset_index()
    table = counted.rename(columns={"size": "images", "sum": "masks"})
    return DatasetSummary(f"Understood of {images.name} / {images.category}", table, images.remarks())


def exact_pairs(table: pd.DataFrame) -> pd.DataFrame:
    """Return each image of a split table that has the fingerprint of an earlier one, paired with the first of these."""
    first = table.groupby("fingerprint", sort=False)["fingerprint"].transform(lambda found: found.index[0])
    again = np.flatnonzero((first != table.index).to_numpy())
    return _pairs(table, "exact", first.to_numpy()[again].astype(int), again)


def near_pairs(table: pd.DataFrame, thumbnails: np.ndarray) -> pd.DataFrame:
    """Return pairs of different files whose grey thumbnails `(N, S, S)` in [0, 1] are nearly the same.

    Brightness aside, they differ by less than 0.4 of what an image and its nearest neighbour differ by in the median
    of the set: parts before one camera are all alike, and a fixed limit would take them for copies. Categories of a
    united set are looked at one by one.
    """
    unique = table[~table["fingerprint"].duplicated()]
    compared = rows_by_category(unique) if len(unique) <= MOST_COMPARED else []
    pairs = [_near_rows(thumbnails, rows) for rows in compared if len(rows) > 2]
    return _pairs(table, "near", *np.concatenate([np.empty((0, 2), int), *pairs]).T)


def _near_rows(thumbnails: np.ndarray, unique: np.ndarray) -> np.ndarray:
    """Return the pairs `(P, 2)` among these rows whose thumbnails are nearly the same."""
    vectors = thumbnails[unique].reshape(len(unique), -1).astype(np.float32)
    vectors -= vectors.mean(axis=1, keepdims=True)
    usual = np.median(np.concatenate([block.min(axis=1) for _, block in _distances(vectors)]))
    found = [np.argwhere(block < _NEAR * usual) + np.array([start, 0]) for start, block in _distances(vectors)]
    pairs = np.concatenate(found)
    return unique[pairs[pairs[:, 0] < pairs[:, 1]]]


def _distances(vectors: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield blocks of rows' distances `(B, N)` to all rows, infinite to themselves, with where a block starts."""
    squares = np.square(vectors).sum(axis=1)
    for start in range(0, len(vectors), _BLOCK):
        rows = slice(start, start + _BLOCK)
        between = squares[rows, None] + squares - 2 * (vectors[rows] @ vectors.T)
        between[np.arange(len(between)), np.arange(start, start + len(between))] = np.inf
        yield start, np.sqrt(np.maximum(between, 0))


def _pairs(table: pd.DataFrame, how: str, first: np.ndarray, second: np.ndarray) -> pd.DataFrame:
    sides = {
        f"{side}{suffix}": table[column].to_numpy()[rows]
        for side, rows in (("first", first), ("second", second))
        for suffix, column in (("", "id"), ("_part", "split"), ("_kind", "kind"))
    }
    return pd.DataFrame({"how": how, **sides}, columns=PAIR_COLUMNS)


def across_parts(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs whose images are in different parts: the test then asks for what was learnt by heart."""
    return pairs[pairs["first_part"] != pairs["second_part"]]


def contradicting(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs of which one image is normal and the other anomalous."""
    return pairs[(pairs["first_kind"] == "good") != (pairs["second_kind"] == "good")]


def say_pairs(pairs: pd.DataFrame) -> list[str]:
    """Say how many pairs there are in which parts, and that some contradict each other; empty without any."""
    if pairs.empty:
        return []
    how = "the same file" if pairs["how"].iloc[0] == "exact" else "nearly the same picture"
    wrong, across = contradicting(pairs), across_parts(pairs)
    said = [f"{len(wrong)} images are both normal and anomalous, being {how}: {_listed(wrong)}"] if len(wrong) else []
    for (one, other), rows in across.groupby(["first_part", "second_part"], sort=False):
        said.append(f"{len(rows)} {PARTS[other]} images are {how} as {PARTS[one]} ones: {_listed(rows)}")
    if len(pairs) > len(across):
        said.append(f"{len(pairs) - len(across)} images are {how} as another of their own part")
    return said


def told_by_files(images: pd.DataFrame) -> list[str]:
    """Say by which facts of their files normal and anomalous test images can be told apart without a look.

    `images` has id, label, subset, height, width and mode; normal training images stand in where none is tested.
    """
    known = images.dropna(subset=["height"])
    anomalous, normal = known[known["label"] == 1], known[known["label"] == 0]
    tested = normal[normal["subset"] == "test"]
    normal = normal if tested.empty else tested
    if min(len(anomalous), len(normal)) < 2:
        return []
    facts = {
        "ending": lambda rows: rows["id"].map(lambda name: PurePosixPath(whole_name(name)).suffix.lower()),
        "mode": lambda rows: rows["mode"],
        "size": lambda rows: [f"{int(h)} x {int(w)}" for h, w in zip(rows["height"], rows["width"], strict=True)],
    }
    sides = {name: (set(fact(anomalous)), set(fact(normal))) for name, fact in facts.items()}
    return [
        f"by their {name}: anomalous {first_of(sorted(one), 3)}, normal {first_of(sorted(other), 3)}"
        for name, (one, other) in sides.items()
        if not one & other
    ]


def check_told_by_files(images: pd.DataFrame) -> None:
    """Warn where a label can be told from a file without a look at the picture (`told_by_files`)."""
    if said := told_by_files(images):
        logger.warning(
            "Labels can be told without looking: all anomalous and normal test images differ %s. What is measured may "
            "be this and no defect; make files of one kind",
            "; ".join(said),
            extra=PLAIN,
        )


def say_films(table: pd.DataFrame, thumbnails: np.ndarray) -> list[str]:
    """Say that validation images have near twins among the training images, as frames of the same films have.

    `thumbnails` are `(N, S, S)`. In the median a validation image is then less than a fifth as far from its nearest
    training image as from a usual one: parts before one camera are all alike, and none has a twin.
    """
    validation, training = (np.flatnonzero(table["split"] == part)[:_MOST_TWINS] for part in ("validation", "train"))
    if min(len(validation), len(training)) < _FEWEST_TWINS:
        return []
    vectors = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    vectors = vectors - vectors.mean(axis=1, keepdims=True)
    between = np.stack([np.linalg.norm(vectors[training] - vectors[row], axis=1) for row in validation])
    usual = np.median(between, axis=1)
    share = between.min(axis=1) / np.where(usual > 0, usual, np.inf)
    if not 0 < np.median(share) < _TWIN:
        return []
    row = int(np.argmin(share))
    names = table["id"].iloc[validation[row]], table["id"].iloc[training[between[row].argmin()]]
    return [
        f"{(share < _TWIN).sum()} of {len(validation)} validation images have a near twin among the training images, "
        f"as frames of one film have ({names[0]} and {names[1]}): the threshold and what it promises hold for these "
        "films, and other films may be flagged far more often; say which images belong together by dataset.groups, so "
        "that whole films are held out"
    ]


def check_film_names(table: pd.DataFrame) -> None:
    """Warn where names of a split table look like frames of films that train and are held out.

    They are numbered in folders whose own names have numbers, or after names that several share; of each such film
    there are five frames or more in the median.
    """
    held_in = table[table["split"].isin(("train", "validation"))]
    paths = dict.fromkeys(PurePosixPath(whole_name(name)) for name in held_in["id"])
    numbered = all(path.stem[-1:].isdigit() for path in paths)
    folders = {path: path.parent.as_posix() for path in paths if numbered and re.search("[0-9]", path.parent.name)}
    names = {path: found[1] for path in paths if (found := re.fullmatch("(.+)[_-][0-9]+", path.stem))}
    validation = {PurePosixPath(whole_name(name)) for name in held_in.loc[held_in["split"] == "validation", "id"]}
    for groups, films in (("folder", folders), (_FILM, names)):
        sizes = pd.Series(films, dtype=object).value_counts()
        trained = {film for path, film in films.items() if path not in validation}
        shared = [path for path in validation if films.get(path) in trained]
        if len(films) == len(paths) and len(sizes) > 1 and sizes.median() >= _FRAMES_OF_A_FILM and shared:
            logger.warning(
                "Films: by their names, images are of %d films (or batches), and %d of %d validation images are of one "
                "that trains too (such as %s); the threshold and what it promises then hold for these films alone. Set "
                "dataset.groups='%s', so that whole films are held out",
                *(len(sizes), len(shared), len(validation), min(shared), groups),
                extra=PLAIN,
            )
            return


def check_groups(table: pd.DataFrame) -> None:
    """Warn of groups that a set's own parts, or labels, put into two parts of a split table."""
    if "group" not in table:
        return
    parts = table.groupby("group", sort=False)["split"].unique()
    torn = parts[parts.map(len) > 1]
    if len(torn):
        logger.warning(
            "Groups: %d of %d have images in two parts (%s): %s. What is measured on them, and promised, is not of new "
            "groups; give each to one part",
            *(len(torn), len(parts), ", ".join(PARTS[part] for part in torn.iloc[0])),
            first_of(torn.index.tolist(), _SHOWN_PAIRS),
            extra=PLAIN,
        )


def check_exact(table: pd.DataFrame, rule: Literal["warn", "refuse"]) -> None:
    """Say which images of a split table are the same; those in two parts, or of two labels, are a warning or refused.

    Raises `InputError` for ``refuse``, before anything is trained.
    """
    pairs = exact_pairs(table)
    said = say_pairs(pairs)
    serious = len(across_parts(pairs)) + len(contradicting(pairs))
    if serious and rule == "refuse":
        raise InputError(
            "images are there twice (dataset.duplicates: refuse); remove one of each pair:\n  " + "\n  ".join(said)
        )
    if serious:
        said.append(
            "what is measured on such images says little; remove one of each pair, or set dataset.duplicates=refuse "
            "to have it refused (all pairs: duplicates.csv beside the data report)"
        )
    if said:
        log = logger.warning if serious else logger.info
        log("Duplicates:\n  %s", "\n  ".join(said), extra=PLAIN)


def _listed(pairs: pd.DataFrame) -> str:
    return first_of((pairs["first"] + " = " + pairs["second"]).tolist(), _SHOWN_PAIRS)
