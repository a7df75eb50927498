"""The pipeline `teacher`: pretraining on natural images."""

from kdad.pipelines.teacher.pipeline import create_pipeline

__all__ = ["create_pipeline"]
