"""Images judged by one detector: those of a folder, then a sheet, a page, and what labels say; or those that arrive."""

from kedro.pipeline import Node, Pipeline

from kdad.pipelines.inference.nodes import (
    predict_images,
    report_predictions,
    report_watch,
    stop_on_unreadable,
    watch_folder,
)


def create_pipeline() -> Pipeline:
    """Judge images, report, and end with an error when files could not be read."""
    wanted, judged = {"inference": "params:inference"}, {"predictions": "inference.predictions"}
    return Pipeline(
        [
            Node(
                predict_images,
                inputs={
                    **wanted,
                    "detector": "inference.detector",
                    "images": "inference.images",
                    "output": "inference.output_folder",
                    "compute": "params:compute",
                },
                outputs=["inference.predictions", "inference.understood", "inference.reference"],
                name="predict_images",
                tags=["inference"],
            ),
            Node(
                report_predictions,
                inputs={
                    **wanted,
                    **judged,
                    "understood": "inference.understood",
                    "reference": "inference.reference",
                    "measuring": "params:measuring",
                },
                outputs=["inference.contact_sheet", "inference.page", "inference.metrics"],
                name="report_predictions",
                tags=["inference"],
            ),
            Node(
                stop_on_unreadable,
                inputs={**judged, "page": "inference.page"},
                outputs=None,
                name="report_unreadable_files",
                tags=["inference"],
            ),
        ]
    )


def create_watch() -> Pipeline:
    """Judge files as they arrive in a folder, until told to end, then report."""
    wanted = {"inference": "params:inference"}
    return Pipeline(
        [
            Node(
                watch_folder,
                inputs={
                    **wanted,
                    "detector": "inference.detector",
                    "folder": "inference.watched_folder",
                    "output": "inference.output_folder",
                    "compute": "params:compute",
                },
                outputs=["inference.watched", "inference.understood", "inference.reference"],
                name="watch_folder",
                tags=["inference"],
            ),
            Node(
                report_watch,
                inputs={
                    **wanted,
                    "predictions": "inference.watched",
                    "understood": "inference.understood",
                    "reference": "inference.reference",
                },
                outputs=["inference.contact_sheet", "inference.page", "inference.metrics"],
                name="report_watch",
                tags=["inference"],
            ),
        ]
    )
