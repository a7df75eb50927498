"""A frozen network is loaded when it is needed, once, and known without where its weights lie."""

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import nn

from kdad.compute import Compute
from kdad.errors import InputError
from kdad.features import network as module
from kdad.features.extraction import FeatureSet
from kdad.features.network import FrozenNetwork, NetworkReference, SourceReference, prepare_source, reference_source
from kdad.networks.parameters import SourceParameters
from kdad.networks.weights import fingerprint_weights, load_source
from kdad.storage.content_store import ContentStore
from memory_images import MemoryImages, split_of

_CPU = torch.device("cpu")
_opened: list[str] = []


class _Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 2, 1).requires_grad_(False)

    def forward(self, images):
        return [self.convolution(images), 2 * images]


class _Reference(NetworkReference):
    weights: str = "here"
    width: int = 2

    def open(self):
        _opened.append(self.fingerprint)
        torch.manual_seed(0)
        return _Twice()


@pytest.fixture
def opened() -> list[str]:
    """The fingerprints of the networks that were opened."""
    _opened.clear()
    return _opened


def test_the_network_is_loaded_at_the_first_output_and_once(opened):
    network = FrozenNetwork(_Reference(fingerprint="a"), Compute(_CPU, torch.float32))
    assert opened == []
    images = torch.rand(2, 3, 4, 5)
    for _ in range(2):
        first, second = network.outputs(images)
    assert opened == ["a"]
    torch.testing.assert_close(first, network.module.convolution(images))
    assert torch.equal(second, 2 * images)


def test_outputs_are_float32_whatever_the_machine_multiplies():
    images = torch.rand(1, 3, 4, 4)
    full, half = (
        FrozenNetwork(_Reference(fingerprint="a"), Compute(_CPU, dtype)).outputs(images)[0]
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert (full.dtype, half.dtype) == (torch.float32, torch.float32)
    assert not torch.equal(full, half)
    assert torch.equal(half, half.bfloat16().float())


def test_gradients_reach_the_images_where_they_are_asked_for():
    network = FrozenNetwork(_Reference(fingerprint="a"), Compute(_CPU, torch.float32))
    images = torch.rand(1, 3, 2, 2, requires_grad=True)
    network.outputs(images)[1].sum().backward()
    assert torch.equal(images.grad, torch.full((1, 3, 2, 2), 2.0))
    assert not any(found.requires_grad for found in network.outputs(images.detach()))


def test_the_identity_is_everything_but_where_the_weights_lie():
    reference = _Reference(fingerprint="a", weights="/somewhere/file.pth")
    assert reference.identity == {"fingerprint": "a", "width": 2}
    assert reference.identity == reference.model_copy(update={"weights": "elsewhere"}).identity
    assert reference.identity != reference.model_copy(update={"width": 3}).identity


def test_weights_that_can_be_found_again_are_not_copied(tmp_path):
    class Named(_Reference):
        in_a_file: ClassVar[bool] = False

    reference = Named(fingerprint="a")
    assert reference.keep(tmp_path, "source") is reference
    assert reference.within(Path("anywhere")) is reference
    assert list(tmp_path.iterdir()) == []


def test_a_reference_has_no_unknown_fields():
    with pytest.raises(ValidationError):
        _Reference(fingerprint="a", size=3)


_SOURCE = SourceParameters(name="timm:test_resnet", weights="random")


def name_source(parameters: SourceParameters, feature_set: FeatureSet, store: ContentStore) -> SourceReference:
    """Return what names the source, of a set's images and split."""
    return reference_source(parameters, feature_set.images, feature_set.split, store)


@pytest.fixture
def feature_set() -> FeatureSet:
    """A few images that no network has seen yet."""
    images = MemoryImages()
    return FeatureSet(images, split_of(images), {})


@pytest.fixture
def store(tmp_path) -> ContentStore:
    """Where weights from files are kept."""
    return ContentStore(tmp_path / "models")


@pytest.fixture
def weights(tmp_path):
    """A file with weights of their own, and the fingerprint of the source that has them."""
    source = load_source("timm:test_resnet", "random", random_seed=7)
    path = tmp_path / "own" / "weights.pth"
    path.parent.mkdir()
    torch.save(source.pyramid.state_dict(), path)
    return path, fingerprint_weights(source)


@pytest.mark.parametrize(
    ("kind", "mean", "sd"),
    [("dataset", [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]), ("none", [0] * 3, [1] * 3), ("source", None, None)],
)
def test_input_normalisation(kind, mean, sd):
    parameters = _SOURCE.model_copy(update={"input_normalisation": kind})
    own = prepare_source(_SOURCE)
    source = prepare_source(parameters, {"mean": [0.1, 0.2, 0.3], "sd": [0.4, 0.5, 0.6]})
    assert source.mean.flatten().tolist() == pytest.approx(mean or own.mean.flatten().tolist())
    assert source.sd.flatten().tolist() == pytest.approx(sd or own.sd.flatten().tolist())


def test_critical_points_are_selected():
    chosen = prepare_source(_SOURCE.model_copy(update={"critical_points": ["stage4", "stage1"]}))
    assert chosen.critical_points == ("stage1", "stage4")
    with pytest.raises(InputError, match="the source has no 'stage5'"):
        prepare_source(_SOURCE.model_copy(update={"critical_points": ["stage5"]}))


def test_training_images_that_are_constant_in_a_channel_cannot_normalise():
    parameters = _SOURCE.model_copy(update={"input_normalisation": "dataset"})
    with pytest.raises(InputError, match=r"constant in a channel; set source\.input_normalisation to 'source'"):
        prepare_source(parameters, {"mean": [0.5] * 3, "sd": [0.1, 0.0, 0.1]})


def test_a_reference_opens_the_source_that_it_was_taken_of(feature_set, store):
    parameters = _SOURCE.model_copy(update={"critical_points": ["stage3", "stage1"], "input_normalisation": "none"})
    source, opened = prepare_source(parameters), name_source(parameters, feature_set, store).open()
    images = torch.rand(2, 3, 32, 32)
    assert opened.critical_points == ("stage1", "stage3")
    for found, expected in zip(opened(images), source(images), strict=True):
        assert torch.equal(found, expected)
    assert not opened.training
    assert not any(parameter.requires_grad for parameter in opened.parameters())


def test_the_training_images_own_statistics_are_measured(feature_set, store):
    parameters = _SOURCE.model_copy(update={"input_normalisation": "dataset"})
    training = np.stack([feature_set.images.image(row) for row in feature_set.split.rows("train")]).astype(np.float64)
    measured = name_source(parameters, feature_set, store)
    np.testing.assert_allclose(measured.mean, training.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(measured.sd, training.std(axis=(0, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize(
    "change",
    [{"critical_points": ["stage1"]}, {"input_normalisation": "none"}, {"name": "resnet18"}],
)
def test_the_identity_changes_with_what_the_outputs_depend_on(feature_set, store, change):
    changed = _SOURCE.model_copy(update=change)
    assert name_source(changed, feature_set, store).identity != name_source(_SOURCE, feature_set, store).identity


def test_the_identity_changes_with_the_weights_and_not_with_their_place(feature_set, store, weights, tmp_path):
    path, fingerprint = weights
    own, random = (
        name_source(SourceParameters(name="timm:test_resnet", weights=given), feature_set, store)
        for given in (str(path), "random")
    )
    assert own.fingerprint == fingerprint
    assert own.identity != random.identity
    moved = SourceParameters(name="timm:test_resnet", weights=str(path.rename(tmp_path / "moved.pth")))
    assert name_source(moved, feature_set, store).identity == own.identity


def test_a_source_is_loaded_once_for_all_cases_and_anew_when_its_file_has_changed(
    feature_set, store, weights, monkeypatch
):
    path, fingerprint = weights
    loaded = []
    monkeypatch.setattr(module, "prepare_source", lambda *given: loaded.append(given) or prepare_source(*given))
    parameters = _SOURCE.model_copy(update={"weights": str(path)})
    assert {name_source(parameters, feature_set, store).fingerprint for _ in range(3)} == {fingerprint}
    assert len(loaded) == 1
    other = load_source("timm:test_resnet", "random", random_seed=8)
    torch.save(other.pyramid.state_dict(), path)
    assert name_source(parameters, feature_set, store).fingerprint == fingerprint_weights(other)
    assert len(loaded) == 2


def test_published_and_random_weights_are_not_copied(feature_set, store, tmp_path):
    reference = name_source(_SOURCE, feature_set, store)
    (tmp_path / "detector").mkdir()
    assert reference.keep(tmp_path / "detector", "source") == reference
    assert reference.within(tmp_path) == reference
    assert [path.name for path in tmp_path.iterdir()] == ["detector"]
    assert list((tmp_path / "detector").iterdir()) == []


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_weights_file_is_kept_by_name_and_found_in_any_folder(feature_set, store, weights, tmp_path, suffix):
    path, fingerprint = weights
    if suffix == ".safetensors":
        save_file(torch.load(path, weights_only=True), path.with_suffix(suffix))
        path = path.with_suffix(suffix)
    reference = name_source(SourceParameters(name="timm:test_resnet", weights=str(path)), feature_set, store)
    (tmp_path / "detector").mkdir()
    kept = reference.keep(tmp_path / "detector", "source")
    assert kept.weights == "source.safetensors"
    assert kept.identity == reference.identity
    path.unlink()
    moved = (tmp_path / "detector").rename(tmp_path / "elsewhere")
    assert fingerprint_weights(kept.within(moved).open()) == fingerprint


def test_a_file_may_be_overwritten_after_its_weights_are_kept(feature_set, store, weights):
    path, fingerprint = weights
    reference = name_source(SourceParameters(name="timm:test_resnet", weights=str(path)), feature_set, store)
    path.write_bytes(b"other weights")
    assert fingerprint_weights(reference.open()) == fingerprint
    other = load_source("timm:test_resnet", "random", random_seed=8)
    torch.save(other.pyramid.state_dict(), path)
    again = name_source(SourceParameters(name="timm:test_resnet", weights=str(path)), feature_set, store)
    assert again.fingerprint == fingerprint_weights(other) != fingerprint


def test_kept_weights_that_are_gone_or_are_others_are_an_input_error(feature_set, store, weights):
    path, _ = weights
    reference = name_source(SourceParameters(name="timm:test_resnet", weights=str(path)), feature_set, store)
    kept = Path(reference.weights)
    assert kept.is_relative_to(store.root)
    state = load_file(kept)
    state["conv1.0.weight"][0, 0, 0, 0] += 1e-3
    save_file(state, kept)
    expected = rf"'timm:test_resnet' \(.*weights.safetensors\) are not those.*{reference.fingerprint}"
    with pytest.raises(InputError, match=expected):
        reference.open()
    kept.unlink()
    with pytest.raises(InputError, match=r"there is no file '.*weights\.safetensors'"):
        reference.open()


def test_relative_paths_and_the_home_folder_are_found(feature_set, store, weights, monkeypatch):
    path, fingerprint = weights
    monkeypatch.chdir(path.parent)
    monkeypatch.setenv("HOME", str(path.parent))
    for given in ("weights.pth", "~/weights.pth"):
        found = name_source(SourceParameters(name="timm:test_resnet", weights=given), feature_set, store)
        assert found.fingerprint == fingerprint
        assert Path(found.weights).is_absolute()
    assert SourceReference.model_validate(found.model_dump(mode="json")) == found
