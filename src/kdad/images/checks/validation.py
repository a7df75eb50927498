"""Refusing an image set that cannot be used, before anything is computed."""

from kdad.errors import InputError
from kdad.images.image_set import ImageSet

_SHOWN = 20


def check_images(images: ImageSet) -> None:
    """Raise one `InputError` that lists all problems of an image set, the first 20 in full."""
    problems = images.problems()
    if not problems:
        return
    lines = problems[:_SHOWN]
    if len(problems) > _SHOWN:
        lines.append(f"and {len(problems) - _SHOWN} more")
    raise InputError(f"the image set {images.name} / {images.category} cannot be used:\n  " + "\n  ".join(lines))
