"""The pipeline `ensemble_scoring`."""

from kdad.pipelines.ensemble_scoring.pipeline import create_pipeline

__all__ = ["create_pipeline"]
