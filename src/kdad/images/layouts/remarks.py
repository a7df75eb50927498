"""What a layout and its masks were understood to be, in words."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kdad.images.files.mask_files import MaskFacts
from kdad.images.layouts.files import count_reasons
from kdad.images.layouts.layout import Layout

_SHOWN = 8


def describe_layout(layout: Layout, base: Path) -> list[tuple[str, str]]:
    """Say how files lie, which names were taken as normal and anomalous, what was decided, what is not used and why."""
    remarks = [("layout", f"{layout.name}, in {base}")]
    for title, normal in (("taken as normal", True), ("taken as anomalous", False)):
        called = Counter(file.called or "no folder" for file in layout.images if file.is_normal == normal)
        said = [f"{count} by '{name}'" for name, count in called.most_common(_SHOWN)]
        more = [f"and {len(called) - _SHOWN} more names"] if len(called) > _SHOWN else []
        remarks.append((title, ", ".join(said + more) or "none"))
    remarks += [("note", note) for note in layout.notes]
    not_used = [
        f"{count} x {reason}, such as {path.relative_to(base).as_posix()}"
        for reason, count, path in count_reasons(layout.unused)
    ]
    return [*remarks, ("not used", "; ".join(not_used) or "nothing: every file below it is used")]


def describe_masks(layout: Layout, masks: dict[int, MaskFacts]) -> tuple[str, str]:
    """Say how many anomalous images have masks, and what is unusual about them; `masks` are those that were read."""
    anomalous = [file for file in layout.images if not file.is_normal]
    masked = sum(bool(file.masks) for file in anomalous)
    if not anomalous:
        return "masks", "none are needed: no image is anomalous"
    if not masked:
        return "masks", f"none for {len(anomalous)} anomalous images"
    found = masks.values()
    counted = {
        "of several files": sum(len(file.masks) > 1 for file in anomalous),
        "empty in their files, so that their images are left out of pixel metrics": sum(not m.share for m in found),
        "that vanish at the model's size": sum(m.share > 0 and not m.resized_share for m in found),
        "of the whole image": sum(m.share == 1 for m in found),
        "of more than half of it": sum(0.5 < m.share < 1 for m in found),
    }
    unusual = [f"{count} {what}" for what, count in counted.items() if count]
    without = len(anomalous) - masked
    said = [f"matched for {masked} of {len(anomalous)} anomalous images", *unusual]
    return "masks", "; ".join(said + ([f"{without} have none, and are left out of pixel metrics"] if without else []))


def ask_for_inverted(layout: Layout, masks: dict[int, MaskFacts]) -> list[str]:
    """Return a question, as a problem, when at least half of the masks mark most of their image up to its corners."""
    partial = [index for index, found in masks.items() if 0 < found.share < 1]
    inverted = [index for index in partial if masks[index].looks_inverted]
    if not inverted or 2 * len(inverted) < len(partial):
        return []
    share = sum(masks[index].share for index in inverted) / len(inverted)
    return [
        f"{layout.images[inverted[0]].masks[0]}: this and {len(inverted) - 1} more of {len(masks)} masks mark "
        f"{share:.0%} of their image, corners and all; which pixels are anomalous? Say it: "
        "dataset.layout.anomalous_in_masks=dark where masks are black on white, or bright if they are right as they are"
    ]


def ask_for_masks(layout: Layout, two_valued: set[int], known: Sequence[str]) -> list[str]:
    """Return questions, as problems, about kinds whose images hold two values each, as masks do, and normal ones many.

    `two_valued` are the rows of such images, `known` the names that were said to be of anomalous images.
    """
    rows: dict[str, list[int]] = {}
    for row, file in enumerate(layout.images):
        if file.is_normal and row in two_valued:
            return []
        if file.called is not None and not file.is_normal and file.called not in known:
            rows.setdefault(file.called, []).append(row)
    return [
        f"{layout.images[own[0]].path}: this and the {len(own) - 1} other images of '{called}' hold two values each, "
        f"as masks do; are they masks? Say it: dataset.layout.masks=['{called}'], or, if they are images of a kind, "
        f"dataset.layout.anomalous=['{called}']"
        for called, own in sorted(rows.items())
        if two_valued.issuperset(own)
    ]
