"""The pipeline `inference`: a kept detector judges images that it has not seen."""

from kdad.pipelines.inference.pipeline import create_pipeline, create_watch

__all__ = ["create_pipeline", "create_watch"]
