"""The page where a person drops an image, and what it and ``/health`` say of the detector."""

from typing import Any

from kdad.detectors.judge import Judge
from kdad.parameters.serving import ServingParameters
from kdad.reporting.html import render_html


def describe_judge(judge: Judge) -> dict[str, Any]:
    """Return which detector it is, its threshold and what that promises, as JSON."""
    made, threshold = judge.record, judge.threshold
    known = {name: made.get(name) for name in ("dataset", "category", "seed", "made", "commit", "folder", "mlflow_run")}
    return {
        "system": judge.system,
        "image_size": list(judge.size),
        "threshold": threshold.value,
        "rule": threshold.rule,
        "promise": threshold.statement(),
        "maps": bool(judge.methods),
        **known,
    }


def render_page(judge: Judge, limits: ServingParameters) -> str:
    """Return the page as HTML; it fetches nothing but answers of its server."""
    said = describe_judge(judge)
    height, width = judge.size
    facts = [
        ("Detector", f"{said['system']}, made on {said['dataset']} / {said['category']}, {said['made']}"),
        ("Images", f"{height} x {width}; others are resized as in training"),
        ("Threshold", f"{said['threshold']:.6g}, by {said['rule']}: {said['promise']}"),
        ("Limits", f"{limits.body_megabytes:g} MB, {limits.megapixels:g} million pixels"),
    ]
    title = f"Is it normal? {said['dataset']} / {said['category']}"
    normal = judge.held_out_scores
    lowest = float(normal.min()) if len(normal) else None
    return render_html("kdad.serving", "drop", title=title, facts=facts, has_maps=said["maps"], lowest=lowest)
