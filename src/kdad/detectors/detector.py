"""The detector: a frozen half, a learnt half, how raw maps become a score, and a threshold."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdad import __version__
from kdad.compute import Compute
from kdad.content_store import content_key
from kdad.detectors.folder import FORMAT, DetectorFacts, ImageFacts, write_folder
from kdad.detectors.judgement import JudgedFile, Judgement, read_or_say
from kdad.detectors.system import System
from kdad.detectors.workshop import Fitting, Outputs, Raw, Workshop
from kdad.errors import InputError
from kdad.features.network import FrozenNetwork, FrozenReference
from kdad.features.seen import SeenImages
from kdad.images.fitting import fit_image, place
from kdad.images.preparation import Preparation
from kdad.images.reading import AnyImage, find_images, read_image
from kdad.parameters.scoring import SmoothingParameters
from kdad.parameters.system import SystemSettings
from kdad.provenance import code_digest
from kdad.scoring.image_score import ImageScore
from kdad.scoring.smoothing import smooth
from kdad.scoring.threshold import Threshold


class Detector(nn.Module, System):
    """A system that judges images `(B, 3, H, W)` in [0, 1] of one size.

    A subclass is a `System` that also says how it is fitted, and what it says of images (`maps`). Outputs of the frozen
    networks, where they are known already, may be handed in; both ways give the same numbers.
    """

    def __init__(self, settings: SystemSettings, references: dict[str, FrozenReference], compute: Compute) -> None:
        super().__init__()
        self.settings, self.references, self.compute = settings, references, compute
        self.size: tuple[int, int] = (0, 0)
        self.preparation = Preparation()  # of the images that it is made of, and of those that it judges
        self.key = ""  # of the learnt half; names what is made of it
        self.threshold: Threshold | None = None
        self.held_out_scores = np.empty(0)
        self.map_limits: tuple[float, float] | None = None
        self.record: dict[str, Any] = {}  # which data, seed and commit made it, and its metrics

    # The learnt half.

    @abstractmethod
    def fit(self, seen: SeenImages, workshop: Workshop) -> Fitting:
        """Learn from the training images, and measure on held-out ones what maps are normalised by."""

    @abstractmethod
    def learnt_state(self) -> dict[str, Tensor]:
        """Return the learnt half as tensors by name."""

    @abstractmethod
    def learnt_facts(self) -> dict[str, Any]:
        """Return what else was learnt, as JSON: scales, constants, shapes."""

    @abstractmethod
    def restore(self, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take the learnt half from what `learnt_state` and `learnt_facts` returned."""

    # What it says of images.

    @abstractmethod
    def maps(self, images: Tensor, outputs: Outputs | None = None, methods: Sequence[str] | None = None) -> Raw:
        """Return raw scores and maps of images `(B, 3, H, W)`; `methods` None means those that a score needs."""

    @property
    @abstractmethod
    def methods(self) -> list[str]:
        """The maps that are measured; the first is shown. Empty for a system that makes none."""

    @property
    @abstractmethod
    def image_score(self) -> ImageScore:
        """How an image's score comes about."""

    def smoothing(self, method: str) -> SmoothingParameters:
        """Return what a map passes through."""
        return SmoothingParameters()

    def is_costly(self, method: str) -> bool:
        """Tell whether a map takes many times a forward pass, so that held-out images go without it."""
        return False

    def map_settings(self, methods: Sequence[str]) -> dict[str, Any]:
        """Return the settings that raw maps depend on beyond the learnt half, as JSON."""
        return {}

    def batch_size(self, method: str | None = None) -> int:
        """Return how many images are mapped at once."""
        return 32

    def cost(self) -> dict[str, float]:
        """Return what the learnt half takes: ``parameters`` and ``flops`` an image, where they mean something."""
        return {}

    @property
    def tried_rules(self) -> list[dict[str, Any]]:
        """Rules that were compared on normal images, as JSON, and what came of each; empty without a choice."""
        return []

    @property
    def needed_methods(self) -> list[str]:
        """The maps that judging an image takes: the one shown, and those that the score is taken of."""
        return list(dict.fromkeys([*self.methods[:1], *self.image_score.map_names]))

    # What all systems share.

    @cached_property
    def frozen(self) -> dict[str, FrozenNetwork]:
        """The frozen networks, loaded when first used."""
        return {name: FrozenNetwork(reference, self.compute) for name, reference in self.references.items()}

    def outputs(self, images: Tensor) -> Outputs:
        """Run the frozen networks on images `(B, 3, H, W)`."""
        return {name: network.outputs(images) for name, network in self.frozen.items()}

    @torch.no_grad()
    def judge_batch(self, images: Tensor, outputs: Outputs | None = None) -> list[Judgement]:
        """Judge images `(B, 3, H, W)`; raises `InputError` without a threshold, or for images of another size."""
        if self.threshold is None:
            raise InputError("the detector has no threshold yet; calibrate it on normal images")
        if tuple(images.shape[-2:]) != self.size:
            height, width = images.shape[-2:]
            raise InputError(
                f"images are {height} x {width}, but the detector was made for {self.size[0]} x {self.size[1]}"
            )
        scores, smoothed = self.score_and_map(images, outputs)
        shown = smoothed[self.methods[0]] if self.methods else [None] * len(scores)
        return [self._judgement(float(score), shown[row]) for row, score in enumerate(scores)]

    def score_and_map(self, images: Tensor, outputs: Outputs | None = None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the scores `(B,)` of images `(B, 3, H, W)`, and by name the smoothed maps that judging them takes."""
        raw = self.maps(images, outputs, self.needed_methods)
        smoothed = {name: smooth(raw.maps[name], self.smoothing(name)) for name in self.needed_methods}
        return self.image_score.of_images(raw.scores, smoothed), smoothed

    def judge(self, image: AnyImage) -> Judgement:
        """Judge one image: a path, a PIL image or an array `(H, W)` or `(H, W, 3)`; prepared as in training.

        Raises `InputError` when score or map is not finite.
        """
        prepared = self._fitted(read_image(image, self.preparation.values))
        found = self.judge_batch(torch.from_numpy(prepared)[None])[0]
        if found.not_finite is not None:
            raise InputError(f"the {found.not_finite} of the image is not finite; look at it, and at the detector")
        return found

    def judge_folder(self, folder: str | Path, batch_size: int = 8) -> Iterator[JudgedFile]:
        """Yield every image file at or below a folder with its judgement, in the order of their names."""
        return self.judge_files(find_images(Path(folder).expanduser()), batch_size)

    def judge_files(self, paths: Iterable[Path], batch_size: int = 8, with_images: bool = True) -> Iterator[JudgedFile]:
        """Yield files with their judgements, `batch_size` images in memory at once; `with_images` hands them on.

        A file that cannot be read has a `problem` and no judgement.
        """
        waiting = iter(paths)
        while batch := list(islice(waiting, batch_size)):
            started = perf_counter()
            read = [read_or_say(path, self.preparation.values) for path in batch]
            resized = [self._fitted(image) for image, _ in read if image is not None]
            found = iter(self.judge_batch(torch.from_numpy(np.stack(resized))) if resized else [])
            share = 1000 * (perf_counter() - started) / len(batch)
            for path, (image, problem) in zip(batch, read, strict=True):
                if image is None:
                    yield JudgedFile(path, None, None, share, problem)
                    continue
                placement = place(image.shape[1:], self.size, self.preparation.fit)
                yield JudgedFile(path, image if with_images else None, next(found), share, None, placement)

    def _fitted(self, image: np.ndarray) -> np.ndarray:
        return fit_image(image, self.size, self.preparation.fit)

    def save(self, folder: str | Path) -> Path:
        """Write the detector to a folder, which then holds all that judging takes; one that is there is replaced."""
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.learnt_state().items()}
        return write_folder(Path(folder).expanduser(), state, self._describe_for)

    def _describe_for(self, folder: Path) -> DetectorFacts:
        kept = {name: reference.keep(folder, name) for name, reference in self.references.items()}
        return DetectorFacts(
            format=FORMAT,
            system=self.system,
            package=__version__,
            settings=self.settings.model_dump(mode="json"),
            image=ImageFacts.describe(self.size, self.preparation),
            precision=self.compute.describe()["dtype"],
            frozen={name: reference.model_dump(mode="json") for name, reference in kept.items()},
            learnt=self.learnt_facts(),
            key=self.key,
            threshold=self.threshold,
            held_out_scores=self.held_out_scores.tolist(),
            map_limits=self.map_limits,
            made_by=self.record,
        )

    def calibrated(
        self, threshold: Threshold, held_out_scores: np.ndarray, map_limits: tuple[float, float] | None = None
    ) -> "Detector":
        """Set the threshold, the scores of held-out normal images that others are ranked among, and colours' limits."""
        self.threshold, self.held_out_scores = threshold, np.sort(held_out_scores.astype(np.float64))
        self.map_limits = map_limits
        return self

    def raw_key(self, methods: Sequence[str], seen: SeenImages) -> str:
        """Return a key of the raw maps by these methods of these images."""
        return content_key(
            learnt=self.key,
            methods=list(methods),
            settings=self.map_settings(methods),
            images=seen.split.images_digest,
            scored=seen.split.digest,
            code=code_digest(type(self).__module__),
        )

    def _judgement(self, score: float, anomaly_map: np.ndarray | None) -> Judgement:
        below = np.searchsorted(self.held_out_scores, score, side="left")
        share = below / self.held_out_scores.size if self.held_out_scores.size else float("nan")
        value = self.threshold.value
        return Judgement(score, value, score > value, float(share), anomaly_map)
