"""A stack of anomaly maps as two flat sets of values: those of normal and those of anomalous pixels."""

from collections.abc import Iterator, Sequence

import numpy as np

from kdad.errors import InputError
from kdad.storage.large_arrays import zeros

#: A stack `(N, H, W)`, or N images `(H, W)` of sizes of their own.
Pictures = np.ndarray | Sequence[np.ndarray]
_CHUNK = 1 << 20  # values looked at at once


def split_values(masks: Pictures, maps: Pictures) -> tuple[np.ndarray, np.ndarray]:
    """Return the map values of normal and of anomalous pixels, each flat and in the order of the stack.

    `masks` are non-zero where anomalous; of `maps`, of the same sizes, larger is more anomalous; it may be a memmap.
    Raises `InputError` when shapes differ, a value is not finite, or all pixels are of one kind.
    """
    check_shapes(masks, maps)
    anomalous_count, pixels = sum(int(np.count_nonzero(mask)) for mask in masks), sum(mask.size for mask in masks)
    if anomalous_count in (0, pixels):
        kind = "anomalous" if anomalous_count == 0 else "normal"
        raise InputError(f"the masks leave no {kind} pixel; give masks with pixels of both kinds")
    dtype = maps.dtype if isinstance(maps, np.ndarray) else np.float32
    anomalous, normal = zeros([anomalous_count], dtype), zeros([pixels - anomalous_count], dtype)
    # Image by image into arrays of the final size, so that nothing as large as the stack is held twice.
    normal_end = anomalous_end = 0
    for position, (marked, anomaly_map) in enumerate(zip(masks, maps, strict=True)):
        check_finite(anomaly_map, position)
        mask = marked.astype(bool, copy=False)
        if mask.shape != anomaly_map.shape:
            raise InputError(f"mask {position} has shape {mask.shape} and its map {anomaly_map.shape}; make them equal")
        inside, outside = anomaly_map[mask], anomaly_map[~mask]
        anomalous[anomalous_end : anomalous_end + inside.size] = inside
        normal[normal_end : normal_end + outside.size] = outside
        anomalous_end, normal_end = anomalous_end + inside.size, normal_end + outside.size
    return normal, anomalous


def in_chunks(values: np.ndarray) -> Iterator[np.ndarray]:
    """Yield flat values in parts, each small enough for what is made of it to be held in memory."""
    return (values[start : start + _CHUNK] for start in range(0, values.size, _CHUNK))


def check_shapes(masks: Pictures, maps: Pictures) -> None:
    """Raise `InputError` unless both are `(N, H, W)` with the same sizes, or as many images."""
    if not isinstance(masks, np.ndarray) or not isinstance(maps, np.ndarray):
        if len(masks) != len(maps):
            raise InputError(f"there are {len(masks)} masks and {len(maps)} maps; give as many of both")
    elif masks.ndim != 3 or masks.shape != maps.shape:
        raise InputError(
            f"masks have shape {masks.shape} and maps {maps.shape}; both must be (images, height, width) and the same"
        )


def check_finite(anomaly_map: np.ndarray, position: int) -> None:
    """Raise `InputError` that names the map's position in the stack when a value is not finite."""
    if not np.isfinite(anomaly_map).all():
        raise InputError(f"map {position} holds values that are not finite; make all of them finite numbers")
