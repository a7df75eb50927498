"""The detectors of a server by name, each with the one before it: loaded anew, and taken back, while others ask."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch

from kdad.detectors.detector import Detector
from kdad.detectors.predictor import Predictor
from kdad.errors import InputError
from kdad.parameters.blocks import ServingParameters
from kdad.serving.service import Service, Threads

logger = logging.getLogger(__name__)


class Served:
    """The services of detectors by name; the first answers where no name is given.

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
        self._current = {name: Service(one, limits, name, self._threads) for name, one in predictors.items()}
        self._previous: dict[str, Service] = {}
        self._changing = asyncio.Lock()
        self.is_ready = False

    def __iter__(self) -> Iterator[tuple[str, Service]]:
        return iter(self._current.items())

    def find(self, name: str) -> Service:
        """Return the service of a name; raises `KeyError` for an unknown one."""
        return self._current[name]

    def start(self) -> None:
        """Begin to predict, in the running event loop."""
        for service in self._current.values():
            service.start()
        self.is_ready = True

    async def stop(self) -> None:
        """End after what is being predicted."""
        self.is_ready = False
        for service in [*self._current.values(), *self._previous.values()]:
            await service.stop()
        self._threads.stop()

    async def reload(self, name: str) -> dict[str, Any]:
        """Open a detector anew beside the one that is served, predict a known image by both, and swap them.

        Returns what both say. Raises `InputError` for one that cannot be used: the old one goes on.
        """
        async with self._changing:
            old = self._current[name]
            try:
                if self._reopen is None:
                    raise InputError("this server does not know where its detector was opened")
                predictor = await asyncio.to_thread(self._reopen, name)
                share_frozen([predictor, *(service.predictor for service in self._current.values())])
                new = Service(predictor, self._limits, name, self._threads)
                said = {"before": await self._say(old), "after": await self._say(new)}
            except InputError as error:
                raise InputError(f"'{name}' is not loaded anew, and the one before goes on: {error}") from error
            new.start()
            self._current[name] = new
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
            old, new = self._current[name], self._previous[name]
            said = {"before": await self._say(old), "after": await self._say(new)}
            self._current[name], self._previous[name] = new, old
            logger.warning("'%s' was taken back: %s", name, said)
            return said

    async def _say(self, service: Service) -> dict[str, Any]:
        """Return which detector a service has, and what it says of an image that is always the same."""
        predictor = service.predictor
        image = torch.rand((1, 3, *predictor.size), generator=torch.Generator().manual_seed(0))
        (found,) = await self._threads.predict(predictor.predict_batch, image)
        found.require_finite()
        said = {"digest": predictor.digest, "made": predictor.record.get("made"), "score": found.score}
        return said | {"threshold": found.threshold, "decision": int(found.decision)}


def share_frozen(predictors: list[Predictor]) -> None:
    """Let detectors whose frozen networks are the same have them in memory once."""
    known: dict[str, Any] = {}
    for predictor in predictors[::-1]:  # those that are served already come last
        if not isinstance(predictor, Detector):
            continue
        for name, network in predictor.frozen.items():
            key = repr((network.reference.identity, network.compute))
            predictor.frozen[name] = known.setdefault(key, network)
