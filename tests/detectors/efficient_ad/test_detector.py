"""EfficientAD: its losses and maps by hand, what learns, what each part changes, and what is refused."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from kdad.detectors.efficient_ad.detector import EfficientAdDetector, MapQuantiles, measure_quantiles
from kdad.detectors.efficient_ad.parameters import EfficientAdSettings
from kdad.detectors.efficient_ad.training import DescriptorAutoencoder, NaturalCrops, crop_side, hard_feature_loss
from kdad.detectors.uninformed_students.teacher import pretrain
from kdad.errors import InputError
from kdad.networks.weights import fingerprint_state
from kdad.parameters.dataset import DatasetParameters
from memory_images import MemoryImages

_TEACHER = {
    "depth": 6,
    "width": 0.05,
    "source": {"name": "timm:test_resnet", "weights": "random"},
    "distillation": "dense",
    "compactness_weight": 0.0,
    "dense": {
        "crop_size": 33,
        "enlargement": 1,
        "crops_per_epoch": 8,
        "validation_crops": 2,
        "training": {"epochs": 1, "batch_size": 4},
    },
}
_PARTS = ["teacher_student", "autoencoder_student"]


def settings(training: dict | None = None, **changed) -> EfficientAdSettings:
    training = {"epochs": 1, "batch_size": 4} | (training or {})
    return EfficientAdSettings(efficient_ad={"teacher": _TEACHER, "training": training} | changed)


def last(made, split: str = "training") -> dict[str, float]:
    """Return the terms of the last epoch."""
    history = made.fitting.history.query("split == @split")
    return history[history["epoch"] == history["epoch"].max()].set_index("term")["value"].to_dict()


@pytest.mark.parametrize(
    ("quantile", "expected"),
    [
        (0.0, 2.5),  # of 0, 1, ..., 5
        (0.5, 4.0),  # not below 2.5
        (0.6, 4.0),  # not below 3
        (0.61, 4.5),
        (0.999, 5.0),
    ],
)
def test_hard_features_are_the_errors_not_below_the_quantile(quantile, expected):
    errors = torch.tensor([3.0, 0.0, 5.0, 1.0, 4.0, 2.0]).view(1, 2, 1, 3)
    assert hard_feature_loss(torch.cat([errors, 2 * errors]), quantile).tolist() == pytest.approx(
        [expected, 2 * expected]
    )


def test_hard_features_are_those_of_torchs_quantile():
    errors = torch.randn(3, 8, 9, 7, generator=torch.Generator().manual_seed(0)).square()
    for quantile in (0.3, 0.9, 0.999):
        of_image = [one[one >= one.flatten().quantile(quantile)].mean().item() for one in errors]
        assert hard_feature_loss(errors, quantile).tolist() == pytest.approx(of_image)


def test_maps_are_scaled_by_quantiles_of_training_images(split):
    seen = []

    def maps_of(rows):
        seen.extend(rows)
        return {"map": torch.from_numpy(rows.astype(np.float32)).view(-1, 1, 1), "flat": torch.ones(len(rows), 2, 2)}

    found = measure_quantiles(split, maps_of, 3)
    assert seen == split.rows("train").tolist()
    low, high = np.quantile(split.rows("train"), [0.9, 0.995])
    assert (found["map"].low, found["map"].high) == pytest.approx((low, high))
    scaled = found["map"].normalise(torch.tensor([low, high, 2 * high - low]))
    assert scaled.tolist() == pytest.approx([0.0, 0.1, 0.2], abs=1e-6)
    assert found["flat"].normalise(torch.ones(1)).tolist() == [0.0]


def test_maps_are_squared_distances_to_teacher_and_autoencoder(fit):
    made = fit(EfficientAdDetector, settings())
    detector, images = made.detector, made.feature_set.batch(np.array([3, 0, 5]))
    with torch.no_grad():
        teacher = detector.frozen["p33"].module(images)[0]
        statistics = made.feature_set.features["p33"].statistics[0]
        mean, sd = (torch.tensor(statistics[name]).view(1, -1, 1, 1) for name in ("mean", "sd"))
        student = detector.networks["student"].dense(images, 4)
        found = detector.networks["autoencoder"](images)
    parts = ((teacher - mean) / sd - student[:, :6], found - student[:, 6:])
    maps = detector.maps(images, methods=detector.methods).maps
    assert list(maps) == ["combined", *_PARTS]
    for name, difference in zip(_PARTS, parts, strict=True):
        expected = detector.quantiles[name].normalise(difference.square().mean(1))
        torch.testing.assert_close(maps[name][:, ::4, ::4], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(maps["combined"], (maps[_PARTS[0]] + maps[_PARTS[1]]) / 2)


def test_student_and_autoencoder_learn_a_few_images_by_heart_and_the_teacher_stays(fit):
    made = fit(EfficientAdDetector, settings({"epochs": 60, "learning_rate": 0.01}, penalty_weight=0.0))
    reference = made.detector.references["p33"]
    assert fingerprint_state(made.detector.frozen["p33"].module.descriptor.state_dict()) == reference.fingerprint
    first = made.fitting.history.query("split == 'training' and epoch == 0").set_index("term")["value"]
    assert set(first.index) == {"total", "student", "autoencoder", "student_autoencoder"}
    for term in ("student", "autoencoder"):
        assert last(made)[term] < 0.5 * first[term], term


def test_the_terms_of_the_loss_are_those_of_the_paper(fit):
    made = fit(EfficientAdDetector, settings(penalty_weight=10.0, hard_quantile=0.75))
    own, rows = made.detector.block, made.feature_set.split.rows("validation")
    images = made.feature_set.batch(rows)
    crops = NaturalCrops(own, len(made.feature_set.split), crop_side(own, (32, 48)), seed=0).cut(rows, training=False)
    with torch.no_grad():
        teacher = made.detector.standardise(made.detector.frozen["p33"].module(images)[0])
        student, autoencoder = made.detector.networks["student"], made.detector.networks["autoencoder"](images)
        ours, of_crops = student.dense(images, 4), student.dense(crops, 4)
    errors = (ours[:, :6] - teacher).square()
    expected = {
        "student": np.mean([one[one >= one.quantile(0.75)].mean() for one in errors.flatten(1)]),
        "penalty": 10 * of_crops[:, :6].square().mean(),
        "autoencoder": (autoencoder - teacher).square().mean(),
        "student_autoencoder": (ours[:, 6:] - autoencoder).square().mean(),
    }
    expected = {term: float(value) for term, value in expected.items()}
    total = {"total": sum(expected.values())}
    assert last(made, "validation") == pytest.approx(expected | total, rel=1e-4)
    alone = fit(EfficientAdDetector, settings(autoencoder=False, penalty_weight=0.0))
    assert set(last(alone)) == {"total", "student"}


def test_crops_are_new_in_each_epoch_and_fixed_in_validation():
    own, rows = settings().efficient_ad, np.array([3, 1])
    crops = NaturalCrops(own, 4, 33, seed=0)
    first, fixed = crops.cut(rows, training=True), crops.cut(rows, training=False)
    crops.begin(1)
    assert not torch.equal(crops.cut(rows, training=True), first)
    assert torch.equal(crops.cut(rows, training=False), fixed) and not torch.equal(first, fixed)
    crops.begin(0)
    assert torch.equal(crops.cut(rows, training=True), first)
    assert torch.equal(crops.cut(rows[::-1].copy(), training=True), first.flip(0))
    assert (crop_side(own, (200, 20)), crop_side(own, (20, 25))) == (33, 25)


def test_each_part_trains_other_networks_and_the_score_does_not(fit):
    changes = ({}, {"score": "map_maximum"}, {"hard_quantile": 0.0}, {"penalty_weight": 0.5}, {"autoencoder": False})
    made = [fit(EfficientAdDetector, settings(**changed)) for changed in changes]
    assert [one.fitting.reused for one in made] == [False, True, False, False, False]
    assert [one.detector.methods[1:] for one in made] == [_PARTS] * 4 + [[]]


def test_its_teacher_is_that_of_uninformed_students(prepare, train_context):
    found = pretrain(settings().efficient_ad.teacher, [33], train_context)[33]
    detector, _ = prepare(EfficientAdDetector, settings())
    assert detector.references["p33"].weights == str(found.weights.resolve())


def test_its_cost_is_that_of_teacher_student_and_autoencoder(fit):
    costs = [fit(EfficientAdDetector, settings(autoencoder=value)).detector.cost() for value in (False, True)]
    assert costs[0]["parameters"] < costs[1]["parameters"]
    assert costs[0]["flops"] < costs[1]["flops"]


def test_quantiles_that_do_not_rise_are_refused(fit):
    detector = fit(EfficientAdDetector, settings()).detector
    facts = detector.metadata()
    detector.load_state(detector.state_dict(), facts)
    with pytest.raises(ValueError, match="quantiles of a map that do not rise"):
        MapQuantiles(low=1.0, high=1.0).check()
    facts["map_quantiles"]["teacher_student"] = {"low": 2.0, "high": 1.0}
    with pytest.raises(ValueError, match="quantiles of a map that do not rise"):
        detector.load_state(detector.state_dict(), facts)


def test_images_and_crops_that_hold_no_patch_are_refused_before_training(prepare):
    with pytest.raises(InputError, match=r"images of 16 x 40 pixels are too small for efficient_ad.* need 17 a side"):
        prepare(EfficientAdDetector, settings(), images=MemoryImages((16, 40)))
    small = _TEACHER | {"dense": {"crop_size": 32}}
    with pytest.raises(ValidationError, match=r"teacher\.dense\.crop_size is 32; a descriptor is of 33 pixels"):
        settings(teacher=small)
    sizes = [DatasetParameters(name="textures", category="brick", image_size=size) for size in (32, 64)]
    assert [settings().supports(size) for size in sizes] == [True, True]


@pytest.mark.parametrize(
    ("size", "grid"), [((256, 256), (64, 64)), ((34, 45), (9, 12)), ((17, 17), (5, 5)), ((32, 300), (8, 75))]
)
def test_descriptors_of_any_image_come_from_64_numbers(size, grid):
    network, seen = DescriptorAutoencoder(6, size, grid).eval(), []
    network.encoder.register_forward_hook(lambda module, given, vector: seen.append(tuple(vector.shape)))
    with torch.no_grad():
        assert network(torch.rand(2, 3, *size)).shape == (2, 6, *grid)
    assert seen == [(2, 64, 1, 1)]


def test_at_256_pixels_it_is_as_deep_as_the_published_one():
    convolutions = [
        layer for layer in DescriptorAutoencoder(6, (256, 256), (64, 64)).encoder if hasattr(layer, "weight")
    ]
    assert [layer.out_channels for layer in convolutions] == [32, 32, 64, 64, 64, 64]
    assert convolutions[-1].kernel_size == (8, 8)
