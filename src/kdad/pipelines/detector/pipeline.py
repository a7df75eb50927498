"""The steps of a system's pipeline; its data sets are named after it."""

from kedro.pipeline import Node, Pipeline

from kdad.detectors.registry import SYSTEMS
from kdad.pipelines.binding import bind_first
from kdad.pipelines.detector.nodes import (
    calibrate_threshold,
    compute_features,
    fit_detector,
    map_images,
    prepare_frozen,
    smooth_maps,
)

_IMAGES = {"image_set": "image_set", "split_table": "split_table"}
_MACHINE = {"stores": "stores", "compute": "params:compute"}


def create_frozen(system: str) -> Pipeline:
    """Check the inputs and make the frozen networks ready."""
    inputs = {**_IMAGES, **_MACHINE, "seed": "params:seed"}
    return Pipeline([_settings_node(prepare_frozen, system, inputs, f"{system}.frozen")])


def create_features(system: str) -> Pipeline:
    """Run the frozen networks over every image, once."""
    inputs = {**_IMAGES, **_MACHINE, "frozen": f"{system}.frozen"}
    outputs = [f"{system}.features", f"{system}.feature_cost"]
    return Pipeline([_settings_node(compute_features, system, inputs, outputs)])


def create_fitting(system: str) -> Pipeline:
    """Train the learnt half on normal images, after the data report has warned of them."""
    inputs = {**_IMAGES, **_MACHINE, "seed": "params:seed", "reported": "data_report_table"}
    inputs |= {"frozen": f"{system}.frozen", "feature_caches": f"{system}.features"}
    outputs = [f"{system}.{name}" for name in ("fitted", "loss_history", "fitting_cost")]
    return Pipeline([_settings_node(fit_detector, system, inputs, outputs)])


def create_scoring(system: str) -> Pipeline:
    """Map images, smooth the maps, calibrate the threshold."""
    fitted = {"detector": f"{system}.fitted"}
    return Pipeline(
        [
            Node(
                map_images,
                inputs={**fitted, **_IMAGES, **_MACHINE, "feature_caches": f"{system}.features"},
                outputs=[f"{system}.{name}" for name in ("raw_scores", "raw_maps", "mapping_cost")],
                name=f"{system}_map_images",
                tags=["inference"],
            ),
            Node(
                smooth_maps,
                inputs={**fitted, "raw_maps": f"{system}.raw_maps"},
                outputs=f"{system}.anomaly_maps",
                name=f"{system}_smooth_maps",
                tags=["inference"],
            ),
            Node(
                calibrate_threshold,
                inputs={
                    **fitted,
                    "split_table": "split_table",
                    "raw_scores": f"{system}.raw_scores",
                    "anomaly_maps": f"{system}.anomaly_maps",
                    "measuring": "params:measuring",
                },
                outputs=[f"{system}.scores", f"{system}.threshold"],
                name=f"{system}_calibrate_threshold",
                tags=["inference"],
            ),
        ]
    )


def _settings_node(function, system: str, inputs: dict[str, str], outputs: str | list[str]) -> Node:
    blocks = {name: f"params:{name}" for name in SYSTEMS[system].Settings.model_fields}
    return Node(
        bind_first(function, system),
        inputs=blocks | inputs,
        outputs=outputs,
        name=f"{system}_{function.__name__}",
        tags=["training"],
    )
