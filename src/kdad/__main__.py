"""Run a pipeline of the installed package: ``python -m kdad``."""

from pathlib import Path


def main() -> None:
    """Hand over to ``kedro run`` with this package's settings, or say what is not installed."""
    try:
        from kedro.framework.cli.utils import find_run_command
        from kedro.framework.project import configure_project
    except ImportError as error:
        raise SystemExit(f'pipelines take {error.name}: pip install "kdad[run]"') from error
    package = Path(__file__).parent.name
    configure_project(package)
    find_run_command(package)()


if __name__ == "__main__":
    main()
