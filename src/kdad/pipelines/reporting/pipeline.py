"""Metrics, figures and the table of scores."""

from kedro.pipeline import Node, Pipeline

from kdad.pipelines.reporting.nodes import (
    draw_curves,
    draw_heatmap_sheet,
    draw_loss_curves,
    draw_score_histogram,
    measure_detection,
    measure_localisation,
    write_metrics,
)

_TEST_MAPS = {"split_table": "split_table", "anomaly_maps": "anomaly_maps", "dataset": "params:dataset"}


def create_pipeline() -> Pipeline:
    """Measure detection and localisation, draw the figures, write the metrics."""
    return Pipeline(
        [
            Node(
                measure_detection,
                inputs={"scores": "scores", "scoring": "params:scoring", "seed": "params:seed"},
                outputs="detection_metrics",
                name="measure_detection",
            ),
            Node(
                measure_localisation,
                inputs={
                    **_TEST_MAPS,
                    "forward_maps": "forward_maps",
                    "gradient_maps": "gradient_maps",
                    "scoring": "params:scoring",
                },
                outputs="localisation_metrics",
                name="measure_localisation",
            ),
            Node(
                write_metrics,
                inputs={
                    "detection": "detection_metrics",
                    "localisation": "localisation_metrics",
                    "threshold": "threshold",
                    "source_cost": "source_cost",
                    "cloner_cost": "cloner_cost",
                    "scoring_cost": "scoring_cost",
                    "gradient_cost": "gradient_cost",
                    "dataset": "params:dataset",
                    "source": "params:source",
                    "seed": "params:seed",
                },
                outputs="metrics",
                name="write_metrics",
            ),
            Node(
                draw_curves,
                inputs={
                    **_TEST_MAPS,
                    "scores": "scores",
                    "detection": "detection_metrics",
                    "localisation": "localisation_metrics",
                    "scoring": "params:scoring",
                },
                outputs=["roc_figure", "pro_figure"],
                name="draw_curves",
            ),
            Node(
                draw_score_histogram,
                inputs={"scores": "scores", "threshold": "threshold"},
                outputs="score_histogram_figure",
                name="draw_score_histogram",
            ),
            Node(
                draw_loss_curves,
                inputs={"history": "cloner_loss_history"},
                outputs="loss_figure",
                name="draw_loss_curves",
            ),
            Node(
                draw_heatmap_sheet,
                inputs={
                    **_TEST_MAPS,
                    "scores": "scores",
                    "scoring": "params:scoring",
                    "reporting": "params:reporting",
                },
                outputs="heatmap_sheet",
                name="draw_heatmap_sheet",
            ),
        ]
    )
