"""Teachers learn from fixed draws, without touching the source, and resume to the same numbers."""

import numpy as np
import pandas as pd
import pytest
import torch

from interruptions import train_killed_at
from kdad.compute import Compute
from kdad.detectors.uninformed_students import teacher as module
from kdad.detectors.uninformed_students.parameters import TeacherParameters
from kdad.detectors.uninformed_students.patches import sample_patches
from kdad.detectors.uninformed_students.teacher import train_teacher
from kdad.features.network import prepare_source
from kdad.images.synthetic.natural_pool import NaturalPool
from kdad.networks.weights import fingerprint_weights
from kdad.training.checkpoints import CheckpointFile

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
