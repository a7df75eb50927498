"""The server: `/invocations` as MLflow has it, `/health`, `/predict` for an image file, a page for people at `/`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from kdad.detectors.predictor import Predictor
from kdad.parameters.blocks import ServingParameters
from kdad.parameters.strict import nearest_name
from kdad.reporting.html import render_html
from kdad.serving.arriving import RateLimit, RefusedError
from kdad.serving.service import Service

_JSON = "application/json"
#: The page holds all that it is made of, and asks its own server alone.
_OFFLINE = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "frame-ancestors 'none'"
)


def create_app(predictor: Predictor, limits: ServingParameters) -> FastAPI:
    """Return the ASGI app of a predictor that has a threshold."""
    service, door = Service(predictor, limits), RateLimit(limits)
    page = render_page(predictor, limits)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    # Its own pages of documentation would fetch scripts from elsewhere.
    app = FastAPI(
        title="kdad",
        lifespan=running,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(check_request)],
    )

    @app.get("/")
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": _OFFLINE})

    @app.get("/health")
    @app.get("/ping")
    async def say_health() -> dict[str, Any]:
        return {"status": "ok", **describe_predictor(predictor), "inside": door.inside}

    @app.post("/invocations")
    async def invoke(request: Request) -> JSONResponse:
        kind = request.headers.get("content-type", _JSON).partition(";")[0].strip().lower()
        if kind != _JSON:
            raise RefusedError(415, f"the body is of the type {kind!r}; send {_JSON}")
        async with door.entered(request) as body:
            return JSONResponse({"predictions": await service.invoke(body)})

    @app.post("/predict")
    async def predict_file(request: Request, map: bool = False, pictures: bool = False) -> JSONResponse:
        async with door.entered(request) as body:
            kind = request.headers.get("content-type", "")
            return JSONResponse(await service.predict_file(body, kind, map, pictures))

    @app.exception_handler(RefusedError)
    async def refuse(request: Request, error: RefusedError) -> JSONResponse:
        return _refusal(error.status_code, error.detail, error.headers)

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
        return _refusal(500, "the image could not be predicted, by a defect of the server; its log says more")

    return app


def _refusal(status: int, sentence: str, headers: Any = None) -> JSONResponse:
    """Return an answer in the form that MLflow's server gives errors."""
    codes = {404: "RESOURCE_DOES_NOT_EXIST", 500: "INTERNAL_ERROR", 503: "TEMPORARILY_UNAVAILABLE", 504: "TIMED_OUT"}
    content = {"error_code": codes.get(status, "BAD_REQUEST"), "message": sentence}
    return JSONResponse(content, status, dict(headers or {}))


def describe_predictor(predictor: Predictor) -> dict[str, Any]:
    """Return which detector it is, its threshold and what that promises, as JSON."""
    made, threshold = predictor.record, predictor.threshold
    known = {name: made.get(name) for name in ("dataset", "category", "seed", "made", "commit", "folder", "mlflow_run")}
    return {
        "system": predictor.system,
        "image_size": list(predictor.size),
        "threshold": threshold.value,
        "rule": threshold.rule,
        "promise": threshold.statement(),
        "maps": bool(predictor.methods),
        **known,
    }


def render_page(predictor: Predictor, limits: ServingParameters) -> str:
    """Return the page as HTML; it fetches nothing but answers of its server."""
    said = describe_predictor(predictor)
    height, width = predictor.size
    facts = [
        ("Detector", f"{said['system']}, made on {said['dataset']} / {said['category']}, {said['made']}"),
        ("Images", f"{height} x {width}; others are resized as in training"),
        ("Threshold", f"{said['threshold']:.6g}, by {said['rule']}: {said['promise']}"),
        ("Limits", f"{limits.body_megabytes:g} MB, {limits.megapixels:g} million pixels"),
    ]
    title = f"Is it normal? {said['dataset']} / {said['category']}"
    normal = predictor.validation_scores
    lowest = float(normal.min()) if len(normal) else None
    return render_html("kdad.serving", "drop", title=title, facts=facts, has_maps=said["maps"], lowest=lowest)


def check_request(request: Request) -> None:
    """Raise `RefusedError` for query names that a path does not know or that come twice, and for compressed bodies."""
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if name not in known:
            raise RefusedError(400, f"unknown parameter '{name}'{nearest_name(name, known) if known else ''}")
        if names.count(name) > 1:
            raise RefusedError(400, f"the parameter '{name}' is given {names.count(name)} times; give it once")
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise RefusedError(415, f"the body is compressed by '{encoding}'; send it as it is")
