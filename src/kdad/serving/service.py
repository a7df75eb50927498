"""Detectors that many clients ask at once: images made ready in one thread, predicted in another, in batches.

A server has several by name, each with the one before it: loaded anew, and taken back, while others ask.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from math import isnan
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import numpy as np
import torch

from kdad.detectors.detector import Detector
from kdad.detectors.predictor import Prediction, Predictor, colour_limits_of
from kdad.errors import InputError
from kdad.images.files.decoding import resize_image
from kdad.parameters.blocks import ServingParameters
from kdad.reporting.overlays import overlay_placed, picture_of, thumbnail_size
from kdad.serving.intake import ImageInput, Prepared, TooLargeError, file_of_form
from kdad.serving.metrics import ScoreCounts
from kdad.serving.records import keep_good, write_judgement
from kdad.serving.table import Wanted, add_group, answer, base64_png, naming_row, numbers_of, parse_invocation

logger = logging.getLogger(__name__)

#: What a detector is called that is the only one.
ONLY = "detector"

_Found = TypeVar("_Found")
_SIDE = 1024  # of pictures on the page, at most: a screen's


class Threads:
    """The two threads of a server: one makes images ready, one predicts, whichever detector it is for."""

    def __init__(self) -> None:
        self._decoding, self._predicting = ThreadPoolExecutor(1, "decode"), ThreadPoolExecutor(1, "predict")

    async def decode(self, act: Callable[..., _Found], *arguments: Any) -> _Found:
        """Do something in the thread that makes images ready; given up when its request is."""
        return await asyncio.get_running_loop().run_in_executor(self._decoding, act, *arguments)

    async def predict(self, act: Callable[..., _Found], *arguments: Any) -> _Found:
        """Do something in the thread that predicts."""
        return await asyncio.get_running_loop().run_in_executor(self._predicting, act, *arguments)

    def stop(self) -> None:
        """End both, after what they are at."""
        self._decoding.shutdown()
        self._predicting.shutdown()


class Batcher:
    """Scores images `(3, H, W)` of many requests by one predictor in one thread, up to `size` at once, in their order.

    It begins with the first request. Nothing is waited for: what has come while a batch was scored is the next one. An
    image whose request was given up is left out.
    """

    def __init__(self, predictor: Predictor, size: int, threads: Threads) -> None:
        self.predictor, self._size, self._threads = predictor, size, threads
        self._waiting: asyncio.Queue[tuple[np.ndarray, asyncio.Future]] = asyncio.Queue()
        self._task: asyncio.Task | None = None

    async def stop(self) -> None:
        """End after the batch that is being predicted."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def predict(self, images: list[np.ndarray]) -> list[Prediction]:
        """Predict images of one request; raises what the predictor raised."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())
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
            found = await self._threads.predict(self.predictor.predict_batch, images)
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
    """Answers bodies of requests by one detector; raises `InputError` for those that cannot be predicted.

    Decoding takes much memory, so that one image is decoded at a time. `counts` holds what was answered.
    """

    def __init__(self, predictor: Predictor, limits: ServingParameters, name: str, threads: Threads) -> None:
        self.predictor, self._limits, self._threads = predictor, limits, threads
        self.counts = ScoreCounts(predictor, name)
        self._seen = predictor.seen
        with_digests = limits.audit is not None or bool(self._seen)
        self._intake = ImageInput(predictor, int(limits.megapixels * 1e6), with_digests)
        self._batchers: dict[str | None, Batcher] = {}  # of the categories that were asked for; None: of all
        self._about = {"detector": name, "detector_digest": predictor.digest}
        self._inside, self._is_dropped = 0, False

    def version(self) -> dict[str, Any]:
        """Return which detector it is, as JSON."""
        predictor = self.predictor
        said = {"system": predictor.system, "digest": predictor.digest, "threshold": predictor.threshold.value}
        return said | {name: predictor.record.get(name) for name in ("made", "commit", "folder", "mlflow_run")}

    async def stop(self) -> None:
        """End after what is being predicted."""
        for batcher in list(self._batchers.values()):
            await batcher.stop()

    async def drop(self) -> None:
        """End when the last request that began with it is answered."""
        self._is_dropped = True
        if not self._inside:
            await self.stop()

    @asynccontextmanager
    async def used(self) -> AsyncIterator["Service"]:
        """Keep it for a request."""
        self._inside += 1
        try:
            yield self
        finally:
            self._inside -= 1
            if self._is_dropped and not self._inside:
                await self.stop()

    async def invoke(self, body: bytes) -> list[dict[str, Any]]:
        """Answer the rows of a body of MLflow's."""
        prepared, batcher, wanted = await self._threads.decode(self._prepare_rows, body)
        found = await batcher.predict([one.image for one in prepared])
        return await self._threads.decode(self._answer_rows, found, prepared, wanted, batcher.predictor)

    async def predict_file(
        self, body: bytes, kind: str, with_map: bool, with_pictures: bool, category: str | None
    ) -> dict[str, Any]:
        """Answer a body of one image file, of the Content-Type `kind`; `with_pictures` adds what the page shows."""
        prediction, prepared = await self._predict_body(body, kind, with_pictures, self._batcher(category))
        return await self._threads.decode(self._answer_file, prediction, prepared, with_map, with_pictures)

    async def teach(self, body: bytes, kind: str, who: str) -> dict[str, Any]:
        """Keep a body of one image file that somebody says is good; it counts as no prediction."""
        prediction, prepared = await self._predict_body(body, kind, True, self._batcher(None))
        prediction.require_finite()
        said = numbers_of(prediction)
        facts = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "who": who, **said, **self._about}
        name, folder = prepared.digest + prepared.suffix, Path(self._limits.teach)
        folder = folder if self._about["detector"] == ONLY else folder / self._about["detector"]
        is_new = await self._threads.decode(keep_good, folder, name, prepared.content, facts)
        return {"file": name, "new": is_new, **said}

    async def _predict_body(self, body: bytes, kind: str, keep: bool, batcher: Batcher) -> tuple[Prediction, Prepared]:
        content = file_of_form(body, kind) if kind.lower().startswith("multipart/") else body
        prepared = await self._threads.decode(partial(self._intake.prepare, content, keep=keep))
        (prediction,) = await batcher.predict([prepared.image])
        return prediction, prepared

    def _batcher(self, category: str | None) -> Batcher:
        """Return what predicts for a category; raises `InputError` for one that the detector has not."""
        if category not in self._batchers:
            predictor = self.predictor if category is None else self.predictor.for_category(category)
            self._batchers.setdefault(category, Batcher(predictor, self._limits.batch_size, self._threads))
        return self._batchers[category]

    def _prepare_rows(self, body: bytes) -> tuple[list[Prepared], Batcher, Wanted]:
        """Parse a body and make its images ready, so that of all that wait one at a time is unpacked.

        Returned with them are what predicts them, and what is wanted.
        """
        until = monotonic() + self._limits.seconds
        values, wanted = parse_invocation(body)
        batcher = self._batcher(wanted.category)
        if wanted.group:
            batcher.predictor.threshold.require_groups()
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
        return prepared, batcher, wanted

    def _answer_rows(
        self, found: list[Prediction], prepared: list[Prepared], wanted: Wanted, decider: Predictor
    ) -> list[dict[str, Any]]:
        answers = []
        for number, (prediction, one) in enumerate(zip(found, prepared, strict=True)):
            with naming_row(number):
                answers.append(answer(prediction, self.predictor, one.placement, wanted.map))
        if wanted.group:
            add_group(answers, decider.threshold)
        for prediction, one in zip(found, prepared, strict=True):
            self._note(prediction, one)
        return answers

    def _answer_file(
        self, prediction: Prediction, prepared: Prepared, with_map: bool, with_pictures: bool
    ) -> dict[str, Any]:
        said = answer(prediction, self.predictor, prepared.placement, with_map)
        self._note(prediction, prepared)
        percentile = None if isnan(prediction.percentile) else prediction.percentile
        return said | {"percentile": percentile} | (show(prepared, prediction, self.predictor) if with_pictures else {})

    def _note(self, prediction: Prediction, prepared: Prepared) -> None:
        """Count a prediction that is going to be answered, and write it to the audit log where there is one."""
        digest = prepared.digest
        if self._limits.audit is not None:
            write_judgement({"image_digest": digest, **numbers_of(prediction), **self._about})
        self.counts.add(prediction, digest is None or digest[:16] not in self._seen)


def show(prepared: Prepared, prediction: Prediction, predictor: Predictor) -> dict[str, Any]:
    """Return ``picture`` and ``heat``, PNGs in base64, the latter None without a map; and the image's own size."""
    original = prepared.original
    height, width = original.shape[1:]
    across, down = thumbnail_size(width, height, _SIDE)
    small = resize_image(original, (down, across))
    said = {"height": height, "width": width, "picture": base64_png(picture_of(small)), "heat": None}
    if prediction.map is not None:
        limits = predictor.colour_limits or colour_limits_of(prediction.map)
        placement = prepared.placement.of_size(down, across)
        heat = prediction.as_placed(placement).map
        said["heat"] = base64_png(overlay_placed(small, heat, limits, placement))
    return said


class Served:
    """The `current` services of detectors by name; the first answers where no name is given.

    `reopen` opens the detector of a name anew, from where it was opened first. A request is answered by the service
    that it began with, wholly; one that is no longer served ends when the last of them is answered.
    """

    def __init__(
        self,
        predictors: dict[str, Predictor],
        limits: ServingParameters,
        reopen: Callable[[str], Predictor] | None = None,
    ) -> None:
        self._limits, self._reopen = limits, reopen
        self._threads = Threads()
        share_frozen(list(predictors.values()))
        self.current = {name: Service(one, limits, name, self._threads) for name, one in predictors.items()}
        self._previous: dict[str, Service] = {}
        self._changing = asyncio.Lock()
        self.is_ready = False

    async def stop(self) -> None:
        """End after what is being predicted."""
        self.is_ready = False
        for service in [*self.current.values(), *self._previous.values()]:
            await service.stop()
        self._threads.stop()

    async def reload(self, name: str) -> dict[str, Any]:
        """Open a detector anew beside the one that is served, predict a known image by both, and swap them.

        Returns what both say. Raises `InputError` for one that cannot be used: the old one goes on.
        """
        async with self._changing:
            old = self.current[name]
            try:
                if self._reopen is None:
                    raise InputError("this server does not know where its detector was opened")
                predictor = await asyncio.to_thread(self._reopen, name)
                share_frozen([predictor, *(service.predictor for service in self.current.values())])
                new = Service(predictor, self._limits, name, self._threads)
                said = {"before": await self._say(old), "after": await self._say(new)}
            except InputError as error:
                raise InputError(f"'{name}' is not loaded anew, and the one before goes on: {error}") from error
            self.current[name] = new
            dropped, self._previous[name] = self._previous.get(name), old
            if dropped is not None:
                await dropped.drop()
            logger.warning("'%s' was loaded anew: %s", name, said)
            return said

    async def rollback(self, name: str) -> dict[str, Any]:
        """Swap a detector with the one that was served before; raises `InputError` where there is none."""
        async with self._changing:
            if name not in self._previous:
                raise InputError(f"'{name}' has not been loaded anew since the server began, so that there is no other")
            old, new = self.current[name], self._previous[name]
            said = {"before": await self._say(old), "after": await self._say(new)}
            self.current[name], self._previous[name] = new, old
            logger.warning("'%s' was taken back: %s", name, said)
            return said

    async def _say(self, service: Service) -> dict[str, Any]:
        """Return which detector a service has, and what it says of an image that is always the same."""
        predictor = service.predictor
        image = torch.rand((1, 3, *predictor.size), generator=torch.Generator().manual_seed(0))
        (found,) = await self._threads.predict(predictor.predict_batch, image)
        found.require_finite()
        return {"digest": predictor.digest, "made": predictor.record.get("made"), **numbers_of(found)}


def share_frozen(predictors: list[Predictor]) -> None:
    """Let detectors whose frozen networks are the same have them in memory once."""
    known: dict[str, Any] = {}
    for predictor in predictors[::-1]:  # those that are served already come last
        if not isinstance(predictor, Detector):
            continue
        for name, network in predictor.frozen.items():
            key = repr((network.reference.identity, network.compute))
            predictor.frozen[name] = known.setdefault(key, network)
