"""Pipelines that are sums of steps: a system from images to detector, and some steps alone."""

from kedro.pipeline import Pipeline

from kdad.pipelines import ingestion, reporting
from kdad.pipelines.detector.pipeline import create_features, create_fitting, create_frozen, create_scoring


def create_system(name: str) -> Pipeline:
    """Return a system's pipeline."""
    return (
        ingestion.create_pipeline()
        + create_frozen(name)
        + create_features(name)
        + ingestion.create_report(name)
        + create_fitting(name)
        + create_scoring(name)
        + reporting.create_pipeline(name)
    )


def create_ingestion() -> Pipeline:
    """Return everything that is done with images before anything is trained on them; `mkd` says what is unusual."""
    images = ingestion.create_pipeline() + create_seen("mkd") + ingestion.create_report("mkd")
    return images + ingestion.create_patches()


def create_seen(name: str) -> Pipeline:
    """Return what a system's frozen networks see, on images that are there."""
    return create_frozen(name) + create_features(name)
