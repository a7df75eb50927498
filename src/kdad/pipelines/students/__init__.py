"""The pipeline `students`."""

from kdad.pipelines.students.pipeline import create_pipeline

__all__ = ["create_pipeline"]
