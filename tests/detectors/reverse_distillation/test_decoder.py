"""Bottleneck and decoder: shapes for sides that halve evenly and for those that do not."""

import pytest
import torch

from kdad.detectors.reverse_distillation.decoder import ReverseStudent, embedded_size
from kdad.networks.source import CriticalPoint, build_source


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
