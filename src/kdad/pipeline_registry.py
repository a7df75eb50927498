"""The pipelines that users can name."""

from pathlib import Path
from typing import Any

from kedro.framework.project import settings
from kedro.pipeline import Pipeline

from kdad.comparison.paper_plan import plan_tables
from kdad.comparison.plan import Plan, plan_ablation
from kdad.configuration import RunConfigLoader
from kdad.pipelines import (
    ablation,
    baselines,
    cloner,
    ensemble_scoring,
    features,
    ingestion,
    paper_tables,
    reporting,
    scoring,
    soft_target,
    students,
    teacher,
)
from kdad.pipelines.ablation.student_pipeline import create_student_pipeline as create_student_ablation
from kdad.pipelines.reporting.pipeline import create_student_pipeline
from kdad.pipelines.students.pipeline import create_check


def register_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines by name; every system is a sum of steps."""
    mkd = (
        ingestion.create_pipeline()
        + features.create_pipeline()
        + cloner.create_pipeline()
        + scoring.create_pipeline()
        + reporting.create_pipeline()
    )
    uninformed_students = (
        ingestion.create_pipeline()
        + create_check()
        + teacher.create_pipeline(after="student_inputs_checked")
        + students.create_pipeline()
        + ensemble_scoring.create_pipeline()
        + create_student_pipeline()
    )
    return {
        "__default__": mkd,
        "mkd": mkd,
        "mkd_ablation": ablation.create_pipeline(_planned_ablation("mkd_ablation")),
        "uninformed_students": uninformed_students,
        "students_ablation": create_student_ablation(_planned_ablation("students_ablation")),
        "paper_tables": paper_tables.create_pipeline(plan_tables(_parameters())),
        "baselines": ingestion.create_pipeline() + features.create_pipeline() + baselines.create_pipeline(),
        "soft_target": soft_target.create_pipeline(),
        "ingestion": ingestion.create_pipeline(),
        "features": features.create_pipeline(),
        "cloner": cloner.create_pipeline(),
        "scoring": scoring.create_pipeline(),
        "reporting": reporting.create_pipeline(),
        "teacher": teacher.create_pipeline(),
        "students": students.create_pipeline(),
        "ensemble_scoring": ensemble_scoring.create_pipeline(),
        "ensemble_reporting": create_student_pipeline(),
    }


def _planned_ablation(name: str) -> Plan:
    return plan_ablation(_parameters(), name)


def _parameters() -> dict[str, Any]:
    """Return the session's parameters; without a session (``kedro registry list``), those of ``conf/base``."""
    loader = RunConfigLoader.latest
    if loader is None:
        conf_source = str(Path.cwd() / settings.CONF_SOURCE)
        loader = RunConfigLoader(conf_source, env="local", **settings.CONFIG_LOADER_ARGS)
    return loader["parameters"]
