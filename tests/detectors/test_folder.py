"""A detector's folder holds all that predicting takes, is complete or not there, and damage is named."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from kdad.detectors.folder import read_facts
from kdad.detectors.mkd.detector import MkdDetector
from kdad.detectors.mkd.parameters import MkdSettings
from kdad.detectors.opening import open_detector
from kdad.errors import InputError
from kdad.images.files import fitting
from kdad.images.files.fitting import Preparation
from kdad.images.files.value_range import ValueRange
from kdad.networks.weights import load_source
from kdad.scoring.threshold import quantile_threshold

_NAME = "timm:test_resnet"


def _settings(weights="random", **scoring) -> MkdSettings:
    return MkdSettings(
        source={"name": _NAME, "weights": weights},
        features={},
        cloner={
            "architecture": {"hidden_width": 4},
            "loss": {"value_weight": 0.25},
            "training": {"epochs": 1, "batch_size": 4},
        },
        scoring={
            "localisation": ["discrepancy"],
            "smoothing": {"discrepancy": {"gaussian_sigma": 1.5}},
            **scoring,
        },
    )


@pytest.fixture
def weights(tmp_path):
    """A file with weights of the source."""
    path = tmp_path / "source weights.pth"
    torch.save(load_source(_NAME, "random", random_seed=3).pyramid.state_dict(), path)
    return path


@pytest.fixture
def make(fit):
    """Fit a detector and calibrate it on the validation images."""

    def _make(settings=None, **given):
        detector, seen, _ = fit(MkdDetector, settings or _settings(**given))
        rows = seen.split.rows("validation")
        detector.calibrated(quantile_threshold(np.zeros(1), 0.5), np.zeros(1))
        scores = np.array([found.score for found in detector.predict_batch(seen.batch(rows))])
        detector.record = {"dataset": "memory", "metrics": {"image_auroc": None}}
        return detector.calibrated(quantile_threshold(scores, 0.9), scores), seen

    return _make


def _predicted(detector, seen):
    return detector.predict_batch(torch.from_numpy(seen.images.pixels[seen.split.scored]))


def _check_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.score == pytest.approx(other.score, rel=1e-6)
        assert (one.threshold, one.decision, one.percentile) == (other.threshold, other.decision, other.percentile)
        np.testing.assert_allclose(one.map, other.map, rtol=1e-5, atol=1e-7)


def test_a_saved_detector_says_the_same(make, tmp_path):
    detector, seen = make()
    assert detector.save(tmp_path / "kept/detector") == tmp_path / "kept/detector"
    opened = open_detector(tmp_path / "kept/detector", "cpu")
    assert isinstance(opened, MkdDetector)
    assert not opened.training
    _check_same(_predicted(opened, seen), _predicted(detector, seen))
    assert (opened.size, opened.key, opened.threshold) == (detector.size, detector.key, detector.threshold)
    assert opened.record == detector.record
    assert opened.settings == detector.settings
    assert opened.validation_scores.tolist() == sorted(opened.validation_scores) == detector.validation_scores.tolist()


def test_saved_again_it_is_the_same_file_by_file(make, tmp_path, weights):
    detector, _ = make(weights=str(weights))
    first = detector.save(tmp_path / "first")
    again = open_detector(first, "cpu").save(tmp_path / "again")
    names = sorted(path.name for path in first.iterdir())
    assert names == ["detector.json", "learnt.safetensors", "source.safetensors"]
    assert names == sorted(path.name for path in again.iterdir())
    assert all((first / name).read_bytes() == (again / name).read_bytes() for name in names)


def test_a_copy_elsewhere_needs_neither_the_sources_weights_nor_the_stores(make, tmp_path, weights):
    detector, seen = make(weights=str(weights))
    expected = _predicted(detector, seen)
    folder = detector.save(tmp_path / "detector")
    shutil.copytree(folder, tmp_path / "other place/copy")
    weights.unlink()
    for gone in (folder, tmp_path / "models", tmp_path / "features"):
        shutil.rmtree(gone)
    _check_same(_predicted(open_detector(tmp_path / "other place/copy", "cpu"), seen), expected)


def test_a_detector_may_be_saved_over_the_folder_that_it_was_opened_from(make, tmp_path, weights):
    detector, seen = make(weights=str(weights))
    folder = detector.save(tmp_path / "detector")
    weights.unlink()
    opened = open_detector(folder, "cpu")
    opened.calibrated(quantile_threshold(np.arange(3.0), 0.5), np.arange(3.0)).save(folder)
    again = open_detector(folder, "cpu")
    assert again.threshold.value == 1.0
    assert _predicted(again, seen)[0].score == pytest.approx(_predicted(detector, seen)[0].score, rel=1e-6)


def test_the_json_is_readable_and_says_what_made_the_detector(make, tmp_path):
    detector, _ = make()
    text = (detector.save(tmp_path / "detector") / "detector.json").read_text()
    facts = json.loads(text)
    assert len(text.splitlines()) > 50
    assert (facts["format"], facts["system"], facts["image"]["size"]) == (1, "mkd", [32, 48])
    assert facts["settings"] == detector.settings.model_dump(mode="json")
    assert facts["settings"]["cloner"]["loss"]["value_weight"] == 0.25
    assert facts["frozen"]["source"]["name"] == _NAME
    assert facts["threshold"]["value"] == detector.threshold.value
    assert len(facts["learnt"]["scales"]) == 4
    assert facts["made_by"] == detector.record


def test_the_range_and_fit_of_its_images_travel_with_it(make, tmp_path):
    detector, _ = make()
    detector.preparation = Preparation("letterbox", ValueRange(kind="integer", low=1000, high=2000))
    opened = open_detector(detector.save(tmp_path / "detector"), "cpu")
    assert opened.preparation == detector.preparation
    values = np.linspace(1000, 2000, 32 * 24).reshape(32, 24).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "image.png")
    fitted = fitting.fit_image(
        np.repeat(((values - 1000.0) / 1000)[None], 3, axis=0).astype(np.float32), (32, 48), "letterbox"
    )
    (expected,) = opened.predict_batch(torch.from_numpy(fitted)[None])
    (predicted,) = opened.predict_files([tmp_path / "image.png"])
    for found in (opened.predict(tmp_path / "image.png"), opened.predict(values), predicted.prediction):
        assert found.score == pytest.approx(expected.score, rel=1e-5)
    assert predicted.placement == fitting.place((32, 24), (32, 48), "letterbox")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "eight.png")
    (other,) = opened.predict_files([tmp_path / "eight.png"])
    assert "holds 8-bit values (mode L) where training images hold integer ones" in other.problem


def test_a_detector_kept_before_there_were_ranges_scales_by_types(folder):
    _change(folder, lambda facts: [facts["image"].pop("fit"), facts["image"].pop("values"), facts.pop("sha256")])
    assert open_detector(folder, "cpu").preparation == Preparation("resize", None)


def test_without_a_threshold_it_can_be_saved_and_does_not_predict(fit, tmp_path):
    detector, seen, _ = fit(MkdDetector, _settings())
    opened = open_detector(detector.save(tmp_path / "detector"), "cpu")
    assert opened.threshold is None
    with pytest.raises(InputError, match="the detector has no threshold; run"):
        _predicted(opened, seen)


def test_images_of_another_size_are_refused(make):
    detector, _ = make()
    with pytest.raises(InputError, match="images are 48 x 32, but the detector was made for 32 x 48"):
        detector.predict_batch(torch.zeros(1, 3, 48, 32))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Where the first test that asks saves a detector for the others."""
    return tmp_path_factory.mktemp("saved") / "detector"


@pytest.fixture
def folder(request, saved, tmp_path):
    """A saved detector, to be changed."""
    if not saved.exists():
        request.getfixturevalue("make")()[0].save(saved)
    return Path(shutil.copytree(saved, tmp_path / "saved/detector"))


def _change(folder, change) -> None:
    path = folder / "detector.json"
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda facts: facts.update(format=2), "a detector of format 2, and this version of kdad reads format 1"),
        (lambda facts: facts.pop("format"), "of format None"),
        (
            lambda facts: facts.update(system="mdk"),
            "of the system 'mdk'; known: baselines, committee, efficient_ad, mkd, reverse_distillation, soft_target",
        ),
        (lambda facts: facts["image"]["values"].update(low=300), "image.values: low 300 is not below high 255"),
        (lambda facts: facts["image"].update(fit="tile"), "image.fit"),
        (lambda facts: facts["learnt"]["scales"].pop(), "it has 3 scales for 4 critical points"),
        (
            lambda facts: facts["settings"]["scoring"]["detection"].update(weighting="equal"),
            r"predicts by scoring\.detection\.weighting=equal \(removed, .*\); train the detector again",
        ),
        (
            lambda facts: facts["settings"]["scoring"]["detection"].update(normalisation="none"),
            "its scoring.detection.normalisation is none, and its moments differ",
        ),
        (lambda facts: facts["learnt"].pop("scales"), "it lacks 'scales'"),
        (lambda facts: facts["learnt"]["points"][0].update(channels=5), "as it was written"),
        (
            lambda facts: facts.update(sytem="mkd"),
            "not as it was written: unknown parameter 'sytem'; did you mean 'sys",
        ),
        (lambda facts: facts["settings"]["scoring"].update(detektion={}), "scoring: unknown parameter 'detektion'"),
        (lambda facts: facts["settings"]["cloner"]["loss"].update(value_weight=-1), "cloner.loss.value_weight"),
        (lambda facts: facts["frozen"]["source"].update(colour="red"), "colour"),
        (lambda facts: facts["frozen"].clear(), "it lacks 'source'"),
        (lambda facts: facts["threshold"].pop("value"), "threshold.value"),
        (lambda facts: facts.update(learnt_sha256="0"), r"learnt\.safetensors' is not the file that detector\.json"),
    ],
)
def test_what_was_changed_by_hand_is_named(folder, change, message):
    _change(folder, change)
    with pytest.raises(InputError, match=message):
        open_detector(folder, "cpu")


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts["threshold"].update(value=facts["threshold"]["value"] + 1),
        lambda facts: facts["learnt"]["scales"].reverse(),
        lambda facts: facts["validation_scores"].append(1e9),
        lambda facts: facts["made_by"].update(dataset="another"),
    ],
)
def test_a_change_that_fits_is_found_by_the_files_own_hash(folder, change):
    _change(folder, change)
    with pytest.raises(InputError, match=r"detector\.json' was changed since it was written: its SHA-256 is another"):
        open_detector(folder, "cpu")


def test_facts_are_read_by_the_names_that_they_had_before(folder):
    def name_as_before(facts):
        facts["in_float32"] = {"threshold": facts["threshold"], "held_out_scores": [0.5, 1.0]}
        for name, before in (("validation_scores", "held_out_scores"), ("colour_limits", "map_limits")):
            facts[before] = facts.pop(name)
        facts["sha256"] = ""

    today = read_facts(folder)
    _change(folder, name_as_before)
    found = read_facts(folder)
    assert found.validation_scores == today.validation_scores
    assert found.colour_limits == today.colour_limits
    assert found.in_float32.validation_scores == [0.5, 1.0]


def test_layout_and_order_are_no_change_and_older_files_have_no_hash(folder):
    path = folder / "detector.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(facts.items()))))
    open_detector(folder, "cpu")
    path.write_text(json.dumps({name: value for name, value in facts.items() if name != "sha256"}))
    open_detector(folder, "cpu")


@pytest.mark.parametrize("place", ["../stolen.safetensors", "/etc/passwd", "link.safetensors"])
def test_weights_are_read_from_the_detectors_own_folder_alone(make, tmp_path, weights, place):
    folder = make(weights=str(weights))[0].save(tmp_path / "saved/detector")
    shutil.copy(folder / "source.safetensors", tmp_path / "saved/stolen.safetensors")
    (folder / "link.safetensors").symlink_to(tmp_path / "saved/stolen.safetensors")
    _change(folder, lambda facts: facts["frozen"]["source"].update(weights=place))
    with pytest.raises(InputError, match=r"detector\.json' names weights outside of the detector's folder"):
        open_detector(folder, "cpu")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"format": 1'])
def test_broken_json(folder, content):
    (folder / "detector.json").write_bytes(content)
    with pytest.raises(InputError, match=r"detector\.json' cannot be read .* take an undamaged copy"):
        open_detector(folder, "cpu")


@pytest.mark.parametrize("content", ["[]", "3", "null"])
def test_json_of_another_form(folder, content):
    (folder / "detector.json").write_text(content)
    with pytest.raises(InputError, match="of format None"):
        open_detector(folder, "cpu")


def test_files_that_are_missing(folder, tmp_path):
    (folder / "learnt.safetensors").unlink()
    with pytest.raises(InputError, match=r"is incomplete: it has no learnt\.safetensors"):
        open_detector(folder, "cpu")
    (folder / "detector.json").unlink()
    for place in (folder, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=r"is no detector: it has no detector\.json"):
            open_detector(place, "cpu")


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-4], lambda content: content[:-1] + b"\x01", lambda _: b""]
)
def test_learnt_weights_of_another_hash(folder, damage):
    path = folder / "learnt.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match="its hash differs"):
        open_detector(folder, "cpu")


def test_weights_of_the_source_of_another_hash_or_missing(make, tmp_path, weights):
    detector, seen = make(weights=str(weights))
    folder = detector.save(tmp_path / "detector")
    (folder / "source.safetensors").unlink()
    save_file(load_source(_NAME, "random", random_seed=4).pyramid.state_dict(), folder / "source.safetensors")
    with pytest.raises(InputError, match="are not those that the detector was made with: their hash differs"):
        _predicted(open_detector(folder, "cpu"), seen)
    (folder / "source.safetensors").unlink()
    with pytest.raises(InputError, match=r"there is no file '.*detector/source\.safetensors'"):
        _predicted(open_detector(folder, "cpu"), seen)


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("older", [False, True])
def test_nothing_half_written_stays_when_saving_fails(make, tmp_path, monkeypatch, error, older):
    detector, _ = make()
    place = tmp_path / "saved"
    if older:
        detector.save(place / "detector")
    before = {path.name: path.read_bytes() for path in (place / "detector").glob("*")}

    def fail(*_):
        raise error

    detector.record = {"dataset": "newer"}
    monkeypatch.setattr("kdad.detectors.folder.sha256_of", fail)
    with pytest.raises(error):
        detector.save(place / "detector")
    assert [path.name for path in place.iterdir()] == ["detector"] * older
    assert {path.name: path.read_bytes() for path in (place / "detector").glob("*")} == before


def test_an_older_detector_is_replaced_as_a_whole(make, tmp_path, weights):
    older, _ = make(weights=str(weights))
    newer, seen = make()
    folder = older.save(tmp_path / "saved/detector")
    (tmp_path / "saved/detector.partial").mkdir()  # as a killed process leaves it
    (tmp_path / "saved/detector.partial/half").touch()
    newer.save(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["detector.json", "learnt.safetensors"]
    assert [path.name for path in (tmp_path / "saved").iterdir()] == ["detector"]
    _check_same(_predicted(open_detector(folder, "cpu"), seen), _predicted(newer, seen))


def test_a_folder_that_holds_something_else_is_left_alone(make, tmp_path):
    detector, _ = make()
    (tmp_path / "mine").mkdir()
    detector.save(tmp_path / "mine")  # empty
    (tmp_path / "mine/detector.json").rename(tmp_path / "mine/thesis.txt")
    (tmp_path / "file").touch()
    for taken in ("mine", "file"):
        with pytest.raises(InputError, match=f"{taken}' is there already and is no detector"):
            detector.save(tmp_path / taken)
    assert (tmp_path / "mine/thesis.txt").exists()


def test_the_home_folder_is_found(make, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert make()[0].save("~/detector") == tmp_path / "detector"


def test_files_may_be_read_by_everyone_who_may_read_the_folder(make, tmp_path, weights):
    folder = make(weights=str(weights))[0].save(tmp_path / "detector")
    assert {path.stat().st_mode & 0o444 for path in folder.iterdir()} == {0o444}
    assert len(list(folder.iterdir())) == 3


def _overwrite(path, how):
    content = path.read_bytes()
    with path.open("r+b") as file:  # in place, as `cp` does
        if how == "same length":
            file.write(bytes(byte ^ 1 for byte in content))
        else:
            file.truncate(len(content) // 2)
    if how == "deleted":
        path.unlink()


def test_a_folder_that_is_overwritten_changes_nothing_of_what_was_opened(make, weights, tmp_path):
    detector, seen = make(weights=str(weights))
    images = seen.batch(seen.split.rows("test")[:2])
    folder = detector.save(tmp_path / "detector")
    expected = [one.score for one in open_detector(folder, "cpu").predict_batch(images)]
    for name in ("detector.json", "learnt.safetensors", "source.safetensors"):
        for how in ("same length", "shorter", "deleted"):
            copy = shutil.copytree(folder, tmp_path / f"{how} {name}")  # no second names of files in the store
            opened = open_detector(copy, "cpu")
            assert opened.digest == json.loads((folder / "detector.json").read_text())["sha256"]
            _overwrite(copy / name, how)
            assert [one.score for one in opened.predict_batch(images)] == expected
            with pytest.raises(InputError, match="detector"):
                open_detector(copy, "cpu")
