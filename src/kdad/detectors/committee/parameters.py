"""The ``committee:`` block: which detectors of one source judge together."""

from typing import Any, Literal

from pydantic import Field, model_validator

from kdad.detectors.baselines.parameters import BaselineParameters, BaselineSettings
from kdad.detectors.mkd.parameters import ClonerParameters, MkdSettings, ScoringParameters
from kdad.detectors.stfpm.parameters import StfpmParameters, StfpmSettings
from kdad.parameters.source import FeatureParameters, SourceParameters
from kdad.parameters.strict import StrictModel, nearest_name
from kdad.parameters.system import SystemSettings

#: The committee's own map, which is shown.
SUM = "sum"
_SYSTEMS = ("mkd", "stfpm")


class CommitteeParameters(StrictModel):
    """The ``committee:`` block."""

    members: list[str] = Field(
        ["mkd", "position_gaussian"],
        min_length=1,
        description="mkd, stfpm, and methods of `baselines` that make maps, by name; each by the run's own blocks",
    )
    weighting: Literal["generalisation", "equal"] = Field(
        "generalisation",
        description="of members in the sums: less, the better training images are judged than held-out ones; or equal",
    )

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
    baselines: BaselineParameters
    committee: CommitteeParameters

    @property
    def of_members(self) -> dict[str, SystemSettings]:
        """The settings of each member, as if it were made alone."""
        return {name: self._settings_of(name) for name in self.committee.members}

    def _settings_of(self, name: str) -> SystemSettings:
        if name == "stfpm":
            return StfpmSettings(stfpm=self.stfpm)
        shared: dict[str, Any] = {"source": self.source, "features": self.features}
        if name == "mkd":
            return MkdSettings(**shared, cloner=self.cloner, scoring=self.scoring)
        alone = self.baselines.model_copy(update={"methods": {name: self.baselines.methods[name]}})
        return BaselineSettings(**shared, baselines=alone)

    @model_validator(mode="after")
    def _members_are_known(self) -> "CommitteeSettings":
        methods = self.baselines.methods
        known = [*_SYSTEMS, *(name for name, method in self.baselines.present.items() if method.maps)]
        for name in [name for name in self.committee.members if name not in known or name == SUM]:
            if name == SUM:
                problem = ", as the committee's own map is called; call the method otherwise"
            elif name not in methods:
                problem = nearest_name(name, known)
            elif methods[name] is None:
                problem = ", which baselines.methods leaves out; give it there, or name another"
            else:
                problem = f", which makes no map; choose from {', '.join(known)}"
            raise ValueError(f"committee.members names '{name}'{problem}")
        return self

    @model_validator(mode="after")
    def _members_share_a_source(self) -> "CommitteeSettings":
        if "stfpm" not in self.committee.members or self.stfpm.source == self.source:
            return self
        pairs = zip(self.source, self.stfpm.source, strict=True)
        other = [f"{field} ({one!r}, and {two!r} of stfpm)" for (field, one), (_, two) in pairs if one != two]
        raise ValueError(
            f"committee.members names stfpm, but members look through one source, and stfpm.source differs in "
            f"{', '.join(other)}; set it as source, or leave stfpm out"
        )

    @model_validator(mode="after")
    def _baselines_map_distances(self) -> "CommitteeSettings":
        named = [name for name in self.committee.members if name not in _SYSTEMS]
        if named and self.baselines.normalisation == "position":
            raise ValueError(
                f"committee.members names {', '.join(named)}, and baselines.normalisation is 'position', but a "
                "committee takes the logarithm of a baseline's distances and weighs it by their means, and maps that "
                "are standardised have neither; set baselines.normalisation to none"
            )
        return self

    @model_validator(mode="after")
    def _members_are_weighed_by_means(self) -> "CommitteeSettings":
        weighed = self.committee.weighting == "generalisation" and "stfpm" in self.committee.members
        if weighed and self.stfpm.normalisation == "position":
            raise ValueError(
                "committee.members names stfpm, and stfpm.normalisation is 'position', but a committee weighs a member "
                "by the means of its maps, and those of standardised maps are near 0; set stfpm.normalisation to none, "
                "or committee.weighting to equal"
            )
        return self
