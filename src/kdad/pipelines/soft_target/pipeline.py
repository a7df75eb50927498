"""Teachers, then what soft targets are good for, then figures, and the detector that is kept."""

from kedro.pipeline import Node, Pipeline

from kdad.pipelines import ingestion
from kdad.pipelines.soft_target.nodes import (
    draw_soft_targets,
    keep_student,
    omit_class,
    on_distillation,
    score_disagreement,
    summarise_soft_targets,
    sweep_labels,
    sweep_temperatures,
    train_teachers,
)

_SHARED = {
    "image_set": "image_set",
    "soft_target": "params:soft_target",
    "stores": "stores",
    "compute": "params:compute",
    "seed": "params:seed",
}


def create_pipeline() -> Pipeline:
    """Train teachers, sweep temperature and labels, omit a class, detect anomalies, draw, keep a detector."""
    tables = {name: f"soft_target.{name}" for name in ("teachers", "sweep", "labels", "omission", "anomaly")}
    drawn = {name: tables[name] for name in ("teachers", "sweep", "labels")}
    kept = {**_SHARED, "split_table": "split_table", "measuring": "params:measuring"}
    steps = [
        (on_distillation(train_teachers), _SHARED, ["teachers", "teacher_loss_history"], "train_soft_teachers"),
        (on_distillation(sweep_temperatures), _SHARED, "sweep", "sweep_temperatures"),
        (on_distillation(sweep_labels), _SHARED, "labels", "sweep_labels"),
        (on_distillation(omit_class), _SHARED, "omission", "omit_class"),
        (on_distillation(score_disagreement), _SHARED, "anomaly", "score_disagreement"),
        (draw_soft_targets, _SHARED | drawn, "figures", "draw_soft_targets"),
        (summarise_soft_targets, tables, "summary", "summarise_soft_targets"),
        (keep_student, kept, "detector", "keep_student"),
    ]
    return ingestion.create_pipeline() + Pipeline(
        [
            Node(
                function,
                inputs=inputs,
                outputs=f"soft_target.{made}" if isinstance(made, str) else [f"soft_target.{name}" for name in made],
                name=name,
            )
            for function, inputs, made, name in steps
        ]
    )
