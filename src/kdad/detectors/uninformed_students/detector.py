"""Uninformed Students as a detector: teachers and ensembles of every receptive field, fused into maps."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kdad.detectors.detector import Detector, FitResult, FrozenOutputs, Outputs, TrainContext
from kdad.detectors.learnt import count_flops, count_parameters, join_histories, state_of, train_once
from kdad.detectors.uninformed_students.maps import (
    every_part,
    fuse_maps,
    images_in,
    parts_of,
    predictive_variance,
    regression_error,
    spread_grid,
)
from kdad.detectors.uninformed_students.parameters import UninformedStudentsSettings
from kdad.detectors.uninformed_students.students import Standardisation, train_students
from kdad.detectors.uninformed_students.teacher import (
    TeacherReference,
    pretrain,
    reference_teacher,
    require_teachers,
)
from kdad.features.extraction import ExtractionOptions, FeatureSet
from kdad.features.network import NetworkReference
from kdad.images.natural_pool import NaturalPool
from kdad.networks.parameters import check_size
from kdad.networks.patch_descriptor import StudentEnsemble
from kdad.scoring.image_score import ImageScore
from kdad.scoring.parameters import SmoothingParameters
from kdad.scoring.per_pixel import (
    PixelStats,
    ZScore,
    measure_moments,
    measured_rows,
    moments_state,
    take_moments,
)
from kdad.storage.content_store import content_key
from kdad.storage.provenance import code_digest

_TEACHER_PIXELS, _STUDENT_PIXELS = 8 * 128 * 128, 4 * 128 * 128


class UninformedStudentsDetector(Detector):
    """Students regress a patch teacher's descriptors of normal images; where they are wrong or at odds is anomalous.

    Bergmann et al. 2020. Maps: ``combined`` (e + v), ``regression_error``, ``predictive_variance``, each the mean over
    receptive fields, and ``combined_p17`` and the like of one alone.
    """

    system = "uninformed_students"
    Settings = UninformedStudentsSettings
    Reference = TeacherReference

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.ensembles = nn.ModuleDict()
        self.standardisations: dict[int, Standardisation] = {}
        self.constants: dict[str, ZScore] | dict[str, PixelStats] = {}

    @classmethod
    def frozen_networks(
        cls, settings: UninformedStudentsSettings, feature_set: FeatureSet, train_context: TrainContext
    ) -> dict[str, NetworkReference]:
        trained = pretrain(settings.teacher, settings.students.receptive_fields, train_context)
        return {
            f"p{field}": reference_teacher(found, field, settings.teacher, settings.students.output_stride)
            for field, found in trained.items()
        }

    @classmethod
    def extraction_options(cls, settings: UninformedStudentsSettings, size: tuple[int, int]) -> ExtractionOptions:
        keep = {"cache": True, "recompute": False, "auto": None}[settings.students.descriptors]
        return ExtractionOptions(images_in(_TEACHER_PIXELS, size), keep)

    @classmethod
    def check_inputs(cls, settings: UninformedStudentsSettings, feature_set: FeatureSet) -> None:
        super().check_inputs(settings, feature_set)
        check_size(feature_set.images.size, max(settings.students.receptive_fields))
        NaturalPool(settings.teacher.pool)

    @classmethod
    def describe(cls, settings: UninformedStudentsSettings) -> str:
        return f"teacher of {settings.teacher.source.name if settings.teacher.knowledge_weight else 'no source'}"

    def fit(self, feature_set: FeatureSet, train_context: TrainContext) -> FitResult:
        require_teachers(self.references, self.settings)
        found = {field: self._fit_field(field, feature_set, train_context) for field in self._fields}
        self.size = feature_set.images.size
        self.key = content_key(students=[trained.key for trained in found.values()])
        with torch.no_grad():
            self.constants = measure_moments(
                measured_rows(feature_set.split),
                lambda rows: self._grid_maps(feature_set.batch(rows), feature_set.outputs(rows)),
                self.batch_size(),
                overall=not self._at_positions,
            )
        return FitResult(
            join_histories({f"p{field}": trained.history for field, trained in found.items()}),
            sum(trained.seconds for trained in found.values()),
            all(trained.reused for trained in found.values()),
            "students",
        )

    def state_dict(self) -> dict[str, Tensor]:
        state = state_of(self.ensembles)
        for field, standardise in self.standardisations.items():
            state |= {f"p{field}.target_mean": standardise.mean, f"p{field}.target_sd": standardise.sd}
        return state | (moments_state(self.constants) if self._at_positions else {})

    def metadata(self) -> dict[str, Any]:
        constants = {} if self._at_positions else self.constants
        return {"map_constants": {name: found.model_dump() for name, found in constants.items()}}

    def load_state(self, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        kept = take_moments(state, self._grid)
        if not self._at_positions:
            kept = {part: ZScore.model_validate(found) for part, found in facts["map_constants"].items()}
        self.constants = {part: kept[part] for part in every_part(self._fields)}
        for field in self._fields:
            moments = (state.pop(f"p{field}.target_{name}").to(self.compute.device) for name in ("mean", "sd"))
            self.standardisations[field] = Standardisation(*moments)
            self.ensembles[f"p{field}"] = self._new_ensemble(field, 0)
        self.ensembles.load_state_dict(state)
        self.compute.place(self.ensembles).eval()

    @property
    def methods(self) -> list[str]:
        return [method for method in self.settings.student_scoring.localisation if parts_of(method, self._fields)]

    @property
    def image_score(self) -> ImageScore:
        scoring = self.settings.student_scoring
        return ImageScore(self.methods[0], scoring.score, scoring.top_fraction)

    def smoothing(self, method: str) -> SmoothingParameters:
        return self.settings.student_scoring.smoothing[method]

    def map_settings(self, methods: Sequence[str]) -> dict[str, Any]:
        return self.settings.student_scoring.model_dump(include={"normalisation"})

    def batch_size(self, method: str | None = None) -> int:
        return images_in(_STUDENT_PIXELS, self.size)

    def cost(self) -> dict[str, float]:
        images, students = torch.zeros(1, 3, *self.size), self.settings.students
        flops = 0
        for field in self._fields:
            dense = partial(self._new_ensemble(field, 0).members[0].dense, images, students.output_stride)
            flops += count_flops(dense) * (1 + students.count)
        return {"parameters": count_parameters(self.ensembles), "flops": flops}

    @torch.no_grad()
    def maps(
        self, images: Tensor, outputs: FrozenOutputs | None = None, methods: Sequence[str] | None = None
    ) -> Outputs:
        """Return maps by the methods; there is no raw score."""
        methods = self.needed_methods if methods is None else methods
        parts = self._grid_maps(images, outputs)
        maps = {}
        for method in methods:
            names = parts_of(method, self._fields)
            fields = {name.partition("_p")[2] for name in names}
            fused = fuse_maps([(parts[name], self.constants[name]) for name in names], len(fields))
            maps[method] = spread_grid(fused, self.settings.students.output_stride, self.size)
        return Outputs({}, maps)

    def _grid_maps(self, images: Tensor, outputs: FrozenOutputs | None) -> dict[str, Tensor]:
        """Return e and v of each receptive field on the grid of descriptors, ``e_p17``, ``v_p17`` ..., `(B, h, w)`."""
        images = self.compute.move(images)
        outputs = self.outputs(images) if outputs is None else outputs
        parts = {}
        for field in self._fields:
            targets = self.standardisations[field](self.compute.move(outputs[f"p{field}"][0]))
            with self.compute.autocast():
                predictions = self.ensembles[f"p{field}"].dense(images, self.settings.students.output_stride)
            parts[f"e_p{field}"] = regression_error(predictions.float(), targets)
            parts[f"v_p{field}"] = predictive_variance(predictions.float())
        return parts

    def _fit_field(self, field: int, feature_set: FeatureSet, train_context: TrainContext):
        students, cache = self.settings.students, feature_set.features[f"p{field}"]
        own = FeatureSet(feature_set.images, feature_set.split, {f"p{field}": cache})
        key = content_key(
            descriptors=cache.identity,
            students=students.model_dump(exclude={"receptive_fields", "descriptors"}),
            seed=train_context.seed,
            code=code_digest("kdad.detectors.uninformed_students.students"),
        )
        standardise = Standardisation.of(cache.statistics[0], self.compute.device)

        def train(checkpoint):
            ensemble = self.compute.place(self._new_ensemble(field, train_context.seed))
            shared = (self.frozen[f"p{field}"], own, standardise, students, self.compute, train_context.seed)
            return ensemble, train_students(ensemble, *shared, checkpoint)

        trained = train_once(train_context.models, key, train)
        self.standardisations[field] = standardise
        self.ensembles[f"p{field}"] = self._new_ensemble(field, 0)
        self.ensembles[f"p{field}"].load_state_dict(trained.state)
        self.compute.place(self.ensembles).eval()
        return trained

    def _new_ensemble(self, field: int, seed: int) -> StudentEnsemble:
        teacher = self.settings.teacher
        return StudentEnsemble(self.settings.students.count, field, teacher.depth, teacher.width, seed)

    @property
    def _at_positions(self) -> bool:
        return self.settings.student_scoring.normalisation == "per_pixel"

    @property
    def _grid(self) -> tuple[int, int]:
        """How many descriptors an image has, down and across."""
        stride = self.settings.students.output_stride
        return -(-self.size[0] // stride), -(-self.size[1] // stride)

    @property
    def _fields(self) -> list[int]:
        return self.settings.students.receptive_fields
