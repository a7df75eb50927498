"""The ``baselines:`` block: which detectors run on which representation."""

from typing import Any, Literal

from pydantic import Field, model_validator

from kdad.parameters.scoring import SmoothingParameters
from kdad.parameters.strict import StrictModel

#: Detectors of whole images, and of patches, which map too.
IMAGE_DETECTORS = (
    *("kde", "gmm", "knn", "lof", "ocsvm", "kmeans", "pca_reconstruction"),
    *("auto_encoder", "vae", "deep_svdd", "anogan"),
)
MAP_DETECTORS = ("memory_bank", "position_gaussian", "feature_dictionary", "l2_autoencoder", "ssim_autoencoder")


class BaselineMethodParameters(StrictModel):
    """One baseline: a detector, what it sees, and the library's own settings."""

    detector: Literal[
        "kde",
        "gmm",
        "knn",
        "lof",
        "ocsvm",
        "kmeans",
        "pca_reconstruction",
        "auto_encoder",
        "vae",
        "deep_svdd",
        "anogan",
        "memory_bank",
        "position_gaussian",
        "feature_dictionary",
        "l2_autoencoder",
        "ssim_autoencoder",
    ]
    representation: Literal["pixels", "pca", "source"] | None = Field(
        None, description="of whole images; detectors that map have their own"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="settings of the library's class or of the map")

    @property
    def maps(self) -> bool:
        """Whether the detector makes anomaly maps."""
        return self.detector in MAP_DETECTORS

    @model_validator(mode="after")
    def _representation_fits(self) -> "BaselineMethodParameters":
        if self.maps and self.representation is not None:
            raise ValueError(f"{self.detector} makes maps and has its own representation; leave representation out")
        if not self.maps and self.representation is None:
            raise ValueError(f"{self.detector} needs a representation: pixels, pca or source")
        return self


class BaselineParameters(StrictModel):
    """The ``baselines:`` block."""

    methods: dict[str, BaselineMethodParameters | None] = Field(description="by name; null leaves a method out")
    pixel_side: int = Field(32, ge=4, le=256, description="side that images are shrunk to for the pixels")
    components: int = Field(64, ge=1, description="principal components of the pixels, as far as there are images")
    points: list[str] | None = Field(None, description="critical points of patch features; null: the first three")
    smoothing: SmoothingParameters = Field(default_factory=SmoothingParameters, description="of all maps")
    top_fraction: float = Field(0.01, gt=0, le=1, description="share of a map's pixels in an image's score")
    threshold_quantile: float = Field(0.95, gt=0, lt=1, description="quantile of held-out normal scores")
    bootstrap_resamples: int = Field(2000, ge=100, description="resamples for the interval of image AUROC")
    max_fpr: float = Field(0.3, gt=0, le=1, description="limit of the PRO curve's area")
    sheet_rows: int = Field(2, ge=1, le=10, description="images in each section of a heat-map sheet")

    @property
    def present(self) -> dict[str, BaselineMethodParameters]:
        """The methods that an environment has not left out."""
        return {name: method for name, method in self.methods.items() if method is not None}

    @model_validator(mode="after")
    def _some_method(self) -> "BaselineParameters":
        if not self.present:
            raise ValueError("methods leaves every baseline out; keep one")
        return self
