"""The ``baselines:`` block: which detectors run on which representation."""

from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from kdad.detectors.parameters import SystemSettings
from kdad.errors import InputError
from kdad.networks.parameters import FeatureParameters, SourceParameters
from kdad.parameters.blocks import TrainingParameters
from kdad.parameters.strict import StrictModel, nearest_name
from kdad.scoring.parameters import SmoothingParameters


class MemoryBankOptions(StrictModel):
    """Distance to the nearest of training images' patches."""

    patches: int = Field(10_000, ge=1, description="about how many are kept, equally many from each image")


class PositionGaussianOptions(StrictModel):
    """Mahalanobis distance at each position (Defard et al. 2021)."""

    channels: int = Field(64, ge=1, description="drawn at random, as far as there are")
    ridge: float = Field(0.01, gt=0, description="added to the covariance's diagonal")


class FeatureDictionaryOptions(StrictModel):
    """Distance to the nearest k-means centre of patches (Napoletano et al. 2018)."""

    patches: int = Field(10_000, ge=1, description="about how many are clustered, equally many from each image")
    words: int = Field(100, ge=1, description="centres")
    explained: float = Field(0.95, gt=0, lt=1, description="share of variance that the PCA before keeps")


class NearestCentreOptions(StrictModel):
    """Distance to the nearest k-means centre of patches as they are."""

    patches: int = Field(10_000, ge=1, description="about how many are clustered, equally many from each image")
    centres: int = Field(10, ge=1, description="of the clusters")


class PatchSvmOptions(StrictModel):
    """Distance to the boundary of a one-class SVM of patches."""

    patches: int = Field(3_000, ge=1, description="about how many it is fitted to, equally many from each image")
    nu: float = Field(0.1, gt=0, le=1, description="share of them that may lie outside")


class AutoencoderOptions(TrainingParameters):
    """A convolutional autoencoder, and how it is trained."""

    depth: int = Field(4, ge=1, le=8, description="times that sides are halved")
    width: int = Field(16, ge=1, description="channels of the first convolution; doubled at each halving")
    latent: int = Field(32, ge=1, description="channels of the bottleneck")
    epochs: int = Field(60, ge=1, description="passes over the training images")
    learning_rate: float = Field(2e-3, gt=0, description="Adam's rate; the peak of the one-cycle schedule")

    @property
    def shape(self) -> dict[str, int]:
        """What the network is built from."""
        return self.model_dump(include={"depth", "width", "latent"})

    @property
    def training(self) -> TrainingParameters:
        """How it is trained."""
        return TrainingParameters(**self.model_dump(include=set(TrainingParameters.model_fields)))


class VariationalOptions(AutoencoderOptions):
    """A variational autoencoder, and how it is trained."""

    noise_sd: float = Field(0.1, gt=0, description="sd of a pixel around its reconstruction; smaller: sharper")


MapOptions = (
    MemoryBankOptions
    | PositionGaussianOptions
    | FeatureDictionaryOptions
    | NearestCentreOptions
    | PatchSvmOptions
    | AutoencoderOptions
)

ImageDetector = Literal[
    "kde", "gmm", "knn", "lof", "ocsvm", "kmeans", "pca_reconstruction", "auto_encoder", "vae", "deep_svdd", "anogan"
]
MapDetector = Literal[
    *("memory_bank", "position_gaussian", "feature_dictionary", "patch_kmeans", "patch_ocsvm"),
    *("l2_autoencoder", "ssim_autoencoder", "variational_autoencoder"),
]

#: Detectors that map, with what their options may hold; those of whole images take what their library's class takes.
MAP_DETECTORS: dict[MapDetector, type[MapOptions]] = {
    "memory_bank": MemoryBankOptions,
    "position_gaussian": PositionGaussianOptions,
    "feature_dictionary": FeatureDictionaryOptions,
    "patch_kmeans": NearestCentreOptions,
    "patch_ocsvm": PatchSvmOptions,
    "l2_autoencoder": AutoencoderOptions,
    "ssim_autoencoder": AutoencoderOptions,
    "variational_autoencoder": VariationalOptions,
}


#: Detectors that draw nothing at random: every seed gives the same scores.
_DETERMINISTIC = frozenset({"kde", "knn", "lof", "ocsvm"})


class BaselineMethodParameters(StrictModel):
    """One baseline: a detector, what it sees, and the library's own settings."""

    detector: Literal[ImageDetector, MapDetector]
    representation: Literal["pixels", "pca", "source"] | None = Field(
        None, description="of whole images; detectors that map have their own"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="settings of the library's class or of the map")

    @property
    def maps(self) -> bool:
        """Whether the detector makes anomaly maps."""
        return self.detector in MAP_DETECTORS

    @property
    def is_stochastic(self) -> bool:
        """Whether the detector depends on the seed."""
        return self.detector not in _DETERMINISTIC

    @property
    def complete_options(self) -> dict[str, Any]:
        """The options, of detectors that map with their defaults filled in."""
        return self.map_options.model_dump() if self.maps else self.options

    @property
    def map_options(self) -> MapOptions:
        """The options of a detector that maps, defaults filled in."""
        return MAP_DETECTORS[self.detector](**self.options)

    @property
    def seen(self) -> str:
        """What the detector sees: a representation of whole images, ``patches`` of activations, or ``images``."""
        return self.representation or ("images" if self.detector.endswith("_autoencoder") else "patches")

    @model_validator(mode="after")
    def _representation_and_options_fit(self) -> "BaselineMethodParameters":
        if self.maps and self.representation is not None:
            raise ValueError(f"{self.detector} makes maps and has its own representation; leave representation out")
        if not self.maps and self.representation is None:
            raise ValueError(f"{self.detector} needs a representation: pixels, pca or source")
        if self.maps:
            try:
                MAP_DETECTORS[self.detector](**self.options)
            except ValidationError as error:
                problem = error.errors()[0]
                field = ".".join(["options", *map(str, problem["loc"])])
                raise ValueError(f"{field}: {problem['msg'].removeprefix('Value error, ')}") from None
        return self


class BaselineParameters(StrictModel):
    """The ``baselines:`` block."""

    methods: dict[str, BaselineMethodParameters | None] = Field(description="by name; null leaves a method out")
    pixel_side: int = Field(32, ge=4, le=256, description="side that images are shrunk to for the pixels")
    components: int = Field(64, ge=1, description="principal components of the pixels, as far as there are images")
    points: list[str] | None = Field(None, description="critical points of patch features; null: the first three")
    normalisation: Literal["none", "per_pixel"] = Field(
        "none", description="of all maps; per_pixel: standardised at each pixel by training images"
    )
    smoothing: SmoothingParameters = Field(
        default_factory=SmoothingParameters, description="of all maps; 1, 0 and 0 leave a step out"
    )
    top_fraction: float = Field(0.01, gt=0, le=1, description="share of a map's pixels in an image's score")

    @property
    def present(self) -> dict[str, BaselineMethodParameters]:
        """The methods that an environment has not left out."""
        return {name: method for name, method in self.methods.items() if method is not None}

    @property
    def only(self) -> BaselineMethodParameters:
        """The method of a detector, which is one alone."""
        (method,) = self.present.values()
        return method

    @model_validator(mode="after")
    def _some_method(self) -> "BaselineParameters":
        if not self.present:
            raise ValueError("methods leaves every baseline out; keep one")
        return self


class BaselineSettings(SystemSettings):
    """Everything that makes a baseline: the blocks of its parameters, of `baselines` one method alone."""

    source: SourceParameters
    features: FeatureParameters
    baselines: BaselineParameters

    @classmethod
    def select_variant(cls, blocks: dict[str, Any], variant: str, where: str) -> dict[str, Any] | None:
        """Return the blocks with one method alone: what others are set to is nothing to it."""
        methods = blocks["baselines"]["methods"]
        if not isinstance(methods, dict):
            raise InputError(
                f"{where}: baselines.methods is {methods!r}; give methods by name, or leave single ones out with null"
            )
        if variant not in methods:
            raise InputError(f"{where}: baselines.methods has no '{variant}'{nearest_name(variant, list(methods))}")
        if methods[variant] is None:
            return None
        return blocks | {"baselines": blocks["baselines"] | {"methods": {variant: methods[variant]}}}
