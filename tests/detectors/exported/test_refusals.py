"""What cannot be exported, and files that cannot be used: one message each, and nothing written."""

import json
import sys
from copy import copy
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from exported_detectors import coloured_noise, export, wave_images, waves
from kdad.detectors import load
from kdad.detectors.exported import writing
from kdad.detectors.exported.detector import open_exported, write_exported
from kdad.detectors.exported.facts import read_texts
from kdad.detectors.exported.onnx_file import write_model
from kdad.detectors.exported.writing import VerificationImages, drawn, export_detector, of_run
from kdad.errors import InputError
from kdad.images.files.fitting import Region
from kdad.scoring.threshold import Calibration, quantile_threshold
from memory_images import split_of


class _Shifted:
    """A runtime that answers as the detector, but for a shift of the scores."""

    def __init__(self, detector, shift: float) -> None:
        self.detector, self.shift = detector, shift

    def __call__(self, model, path, precision):
        return self

    def run_pixels(self, image):
        found = self.detector.predict(image[0])
        return np.array([found.score + self.shift], dtype=np.float32), found.map[None]


def _written(folder) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name.startswith("detector")}


def _range(detector) -> float:
    return float(np.ptp([detector.predict(image.pixels()).score for image in wave_images().images]))


def _shift(detector, share: float, monkeypatch) -> None:
    found = _Shifted(detector, share * _range(detector))
    monkeypatch.setattr(writing, "RUNTIMES", {"onnxruntime": found})
    monkeypatch.setattr(writing, "build_model", lambda pixels, graph, normal: onnx.ModelProto())


def test_a_file_that_answers_otherwise_is_not_written(detector, tmp_path, monkeypatch):
    _shift(detector, 2e-4, monkeypatch)
    with pytest.raises(InputError, match=r"nothing is written: scores differ by 0.0002 of their range"):
        export(detector, tmp_path)
    assert _written(tmp_path) == set()


def test_thresholds_of_categories_are_set_anew_on_their_own_images_or_refused(detector, monkeypatch):
    _shift(detector, 2.0, monkeypatch)
    by_range, images = 2.0 * _range(detector), wave_images()
    kept = [replace(one, category="ab"[number % 2]) for number, one in enumerate(images.images)]
    before = {}
    for category in "ab":
        scores = [detector.predict(one.pixels()).score for one in kept if one.validation and one.category == category]
        before[category] = Calibration.of(quantile_threshold(np.array(scores), 0.6), np.array(scores))
    monkeypatch.setattr(detector, "by_category", before)
    for precision, made_in in (("int8", "float32"), ("int8", "bfloat16")):
        facts, _ = export_detector(detector, made_in, replace(images, images=kept), "onnxruntime", precision)
        for category, calibration in before.items():
            found = facts.by_category[category]
            assert found.threshold.value == pytest.approx(calibration.threshold.value + by_range, rel=1e-5)
            assert found.validation_scores == pytest.approx([one + by_range for one in calibration.validation_scores])
            assert found.threshold.expected_false_positive_rate == calibration.threshold.expected_false_positive_rate
    with pytest.raises(InputError, match=r"threshold of the category 'a', which a file in int8 takes anew"):
        export_detector(detector, "float32", images, "onnxruntime", "int8")
    united = split_of(waves())
    united.table["member"] = ["ab"[row % 2] for row in range(36)]
    assert {one.category for one in of_run(waves(), united).part(validation=True)} == {"a", "b"}


def test_a_difference_below_the_limit_is_not_refused(detector, tmp_path, monkeypatch):
    _shift(detector, 5e-5, monkeypatch)
    assert export(detector, tmp_path).loss.score_difference == pytest.approx(5e-5, rel=0.05)
    assert _written(tmp_path) == {"detector.onnx"}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_scores_that_are_not_finite_are_refused_in_any_precision(precision, detector, tmp_path, monkeypatch):
    _shift(detector, float("nan"), monkeypatch)
    with pytest.raises(InputError, match="scores are not finite"):
        export(detector, tmp_path, precision=precision)
    assert _written(tmp_path) == set()


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_what_loses_digits_takes_held_out_images(precision, detector):
    with pytest.raises(
        InputError, match=r"takes normal validation images, and there are drawn ones.*give export.images"
    ):
        export_detector(detector, "float32", drawn(detector.size), "openvino", precision)


def test_a_detector_of_a_region_is_not_exported_in_int8(detector):
    of_region = copy(detector)
    of_region.preparation = replace(detector.preparation, region=Region.of(np.ones(detector.size, bool)))
    images = [replace(image, validation=True) for image in drawn(detector.size).images[:2]]
    with pytest.raises(InputError, match=r"a detector of a region is not exported in int8; give export\.precision"):
        export_detector(of_region, "float32", VerificationImages(images, "two"), "onnxruntime", "int8")


def test_drawn_images_do_for_float32(detector, monkeypatch):
    _shift(detector, 0.0, monkeypatch)
    images = VerificationImages(drawn(detector.size).images[:4], "drawn")
    facts, _ = export_detector(detector, "float32", images, "onnxruntime", "float32")
    assert facts.loss.score_difference < 1e-4
    assert (facts.loss.image_auroc, facts.loss.images) == (None, 4)


@pytest.mark.parametrize(
    ("package", "runtime", "extra"),
    [
        ("onnxscript", "onnxruntime", "onnx"),
        ("onnxruntime", "onnxruntime", "onnx"),
        ("openvino", "openvino", "openvino"),
    ],
)
def test_a_missing_package_is_named_with_what_installs_it(package, runtime, extra, detector, tmp_path, monkeypatch):
    if package == runtime:  # which takes a model that is built
        monkeypatch.setattr(writing, "build_model", lambda pixels, graph, normal: onnx.ModelProto())
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"the package '{package}' is not installed.*pip install \"kdad\[{extra}\]\""):
        export(detector, tmp_path, runtime)


@pytest.mark.long
def test_a_file_in_float32_is_predicted_by_the_runtime_that_is_installed(exported, monkeypatch):
    assert load(exported()).runtime.package == "onnxruntime"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert load(exported()).runtime.package == "openvino"
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(InputError, match=r"the package 'onnxruntime' is not installed.*kdad\[onnx\]"):
        load(exported())


@pytest.mark.long
def test_another_precision_takes_the_runtime_that_set_its_threshold(exported, monkeypatch):
    folder = exported("openvino", "bfloat16")
    assert load(folder).runtime.package == "openvino"
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(InputError, match="the package 'openvino' is not installed"):
        load(folder)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_file_that_is_cut_short_is_refused(share, exported, tmp_path):
    content = (exported() / "detector.onnx").read_bytes()
    (tmp_path / "detector.onnx").write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"detector.onnx' cannot be read as ONNX .*undamaged copy"):
        load(tmp_path)


def test_a_model_that_its_runtime_cannot_run_is_refused(exported, tmp_path):
    model = onnx.load(exported() / "detector.onnx")
    model.graph.node[0].op_type = "Unknown"
    onnx.save(model, tmp_path / "detector.onnx")
    with pytest.raises(InputError, match="is not as it was written: the SHA-256 of its graph is another"):
        load(tmp_path / "detector.onnx")
    facts = read_texts({one.key: one.value for one in model.metadata_props}, "")
    write_model(model, facts.model_copy(update={"sha256": ""}).texts(), tmp_path / "detector.onnx")  # as once
    for runtime in ("onnxruntime", "openvino"):
        with pytest.raises(InputError, match=r"cannot be read as ONNX .*undamaged copy"):
            open_exported(tmp_path / "detector.onnx", runtime).runtime.run_pixels(coloured_noise(1, 32, 48))


def test_a_file_of_another_program_is_refused(exported, tmp_path):
    model = onnx.load(exported() / "detector.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(InputError, match="was not exported by kdad"):
        load(tmp_path / "other.onnx")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "an export of format 2, and this version of kdad reads format 3"),
        ({"threshold": "low"}, "was changed"),
        ({"runtime": "tensorrt"}, "was changed"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(change, said, exported, tmp_path):
    model = onnx.load(exported() / "detector.onnx")
    texts = {one.key: one.value for one in model.metadata_props}
    texts["kdad"] = json.dumps(json.loads(texts["kdad"]) | change)
    onnx.helper.set_model_props(model, texts)
    onnx.save(model, tmp_path / "detector.onnx")
    with pytest.raises(InputError, match=said):
        load(tmp_path)


@pytest.mark.parametrize("name", ["detector.tflite", "detector.xml", "detector.pt2"])
def test_a_file_of_another_kind_is_refused(name, tmp_path):
    (tmp_path / name).write_bytes(b"?")
    with pytest.raises(InputError, match=rf"'.*{name}' is no detector: it does not end in .onnx; .*export again"):
        load(tmp_path / name)


def test_a_folder_of_anything_else_is_not_replaced(exported, tmp_path):
    model, facts = onnx.load(exported() / "detector.onnx"), load(exported()).facts
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    with pytest.raises(InputError, match="is there already and is no exported detector"):
        write_exported(facts, model, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]
    (tmp_path / "older").mkdir()
    (tmp_path / "older/detector.onnx").write_bytes(b"old")
    write_exported(facts, model, tmp_path / "older")
    assert load(tmp_path / "older").facts == facts


def test_a_network_that_cannot_be_traced_is_one_message(detector, tmp_path, monkeypatch):
    class Deciding(torch.nn.Module):
        def forward(self, images):
            return (images.sum(dim=(1, 2, 3)) if images.mean() > 0.5 else images.amax(dim=(1, 2, 3)),)

    monkeypatch.setattr(detector, "graph", Deciding)
    with pytest.raises(InputError, match=r"torch.export cannot write this detector's networks \(.*\); take another"):
        export(detector, tmp_path)
    assert _written(tmp_path) == set()
