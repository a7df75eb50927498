"""Critical points: what they are, and how some of them are chosen."""

import re
from dataclasses import dataclass

from kdad.errors import InputError
from kdad.parameters.strict import PointChoice, nearest_name, split_list


@dataclass(frozen=True)
class CriticalPoint:
    """One critical point at a given image size: name, shape `(C, H, W)`, and whether activations can be negative."""

    name: str
    channels: int
    height: int
    width: int
    signed: bool

    @property
    def values(self) -> int:
        """How many numbers it has for an image."""
        return self.channels * self.height * self.width


def choose_points(choice: PointChoice | None, points: tuple[str, ...], field: str) -> list[int]:
    """Return the positions of the chosen critical points among `points`.

    A choice is ``all`` (or None), ``first N``, ``last N``, or names as a list or in words. Raises `InputError`, naming
    `field`, for a name that is not there, an empty list or a number that is too large.
    """
    if choice is None or choice == "all":
        return list(range(len(points)))
    if isinstance(choice, str):
        match = re.fullmatch(r"(first|last) ([1-9]\d*)", choice)
        names = split_list(choice)
        if match is None and names and all(name in points for name in names):
            return choose_points(names, points, field)
        if match is None:
            known = ", ".join(points)
            raise InputError(f"{field} is '{choice}'; give 'all', 'first N', 'last N' or a list of names of: {known}")
        count = int(match[2])
        if count > len(points):
            raise InputError(f"{field} is '{choice}', but there are {len(points)} critical points: {', '.join(points)}")
        return list(range(len(points)))[:count] if match[1] == "first" else list(range(len(points)))[-count:]
    if not choice:
        raise InputError(f"{field} is empty; choose from: {', '.join(points)}")
    for name in choice:
        if name not in points:
            raise InputError(f"{field}: there is no critical point '{name}'{nearest_name(name, list(points))}")
    return [position for position, name in enumerate(points) if name in choice]
