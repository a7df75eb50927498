"""A plan is run: its images are opened once, frozen networks run over them once, then case after case."""

import logging
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from kdad.compute import prepare_compute
from kdad.detectors.evaluation import extract_features
from kdad.detectors.parameters import SystemSettings
from kdad.errors import InputError
from kdad.experiments.case import Case, CaseResult, case_listeners, failed_case
from kdad.experiments.plan import Plan
from kdad.experiments.run import run_case
from kdad.experiments.steps import RunContext
from kdad.features.cache import FeatureCache
from kdad.features.extraction import FeatureSet
from kdad.logs import PLAIN
from kdad.parameters.blocks import ComputeParameters
from kdad.progress import format_duration
from kdad.scoring.parameters import MeasuringParameters
from kdad.storage.content_store import ContentStore, Stores

logger = logging.getLogger(__name__)

#: What the frozen networks of a system gave for a category, by category and system.
Caches = dict[tuple[str, str], dict[str, FeatureCache]]


@dataclass(frozen=True)
class CaseSettings:
    """What all cases of a run share, as it is sent to workers; `seed` is the run's, `sheet_rows` of the heat maps."""

    stores: Stores
    compute: ComputeParameters
    measuring: MeasuringParameters
    seed: int
    sheet_rows: int

    def context(self, shares_classes: bool) -> RunContext:
        """Prepare this process, and return what a case runs with."""
        machine = prepare_compute(self.compute)
        return RunContext(machine, self.stores, self.measuring, self.seed, self.sheet_rows, shares_classes)


def extract_plan_features(
    plans: Sequence[Plan], categories: dict[str, FeatureSet], stores: Stores, compute: ComputeParameters, seed: int
) -> Caches:
    """Check every case on its images before anything trains, and run the frozen networks that most cases share."""
    context = RunContext(prepare_compute(compute), stores, MeasuringParameters(), seed)
    return {
        pair: _extract(plan, *pair, categories[pair[0]], context)
        for plan in plans
        for pair in dict.fromkeys((case.prepared, case.system) for case in plan.cases)
    }


def _extract(
    plan: Plan, category: str, system: str, images: FeatureSet, context: RunContext
) -> dict[str, FeatureCache]:
    cases = [case for case in plan.cases if (case.prepared, case.system) == (category, system)]
    detector, base = cases[0].detector, plan.bases[system]
    images = detector.prepare_images(base, images, context.seed)
    for case in cases:
        _checking(case, plan, lambda settings: detector.check_inputs(settings, images))
    references = detector.frozen_networks(base, images, context.train_context(cases[0].seed))
    store = ContentStore(context.stores.features)
    images = extract_features(detector, base, images, references, context.compute, store, plan.shares_classes)
    for case in cases:
        if getattr(case.settings, "source", None) == getattr(base, "source", None):
            _checking(case, plan, lambda settings: detector.check(settings, images))
    return images.features


def _checking(case: Case, plan: Plan, check: Callable[[SystemSettings], None]) -> None:
    try:
        check(case.settings)
    except InputError as error:
        place = f"{plan.name}.variants.{case.axis}.variants.{case.variant}"
        raise InputError(f"{place}: {error}") from None


def run_here(
    plans: Sequence[Plan], categories: dict[str, FeatureSet], caches: Caches, settings: CaseSettings
) -> list[CaseResult]:
    """Run the cases of `plans` in this process, one after another; a case that fails does not stop the others."""
    report = CaseReport(sum(len(plan.cases) for plan in plans))
    results = []
    for plan in plans:
        for case in plan.cases:
            report.begin(case)
            feature_set = replace(categories[case.prepared], features=caches[case.prepared, case.system])
            results.append(run_one(case, feature_set, settings, plan.shares_classes))
            report.end(case, results[-1])
    return results


def run_one(case: Case, feature_set: FeatureSet, settings: CaseSettings, shares_classes: bool) -> CaseResult:
    """Fit, map and measure a case, or find it done; a failed case's result says its error."""
    try:
        return run_case(case, feature_set, settings.context(shares_classes))
    except Exception as error:  # whatever it is, the other cases can still run
        logger.error("%s failed: %s", case.name, error)
        logger.debug("%s", traceback.format_exc())
        return failed_case(case, f"{type(error).__name__}: {error}")


class CaseReport:
    """Tells listeners of each case, and says a line for each that has ended."""

    def __init__(self, total: int) -> None:
        self._total, self._ended = total, 0
        self._began: dict[str, float] = {}

    def begin(self, case: Case) -> None:
        """Note the time, and tell that the case is begun."""
        if case.name not in self._began:  # one whose worker was lost begins again
            self._began[case.name] = perf_counter()
            for listener in case_listeners:
                listener.case_begins(case)

    def end(self, case: Case, result: CaseResult) -> None:
        """Tell the result, and say how long the case took, and whether it was found done or failed."""
        self._ended += 1
        seconds = format_duration(perf_counter() - self._began.pop(case.name))
        how = ", found done" if result.reused else "" if result.finished else ", failed"
        logger.info("Case %d/%d %s: %s%s", self._ended, self._total, case.name, seconds, how, extra=PLAIN)
        for listener in case_listeners:
            listener.case_ends(case, result)
