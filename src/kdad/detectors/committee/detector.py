"""A committee as a detector: members that look through one source, each made comparable by held-out images, summed."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from kdad.content_store import content_key
from kdad.detectors.baselines.detector import BaselineDetector
from kdad.detectors.baselines.parameters import BaselineSettings
from kdad.detectors.committee.parameters import SUM, CommitteeSettings
from kdad.detectors.committee.weighting import generalisation_weights
from kdad.detectors.detector import Detector
from kdad.detectors.graph import Finishing
from kdad.detectors.learnt import prefixed, without_prefix
from kdad.detectors.mkd.detector import MkdDetector
from kdad.detectors.mkd.parameters import MkdSettings
from kdad.detectors.source_system import SourceSystem
from kdad.detectors.stfpm.detector import StfpmDetector
from kdad.detectors.stfpm.parameters import StfpmSettings
from kdad.detectors.workshop import Fitting, Outputs, Raw, RawTensors, Workshop
from kdad.features.seen import SeenImages
from kdad.images.statistics import ChannelStatistics
from kdad.parameters.system import SystemSettings
from kdad.scoring.image_score import ImageScore
from kdad.scoring.position import measured_rows
from kdad.scoring.standard import Standard

logger = logging.getLogger(__name__)
_SMALLEST_DISTANCE = 1e-6
_STANDARDISED = ("map", "score")
_KINDS: dict[type[SystemSettings], type[Detector]] = {
    MkdSettings: MkdDetector,
    BaselineSettings: BaselineDetector,
    StfpmSettings: StfpmDetector,
}


class CommitteeDetector(SourceSystem, Detector):
    """Detectors of one source judge together: the sum of their maps, and of their scores, each standardised.

    Mean and standard deviation are those of all pixels (of distances, of their logarithms), and of all scores, of
    held-out normal images. Members weigh by how they generalise. Maps are smoothed as their members smooth them before
    that, so that the committee smooths nothing. Raw scores: ``sum_score`` and one a member; maps: ``sum`` and one a
    member.
    """

    system = "committee"
    Settings = CommitteeSettings

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.members = {
            name: _KINDS[type(own)](own, self.references, self.compute)
            for name, own in self.settings.of_members.items()
        }
        self.registered = nn.ModuleList(self.members.values())  # a list, since names may be no module's
        self.standards: dict[str, dict[str, Standard]] = {}  # of each member's ``map`` and ``score``
        self.weights: dict[str, float] = {}

    @classmethod
    def check_inputs(cls, settings: CommitteeSettings, seen: SeenImages) -> None:
        """Raise `InputError` for what a member cannot use."""
        for own in settings.of_members.values():
            _KINDS[type(own)].check_inputs(own, seen)

    @classmethod
    def draws(cls, settings: CommitteeSettings) -> bool:
        """Tell whether a member draws anything at random."""
        return any(_KINDS[type(own)].draws(own) for own in settings.of_members.values())

    @classmethod
    def check(cls, settings: CommitteeSettings, seen: SeenImages) -> None:
        """Raise `InputError` for critical points of a member that the source does not have."""
        for own in settings.of_members.values():
            _KINDS[type(own)].check(own, seen)

    def fit(self, seen: SeenImages, workshop: Workshop) -> Fitting:
        """Fit every member, or find it trained, and measure what each says of held-out images."""
        self.size = seen.features["source"].size
        found = {name: member.fit(seen, workshop) for name, member in self.members.items()}
        self.key = content_key(members={name: member.key for name, member in self.members.items()})
        started = perf_counter()
        self._measure_members(seen)
        histories = [
            fitting.history.assign(term=f"{name}." + fitting.history["term"])
            for name, fitting in found.items()
            if fitting.history is not None
        ]
        return Fitting(
            pd.concat(histories, ignore_index=True) if histories else None,
            sum(fitting.seconds for fitting in found.values()) + perf_counter() - started,
            all(fitting.reused for fitting in found.values()),
            "members",
        )

    def learnt_state(self) -> dict[str, Tensor]:
        """Return what the members have learnt, each one's name and a dot before its tensors' names."""
        states = (prefixed(member.learnt_state(), f"{name}.") for name, member in self.members.items())
        return {name: tensor for state in states for name, tensor in state.items()}

    def learnt_facts(self) -> dict[str, Any]:
        """Return for each member its key, what else it learnt, its weight, and what it is standardised by."""
        return {
            "members": {
                name: {
                    "key": member.key,
                    "learnt": member.learnt_facts(),
                    "weight": self.weights[name],
                    **{of: found.model_dump() for of, found in self.standards[name].items()},
                }
                for name, member in self.members.items()
            }
        }

    def restore(self, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take what the members have learnt, their weights, and what they are standardised by."""
        kept = facts["members"]
        if list(kept) != list(self.members):
            raise ValueError(f"its members are {', '.join(self.members)}, and it has what {', '.join(kept)} learnt")
        for name, member in self.members.items():
            member.size, member.key = self.size, kept[name]["key"]
            member.restore(without_prefix(state, f"{name}."), kept[name]["learnt"])
            self.standards[name] = {of: Standard.model_validate(kept[name][of]) for of in _STANDARDISED}
            self.weights[name] = float(kept[name]["weight"])

    @property
    def methods(self) -> list[str]:
        """The sum, and each member's map."""
        return [SUM, *self.members]

    @property
    def image_score(self) -> ImageScore:
        """The sum of the members' scores."""
        return ImageScore(_score_name(SUM), "raw")

    def map_settings(self, methods: Sequence[str]) -> dict[str, Any]:
        """Return what the members' finished maps and scores depend on, and what they count for."""
        of_members = {name: _judging_settings(member) for name, member in self.members.items()}
        return {"weighting": self.settings.committee.weighting, "members": of_members}

    def batch_size(self, method: str | None = None) -> int:
        """Return how many images the member of the smallest batches maps at once."""
        return min(member.batch_size(member.methods[0]) for member in self.members.values())

    def cost(self) -> dict[str, float]:
        """Return the sums over those members that say what they take."""
        costs: Counter[str] = Counter()
        for member in self.members.values():
            costs.update(member.cost())
        return dict(costs)

    @torch.no_grad()
    def maps(self, images: Tensor, outputs: Outputs | None = None, methods: Sequence[str] | None = None) -> Raw:
        """Return the standardised scores of all members and their sum, and the maps that are asked for."""
        methods = self.needed_methods if methods is None else methods
        scores, maps = {}, {}
        for name, (score, shown) in self._hear(images, outputs).items():
            scores[name] = self.standards[name]["score"].normalise(score)
            maps[name] = self.standards[name]["map"].normalise(self._evened(name, shown))
        scores, maps = (
            {SUM: sum(self.weights[name] * values for name, values in found.items())} | found
            for found in (scores, maps)
        )
        named = {_score_name(name): found.astype(np.float32) for name, found in scores.items()}
        return Raw(named, {method: maps[method].astype(np.float32) for method in methods})

    def graph(self) -> nn.Module:
        """Return it as one module, its members' filters inside."""
        self.finishing = nn.ModuleList(Finishing(member) for member in self.members.values())
        return super().graph()

    def raw_tensors(self, images: Tensor, outputs: Outputs, methods: Sequence[str]) -> RawTensors:
        """Return the sums of standardised scores and maps, once a graph was asked for."""
        score = shown = 0.0
        for name, finishing in zip(self.members, self.finishing, strict=True):
            scores, maps = finishing(images, outputs)
            own, evened = self.standards[name], self._evened(name, self._shown(name, maps))
            score = score + self.weights[name] * own["score"].normalise(scores)
            shown = shown + self.weights[name] * own["map"].normalise(evened)
        return RawTensors({_score_name(SUM): score}, {SUM: shown})

    def _hear(self, images: Tensor, outputs: Outputs | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return each member's scores `(B,)` and finished maps `(B, H, W)`; the source runs once, if at all."""
        images = self.compute.move(images)
        known = self.outputs(images) if outputs is None else outputs
        moved = {name: [self.compute.move(found) for found in values] for name, values in known.items()}
        said = {name: member.score_and_map(images, moved) for name, member in self.members.items()}
        return {name: (scores, self._shown(name, maps)) for name, (scores, maps) in said.items()}

    def _shown(self, name: str, maps: Mapping[str, np.ndarray] | Mapping[str, Tensor]) -> np.ndarray | Tensor:
        """Return the maps that a member shows, a baseline's as distances from 0 on: an SVM's begin below."""
        member = self.members[name]
        shown = maps[member.methods[0]]
        return shown - member.lowest if isinstance(member, BaselineDetector) else shown

    def _evened(self, name: str, shown: np.ndarray | Tensor) -> np.ndarray | Tensor:
        """Return what a member shows; of distances the logarithm, since single ones are many times the others."""
        is_distance = isinstance(self.members[name], BaselineDetector)
        if not is_distance:
            return shown
        if isinstance(shown, Tensor):
            return shown.clamp_min(_SMALLEST_DISTANCE).log()
        return np.log(np.maximum(shown, _SMALLEST_DISTANCE))

    def _hear_rows(self, seen: SeenImages, rows: np.ndarray) -> Iterator[dict[str, tuple[np.ndarray, np.ndarray]]]:
        for start in range(0, len(rows), size := self.batch_size()):
            batch = rows[start : start + size]
            yield self._hear(seen.batch(batch), seen.outputs(batch))

    @torch.no_grad()
    def _measure_members(self, seen: SeenImages) -> None:
        """Measure what members are standardised by, on held-out images, and how well they generalise."""
        heard: dict[str, dict[str, ChannelStatistics]] = defaultdict(lambda: defaultdict(ChannelStatistics))
        for said in self._hear_rows(seen, seen.split.rows("validation")):
            for name, (scores, shown) in said.items():
                heard[name]["map"].update(self._evened(name, shown).reshape(-1, 1))
                heard[name]["score"].update(scores.reshape(-1, 1))
                heard[name]["held_out"].update(shown.reshape(-1, 1))
        self.standards = {name: {of: Standard.of(values[of]) for of in _STANDARDISED} for name, values in heard.items()}
        self.weights = dict.fromkeys(self.members, 1.0)
        if self.settings.committee.weighting == "equal" or len(self.members) == 1:
            return
        for said in self._hear_rows(seen, measured_rows(seen.split, "train")):
            for name, (_, shown) in said.items():
                heard[name]["training"].update(shown.reshape(-1, 1))
        means = (
            {name: values[part].mean.item() for name, values in heard.items()} for part in ("held_out", "training")
        )
        self.weights = generalisation_weights(*means)
        logger.info("Members count for %s", ", ".join(f"{name} {weight:.2g}" for name, weight in self.weights.items()))


def _judging_settings(member: Detector) -> dict[str, Any]:
    """Return the settings by which what a member has learnt becomes its score and its finished map."""
    names, score = member.needed_methods, member.image_score
    return {
        "maps": [member.map_settings([name]) for name in names],
        "smoothing": [member.smoothing(name).model_dump() for name in names],
        "score": [score.rule, score.top_fraction, score.of, *score.map_names],
    }


def _score_name(name: str) -> str:
    return f"{name}_score"
