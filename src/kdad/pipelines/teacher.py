"""Uninformed Students: teachers of each receptive field, pretrained on natural images, then students as any system."""

from typing import Any

import pandas as pd
from kedro.pipeline import Pipeline

from kdad.compute import prepare_compute
from kdad.detectors.detector import TrainContext
from kdad.detectors.learnt import join_histories
from kdad.detectors.uninformed_students.detector import UninformedStudentsDetector
from kdad.detectors.uninformed_students.parameters import UninformedStudentsSettings
from kdad.detectors.uninformed_students.teacher import pretrain, reference_teacher
from kdad.features.extraction import FeatureSet
from kdad.features.network import NetworkReference
from kdad.images.image_set import ImageSet
from kdad.images.splits import Split
from kdad.parameters.blocks import ComputeParameters
from kdad.pipelines import BoxedNode, blocks, ingestion, made, reporting, shared
from kdad.pipelines.detector import create_features, create_fitting, create_scoring
from kdad.reporting.curves import draw_loss_curves
from kdad.storage.content_store import ContentStore, Stores

_SYSTEM = "uninformed_students"


def train_teachers(
    image_set: ImageSet,
    split_table: pd.DataFrame,
    teacher_patches: pd.DataFrame,
    stores: Stores,
    compute: ComputeParameters,
    seed: int,
    **given: Any,
) -> tuple[dict[str, NetworkReference], pd.DataFrame]:
    """Check the images, then train a teacher for each receptive field, or find it trained, whatever the images.

    Returns what names each, and the loss histories.
    """
    settings = UninformedStudentsSettings.model_validate(given)
    teacher, students = settings.teacher, settings.students
    UninformedStudentsDetector.check_inputs(settings, FeatureSet(image_set, Split(split_table), {}))
    train_context = TrainContext(prepare_compute(compute), seed, ContentStore(stores.models), seed)
    trained = pretrain(teacher, students.receptive_fields, train_context, teacher_patches)
    references = {
        f"p{field}": reference_teacher(found, field, teacher, students.output_stride)
        for field, found in trained.items()
    }
    history = join_histories({f"p{field}": found.history for field, found in trained.items()})
    history.attrs["network"] = "teacher"
    return references, history


def create_teachers() -> Pipeline:
    """Train the teachers, once images and split are known to fit, and draw their losses."""
    inputs = shared("image_set", "split_table", "stores", "teacher_patches")
    inputs |= blocks(*UninformedStudentsSettings.model_fields, "compute", "seed")
    frozen, history, figure = made(_SYSTEM, "frozen", "teacher_loss_history", "teacher_loss_figure")
    nodes = [
        (train_teachers, inputs, [frozen, history], "train_teachers", "training"),
        (draw_loss_curves, {"history": history}, figure, "draw_teacher_losses", "reporting"),
    ]
    return Pipeline(
        [
            BoxedNode(function, given, outputs, name=name, tags=[tag], namespace="teachers")
            for function, given, outputs, name, tag in nodes
        ]
    )


def create_system() -> Pipeline:
    """Return the pipeline of Uninformed Students."""
    return create_taught() + create_students() + create_scoring(_SYSTEM) + reporting.create_pipeline(_SYSTEM)


def create_taught() -> Pipeline:
    """Return images and patches, and the teachers that are trained on the patches."""
    return ingestion.create_pipeline() + ingestion.create_patches() + create_teachers()


def create_students() -> Pipeline:
    """Return what the teachers see, the report on it, and the students that learn it."""
    return create_features(_SYSTEM) + ingestion.create_report(_SYSTEM) + create_fitting(_SYSTEM)
