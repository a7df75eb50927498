"""A judge that many clients ask at once: images made ready in one thread, judged in another."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import isnan
from time import monotonic
from typing import Any, TypeVar

from kdad.detectors.prediction import Prediction
from kdad.detectors.predictor import Predictor
from kdad.parameters.blocks import ServingParameters
from kdad.serving.answers import answer, naming_row
from kdad.serving.batching import Batcher
from kdad.serving.intake import ImageInput, Prepared, TooLargeError
from kdad.serving.invocations import parse_invocation
from kdad.serving.pictures import show

_Found = TypeVar("_Found")


class Service:
    """Answers bodies of requests; raises `InputError` for those that cannot be judged.

    Decoding takes much memory, so that one image is decoded at a time.
    """

    def __init__(self, predictor: Predictor, limits: ServingParameters) -> None:
        self.predictor, self._limits = predictor, limits
        self._intake = ImageInput(predictor, int(limits.megapixels * 1e6))
        self._batcher = Batcher(predictor, limits.batch_size)
        self._thread = ThreadPoolExecutor(1, "decode")

    def start(self) -> None:
        """Begin to judge, in the running event loop."""
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

    async def predict_file(self, content: bytes, with_map: bool, with_pictures: bool) -> dict[str, Any]:
        """Answer the content of one image file; `with_pictures` adds what the page shows of it."""
        prepared = await self._outside(partial(self._intake.prepare, content, keep=with_pictures))
        (prediction,) = await self._batcher.predict([prepared.image])
        return await self._outside(self._answer_file, prediction, prepared, with_map, with_pictures)

    async def _outside(self, act: Callable[..., _Found], *arguments: Any) -> _Found:
        """Do something in the thread that makes images ready; given up when its request is."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, act, *arguments)

    def _prepare_rows(self, body: bytes) -> tuple[list[Prepared], bool]:
        """Parse a body and make its images ready, so that of all that wait one at a time is unpacked."""
        invocation, until = parse_invocation(body), monotonic() + self._limits.seconds
        if len(invocation.values) > self._limits.images:
            raise TooLargeError(
                f"the request has {len(invocation.values)} images, and at most {self._limits.images} are taken; send "
                "several requests"
            )
        prepared = []
        for number, value in enumerate(invocation.values):
            if monotonic() > until:  # its request is answered already, and others wait for this thread
                raise TimeoutError
            with naming_row(number):
                prepared.append(self._intake.prepare(value))
        return prepared, invocation.with_map

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
