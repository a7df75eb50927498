"""The pipelines that users can name: sums of steps, built without parameters (`kdad.project.session` checks those)."""

from kedro.pipeline import Pipeline

from kdad.detectors.registry import SYSTEMS
from kdad.experiments.plan import ablation_of
from kdad.pipelines import (
    calibration,
    comparisons,
    detector_comparison,
    export,
    inference,
    reporting,
    soft_target,
    teacher,
)
from kdad.pipelines.detector import (
    create_features,
    create_fitting,
    create_frozen,
    create_ingestion,
    create_scoring,
    create_system,
)

#: Systems whose pipeline is not the common sum of steps.
_OF_THEIR_OWN = ("uninformed_students", "baselines", "soft_target")


def register_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines by name."""
    by_sum = {name: create_system(name) for name in SYSTEMS if name not in _OF_THEIR_OWN}
    return {
        "__default__": by_sum["mkd"],
        **by_sum,
        "uninformed_students": teacher.create_system(),
        "soft_target": soft_target.create_pipeline(),
        "baselines": comparisons.create_baselines(),
        "paper_tables": comparisons.create_paper_tables(),
        **{ablation_of(system): comparisons.create_ablation(system) for system in SYSTEMS},
        "inference": inference.create_pipeline(),
        "watch": inference.create_watch(),
        "comparison": detector_comparison.create_pipeline(),
        "calibration": calibration.create_pipeline(),
        "export": export.create_pipeline(),
        # Steps alone, on what the steps before them have left.
        "ingestion": create_ingestion(),
        "features": create_frozen("mkd") + create_features("mkd"),
        "cloner": create_fitting("mkd"),
        "scoring": create_scoring("mkd"),
        "reporting": reporting.create_pipeline("mkd"),
        "teacher": teacher.create_taught(),
        "students": teacher.create_students(),
        "ensemble_scoring": create_scoring("uninformed_students"),
        "ensemble_reporting": reporting.create_pipeline("uninformed_students"),
    }
