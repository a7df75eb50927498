"""The pipeline `mkd_ablation`."""

from kdad.pipelines.ablation.pipeline import create_pipeline

__all__ = ["create_pipeline"]
