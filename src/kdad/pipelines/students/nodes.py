"""Nodes of the pipeline `students`."""

import json
import time
from pathlib import Path
from typing import Any

import pandas as pd

from kdad import __version__
from kdad.compute import prepare_compute
from kdad.content_store import ContentStore, content_key
from kdad.detectors.uninformed_students.parameters import StudentParameters, TeacherParameters
from kdad.detectors.uninformed_students.students import train_students as train_ensemble
from kdad.detectors.uninformed_students.teacher_file import load_teacher
from kdad.features.image_descriptors import ImageDescriptors, check_images, open_descriptors
from kdad.images.natural_pool import NaturalPool
from kdad.images.registry import open_image_set
from kdad.networks.weights_file import NetworkWeights, NetworkWeightsDataset
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.source import ComputeParameters
from kdad.training.checkpoints import CheckpointFile


def check_inputs(
    split_table: pd.DataFrame, dataset: dict[str, Any], teacher: dict[str, Any], students: dict[str, Any]
) -> bool:
    """Check image size, split and natural images before a teacher is trained; raises `InputError`."""
    size = DatasetParameters(**dataset).size
    check_images(split_table, size, StudentParameters(**students).receptive_fields)
    NaturalPool(TeacherParameters(**teacher).pool)
    return True


def describe_images(
    split_table: pd.DataFrame,
    teachers: dict[str, Any],
    folder: Path,
    dataset: dict[str, Any],
    teacher: dict[str, Any],
    students: dict[str, Any],
    compute: dict[str, Any],
    every_class: Path | None = None,
) -> dict[str, Any]:
    """Run each teacher once over every image and measure its descriptors; returns where they lie, and of what.

    With the folder `every_class` it runs once over all classes of the labelled set that the images are of.
    """
    found = {}
    for field, trained in teachers.items():
        started = time.perf_counter()
        stride = StudentParameters(**students).output_stride
        name = content_key(teacher=trained["key"], stride=stride, size=DatasetParameters(**dataset).size)
        place, shared = folder / name, every_class and every_class / name
        opened = reopen_descriptors(
            split_table, trained, str(place), field, dataset, teacher, students, compute, shared
        )
        images = content_key(images=split_table[["id", "fingerprint", "split"]].to_csv())
        facts = {"folder": str(place), "images": images, "cached": opened.cache is not None}
        found[field] = {**facts, "seconds": time.perf_counter() - started}
    return found


def reopen_descriptors(
    split_table: pd.DataFrame,
    trained: dict[str, Any],
    folder: str,
    field: str,
    dataset: dict[str, Any],
    teacher: dict[str, Any],
    students: dict[str, Any],
    compute: dict[str, Any],
    every_class: Path | None = None,
) -> ImageDescriptors:
    """Open the descriptors of one receptive field with the teacher that made them; raises `InputError` without it."""
    chosen = prepare_compute(ComputeParameters(**compute))
    wanted = TeacherParameters(**teacher)
    network = load_teacher(Path(trained["file"]), int(field), wanted.depth, wanted.width)
    images = open_image_set(DatasetParameters(**dataset))
    parameters = StudentParameters(**students)
    return open_descriptors(Path(folder), images, split_table, network, trained["key"], parameters, chosen, every_class)


def train_students(
    split_table: pd.DataFrame,
    teachers: dict[str, Any],
    descriptors: dict[str, Any],
    folder: Path,
    dataset: dict[str, Any],
    teacher: dict[str, Any],
    students: dict[str, Any],
    compute: dict[str, Any],
    seed: int,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Train the ensemble of each receptive field, or find it trained on these descriptors with these settings.

    Returns each one's file, key and cost, and the loss histories.
    """
    parameters = StudentParameters(**students)
    width = TeacherParameters(**teacher).width
    store = ContentStore(folder)
    found, histories = {}, []
    for field, trained in teachers.items():
        described = descriptors[field]
        key = content_key(
            teacher=trained["key"],
            images=described["images"],
            size=DatasetParameters(**dataset).size,
            students=parameters.model_dump(exclude={"receptive_fields", "descriptors"}),
            seed=seed,
            version=__version__,
        )

        def build(place: Path, field: str = field, key: str = key, trained=trained, described=described) -> None:
            opened = reopen_descriptors(
                split_table, trained, described["folder"], field, dataset, teacher, students, compute
            )
            started = time.perf_counter()
            checkpoint = CheckpointFile(place / "students.checkpoint", key)
            ensemble, history = train_ensemble(opened, split_table, width, parameters, seed, checkpoint)
            facts = {"kind": "students", "receptive_field": field, "teacher": trained["key"], "key": key}
            weights = NetworkWeights(ensemble.state_dict(), facts)
            NetworkWeightsDataset(filepath=str(place / "students.safetensors")).save(weights)
            history.to_csv(place / "loss_history.csv", index=False)
            cost = {
                "seconds": time.perf_counter() - started,
                "parameters": sum(parameter.numel() for parameter in ensemble.parameters()),
            }
            (place / "cost.json").write_text(json.dumps(cost))
            checkpoint.clear()

        place, reused = store.obtain(key, build)
        cost = json.loads((place / "cost.json").read_text())
        found[field] = {"file": str(place / "students.safetensors"), "key": key, "reused": reused, **cost}
        history = pd.read_csv(place / "loss_history.csv")
        histories.append(history.assign(term=f"p{field}." + history["term"]))
    return found, pd.concat(histories, ignore_index=True)
