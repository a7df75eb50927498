"""What an ablation of a hundred variants costs before anything is trained: the plan."""

from kedro.config import OmegaConfigLoader
from kedro.framework.project import configure_project, settings

from kdad.experiments.plan import plan_ablation
from kdad.project.configuration import RunConfigLoader
from timing import PROJECT


def plan_of(count: int) -> dict:
    """Return parameters whose ablation has `count` variants."""
    configure_project("kdad")
    loader = RunConfigLoader(str(PROJECT / "conf"), env="test", **settings.CONFIG_LOADER_ARGS)
    parameters = dict(OmegaConfigLoader.__getitem__(loader, "parameters"))
    variants = {f"weight_{step}": {"cloner": {"loss": {"value_weight": step / count}}} for step in range(1, count + 1)}
    axis = {"question": "How much L_val?", "compare_with": "weight_1", "variants": variants}
    parameters["mkd_ablation"] = {**parameters["mkd_ablation"], "variants": {"balance": axis}}
    return parameters


def test_plan_of_100_variants(benchmark):
    parameters = plan_of(100)
    plan = benchmark.pedantic(lambda: plan_ablation(parameters, "mkd_ablation"), rounds=3)
    benchmark.extra_info["cases"] = len(plan.cases)
    print(f"\n{len(plan.cases)} cases, {benchmark.stats.stats.min:.2f} s")
