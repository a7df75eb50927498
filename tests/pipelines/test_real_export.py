"""Every system of torch, trained for a moment on a real category: its exported file against itself in float32."""

from pathlib import Path

import numpy as np
import pytest

from kdad.detectors.exported.detector import open_exported
from kdad.detectors.opening import open_detector
from projects import run_pipeline

pytestmark = [pytest.mark.real_data, pytest.mark.long]


def _training(epochs: int) -> dict:
    return {"training": {"epochs": epochs}}


CASES = {
    "mkd": ("mkd", {"cloner": _training(3)}),
    "mkd_vgg16": ("mkd", {"cloner": _training(2)}),
    "stfpm": ("stfpm", {"stfpm": _training(2)}),
    "committee": ("committee", {"cloner": _training(3)}),
    "uninformed_students": (
        "uninformed_students",
        {
            "teacher": {"width": 0.1, **_training(1)},
            "students": {"receptive_fields": [17, 33], "count": 2, **_training(1)},
        },
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_on_83_images_scores_and_decisions_are_the_detectors(case, project, shared):
    pipeline, blocks = CASES[case]
    root = shared / "data/mvtec_ad_256"
    blocks |= {
        "dataset": {"root": str(root), "category": "bottle", "image_size": 64},
        "compute": {"precision": "float32", "threads": 1},
    }
    if case.endswith("vgg16"):
        blocks["source"] = {"name": "vgg16", "weights": str(shared / "weights/vgg16_imagenet_conv.safetensors")}
    run_pipeline(project, "mvtec", pipeline, runtime_params=blocks)
    detector = open_detector(project / f"data/06_models/folder/bottle/{pipeline}/detector", "cpu", "float32")
    paths = sorted(Path(root / "bottle/test").glob("*/*.png"))
    expected = [detector.predict(path) for path in paths]
    scores = np.array([one.score for one in expected])
    assert len(scores) == 83
    wanted = {"output": str(project / "exported")}
    run_pipeline(project, "mvtec", "export", runtime_params=blocks | {"export": wanted})
    for runtime in ("onnxruntime", "openvino"):
        predictor = open_exported(project / "exported/detector/detector.onnx", runtime)
        found = [predictor.predict(path) for path in paths]
        differences = np.abs(np.array([one.score for one in found]) - scores)
        assert differences.max() <= 1e-4 * np.ptp(scores), runtime
        assert [one.decision for one in found] == [one.decision for one in expected], runtime
        maps, exact = (np.stack([one.map for one in judged]) for judged in (found, expected))
        assert np.abs(maps - exact).max() <= 1e-3 * np.ptp(exact), runtime
