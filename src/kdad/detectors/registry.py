"""The systems by name: a new one is a folder beside these, a line here, a block in `conf/base`, and its tests."""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from kdad.detectors.baselines.parameters import BaselineSettings
from kdad.detectors.committee.parameters import CommitteeSettings
from kdad.detectors.efficient_ad.parameters import EfficientAdSettings
from kdad.detectors.mkd.parameters import MkdSettings
from kdad.detectors.parameters import SystemSettings
from kdad.detectors.reverse_distillation.parameters import ReverseDistillationSettings
from kdad.detectors.soft_target.parameters import SoftTargetSettings
from kdad.detectors.stfpm.parameters import StfpmSettings
from kdad.detectors.uninformed_students.parameters import UninformedStudentsSettings

if TYPE_CHECKING:
    from kdad.detectors.detector import Detector


@dataclass(frozen=True)
class DetectorSpec:
    """A system's settings, and where its detector is: its networks are imported when it is asked for, and not before.

    So parameters are checked, and pipelines planned, in a fraction of the time that networks take to be imported.
    """

    Settings: type[SystemSettings]
    module: str
    class_name: str

    @property
    def detector(self) -> "type[Detector]":
        """The detector's class."""
        return getattr(import_module(self.module), self.class_name)


SYSTEMS: dict[str, DetectorSpec] = {
    "mkd": DetectorSpec(MkdSettings, "kdad.detectors.mkd.detector", "MkdDetector"),
    "uninformed_students": DetectorSpec(
        UninformedStudentsSettings, "kdad.detectors.uninformed_students.detector", "UninformedStudentsDetector"
    ),
    "baselines": DetectorSpec(BaselineSettings, "kdad.detectors.baselines.detector", "BaselineDetector"),
    "soft_target": DetectorSpec(SoftTargetSettings, "kdad.detectors.soft_target.detector", "SoftTargetDetector"),
    "stfpm": DetectorSpec(StfpmSettings, "kdad.detectors.stfpm.detector", "StfpmDetector"),
    "reverse_distillation": DetectorSpec(
        ReverseDistillationSettings, "kdad.detectors.reverse_distillation.detector", "ReverseDistillationDetector"
    ),
    "efficient_ad": DetectorSpec(EfficientAdSettings, "kdad.detectors.efficient_ad.detector", "EfficientAdDetector"),
    "committee": DetectorSpec(CommitteeSettings, "kdad.detectors.committee.detector", "CommitteeDetector"),
}
