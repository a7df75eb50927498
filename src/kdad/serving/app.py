"""The server: `/invocations` as MLflow has it, `/health`, `/predict` for an image file, a page for people at `/`."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from kdad.detectors.predictor import Predictor
from kdad.parameters.blocks import ServingParameters
from kdad.serving.page import describe_judge, render_page
from kdad.serving.requests import RateLimit, RefusedError, read_body
from kdad.serving.service import Service

logger = logging.getLogger(__name__)

_JSON = "application/json"
#: The page holds all that it is made of, and asks its own server alone.
_OFFLINE = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "frame-ancestors 'none'"
)


def create_app(predictor: Predictor, limits: ServingParameters) -> FastAPI:
    """Return the ASGI app of a judge that has a threshold."""
    service, door = Service(predictor, limits), RateLimit(limits)
    page = render_page(predictor, limits)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    # Its own pages of documentation would fetch scripts from elsewhere.
    app = FastAPI(title="kdad", lifespan=running, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/")
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": _OFFLINE})

    @app.get("/health")
    @app.get("/ping")
    async def say_health() -> dict[str, Any]:
        return {"status": "ok", **describe_judge(predictor), "inside": door.inside}

    @app.post("/invocations")
    async def invoke(request: Request) -> JSONResponse:
        kind = request.headers.get("content-type", _JSON).partition(";")[0].strip().lower()
        if kind != _JSON:
            raise RefusedError(415, f"the body is of the type {kind!r}; send {_JSON}")
        async with door.entered():
            return JSONResponse({"predictions": await service.invoke(await read_body(request, limits))})

    @app.post("/predict")
    async def predict_file(request: Request, map: bool = False, pictures: bool = False) -> JSONResponse:
        async with door.entered():
            return JSONResponse(await service.predict_file(await read_body(request, limits), map, pictures))

    @app.exception_handler(RefusedError)
    async def refuse(request: Request, error: RefusedError) -> JSONResponse:
        return _refusal(error.status, error.sentence, error.headers)

    @app.exception_handler(RequestValidationError)
    async def refuse_query(request: Request, error: RequestValidationError) -> JSONResponse:
        problem = error.errors()[0]
        return _refusal(400, f"{problem['loc'][-1]}: {problem['msg']}")

    @app.exception_handler(HTTPException)
    async def refuse_path(request: Request, error: HTTPException) -> JSONResponse:
        sentence = f"{request.method} {request.url.path}: {str(error.detail).lower()}"
        return _refusal(error.status_code, sentence, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def leave(request: Request, error: ClientDisconnect) -> JSONResponse:
        return _refusal(400, "the body was cut short")

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> JSONResponse:
        return _refusal(500, "the image could not be judged, by a defect of the server; its log says more")

    return app


def _refusal(status: int, sentence: str, headers: Any = None) -> JSONResponse:
    """Return an answer in the form that MLflow's server gives errors."""
    codes = {404: "RESOURCE_DOES_NOT_EXIST", 500: "INTERNAL_ERROR", 503: "TEMPORARILY_UNAVAILABLE", 504: "TIMED_OUT"}
    content = {"error_code": codes.get(status, "BAD_REQUEST"), "message": sentence}
    return JSONResponse(content, status, dict(headers or {}))
