"""The table of all patches that a teacher sees: sampled before it is trained, and kept as a record of it."""

import pandas as pd

from kdad.detectors.uninformed_students.parameters import TeacherParameters
from kdad.errors import InputError
from kdad.images.natural_pool import NaturalPool
from kdad.seeding import numpy_generator

TRAINING, VALIDATION, EMBEDDING = "training", "validation", "embedding"
_MEASURED = 1024  # patches behind the embeddings' mean and standard deviation


def sample_patches(
    pool: NaturalPool, parameters: TeacherParameters, receptive_fields: list[int], seed: int
) -> pd.DataFrame:
    """Return the places of every patch: receptive_field, use, epoch, and the columns of `NaturalPool.sample`.

    ``training`` patches are new in each epoch; ``validation`` ones are fixed (epoch 0), and so are those that the
    source's ``embedding`` is standardised by.
    """
    triplets = parameters.metric_weight > 0
    tables = []
    for field in receptive_fields:
        for (use, epoch), count in _counts(parameters).items():
            generator = numpy_generator(seed, "teacher", "patches", field, use, epoch)
            found = pool.sample(count, field, generator, triplets and use != EMBEDDING)
            tables.append(found.assign(receptive_field=field, use=use, epoch=epoch))
    joined = pd.concat(tables, ignore_index=True)
    named = joined[["receptive_field", "use", "epoch"]].astype({"use": "category"})
    return named.join(joined.drop(columns=list(named)))


def patches_of(patches: pd.DataFrame, parameters: TeacherParameters, receptive_field: int) -> pd.DataFrame:
    """Return the rows of one receptive field; raises `InputError` when they are not as many as the settings need."""
    own = patches[patches["receptive_field"] == receptive_field]
    found = own.groupby(["use", "epoch"], observed=True).size().to_dict()
    if found != _counts(parameters):
        raise InputError(
            f"teacher_patches holds {len(own)} patches of receptive field {receptive_field}, and these settings need "
            f"{sum(_counts(parameters).values())}; sample them anew with the pipeline 'ingestion'"
        )
    return own


def part_of(patches: pd.DataFrame, use: str, epoch: int = 0) -> pd.DataFrame:
    """Return the rows of one use and epoch, in their order."""
    return patches[(patches["use"] == use) & (patches["epoch"] == epoch)]


def _counts(parameters: TeacherParameters) -> dict[tuple[str, int], int]:
    """Return how many patches there are of each use and epoch, in the order of the table."""
    measured = {(EMBEDDING, 0): _MEASURED} if parameters.knowledge_weight else {}
    training = {(TRAINING, epoch): parameters.patches_per_epoch for epoch in range(parameters.training.epochs)}
    return measured | {(VALIDATION, 0): parameters.validation_patches} | training
