"""MLflow's UI on the runs that the configuration names, in one process: ``python -m kdad.project.tracking_ui``."""

import os
import socket
from pathlib import Path
from typing import NoReturn

import click
from kedro.config import OmegaConfigLoader

from kdad.project import LOADER_ARGS, register_project
from kdad.project.command_line import CommandLineError, ExitCode
from kdad.tracking.destination import destination_of


@click.command()
@click.option("--env", default=None, help="environment of `conf`; without it, local")
@click.option("--conf-source", default="conf", help="folder of the configuration")
@click.option("--host", default=None, help="instead of mlflow.yml's ui.host")
@click.option("--port", default=None, help="instead of mlflow.yml's ui.port")
def main(env: str | None, conf_source: str, host: str | None, port: str | None) -> None:
    """Serve the UI until it is interrupted; of a tracking server, which has its own, say the address."""
    register_project(Path.cwd())
    settings = OmegaConfigLoader(conf_source, env=env, **LOADER_ARGS)["mlflow"]
    destination, ui = destination_of(settings, os.environ, "kdad"), settings["ui"]
    for said in destination.said:
        click.echo(said)
    uri = destination.uri
    if uri.startswith("http"):
        click.echo(f"Runs are tracked by a server that has its own UI: {uri}")
        return
    host, port = host or ui["host"], str(port or ui["port"])
    check_free(host, port)
    serve(uri, host, port)


def check_free(host: str, port: str) -> None:
    """End with one message where another program listens already, or nothing can listen."""
    try:
        with socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except (OSError, OverflowError, ValueError) as error:
        raise CommandLineError(
            f"MLflow cannot listen at {host}:{port} ({getattr(error, 'strerror', None) or error}); it may run there "
            "already: open that address, or give another with `make mlflow MLFLOW_PORT=5001`",
            ExitCode.WRONG_COMMAND,
        ) from None


def serve(uri: str, host: str, port: str) -> NoReturn:
    """Become MLflow's server of the database at `uri`.

    One worker serves one person; the job executor runs what this project has no use for.
    """
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    import mlflow.server
    from mlflow.cli import cli

    # MLflow's command starts its server as a child and then waits beside it, as large as the server itself.
    vars(mlflow.server)["_exec_cmd"] = lambda command, extra_env, **_: os.execvpe(
        command[0], list(command), os.environ | extra_env
    )
    cli.main(["server", "--backend-store-uri", uri, "--host", host, "--port", port, "--workers", "1"])


if __name__ == "__main__":
    main()
