"""The server: predictions of files and of tables as MLflow has them, what operators need, a page for people."""

import asyncio
import hmac
import logging
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated, Any

import fastapi_offline
from fastapi import Depends, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect

from kdad import __version__
from kdad.detectors.predictor import Predictor
from kdad.errors import InputError
from kdad.parameters.blocks import ServingParameters
from kdad.parameters.strict import nearest_name
from kdad.reporting.html import render_html
from kdad.serving.arriving import RateLimit, RefusedError
from kdad.serving.metrics import CountRequests, ServerMetrics
from kdad.serving.service import ONLY, Served, Service
from kdad.storage.disk_space import DiskFullError

logger = logging.getLogger(__name__)

_JSON = "application/json"
#: The page holds all that it is made of, and asks its own server alone.
_OFFLINE = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "frame-ancestors 'none'"
)
#: What paths of one of several detectors begin with.
_NAMED = "/detectors/{name}"
_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
_FILE = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"schema": {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}}
_BODIES = {
    "/predict": {"application/octet-stream": _FILE, "image/*": _FILE, "multipart/form-data": _FORM},
    "/invocations": {_JSON: {"schema": {"type": "object"}}},
}
_BODIES["/good"] = _BODIES["/predict"]
_NAME_TAKES = "1 to 80 letters, digits, spaces and . _ @ - are taken, the first a letter, a digit or _"
_Who = Annotated[str, Query(description=f"who says so: {_NAME_TAKES}", pattern=r"^\w[\w .@-]{0,79}$")]


def create_app(
    predictors: Predictor | dict[str, Predictor],
    limits: ServingParameters,
    reopen: Callable[[str], Predictor] | None = None,
) -> FastAPI:
    """Return the ASGI app of one predictor that has a threshold, or of several by name, of which the first leads.

    `reopen` opens the predictor of a name anew, for a reload.
    """
    if isinstance(predictors, Predictor):
        predictors = {ONLY: predictors}
    served, door = Served(predictors, limits, reopen), RateLimit(limits)
    metrics = ServerMetrics(lambda: door.inside, lambda: [service.counts for service in list(served.current.values())])

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        served.is_ready = True
        with _reloading_on_signal(served):
            yield
        await served.stop()

    # FastAPI's own pages of documentation would fetch scripts from elsewhere.
    app = FastAPI(
        title="kdad",
        version=__version__,
        lifespan=running,
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(check_request)],
    )
    app.add_middleware(CountRequests, metrics=metrics)
    if limits.origins:
        app.add_middleware(CORSMiddleware, allow_origins=limits.origins, allow_methods=["*"], allow_headers=["*"])

    def service_of(request: Request) -> Service:
        return served.current[_known_name(request, served)]

    async def show_page(request: Request) -> HTMLResponse:
        page = render_page(service_of(request).predictor, limits)
        return HTMLResponse(page, headers={"Content-Security-Policy": _OFFLINE})

    async def say_health(request: Request) -> dict[str, Any]:
        return {"status": "ok", **describe_predictor(service_of(request).predictor), "inside": door.inside}

    async def say_live() -> dict[str, str]:
        return {"status": "ok"}

    async def say_ready() -> JSONResponse:
        if not served.is_ready:
            raise RefusedError(503, "the server is ending")
        if door.inside >= limits.queue:
            raise RefusedError(503, f"{door.inside} requests are being answered, as many as are taken")
        return JSONResponse({"status": "ok"})

    async def say_version() -> dict[str, Any]:
        return {"kdad": __version__, "detectors": {name: one.version() for name, one in served.current.items()}}

    async def say_metrics(request: Request) -> Response:
        # In a thread: what drift is tested by is imported when it is first asked for.
        text, kind = await asyncio.to_thread(metrics.written, request.headers.get("accept", ""))
        return Response(text, media_type=kind)

    async def invoke(request: Request) -> JSONResponse:
        kind = request.headers.get("content-type", _JSON).partition(";")[0].strip().lower()
        if kind != _JSON:
            raise RefusedError(415, f"the body is of the type {kind!r}; send {_JSON}")
        service_of(request)
        async with door.entered(request) as body, service_of(request).used() as service:
            return JSONResponse({"predictions": await service.invoke(body)})

    async def predict_file(
        request: Request, map: bool = False, pictures: bool = False, category: str | None = None
    ) -> JSONResponse:
        kind = request.headers.get("content-type", "")
        service_of(request)
        async with door.entered(request) as body, service_of(request).used() as service:
            return JSONResponse(await service.predict_file(body, kind, map, pictures, category))

    async def teach(request: Request, who: _Who) -> JSONResponse:
        if limits.teach is None:
            raise RefusedError(403, "this is off; set serving.teach and serving.token in conf/local")
        _check_token(request, limits)
        service_of(request)
        kind = request.headers.get("content-type", "")
        async with door.entered(request) as body, service_of(request).used() as service:
            try:
                return JSONResponse(await service.teach(body, kind, who))
            except (DiskFullError, OSError) as error:
                logger.error("an image that is good was not kept: %s", error)
                raise RefusedError(
                    507, "the image was not kept: the server's disk takes no more; see its log"
                ) from error

    async def show_docs() -> HTMLResponse:
        page = get_swagger_ui_html(
            openapi_url="openapi.json",
            title="kdad",
            swagger_js_url="docs-files/swagger-ui-bundle.js",
            swagger_css_url="docs-files/swagger-ui.css",
            swagger_favicon_url="data:,",
            swagger_ui_parameters={"validatorUrl": None},  # which would be sent what is described
        )
        page.headers["Content-Security-Policy"] = _OFFLINE.replace("'unsafe-inline'", "'self' 'unsafe-inline'")
        return page

    async def reload(request: Request) -> dict[str, Any]:
        return await _change(served.reload, _known_name(request, served), request, limits)

    async def roll_back(request: Request) -> dict[str, Any]:
        return await _change(served.rollback, _known_name(request, served), request, limits)

    shown = {
        "/health": say_health,
        "/ping": say_health,
        "/health/live": say_live,
        "/health/ready": say_ready,
        "/version": say_version,
        "/metrics": say_metrics,
        "/docs": show_docs,
        f"{_NAMED}/health": say_health,
        "/": show_page,
        f"{_NAMED}/": show_page,
    }
    for path, answering in shown.items():
        _add(app, "GET", path, answering)
        _add(app, "HEAD", path, answering)
    app.mount("/docs-files", StaticFiles(directory=Path(fastapi_offline.__file__).parent / "static"))
    with_token = {"/reload": reload, "/rollback": roll_back, "/good": teach}
    for path, answering in ({"/predict": predict_file, "/invocations": invoke} | with_token).items():
        for prefix in ("", _NAMED):
            _add(app, "POST", f"{prefix}{path}", answering, _BODIES.get(path), path in with_token)
    _add_refusals(app)
    return app


def _add(
    app: FastAPI, method: str, path: str, answering: Callable[..., Any], body: Any = None, with_token: bool = False
) -> None:
    """Add a path; a form of its body, which is bounded before it is parsed, is described by hand."""
    extra: dict[str, Any] = {"parameters": [_NAME]} if path.startswith(_NAMED) else {}
    if body is not None:
        extra["requestBody"] = {"required": True, "content": body}
    name = f"{method} {path}".lower().replace("/", " ").translate(str.maketrans("", "", "{}")).split()
    app.add_api_route(
        path,
        answering,
        methods=[method],
        response_model=None,
        openapi_extra=extra,
        operation_id="_".join(name),
        dependencies=[Depends(_BEARER)] if with_token else [],
        include_in_schema=method != "HEAD",
    )


def _known_name(request: Request, served: Served) -> str:
    """Return the name of the detector that a path asks for; raises `RefusedError` (404) for an unknown one."""
    known = list(served.current)
    name = request.path_params.get("name", known[0])
    if name not in known:
        raise RefusedError(404, f"there is no detector '{name}'{nearest_name(name, known)}")
    return name


_ASKING = {"WWW-Authenticate": "Bearer"}
_BEARER = HTTPBearer(scheme_name="token", auto_error=False)  # so that the paths' description says who may ask


def _check_token(request: Request, limits: ServingParameters) -> None:
    """Raise `RefusedError` without the token (401), and for a wrong one (403)."""
    given = request.headers.get("authorization")
    if given is None:
        raise RefusedError(401, "the token is missing; send Authorization: Bearer TOKEN", _ASKING)
    if not hmac.compare_digest(given.encode(), f"Bearer {limits.token}".encode()):
        raise RefusedError(403, "the token is wrong; send Authorization: Bearer TOKEN")


async def _change(act: Callable[[str], Any], name: str, request: Request, limits: ServingParameters) -> dict[str, Any]:
    """Do something to a detector for one who has the token.

    Raises `RefusedError` as `_check_token`, where there is none (403), and for a detector that cannot be used (409).
    """
    if limits.token is None:
        raise RefusedError(403, "this is off over HTTP; set serving.token in conf/local, or send the process SIGHUP")
    _check_token(request, limits)
    try:
        return {"detector": name, **await act(name)}
    except InputError as error:
        raise RefusedError(409, str(error)) from error


@contextmanager
def _reloading_on_signal(served: Served) -> Iterator[None]:
    """Load all detectors anew on SIGHUP, where the process hears signals."""
    if not hasattr(signal, "SIGHUP") or threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, tasks = asyncio.get_running_loop(), set()

    async def reload_all() -> None:
        for name in list(served.current):
            try:
                await served.reload(name)
            except InputError as error:
                logger.error("%s", error)

    loop.add_signal_handler(signal.SIGHUP, lambda: tasks.add(loop.create_task(reload_all())))
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def _add_refusals(app: FastAPI) -> None:
    """Let everything that is refused be a sentence in the form that MLflow's server gives errors."""

    @app.exception_handler(RefusedError)
    async def refuse(request: Request, error: RefusedError) -> JSONResponse:
        return _refusal(error.status_code, error.detail, error.headers)

    @app.exception_handler(RequestValidationError)
    async def refuse_query(request: Request, error: RequestValidationError) -> JSONResponse:
        problem = error.errors()[0]
        is_pattern = problem["type"] == "string_pattern_mismatch"  # people see it on the page
        return _refusal(400, f"{problem['loc'][-1]}: {_NAME_TAKES if is_pattern else problem['msg']}")

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


def _refusal(status: int, sentence: str, headers: Any = None) -> JSONResponse:
    """Return an answer in the form that MLflow's server gives errors."""
    codes = {
        401: "UNAUTHENTICATED",
        403: "PERMISSION_DENIED",
        404: "RESOURCE_DOES_NOT_EXIST",
        409: "RESOURCE_CONFLICT",
        429: "REQUEST_LIMIT_EXCEEDED",
        500: "INTERNAL_ERROR",
        503: "TEMPORARILY_UNAVAILABLE",
        504: "TIMED_OUT",
        507: "INSUFFICIENT_STORAGE",
    }
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
        "categories": list(predictor.by_category),
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
    return render_html(
        "kdad.serving",
        "drop",
        title=title,
        facts=facts,
        has_maps=said["maps"],
        lowest=lowest,
        teaches=limits.teach is not None,
    )


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
