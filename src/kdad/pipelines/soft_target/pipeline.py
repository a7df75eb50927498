"""Teachers, then what soft targets are good for, then figures."""

from kedro.pipeline import Node, Pipeline

from kdad.pipelines.soft_target.nodes import (
    draw_soft_targets,
    omit_class,
    score_disagreement,
    summarise_soft_targets,
    sweep_labels,
    sweep_temperatures,
    train_teachers,
)

_SHARED = {
    "folder": "soft_target_folder",
    "dataset": "params:dataset",
    "soft_target": "params:soft_target",
    "compute": "params:compute",
    "seed": "params:seed",
}


def create_pipeline() -> Pipeline:
    """Train teachers, sweep temperature and labels, omit a class, detect anomalies, draw."""
    taught = {"teachers": "soft_target.teachers", **_SHARED}
    tables = {name: f"soft_target.{name}" for name in ("teachers", "sweep", "labels", "omission", "anomaly")}
    drawn = {name: tables[name] for name in ("sweep", "labels")}
    return Pipeline(
        [
            Node(
                train_teachers,
                inputs=_SHARED,
                outputs=["soft_target.teachers", "soft_target.teacher_loss_history"],
                name="train_soft_teachers",
            ),
            Node(sweep_temperatures, inputs=taught, outputs="soft_target.sweep", name="sweep_temperatures"),
            Node(sweep_labels, inputs=taught, outputs="soft_target.labels", name="sweep_labels"),
            Node(omit_class, inputs=taught, outputs="soft_target.omission", name="omit_class"),
            Node(
                score_disagreement,
                inputs=taught,
                outputs="soft_target.anomaly",
                name="score_disagreement",
            ),
            Node(draw_soft_targets, inputs=taught | drawn, outputs="soft_target.figures", name="draw_soft_targets"),
            Node(summarise_soft_targets, inputs=tables, outputs="soft_target.summary", name="summarise_soft_targets"),
        ]
    )
