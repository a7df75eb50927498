"""Where what is made with a kept detector goes: predictions, detectors with another threshold, exported files."""

from pathlib import Path
from typing import Any

from kdad.parameters.tiles import tiles_suffix
from kdad.parameters.written_names import folder_name, plain_name
from kdad.project.places import OutputFolder, folder_claim
from kdad.scoring.parameters import RULES_WITHOUT_VALUE

#: What results lie below, by pipeline.
RESULTS = {"inference": "inference", "calibration": "calibrated", "export": "exported"}


def results_place(pipeline: str, parameters: dict[str, Any], data: Path = Path("data")) -> str:
    """Return where `inference`, `calibration` or `export` leaves its results, named after what it was given.

    `data` holds the records of which images a place's results are of.
    """
    block = parameters[pipeline]
    if block.get("output"):
        return str(Path(block["output"]).expanduser())
    if pipeline == "export":
        name = folder_name("_".join(_detector_parts(block["detector"])))
        return f"data/06_models/{RESULTS[pipeline]}/{name}/onnx_{block['precision']}"
    claim = results_claim(pipeline, block, data)
    place = f"{_kind_of_results(pipeline, block)}/validation" if claim is None else claim.place
    if pipeline == "inference":
        return f"data/08_reporting/{place}"
    rule, value = block["rule"], block.get("value")
    alone = value is None or rule in RULES_WITHOUT_VALUE
    name, tiles = rule if alone else f"{rule}_{value}", block.get("tiles")
    if tiles is not None:
        name += tiles_suffix(tiles.get("size"), tiles.get("overlap"))
    return f"data/06_models/{place}/{name}"


def results_claim(pipeline: str, block: dict[str, Any], data: Path) -> OutputFolder | None:
    """Return the claim of what `inference` or `calibration` makes of images; None with an output, or no images."""
    images = None if pipeline == "export" else block.get("images")
    if block.get("output") or not images:
        return None
    return folder_claim(data, _kind_of_results(pipeline, block), Path(images).expanduser().resolve())


def _kind_of_results(pipeline: str, block: dict[str, Any]) -> str:
    """Return what results lie below; those of a watch, which grow, apart from those that are replaced."""
    return "watched" if pipeline == "inference" and block.get("watch") else RESULTS[pipeline]


def _detector_parts(location: str) -> list[str]:
    """Return what names a detector best: the last folders on the way to it, or the ID of its run, or its model."""
    location = str(location)
    if location.startswith("models:/"):
        return [plain_name(location.removeprefix("models:/"))]
    parts = [part for part in location.removeprefix("runs:").split("/") if part not in ("", ".", "..")]
    return (parts[:-1] if len(parts) > 1 and parts[-1] == "detector" else parts)[-3:] or ["detector"]
