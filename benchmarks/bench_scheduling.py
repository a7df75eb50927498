"""What a case costs on workers besides its work: thousands of cases that do nothing, planned as an ablation's are.

    python benchmarks/bench_scheduling.py 3000

Prints the seconds to plan, the milliseconds a case without the start of two workers, and the memory at the end.
"""

import sys
import time
from functools import partial

import psutil

from bench_ablation import plan_of
from kdad.experiments.case import Case, CaseResult, failed_case
from kdad.experiments.plan import plan_ablation
from kdad.experiments.workers import Site, open_cluster, run_tasks
from kdad.parameters.blocks import WorkersParameters


def do_nothing(case: Case, site: Site) -> CaseResult:
    """Return a result at once."""
    return failed_case(case, "nothing was done")


def main(count: int) -> None:
    """Plan, run and say what it took."""
    began = time.perf_counter()
    plan = plan_ablation(plan_of(count), "mkd_ablation")
    print(f"{count} cases: planned in {time.perf_counter() - began:.1f} s", flush=True)
    with open_cluster(WorkersParameters(count=2), count) as cluster:
        began = time.perf_counter()
        made = run_tasks([(case, partial(do_nothing, case)) for case in plan.cases], cluster, 60)
        seconds = time.perf_counter() - began
    peak = psutil.Process().memory_info().rss / 1e9
    print(f"{len(made)} results, {seconds:.1f} s, {1e3 * seconds / count:.1f} ms a case, {peak:.2f} GB at the end")


if __name__ == "__main__":
    main(int(sys.argv[1]))
