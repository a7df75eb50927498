"""Pipelines that are sums of steps: a system from images to detector, and some steps alone."""

from kedro.pipeline import Pipeline

from kdad.pipelines import ingestion, reporting
from kdad.pipelines.detector.pipeline import create_features, create_fitting, create_frozen, create_scoring


def create_system(name: str, statistics: bool) -> Pipeline:
    """Return a system's pipeline; `statistics` of the training images are measured where its source takes them."""
    return (
        ingestion.create_pipeline()
        + (ingestion.create_statistics() if statistics else Pipeline([]))
        + create_frozen(name, statistics)
        + create_features(name)
        + ingestion.create_report(name)
        + create_fitting(name)
        + create_scoring(name)
        + reporting.create_pipeline(name)
    )


def create_ingestion() -> Pipeline:
    """Return everything that is done with images before anything is trained on them; `mkd` says what is unusual."""
    images = ingestion.create_pipeline() + create_seen("mkd") + ingestion.create_report("mkd")
    return images + ingestion.create_statistics() + ingestion.create_patches()


def create_seen(name: str) -> Pipeline:
    """Return what a system's frozen networks see, on images that are there."""
    return create_frozen(name) + create_features(name)
