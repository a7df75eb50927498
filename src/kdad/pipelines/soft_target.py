"""The pipeline `soft_target`."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from kedro.pipeline import Pipeline
from matplotlib.figure import Figure

from kdad.compute import prepare_compute
from kdad.detectors.detector import Detector
from kdad.detectors.evaluation import calibrate_float32
from kdad.detectors.learnt import Trained
from kdad.detectors.opening import open_detector
from kdad.detectors.soft_target.distillation import Distillation, Lesson, best_offset, softened_divergence
from kdad.detectors.soft_target.parameters import SoftTargetParameters, SoftTargetSettings
from kdad.experiments.case import Case
from kdad.experiments.run import run_case
from kdad.experiments.steps import RunContext
from kdad.features.extraction import FeatureSet
from kdad.images.image_set import ImageSet
from kdad.images.one_class import classified_images
from kdad.images.splits import Split
from kdad.metrics.ranking import classification_metrics, image_auroc
from kdad.parameters.blocks import ComputeParameters
from kdad.pipelines import BoxedNode, blocks, ingestion, made, own, shared
from kdad.progress import counted
from kdad.reporting.curves import draw_label_counts, draw_softened, draw_sweep
from kdad.scoring.parameters import MeasuringParameters
from kdad.storage.content_store import ContentStore, Stores

_SHOWN_CLASSES = 5
ALL = 0  # in tables of label counts: every training image has its label


def open_distillation(
    image_set: ImageSet, soft_target: SoftTargetParameters, stores: Stores, compute: ComputeParameters, seed: int
) -> Distillation:
    """Check the settings against the images; raises `InputError` before anything is trained."""
    images = classified_images(image_set, seed)
    for count in [*soft_target.label_counts, soft_target.sweep_labels]:
        images.labelled_rows(count, soft_target.seeds[0])
    return Distillation(images, soft_target, prepare_compute(compute), ContentStore(stores.models))


def on_distillation(measure: Callable[[Distillation], Any]) -> Callable[..., Any]:
    """Return the node's function of what is measured on teachers and students."""

    def run(
        image_set: ImageSet, soft_target: SoftTargetParameters, stores: Stores, compute: ComputeParameters, seed: int
    ) -> Any:
        return measure(open_distillation(image_set, soft_target, stores, compute, seed))

    run.__name__, run.__doc__ = measure.__name__, measure.__doc__
    return run


def train_teachers(distillation: Distillation) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train a teacher for each seed; return its accuracy and calibration, and the first one's loss history."""
    teachers = {seed: distillation.teacher(seed) for seed in distillation.parameters.seeds}
    rows = [{"seed": seed, **distillation.test_metrics(teacher)} for seed, teacher in teachers.items()]
    history = next(iter(teachers.values())).history
    history.attrs["network"] = "teacher"
    return pd.DataFrame(rows), history


def sweep_temperatures(distillation: Distillation) -> pd.DataFrame:
    """Distil with few labels at every T and alpha: temperature, alpha, seed, validation_accuracy, accuracy, ece."""
    settings = distillation.parameters
    rows = []
    for seed, temperature, alpha in _progress("T and alpha", settings.seeds, settings.temperatures, settings.alphas):
        labelled = distillation.images.labelled_rows(settings.sweep_labels, seed)
        student = distillation.student(Lesson(labelled, labelled, temperature, alpha), seed)
        facts = {"temperature": temperature, "alpha": alpha, "seed": seed}
        validation = distillation.validation_accuracy(student)
        rows.append({**facts, "validation_accuracy": validation, **distillation.test_metrics(student)})
    return pd.DataFrame(rows)


def sweep_labels(distillation: Distillation) -> pd.DataFrame:
    """Compare lessons at every number of labels a class: labels (0: all), lesson, seed, accuracy, ece.

    ``hard`` learns the labels alone, ``soft`` adds the teacher's targets of the same images, ``transfer`` its targets
    of all training images, most of them without labels.
    """
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


def omit_class(distillation: Distillation) -> pd.DataFrame:
    """Distil without a class: seed, student, accuracy, accuracy_of_class, offset (Hinton et al. 2015, section 3).

    The student sees soft targets alone, of images of the other classes. The offset is chosen on validation images.
    """
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
            student = distillation.student(lesson, seed)
            validation = student.outputs["train"][images.validation_rows]
            chosen = best_offset(validation, distillation.labels("train")[images.validation_rows], number)
            for offset in (0.0, chosen):
                logits = student.outputs["test"].clone()
                logits[:, number] += offset
                of_class = classification_metrics(logits[labels == number], labels[labels == number])["accuracy"]
                overall = classification_metrics(logits, labels)["accuracy"]
                facts = {"seed": seed, "student": name, "offset": offset}
                rows.append({**facts, "accuracy": overall, "accuracy_of_class": of_class})
    return pd.DataFrame(rows)


def score_disagreement(distillation: Distillation) -> pd.DataFrame:
    """Detect every class but one by the student's disagreement with its teacher: normal_class, seed, image_auroc."""
    settings, classes = distillation.parameters, len(distillation.images.class_names)
    rows = []
    for seed, number in _progress("One class", settings.seeds, range(classes)):
        auroc = disagreement_auroc(distillation, distillation.one_class_student(number, seed), number, seed)
        rows.append({"normal_class": number, "seed": seed, "image_auroc": auroc})
    return pd.DataFrame(rows)


def disagreement_auroc(distillation: Distillation, student: Trained, number: int, seed: int) -> float:
    """Return image AUROC of KL(teacher || student) over the test images, where class `number` is normal.

    The teacher has seen every class with its label, which one-class methods have not.
    """
    teacher = distillation.teacher(seed)
    scores = softened_divergence(student.outputs["test"], teacher.outputs["test"], distillation.parameters.temperature)
    return image_auroc((distillation.labels("test") != number).long().numpy(), scores.numpy())


def draw_soft_targets(
    image_set: ImageSet,
    soft_target: SoftTargetParameters,
    stores: Stores,
    compute: ComputeParameters,
    seed: int,
    teachers: pd.DataFrame,
    sweep: pd.DataFrame,
    labels: pd.DataFrame,
) -> dict[str, Figure]:
    """Draw softened distributions at several T, the sweep, and accuracy and calibration over numbers of labels."""
    distillation = open_distillation(image_set, soft_target, stores, compute, seed)
    settings, images = soft_target, distillation.images
    logits = distillation.teacher(settings.seeds[0]).outputs["test"]
    # Of each class the test image that the teacher is least sure of.
    sure = logits.softmax(1).max(1).values.numpy()
    of_each = [np.flatnonzero(images.test.classes == number) for number in range(_SHOWN_CLASSES)]
    shown = [int(rows[sure[rows].argmin()]) for rows in of_each]
    return {
        "softened.png": draw_softened(images.test, shown, logits, images.class_names, settings.temperatures),
        "sweep.png": draw_sweep(sweep, settings.sweep_labels),
        "labels.png": draw_label_counts(labels, teachers),
    }


def keep_student(
    soft_target: SoftTargetParameters,
    image_set: ImageSet,
    split_table: pd.DataFrame,
    stores: Stores,
    compute: ComputeParameters,
    measuring: MeasuringParameters,
    seed: int,
) -> Detector:
    """Return the detector by disagreement on the run's own normal class, with the first of the seeds."""
    settings = SoftTargetSettings(soft_target=soft_target)
    case = Case("soft_target", "soft_target", image_set.category, soft_target.seeds[0], "soft_target", settings, {})
    context = RunContext(prepare_compute(compute), stores, measuring, seed)
    feature_set = FeatureSet(image_set, Split(split_table), {})
    kept = open_detector(Path(run_case(case, feature_set, context).folder) / "detector")
    calibrate_float32(kept, kept.prepare_images(settings, feature_set, seed), measuring.threshold_quantile)
    return kept


def summarise_soft_targets(
    teachers: pd.DataFrame, sweep: pd.DataFrame, labels: pd.DataFrame, omission: pd.DataFrame, anomaly: pd.DataFrame
) -> dict[str, Any]:
    """Return the means over seeds, and in how many seeds the distilled student beats that of hard labels."""
    by_count = labels.pivot(index=["labels", "seed"], columns="lesson", values="accuracy").reset_index()
    means = sweep.groupby(["temperature", "alpha"])[["validation_accuracy", "accuracy"]].mean()
    best = means["validation_accuracy"].idxmax()
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
        "chosen_on_validation": {
            "temperature": best[0],
            "alpha": best[1],
            "accuracy": float(means.loc[best, "accuracy"]),
        },
        "omitted_class_accuracy": float(without["accuracy_of_class"].mean()),
        "anomaly": {"image_auroc": float(anomaly["image_auroc"].mean())},
    }


def _progress(description: str, *axes: Any) -> Iterator[tuple]:
    return counted(list(itertools.product(*axes)), description)


_SHARED = shared("image_set", "stores") | blocks("soft_target", "compute", "seed")


def create_pipeline() -> Pipeline:
    """Train teachers, sweep temperature and labels, omit a class, detect anomalies, draw, keep a detector."""
    drawn = own("soft_target", "teachers", "sweep", "labels")
    tables = drawn | own("soft_target", "omission", "anomaly")
    kept = _SHARED | shared("split_table") | blocks("measuring")
    trained = ["teachers", "teacher_loss_history"]
    steps = [
        (on_distillation(train_teachers), _SHARED, trained, "train_soft_teachers", "sweeps"),
        (on_distillation(sweep_temperatures), _SHARED, "sweep", "sweep_temperatures", "sweeps"),
        (on_distillation(sweep_labels), _SHARED, "labels", "sweep_labels", "sweeps"),
        (on_distillation(omit_class), _SHARED, "omission", "omit_class", "sweeps"),
        (on_distillation(score_disagreement), _SHARED, "anomaly", "score_disagreement", "sweeps"),
        (draw_soft_targets, _SHARED | drawn, "figures", "draw_soft_targets", "report"),
        (summarise_soft_targets, tables, "summary", "summarise_soft_targets", "report"),
        (keep_student, kept, "detector", "keep_student", "fit"),
    ]
    return ingestion.create_pipeline() + Pipeline(
        [
            BoxedNode(
                function,
                inputs=inputs,
                outputs=f"soft_target.{outputs}" if isinstance(outputs, str) else made("soft_target", *outputs),
                name=name,
                namespace=box,
            )
            for function, inputs, outputs, name, box in steps
        ]
    )
