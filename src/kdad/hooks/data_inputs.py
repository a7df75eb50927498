"""Which images a run was made from and measured on, as MLflow's data sets."""

import json
from typing import Any

import pandas as pd

from kdad.images.splits import PARTS, Split
from kdad.parameters.dataset import DatasetParameters


def data_inputs(table: pd.DataFrame, dataset: DatasetParameters) -> list[dict[str, Any]]:
    """Return the images of each part of a split: name, digest, counts and context, as `TrackedRun.inputs` takes them.

    A plan's table has a column ``category``, as it holds the splits of several.
    """
    if "category" not in table:
        return _of_category(table, dataset, dataset.category_name)
    parts = [_of_category(part, dataset, str(category)) for category, part in table.groupby("category", sort=False)]
    return [inputs for part in parts for inputs in part]


def _of_category(table: pd.DataFrame, dataset: DatasetParameters, category: str) -> list[dict[str, Any]]:
    split = Split(table)
    found = []
    for part, context in PARTS.items():
        rows = table.iloc[split.rows(part)]
        if len(rows) == 0:
            continue
        counts = {"images": len(rows), **{str(kind): int(count) for kind, count in rows["kind"].value_counts().items()}}
        digest = Split(rows).images_digest
        source = {"dataset": dataset.name, "category": category, "root": dataset.origin or ""}
        found.append(
            {
                "context": context,
                "dataset": {
                    "name": f"{dataset.name}/{category}",
                    "digest": digest,
                    "source_type": "kdad",
                    "source": json.dumps(source),
                    "profile": json.dumps(counts),
                },
            }
        )
    return found
