"""Nodes of the pipeline `soft_target`."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.progress import track

from kdad.compute import prepare_compute
from kdad.content_store import ContentStore
from kdad.detectors.soft_target.class_offset import best_offset
from kdad.detectors.soft_target.distillation import Distillation, Taught
from kdad.detectors.soft_target.losses import softened_divergence
from kdad.detectors.soft_target.parameters import SoftTargetParameters
from kdad.detectors.soft_target.training import Lesson
from kdad.images.labelled import classified_images
from kdad.images.registry import open_image_set
from kdad.metrics.classification import classification_metrics
from kdad.metrics.ranking import image_auroc
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.source import ComputeParameters
from kdad.reporting.soft_targets import draw_label_counts, draw_softened, draw_sweep

_SHOWN_CLASSES = 5
ALL = 0  # in tables of label counts: every training image has its label


def open_distillation(
    folder: Path, dataset: dict[str, Any], soft_target: dict[str, Any], compute: dict[str, Any], seed: int
) -> Distillation:
    """Open the labelled images and the store of trained networks; raises `InputError` before anything is trained."""
    settings, images = SoftTargetParameters(**soft_target), DatasetParameters(**dataset)
    found = classified_images(open_image_set(images), images.validation_fraction, seed)
    for count in [*settings.label_counts, settings.sweep_labels]:
        found.labelled_rows(count, settings.seeds[0])
    chosen = prepare_compute(ComputeParameters(**compute))
    return Distillation(found, settings, chosen, ContentStore(folder))


def train_teachers(**shared: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train a teacher for each seed; return its accuracy and calibration, and the first one's loss history."""
    distillation = open_distillation(**shared)
    taught = {seed: distillation.teacher(seed) for seed in distillation.parameters.seeds}
    rows = [{"seed": seed, **distillation.test_metrics(found)} for seed, found in taught.items()]
    return pd.DataFrame(rows), pd.read_csv(next(iter(taught.values())).folder / "loss_history.csv")


def sweep_temperatures(teachers: pd.DataFrame, **shared: Any) -> pd.DataFrame:
    """Distil with few labels at every T and alpha: temperature, alpha, seed, held_out_accuracy, accuracy, ece."""
    distillation = open_distillation(**shared)
    settings = distillation.parameters
    rows = []
    for seed, temperature, alpha in _progress("T and alpha", settings.seeds, settings.temperatures, settings.alphas):
        labelled = distillation.images.labelled_rows(settings.sweep_labels, seed)
        taught = distillation.student(Lesson(labelled, labelled, temperature, alpha), seed)
        facts = {"temperature": temperature, "alpha": alpha, "seed": seed}
        held_out = distillation.held_out_accuracy(taught)
        rows.append({**facts, "held_out_accuracy": held_out, **distillation.test_metrics(taught)})
    return pd.DataFrame(rows)


def sweep_labels(teachers: pd.DataFrame, **shared: Any) -> pd.DataFrame:
    """Compare lessons at every number of labels a class: labels (0: all), lesson, seed, accuracy, ece.

    ``hard`` learns the labels alone, ``soft`` adds the teacher's targets of the same images, ``transfer`` its targets
    of all training images, most of them without labels.
    """
    distillation = open_distillation(**shared)
    settings, everything = distillation.parameters, distillation.images.fit_rows
    rows = []
    for seed, count in _progress("Numbers of labels", settings.seeds, [*settings.label_counts, ALL]):
        labelled = distillation.images.labelled_rows(count or None, seed)
        soft = settings.temperature, settings.alpha
        lessons = {
            "hard": Lesson(labelled, labelled),
            "soft": Lesson(labelled, labelled, *soft),
            "transfer": Lesson(everything, labelled, *soft),
        }
        for name, lesson in lessons.items():
            metrics = distillation.test_metrics(distillation.student(lesson, seed))
            rows.append({"labels": count, "lesson": name, "seed": seed, **metrics})
    return pd.DataFrame(rows)


def omit_class(teachers: pd.DataFrame, **shared: Any) -> pd.DataFrame:
    """Distil without a class: seed, student, accuracy, accuracy_of_class, offset (Hinton et al. 2015, section 3).

    The student sees soft targets alone, of images of the other classes. The offset is chosen on held-out images.
    """
    distillation = open_distillation(**shared)
    settings, images = distillation.parameters, distillation.images
    number, labels = settings.omitted_class, distillation.labels("test")
    rest = images.fit_rows[images.train.classes[images.fit_rows] != number]
    rows = []
    for (seed,) in _progress("Without a class", settings.seeds):
        lessons = {
            "complete": Lesson(images.fit_rows, images.fit_rows[:0], settings.temperature, 1.0),
            "omitted": Lesson(rest, rest[:0], settings.temperature, 1.0),
            "omitted_hard": Lesson(rest, rest),
        }
        for name, lesson in lessons.items():
            taught = distillation.student(lesson, seed)
            held_out = taught.train_logits[images.held_out_rows]
            chosen = best_offset(held_out, distillation.labels("train")[images.held_out_rows], number)
            for offset in (0.0, chosen):
                logits = taught.test_logits.clone()
                logits[:, number] += offset
                of_class = classification_metrics(logits[labels == number], labels[labels == number])["accuracy"]
                overall = classification_metrics(logits, labels)["accuracy"]
                facts = {"seed": seed, "student": name, "offset": offset}
                rows.append({**facts, "accuracy": overall, "accuracy_of_class": of_class})
    return pd.DataFrame(rows)


def score_disagreement(teachers: pd.DataFrame, **shared: Any) -> pd.DataFrame:
    """Detect every class but one by the student's disagreement with its teacher: normal_class, seed, image_auroc."""
    distillation = open_distillation(**shared)
    settings, classes = distillation.parameters, len(distillation.images.class_names)
    rows = []
    for seed, number in _progress("One class", settings.seeds, range(classes)):
        auroc = disagreement_auroc(distillation, one_class_student(distillation, number, seed), number, seed)
        rows.append({"normal_class": number, "seed": seed, "image_auroc": auroc})
    return pd.DataFrame(rows)


def one_class_student(distillation: Distillation, number: int, seed: int) -> Taught:
    """Distil a student on the images of one class alone, without labels."""
    images = distillation.images
    own = images.fit_rows[images.train.classes[images.fit_rows] == number]
    return distillation.student(Lesson(own, own[:0], distillation.parameters.temperature, 1.0), seed)


def disagreement_auroc(distillation: Distillation, student: Taught, number: int, seed: int) -> float:
    """Return image AUROC of KL(teacher || student) over the test images, where class `number` is normal.

    The teacher has seen every class with its label, which one-class methods have not.
    """
    teacher = distillation.teacher(seed)
    scores = softened_divergence(student.test_logits, teacher.test_logits, distillation.parameters.temperature)
    return image_auroc((distillation.labels("test") != number).long().numpy(), scores.numpy())


def draw_soft_targets(
    teachers: pd.DataFrame, sweep: pd.DataFrame, labels: pd.DataFrame, **shared: Any
) -> dict[str, Figure]:
    """Draw softened distributions at several T, the sweep, and accuracy and calibration over numbers of labels."""
    distillation = open_distillation(**shared)
    settings, images = distillation.parameters, distillation.images
    logits = distillation.teacher(settings.seeds[0]).test_logits
    # Of each class the test image that the teacher is least sure of.
    sure = logits.softmax(1).max(1).values.numpy()
    of_each = [np.flatnonzero(images.test.classes == number) for number in range(_SHOWN_CLASSES)]
    shown = [int(rows[sure[rows].argmin()]) for rows in of_each]
    return {
        "softened.png": draw_softened(images.test, shown, logits, images.class_names, settings.temperatures),
        "sweep.png": draw_sweep(sweep, settings.sweep_labels),
        "labels.png": draw_label_counts(labels, teachers),
    }


def summarise_soft_targets(
    teachers: pd.DataFrame, sweep: pd.DataFrame, labels: pd.DataFrame, omission: pd.DataFrame, anomaly: pd.DataFrame
) -> dict[str, Any]:
    """Return the means over seeds, and in how many seeds the distilled student beats that of hard labels."""
    by_count = labels.pivot(index=["labels", "seed"], columns="lesson", values="accuracy").reset_index()
    means = sweep.groupby(["temperature", "alpha"])[["held_out_accuracy", "accuracy"]].mean()
    best = means["held_out_accuracy"].idxmax()
    without = omission[(omission["student"] == "omitted") & (omission["offset"] != 0)]
    return {
        "teacher": teachers[["accuracy", "ece"]].mean().to_dict(),
        "labels": {
            str(count or "all"): {
                **block[["hard", "soft", "transfer"]].mean().to_dict(),
                "seeds": len(block),
                "seeds_where_soft_beats_hard": int((block["soft"] > block["hard"]).sum()),
                "seeds_where_transfer_beats_hard": int((block["transfer"] > block["hard"]).sum()),
            }
            for count, block in by_count.groupby("labels")
        },
        "chosen_on_held_out": {
            "temperature": best[0],
            "alpha": best[1],
            "accuracy": float(means.loc[best, "accuracy"]),
        },
        "omitted_class_accuracy": float(without["accuracy_of_class"].mean()),
        "anomaly": {"image_auroc": float(anomaly["image_auroc"].mean())},
    }


def _progress(description: str, *axes: Any) -> Iterator[tuple]:
    return track(list(itertools.product(*axes)), description=description, transient=True)
