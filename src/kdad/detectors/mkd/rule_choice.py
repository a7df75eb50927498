"""What was chosen on drawn defects, as it is kept with a detector."""

from pydantic import Field

from kdad.detectors.mkd.parameters import MkdSettings
from kdad.detectors.mkd.rule_parameters import DetectionParameters, ForwardMapParameters
from kdad.parameters.strict import StrictModel


class TriedRule(StrictModel):
    """A rule that was tried, and what came of it."""

    block: str = Field(description="detection or forward_map")
    rule: str = Field(description="its name; fixed is the block's own")
    metric: str = Field(description="what the figure is: image AUROC or PRO, on drawn defects")
    figure: float = Field(description="in [0, 1]")
    gain: float = Field(description="over the fixed rule")
    least_gain: float = Field(description="lower end of the gain's one-sided interval")
    chosen: bool = Field(description="whether it is judged by")
    why: str = Field(description="in words")


class RuleChoice(StrictModel):
    """The rules that took the fixed ones' place, and everything that was tried."""

    detection: DetectionParameters | None = Field(None, description="null where the fixed rule stays")
    forward_map: ForwardMapParameters | None = Field(None, description="null where the fixed rule stays")
    tried: list[TriedRule] = Field([], description="in the order of the parameters; empty where images were too few")

    def apply(self, settings: MkdSettings) -> MkdSettings:
        """Return settings that judge by what was chosen, without choosing again."""
        chosen = {name: getattr(self, name) for name in ("detection", "forward_map") if getattr(self, name) is not None}
        scoring = settings.scoring.model_copy(update={**chosen, "choose": "none"})
        return settings.model_copy(update={"scoring": scoring})
