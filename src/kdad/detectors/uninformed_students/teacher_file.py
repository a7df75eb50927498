"""A trained teacher as a file: what it holds, and refusing one that is missing or another's."""

from pathlib import Path

from kdad.errors import InputError
from kdad.networks.patch_descriptor import PatchDescriptor
from kdad.networks.weights_file import NetworkWeights, NetworkWeightsDataset


def save_teacher(path: Path, teacher: PatchDescriptor, width: float, key: str) -> None:
    """Write the teacher's weights with what it is: receptive field, depth, width, and the key of its training."""
    facts = {
        "kind": "teacher",
        "receptive_field": teacher.patch_size,
        "depth": teacher.depth,
        "width": width,
        "key": key,
    }
    weights = NetworkWeights(teacher.state_dict(), {name: str(value) for name, value in facts.items()})
    NetworkWeightsDataset(filepath=str(path)).save(weights)


def load_teacher(path: Path, patch_size: int, depth: int, width: float) -> PatchDescriptor:
    """Read a frozen teacher.

    Raises `InputError` when the file is missing or unreadable, is no teacher, or has another receptive field, depth or
    width than asked for.
    """
    if not path.is_file():
        raise InputError(f"there is no teacher '{path}'; run the pipeline 'teacher' first")
    try:
        weights = NetworkWeightsDataset(filepath=str(path)).load()
    except Exception as error:
        raise InputError(
            f"the teacher '{path}' cannot be read; delete it and run the pipeline 'teacher' again"
        ) from error
    wanted = {"kind": "teacher", "receptive_field": str(patch_size), "depth": str(depth), "width": str(width)}
    for name, value in wanted.items():
        if weights.metadata.get(name) != value:
            raise InputError(
                f"'{path}' is not the teacher asked for: its {name} is {weights.metadata.get(name)}, not {value}; "
                "run the pipeline 'teacher' with these settings"
            )
    teacher = PatchDescriptor(patch_size, depth, width)
    teacher.load_state_dict(weights.state)
    return teacher.requires_grad_(False).eval()
