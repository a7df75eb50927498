"""The table of all patches or crops that a teacher sees: sampled before it is trained, and kept as a record of it."""

from typing import TYPE_CHECKING

from kdad.detectors.uninformed_students.parameters import TeacherParameters
from kdad.errors import InputError
from kdad.images.natural_pool import PATCH_ZOOM, NaturalPool
from kdad.seeding import numpy_generator

if TYPE_CHECKING:
    import pandas as pd

TRAINING, VALIDATION, EMBEDDING = "training", "validation", "embedding"
#: How many are behind the mean and standard deviation of what L_k compares with; a crop has many positions.
_MEASURED = {"patches": 1024, "dense": 64}


def sample_patches(pool: NaturalPool, parameters: TeacherParameters, receptive_fields: list[int]) -> "pd.DataFrame":
    """Return the places of every patch, or crop: receptive_field, use, epoch, and the columns of `NaturalPool.sample`.

    ``training`` ones are new in each epoch; ``validation`` ones are fixed (epoch 0), and so are those that the
    source's ``embedding`` is standardised by. A positive of L_m is moved by up to (p - 1) / 4 pixels. Raises
    `InputError` for crops smaller than a receptive field p.
    """
    import pandas as pd  # late: predicting takes none

    zoom = parameters.dense.zoom if parameters.is_dense else PATCH_ZOOM
    tables = []
    for field in receptive_fields:
        parameters.require_field(field)
        moved_by = (field - 1) / 4 / parameters.cut_size(field) if parameters.metric_weight else None
        for (use, epoch), count in _counts(parameters).items():
            generator = numpy_generator(parameters.seed, "teacher", "patches", field, use, epoch)
            places = pool.sample(count, generator, zoom, None if use == EMBEDDING else moved_by)
            tables.append(places.assign(receptive_field=field, use=use, epoch=epoch))
    joined = pd.concat(tables, ignore_index=True)
    named = joined[["receptive_field", "use", "epoch"]].astype({"use": "category"})
    return named.join(joined.drop(columns=list(named)))


def patches_of(patches: "pd.DataFrame", parameters: TeacherParameters, receptive_field: int) -> "pd.DataFrame":
    """Return the rows of one receptive field; raises `InputError` when they are not as many as the settings need."""
    own, needed = patches[patches["receptive_field"] == receptive_field], _counts(parameters)
    if own.groupby(["use", "epoch"], observed=True).size().to_dict() != needed:
        raise InputError(
            f"teacher_patches holds {len(own)} patches of receptive field {receptive_field}, and these settings need "
            f"{sum(needed.values())}; sample them anew with the pipeline 'ingestion'"
        )
    return own


def part_of(patches: "pd.DataFrame", use: str, epoch: int = 0) -> "pd.DataFrame":
    """Return the rows of one use and epoch, in their order."""
    return patches[(patches["use"] == use) & (patches["epoch"] == epoch)]


def _counts(parameters: TeacherParameters) -> dict[tuple[str, int], int]:
    """Return how many there are of each use and epoch, in the order of the table."""
    measured = {(EMBEDDING, 0): _MEASURED[parameters.distillation]} if parameters.knowledge_weight else {}
    epochs = range(parameters.training_in_use.epochs)
    training = {(TRAINING, epoch): parameters.examples_per_epoch for epoch in epochs}
    return measured | {(VALIDATION, 0): parameters.validation_examples} | training
