"""What each member of a committee counts for: less, the more it has learnt its training images by heart."""

#: How fast a member loses weight with the factor by which it judges training images too well.
_DISTRUST = 12


def generalisation_weights(held_out: dict[str, float], training: dict[str, float]) -> dict[str, float]:
    """Return each member's weight in (0, 1], that of the one that generalises best being 1.

    `held_out` and `training` are the means of a member's maps over held-out and over training images, by its name. With
    a their ratio, where it is above 1, a weight is (a_best / a)^12: a Gaussian at each position of a hundred images
    that never lie the same way has a = 1.5, MKD 1.15, so that it counts for a twentieth; of images that do, it has
    a = 1.07, MKD 1.01, and counts for a half.
    Maps whose mean is not above 0 have been standardised already and have no such ratio, which is taken as 1.
    """
    ratios = {
        name: max(mean / training[name], 1.0) if min(mean, training[name]) > 0 else 1.0
        for name, mean in held_out.items()
    }
    best = min(ratios.values())
    return {name: (best / ratio) ** _DISTRUST for name, ratio in ratios.items()}
