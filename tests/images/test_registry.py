"""Each name opens its set."""

import numpy as np
import pytest

from kdad.images.registry import open_image_set
from kdad.parameters.dataset import DatasetParameters


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"name": "textures", "category": "grass", "image_size": 32}, "TextureSet"),
        ({"name": "digits", "normal_class": 8, "image_size": 32}, "DigitSet"),
    ],
)
def test_embedded_sets(settings, kind):
    images = open_image_set(DatasetParameters(**settings))
    assert type(images).__name__ == kind
    assert images.name == settings["name"]
    assert images.size == images.image(0).shape[1:] == (32, 32)
    assert images.image(0).dtype == np.float32


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "folder"])
def test_sets_of_files_look_in_root(tmp_path, name):
    settings = {} if name == "folder" else {"normal_class": 0}
    with pytest.raises(ValueError, match=str(tmp_path)):
        open_image_set(DatasetParameters(name=name, root=str(tmp_path), image_size=32, **settings))
