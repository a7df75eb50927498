"""Scores and maps of held-out normal and test images, and the threshold."""

from kedro.pipeline import Node, Pipeline

from kdad.pipelines.scoring.nodes import calibrate_threshold, map_forward, map_gradients, smooth_maps

_NETWORKS = {
    "split_table": "split_table",
    "source_activations": "source_activations",
    "cloner_weights": "cloner",
    "compute": "params:compute",
    "cloner": "params:cloner",
    "scoring": "params:scoring",
}


def create_pipeline() -> Pipeline:
    """Score images, map anomalies, smooth the maps, calibrate the threshold."""
    return Pipeline(
        [
            Node(
                map_forward,
                inputs={**_NETWORKS, "folder": "raw_map_folder"},
                outputs=["total_loss_scores", "forward_maps", "scoring_cost"],
                name="score_images",
                tags=["inference"],
            ),
            Node(
                map_gradients,
                inputs={
                    **_NETWORKS,
                    "source": "params:source",
                    "image_statistics": "image_statistics",
                    "seed": "params:seed",
                    "folder": "raw_map_folder",
                },
                outputs=["gradient_maps", "gradient_cost"],
                name="map_gradients",
                tags=["inference"],
            ),
            Node(
                smooth_maps,
                inputs={
                    "forward_maps": "forward_maps",
                    "gradient_maps": "gradient_maps",
                    "scoring": "params:scoring",
                    "folder": "anomaly_map_folder",
                },
                outputs="anomaly_maps",
                name="smooth_maps",
                tags=["inference"],
            ),
            Node(
                calibrate_threshold,
                inputs={
                    "split_table": "split_table",
                    "total_loss_scores": "total_loss_scores",
                    "anomaly_maps": "anomaly_maps",
                    "scoring": "params:scoring",
                },
                outputs=["scores", "threshold"],
                name="calibrate_threshold",
                tags=["inference"],
            ),
        ]
    )
