"""Another threshold for a kept detector; the old detector stays as it is."""

from kedro.pipeline import Node, Pipeline

from kdad.pipelines.calibration.nodes import calibrate, score_images


def create_pipeline() -> Pipeline:
    """Score the calibration images, set the threshold, keep the new detector."""
    known = {"detector": "calibration.source", "calibration": "params:calibration"}
    return Pipeline(
        [
            Node(
                score_images,
                inputs={**known, "images": "calibration.images", "compute": "params:compute"},
                outputs="calibration.scores",
                name="score_calibration_images",
            ),
            Node(
                calibrate,
                inputs={**known, "calibration_scores": "calibration.scores"},
                outputs=["calibration.detector", "calibration.threshold"],
                name="calibrate_detector",
            ),
        ]
    )
