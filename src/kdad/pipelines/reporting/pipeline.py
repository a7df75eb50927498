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
    write_student_metrics,
)

_TEST_MAPS = {"split_table": "split_table", "anomaly_maps": "anomaly_maps", "dataset": "params:dataset"}


_MEASURED = {
    "detection": "detection_metrics",
    "localisation": "localisation_metrics",
    "threshold": "threshold",
    "dataset": "params:dataset",
    "seed": "params:seed",
}


def create_pipeline() -> Pipeline:
    """Report on MKD: measure detection and localisation, draw the figures, write the metrics."""
    metrics = Node(
        write_metrics,
        inputs={
            **_MEASURED,
            "source_cost": "source_cost",
            "cloner_cost": "cloner_cost",
            "scoring_cost": "scoring_cost",
            "gradient_cost": "gradient_cost",
            "source": "params:source",
        },
        outputs="metrics",
        name="write_metrics",
    )
    return _measure_and_draw(["forward_maps", "gradient_maps"], "cloner_loss_history") + Pipeline([metrics])


def create_student_pipeline() -> Pipeline:
    """Report on Uninformed Students in the same way, in their own namespace."""
    metrics = Node(
        write_student_metrics,
        inputs={
            **_MEASURED,
            "teachers": "teachers",
            "students": "students",
            "cost": "student_map_cost",
            "constants": "student_map_constants",
            "teacher": "params:teacher",
        },
        outputs="metrics",
        name="write_metrics",
    )
    shared = {
        "split_table",
        "teachers",
        "students",
        "student_map_cost",
        "student_map_constants",
        "students_loss_history",
    }
    parameters = {name: name for name in ("params:dataset", "params:seed", "params:reporting", "params:teacher")}
    return Pipeline(
        _measure_and_draw(["raw_maps"], "students_loss_history") + Pipeline([metrics]),
        namespace="uninformed_students",
        inputs=shared,
        parameters=parameters | {"params:scoring": "params:student_scoring"},
    )


def _measure_and_draw(raw_maps: list[str], loss_history: str) -> Pipeline:
    """Measure maps and scores and draw the figures of one system."""
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
                    **{name: name for name in raw_maps},
                    "scoring": "params:scoring",
                },
                outputs="localisation_metrics",
                name="measure_localisation",
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
                inputs={"history": loss_history},
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
