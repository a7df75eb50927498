"""Nodes of the pipeline `teacher`."""

import pandas as pd

from kdad.compute import prepare_compute
from kdad.detectors.detector import TrainContext
from kdad.detectors.uninformed_students.detector import UninformedStudentsDetector
from kdad.detectors.uninformed_students.parameters import (
    StudentParameters,
    StudentScoringParameters,
    TeacherParameters,
    UninformedStudentsSettings,
)
from kdad.detectors.uninformed_students.teacher import join_histories, pretrain, reference_teacher
from kdad.features.extraction import FeatureSet
from kdad.features.network import NetworkReference
from kdad.images.image_set import ImageSet
from kdad.images.splits import Split
from kdad.parameters.compute import ComputeParameters
from kdad.storage.content_store import ContentStore, Stores


def train_teachers(
    image_set: ImageSet,
    split_table: pd.DataFrame,
    teacher_patches: pd.DataFrame,
    teacher: TeacherParameters,
    students: StudentParameters,
    student_scoring: StudentScoringParameters,
    stores: Stores,
    compute: ComputeParameters,
    seed: int,
) -> tuple[dict[str, NetworkReference], pd.DataFrame]:
    """Check the images, then train a teacher for each receptive field, or find it trained, whatever the images.

    Returns what names each, and the loss histories.
    """
    settings = UninformedStudentsSettings(teacher=teacher, students=students, student_scoring=student_scoring)
    UninformedStudentsDetector.check_inputs(settings, FeatureSet(image_set, Split(split_table), {}))
    train_context = TrainContext(prepare_compute(compute), seed, ContentStore(stores.models), seed)
    trained = pretrain(teacher, students.receptive_fields, train_context, teacher_patches)
    references = {
        f"p{field}": reference_teacher(found, field, teacher, students.output_stride)
        for field, found in trained.items()
    }
    history = join_histories({field: found.history for field, found in trained.items()})
    history.attrs["network"] = "teacher"
    return references, history
