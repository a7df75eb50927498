"""Every cell's case through the ablations' stages, then one comparison with the printed tables."""

from kedro.pipeline import Node, Pipeline

from kdad.comparison.plan import Plan
from kdad.pipelines.ablation.nodes import stop_on_failures
from kdad.pipelines.ablation.pipeline import create_cases
from kdad.pipelines.ablation.student_pipeline import create_student_cases
from kdad.pipelines.ablation.summary_pipeline import bind_first
from kdad.pipelines.paper_tables.nodes import compare_with_papers
from kdad.pipelines.paper_tables.other_cases import SPACE, create_baseline_cases, create_soft_target_cases

#: By the plan's name: what makes its cases, and what comes before the names of their results.
_CASES = {
    "mkd_ablation": (create_cases, ""),
    "students_ablation": (create_student_cases, "students."),
    "baselines": (create_baseline_cases, SPACE),
    "soft_target": (create_soft_target_cases, SPACE),
}


def create_pipeline(plans: list[Plan]) -> Pipeline:
    """Run every case of `plans` and compare them with the papers."""
    cases = sum((_CASES[plan.name][0](plan) for plan in plans), Pipeline([]))
    results = [f"{_CASES[plan.name][1]}{case.namespace}.result" for plan in plans for case in plan.cases]
    compared = Node(
        bind_first(compare_with_papers, plans),
        inputs=["paper_results", "params:paper_tables", "params:dataset", *results],
        outputs=[f"paper_tables.{name}" for name in ("cells", "page", "excerpt", "missing")],
        name="compare_with_papers",
    )
    ended = Node(
        stop_on_failures,
        inputs=["paper_tables.missing", "paper_tables.page"],
        outputs=None,
        name="report_missing_cells",
    )
    return cases + Pipeline([compared, ended])
