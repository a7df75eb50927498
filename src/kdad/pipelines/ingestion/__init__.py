"""From an image set to a split and a report."""

from kedro.pipeline import Node, Pipeline

from kdad.pipelines.ingestion.nodes import (
    report_images,
    sample_teacher_patches,
    split_images,
    validate_images,
)


def create_pipeline() -> Pipeline:
    """Validate images and split the normal ones."""
    return Pipeline(
        [
            Node(validate_images, inputs=["image_set"], outputs="image_table", name="validate_images", tags="training"),
            Node(
                split_images,
                inputs={"image_table": "image_table", "dataset": "params:dataset", "seed": "params:seed"},
                outputs="split_table",
                name="split_images",
                tags="training",
            ),
        ]
    )


def create_report(system: str) -> Pipeline:
    """Leave a page of what images there are and what is odd about them, once the frozen networks of `system` ran."""
    node = Node(
        report_images,
        inputs={
            "image_set": "image_set",
            "image_table": "image_table",
            "split_table": "split_table",
            "feature_caches": f"{system}.features",
            "dataset": "params:dataset",
        },
        outputs=["data_report", "data_report_table", "duplicates"],
        name="report_images",
        tags="training",
    )
    return Pipeline([node])


def create_patches() -> Pipeline:
    """Sample the natural patches that teachers are trained on."""
    node = Node(
        sample_teacher_patches,
        inputs={"teacher": "params:teacher", "students": "params:students"},
        outputs="teacher_patches",
        name="sample_teacher_patches",
        tags="training",
    )
    return Pipeline([node])
