"""What a detector's frozen networks give for a known set of images."""

from dataclasses import replace

from kdad.compute import Compute
from kdad.detectors.detector import Detector
from kdad.features.cache import FeatureCache
from kdad.features.extraction import FeatureSet, obtain_class_features, obtain_features
from kdad.features.network import FrozenNetwork, NetworkReference
from kdad.parameters.strict import StrictModel
from kdad.storage.content_store import ContentStore


def extract_features(
    detector: type[Detector],
    settings: StrictModel,
    feature_set: FeatureSet,
    references: dict[str, NetworkReference],
    compute: Compute,
    store: ContentStore,
    shares_classes: bool = False,
) -> FeatureSet:
    """Return the images with what the frozen networks give for them, computed or found in the `store`.

    What `feature_set` has already is taken where it is of the same networks. With `shares_classes` the classes of
    a labelled set share one pass.
    """
    obtain = obtain_class_features if shares_classes else obtain_features
    passage = detector.passage(settings, feature_set.images.size)
    features: dict[str, FeatureCache] = {}
    for name, reference in references.items():
        known = feature_set.features.get(name)
        if known is not None and known.manifest["network"] == reference.identity:
            features[name] = known
            continue
        features[name] = obtain(
            store, FrozenNetwork(reference, compute), feature_set.images, feature_set.split, passage
        )
    return replace(feature_set, features=features)
