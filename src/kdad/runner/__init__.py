"""Running a pipeline's cases on a Dask cluster."""

from kdad.runner.dask_runner import DaskRunner

__all__ = ["DaskRunner"]
