"""The source's activations of every image, once."""

from kedro.pipeline import Node, Pipeline

from kdad.pipelines.features.nodes import compute_source_activations, select_class_activations


def create_pipeline() -> Pipeline:
    """Compute source activations at the critical points."""
    return Pipeline(
        [
            Node(
                compute_source_activations,
                inputs={
                    "split_table": "split_table",
                    "image_statistics": "image_statistics",
                    "folder": "activation_folder",
                    "dataset": "params:dataset",
                    "source": "params:source",
                    "features": "params:features",
                    "compute": "params:compute",
                },
                outputs=["source_activations", "source_cost"],
                name="compute_source_activations",
                tags=["training"],
            )
        ]
    )


def create_selection() -> Pipeline:
    """Select a class's activations from those of every class."""
    return Pipeline(
        [
            Node(
                select_class_activations,
                inputs={
                    "split_table": "split_table",
                    "every_class": "every_class",
                    "folder": "activation_folder",
                    "dataset": "params:dataset",
                    "source": "params:source",
                    "features": "params:features",
                    "compute": "params:compute",
                },
                outputs=["source_activations", "source_cost"],
                name="select_class_activations",
                tags=["training"],
            )
        ]
    )
