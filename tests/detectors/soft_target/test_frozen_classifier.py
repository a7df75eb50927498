import shutil

import pytest
import torch
from safetensors.torch import save_file

from kdad.detectors.learnt import state_of
from kdad.detectors.soft_target.classifier import Classifier
from kdad.detectors.soft_target.frozen_classifier import ClassifierReference
from kdad.errors import InputError
from kdad.networks.weights import fingerprint_state


@pytest.fixture(params=[1, 3], ids=["grey", "colour"])
def classifier(request):
    torch.manual_seed(0)
    return Classifier(request.param, 5, [4, 6], 7).eval()


@pytest.fixture
def reference(tmp_path, classifier):
    path = tmp_path / "made" / "network.safetensors"
    path.parent.mkdir()
    save_file(state_of(classifier), path)
    shape = {"channels": classifier[0].in_channels, "classes": 5, "widths": [4, 6], "hidden": 7}
    return ClassifierReference(**shape, weights=str(path), fingerprint=fingerprint_state(classifier.state_dict()))


def test_its_output_is_the_logits_at_one_position(reference, classifier):
    channels = reference.channels
    images = torch.rand(3, channels, 12, 10).expand(-1, 3, -1, -1)
    network = reference.open()
    (found,) = network(images)
    assert found.shape == (3, 5, 1, 1)
    assert torch.equal(found[..., 0, 0], classifier(2 * images[:, :channels] - 1))
    (point,) = network.describe((12, 10))
    assert (point.channels, point.height, point.width) == found.shape[1:]


def test_it_is_frozen(reference):
    network = reference.open()
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_classifier_of_the_same_form_but_another_hash_is_refused(reference):
    save_file(state_of(Classifier(reference.channels, 5, [4, 6], 7)), reference.weights)
    with pytest.raises(InputError, match=f"holds other weights: their hash is not {reference.fingerprint}"):
        reference.open()


def test_a_missing_and_a_damaged_file_are_refused(reference, tmp_path):
    with pytest.raises(InputError, match=r"the weights '.*none' cannot be read .* make them again"):
        reference.model_copy(update={"weights": str(tmp_path / "none")}).open()
    with open(reference.weights, "r+b") as file:  # noqa: PTH123
        file.truncate(50)
    with pytest.raises(InputError, match=r"cannot be read .* make them again"):
        reference.open()


def test_a_kept_classifier_is_found_in_its_folder_wherever_that_lies(reference, tmp_path):
    kept = tmp_path / "detector"
    kept.mkdir()
    named = reference.keep(kept, "teacher")
    assert named.weights == "teacher.safetensors"
    assert named.identity == reference.identity
    shutil.rmtree(tmp_path / "made")
    kept.rename(tmp_path / "moved")
    found = named.within(tmp_path / "moved").open()
    assert fingerprint_state(found.classifier.state_dict()) == reference.fingerprint
    assert reference.within(kept) == reference
