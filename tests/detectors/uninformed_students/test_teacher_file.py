"""A teacher's file holds the descriptor network alone, and only the teacher asked for is read."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from kdad.detectors.uninformed_students.teacher_file import load_teacher, save_teacher
from kdad.errors import InputError
from kdad.networks.patch_descriptor import PatchDescriptor


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    teacher = PatchDescriptor(17, 8, 0.1)
    save_teacher(tmp_path / "teacher.safetensors", teacher, 0.1, "key")
    return tmp_path / "teacher.safetensors", teacher


def test_a_teacher_comes_back_frozen(saved):
    path, teacher = saved
    found = load_teacher(path, 17, 8, 0.1)
    patches = torch.rand(2, 3, 17, 17)
    assert torch.equal(found(patches), teacher(patches))
    assert not found.training
    assert not any(parameter.requires_grad for parameter in found.parameters())


def test_the_file_says_what_it_is(saved):
    with safe_open(saved[0], "pt") as file:
        metadata = file.metadata()
        names = set(file.keys())
    expected = {"kind": "teacher", "receptive_field": "17", "depth": "8", "width": "0.1", "key": "key"}
    assert expected.items() <= metadata.items()
    assert names == set(PatchDescriptor(17, 8, 0.1).state_dict())  # no decoder


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ((33, 8, 0.1), "its receptive_field is 17, not 33"),
        ((17, 128, 0.1), "its depth is 8, not 128"),
        ((17, 8, 0.5), "its width is 0.1, not 0.5"),
    ],
)
def test_another_teacher_is_refused(saved, asked, message):
    with pytest.raises(InputError, match=message):
        load_teacher(saved[0], *asked)


def test_a_file_of_other_weights_is_refused(tmp_path):
    path = tmp_path / "vgg.safetensors"
    save_file({"features.0.weight": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="is not the teacher asked for: its kind is None"):
        load_teacher(path, 17, 8, 0.1)


def test_a_missing_and_a_damaged_file_say_what_to_run(saved, tmp_path):
    with pytest.raises(InputError, match=r"there is no teacher '.*none'; run the pipeline 'teacher' first"):
        load_teacher(tmp_path / "none", 17, 8, 0.1)
    saved[0].write_bytes(saved[0].read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be read; delete it and run the pipeline 'teacher' again"):
        load_teacher(saved[0], 17, 8, 0.1)
