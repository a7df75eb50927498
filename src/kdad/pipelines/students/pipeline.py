"""The students of each receptive field, trained on the teacher's descriptors of normal images."""

from kedro.pipeline import Node, Pipeline

from kdad.pipelines.students.nodes import check_inputs, describe_images, train_students

_SETTINGS = {"dataset": "params:dataset", "teacher": "params:teacher", "students": "params:students"}


def create_check() -> Pipeline:
    """Check images, split and natural images, before anything trains."""
    inputs = {**_SETTINGS, "split_table": "split_table"}
    return Pipeline([Node(check_inputs, inputs=inputs, outputs="student_inputs_checked", name="check_student_inputs")])


def create_pipeline() -> Pipeline:
    """Describe the images densely, then train the students."""
    shared = {**_SETTINGS, "split_table": "split_table", "teachers": "teachers", "compute": "params:compute"}
    return Pipeline(
        [
            Node(
                describe_images,
                inputs={**shared, "folder": "descriptor_folder"},
                outputs="descriptors",
                name="describe_images",
                tags=["training"],
            ),
            Node(
                train_students,
                inputs={**shared, "descriptors": "descriptors", "folder": "student_folder", "seed": "params:seed"},
                outputs=["students", "students_loss_history"],
                name="train_students",
                tags=["training"],
            ),
        ]
    )
