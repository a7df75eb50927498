"""What a request may take, and the status and sentence of one that is refused."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request

from kdad.errors import InputError
from kdad.parameters.blocks import ServingParameters
from kdad.serving.intake import TooLargeError


class RefusedError(Exception):
    """A request that is answered with a `status`, a sentence, and perhaps headers."""

    def __init__(self, status: int, sentence: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, headers or {}


class RateLimit:
    """Lets so many requests in at once, for so long each."""

    def __init__(self, limits: ServingParameters) -> None:
        self._limits, self.inside = limits, 0

    @asynccontextmanager
    async def entered(self) -> AsyncIterator[None]:
        """Hold a place; raises `RefusedError` (503 with Retry-After) when all are taken, and (504) after the time."""
        if self.inside >= self._limits.queue:
            sentence = f"{self.inside} requests are being answered, as many as are taken; try again in a second"
            raise RefusedError(503, sentence, {"Retry-After": "1"})
        self.inside += 1
        try:
            async with asyncio.timeout(self._limits.seconds):
                yield
        except TimeoutError as error:
            sentence = f"the request was not done within {self._limits.seconds:g} s; send fewer images, or later"
            raise RefusedError(504, sentence) from error
        except TooLargeError as error:
            raise RefusedError(413, str(error)) from error
        except InputError as error:
            raise RefusedError(400, str(error)) from error
        finally:
            self.inside -= 1


async def read_body(request: Request, limits: ServingParameters) -> bytes:
    """Return the body; raises `RefusedError` (413) for one that is too large, before it is read whole."""
    most = int(limits.body_megabytes * 1e6)
    said = request.headers.get("content-length", "")
    if said.isdigit() and int(said) > most:
        raise RefusedError(413, _too_large(int(said), limits), {"Connection": "close"})
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > most:
            raise RefusedError(413, _too_large(len(content), limits), {"Connection": "close"})
    if not content:
        raise RefusedError(400, "the body is empty")
    return bytes(content)


def _too_large(size: int, limits: ServingParameters) -> str:
    return f"the body has {size / 1e6:.1f} MB or more, and at most {limits.body_megabytes:g} MB are taken"
