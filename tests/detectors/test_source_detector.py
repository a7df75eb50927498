"""What systems of one source have in common."""

from kdad.detectors.baselines.parameters import BaselineSettings
from kdad.detectors.source_detector import SourceDetector
from kdad.features.extraction import FeatureSet


def test_the_source_of_the_settings_is_the_one_frozen_network(images, split, train_context):
    settings = BaselineSettings(
        source={"name": "timm:test_resnet", "weights": "random", "critical_points": ["stage2", "stage1"]},
        features={"batch_size": 5},
        baselines={"methods": {"position_gaussian": {"detector": "position_gaussian"}}},
    )
    found = SourceDetector.frozen_networks(settings, FeatureSet(images, split, {}), train_context)
    assert list(found) == ["source"]
    assert (found["source"].name, found["source"].critical_points) == ("timm:test_resnet", ["stage1", "stage2"])
    assert SourceDetector.passage(settings, images.size).batch_size == 5
