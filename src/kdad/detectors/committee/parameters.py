"""The ``committee:`` block: which detectors of one source judge together."""

from typing import Any

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
    def _members_sit_together(self) -> "CommitteeSettings":
        methods = self.baselines.present
        known = [*_SYSTEMS, *(name for name, method in methods.items() if method.maps)]
        for name in self.committee.members:
            if name == SUM:
                raise ValueError(f"committee.members names '{SUM}', as the committee's own map is called; rename it")
            if name in methods and not methods[name].maps:
                raise ValueError(
                    f"committee.members names '{name}', which makes no map; choose from {', '.join(known)}"
                )
            if name not in known:
                raise ValueError(f"committee.members names '{name}'{nearest_name(name, known)}")
        if "stfpm" in self.committee.members and self.stfpm.source != self.source:
            other = [
                f"{field} ({ours!r}, and {theirs!r} of stfpm.source)"
                for (field, ours), (_, theirs) in zip(self.source, self.stfpm.source, strict=True)
                if ours != theirs
            ]
            raise ValueError(
                f"committee.members names stfpm, but members look through one source, and there are two: they differ "
                f"in {', '.join(other)}; set stfpm.source as source, or leave stfpm out"
            )
        return self
