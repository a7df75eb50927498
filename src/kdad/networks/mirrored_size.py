"""How small an image may be whose borders are mirrored for a receptive field; without a network imported."""

from kdad.errors import InputError


def smallest_image(patch_size: int) -> int:
    """Return how many pixels a side an image needs: more than half a patch, which is what is mirrored."""
    return patch_size // 2 + 1


def check_size(size: tuple[int, int], patch_size: int) -> None:
    """Raise `InputError` for images of (H, W) pixels below `smallest_image`."""
    if min(size) < smallest_image(patch_size):
        raise InputError(
            f"images of {size[0]} x {size[1]} pixels are too small for the receptive field {patch_size}, which needs "
            f"{smallest_image(patch_size)} a side; set a larger dataset.image_size, or leave {patch_size} out of "
            "students.receptive_fields"
        )
