"""The ``teacher:``, ``students:`` and ``student_scoring:`` blocks of Uninformed Students."""

from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from kdad.detectors.parameters import SystemSettings
from kdad.errors import InputError
from kdad.networks.parameters import SourceParameters, smallest_image
from kdad.parameters.blocks import TrainingParameters
from kdad.parameters.dataset import DatasetParameters
from kdad.parameters.strict import StrictModel
from kdad.scoring.parameters import MappingParameters, SmoothingParameters

RECEPTIVE_FIELDS = (17, 33, 65)


class DenseDistillationParameters(StrictModel):
    """The ``dense:`` block of a teacher: the crops that it learns from, and the grid on which it is compared."""

    crop_size: int = Field(128, ge=17, le=2048, description="pixels of a crop's side, as the teacher sees it")
    zoom: list[float] = Field(
        [1.0, 4.0],
        min_length=2,
        max_length=2,
        description="an image's shorter side is zoomed to this many crops, from and to, before one is cut",
    )
    enlargement: float = Field(2.0, gt=0, le=16, description="times, of a crop before the source sees it")
    stride: Literal[1, 2, 4] = Field(4, description="pixels between descriptors that are compared: 1, 2 or 4")
    crops_per_epoch: int = Field(600, ge=2, description="new crops in each epoch")
    validation_crops: int = Field(64, ge=1, description="fixed crops of the loss history's validation rows")
    training: TrainingParameters = Field(
        default_factory=lambda: TrainingParameters(
            epochs=20, batch_size=8, learning_rate=0.001, weight_decay=1e-5, checkpoint_every=1
        ),
        description="of dense; at a rate of 0.002 teachers of p = 65 lose what they have learnt",
    )

    @model_validator(mode="after")
    def _zoom_in_order(self) -> "DenseDistillationParameters":
        if not 1 <= self.zoom[0] <= self.zoom[1]:
            raise ValueError(f"zoom is {self.zoom}; give two numbers of at least 1, the smaller first")
        return self


class TeacherParameters(StrictModel):
    """The ``teacher:`` block: weights of L_k, L_m and L_c, on natural images (Bergmann et al. 2020)."""

    distillation: Literal["dense", "patches"] = Field(
        "patches",
        description="patches (published), or dense: every position of a crop at once (docs/lab/uninformed_students.md)",
    )
    pool: str | None = Field(
        None, description="folder of natural images; null: photographs in the wheels of scikit-image and scikit-learn"
    )
    seed: int = Field(0, ge=0, description="apart from the run's: students of all seeds share a teacher")
    depth: int = Field(128, ge=1, le=4096, description="numbers in a descriptor")
    width: float = Field(0.25, gt=0, le=4, description="of hidden layers, the students' too; published: 1")
    knowledge_weight: float = Field(1.0, ge=0, description="lambda_k, of L_k")
    metric_weight: float = Field(0.0, ge=0, description="lambda_m, of L_m")
    compactness_weight: float = Field(
        1.0, ge=0, description="lambda_c, of L_c; 0 for dense; of patches, at 0.01 descriptors stay redundant"
    )
    compactness_form: Literal["signed", "squared"] = Field(
        "squared", description="of correlations: signed as printed, by which redundant channels cancel out, or squared"
    )
    margin: float = Field(10.0, gt=0, description="delta in L_m, a squared distance")
    source: SourceParameters = Field(
        default_factory=lambda: SourceParameters(critical_points=["block4", "block10"]),
        description="what L_k distils: dense all critical points, patches the last",
    )
    dense: DenseDistillationParameters = Field(
        default_factory=DenseDistillationParameters, description="of distillation: dense"
    )
    source_size: int = Field(64, ge=8, le=1024, description="patches: pixels that they are enlarged to for the source")
    patches_per_epoch: int = Field(6400, ge=2, description="patches: new ones in each epoch")
    validation_patches: int = Field(512, ge=2, description="patches: fixed ones of the history's validation rows")
    training: TrainingParameters = Field(
        default_factory=lambda: TrainingParameters(
            epochs=15, batch_size=64, learning_rate=0.001, weight_decay=1e-5, checkpoint_every=1
        ),
        description="patches: how the teacher is trained",
    )

    @model_validator(mode="after")
    def _some_weight(self) -> "TeacherParameters":
        if not (self.knowledge_weight or self.metric_weight or self.compactness_weight):
            raise ValueError(
                "knowledge_weight, metric_weight and compactness_weight are all 0: nothing would be learnt; raise one"
            )
        if self.source.input_normalisation == "dataset":
            raise ValueError(
                "source.input_normalisation is 'dataset', but a teacher knows none; use 'source' or 'none'"
            )
        return self

    @property
    def is_dense(self) -> bool:
        """Whether it learns from every position of crops, and not from patches."""
        return self.distillation == "dense"

    @property
    def training_in_use(self) -> TrainingParameters:
        """How this teacher is trained."""
        return self.dense.training if self.is_dense else self.training

    @property
    def examples_per_epoch(self) -> int:
        """How many patches or crops an epoch has."""
        return self.dense.crops_per_epoch if self.is_dense else self.patches_per_epoch

    @property
    def validation_examples(self) -> int:
        """How many patches or crops the loss history's validation rows are of."""
        return self.dense.validation_crops if self.is_dense else self.validation_patches

    def cut_size(self, receptive_field: int) -> int:
        """Return the side in pixels of what is cut: a crop, or the patch itself."""
        return self.dense.crop_size if self.is_dense else receptive_field

    def seen_size(self, cut: int) -> int:
        """Return the side in pixels to which what is cut is enlarged for the source."""
        return round(cut * self.dense.enlargement) if self.is_dense else self.source_size

    def require_field(self, receptive_field: int) -> None:
        """Raise `InputError` where crops are smaller than the patch that a descriptor sees."""
        if self.cut_size(receptive_field) < receptive_field:
            raise InputError(
                f"teacher.dense.crop_size is {self.dense.crop_size}, which is less than the receptive field "
                f"{receptive_field}; raise it, or leave {receptive_field} out of students.receptive_fields"
            )

    def recipe(self) -> dict[str, Any]:
        """Return what a teacher depends on beside natural images, without what only the other distillation reads."""
        of_patches = {"source_size", "patches_per_epoch", "validation_patches", "training"}
        return self.model_dump(exclude={"pool"} | (of_patches if self.is_dense else {"dense"}))


class StudentParameters(StrictModel):
    """The ``students:`` block: which ensembles, and how they are trained."""

    receptive_fields: list[int] = Field([17, 33, 65], min_length=1, description="p of each scale, from 17, 33, 65")
    count: int = Field(3, ge=1, le=50, description="M, students of each scale")
    output_stride: Literal[1, 2, 4] = Field(4, description="pixels between descriptors: 1 (published), 2 or 4")
    descriptors: Literal["auto", "cache", "recompute"] = Field(
        "auto", description="the teacher's: cache on disk, recompute in each epoch; auto: cache where it fits"
    )
    training: TrainingParameters = Field(
        default_factory=lambda: TrainingParameters(
            epochs=20, batch_size=2, learning_rate=0.002, weight_decay=1e-5, checkpoint_every=5
        ),
        description="published: 100 epochs of single images",
    )

    @model_validator(mode="after")
    def _known_fields_once(self) -> "StudentParameters":
        for field in self.receptive_fields:
            if field not in RECEPTIVE_FIELDS:
                raise ValueError(
                    f"receptive field {field} is unknown; choose from {', '.join(map(str, RECEPTIVE_FIELDS))}"
                )
        if len(set(self.receptive_fields)) != len(self.receptive_fields):
            raise ValueError(f"receptive_fields names a value twice: {self.receptive_fields}")
        return self


StudentMap = Literal[
    "combined", "regression_error", "predictive_variance", "combined_p17", "combined_p33", "combined_p65"
]


class StudentScoringParameters(MappingParameters):
    """The ``student_scoring:`` block."""

    localisation: list[StudentMap] = Field(
        list(get_args(StudentMap)),
        min_length=1,
        description="e + v, e, v, e + v of one receptive field; the first is shown and detects",
    )
    smoothing: dict[str, SmoothingParameters] = Field(
        default_factory=lambda: {name: SmoothingParameters() for name in get_args(StudentMap)},
        description="none is published",
    )
    normalisation: Literal["overall", "per_pixel"] = Field(
        "overall",
        description="overall: e and v by one mean and sd of training images (published: validation ones); or per_pixel",
    )
    score: Literal["map_maximum", "map_top_mean"] = Field("map_top_mean", description="an image's score")
    top_fraction: float = Field(0.01, gt=0, le=1, description="share of pixels in map_top_mean")


class UninformedStudentsSettings(SystemSettings):
    """Everything that makes a detector of Uninformed Students: the blocks of its parameters."""

    teacher: TeacherParameters
    students: StudentParameters
    student_scoring: StudentScoringParameters

    @classmethod
    def of_kept(cls, values: dict[str, Any]) -> "UninformedStudentsSettings":
        """Return the settings of a kept detector; raises `InputError` where validation images shaped its maps."""
        scoring = {"normalisation": "held_out"} | values["student_scoring"]  # what there was before there was a choice
        return super().of_kept(values | {"student_scoring": scoring})

    def supports(self, dataset: DatasetParameters) -> bool:
        """Tell whether images are large enough for the largest receptive field."""
        return smallest_image(max(self.students.receptive_fields)) <= min(dataset.size)
