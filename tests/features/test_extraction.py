"""A frozen network's outputs of an image set: exact, measured on training images, and computed once."""

import copy
import shutil
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook

from kdad.compute import Compute
from kdad.errors import InputError
from kdad.features.cache import open_cache, overall_sd
from kdad.features.extraction import (
    ExtractionOptions,
    FeatureSet,
    obtain_features,
    read_images,
)
from kdad.features.network import FrozenNetwork, reference_source
from kdad.images.one_class import LabelledImages, OneClassSet
from kdad.images.splits import Split
from kdad.networks.fusion import fuse
from kdad.networks.parameters import SourceParameters
from kdad.networks.source import Source
from kdad.networks.weights import load_source
from kdad.parameters.dataset import DatasetParameters
from kdad.storage.content_store import ContentStore
from memory_images import MemoryImages, split_of

_CPU = torch.device("cpu")
_SOURCE = SourceParameters(name="timm:test_resnet", weights="random")
_PARTS = ["test", "train", "train", "validation", "train"]
_Usage = namedtuple("_Usage", "total used free")


class _Case:
    """One call of `obtain_features`, whose arguments can be varied."""

    def __init__(self, folder) -> None:
        self.store, self.weights = ContentStore(folder), ContentStore(folder.parent / "weights")
        self.images = MemoryImages(parts=_PARTS)
        self.split = split_of(self.images)
        self.options = ExtractionOptions(2)
        self.compute = Compute(_CPU, torch.float32)
        self.parameters = _SOURCE
        self.changes = {}

    @property
    def network(self) -> FrozenNetwork:
        """Return the source as a frozen network that has not been loaded."""
        reference = reference_source(self.parameters, self.images, self.split, self.weights)
        return FrozenNetwork(reference.model_copy(update=self.changes), self.compute)

    def run(self, network=None):
        return obtain_features(self.store, network or self.network, self.images, self.split, self.options)

    def table(self, **columns) -> Split:
        return Split(self.split.table.assign(**columns))

    def other_weights(self) -> str:
        """Save other weights of the same network."""
        path = self.store.root.parent / "weights.pth"
        torch.save(load_source("timm:test_resnet", "random", random_seed=1).pyramid.state_dict(), path)
        return str(path)

    @torch.no_grad()
    def live(self, rows) -> list[torch.Tensor]:
        """Return the source's outputs of these rows, in one pass."""
        return self.network.module(torch.from_numpy(np.stack([self.images.image(row) for row in rows])))


@pytest.fixture
def case(tmp_path) -> _Case:
    """Five images and a small source in float32."""
    return _Case(tmp_path / "place")


@pytest.fixture
def passes(monkeypatch) -> Iterator[list[int]]:
    """The batch sizes of all passes of a source over images; neither measuring its shapes nor fusing it counts."""
    sizes: list[int] = []

    def count(module, given, _) -> None:
        if isinstance(module, Source) and not fusing:
            sizes.append(len(given[0]))

    def fuse_uncounted(*arguments):
        fusing.append(True)
        fused = fuse(*arguments)
        fusing.clear()
        return fused

    fusing: list[bool] = []
    monkeypatch.setattr("kdad.networks.fusion.fuse", fuse_uncounted)
    hook = register_module_forward_hook(count)
    yield sizes
    hook.remove()


def test_the_cache_holds_what_the_network_gives(case):
    cache = case.run()
    assert not cache.reused
    rows = np.array([3, 0, 4])
    assert torch.equal(cache.images(rows), torch.from_numpy(np.stack([case.images.image(row) for row in rows])))
    for found, expected in zip(cache.outputs(rows), case.live(rows), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_statistics_are_of_training_rows_only(case):
    cache = case.run()
    training = [row for row, part in enumerate(_PARTS) if part == "train"]
    for statistics, output in zip(cache.statistics, case.live(training), strict=True):
        values = output.double().numpy()
        np.testing.assert_allclose(statistics["mean"], values.mean((0, 2, 3)), rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(statistics["sd"], values.std((0, 2, 3)), rtol=1e-4, atol=1e-7)
    scales = [overall_sd(found) for found in cache.statistics]
    np.testing.assert_allclose(scales, [output.double().numpy().std() for output in case.live(training)], rtol=1e-5)
    everything = [output.double().numpy().std() for output in case.live(range(5))]
    assert not np.allclose(scales, everything, rtol=1e-3)


def test_a_constant_point_is_not_divided_by_zero(case):
    network = case.network
    network.module.pyramid.layer4.register_forward_hook(lambda *call: torch.zeros_like(call[-1]))
    scales = [overall_sd(found) for found in case.run(network).statistics]
    assert scales[-1] == 1.0
    assert scales[0] != 1.0


def test_a_second_call_runs_the_network_over_nothing_and_does_not_load_it(case, passes):
    first = case.run()
    assert passes == [2, 2, 1]
    passes.clear()
    network = _Case(case.store.root).network
    again = case.run(network)
    assert again.reused
    assert passes == []
    assert "module" not in vars(network)
    assert again.manifest == first.manifest


_CHANGES = {
    "weights": lambda case: setattr(case, "parameters", _SOURCE.model_copy(update={"weights": case.other_weights()})),
    "content": lambda case: setattr(
        case, "split", case.table(fingerprint=["0" * 16, *case.split.table["fingerprint"][1:]])
    ),
    "ids": lambda case: setattr(case, "split", case.table(id=[*case.split.table["id"][:4], "renamed"])),
    "order": lambda case: setattr(case, "split", Split(case.split.table.iloc[::-1].reset_index(drop=True))),
    "fewer images": lambda case: setattr(case, "split", Split(case.split.table.iloc[:4])),
    "training rows": lambda case: setattr(case, "split", case.table(split=["test", *["train"] * 4])),
    "size": lambda case: setattr(case, "images", MemoryImages((48, 32), parts=_PARTS)),
    "dtype": lambda case: setattr(case, "compute", Compute(_CPU, torch.bfloat16)),
    "points": lambda case: setattr(
        case, "parameters", _SOURCE.model_copy(update={"critical_points": ["stage2", "stage3"]})
    ),
    "normalisation": lambda case: case.changes.update(mean=[0.5] * 3, sd=[0.2] * 3),
    "source": lambda case: setattr(case, "parameters", SourceParameters(name="resnet18", weights="random")),
}


@pytest.mark.parametrize("what", _CHANGES)
def test_whatever_differs_makes_the_cache_anew(case, what):
    before = case.run()
    changed = _Case(case.store.root)
    _CHANGES[what](changed)
    after = changed.run()
    assert not after.reused
    assert after.identity != before.identity
    assert changed.run().reused


def test_where_the_weights_lie_does_not_matter(case):
    case.run()
    case.changes["weights"] = "/a/copy/of/the/same.pth"
    assert case.run().reused


def test_held_out_and_test_images_may_change_places(case):
    case.run()
    case.split = case.table(split=["validation", "train", "train", "test", "train"])
    assert case.run().reused


@pytest.mark.parametrize("file_name", ["images.npy", "stage2.npy", "manifest.json"])
def test_a_damaged_cache_is_named_and_made_anew(case, file_name, caplog):
    before = case.run()
    expected = before.outputs(np.arange(5))
    path = before.folder / file_name
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match=rf"the feature cache is damaged: '{path}' has \d+ bytes instead of \d+"):
        open_cache(before.folder)
    after = _Case(case.store.root).run()
    assert not after.reused
    assert [str(path) in message for message in caplog.messages] == [True]
    for found, output in zip(after.outputs(np.arange(5)), expected, strict=True):
        assert torch.equal(found, output)


def test_bfloat16_outputs_are_stored_as_they_are(case):
    case.compute = Compute(_CPU, torch.bfloat16)
    cache = case.run()
    assert cache.manifest["dtype"] == "bfloat16"
    for found, full in zip(cache.outputs(np.arange(5)), case.live(range(5)), strict=True):
        assert torch.equal(found, found.bfloat16().float())
        # bfloat16 has 8 bits of precision; a few layers lose some more
        assert (found - full).abs().mean() < 0.05 * full.abs().mean()


def test_too_small_a_disk_ends_before_the_network_runs(case, passes, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage(0, 0, 1000))
    with pytest.raises(InputError, match="the feature cache needs"):
        case.run()
    assert passes == []
    assert list(case.store.root.iterdir()) == []


@pytest.mark.parametrize("keep", [True, False])
def test_an_unreadable_image_leaves_no_folder(case, monkeypatch, keep):
    case.options = ExtractionOptions(2, keep)
    read = case.images.image
    monkeypatch.setattr(case.images, "image", lambda index: read(index) if index < 3 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        case.run()
    assert list(case.store.root.iterdir()) == []


def test_the_network_is_left_as_it_was(case):
    network = case.network
    before = copy.deepcopy(network.module.state_dict())
    case.run(network)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.module.state_dict().items())
    assert not any(parameter.requires_grad for parameter in network.module.parameters())


def test_outputs_that_are_not_to_be_kept_are_measured_and_gone(case, passes):
    kept = case.run()
    case.store, case.options = ContentStore(case.store.root / "other"), ExtractionOptions(2, keep=False)
    passes.clear()
    found = case.run()
    assert passes == [2, 2, 1]
    assert not found.kept
    names = ["checksums.json", "made_by.json", "manifest.json", "means.npy"]
    assert sorted(path.name for path in found.folder.iterdir()) == names
    assert (found.statistics, found.points, found.identity) == (kept.statistics, kept.points, kept.identity)


@pytest.mark.parametrize(("spare", "kept"), [(1, True), (0, False)])
def test_auto_keeps_outputs_that_half_of_what_the_disk_has_left_holds(case, monkeypatch, spare, kept):
    needed = sum(array.nbytes for array in case.run().arrays) + case.images.pixels.nbytes
    case.store, case.options = ContentStore(case.store.root / "other"), ExtractionOptions(2, keep=None)
    free = -(-2 * needed // 0.95) + (2 if spare else -2)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage(0, 0, free))
    assert case.run().kept == kept


def test_what_a_killed_run_left_is_not_taken_for_outputs(case, monkeypatch):
    read = case.images.image

    def killed(index):
        if index == 3:
            raise KeyboardInterrupt
        return read(index)

    with monkeypatch.context() as patch:
        patch.setattr(case.images, "image", killed)
        with pytest.raises(KeyboardInterrupt):
            case.run()
    case.options = ExtractionOptions(2, keep=False)
    assert not case.run().kept


def test_seen_images_come_from_a_cache_or_are_read(case, monkeypatch):
    rows = np.array([4, 1])
    expected, expected_outputs = read_images(case.images, rows), case.live(rows)
    kept = FeatureSet(case.images, case.split, {"source": case.run()})
    case.store, case.options = ContentStore(case.store.root / "other"), ExtractionOptions(2, keep=False)
    not_kept = FeatureSet(case.images, case.split, {"source": case.run()})
    assert torch.equal(not_kept.batch(rows), expected)
    assert not_kept.outputs(rows) is None
    one_of_two = replace(kept, features={"a": not_kept.features["source"], "b": kept.features["source"]})
    assert one_of_two.outputs(rows) is None
    monkeypatch.setattr(case.images, "image", lambda _: 1 / 0)
    assert torch.equal(kept.batch(rows), expected)
    assert torch.equal(one_of_two.batch(rows), expected)
    for found, output in zip(kept.outputs(rows)["source"], expected_outputs, strict=True):
        torch.testing.assert_close(found, output, rtol=1e-5, atol=1e-6)


_CLASSES = {"train": [0, 1, 0, 2, 1, 0, 1, 0], "test": [1, 0, 2]}


def _one_class(normal: int) -> tuple[OneClassSet, Split]:
    """Return a made-up labelled set with a class as normal, the last of its training images held out."""
    generator = np.random.default_rng(3)
    parts = [
        LabelledImages(generator.integers(0, 256, (len(c), 28, 28), dtype=np.uint8), np.array(c))
        for c in _CLASSES.values()
    ]
    parameters = DatasetParameters(name="mnist", normal_class=normal, image_size=32)
    images = OneClassSet(parameters, *parts, tuple("abcdefghij"))
    split = split_of(images)
    parts = split.table["split"].tolist()
    parts[parts.index("test") - 1] = "validation"
    return images, Split(split.table.assign(split=parts))


def _network(images, split, weights: ContentStore) -> FrozenNetwork:
    reference = reference_source(_SOURCE, images, split, weights)
    return FrozenNetwork(reference, Compute(_CPU, torch.float32))


def test_classes_share_one_pass_and_have_the_outputs_and_statistics_of_their_own(tmp_path, passes):
    shared, weights = ContentStore(tmp_path / "shared"), ContentStore(tmp_path / "weights")
    for normal in (0, 1):
        images, split = _one_class(normal)
        passes.clear()
        given = (shared, _network(images, split, weights), images, split, ExtractionOptions(4))
        found = obtain_features(*given, shares_classes=True)
        assert passes == ([4, 4, 3] if normal == 0 else [])  # all eleven images, once
        alone = obtain_features(
            ContentStore(tmp_path / f"alone{normal}"),
            _network(images, split, ContentStore(tmp_path / "weights")),
            images,
            split,
            ExtractionOptions(4),
        )
        rows = np.arange(len(split))
        assert len(found) == len(alone) == len(split)
        assert torch.equal(found.images(rows), alone.images(rows))
        for output, expected in zip(found.outputs(rows), alone.outputs(rows), strict=True):
            torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
        for statistics, expected in zip(found.statistics, alone.statistics, strict=True):
            np.testing.assert_allclose(statistics["mean"], expected["mean"], rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(statistics["sd"], expected["sd"], rtol=1e-4, atol=1e-6)
        assert found.points == alone.points
        assert obtain_features(*given, shares_classes=True).reused


def test_classes_do_not_share_what_is_not_kept(tmp_path, passes):
    images, split = _one_class(0)
    network = _network(images, split, ContentStore(tmp_path / "weights"))
    options = ExtractionOptions(4, keep=False)
    passes.clear()
    found = obtain_features(ContentStore(tmp_path), network, images, split, options, shares_classes=True)
    assert sum(passes) == len(split)  # the class alone, once
    alone = obtain_features(ContentStore(tmp_path / "alone"), network, images, split, options)
    assert not found.kept
    assert found.manifest == alone.manifest


def test_splits_that_leave_training_images_out_share_one_pass(case, passes):
    trained = [[2], [1, 2], [1, 2, 4]]
    caches = []
    for rows in trained:
        parts = ["unused" if part == "train" and row not in rows else part for row, part in enumerate(_PARTS)]
        caches.append(obtain_features(case.store, case.network, case.images, case.table(split=parts), case.options))
    assert passes == [2, 2, 1]
    for rows, cache in zip(trained, caches, strict=True):
        for found, expected in zip(cache.outputs(np.arange(5)), case.live(range(5)), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        means = [output.double().numpy().mean((0, 2, 3)) for output in case.live(rows)]
        for statistics, expected in zip(cache.statistics, means, strict=True):
            np.testing.assert_allclose(statistics["mean"], expected, rtol=1e-5, atol=1e-7)
