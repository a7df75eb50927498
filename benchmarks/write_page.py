"""Measures everything and writes ``docs/lab/benchmarks.md`` with its figure: `make benchmark`, a quarter of an hour.

    python benchmarks/write_page.py [--anomalib PYTHON] [--quick]

`--anomalib` is the Python of an environment that holds anomalib; `--quick` leaves the curves of whole runs out.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch

from bench_region_overlap import make_stack
from growth import Curve, curves
from kdad.compute import limit_threads
from kdad.metrics.pixel_ranking import pro_curve, rank_pixels
from kdad.storage.provenance import code_version
from stages import Stage, stages
from timing import PROJECT, Ceiling, fresh_project, in_turns, machine, run_process

_DETECTOR = "data/06_models/textures/brick/mkd/detector"
_PAGE = Path("lab/benchmarks.md")
_FIGURE = Path("images/benchmarks.png")
_WIDTH = 120  # of the page's lines
_DECADE = 10  # what differs by less is drawn from 0 on


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--anomalib", type=Path, help="Python of an environment with anomalib")
    parser.add_argument("--quick", action="store_true", help="without the curves of whole runs")
    parser.add_argument("--docs", type=Path, default=PROJECT / "docs", help="folder of the page")
    given = parser.parse_args()
    limit_threads(None)
    ceiling = Ceiling.measure()
    methods = "scoring.localisation=discrepancy gradients guided_backprop smooth_grad integrated_gradients"
    with tempfile.TemporaryDirectory() as folder:
        project = fresh_project(Path(folder))
        whole = run_process([sys.executable, "-m", "kedro", "run", "--env=local", f"--params={methods}"], project)
        found = list(stages(ceiling, project / _DETECTOR))
    title = "end to end: `kedro run` on textures brick with five maps, start and reports included"
    found.append(Stage(title, 1e3 * whole.seconds, ceiling=f"{whole.gigabytes:.2f} GB at the most"))
    if given.anomalib is not None:
        found += list(anomalib(given.anomalib))
    drawn = list(curves(() if given.quick else (1000, 5000, 20000), () if given.quick else (1, 2)))
    drawn = [curve for curve in drawn if all(curve[2].values())]
    for path in (_PAGE, _FIGURE):
        (given.docs / path).parent.mkdir(parents=True, exist_ok=True)
    draw(drawn, given.docs / _FIGURE)
    (given.docs / _PAGE).write_text(page(ceiling, found, drawn), encoding="utf-8")


def anomalib(python: Path) -> Iterable[Stage]:
    """Yield what anomalib does too, timed in its own environment."""
    masks, maps = make_stack(83, 256)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "maps.npz", masks=masks, maps=maps)
        side = [str(python), str(Path(__file__).with_name("anomalib_side.py")), f"{folder}/maps.npz"]
        answer = subprocess.run([*side, str(torch.get_num_threads())], capture_output=True, text=True, check=True)
    other = json.loads(answer.stdout.splitlines()[-1])
    ours = in_turns({"pro": lambda: pro_curve(rank_pixels(masks, maps)).area}, rounds=3)["pro"]
    difference = abs(other["aupro"] - pro_curve(rank_pixels(masks, maps)).area)
    said = f"anomalib {other['version']}, whose value differs by {difference:.1e}"
    yield Stage("PRO of 83 maps of 256 x 256", 1e3 * ours, said, 1e3 * other["aupro_seconds"])


def page(ceiling: Ceiling, found: list[Stage], drawn: list[Curve]) -> str:
    """Return the page as Markdown."""
    operations = ", ".join(f"{value / 1e9:.0f} GFLOP/s in {name}" for name, value in ceiling.operations.items())
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    lines = [
        "# Benchmarks",
        "",
        *wrapped(
            f"Written by `make benchmark` at commit {code_version(PROJECT)}, {datetime.now(UTC):%Y-%m-%d}. "
            f"{machine()}; "
            f"load at the end {load:.1f}. Works that are compared take turns in one process; medians. Another machine, "
            "or a busy one, has other times; ratios mostly stay."
        ),
        "",
        *wrapped(
            f"Ceilings of the same run: a product of matrices of 2,048 rows has {operations}. A copy in memory has "
            f"{ceiling.bytes / 1e9:.1f} GB/s read and written."
        ),
        "",
        "| stage | ms | compared with | its ms | times as fast | of the ceiling |",
        "|---|---|---|---|---|---|",
        *(_row(stage) for stage in found),
        "",
        "Reading files, compiling, freed memory and many images: [performance](performance.md).",
        "",
    ]
    if drawn:
        lines += ["## Growth", "", f"![Growth of the works below](../{_FIGURE.as_posix()})", ""]
        lines += [line for curve in drawn for line in _table(curve)]
    return "\n".join(lines).rstrip() + "\n"


def wrapped(text: str) -> list[str]:
    """Return a paragraph's lines."""
    return textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _row(stage: Stage) -> str:
    other = "" if stage.other_milliseconds is None else _number(stage.other_milliseconds)
    ratio = "" if stage.other_milliseconds is None else _number(stage.other_milliseconds / stage.milliseconds)
    cells = (stage.name, _number(stage.milliseconds), stage.compared_with, other, ratio, stage.ceiling)
    return f"| {' | '.join(cells)} |"


def _table(curve: Curve) -> list[str]:
    title, varied, lines = curve
    rows = [f"| {title}: {varied} | {' | '.join(lines)} |", "|" + "---|" * (len(lines) + 1)]
    for points in zip(*lines.values(), strict=True):
        rows.append(f"| {points[0].x:g} | {' | '.join(_number(point.y) for point in points)} |")
    return [*rows, ""]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def draw(drawn: list[Curve], path: Path) -> None:
    """Draw each curve, both axes logarithmic where there is much to see: a slope of one is linear growth."""
    if not drawn:
        return
    figure, axes = plt.subplots(1, len(drawn), figsize=(4.2 * len(drawn), 3.4), layout="constrained", squeeze=False)
    for axis, (title, varied, lines) in zip(axes[0], drawn, strict=True):
        for name, points in lines.items():
            axis.plot([point.x for point in points], [point.y for point in points], marker="o", label=name)
        xs = sorted({point.x for points in lines.values() for point in points})
        ys = [point.y for points in lines.values() for point in points]
        axis.set(xscale="log", xlabel=varied)
        axis.set_yscale("log") if max(ys) > _DECADE * min(ys) else axis.set_ylim(0, 1.1 * max(ys))
        axis.set_xticks(xs, [f"{x:g}" for x in xs])
        axis.minorticks_off()
        axis.set_title(title, fontsize=9)
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
