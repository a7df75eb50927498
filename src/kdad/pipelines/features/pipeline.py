"""The source's activations of every image, once."""

from collections.abc import Callable
from typing import Any

from kedro.pipeline import Node, Pipeline

from kdad.pipelines.features.nodes import compute_source_activations, select_class_activations


def create_pipeline() -> Pipeline:
    """Compute source activations at the critical points."""
    return _pipeline(compute_source_activations, image_statistics="image_statistics")


def create_selection() -> Pipeline:
    """Select a class's activations from those of every class."""
    return _pipeline(select_class_activations, every_class="every_class")


def _pipeline(function: Callable[..., Any], **own: str) -> Pipeline:
    parameters = {name: f"params:{name}" for name in ("dataset", "source", "features", "compute")}
    inputs = {"split_table": "split_table", "folder": "activation_folder", **own, **parameters}
    outputs = ["source_activations", "source_cost"]
    return Pipeline([Node(function, inputs=inputs, outputs=outputs, name=function.__name__, tags=["training"])])
