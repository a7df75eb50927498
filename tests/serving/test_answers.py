"""What is said of an image, and its map as a picture."""

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from kdad.detectors.predictor import Prediction
from kdad.errors import InputError
from kdad.images.files.fitting import Alignment, Preparation, place, turn
from kdad.serving.intake import ImageInput
from kdad.serving.service import show
from kdad.serving.table import answer, map_picture, naming_row, predict_table

HALF = np.repeat([[0.0, 1.0]], 8, axis=0).repeat(4, axis=1)  # the right half anomalous


def _prediction(score: float = 0.7, anomaly_map: np.ndarray | None = HALF) -> Prediction:
    return Prediction(score, 0.5, score > 0.5, 1.0, anomaly_map)


def test_numbers_alone_and_with_a_map(predictor):
    whole = place((8, 8), (8, 8), "resize")
    assert answer(_prediction(), predictor, whole, False) == {"score": 0.7, "threshold": 0.5, "decision": 1}
    content = base64.b64decode(answer(_prediction(), predictor, whole, True)["map"])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), HALF * 255)
    assert answer(_prediction(anomaly_map=None), predictor, whole, True)["map"] is None


def test_limits_are_the_predictors(predictor):
    predictor.colour_limits = (0.5, 2.5)
    found = np.asarray(map_picture(HALF, predictor, place((8, 8), (8, 8), "resize")))
    assert set(found.reshape(-1).tolist()) == {0, 64}  # a quarter of 255, rounded


def test_a_map_lies_over_the_image_that_was_sent(predictor):
    assert map_picture(HALF, predictor, place((20, 30), (8, 8), "resize")).size == (30, 20)
    letterbox = np.asarray(map_picture(np.ones((8, 8)), predictor, place((8, 16), (8, 8), "letterbox")))
    np.testing.assert_array_equal(letterbox, np.full((8, 16), 255))
    crop = np.asarray(map_picture(np.ones((8, 8)), predictor, place((8, 16), (8, 8), "centre_crop")))
    np.testing.assert_array_equal(crop[:, 4:12], 255)
    np.testing.assert_array_equal(np.delete(crop, range(4, 12), axis=1), 0)


@pytest.mark.parametrize("prediction", [_prediction(float("nan")), _prediction(0.1, np.full((8, 8), np.inf))])
def test_what_is_not_finite_is_an_error(predictor, prediction):
    with pytest.raises(InputError, match="not finite"):
        answer(prediction, predictor, place((8, 8), (8, 8), "resize"), False)


def test_an_error_names_its_row_and_keeps_its_kind():
    class OtherError(InputError):
        pass

    with pytest.raises(OtherError, match="row 3: wrong"), naming_row(3):
        raise OtherError("wrong")


def test_maps_of_turned_images_lie_as_the_images_that_were_sent(predictor):
    """The map is the image's own brightness: turned to be predicted, it must come back, whoever asks."""
    y, x = np.indices((48, 48)) - 23.5
    grey = np.clip(0.2 + np.exp(-(y**2 + x**2) / 200) + x / 80, 0, 1)
    reference = np.broadcast_to(grey, (3, 48, 48)).astype(np.float32)
    image = np.rint(turn(reference, 120)[0] * 255).astype(np.uint8)
    predictor.size, predictor.preparation = (48, 48), Preparation(alignment=Alignment.of([reference]))
    inner = np.hypot(y, x) < 20

    def unlike(anomaly_map):
        return np.abs(np.asarray(anomaly_map, float) - image / 255)[inner].mean()

    prepared = ImageInput(predictor).prepare(image, keep=True)
    assert np.abs(prepared.image - reference)[:, inner].mean() < 0.02 < unlike(prepared.image[0])
    assert unlike(predictor.predict(image).map) < 0.02
    said = predict_table(predictor, np.repeat(image[None, ..., None], 3, axis=3), with_map=True)["map"][0]
    assert unlike(np.asarray(Image.open(io.BytesIO(base64.b64decode(said)))) / 255) < 0.02
    (raw,) = predictor.predict_batch(torch.from_numpy(prepared.image[None]))
    plain = replace(prepared, placement=place((48, 48), (48, 48), "resize"))
    heat, expected, unturned = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(show(one, prediction, predictor)["heat"]))), float)[inner]
        for one, prediction in (
            (prepared, raw),
            (plain, replace(raw, map=(image / 255).astype(np.float32))),
            (plain, raw),
        )
    )
    assert np.abs(heat - expected).mean() < 4 < np.abs(unturned - expected).mean()
