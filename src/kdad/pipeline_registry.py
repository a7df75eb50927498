"""The pipelines that users can name."""

from kedro.pipeline import Pipeline

from kdad.pipelines import cloner, features, ingestion, reporting, scoring


def register_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines by name; every system is a sum of steps."""
    mkd = (
        ingestion.create_pipeline()
        + features.create_pipeline()
        + cloner.create_pipeline()
        + scoring.create_pipeline()
        + reporting.create_pipeline()
    )
    return {
        "__default__": mkd,
        "mkd": mkd,
        "ingestion": ingestion.create_pipeline(),
        "features": features.create_pipeline(),
        "cloner": cloner.create_pipeline(),
        "scoring": scoring.create_pipeline(),
        "reporting": reporting.create_pipeline(),
    }
