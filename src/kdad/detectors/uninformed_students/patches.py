"""The table of all patches that a teacher sees: sampled before it is trained, and kept as a record of it."""

import pandas as pd

from kdad.detectors.uninformed_students.parameters import TeacherParameters
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
    uses = [(EMBEDDING, 0, _MEASURED, False)] if parameters.knowledge_weight else []
    uses.append((VALIDATION, 0, parameters.validation_patches, triplets))
    uses += [(TRAINING, epoch, parameters.patches_per_epoch, triplets) for epoch in range(parameters.training.epochs)]
    tables = []
    for field in receptive_fields:
        for use, epoch, count, as_triplets in uses:
            generator = numpy_generator(seed, "teacher", "patches", field, use, epoch)
            found = pool.sample(count, field, generator, as_triplets)
            tables.append(found.assign(receptive_field=field, use=use, epoch=epoch))
    joined = pd.concat(tables, ignore_index=True)
    named = joined[["receptive_field", "use", "epoch"]].astype({"use": "category"})
    return named.join(joined.drop(columns=list(named)))


def part_of(patches: pd.DataFrame, use: str, epoch: int = 0) -> pd.DataFrame:
    """Return the rows of one use and epoch, in their order."""
    return patches[(patches["use"] == use) & (patches["epoch"] == epoch)]
