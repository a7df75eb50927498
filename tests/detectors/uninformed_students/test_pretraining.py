"""Teachers are trained once for what they depend on: natural images, settings and a seed of their own."""

import pandas as pd
import pytest
import torch

from kdad.detectors.context import TrainContext
from kdad.detectors.uninformed_students import pretraining as module
from kdad.detectors.uninformed_students.parameters import TeacherParameters
from kdad.detectors.uninformed_students.pretraining import join_histories, pretrain, reference_teacher
from kdad.errors import InputError
from kdad.storage.content_store import ContentStore


def _parameters(**top) -> TeacherParameters:
    small = {"patches_per_epoch": 8, "validation_patches": 4, "depth": 4, "width": 0.05, "knowledge_weight": 0}
    return TeacherParameters(**(small | {"training": {"epochs": 1, "batch_size": 4}} | top))


def test_a_teacher_is_trained_once_whichever_others_there_are(train_context):
    first = pretrain(_parameters(), [17], train_context)[17]
    again = pretrain(_parameters(), [33, 17], train_context)
    assert (first.reused, again[17].reused, again[33].reused) == (False, True, False)
    assert first.key == again[17].key != again[33].key
    pd.testing.assert_frame_equal(first.history, again[17].history)


def test_what_a_teacher_depends_on_is_in_its_key(train_context, monkeypatch):
    monkeypatch.setattr(module, "train_once", lambda store, key, train: key)

    def key(parameters, place=train_context):
        return pretrain(parameters, [17], place)[17]

    changes = ({"depth": 5}, {"margin": 2.0}, {"metric_weight": 0.5}, {"seed": 1})
    others = [key(_parameters(**changed)) for changed in changes]
    assert len({key(_parameters()), *others}) == 5
    elsewhere = TrainContext(
        train_context.compute, 1, ContentStore(train_context.models.root / "elsewhere"), split_seed=3
    )
    assert key(_parameters(), elsewhere) == key(_parameters())


def test_what_only_the_other_distillation_reads_is_not_in_a_key(train_context, monkeypatch):
    monkeypatch.setattr(module, "train_once", lambda store, key, train: key)

    def key(**changed):
        return pretrain(_parameters(**changed), [17], train_context)[17]

    crops = {"crop_size": 24, "crops_per_epoch": 4}
    assert key() == key(dense=crops)
    assert key() != key(source_size=32)
    dense = {"distillation": "dense", "dense": crops}
    assert key() != key(**dense) == key(**dense, source_size=32, training={"epochs": 7})
    assert key(**dense) != key(**(dense | {"dense": crops | {"enlargement": 1}}))


def test_crops_smaller_than_a_receptive_field_are_refused_before_anything_is_trained(train_context):
    parameters = _parameters(distillation="dense", dense={"crop_size": 24, "crops_per_epoch": 4})
    with pytest.raises(InputError, match=r"crop_size is 24, which is less than the receptive field 33"):
        pretrain(parameters, [33], train_context)


def test_a_reference_opens_what_was_trained(train_context):
    trained = pretrain(_parameters(), [17], train_context)[17]
    reference = reference_teacher(trained, 17, _parameters(), 4)
    state = reference.open().descriptor.state_dict()
    assert state.keys() == trained.state.keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in trained.state.items())


def test_histories_are_joined_with_the_field_before_each_term():
    columns = ["epoch", "split", "term", "value"]
    found = join_histories(
        {
            17: pd.DataFrame([(0, "training", "total", 1.0)], columns=columns),
            65: pd.DataFrame([(0, "training", "total", 2.0)], columns=columns),
        }
    )
    assert found.to_numpy().tolist() == [[0, "training", "p17.total", 1.0], [0, "training", "p65.total", 2.0]]
