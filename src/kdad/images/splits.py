"""Which normal images train and which are held out."""

from kdad.errors import InputError
from kdad.images.image_set import Sample
from kdad.seeding import derive_seed


def split_samples(samples: list[Sample], validation_fraction: float, seed: int) -> list[str]:
    """Return "train", "validation" or "test" for each sample.

    A set with a validation part of its own keeps it. Otherwise the share `validation_fraction` (at least one) of the
    training images is held out: those whose id and seed hash lowest, whatever the order of `samples`. Raises
    `InputError` when fewer than one image would be left on either side.
    """
    split: list[str] = [sample.subset for sample in samples]
    training = [position for position, subset in enumerate(split) if subset == "train"]
    if "validation" in split:
        if not training:
            raise InputError("there are no normal training images; add some")
        return split
    if len(training) < 2:
        raise InputError(f"there are {len(training)} normal training images; at least 2 are needed, one to hold out")
    held_out = min(max(round(validation_fraction * len(training)), 1), len(training) - 1)
    training.sort(key=lambda position: (derive_seed(seed, "split", samples[position].id), samples[position].id))
    for position in training[:held_out]:
        split[position] = "validation"
    return split
