"""A stack of anomaly maps as two flat sets of values: those of normal and those of anomalous pixels."""

import numpy as np

from kdad.errors import InputError


def split_values(masks: np.ndarray, maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the map values of normal and of anomalous pixels, each flat and in the order of the stack.

    `masks` are `(N, H, W)`, non-zero where anomalous; `maps` `(N, H, W)`, larger is more anomalous, may be a memmap.
    Raises `InputError` when shapes differ, a value is not finite, or all pixels are of one kind.
    """
    check_shapes(masks, maps)
    anomalous_count = int(np.count_nonzero(masks))
    if anomalous_count in (0, masks.size):
        kind = "anomalous" if anomalous_count == 0 else "normal"
        raise InputError(f"the masks leave no {kind} pixel; give masks with pixels of both kinds")
    anomalous = np.empty(anomalous_count, maps.dtype)
    normal = np.empty(masks.size - anomalous_count, maps.dtype)
    # Image by image into arrays of the final size, so that nothing as large as the stack is held twice.
    normal_end = anomalous_end = 0
    for position, (mask, anomaly_map) in enumerate(zip(masks.astype(bool, copy=False), maps, strict=True)):
        check_finite(anomaly_map, position)
        inside, outside = anomaly_map[mask], anomaly_map[~mask]
        anomalous[anomalous_end : anomalous_end + inside.size] = inside
        normal[normal_end : normal_end + outside.size] = outside
        anomalous_end, normal_end = anomalous_end + inside.size, normal_end + outside.size
    return normal, anomalous


def check_shapes(masks: np.ndarray, maps: np.ndarray) -> None:
    """Raise `InputError` unless both are `(N, H, W)` with the same sizes."""
    if masks.ndim != 3 or masks.shape != maps.shape:
        raise InputError(
            f"masks have shape {masks.shape} and maps {maps.shape}; both must be (images, height, width) and the same"
        )


def check_finite(anomaly_map: np.ndarray, position: int) -> None:
    """Raise `InputError` that names the map's position in the stack when a value is not finite."""
    if not np.isfinite(anomaly_map).all():
        raise InputError(f"map {position} holds values that are not finite; make all of them finite numbers")
