"""A teacher's reference opens the descriptor network that was trained, over whole images, and no other."""

import shutil

import pytest
import torch
from safetensors.torch import save_file

from kdad.detectors.learnt import state_of
from kdad.detectors.uninformed_students.dense_teacher import TeacherReference
from kdad.errors import InputError
from kdad.networks.patch_descriptor import PatchDescriptor
from kdad.networks.weights import fingerprint_state


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    return PatchDescriptor(17, 8, 0.1)


@pytest.fixture
def reference(tmp_path, teacher):
    path = tmp_path / "made" / "weights.safetensors"
    path.parent.mkdir()
    save_file(state_of(teacher), path)
    given = {"receptive_field": 17, "depth": 8, "width": 0.1, "stride": 4, "weights": str(path)}
    return TeacherReference(**given, fingerprint=fingerprint_state(teacher.state_dict()))


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_descriptors_are_those_of_the_patch_around_each_pixel(reference, teacher, stride):
    images = torch.rand(2, 3, 21, 26)
    network = reference.model_copy(update={"stride": stride}).open()
    (found,) = network(images)
    (point,) = network.describe((21, 26))
    assert (point.name, point.channels, point.height, point.width) == ("p17", *found.shape[1:])
    mirrored = torch.nn.functional.pad(images, (8, 8, 8, 8), mode="reflect")
    for row, column in ((0, 0), (2, 3), (found.shape[2] - 1, found.shape[3] - 1)):
        top, left = row * stride, column * stride
        with torch.no_grad():
            expected = teacher(mirrored[:, :, top : top + 17, left : left + 17])
        torch.testing.assert_close(found[:, :, row, column], expected, rtol=1e-4, atol=1e-5)


def test_a_teacher_comes_back_frozen(reference, teacher):
    found = reference.open()
    patches = torch.rand(2, 3, 17, 17)
    assert torch.equal(found.descriptor(patches), teacher(patches))
    assert not found.training
    assert not any(parameter.requires_grad for parameter in found.parameters())


@pytest.mark.parametrize("asked", [{"receptive_field": 33}, {"depth": 128}, {"width": 0.5}])
def test_another_teacher_is_refused(reference, asked):
    (name,), (value,) = asked.keys(), asked.values()
    message = rf"'.*weights.safetensors' is not the teacher asked for \(.*{name.replace('_', ' ')} {value}"
    with pytest.raises(InputError, match=message) as caught:
        reference.model_copy(update=asked).open()
    assert "\n" not in str(caught.value)


def test_a_file_of_other_weights_is_refused(reference):
    save_file({"features.0.weight": torch.zeros(1)}, reference.weights)
    with pytest.raises(InputError, match="holds other weights: their hash is not"):
        reference.open()


def test_a_teacher_of_the_same_form_but_another_hash_is_refused(reference):
    save_file(state_of(PatchDescriptor(17, 8, 0.1)), reference.weights)
    with pytest.raises(InputError, match=f"holds other weights: their hash is not {reference.fingerprint}"):
        reference.open()


def test_a_missing_and_a_damaged_file_say_what_to_run(reference, tmp_path):
    with pytest.raises(InputError, match=r"there is no teacher '.*none'; run the pipeline 'teacher' first"):
        reference.model_copy(update={"weights": str(tmp_path / "none")}).open()
    with open(reference.weights, "r+b") as file:  # noqa: PTH123
        file.truncate(100)
    with pytest.raises(InputError, match=r"the weights '.*' cannot be read .* make them again"):
        reference.open()


def test_where_the_weights_lie_is_no_part_of_what_a_teacher_is(reference):
    assert reference.identity == reference.model_copy(update={"weights": "elsewhere"}).identity
    for other in ({"fingerprint": "0" * 16}, {"stride": 2}):
        assert reference.identity != reference.model_copy(update=other).identity


def test_a_kept_teacher_is_found_in_its_folder_wherever_that_lies(reference, tmp_path):
    kept = tmp_path / "detector"
    kept.mkdir()
    named = reference.keep(kept, "p17")
    assert named.weights == "teacher_p17.safetensors"
    shutil.rmtree(tmp_path / "made")
    kept.rename(tmp_path / "moved")
    found = named.within(tmp_path / "moved").open()
    assert fingerprint_state(found.descriptor.state_dict()) == reference.fingerprint
    assert reference.within(kept) == reference  # where weights have an absolute path
