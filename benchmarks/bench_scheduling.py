"""What a case costs DaskRunner besides its work: thousands of cases that do nothing, planned as an ablation's are.

    python benchmarks/bench_scheduling.py 3000

Prints the seconds to plan, the milliseconds a case with the start and end of two workers, and the memory at the end.
"""

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from bench_ablation import plan_of
from kdad.datasets.typed_json import CaseResultDataset
from kdad.experiments.plan import plan_ablation
from kdad.experiments.result import failed_case
from kdad.pipelines.binding import bind_first
from kdad.pipelines.comparison.ablation import create_pipeline
from kdad.pipelines.comparison.cases import WORKER
from kdad.runner import DaskRunner


def do_nothing(case, ready: int):
    """Return a result at once."""
    return failed_case(case, "nothing was done")


def main(count: int) -> None:
    """Plan, run and say what it took."""
    began = time.perf_counter()
    plan = plan_ablation(plan_of(count), "mkd_ablation")
    nodes = len(create_pipeline(plan).nodes)
    print(f"{count} cases, {nodes} nodes: planned in {time.perf_counter() - began:.1f} s", flush=True)
    with TemporaryDirectory() as folder:
        results = {case.namespace: Path(folder) / f"{case.namespace}.json" for case in plan.cases}
        catalog = DataCatalog({name: CaseResultDataset(filepath=str(path)) for name, path in results.items()})
        catalog["ready"] = MemoryDataset(1)
        cases = [
            Node(bind_first(do_nothing, case), "ready", case.namespace, name=case.namespace, tags=WORKER)
            for case in plan.cases
        ]
        began = time.perf_counter()
        DaskRunner(workers=2).run(Pipeline(cases), catalog)
        seconds = time.perf_counter() - began
        made = sum(path.exists() for path in results.values())
    peak = psutil.Process().memory_info().rss / 1e9
    print(
        f"{made} results, {seconds:.1f} s, {1e3 * seconds / count:.1f} ms a case, {peak:.2f} GB at the end", flush=True
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
