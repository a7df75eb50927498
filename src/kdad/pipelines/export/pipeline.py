"""A kept detector written as a file of another runtime; the detector stays as it is."""

from kedro.pipeline import Node, Pipeline

from kdad.pipelines.export.nodes import export


def create_pipeline() -> Pipeline:
    """Build the file, have it judge beside the detector, and keep it only when it agrees; in one step."""
    return Pipeline(
        [
            Node(
                export,
                inputs={
                    "detector": "export.source",
                    "images": "export.images",
                    "wanted": "params:export",
                    "dataset": "params:dataset",
                    "compute": "params:compute",
                },
                outputs=["export.detector", "export.report"],
                name="export_detector",
            ),
        ]
    )
