"""What an exported file says is what its detector says."""

import dataclasses
import hashlib
import json
import multiprocessing
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from exported_detectors import coloured_noise, export, wave_images, waves
from kdad.detectors import load
from kdad.detectors.exported import writing
from kdad.detectors.exported.detector import FILE, ExportedDetector, open_exported, write_exported
from kdad.detectors.exported.onnx_file import Pixels, read_model, resize_matrices
from kdad.detectors.exported.writing import drawn, export_detector
from kdad.errors import InputError
from kdad.images.files.decoding import read_image
from kdad.images.files.fitting import Alignment, Preparation, Region, fit_image
from kdad.images.files.value_range import ValueRange
from kdad.inference.description import check_has_raw_maps
from kdad.scoring.threshold import Calibration, quantile_threshold

RUNTIMES = ["onnxruntime", "openvino"]


def _spread(detector) -> float:
    images = waves()
    return float(np.ptp(detector.score_and_show(torch.from_numpy(np.stack([images.image(i) for i in range(36)])))[0]))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_file_predicts_as_its_detector(runtime, exported, detector, tmp_path):
    predictor = open_exported(exported() / "detector.onnx", runtime)
    assert predictor.runtime.package == runtime
    assert isinstance(predictor, ExportedDetector)
    assert (predictor.system, predictor.size, predictor.methods) == ("stfpm", (32, 48), ["feature_distance"])
    assert (predictor.threshold, predictor.colour_limits) == (detector.threshold, detector.colour_limits)
    assert predictor.record["commit"] == "0123abc"
    np.testing.assert_array_equal(predictor.validation_scores, detector.validation_scores)
    for number, size in enumerate([(32, 48), (90, 61), (20, 30)]):
        Image.fromarray(coloured_noise(*size)).save(tmp_path / f"{number}.png")
    tolerance = 1e-4 * _spread(detector)
    predicted, expected = (list(one.predict_folder(tmp_path, batch_size=2)) for one in (predictor, detector))
    assert len(predicted) == 3
    for found, wanted in zip(predicted, expected, strict=True):
        assert found.prediction.score == pytest.approx(wanted.prediction.score, abs=tolerance)
        assert found.prediction.decision == wanted.prediction.decision
        assert found.placement == wanted.placement
        np.testing.assert_allclose(
            found.prediction.map, wanted.prediction.map, atol=1e-3 * np.ptp(wanted.prediction.map)
        )


def test_a_file_keeps_the_thresholds_of_categories(exported, detector, tmp_path, monkeypatch):
    scores = np.array([1.0, 3.0])
    model, _ = read_model(exported() / FILE)
    monkeypatch.setattr(writing, "build_model", lambda pixels, graph, normal: model)
    monkeypatch.setattr(detector, "by_category", {"pill": Calibration.of(quantile_threshold(scores, 0.6), scores)})
    export(detector, tmp_path / "file")
    chosen = load(tmp_path / "file").for_category("pill")
    assert (chosen.threshold.value, chosen.validation_scores.tolist()) == (3.0, [1.0, 3.0])


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("size", [(1, 32, 48), (3, 77, 101), (2, 5, 200)])
def test_pixels_of_any_size_and_number_are_predicted_by_the_file_itself(runtime, size, exported, detector):
    pixels = coloured_noise(*size)
    scores, maps = open_exported(exported() / "detector.onnx", runtime).runtime.run_pixels(pixels)
    expected = [detector.predict(one) for one in pixels]
    assert scores.shape == (size[0],)
    assert maps.shape == (size[0], 32, 48)
    np.testing.assert_allclose(scores, [one.score for one in expected], atol=1e-4 * _spread(detector))
    shown = np.stack([one.map for one in expected])
    np.testing.assert_allclose(maps, shown, atol=1e-3 * np.ptp(shown))


def test_a_file_refuses_prepared_images_of_another_size(exported):
    with pytest.raises(InputError, match="images are 40 x 40, but the detector was made for 32 x 48"):
        load(exported()).predict_batch(torch.zeros(1, 3, 40, 40))


def test_onnx_names_inputs_outputs_and_says_what_a_client_needs(exported, detector):
    session = onnxruntime.InferenceSession(exported() / "detector.onnx", providers=["CPUExecutionProvider"])
    inputs, outputs = session.get_inputs(), session.get_outputs()
    assert [(one.name, one.type, one.shape) for one in inputs] == [
        ("image", "tensor(uint8)", ["batch", "height", "width", 3])
    ]
    assert [(one.name, one.shape) for one in outputs] == [("score", ["batch"]), ("map", ["batch", 32, 48])]
    said = session.get_modelmeta().custom_metadata_map
    assert float(said["kdad.threshold"]) == detector.threshold.value
    assert said["kdad.decision"] == "anomalous when score > threshold"
    assert (said["kdad.image_size"], said["kdad.format_version"]) == ("32 x 48", "3")
    assert [float(limit) for limit in said["kdad.colour_limits"].split()] == list(detector.colour_limits)
    assert (said["kdad.dataset"], said["kdad.seed"], said["kdad.commit"]) == ("memory/waves", "0", "0123abc")
    assert said["kdad.dataset_digest"] == detector.record["images"]
    facts = json.loads(said["kdad"])
    assert facts["settings"] == detector.settings.model_dump(mode="json")
    assert facts["loss"]["images"] == 20


@pytest.mark.long
@pytest.mark.parametrize(("runtime", "precision"), [("openvino", "bfloat16"), ("onnxruntime", "int8")])
def test_what_loses_digits_has_a_threshold_of_its_own_and_says_what_it_lost(runtime, precision, exported, detector):
    predictor, images = load(exported(runtime, precision)), waves()
    parts = np.array([sample.subset for sample in images.samples])
    pixels = np.stack([images.own_pixels(row) for row in range(len(parts))])
    scores = np.array([predictor.runtime.run_pixels(one[None])[0][0] for one in pixels], dtype=np.float64)
    exact = np.array([detector.predict(one).score for one in pixels])
    validation = scores[parts == "validation"]
    assert predictor.threshold == quantile_threshold(validation, 0.5)
    assert predictor.threshold.value != detector.threshold.value
    np.testing.assert_allclose(predictor.validation_scores, np.sort(validation))
    scored = parts != "train"
    loss = predictor.facts.loss
    assert predictor.facts.threshold_set_by == "runtime"
    assert loss.threshold_before == detector.threshold.value
    assert loss.score_difference == pytest.approx(
        np.abs(scores - exact)[scored].max() / np.ptp(exact[scored]), rel=1e-3
    )
    changed = (scores > predictor.threshold.value) != (exact > detector.threshold.value)
    assert loss.decisions_changed == pytest.approx(changed[parts == "test"].mean())
    tested = parts == "test"
    labels = np.array([sample.label for sample in images.samples])[tested]
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[tested][labels == 1] for b in scores[tested][labels == 0]]
    assert loss.image_auroc == pytest.approx(np.mean(pairs))
    assert 0 < loss.score_difference < 0.5
    assert loss.pixel_auroc is not None


def test_a_file_keeps_a_threshold_that_it_is_given_later(exported, detector, tmp_path):
    predictor = load(exported())
    predictor.calibrated(quantile_threshold(np.arange(10.0), 0.8), np.arange(10.0), (0.0, 2.0))
    again = load(predictor.save(tmp_path / "again"))
    assert again.threshold.value == 8
    assert (again.facts.threshold_set_by, again.colour_limits) == ("runtime", (0.0, 2.0))
    pixels = coloured_noise(1, 40, 40)
    assert again.runtime.run_pixels(pixels)[0] == pytest.approx(predictor.runtime.run_pixels(pixels)[0])


def test_a_file_that_is_overwritten_changes_nothing_of_what_was_opened(exported, tmp_path):
    path = tmp_path / "detector.onnx"
    content = (exported() / "detector.onnx").read_bytes()
    path.write_bytes(content)
    opened, image = open_exported(path, "onnxruntime"), coloured_noise(32, 48)
    assert opened.digest == hashlib.sha256(content).hexdigest()
    place = content.index(opened.runtime.model.graph.initializer[0].raw_data)
    path.write_bytes(content[:place] + bytes(byte ^ 1 for byte in content[place : place + 8]) + content[place + 8 :])
    assert (
        opened.predict(image).score == open_exported(exported() / "detector.onnx", "onnxruntime").predict(image).score
    )
    with pytest.raises(InputError, match="SHA-256 of its graph is another; take an undamaged copy"):
        open_exported(path)
    again = open_exported(opened.save(tmp_path / "again") / "detector.onnx", "onnxruntime")
    assert again.predict(image).score == opened.predict(image).score


_ALONE = """
import sys
for name in "kedro mlflow sklearn matplotlib pandas pyarrow captum skimage omegaconf pyod scipy git".split():
    sys.modules[name] = None  # an import of it fails
from pathlib import Path
import kdad
import kdad.detectors.committee.detector  # of members that are no baselines
from kdad.parameters.blocks import ServingParameters
from kdad.serving.__main__ import main, open_predictor
from kdad.serving.app import create_app, render_page
image, *places = sys.argv[1:]
for place in places:
    print(kdad.load(place).predict(image).score)
served = open_predictor(places[0], Path.cwd(), None)
create_app(served, ServingParameters())
render_page(served, ServingParameters())
"""


def test_folder_file_and_server_take_no_pipelines_nor_what_only_these_use(exported, detector, tmp_path):
    folder = detector.save(tmp_path / "detector")
    Image.fromarray(coloured_noise(40, 60)).save(tmp_path / "image.png")
    command = [sys.executable, "-c", _ALONE, str(tmp_path / "image.png"), str(folder), str(exported())]
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    expected = detector.predict(tmp_path / "image.png").score
    assert [float(line) for line in found.stdout.split()] == pytest.approx([expected] * 2, rel=1e-4)


def test_a_system_that_takes_more_says_what_to_install(detector, tmp_path, monkeypatch):
    folder = detector.save(tmp_path / "detector")
    monkeypatch.setitem(sys.modules, "kdad.detectors.stfpm.detector", None)
    with pytest.raises(InputError, match=r"a detector of 'stfpm' takes the package .*: pip install \"kdad\[run\]\""):
        load(folder)


def _predict_into(queue, predictor, image) -> None:
    try:
        queue.put(predictor.predict(image).score)
    except InputError as error:
        queue.put(str(error))


def test_a_forked_process_predicts_or_says_spawn(exported, detector):
    torch.set_num_threads(2)
    image, context = coloured_noise(300, 200), multiprocessing.get_context("fork")
    file = exported() / "detector.onnx"
    for predictor in (detector, open_exported(file, "onnxruntime"), open_exported(file, "openvino")):
        expected, queue = predictor.predict(image).score, context.Queue()
        child = context.Process(target=_predict_into, args=(queue, predictor, image), daemon=True)
        child.start()
        found = queue.get(timeout=30)
        child.join(10)
        if getattr(predictor, "runtime", None) is not None and predictor.runtime.package == "openvino":
            assert "get_context('spawn')" in found
        else:
            assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.long
def test_a_file_leaves_out_what_lies_outside_of_the_region(detector, tmp_path):
    known = detector.preparation
    region = Region.of(np.indices((40, 64))[0] < 28)
    detector.preparation = dataclasses.replace(known, region=region)
    try:
        images = drawn(detector.size, (40, 64))
        facts, model = export_detector(detector, "float32", images, "onnxruntime", "float32")
        predictor = open_exported(write_exported(facts, model, tmp_path / "exported") / FILE)
        assert predictor.preparation.region == region
        first = coloured_noise(2, 40, 64)
        second = first.copy()
        second[:, 28:] = coloured_noise(2, 12, 64)[:, ::-1]
        for one, other in zip(predictor.runtime.run_pixels(first), predictor.runtime.run_pixels(second), strict=True):
            np.testing.assert_array_equal(one, other)
        scores, maps = predictor.runtime.run_pixels(first)
        for image, score, shown in zip(first, scores, maps, strict=True):
            expected = detector.predict(image)
            assert score == pytest.approx(expected.score, rel=1e-4)
            np.testing.assert_allclose(shown, expected.map, atol=1e-3 * np.ptp(expected.map))
        for outside in (expected.map, shown):
            assert (outside[~detector.region] == outside[detector.region].min()).all()
        with pytest.raises(InputError, match="is not exported in int8"):
            export_detector(detector, "float32", wave_images(), "onnxruntime", "int8")
    finally:
        detector.preparation = known


def test_a_detector_that_turns_images_keeps_how_and_takes_no_tiles_and_no_export(detector, tmp_path, monkeypatch):
    alignment = Alignment.of([coloured_noise(40, 64).transpose(2, 0, 1) / np.float32(255)])
    monkeypatch.setattr(detector, "preparation", Preparation(alignment=alignment))
    again = load(detector.save(tmp_path / "kept"))
    assert again.preparation == detector.preparation
    image = coloured_noise(40, 64)
    Image.fromarray(image).save(tmp_path / "image.png")
    with monkeypatch.context() as patched:
        asked, angle = [], Alignment.angle
        patched.setattr(Alignment, "angle", lambda self, image: asked.append(image) or angle(self, image))
        found, (of_file,) = again.predict(image), again.predict_folder(tmp_path / "image.png")
        assert len(asked) == 2  # once for each
    assert found.score == of_file.prediction.score
    np.testing.assert_array_equal(found.map, of_file.prediction.map)
    with pytest.raises(InputError, match=r"turns images \(dataset\.align\) is not exported; use its folder"):
        export_detector(detector, "float32", wave_images(), "onnxruntime", "float32")
    with pytest.raises(InputError, match="the detector turns whole images, and tiles are parts of them"):
        check_has_raw_maps(detector)


SIZES = [(32, 48), (33, 47), (200, 150), (10, 7), (1, 90), (64, 96), (501, 32)]


@pytest.mark.parametrize("fit", ["resize", "letterbox", "centre_crop"])
@pytest.mark.parametrize("own", SIZES)
def test_pixels_become_what_the_detector_would_be_given(own, fit):
    image = np.random.default_rng(1).integers(0, 256, (*own, 3), dtype=np.uint8)
    expected = fit_image(read_image(image), (32, 48), fit)
    found = Pixels((32, 48), Preparation(fit))(torch.from_numpy(image)[None])[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6)


def test_an_image_of_the_right_size_is_left_as_it_is():
    image = np.random.default_rng(2).integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)
    found = Pixels((32, 48), Preparation())(torch.from_numpy(image))
    assert torch.equal(found, torch.from_numpy(image).permute(0, 3, 1, 2) / 255)


def test_matrices_by_hand():
    down, across = resize_matrices(4, 1, (2, 2), "resize")
    # Triangles of half-width 2 around 1 and 3: pixels at 0.5 and 1.5 weigh 0.75, the one at 2.5 weighs 0.25.
    np.testing.assert_allclose(down, np.array([[3, 3, 1, 0], [0, 1, 3, 3]]) / 7, atol=1e-7)
    assert across.tolist() == [[1.0], [1.0]]


def test_values_are_scaled_as_the_detectors_files_are():
    values = ValueRange(kind="8-bit", low=20, high=70)
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    found = Pixels((16, 16), Preparation(values=values))(torch.from_numpy(image)[None, ..., None].expand(-1, -1, -1, 3))
    np.testing.assert_allclose(found[0], read_image(image, values), atol=1e-7)


def test_wider_values_than_a_byte_are_refused():
    with pytest.raises(InputError, match=r"of the kind 'integer'.*own folder"):
        Pixels((8, 8), Preparation(values=ValueRange(kind="integer", low=0, high=4095)))
