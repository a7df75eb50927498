"""Baselines on cached images and activations: fitted and scored, measured, drawn."""

from kedro.pipeline import Node, Pipeline

from kdad.pipelines.baselines.nodes import draw_baselines, measure_baselines, run_baselines

_MEASURED = {
    "split_table": "split_table",
    "baseline_folders": "baseline_folders",
    "dataset": "params:dataset",
    "baselines": "params:baselines",
}


def create_pipeline() -> Pipeline:
    """Run every baseline on what `ingestion` and `features` leave, and compare them."""
    return Pipeline(
        [
            Node(
                run_baselines,
                inputs={
                    "split_table": "split_table",
                    "source_activations": "source_activations",
                    "baselines": "params:baselines",
                    "compute": "params:compute",
                    "folder": "baseline_folder",
                    "seed": "params:seed",
                },
                outputs="baseline_folders",
                name="run_baselines",
            ),
            Node(
                measure_baselines,
                inputs=_MEASURED,
                outputs=["baseline_table", "baseline_metrics"],
                name="measure_baselines",
            ),
            Node(
                draw_baselines,
                inputs={**_MEASURED, "table": "baseline_table", "source": "params:source", "seed": "params:seed"},
                outputs=["baseline_sheets", "baseline_page"],
                name="draw_baselines",
            ),
        ]
    )
