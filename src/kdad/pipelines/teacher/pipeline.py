"""The teacher of each receptive field, trained on natural images."""

from kedro.pipeline import Node, Pipeline

from kdad.pipelines.reporting.nodes import draw_loss_curves
from kdad.pipelines.teacher.nodes import train_teachers


def create_pipeline(after: str | None = None) -> Pipeline:
    """Train the teachers, once the data set `after` is there, and draw their losses."""
    return Pipeline(
        [
            Node(
                train_teachers,
                inputs={
                    "folder": "teacher_folder",
                    "teacher": "params:teacher",
                    "students": "params:students",
                    "compute": "params:compute",
                    "seed": "params:seed",
                    **({"checked": after} if after else {}),
                },
                outputs=["teachers", "teacher_loss_history"],
                name="train_teachers",
                tags=["training"],
            ),
            Node(
                draw_loss_curves,
                inputs={"history": "teacher_loss_history"},
                outputs="teacher_loss_figure",
                name="draw_teacher_losses",
            ),
        ]
    )
