"""Serve detectors: ``python -m kdad.serving DETECTOR``, or ``make serve DETECTOR=...``."""

import os
import re
import socket
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from kdad.errors import InputError
from kdad.parameters.blocks import ServingParameters
from kdad.parameters.strict import every_message
from kdad.project import LOADER_ARGS, register_project
from kdad.project.command_line import CommandLineError, ExitCode
from kdad.project.places import DATA
from kdad.tracking.destination import destination_of

_NAMED = re.compile(r"([\w-]+)=(.+)", re.ASCII)
_IDLE_SECONDS = 60  # that a connection is kept between requests


@click.command()
@click.argument("given_detectors", metavar="DETECTOR...", nargs=-1)
@click.option("--env", default=None, help="environment of `conf`; without it, local")
@click.option("--conf-source", default="conf", help="folder of the configuration")
@click.option("--host", default=None, help="instead of serving.host; 0.0.0.0 lets other machines ask")
@click.option("--port", default=None, type=int, help="instead of serving.port; 0: a free one")
@click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="another of the `serving:` block, as queue=8")
def main(
    given_detectors: tuple[str, ...],
    env: str | None,
    conf_source: str,
    host: str | None,
    port: int | None,
    given: tuple[str, ...],
) -> None:
    """Serve DETECTOR until it is interrupted: a folder, an exported file, latest, runs:/ID, models:/NAME@champion.

    Several are given as NAME=DETECTOR each.
    """
    conf = Path(conf_source)
    project = conf.resolve().parent if conf.is_dir() else Path.cwd()
    settings: dict[str, Any] = {}
    mlflow: dict[str, Any] = {}
    outputs = DATA
    if conf.is_dir():
        from kedro.config import OmegaConfigLoader  # here: a server without a configuration takes no Kedro

        register_project(project)
        loader = OmegaConfigLoader(conf_source, env=env, **LOADER_ARGS)
        settings, mlflow = loader["parameters"].get("serving", {}), loader["mlflow"]
        outputs = str(loader["globals"].get("outputs") or DATA)
    options = {"host": host, "port": port} | dict(_pair(one) for one in given)
    limits = _limits(settings | {name: value for name, value in options.items() if value is not None})
    destination = destination_of(mlflow, os.environ, "kdad")
    try:
        serve(_by_name(given_detectors), limits, project, destination.uri or None, outputs)
    except InputError as error:
        raise CommandLineError(str(error), ExitCode.UNUSABLE_INPUT) from error


def _by_name(given: tuple[str, ...]) -> dict[str, str]:
    """Return where detectors lie, by name."""
    pairs = [_NAMED.fullmatch(one) for one in given]
    if len(given) < 2 and not any(pairs):
        return {"detector": given[0] if given else "latest"}
    named = {pair[1]: pair[2] for pair in pairs if pair}
    if len(named) < len(given):
        raise CommandLineError(
            "give several detectors as NAME=DETECTOR each, with names of their own, of letters, digits, - and _",
            ExitCode.WRONG_COMMAND,
        )
    return named


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise CommandLineError(f"--set takes NAME=VALUE, and not '{text}'", ExitCode.WRONG_COMMAND)
    return name, value


def _limits(values: dict[str, Any]) -> ServingParameters:
    try:
        return ServingParameters.model_validate(values)
    except ValidationError as error:
        lines = "\n".join(every_message(error, "serving"))
        raise CommandLineError(f"the parameters of the server do not fit:\n{lines}") from error


def serve(
    locations: dict[str, str], limits: ServingParameters, project: Path, tracking: str | None, outputs: str = DATA
) -> None:
    """Serve the detectors at these locations, by name; ends with SIGTERM or Ctrl-C, after what is being answered.

    Raises `InputError` for a detector that cannot be opened or has no threshold, and an address that is taken.
    """
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(f'the server needs {error.name}; pip install "kdad[serve]"') from error
    from kdad.compute import keep_freed_memory, limit_threads
    from kdad.serving.app import create_app
    from kdad.serving.records import open_audit, open_folder

    keep_freed_memory()
    limit_threads(limits.threads)
    if limits.audit is not None:
        open_audit(project / limits.audit)
    if limits.teach is not None:
        limits = limits.model_copy(update={"teach": str(project / Path(limits.teach).expanduser())})
        open_folder(Path(limits.teach))

    def reopen(name: str) -> Any:
        return open_predictor(locations[name], project, tracking, outputs)

    predictors = {name: reopen(name) for name in locations}
    listening = _listen(limits)
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    for name, predictor in predictors.items():
        path = f"/detectors/{name}/" if len(predictors) > 1 else ""
        click.echo(
            f"{predictor.system} in {predictor.record['folder']} answers at http://{shown}:{port}{path}", nl=True
        )
    server_of(create_app(predictors, limits, reopen), limits).run([listening])


def server_of(app: Any, limits: ServingParameters) -> Any:
    """Return uvicorn's server of an app."""
    import uvicorn

    from kdad.serving.arriving import BoundedHeaders

    config = uvicorn.Config(
        app,
        http=BoundedHeaders,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=int(limits.seconds) + 1,
    )
    return uvicorn.Server(config)


def open_predictor(location: str, project: Path, tracking: str | None, outputs: str = DATA) -> Any:
    """Open a detector, and predict once, so that the first client does not wait for what is loaded late."""
    import torch

    from kdad.project.places import find_detector, open_found

    predictor = open_found(*find_detector(location, project, tracking, outputs))
    predictor.require_threshold()
    predictor.preparation.require_whole()
    predictor.predict_batch(torch.full((1, 3, *predictor.size), 0.5))
    return predictor


def _listen(limits: ServingParameters) -> socket.socket:
    family = socket.AF_INET6 if ":" in limits.host else socket.AF_INET
    try:
        return socket.create_server((limits.host, limits.port), family=family, backlog=512)
    except OSError as error:
        raise InputError(
            f"the server cannot listen at {limits.host}:{limits.port} ({error.strerror or error}); give another port, "
            "or end what listens there"
        ) from error


if __name__ == "__main__":
    main()
