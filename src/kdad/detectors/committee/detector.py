"""A committee as a detector: members that look through one source, their maps multiplied."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from kdad.detectors.baselines.parameters import BaselineSettings
from kdad.detectors.committee.parameters import PRODUCT, CommitteeSettings
from kdad.detectors.detector import Detector, FitResult, FrozenOutputs, Outputs, SourceDetector, TrainContext
from kdad.detectors.learnt import join_histories, prefixed, without_prefix
from kdad.detectors.mkd.detector import MkdDetector
from kdad.detectors.mkd.parameters import MkdSettings
from kdad.detectors.parameters import SystemSettings
from kdad.detectors.reverse_distillation.detector import ReverseDistillationDetector
from kdad.detectors.reverse_distillation.parameters import ReverseDistillationSettings
from kdad.detectors.stfpm.detector import StfpmDetector
from kdad.detectors.stfpm.parameters import StfpmSettings
from kdad.features.extraction import FeatureSet
from kdad.images.splits import Split
from kdad.scoring.image_score import ImageScore
from kdad.scoring.per_pixel import take_map_moments
from kdad.scoring.smoothing import geometric_mean
from kdad.storage.content_store import content_key

_DETECTION = "detection"  # the product standardised at each position
_KINDS: dict[type[SystemSettings], type[Detector]] = {
    MkdSettings: MkdDetector,
    StfpmSettings: StfpmDetector,
    ReverseDistillationSettings: ReverseDistillationDetector,
}


def _detector_of(settings: SystemSettings) -> type[Detector]:
    if isinstance(settings, BaselineSettings):
        from kdad.detectors.baselines.detector import BaselineDetector  # late: its packages are not for predicting

        return BaselineDetector
    return _KINDS[type(settings)]


class CommitteeDetector(SourceDetector):
    """Detectors of one source predict together: the geometric mean of their finished maps, at each pixel.

    So a member's scale does not matter. Maps are smoothed as their members smooth them before that, and the committee
    smooths nothing. Raw scores: one a member; maps: ``product``, one a member, and ``detection``, the product
    standardised at each position by training images, which is scored and not shown.
    """

    system = "committee"
    Settings = CommitteeSettings

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.members = {
            name: _detector_of(own)(own, self.references, self.compute)
            for name, own in self.settings.of_members.items()
        }
        self.registered = nn.ModuleList(self.members.values())  # a list, since names may be no module's

    @classmethod
    def check_inputs(cls, settings: CommitteeSettings, feature_set: FeatureSet) -> None:
        for own in settings.of_members.values():
            _detector_of(own).check_inputs(own, feature_set)

    @classmethod
    def is_stochastic(cls, settings: CommitteeSettings) -> bool:
        return any(_detector_of(own).is_stochastic(own) for own in settings.of_members.values())

    @classmethod
    def check(cls, settings: CommitteeSettings, feature_set: FeatureSet) -> None:
        for own in settings.of_members.values():
            _detector_of(own).check(own, feature_set)

    def fit(self, feature_set: FeatureSet, train_context: TrainContext) -> FitResult:
        self.size = feature_set.features["source"].size
        # Of a united set the committee alone has moments of each category: members' would never be looked at.
        table = feature_set.split.table.drop(columns="member", errors="ignore")
        undivided = replace(feature_set, split=Split(table))
        fittings = {name: member.fit(undivided, train_context) for name, member in self.members.items()}
        self.key = content_key(members={name: member.key for name, member in self.members.items()})
        self.moments = self.measure_moments(feature_set, self._product, 0)
        histories = {name: fitting.history for name, fitting in fittings.items() if fitting.history is not None}
        return FitResult(
            join_histories(histories) if histories else None,
            sum(fitting.seconds for fitting in fittings.values()),
            all(fitting.reused for fitting in fittings.values()),
            "members",
        )

    def state_dict(self) -> dict[str, Tensor]:
        state = self.moments.state(_DETECTION)
        for name, member in self.members.items():
            state |= prefixed(member.state_dict(), f"{name}.")
        return state

    def metadata(self) -> dict[str, Any]:
        learnt = {name: {"key": member.key, "learnt": member.metadata()} for name, member in self.members.items()}
        return {"members": learnt}

    def load_state(self, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        kept = facts["members"]
        if list(kept) != list(self.members):
            raise ValueError(f"its members are {', '.join(self.members)}, and it has what {', '.join(kept)} learnt")
        self.moments = take_map_moments(state, _DETECTION, self.size, "per_pixel", "committee's score")
        for name, member in self.members.items():
            member.size, member.key = self.size, kept[name]["key"]
            member.load_state(without_prefix(state, f"{name}."), kept[name]["learnt"])

    @property
    def methods(self) -> list[str]:
        return [PRODUCT, *self.members]

    @property
    def image_score(self) -> ImageScore:
        return ImageScore(_DETECTION, "map_top_mean", self.settings.committee.top_fraction)

    @property
    def depth(self) -> int | None:
        depths = [member.depth for member in self.members.values()]
        return None if None in depths else max(depths)

    def map_settings(self, methods: Sequence[str]) -> dict[str, Any]:
        return {"members": {name: _prediction_settings(member) for name, member in self.members.items()}}

    def batch_size(self, method: str | None = None) -> int:
        return min(member.batch_size(member.methods[0]) for member in self.members.values())

    def cost(self) -> dict[str, float]:
        costs: Counter[str] = Counter()
        for member in self.members.values():
            costs.update(member.cost())
        return dict(costs)

    @torch.no_grad()
    def maps(
        self, images: Tensor, outputs: FrozenOutputs | None = None, methods: Sequence[str] | None = None
    ) -> Outputs:
        """Return the members' scores, and the maps that are asked for; the source runs once, if at all."""
        methods = self.needed_methods if methods is None else methods
        images = self.compute.move(images)
        outputs = self.outputs(images) if outputs is None else outputs
        moved = {name: [self.compute.move(one) for one in values] for name, values in outputs.items()}
        scores, maps = {}, {}
        for name, member in self.members.items():
            scores[f"{name}_score"], finished = member.score_and_map(images, moved)
            shown = finished[member.methods[0]]  # as distances from 0 on: those of an SVM begin below
            maps[name] = shown - member.lowest if isinstance(member.settings, BaselineSettings) else shown
        maps[PRODUCT] = geometric_mean(list(maps.values()))
        if _DETECTION in methods:
            maps[_DETECTION] = self.moments.normalise(maps[PRODUCT])
        return Outputs(scores, {method: maps[method] for method in methods})

    def _product(self, images: Tensor, outputs: FrozenOutputs | None) -> Tensor:
        return self.maps(images, outputs, [PRODUCT]).maps[PRODUCT]

    def require_exportable(self) -> None:
        """Raise `InputError` that names a member that cannot be exported."""
        for member in self.members.values():
            member.require_exportable()


def _prediction_settings(member: Detector) -> dict[str, Any]:
    """Return the settings by which what a member has learnt becomes its score and its finished map."""
    names, score = member.needed_methods, member.image_score
    return {
        "maps": [member.map_settings([name]) for name in names],
        "smoothing": [member.smoothing(name).model_dump() for name in names],
        "score": [score.rule, score.top_fraction, score.of, *score.map_names],
    }
