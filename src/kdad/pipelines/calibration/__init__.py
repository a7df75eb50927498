"""The pipeline `calibration`: a kept detector gets another threshold, without training."""

from kdad.pipelines.calibration.pipeline import create_pipeline

__all__ = ["create_pipeline"]
