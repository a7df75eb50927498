"""Images that wait together are judged together."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from kdad.detectors.predictor import Prediction, Predictor

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Waiting:
    image: np.ndarray
    prediction: asyncio.Future


class Batcher:
    """Judges images `(3, H, W)` of many requests by one judge in one thread, up to `size` at once, in their order.

    Nothing is waited for: what has come while a batch was judged is the next one. An image whose request was given up
    is left out.
    """

    def __init__(self, predictor: Predictor, size: int) -> None:
        self._judge, self._size = predictor, size
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, "judge")
        self._task: asyncio.Task | None = None

    def start(self) -> None:
        """Begin to judge, in the running event loop."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End after the batch that is being judged."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown()

    async def predict(self, images: list[np.ndarray]) -> list[Prediction]:
        """Judge images of one request; raises what the judge raised."""
        waiting = [_Waiting(image, asyncio.get_running_loop().create_future()) for image in images]
        for one in waiting:
            self._waiting.put_nowait(one)
        try:
            return [await one.prediction for one in waiting]
        finally:
            for one in waiting:
                one.prediction.cancel()

    async def _run(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < self._size and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            batch = [one for one in batch if not one.prediction.done()]
            if batch:
                await self._predict_batch(batch)

    async def _predict_batch(self, batch: list[_Waiting]) -> None:
        images = torch.from_numpy(np.stack([one.image for one in batch]))
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._thread, self._judge.predict_batch, images)
        except Exception as error:
            logger.exception("a batch of %d images could not be judged", len(batch))
            for one in batch:
                if not one.prediction.done():
                    one.prediction.set_exception(error)
            return
        for one, prediction in zip(batch, found, strict=True):
            if not one.prediction.done():
                one.prediction.set_result(prediction)
