"""Ranks methods over image sets: reads finished cases of `paper_tables`, writes the tables of ``which_method.md``.

    python benchmarks/rank_methods.py [NAME=]FOLDER... [--page=docs/how_to/which_method.md]

A FOLDER holds the results of a run, such as ``data/07_model_output/textures/paper_tables``; its NAME, by default that
of the data set, stands before its categories. Of a cell that is found twice the one made last counts. Without a page,
whose part between two marks is replaced, the tables are printed.
"""

import argparse
import json
from pathlib import Path

import pandas as pd

from kdad.experiments.case import CaseResult, made_by
from kdad.metrics.names import MAIN, METRICS
from written_tables import heads, line, number, replace_part, spread, wrapped

_CELL = ["set", "method", "seed"]
_RANKED = ("image_auroc", "pro_auc")
_COSTS = {"train_seconds": "training, s", "milliseconds_an_image": "ms an image"}
_NOTE = (
    "Percent, mean ± standard deviation over seeds; the last step of every training, one setting for all sets. The "
    "best of a set has rank 1. The worst loss is the distance to the best method of a set, in points, where it is "
    "largest. Costs are medians over cells, without the source's pass and a teacher's training. A method that makes no "
    "map has no rank of maps."
)


def main() -> None:
    """Read the folders, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="+", metavar="[NAME=]FOLDER", help="results of a run of paper_tables")
    parser.add_argument("--page", type=Path, help="Markdown page with the two marks; else the tables are printed")
    given = parser.parse_args()
    results = {}
    for one in given.folders:
        name, _, folder = one.rpartition("=")
        results |= read_folder(Path(folder), name or Path(folder).resolve().parent.name, results)
    text = render(cells_of(results), made_by(list(results.values())))
    if given.page is None:
        print(text)
    else:
        given.page.write_text(
            replace_part(given.page.read_text(encoding="utf-8"), text, Path(__file__).name), encoding="utf-8"
        )


def read_folder(
    folder: Path, name: str, known: dict[tuple[str, str, int], CaseResult]
) -> dict[tuple[str, str, int], CaseResult]:
    """Return the results below a folder by set, method and seed, but those that `known` has finished later."""
    files = sorted(folder.glob("*.json"))
    if not files:
        raise SystemExit(f"'{folder}' holds no results (*.json); give a folder that paper_tables has written")
    found = {}
    for file in files:
        for values in json.loads(file.read_text(encoding="utf-8")):
            result = CaseResult.model_validate(values)
            cell = (f"{name} {result.category}", result.variant, result.seed)
            if cell not in known or (result.finished, result.made) > (known[cell].finished, known[cell].made):
                found[cell] = result
    return found


def cells_of(results: dict[tuple[str, str, int], CaseResult]) -> pd.DataFrame:
    """Return a row for each set, method and seed with its metrics in percent and its costs; NaN where it failed."""
    rows = [
        [*cell, *(result.metrics.get(metric) for metric in MAIN), *(result.costs.get(cost) for cost in _COSTS)]
        for cell, result in results.items()
    ]
    cells = pd.DataFrame(rows, columns=[*_CELL, *MAIN, *_COSTS])
    cells[[*MAIN, *_COSTS]] = cells[[*MAIN, *_COSTS]].astype(float)
    cells[list(MAIN)] *= 100
    return cells


def summarise(cells: pd.DataFrame) -> pd.DataFrame:
    """Return a row a method, the best mean rank first.

    Columns: for each metric its mean `_rank` over the sets that have it, its worst `_loss` (points) and the set where
    (`_where`); the costs' medians; `sets`, how many it was measured on.
    """
    means = cells.groupby(["method", "set"], sort=False)[list(MAIN)].mean()
    summary = cells.groupby("method", sort=False)[list(_COSTS)].median()
    for metric in MAIN:
        wide = means[metric].unstack()
        losses = wide.max() - wide
        summary[f"{metric}_rank"] = wide.rank(ascending=False).mean(axis=1)
        summary[f"{metric}_loss"] = losses.max(axis=1)
        summary[f"{metric}_where"] = losses.dropna(how="all").idxmax(axis=1)
    summary["sets"] = means[MAIN[0]].unstack().notna().sum(axis=1)
    order = summary[[f"{metric}_rank" for metric in _RANKED]].mean(axis=1, skipna=False)
    return summary.assign(order=order).sort_values(["order", f"{_RANKED[0]}_rank"]).drop(columns="order")


def render(cells: pd.DataFrame, origin: str) -> str:
    """Return the tables as Markdown: ranks and costs of each method, its worst losses, then each metric by set."""
    summary, sets, seeds = summarise(cells), list(dict.fromkeys(cells["set"])), sorted(set(cells["seed"]))
    labels = [METRICS[metric].label for metric in MAIN]
    lines = [wrapped(f"{_NOTE} Seeds {', '.join(map(str, seeds))}; {origin}."), ""]
    lines.append(heads(["mean rank", *labels, *_COSTS.values(), "sets"]))
    for method, row in summary.iterrows():
        ranks, costs = [row[f"{metric}_rank"] for metric in MAIN], [row[cost] for cost in _COSTS]
        counted = f"{row['sets']} of {len(sets)}"
        lines.append(line([method, *map(number, ranks), *(number(cost, ".3g") for cost in costs), counted]))
    lines += ["", heads(["worst loss", *labels])]
    for method, row in summary.iterrows():
        losses = [(row[f"{metric}_loss"], row[f"{metric}_where"]) for metric in MAIN]
        lines.append(
            line([method, *(f"{number(loss)} ({where})" if loss > 0 else number(loss) for loss, where in losses)])
        )
    for metric, label in zip(MAIN, labels, strict=True):
        lines += ["", heads([label, *summary.index])]
        for name in sets:
            own = cells[cells["set"] == name]
            lines.append(line([name, *(_cell(own[own["method"] == one], metric, seeds) for one in summary.index)]))
    absent = missing_seeds(cells)
    return "\n".join([*lines, "", wrapped(f"\\* Missing: {'; '.join(absent)}.")] if absent else lines)


def missing_seeds(cells: pd.DataFrame) -> list[str]:
    """Say of each set and method which seeds, that any cell has, were not finished."""
    finished = set(cells.dropna(subset=MAIN[0])[_CELL].itertuples(index=False, name=None))
    sets, methods, seeds = (dict.fromkeys(cells[name]) for name in _CELL)
    found = []
    for name in sets:
        for method in methods:
            absent = [str(seed) for seed in sorted(seeds) if (name, method, seed) not in finished]
            found += [f"{name}, {method}, seed {', '.join(absent)}"] if absent else []
    return found


def _cell(own: pd.DataFrame, metric: str, seeds: list[int]) -> str:
    """Say a cell's mean and spread, with a star where a seed is missing."""
    return spread(own[metric]) + ("" if own[MAIN[0]].notna().sum() == len(seeds) else "\\*")


if __name__ == "__main__":
    main()
