"""Teachers learn from fixed draws, without touching the source, once for what they depend on, and resume."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from interruptions import train_killed_at
from kdad.compute import Compute
from kdad.detectors.detector import TrainContext
from kdad.detectors.learnt import join_histories, state_of
from kdad.detectors.uninformed_students import teacher as module
from kdad.detectors.uninformed_students.parameters import TeacherParameters
from kdad.detectors.uninformed_students.teacher import (
    TeacherReference,
    pretrain,
    reference_teacher,
    sample_patches,
    train_teacher,
)
from kdad.errors import InputError
from kdad.features.network import prepare_source
from kdad.images.natural_pool import NaturalPool
from kdad.networks.patch_descriptor import PatchDescriptor
from kdad.networks.weights import fingerprint_state, fingerprint_weights
from kdad.storage.content_store import ContentStore
from kdad.training.loop import CheckpointFile

_FLOAT32 = Compute(torch.device("cpu"), torch.float32)
_SOURCE = {"name": "timm:test_resnet", "weights": "random"}


_COUNTS = {
    "dense": {"dense": {"crop_size": 24, "enlargement": 1.5, "crops_per_epoch": 8, "validation_crops": 4}},
    "patches": {"patches_per_epoch": 8, "validation_patches": 4, "source_size": 32},
}


def _parameters(epochs=1, distillation="patches", **top) -> TeacherParameters:
    training = {"epochs": epochs, "batch_size": 4, "checkpoint_every": 1, "learning_rate": 0.001}
    small = {"depth": 8, "width": 0.1, "source": _SOURCE, "distillation": distillation, **_COUNTS[distillation]}
    if distillation == "dense":
        small["dense"] = small["dense"] | {"training": training}
    return TeacherParameters(training=training, **(small | top))


@pytest.fixture(params=["dense", "patches"])
def distillation(request) -> str:
    return request.param


@pytest.fixture
def train(tmp_path):
    def run(parameters, folder="first"):
        checkpoint = CheckpointFile(tmp_path / folder / "teacher.checkpoint", "key")
        pool = NaturalPool()
        patches = sample_patches(pool, parameters, [17])
        return train_teacher(17, pool, patches, parameters, _FLOAT32, checkpoint)

    return run


def _equal(first, second):
    return all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items())


@pytest.mark.parametrize(
    ("weights", "terms"),
    [
        ((1, 0, 0), {"knowledge"}),
        ((0, 1, 0), {"metric"}),
        ((0, 0, 1), {"compactness"}),
        ((1, 1, 1), {"knowledge", "metric", "compactness"}),
    ],
)
def test_each_sum_of_terms_trains_and_leaves_out_what_weighs_nothing(monkeypatch, train, distillation, weights, terms):
    if not weights[0]:
        monkeypatch.setattr(module, "prepare_source", lambda *_: pytest.fail("a source was made ready in vain"))
    names = ("knowledge_weight", "metric_weight", "compactness_weight")
    teacher, history = train(_parameters(distillation=distillation, **dict(zip(names, weights, strict=True))))
    assert set(history["term"]) == terms | {"total"}
    wide = history.pivot(index=["epoch", "split"], columns="term", values="value")
    np.testing.assert_allclose(wide["total"], wide[sorted(terms)].sum(axis=1), rtol=1e-4)
    assert not any("decoder" in name for name in teacher.state_dict())


def test_weights_multiply_their_terms(train, distillation):
    weights = {"knowledge_weight": 0.5, "metric_weight": 2.0, "compactness_weight": 3.0}
    _, history = train(_parameters(distillation=distillation, **weights))
    wide = history.pivot(index=["epoch", "split"], columns="term", values="value")
    expected = 0.5 * wide["knowledge"] + 2 * wide["metric"] + 3 * wide["compactness"]
    np.testing.assert_allclose(wide["total"], expected, rtol=1e-4)


def test_one_seed_gives_one_teacher_and_another_seed_another(train, distillation):
    parameters = _parameters(distillation=distillation, metric_weight=1.0)
    teacher, history = train(parameters)
    torch.rand(3)
    again, history_again = train(parameters, folder="second")
    assert _equal(teacher, again)
    pd.testing.assert_frame_equal(history, history_again, check_exact=True)
    assert not _equal(teacher, train(parameters.model_copy(update={"seed": 1}), folder="third")[0])


def test_a_resumed_teacher_equals_an_uninterrupted_one(monkeypatch, train, distillation):
    parameters = _parameters(epochs=3, distillation=distillation)
    teacher, history = train(parameters)
    train_killed_at(monkeypatch, 1, train, parameters, folder="cut")
    resumed, resumed_history = train(parameters, folder="cut")
    assert _equal(teacher, resumed)
    pd.testing.assert_frame_equal(history, resumed_history, check_exact=True)


def test_the_source_learns_nothing_and_shares_nothing(monkeypatch, train, distillation):
    sources = []

    def kept(*arguments):
        sources.append(prepare_source(*arguments))
        before.append(fingerprint_weights(sources[-1]))
        return sources[-1]

    before = []
    monkeypatch.setattr(module, "prepare_source", kept)
    teacher, _ = train(_parameters(distillation=distillation))
    assert [fingerprint_weights(source) for source in sources] == before
    own = {parameter.data_ptr() for parameter in teacher.parameters()}
    assert own.isdisjoint(parameter.data_ptr() for parameter in sources[0].parameters())


def test_training_lowers_each_term(train):
    _, history = train(_parameters(epochs=25, metric_weight=1.0, patches_per_epoch=32))
    held = history[history["split"] == "validation"].pivot(index="epoch", columns="term", values="value")
    assert held["metric"].iloc[-5:].mean() < 0.98 * held["metric"].iloc[0]
    assert held["total"].iloc[-5:].mean() < held["total"].iloc[0]


def _small(**top) -> TeacherParameters:
    small = {"patches_per_epoch": 8, "validation_patches": 4, "depth": 4, "width": 0.05, "knowledge_weight": 0}
    return TeacherParameters(**(small | {"training": {"epochs": 1, "batch_size": 4}} | top))


def test_a_teacher_is_trained_once_whichever_others_there_are(train_context):
    first = pretrain(_small(), [17], train_context)[17]
    again = pretrain(_small(), [33, 17], train_context)
    assert (first.reused, again[17].reused, again[33].reused) == (False, True, False)
    assert first.key == again[17].key != again[33].key
    pd.testing.assert_frame_equal(first.history, again[17].history)


def test_what_a_teacher_depends_on_is_in_its_key(train_context, monkeypatch):
    monkeypatch.setattr(module, "train_once", lambda store, key, train: key)

    def key(parameters, place=train_context):
        return pretrain(parameters, [17], place)[17]

    changes = ({"depth": 5}, {"margin": 2.0}, {"metric_weight": 0.5}, {"seed": 1})
    others = [key(_small(**changed)) for changed in changes]
    assert len({key(_small()), *others}) == 5
    elsewhere = TrainContext(
        train_context.compute, 1, ContentStore(train_context.models.root / "elsewhere"), split_seed=3
    )
    assert key(_small(), elsewhere) == key(_small())


def test_what_only_the_other_distillation_reads_is_not_in_a_key(train_context, monkeypatch):
    monkeypatch.setattr(module, "train_once", lambda store, key, train: key)

    def key(**changed):
        return pretrain(_small(**changed), [17], train_context)[17]

    crops = {"crop_size": 24, "crops_per_epoch": 4}
    assert key() == key(dense=crops)
    assert key() != key(source_size=32)
    dense = {"distillation": "dense", "dense": crops}
    assert key() != key(**dense) == key(**dense, source_size=32, training={"epochs": 7})
    assert key(**dense) != key(**(dense | {"dense": crops | {"enlargement": 1}}))


def test_crops_smaller_than_a_receptive_field_are_refused_before_anything_is_trained(train_context):
    parameters = _small(distillation="dense", dense={"crop_size": 24, "crops_per_epoch": 4})
    with pytest.raises(InputError, match=r"crop_size is 24, which is less than the receptive field 33"):
        pretrain(parameters, [33], train_context)


def test_a_reference_opens_what_was_trained(train_context):
    trained = pretrain(_small(), [17], train_context)[17]
    reference = reference_teacher(trained, 17, _small(), 4)
    state = reference.open().descriptor.state_dict()
    assert state.keys() == trained.state.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in trained.state.items())


def test_histories_are_joined_with_the_field_before_each_term():
    columns = ["epoch", "split", "term", "value"]
    found = join_histories(
        {
            "p17": pd.DataFrame([(0, "training", "total", 1.0)], columns=columns),
            "p65": pd.DataFrame([(0, "training", "total", 2.0)], columns=columns),
        }
    )
    assert found.to_numpy().tolist() == [[0, "training", "p17.total", 1.0], [0, "training", "p65.total", 2.0]]


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


def test_a_transformer_is_refused_before_training_where_what_it_sees_is_no_multiple_of_its_patch(train):
    source = {"name": "timm:test_vit", "weights": "random"}
    for distillation, changed, message in (
        ("dense", {}, r"teacher\.dense \(crop_size times enlargement\) 36 x 36 cannot .* 32 x 32 or 48 x 48"),
        ("patches", {"source_size": 40}, r"teacher\.source_size 40 x 40 cannot be cut .* 32 x 32 or 48 x 48"),
    ):
        with pytest.raises(InputError, match=message):
            train(_parameters(distillation=distillation, source=source, **changed))
