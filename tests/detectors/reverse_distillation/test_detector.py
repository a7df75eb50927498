"""Reverse distillation: losses and maps by hand, what learns, what is kept, and what is refused."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from kdad.detectors.reverse_distillation.detector import (
    ReverseDistillationDetector,
    ReverseStudent,
    embedded_size,
    reverse_loss,
    reverse_map,
)
from kdad.detectors.reverse_distillation.parameters import ReverseDistillationSettings
from kdad.errors import InputError
from kdad.networks.source import CriticalPoint, build_source
from kdad.networks.weights import fingerprint_weights
from memory_images import MemoryImages

MAP = "feature_distance"
# Two channels at two locations: vectors (1, 0) and (0, 2) against (1, 0) and (2, 0).
SOURCE = torch.tensor([[[[1.0, 0.0]], [[0.0, 2.0]]]])
STUDENT = torch.tensor([[[[1.0, 2.0]], [[0.0, 0.0]]]])


def settings(training: dict | None = None, **changed) -> ReverseDistillationSettings:
    training = {"epochs": 3, "batch_size": 4} | (training or {})
    source = {"name": "timm:test_resnet", "weights": "random"}
    return ReverseDistillationSettings(reverse_distillation={"source": source, "training": training} | changed)


def totals(made) -> np.ndarray:
    return made.fitting.history.query("split == 'training'")["value"].to_numpy()


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("per_location", 0.5),  # cosines 1 and 0
        ("whole_map", 0.8),  # (1, 0, 0, 2) and (1, 2, 0, 0): 1 over 5
        ("both", 1.3),
    ],
)
def test_the_loss_is_one_minus_the_cosine_summed_over_points(form, expected):
    assert reverse_loss([SOURCE], [STUDENT], form).tolist() == pytest.approx([expected])
    assert reverse_loss([SOURCE, SOURCE], [STUDENT, SOURCE], form).tolist() == pytest.approx([expected], abs=1e-6)
    assert reverse_loss([7 * SOURCE], [STUDENT / 9], form).tolist() == pytest.approx([expected])


def test_the_loss_is_torchs_cosine_and_passes_vectors_of_length_0():
    generator = torch.Generator().manual_seed(0)
    source, student = (torch.randn(3, 8, 5, 4, generator=generator) for _ in range(2))
    student[:, :, 2, 1] = 0
    student.requires_grad_(True)
    whole, by_location = (reverse_loss([source], [student], form) for form in ("whole_map", "per_location"))
    torch.testing.assert_close(whole, 1 - cosine_similarity(source.flatten(1), student.flatten(1), dim=1))
    torch.testing.assert_close(by_location, 1 - cosine_similarity(source, student, dim=1).flatten(1).mean(1))
    (whole + by_location).sum().backward()
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize(("fusion", "expected"), [("sum", [0.0, 1.5]), ("geometric_mean", [1e-8, 0.5**0.5])])
def test_the_map_is_the_points_distances_together(fusion, expected):
    half = torch.tensor([[[[1.0, 3**0.5]], [[0.0, 1.0]]]])  # a cosine of one half at the second location
    found = reverse_map([SOURCE, SOURCE], [STUDENT, half], (1, 2), fusion)
    assert found[0, 0].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_the_map_is_that_of_source_and_decoder_at_the_chosen_points(fit):
    made = fit(ReverseDistillationDetector, settings(points="first 2", fusion="sum"))
    images = made.feature_set.batch(np.array([3, 0, 5]))
    with torch.no_grad():
        source = made.detector.frozen["source"].module(images)[:2]
        expected = reverse_map(source, made.detector.student(source), (32, 48), "sum")
    torch.testing.assert_close(made.detector.maps(images).maps[MAP], expected, rtol=1e-5, atol=1e-6)


def test_the_decoder_learns_a_few_images_by_heart_and_the_source_stays(fit):
    made = fit(ReverseDistillationDetector, settings({"epochs": 25, "batch_size": 8}))
    reference = made.detector.references["source"]
    assert fingerprint_weights(made.detector.frozen["source"].module) == reference.fingerprint
    assert totals(made)[-1] < 0.3 * totals(made)[0]


def test_training_takes_the_kept_features_alone(prepare, train_context):
    detector, feature_set = prepare(ReverseDistillationDetector, settings())
    detector.frozen["source"].module.register_forward_hook(lambda *given: pytest.fail("the source ran"))
    assert not detector.fit(feature_set, train_context).reused


def test_the_loss_trains_another_decoder_and_the_map_does_not(fit):
    changes = ({}, {"fusion": "sum", "score": "map_maximum"}, {"loss": "whole_map"})
    made = [fit(ReverseDistillationDetector, settings(**changed)) for changed in changes]
    assert [one.fitting.reused for one in made] == [False, True, False]
    keys = [one.detector.raw_key([MAP], one.feature_set) for one in made]
    assert len(set(keys)) == 3  # kept maps of one are not those of another


def test_its_cost_is_the_decoders_and_takes_no_pass_of_the_source(fit):
    detector = fit(ReverseDistillationDetector, settings({"epochs": 1})).detector
    detector.frozen["source"].module.register_forward_hook(lambda *given: pytest.fail("the source ran"))
    cost, weights = detector.cost(), sum(one.numel() for one in detector.student.parameters())
    assert cost["parameters"] == weights
    assert cost["flops"] > 2 * 2_000_000  # each weight of a convolution is used at more than one location


def test_a_point_that_the_source_does_not_have_is_refused_before_training(prepare):
    with pytest.raises(InputError, match=r"reverse_distillation\.points: there is no critical point 'layer9'"):
        prepare(ReverseDistillationDetector, settings(points=["layer9"]))


def test_kept_points_that_are_not_those_of_the_settings_are_refused(fit):
    detector = fit(ReverseDistillationDetector, settings({"epochs": 1})).detector
    facts = detector.metadata()
    detector.load_state(detector.state_dict(), facts)
    with pytest.raises(ValueError, match=r"its points are .* and its settings name"):
        detector.load_state(detector.state_dict(), {"points": facts["points"][:2]})


def test_one_value_a_channel_is_refused_before_training(prepare):
    tiny = MemoryImages((32, 32))
    with pytest.raises(InputError, match=r"images of 32 x 32 pixels leave one location of '\w+' to embed.* one image"):
        prepare(ReverseDistillationDetector, settings({"batch_size": 1}, points="all"), images=tiny)
    prepare(ReverseDistillationDetector, settings({"batch_size": 2}, points="all"), images=tiny)


def student_of(*shapes: tuple[int, int, int]) -> ReverseStudent:
    """Build a student for points of (channels, height, width)."""
    return ReverseStudent([CriticalPoint(f"p{i}", *shape, signed=True) for i, shape in enumerate(shapes)])


def shapes_through(student: ReverseStudent, shapes: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    return [tuple(found.shape[1:]) for found in student([torch.rand(2, *shape) for shape in shapes])]


@pytest.mark.parametrize(
    "sizes",
    [
        [(32, 32), (16, 16), (8, 8)],
        [(25, 33), (13, 17), (7, 9)],  # odd sides rounded up
        [(50, 30), (25, 15), (12, 7)],  # rounded down
        [(14, 14), (14, 14)],  # blocks of a transformer
        [(64, 40), (16, 10)],  # a point left out
        [(9, 4)],
        [(2, 3), (1, 1)],
    ],
)
def test_features_come_back_in_their_own_shapes(sizes):
    shapes = [(5 + 40 * i, *size) for i, size in enumerate(sizes)]
    assert shapes_through(student_of(*shapes), shapes) == shapes


def test_any_source_and_any_of_its_points_have_a_student():
    for name, size in (("efficientnet_lite0", (100, 132)), ("resnet18", (50, 70)), ("timm:test_convnext", (75, 41))):
        points = build_source(name).describe(size)
        for chosen in (points[:3], points, points[3:]):
            shapes = [(point.channels, point.height, point.width) for point in chosen]
            assert shapes_through(ReverseStudent(chosen), shapes) == shapes, (name, chosen)


def test_everything_passes_the_embedding():
    student = student_of((3, 17, 12), (6, 9, 6))
    assert embedded_size((9, 6)) == (5, 3)
    source = [torch.rand(1, 3, 17, 12), torch.rand(1, 6, 9, 6)]
    with torch.no_grad():
        seen = []
        student.embed.register_forward_hook(lambda module, given, embedded: seen.append(embedded))
        student.eval()(source)
        assert [tuple(embedded.shape) for embedded in seen] == [(1, 256, 5, 3)]
        student.embed.register_forward_hook(lambda module, given, embedded: torch.zeros_like(embedded))
        first, other = student(source), student([torch.rand_like(one) for one in source])
    assert all(torch.equal(one, another) for one, another in zip(first, other, strict=True))


def test_it_has_2_7_million_weights_for_the_default_source_at_any_size():
    for size in ((256, 256), (128, 96)):
        student = ReverseStudent(build_source("efficientnet_lite0").describe(size)[:3])
        joins = 24 * 48 * 9 + 48 * 48 * 9 + 40 * 80 * 9 + 112 * 192 * 9
        embedding = (48 + 80 + 192) * 256 * 9 + 256 * 256 * 9
        decoder = sum(
            before * width * 4 + 2 * width * width * 9 + width * channels
            for before, width, channels in ((256, 192, 112), (192, 80, 40), (80, 48, 24))
        )
        convolutions = sum(one.numel() for one in student.parameters() if one.dim() == 4)
        assert convolutions == joins + embedding + decoder == 2_700_032
