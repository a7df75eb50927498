"""Maps of regression error and predictive variance, over all receptive fields, and the threshold."""

from kedro.pipeline import Node, Pipeline

from kdad.pipelines.ensemble_scoring.nodes import calibrate_student_threshold, combine_maps, map_students
from kdad.pipelines.scoring.nodes import smooth_maps


def create_pipeline() -> Pipeline:
    """Map students, normalise and combine the maps, smooth them, calibrate the threshold."""
    return Pipeline(
        [
            Node(
                map_students,
                inputs={
                    "split_table": "split_table",
                    "teachers": "teachers",
                    "descriptors": "descriptors",
                    "students": "students",
                    "folder": "grid_map_folder",
                    "dataset": "params:dataset",
                    "teacher": "params:teacher",
                    "student_settings": "params:students",
                    "compute": "params:compute",
                },
                outputs=["student_grid_maps", "student_map_cost"],
                name="map_students",
                tags=["inference"],
            ),
            Node(
                combine_maps,
                inputs={
                    "split_table": "split_table",
                    "grid_maps": "student_grid_maps",
                    "dataset": "params:dataset",
                    "students": "params:students",
                    "student_scoring": "params:student_scoring",
                    "folder": "uninformed_students.raw_map_folder",
                },
                outputs=["uninformed_students.raw_maps", "student_map_constants"],
                name="combine_maps",
                tags=["inference"],
            ),
            Node(
                smooth_maps,
                inputs={
                    "scoring": "params:student_scoring",
                    "folder": "uninformed_students.anomaly_map_folder",
                    "raw_maps": "uninformed_students.raw_maps",
                },
                outputs="uninformed_students.anomaly_maps",
                name="smooth_student_maps",
                tags=["inference"],
            ),
            Node(
                calibrate_student_threshold,
                inputs={
                    "split_table": "split_table",
                    "anomaly_maps": "uninformed_students.anomaly_maps",
                    "student_scoring": "params:student_scoring",
                },
                outputs=["uninformed_students.scores", "uninformed_students.threshold"],
                name="calibrate_student_threshold",
                tags=["inference"],
            ),
        ]
    )
