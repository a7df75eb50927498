"""The ``committee:`` block: which detectors of one source predict together."""

from typing import Any

from pydantic import Field, model_validator

from kdad.detectors.baselines.parameters import BaselineParameters, BaselineSettings
from kdad.detectors.mkd.parameters import ClonerParameters, MkdSettings, ScoringParameters
from kdad.detectors.parameters import SystemSettings
from kdad.detectors.reverse_distillation.parameters import ReverseDistillationParameters, ReverseDistillationSettings
from kdad.detectors.stfpm.parameters import StfpmParameters, StfpmSettings
from kdad.networks.parameters import FeatureParameters, SourceParameters
from kdad.parameters.strict import StrictModel, nearest_name

#: The committee's own map, which is shown.
PRODUCT = "product"
#: Systems with one block of their own, source and all.
_OF_ONE_BLOCK: dict[str, type[SystemSettings]] = {
    "stfpm": StfpmSettings,
    "reverse_distillation": ReverseDistillationSettings,
}
_SYSTEMS = ("mkd", *_OF_ONE_BLOCK)


class CommitteeParameters(StrictModel):
    """The ``committee:`` block."""

    members: list[str] = Field(
        ["mkd", "reverse_distillation"],
        min_length=1,
        description="mkd, stfpm, reverse_distillation, and methods of `baselines` that make maps, by name; each by the "
        "run's own blocks, on `source`",
    )
    top_fraction: float = Field(0.03, gt=0, le=1, description="share of pixels whose mean is an image's score")

    @model_validator(mode="after")
    def _members_once(self) -> "CommitteeParameters":
        if len(set(self.members)) != len(self.members):
            raise ValueError(f"members names one twice: {', '.join(self.members)}; each has one voice")
        return self


class CommitteeSettings(SystemSettings):
    """Everything that makes a committee: its members' names, and the blocks that they take their settings from."""

    source: SourceParameters
    features: FeatureParameters
    cloner: ClonerParameters
    scoring: ScoringParameters
    stfpm: StfpmParameters
    reverse_distillation: ReverseDistillationParameters = Field(default_factory=ReverseDistillationParameters)
    baselines: BaselineParameters
    committee: CommitteeParameters

    @property
    def of_members(self) -> dict[str, SystemSettings]:
        """The settings of each member, as if it were made alone."""
        return {name: self._settings_of(name) for name in self.committee.members}

    def _settings_of(self, name: str) -> SystemSettings:
        if name in _OF_ONE_BLOCK:
            return _OF_ONE_BLOCK[name](**{name: getattr(self, name).model_copy(update={"source": self.source})})
        shared: dict[str, Any] = {"source": self.source, "features": self.features}
        if name == "mkd":
            return MkdSettings(**shared, cloner=self.cloner, scoring=self.scoring)
        alone = self.baselines.model_copy(update={"methods": {name: self.baselines.methods[name]}})
        return BaselineSettings(**shared, baselines=alone)

    @model_validator(mode="after")
    def _members_are_known(self) -> "CommitteeSettings":
        known = [*_SYSTEMS, *(name for name, method in self.baselines.present.items() if method.maps)]
        for name in self.committee.members:
            if name == PRODUCT:
                problem = ", as the committee's own map is called; call the method otherwise"
            elif name in known:
                continue
            elif name in self.baselines.methods:
                problem = f", which baselines.methods leaves out or which makes no map; choose from {', '.join(known)}"
            else:
                problem = nearest_name(name, known)
            raise ValueError(f"committee.members names '{name}'{problem}")
        return self

    @model_validator(mode="after")
    def _members_share_a_source(self) -> "CommitteeSettings":
        for name in set(self.committee.members) & set(_OF_ONE_BLOCK):
            of_member, usual = getattr(self, name).source, type(getattr(self, name))().source
            pairs = zip(self.source, of_member, strict=True)
            other = [f"{field} ({one!r}, and {two!r} of {name})" for (field, one), (_, two) in pairs if one != two]
            if other and of_member != usual:
                raise ValueError(
                    f"committee.members names {name}, but members look through one source, and {name}.source differs "
                    f"in {', '.join(other)}; set it as source, or leave {name}.source as it is by default"
                )
        return self

    @model_validator(mode="after")
    def _maps_can_be_multiplied(self) -> "CommitteeSettings":
        blocks = {name if name in _SYSTEMS else "baselines" for name in self.committee.members} - {"mkd"}
        for block in sorted(blocks):
            if getattr(self, block).normalisation == "per_pixel":
                raise ValueError(
                    f"{block}.normalisation is 'per_pixel', but a committee multiplies its members' maps, and half of "
                    f"the standardised values are negative; set {block}.normalisation to none, or leave that member out"
                )
        return self
