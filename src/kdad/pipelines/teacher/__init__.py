"""The pipeline `teacher`."""

from kdad.pipelines.teacher.pipeline import create_pipeline

__all__ = ["create_pipeline"]
