"""All parameter blocks of a run, bound at once before anything is computed."""

from typing import Any

from pydantic import Field, ValidationError

from kdad.comparison.ablation_parameters import AblationParameters, StudentAblationParameters
from kdad.comparison.paper_parameters import PaperTableParameters
from kdad.detectors.baselines.parameters import BaselineParameters
from kdad.detectors.mkd.parameters import ClonerParameters
from kdad.detectors.soft_target.parameters import SoftTargetParameters
from kdad.detectors.uninformed_students.parameters import StudentParameters, StudentScoringParameters, TeacherParameters
from kdad.errors import InputError
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.ingestion import PatchParameters
from kdad.parameters.reporting import ReportingParameters
from kdad.parameters.scoring import ScoringParameters
from kdad.parameters.source import ComputeParameters, FeatureParameters, SourceParameters
from kdad.parameters.strict import StrictModel


class RunParameters(StrictModel):
    """Everything that ``conf/<environment>/parameters*.yml`` and ``--params`` may set."""

    seed: int = Field(ge=0, description="the one seed; each consumer derives its own from it")
    dataset: DatasetParameters
    patches: PatchParameters
    source: SourceParameters
    features: FeatureParameters
    compute: ComputeParameters
    cloner: ClonerParameters
    scoring: ScoringParameters
    reporting: ReportingParameters
    mkd_ablation: AblationParameters
    teacher: TeacherParameters
    students: StudentParameters
    student_scoring: StudentScoringParameters
    students_ablation: StudentAblationParameters
    paper_tables: PaperTableParameters
    soft_target: SoftTargetParameters
    baselines: BaselineParameters


def bind_parameters(values: dict[str, Any]) -> RunParameters:
    """Bind a run's parameters to their models.

    Raises `InputError` with one message that lists every field that is unknown, missing or out of range.
    """
    try:
        return RunParameters.model_validate(values)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            field = ".".join(map(str, problem["loc"]))
            given = "" if isinstance(problem["input"], dict) else f" (given: {problem['input']!r})"
            lines.append(f"  {field or 'parameters'}: {problem['msg'].removeprefix('Value error, ')}{given}")
        raise InputError("parameters cannot be used:\n" + "\n".join(lines)) from None
