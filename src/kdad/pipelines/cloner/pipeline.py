"""The cloner, trained on normal images against cached activations."""

from kedro.pipeline import Node, Pipeline

from kdad.pipelines.cloner.nodes import train_cloner


def create_pipeline() -> Pipeline:
    """Train the cloner."""
    return Pipeline(
        [
            Node(
                train_cloner,
                inputs={
                    "split_table": "split_table",
                    "source_activations": "source_activations",
                    "checkpoint_folder": "cloner_checkpoint_folder",
                    "compute": "params:compute",
                    "cloner": "params:cloner",
                    "seed": "params:seed",
                },
                outputs=["cloner", "cloner_loss_history", "cloner_cost"],
                name="train_cloner",
                tags=["training"],
            )
        ]
    )
