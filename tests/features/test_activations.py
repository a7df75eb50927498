"""The source's activations of an image set: exact, scaled by training images, and computed once."""

import shutil
from collections import namedtuple
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook

from kdad.compute import Compute
from kdad.errors import InputError
from kdad.features.activations import cache_activations, prepare_source, select_activations
from kdad.images.image_set import ImageSet, Sample
from kdad.networks.source import Source
from kdad.parameters.source import FeatureParameters, SourceParameters

_CPU = torch.device("cpu")
_SOURCE = SourceParameters(name="timm:test_resnet", weights="random")
_SPLITS = ["test", "train", "train", "validation", "train"]
_Usage = namedtuple("_Usage", "total used free")


class _RandomImages(ImageSet):
    name, category = "random", "noise"

    def __init__(self, size=(32, 48), seed=0) -> None:
        self.size = size
        self.samples = [Sample(f"image{index}", 0, "good", split, False) for index, split in enumerate(_SPLITS)]
        self._pixels = np.random.default_rng(seed).random((len(_SPLITS), 3, *size), dtype=np.float32)

    def image(self, index: int) -> np.ndarray:
        return self._pixels[index]

    @property
    def split_table(self) -> pd.DataFrame:
        """Return the table of splits in the form that ingestion hands on."""
        rows = [
            (sample.id, sample.label, sample.kind, sample.subset, sample.has_mask, self.fingerprint(index))
            for index, sample in enumerate(self.samples)
        ]
        return pd.DataFrame(rows, columns=["id", "label", "kind", "split", "has_mask", "fingerprint"])


class _Case:
    """One call of `cache_activations`, whose arguments can be varied."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.source = prepare_source(_SOURCE, {})
        self.images = _RandomImages()
        self.table = self.images.split_table
        self.features = FeatureParameters(batch_size=2)
        self.compute = Compute(_CPU, torch.float32)
        self.parameters = _SOURCE

    def run(self):
        return cache_activations(
            self.folder, self.source, self.parameters, self.images, self.table, self.features, self.compute
        )

    @torch.no_grad()
    def live(self, rows) -> list[torch.Tensor]:
        """Return the source's activations of these rows, in one pass."""
        return self.source(torch.from_numpy(np.stack([self.images.image(row) for row in rows])))


@pytest.fixture
def case(tmp_path) -> _Case:
    """Five images and a small source in float32."""
    return _Case(tmp_path / "place" / "activations")


@pytest.fixture
def passes() -> Iterator[list[int]]:
    """The batch sizes of all passes of a source over images; measuring its shapes on noise does not count."""
    sizes: list[int] = []
    hook = register_module_forward_hook(
        lambda module, given, _: sizes.append(len(given[0])) if isinstance(module, Source) else None
    )
    yield sizes
    hook.remove()


def test_the_cache_holds_what_the_source_gives(case):
    case.features = FeatureParameters(batch_size=2, activation_scaling="none")
    cache, reused = case.run()
    assert not reused
    rows = np.array([3, 0, 4])
    assert cache.scales == [1.0] * 4
    assert torch.equal(cache.images(rows), torch.from_numpy(np.stack([case.images.image(row) for row in rows])))
    for found, expected in zip(cache.activations(rows), case.live(rows), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_scales_are_the_standard_deviation_of_training_rows_only(case):
    cache, _ = case.run()
    training = [index for index, split in enumerate(_SPLITS) if split == "train"]
    expected = [activation.double().numpy().std() for activation in case.live(training)]
    np.testing.assert_allclose(cache.scales, expected, rtol=1e-5)
    everything = [activation.double().numpy().std() for activation in case.live(range(5))]
    assert not np.allclose(cache.scales, everything, rtol=1e-3)
    for found in cache.activations(np.array(training)):
        assert found.double().numpy().std() == pytest.approx(1.0, rel=1e-4)


def test_a_constant_point_is_not_divided_by_zero(case):
    case.source.pyramid.layer4.register_forward_hook(lambda *call: torch.zeros_like(call[-1]))
    cache, _ = case.run()
    assert cache.scales[-1] == 1.0
    assert cache.scales[0] != 1.0


def test_a_second_call_runs_the_source_over_nothing(case, passes):
    first, _ = case.run()
    assert passes == [2, 2, 1]
    passes.clear()
    again, reused = _Case(case.folder).run()
    assert reused
    assert passes == []
    assert again.manifest == first.manifest


_CHANGES = {
    "weights": lambda case: case.source.pyramid.conv1[0].weight[0, 0, 0, 0].add_(1e-3),
    "content": lambda case: case.table.__setitem__("fingerprint", ["0" * 16, *case.table["fingerprint"][1:]]),
    "ids": lambda case: case.table.__setitem__("id", [*case.table["id"][:4], "renamed"]),
    "order": lambda case: setattr(case, "table", case.table.iloc[::-1].reset_index(drop=True)),
    "fewer images": lambda case: setattr(case, "table", case.table.iloc[:4]),
    "training rows": lambda case: case.table.__setitem__("split", ["test", "train", "train", "train", "train"]),
    "size": lambda case: setattr(case, "images", _RandomImages((48, 32))),
    "dtype": lambda case: setattr(case, "compute", Compute(_CPU, torch.bfloat16)),
    "scaling": lambda case: setattr(case, "features", FeatureParameters(activation_scaling="none")),
    "points": lambda case: case.source.select(["stage2", "stage3"]),
    "normalisation": lambda case: case.source.normalise_with([0.5] * 3, [0.2] * 3),
    "source": lambda case: setattr(case, "parameters", SourceParameters(name="timm:another", weights="random")),
}


@pytest.mark.parametrize("what", _CHANGES)
def test_whatever_differs_makes_the_cache_anew(case, what):
    before, _ = case.run()
    changed = _Case(case.folder)
    _CHANGES[what](changed)
    after, reused = changed.run()
    assert not reused
    assert after.manifest != before.manifest
    assert changed.run()[1]


@pytest.mark.parametrize("file_name", ["images.npy", "stage2.npy", "manifest.json"])
def test_a_damaged_cache_is_made_anew(case, file_name):
    before, _ = case.run()
    expected = before.activations(np.arange(5))
    path = case.folder / file_name
    path.write_bytes(path.read_bytes()[:-8])
    after, reused = _Case(case.folder).run()
    assert not reused
    for found, activation in zip(after.activations(np.arange(5)), expected, strict=True):
        assert torch.equal(found, activation)


def test_bfloat16_activations_are_stored_as_they_are(case):
    case.compute = Compute(_CPU, torch.bfloat16)
    case.features = FeatureParameters(batch_size=2, activation_scaling="none")
    cache, _ = case.run()
    assert cache.manifest["dtype"] == "bfloat16"
    for found, full in zip(cache.activations(np.arange(5)), case.live(range(5)), strict=True):
        assert torch.equal(found, found.bfloat16().float())
        # bfloat16 has 8 bits of precision; a few layers lose some more
        assert (found - full).abs().mean() < 0.05 * full.abs().mean()


def test_too_small_a_disk_ends_before_the_source_runs(case, passes, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage(0, 0, 1000))
    with pytest.raises(InputError, match="the activation cache needs"):
        case.run()
    assert passes == []
    assert list(case.folder.parent.iterdir()) == []


def test_an_unreadable_image_leaves_no_folder(case, monkeypatch):
    read = case.images.image
    monkeypatch.setattr(case.images, "image", lambda index: read(index) if index < 3 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        case.run()
    assert list(case.folder.parent.iterdir()) == []


def test_the_source_is_left_as_it_was(case):
    before = {name: tensor.clone() for name, tensor in case.source.state_dict().items()}
    case.run()
    assert all(torch.equal(tensor, before[name]) for name, tensor in case.source.state_dict().items())
    assert not any(parameter.requires_grad for parameter in case.source.parameters())


@pytest.mark.parametrize(
    ("kind", "mean", "sd"),
    [("dataset", [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]), ("none", [0] * 3, [1] * 3), ("source", None, None)],
)
def test_input_normalisation(kind, mean, sd):
    parameters = _SOURCE.model_copy(update={"input_normalisation": kind})
    own = prepare_source(_SOURCE, {})
    source = prepare_source(parameters, {"mean": [0.1, 0.2, 0.3], "sd": [0.4, 0.5, 0.6]})
    assert source.mean.flatten().tolist() == pytest.approx(mean or own.mean.flatten().tolist())
    assert source.sd.flatten().tolist() == pytest.approx(sd or own.sd.flatten().tolist())


def test_critical_points_are_selected():
    chosen = prepare_source(_SOURCE.model_copy(update={"critical_points": ["stage4", "stage1"]}), {})
    assert chosen.critical_points == ("stage1", "stage4")
    with pytest.raises(InputError, match="the source has no 'stage5'"):
        prepare_source(_SOURCE.model_copy(update={"critical_points": ["stage5"]}), {})


def test_training_images_that_are_constant_in_a_channel_cannot_normalise():
    parameters = _SOURCE.model_copy(update={"input_normalisation": "dataset"})
    with pytest.raises(InputError, match=r"constant in a channel; set source\.input_normalisation to 'source'"):
        prepare_source(parameters, {"mean": [0.5] * 3, "sd": [0.1, 0.0, 0.1]})


def test_a_selection_has_the_scales_of_its_own_training_images(case, tmp_path):
    whole, _ = case.run()
    table = case.table.iloc[[1, 2, 3]].reset_index(drop=True)
    rows = np.array([1, 2, 3])
    arguments = (case.source, case.parameters, case.images, table, rows, case.features, case.compute)
    found, reused = select_activations(tmp_path / "selected", whole, *arguments)
    assert (reused, len(found)) == (False, 3)
    for index, live in enumerate(case.live([1, 2])):
        expected = float(live.std(correction=0))
        assert found.scales[index] == pytest.approx(expected, rel=1e-5)
        torch.testing.assert_close(found.activations(np.array([0, 1]))[index], live / expected, rtol=1e-4, atol=1e-5)
    assert select_activations(tmp_path / "selected", whole, *arguments)[1]
