"""Requests as they come in: headers bounded by time, bodies by rate, size and address; places for what is there.

A place is taken when the body is there, so that clients who send slowly keep none from those who do not.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from kdad.errors import InputError
from kdad.parameters.blocks import ServingParameters
from kdad.serving.intake import TooLargeError

_GRACE_SECONDS = 2.0  # before a body's rate counts
_HEAD_SECONDS = 10.0  # for the headers of a request, from the connection or their first byte on
_HEAD_BYTES = 65536  # of headers that have come in part
_CLOSE = {"Connection": "close"}


class RefusedError(HTTPException):
    """A request that is answered with a status, a sentence, and perhaps headers."""


class BoundedHeaders(AutoHTTPProtocol):
    """A connection that is closed when the headers of a request are too long, or not there in time.

    uvicorn itself bounds only how long a connection may be idle between two requests.
    """

    _timer: asyncio.TimerHandle | None = None
    _received = 0

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Expect headers."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take bytes, and go on waiting until headers are complete."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:  # a request is being answered
            self._end_wait()
            return
        self._wait()
        self._received += 0 if self._is_answered else len(data)
        if self._received > _HEAD_BYTES:
            self._refuse("431 Request Header Fields Too Large")

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._end_wait()
        super().connection_lost(exc)

    @property
    def _is_answered(self) -> bool:
        """Whether what comes is the rest of a body that nobody reads, as its request was refused before."""
        cycle = self.cycle
        return cycle is not None and cycle.response_complete and cycle.more_body and cycle.scope is self.scope

    def _wait(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(_HEAD_SECONDS, self._refuse, "408 Request Timeout")

    def _end_wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._received = None, 0

    def _refuse(self, status: str) -> None:
        if not self._is_answered:  # a second answer would be taken for that of the next request
            answer = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            self.transport.write(answer.encode())
        self.transport.close()


class RateLimit:
    """Reads bodies, and lets so many requests in at once, for so long each."""

    def __init__(self, limits: ServingParameters) -> None:
        self._limits, self.inside = limits, 0
        self._arriving: Counter[str] = Counter()  # by address
        self._held = 0  # bytes of bodies that are arriving

    @asynccontextmanager
    async def entered(self, request: Request) -> AsyncIterator[bytes]:
        """Give the body, and hold a place for it.

        Raises `RefusedError`: 503 with Retry-After when all places are taken, 504 after the time of a request, and as
        `_read` does.
        """
        try:
            async with asyncio.timeout(self._limits.seconds):
                body = await self._read(request)
                if self.inside >= self._limits.queue:
                    sentence = f"{self.inside} requests are being answered, as many as are taken; try again in a second"
                    raise RefusedError(503, sentence, {"Retry-After": "1"})
                self.inside += 1
                try:
                    yield body
                finally:
                    self.inside -= 1
        except TimeoutError as error:
            sentence = f"the request was not done within {self._limits.seconds:g} s; send fewer images, or later"
            raise RefusedError(504, sentence) from error
        except TooLargeError as error:
            raise RefusedError(413, str(error)) from error
        except InputError as error:
            raise RefusedError(400, str(error)) from error

    async def _read(self, request: Request) -> bytes:
        """Return the body.

        Raises `RefusedError` for one that is empty (400), too large, before it is read whole (413), or slower than the
        least rate (408), for too many of one address (429), and for more together than memory is meant for (503).
        """
        address = request.client.host if request.client else ""
        if self._arriving[address] >= self._limits.arriving:
            sentence = (
                f"{self._arriving[address]} bodies are arriving from {address}, as many as are taken of one address"
            )
            raise RefusedError(429, sentence, _CLOSE | {"Retry-After": "1"})
        declared = request.headers.get("content-length", "")
        self._check_size(int(declared) if declared.isdigit() else 0)
        self._arriving[address] += 1
        content = bytearray()
        try:
            await self._receive(request, content)
        finally:
            self._held -= len(content)
            self._arriving[address] -= 1
            if not self._arriving[address]:
                del self._arriving[address]
        if not content:
            raise RefusedError(400, "the body is empty")
        return bytes(content)

    async def _receive(self, request: Request, content: bytearray) -> None:
        rate, loop = 1000 * self._limits.kilobytes_a_second, asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(_GRACE_SECONDS) as bound:
                async for part in request.stream():
                    content += part
                    self._held += len(part)
                    self._check_size(len(content))
                    if self._held > self._limits.queue * self._limits.body_megabytes * 1e6:
                        sentence = "as much is arriving as memory is meant for; try again in a second"
                        raise RefusedError(503, sentence, _CLOSE | {"Retry-After": "1"})
                    bound.reschedule(began + _GRACE_SECONDS + len(content) / rate)
        except TimeoutError as error:
            if not bound.expired():
                raise
            seconds, least = loop.time() - began, self._limits.kilobytes_a_second
            sentence = f"{len(content)} bytes came in {seconds:.1f} s, and at least {least:g} kB a second are wanted"
            raise RefusedError(408, sentence, _CLOSE) from error

    def _check_size(self, size: int) -> None:
        if size > int(self._limits.body_megabytes * 1e6):
            most = f"at most {self._limits.body_megabytes:g} MB are taken"
            raise RefusedError(413, f"the body has {size / 1e6:.1f} MB or more, and {most}", _CLOSE)
