"""What a detector's frozen networks give for a known set of images."""

from dataclasses import replace

from kdad.compute import Compute
from kdad.detectors.detector import Detector
from kdad.features.cache import FeatureCache
from kdad.features.extraction import FeatureSet, obtain_class_features, obtain_features
from kdad.features.network import FrozenNetwork, FrozenReference
from kdad.parameters.strict import StrictModel
from kdad.storage.content_store import ContentStore


def see(
    detector: type[Detector],
    settings: StrictModel,
    seen: FeatureSet,
    references: dict[str, FrozenReference],
    compute: Compute,
    store: ContentStore,
    shares_classes: bool = False,
) -> FeatureSet:
    """Return the images with what the frozen networks give for them, computed or found in the `store`.

    What `seen` has already is taken where it is of the same networks. With `shares_classes` the classes of a labelled
    set share one pass.
    """
    obtain = obtain_class_features if shares_classes else obtain_features
    passage = detector.passage(settings, seen.images.size)
    features: dict[str, FeatureCache] = {}
    for name, reference in references.items():
        known = seen.features.get(name)
        if known is not None and known.manifest["network"] == reference.identity:
            features[name] = known
            continue
        features[name] = obtain(store, FrozenNetwork(reference, compute), seen.images, seen.split, passage)
    return replace(seen, features=features)
