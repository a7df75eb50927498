"""A new system is a folder, a registry line and a YAML block: it then has its pipeline, an ablation, and its rows."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from projects import FEW, PROJECT, STANDING

#: What a folder in `detectors/` would hold: scores are distances from the mean training image.
SYSTEM = """
import torch
from pydantic import Field
from kdad.detectors.detector import FitResult, Outputs, SourceDetector
from kdad.detectors.parameters import SystemSettings
from kdad.networks.parameters import FeatureParameters, SourceParameters
from kdad.parameters.strict import StrictModel
from kdad.scoring.image_score import ImageScore
from kdad.storage.content_store import content_key


class TinyParameters(StrictModel):
    power: float = Field(1.0, gt=0, description="of the distance")


class TinySettings(SystemSettings):
    stands_among_baselines = True
    source: SourceParameters
    features: FeatureParameters
    tiny: TinyParameters


class TinyDetector(SourceDetector):
    system = "tiny"
    Settings = TinySettings
    methods = ["distance"]
    image_score = ImageScore("distance", "map_maximum")

    def fit(self, feature_set, train_context):
        self.size = feature_set.images.size
        rows = feature_set.split.rows("train")
        self.mean = torch.stack([torch.from_numpy(feature_set.images.image(row)) for row in rows]).mean(0)
        self.key = content_key(images=feature_set.split.training_digest, power=self.settings.tiny.power)
        return FitResult(None, 0.0, False)

    def state_dict(self):
        return {"mean": self.mean}

    def metadata(self):
        return {}

    def load_state(self, state, facts):
        self.mean = state["mean"]

    def maps(self, images, outputs=None, methods=None):
        distance = (images.cpu() - self.mean).abs().mean(1) ** self.settings.tiny.power
        return Outputs({}, {"distance": distance})
"""
#: What a line in `detectors/registry.py` and its import would be.
RUN = """
import sys
from pathlib import Path
from kdad.detectors import registry
from tiny_system import TinySettings
registry.SYSTEMS["tiny"] = registry.DetectorSpec(TinySettings, "tiny_system", "TinyDetector")
from kedro.framework.project import pipelines, settings
from kedro.framework.startup import bootstrap_project
project = Path(sys.argv[1])
bootstrap_project(project)
few = {"dataset": {"textures": eval(sys.argv[2])}}
few["baselines"] = {"methods": {name: None for name in eval(sys.argv[3])}}
for pipeline in ("tiny", "tiny_ablation", "baselines"):
    with settings.SESSION_CLASS.create(project_path=project, env="test", runtime_params=few) as session:
        session.run(pipeline_names=[pipeline])
print("paper_tables_run_tiny" in {node.name for node in pipelines["paper_tables"].nodes})
"""
BLOCK = """
tiny: {power: 1.0}
tiny_ablation:
  axes: all
  variants:
    power:
      question: Which power?
      compare_with: one
      variants:
        one: {}
        two: {tiny: {power: 2.0}}
"""


@pytest.mark.long
def test_three_additions_give_a_system_everything_that_others_have(project):
    import yaml

    (project / "tiny_system.py").write_text(SYSTEM)
    (project / "conf/base/parameters/tiny.yml").write_text(BLOCK)
    methods = yaml.safe_load((PROJECT / "conf/base/parameters/baselines.yml").read_text())["baselines"]["methods"]
    left_out = [name for name in methods if name != "nearest_pixels"]
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(project), repr(FEW), repr(left_out)],
        cwd=project,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(project), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith("True")
    report = project / "data/08_reporting/textures/brick"
    assert (project / "data/06_models/textures/brick/tiny/detector/detector.json").is_file()
    assert Path(report / "tiny/heatmaps.png").is_file()
    summary = pd.read_csv(report / "tiny_ablation/summary.csv")
    assert set(summary["variant"]) == {"one", "two"}
    assert pd.read_csv(report / "baselines/baselines.csv")["method"].tolist() == [
        *("nearest_pixels", *STANDING, "tiny")
    ]
