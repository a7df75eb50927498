"""Pipelines that are sums of steps with a teacher: Uninformed Students as a whole, and some steps alone."""

from kedro.pipeline import Pipeline

from kdad.pipelines import ingestion, reporting
from kdad.pipelines.detector.pipeline import create_features, create_fitting, create_scoring
from kdad.pipelines.teacher.pipeline import create_pipeline

_SYSTEM = "uninformed_students"


def create_system() -> Pipeline:
    """Return the pipeline of Uninformed Students."""
    return create_taught() + create_students() + create_scoring(_SYSTEM) + reporting.create_pipeline(_SYSTEM)


def create_taught() -> Pipeline:
    """Return images and patches, and the teachers that are trained on the patches."""
    return ingestion.create_pipeline() + ingestion.create_patches() + create_pipeline()


def create_students() -> Pipeline:
    """Return what the teachers see, the report on it, and the students that learn it."""
    return create_features(_SYSTEM) + ingestion.create_report(_SYSTEM) + create_fitting(_SYSTEM)
