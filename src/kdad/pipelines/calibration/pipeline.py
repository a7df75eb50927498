"""Another threshold for a kept detector; the old detector stays as it is."""

from kedro.pipeline import Node, Pipeline

from kdad.pipelines.calibration.nodes import calibrate


def create_pipeline() -> Pipeline:
    """Score the calibration images, set the threshold, keep the new detector; in one step, all of it or nothing."""
    return Pipeline(
        [
            Node(
                calibrate,
                inputs={
                    "detector": "calibration.source",
                    "images": "calibration.images",
                    "calibration": "params:calibration",
                    "compute": "params:compute",
                },
                outputs=["calibration.scores", "calibration.detector", "calibration.threshold"],
                name="calibrate_detector",
            ),
        ]
    )
