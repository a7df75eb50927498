"""The page where a person drops an image, and what it and ``/health`` say of the detector."""

from typing import Any

from kdad.detectors.predictor import Predictor
from kdad.parameters.blocks import ServingParameters
from kdad.reporting.html import render_html


def describe_judge(predictor: Predictor) -> dict[str, Any]:
    """Return which detector it is, its threshold and what that promises, as JSON."""
    made, threshold = predictor.record, predictor.threshold
    known = {name: made.get(name) for name in ("dataset", "category", "seed", "made", "commit", "folder", "mlflow_run")}
    return {
        "system": predictor.system,
        "image_size": list(predictor.size),
        "threshold": threshold.value,
        "rule": threshold.rule,
        "promise": threshold.statement(),
        "maps": bool(predictor.methods),
        **known,
    }


def render_page(predictor: Predictor, limits: ServingParameters) -> str:
    """Return the page as HTML; it fetches nothing but answers of its server."""
    said = describe_judge(predictor)
    height, width = predictor.size
    facts = [
        ("Detector", f"{said['system']}, made on {said['dataset']} / {said['category']}, {said['made']}"),
        ("Images", f"{height} x {width}; others are resized as in training"),
        ("Threshold", f"{said['threshold']:.6g}, by {said['rule']}: {said['promise']}"),
        ("Limits", f"{limits.body_megabytes:g} MB, {limits.megapixels:g} million pixels"),
    ]
    title = f"Is it normal? {said['dataset']} / {said['category']}"
    normal = predictor.validation_scores
    lowest = float(normal.min()) if len(normal) else None
    return render_html("kdad.serving", "drop", title=title, facts=facts, has_maps=said["maps"], lowest=lowest)
