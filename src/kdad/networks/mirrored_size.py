"""How small an image may be whose borders are mirrored for a receptive field; without a network imported."""


def smallest_image(patch_size: int) -> int:
    """Return how many pixels a side an image needs: more than half a patch, which is what is mirrored."""
    return patch_size // 2 + 1
