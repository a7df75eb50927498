"""Settings of single image sets that are refused."""

import pytest
from pydantic import ValidationError

from kdad.parameters.image_sets import TextureParameters


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"test_normal": 0, "test_per_defect": 0}, "nothing to score"),
        ({"train_images": 0}, "train_images"),
        ({"defects": {"kinds": []}}, "kinds"),
        ({"defects": {"kinds": ["dent"]}}, "kinds"),
        ({"defects": {"kinds": ["hole", "blur", "hole"]}}, "names a defect twice"),
        ({"defects": {"strength": 0}}, "strength"),
        ({"defects": {"strength": 1.1}}, "strength"),
        ({"defects": {"softness": 0}}, "softness"),
        ({"defects": {"size": 0.6}}, "size"),
        ({"defects": {"strenght": 0.5}}, "did you mean 'strength'"),
    ],
)
def test_texture_settings_out_of_range(settings, message):
    with pytest.raises(ValidationError, match=message):
        TextureParameters(**settings)
