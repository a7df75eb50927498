"""A predictor that many clients ask at once: images made ready in one thread, predicted in another, in batches."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import isnan
from time import monotonic
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image

from kdad.detectors.predictor import Prediction, Predictor, colour_limits_of
from kdad.images.files.decoding import resize_image
from kdad.parameters.blocks import ServingParameters
from kdad.reporting.heat_maps import overlay_placed, thumbnail_size
from kdad.serving.answers import answer, base64_png, naming_row
from kdad.serving.intake import ImageInput, Prepared, TooLargeError, file_of_form
from kdad.serving.table import parse_invocation

logger = logging.getLogger(__name__)

_Found = TypeVar("_Found")
_SIDE = 1024  # of pictures on the page, at most: a screen's


class Batcher:
    """Scores images `(3, H, W)` of many requests by one predictor in one thread, up to `size` at once, in their order.

    Nothing is waited for: what has come while a batch was scored is the next one. An image whose request was given up
    is left out.
    """

    def __init__(self, predictor: Predictor, size: int) -> None:
        self._predictor, self._size = predictor, size
        self._waiting: asyncio.Queue[tuple[np.ndarray, asyncio.Future]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, "predict")
        self._task: asyncio.Task | None = None

    def start(self) -> None:
        """Begin to predict, in the running event loop."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End after the batch that is being predicted."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown()

    async def predict(self, images: list[np.ndarray]) -> list[Prediction]:
        """Predict images of one request; raises what the predictor raised."""
        predictions = [asyncio.get_running_loop().create_future() for _ in images]
        for one in zip(images, predictions, strict=True):
            self._waiting.put_nowait(one)
        try:
            return [await prediction for prediction in predictions]
        finally:
            for prediction in predictions:
                prediction.cancel()

    async def _run(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < self._size and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            batch = [(image, prediction) for image, prediction in batch if not prediction.done()]
            if batch:
                await self._predict_batch(batch)

    async def _predict_batch(self, batch: list[tuple[np.ndarray, asyncio.Future]]) -> None:
        images = torch.from_numpy(np.stack([image for image, _ in batch]))
        try:
            found = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._predictor.predict_batch, images
            )
        except Exception as error:
            logger.exception("a batch of %d images could not be predicted", len(batch))
            found = [error] * len(batch)
        for (_, prediction), result in zip(batch, found, strict=True):
            if prediction.done():
                continue
            if isinstance(result, Exception):
                prediction.set_exception(result)
            else:
                prediction.set_result(result)


class Service:
    """Answers bodies of requests; raises `InputError` for those that cannot be predicted.

    Decoding takes much memory, so that one image is decoded at a time.
    """

    def __init__(self, predictor: Predictor, limits: ServingParameters) -> None:
        self.predictor, self._limits = predictor, limits
        self._intake = ImageInput(predictor, int(limits.megapixels * 1e6))
        self._batcher = Batcher(predictor, limits.batch_size)
        self._thread = ThreadPoolExecutor(1, "decode")

    def start(self) -> None:
        """Begin to predict, in the running event loop."""
        self._batcher.start()

    async def stop(self) -> None:
        """End both threads."""
        await self._batcher.stop()
        self._thread.shutdown()

    async def invoke(self, body: bytes) -> list[dict[str, Any]]:
        """Answer the rows of a body of MLflow's."""
        prepared, with_map = await self._outside(self._prepare_rows, body)
        found = await self._batcher.predict([one.image for one in prepared])
        return await self._outside(self._answer_rows, found, prepared, with_map)

    async def predict_file(self, body: bytes, kind: str, with_map: bool, with_pictures: bool) -> dict[str, Any]:
        """Answer a body of one image file, of the Content-Type `kind`; `with_pictures` adds what the page shows."""
        content = file_of_form(body, kind) if kind.lower().startswith("multipart/") else body
        prepared = await self._outside(partial(self._intake.prepare, content, keep=with_pictures))
        (prediction,) = await self._batcher.predict([prepared.image])
        return await self._outside(self._answer_file, prediction, prepared, with_map, with_pictures)

    async def _outside(self, act: Callable[..., _Found], *arguments: Any) -> _Found:
        """Do something in the thread that makes images ready; given up when its request is."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, act, *arguments)

    def _prepare_rows(self, body: bytes) -> tuple[list[Prepared], bool]:
        """Parse a body and make its images ready, so that of all that wait one at a time is unpacked."""
        until = monotonic() + self._limits.seconds
        values, with_map = parse_invocation(body)
        if len(values) > self._limits.images:
            raise TooLargeError(
                f"the request has {len(values)} images, and at most {self._limits.images} are taken; send "
                "several requests"
            )
        prepared = []
        for number, value in enumerate(values):
            if monotonic() > until:  # its request is answered already, and others wait for this thread
                raise TimeoutError
            with naming_row(number):
                prepared.append(self._intake.prepare(value))
        return prepared, with_map

    def _answer_rows(self, found: list[Prediction], prepared: list[Prepared], with_map: bool) -> list[dict[str, Any]]:
        answers = []
        for number, (prediction, one) in enumerate(zip(found, prepared, strict=True)):
            with naming_row(number):
                answers.append(answer(prediction, self.predictor, one.placement, with_map))
        return answers

    def _answer_file(
        self, prediction: Prediction, prepared: Prepared, with_map: bool, with_pictures: bool
    ) -> dict[str, Any]:
        said = answer(prediction, self.predictor, prepared.placement, with_map)
        percentile = None if isnan(prediction.percentile) else prediction.percentile
        return said | {"percentile": percentile} | (show(prepared, prediction, self.predictor) if with_pictures else {})


def show(prepared: Prepared, prediction: Prediction, predictor: Predictor) -> dict[str, Any]:
    """Return ``picture`` and ``heat``, PNGs in base64, the latter None without a map; and the image's own size."""
    original = prepared.original
    height, width = original.shape[1:]
    across, down = thumbnail_size(width, height, _SIDE)
    small = resize_image(original, (down, across))
    picture = Image.fromarray(np.rint(np.moveaxis(small, 0, -1) * 255).astype(np.uint8))
    said = {"height": height, "width": width, "picture": base64_png(picture), "heat": None}
    if prediction.map is not None:
        limits = predictor.colour_limits or colour_limits_of(prediction.map)
        placement = prepared.placement.of_size(down, across)
        said["heat"] = base64_png(overlay_placed(small, prediction.map, limits, placement))
    return said
