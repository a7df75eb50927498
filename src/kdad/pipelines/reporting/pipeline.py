"""Metrics, figures and the table of scores of a system, and the detector that is kept."""

from kedro.pipeline import Node, Pipeline

from kdad.pipelines.detector.nodes import keep_detector
from kdad.pipelines.reporting.nodes import (
    draw_curves,
    draw_heatmap_sheet,
    draw_loss_curves,
    draw_score_histogram,
    measure_detector,
    write_metrics,
)


def create_pipeline(system: str) -> Pipeline:
    """Measure detection and localisation, draw the figures, write the metrics, keep the detector."""

    def own(*names: str) -> dict[str, str]:
        return {name: f"{system}.{name}" for name in names}

    images = {"image_set": "image_set", "split_table": "split_table"}
    fitted = {"detector": f"{system}.fitted"}
    measuring = {"measuring": "params:measuring"}
    steps = [
        (
            measure_detector,
            {**fitted, **images, **own("scores", "raw_maps", "anomaly_maps"), **measuring},
            ["measured", "curves", "ground_truth"],
        ),
        (
            write_metrics,
            {**fitted, **own("measured", "threshold", "feature_cost", "fitting_cost", "mapping_cost")},
            "metrics",
        ),
        (
            draw_curves,
            own("scores", "measured", "curves") | measuring,
            ["roc_figure", "pro_figure"],
        ),
        (draw_score_histogram, own("scores", "threshold"), "score_histogram_figure"),
        (draw_loss_curves, {"history": f"{system}.loss_history"}, "loss_figure"),
        (
            draw_heatmap_sheet,
            {**fitted, **images, **own("scores", "anomaly_maps", "ground_truth"), "reporting": "params:reporting"},
            "heatmap_sheet",
        ),
        (
            keep_detector,
            own("fitted", "scores", "threshold", "anomaly_maps", "metrics")
            | {**images, **measuring, "feature_caches": f"{system}.features"},
            "detector",
        ),
    ]
    return Pipeline([_node(function, inputs, outputs, system) for function, inputs, outputs in steps])


def _node(function, inputs: dict[str, str], outputs: str | list[str], system: str) -> Node:
    named = f"{system}.{outputs}" if isinstance(outputs, str) else [f"{system}.{name}" for name in outputs]
    return Node(function, inputs=inputs, outputs=named, name=f"{system}_{function.__name__}", tags=["reporting"])
