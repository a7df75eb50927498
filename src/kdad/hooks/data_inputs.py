"""Which images a run was made from and measured on, as MLflow's data sets."""

import json
from typing import Any

import pandas as pd

from kdad.images.splits import Split
from kdad.parameters.dataset import DatasetParameters

_CONTEXTS = {"train": "training", "validation": "validation", "test": "test"}


def data_inputs(table: pd.DataFrame, parameters: dict[str, Any], dataset_name: str) -> list[dict[str, Any]]:
    """Return the images of each part of a split: name, digest, counts and context, as `TrackedRun.inputs` takes them.

    `dataset_name` begins with the category's namespace where a plan runs over several.
    """
    namespace = dataset_name.rpartition(".")[0]
    block = parameters["categories"][namespace]["dataset"] if namespace else parameters["dataset"]
    dataset = DatasetParameters.model_validate(block)
    split = Split(table)
    found = []
    for part, context in _CONTEXTS.items():
        rows = table.iloc[split.rows(part)]
        if len(rows) == 0:
            continue
        counts = {"images": len(rows), **{str(kind): int(count) for kind, count in rows["kind"].value_counts().items()}}
        digest = Split(rows).images_digest
        source = {"dataset": dataset.name, "category": dataset.category_name, "root": dataset.origin or ""}
        found.append(
            {
                "context": context,
                "dataset": {
                    "name": f"{dataset.name}/{dataset.category_name}",
                    "digest": digest,
                    "source_type": "kdad",
                    "source": json.dumps(source),
                    "profile": json.dumps(counts),
                },
            }
        )
    return found
