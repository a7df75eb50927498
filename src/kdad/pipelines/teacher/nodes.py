"""Nodes of the pipeline `teacher`."""

import json
import time
from pathlib import Path
from typing import Any

import pandas as pd

from kdad import __version__
from kdad.compute import prepare_compute
from kdad.content_store import ContentStore, content_key
from kdad.detectors.uninformed_students.parameters import StudentParameters, TeacherParameters
from kdad.detectors.uninformed_students.teacher import train_teacher
from kdad.detectors.uninformed_students.teacher_file import save_teacher
from kdad.images.natural_pool import NaturalPool
from kdad.parameters.source import ComputeParameters
from kdad.training.checkpoints import CheckpointFile


def train_teachers(
    folder: Path,
    teacher: dict[str, Any],
    students: dict[str, Any],
    compute: dict[str, Any],
    seed: int,
    checked: bool = True,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Train a teacher for each receptive field, or find it trained with these settings, whatever the category.

    Returns each one's file, key, cost and whether it was there, and the loss histories.
    """
    parameters = TeacherParameters(**teacher)
    chosen = prepare_compute(ComputeParameters(**compute))
    pool = NaturalPool(parameters.pool)
    store = ContentStore(folder)
    teachers, histories = {}, []
    for patch_size in StudentParameters(**students).receptive_fields:
        key = content_key(
            teacher=parameters.model_dump(exclude={"pool"}),
            pool=pool.fingerprint(),
            receptive_field=patch_size,
            seed=seed,
            version=__version__,
            **chosen.describe(),
        )

        def build(place: Path, patch_size: int = patch_size, key: str = key) -> None:
            started = time.perf_counter()
            checkpoint = CheckpointFile(place / "teacher.checkpoint", key)
            network, history = train_teacher(patch_size, pool, parameters, chosen, seed, checkpoint)
            save_teacher(place / "teacher.safetensors", network, parameters.width, key)
            history.to_csv(place / "loss_history.csv", index=False)
            (place / "cost.json").write_text(json.dumps({"seconds": time.perf_counter() - started}))
            checkpoint.clear()

        place, reused = store.obtain(key, build)
        cost = json.loads((place / "cost.json").read_text())
        teachers[str(patch_size)] = {"file": str(place / "teacher.safetensors"), "key": key, "reused": reused, **cost}
        history = pd.read_csv(place / "loss_history.csv")
        histories.append(history.assign(term=f"p{patch_size}." + history["term"]))
    return teachers, pd.concat(histories, ignore_index=True)
