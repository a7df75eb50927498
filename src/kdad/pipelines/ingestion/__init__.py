"""From an image set to a split and a report."""

from collections.abc import Callable
from typing import Any

from kedro.pipeline import Node, Pipeline

from kdad.pipelines import BoxedNode, blocks, shared
from kdad.pipelines.ingestion import nodes


def create_pipeline() -> Pipeline:
    """Validate images and split the normal ones."""
    return Pipeline(
        [
            _node(nodes.validate_images, shared("image_set"), "image_table"),
            _node(nodes.split_images, shared("image_table") | blocks("dataset", "seed"), "split_table"),
        ]
    )


def create_report(system: str) -> Pipeline:
    """Leave a page of what images there are and what is odd about them, once the frozen networks of `system` ran."""
    inputs = shared("image_set", "image_table", "split_table") | {"feature_caches": f"{system}.features"}
    outputs = ["data_report", "data_report_table", "duplicates"]
    return Pipeline(
        [Node(nodes.report_images, inputs | blocks("dataset"), outputs, name="report_images", tags="training")]
    )


def create_patches() -> Pipeline:
    """Sample the natural patches that teachers are trained on."""
    return Pipeline([_node(nodes.sample_teacher_patches, blocks("teacher", "students"), "teacher_patches")])


def _node(function: Callable[..., Any], inputs: dict[str, str], outputs: str | list[str]) -> Node:
    return BoxedNode(function, inputs, outputs, name=function.__name__, tags="training", namespace="ingestion")
