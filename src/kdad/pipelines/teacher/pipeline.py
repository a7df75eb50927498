"""The teacher of each receptive field, trained on natural images."""

from kedro.pipeline import Node, Pipeline

from kdad.pipelines.teacher.nodes import train_teachers
from kdad.reporting.curves import draw_loss_curves


def create_pipeline() -> Pipeline:
    """Train the teachers, once images and split are known to fit, and draw their losses."""
    blocks = {name: f"params:{name}" for name in ("teacher", "students", "student_scoring", "compute", "seed")}
    return Pipeline(
        [
            Node(
                train_teachers,
                inputs={
                    **{name: name for name in ("image_set", "split_table", "stores")},
                    "teacher_patches": "teacher_patches",
                    **blocks,
                },
                outputs=["uninformed_students.frozen", "uninformed_students.teacher_loss_history"],
                name="train_teachers",
                tags=["training"],
            ),
            Node(
                draw_loss_curves,
                inputs={"history": "uninformed_students.teacher_loss_history"},
                outputs="uninformed_students.teacher_loss_figure",
                name="draw_teacher_losses",
                tags=["reporting"],
            ),
        ]
    )
