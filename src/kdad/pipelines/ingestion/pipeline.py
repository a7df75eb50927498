"""From an image set to a split, its statistics and patches."""

from kedro.pipeline import Node, Pipeline

from kdad.pipelines.ingestion.nodes import (
    compute_image_statistics,
    index_patches,
    split_images,
    validate_images,
)


def create_pipeline() -> Pipeline:
    """Validate images, split the normal ones, measure them, sample patches."""
    return Pipeline(
        [
            Node(
                validate_images,
                inputs={"dataset": "params:dataset"},
                outputs="image_table",
                name="validate_images",
                tags=["training"],
            ),
            Node(
                split_images,
                inputs={"image_table": "image_table", "dataset": "params:dataset", "seed": "params:seed"},
                outputs="split_table",
                name="split_images",
                tags=["training"],
            ),
            Node(
                compute_image_statistics,
                inputs={"split_table": "split_table", "dataset": "params:dataset"},
                outputs="image_statistics",
                name="compute_image_statistics",
                tags=["training"],
            ),
            Node(
                index_patches,
                inputs={
                    "split_table": "split_table",
                    "dataset": "params:dataset",
                    "patches": "params:patches",
                    "seed": "params:seed",
                },
                outputs="patch_index",
                name="sample_patches",
                tags=["training"],
            ),
        ]
    )
