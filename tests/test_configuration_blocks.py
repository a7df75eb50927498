"""The blocks of a run: defaults, ranges, fields that depend on one another, and one message for all that is wrong."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from kdad.project.command_line import CommandLineError
from kdad.project.configuration import block_model, check_names, check_values
from parameter_blocks import changed, least_parameters


@pytest.fixture
def least() -> dict:
    """The least that a run needs, ready for gradient maps too."""
    return changed(least_parameters(), "scoring.smoothing.gradients", {})


def check(values: dict[str, Any]) -> None:
    """Check names, and the values of every block that there is, as its pipeline does of its own."""
    check_names(values)
    check_values({name: block_model(name) for name in least_parameters()}, values)


def bound(values: dict[str, Any], block: str) -> Any:
    """Check everything, and return a block."""
    check(values)
    return TypeAdapter(block_model(block)).validate_python(values[block])


def test_the_least_is_enough(least):
    check(least)


def test_defaults(least):
    source, scoring, cloner = (bound(least, name) for name in ("source", "scoring", "cloner"))
    compute, measuring = bound(least, "compute"), bound(least, "measuring")
    assert (source.name, source.weights) == ("efficientnet_lite0", "pretrained")
    assert source.critical_points is None
    assert bound(least, "features").activation_scaling == "per_point"
    assert (compute.device, compute.precision, compute.threads) == ("auto", "auto", None)
    assert (cloner.architecture.size, cloner.architecture.hidden_width) == ("small", 16)
    assert (cloner.loss.value_weight, cloner.loss.direction_weight) == (0.5, 1.0)
    assert cloner.training.schedule == "one_cycle"
    assert scoring.gradient_map.smooth_grad_samples == 50
    assert scoring.smoothing["discrepancy"].gaussian_sigma == 0
    assert measuring.max_fpr == 0.3


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", -1),
        ("seed", 0.5),
        ("seed", "0"),
        ("seed", True),
        ("source.input_normalisation", "imagenet"),
        ("features.batch_size", 0),
        ("compute.device", "tpu"),
        ("compute.precision", "float16"),
        ("compute.threads", 0),
        ("cloner.architecture.hidden_width", 0),
        ("cloner.loss.value_weight", -0.1),
        ("cloner.loss.direction_form", "per_channel"),
        ("cloner.training.epochs", 0),
        ("cloner.training.batch_size", 0),
        ("cloner.training.learning_rate", 0),
        ("cloner.training.weight_decay", -1e-4),
        ("cloner.training.schedule", "cosine"),
        ("cloner.training.checkpoint_every", 0),
        ("scoring.localisation", []),
        ("scoring.detection.score", "map_mean"),
        ("scoring.detection.top_fraction", 0),
        ("scoring.detection.top_fraction", 1.01),
        ("scoring.detection.normalisation", "positions"),
        ("scoring.forward_map.term", "cosine"),
        ("scoring.gradient_map.integrated_gradients_steps", 0),
        ("scoring.forward_map.fusion", "product"),
        ("scoring.gradient_map.smooth_grad_samples", 0),
        ("scoring.gradient_map.smooth_grad_sd", 0),
        ("measuring.threshold_quantile", 1),
        ("measuring.bootstrap_resamples", 99),
        ("measuring.max_fpr", 0),
        ("measuring.max_fpr", 1.1),
        ("reporting.sheet_rows", 0),
        ("reporting.case_sheet_rows", 0),
        ("inference.batch_size", 0),
        ("inference.sheet_images", 201),
        ("calibration.rule", "mean"),
        ("stfpm.training.optimiser", "rmsprop"),
        ("stfpm.training.momentum", 1),
        ("stfpm.score", "total_loss"),
        ("baselines.normalisation", "positions"),
        ("committee.members", []),
        ("teacher.depth", 0),
        ("teacher.width", 0),
        ("teacher.knowledge_weight", -0.1),
        ("teacher.compactness_form", "absolute"),
        ("teacher.margin", 0),
        ("teacher.patches_per_epoch", 1),
        ("teacher.distillation", "crops"),
        ("teacher.dense.crop_size", 16),
        ("teacher.dense.enlargement", 0),
        ("teacher.dense.stride", 3),
        ("teacher.dense.crops_per_epoch", 1),
        ("teacher.dense.validation_crops", 0),
        ("teacher.dense.zoom", [1.0]),
        ("students.count", 0),
        ("students.output_stride", 3),
        ("students.receptive_fields", []),
        ("students.descriptors", "memory"),
        ("student_scoring.score", "map_mean"),
        ("student_scoring.top_fraction", 0),
    ],
)
def test_a_value_out_of_range_is_named_with_what_was_given(least, path, value):
    with pytest.raises(CommandLineError) as error:
        check(changed(least, path, value))
    lines = str(error.value).splitlines()
    assert lines[0] == "parameters cannot be used:"
    assert lines[1].startswith(f"  {path}: ")
    assert f"(given: {value!r})" in lines[1]
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("cloner.loss", {"value_weight": 0, "direction_weight": 0}, "both 0: nothing would be learnt"),
        ("scoring.smoothing.discrepancy", {"opening_size": 4}, "opening_size is 4; it must be odd"),
        ("scoring.localisation", ["gradients", "discrepancy", "gradients"], "localisation names a method twice"),
        ("scoring.localisation", ["smooth_grad"], "smoothing has no entry for smooth_grad"),
        ("calibration", {"rule": "f1"}, "rule 'f1' needs labelled images; give calibration.images"),
        ("export", {"precision": "bfloat16"}, "does not compute in bfloat16 on a CPU; give export.runtime=openvino"),
        ("calibration", {"value": None}, "rule 'quantile' needs a value"),
        ("students.receptive_fields", [17, 29], "receptive field 29 is unknown; choose from 17, 33, 65"),
        ("students.receptive_fields", "33 33", "names a value twice"),
        ("student_scoring.localisation", ["regression_error"], "smoothing has no entry for regression_error"),
        ("committee.members", "mkd mkd", "members names one twice: mkd, mkd"),
        ("teacher.source", {"input_normalisation": "dataset"}, "a teacher knows none"),
        (
            "teacher.dense",
            {"zoom": [2.0, 1.0]},
            r"zoom is \[2.0, 1.0\]; give two numbers of at least 1",
        ),
        ("teacher.dense", {"zoom": [0.5, 1.0]}, r"zoom is \[0.5, 1.0\]; give two numbers of at least 1"),
        ("teacher.dense", {"crop": 128}, "unknown parameter 'crop'; did you mean 'crop_size'"),
    ],
)
def test_fields_that_do_not_go_together(least, path, value, message):
    with pytest.raises(CommandLineError, match=rf"{path.rpartition('.')[0]}.*: .*{message}"):
        check(changed(least, path, value))


def test_a_teacher_needs_something_to_learn_from(least):
    weights = {"knowledge_weight": 0, "metric_weight": 0, "compactness_weight": 0}
    nothing = changed(least, "teacher", least["teacher"] | weights)
    with pytest.raises(CommandLineError, match=r"teacher.*are all 0: nothing would be learnt"):
        check(nothing)
    for name in weights:
        check(changed(nothing, f"teacher.{name}", 1))


@pytest.mark.parametrize(("given", "expected"), [("17 65", [17, 65]), (33, [33]), ("33", [33])])
def test_receptive_fields_can_come_from_the_command_line(least, given, expected):
    assert bound(changed(least, "students.receptive_fields", given), "students").receptive_fields == expected


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("cloner.loss", {"value_weight": 1, "direction_weight": 0}),
        ("cloner.loss", {"value_weight": 0, "direction_weight": 1}),
        ("scoring.smoothing.discrepancy", {"opening_size": 0}),
        ("scoring.smoothing.discrepancy", {"opening_size": 3}),
        ("scoring.localisation", ["gradients", "discrepancy"]),
        ("scoring.detection.points", ["block2"]),
        ("scoring.detection", {"normalisation": "none"}),
        ("scoring.detection", {"score": "total_loss"}),
        ("scoring.forward_map", {"fusion": "sum"}),
        ("scoring.detection.top_fraction", 1),
        ("measuring.max_fpr", 1),
    ],
)
def test_fields_that_do_go_together(least, path, value):
    check(changed(least, path, value))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("sead", "unknown parameter 'sead'; did you mean 'seed'"),
        ("mkd_ablatoin", "unknown parameter 'mkd_ablatoin'; did you mean 'mkd_ablation'"),
        ("clone", "unknown parameter 'clone'; did you mean 'cloner'"),
        ("inferance", "unknown parameter 'inferance'; did you mean 'inference'"),
        ("cloner.training.epoch", "cloner.training: unknown parameter 'epoch'; did you mean 'epochs'"),
        (
            "scoring.smoothing.discrepancy.gauss_sigma",
            "discrepancy: unknown parameter 'gauss_sigma'; did you mean 'gaussian_sigma'",
        ),
        ("source.critical_point", "source: unknown parameter 'critical_point'; did you mean 'critical_points'"),
    ],
)
def test_an_unknown_key_offers_the_nearest_name(least, path, message):
    with pytest.raises(CommandLineError, match=message):
        check(changed(least, path, 1))


def test_a_method_that_does_not_exist_is_named(least):
    with pytest.raises(CommandLineError, match=r"scoring\.localisation\.0: .*'smooth_grad'.*given: 'smoothgrad'"):
        check(changed(least, "scoring.localisation", ["smoothgrad"]))
    with pytest.raises(CommandLineError, match=r"scoring\.smoothing\.grads"):
        check(changed(least, "scoring.smoothing", {"grads": {}}))


def test_everything_that_is_wrong_is_said_at_once(least):
    del least["reporting"]
    wrong = changed(changed(least, "cloner.training.epochs", "many"), "source.nam", "vgg16")
    with pytest.raises(CommandLineError) as error:
        check(wrong)
    lines = sorted(line.strip().split(":")[0] for line in str(error.value).splitlines()[1:])
    assert lines == ["cloner.training.epochs", "reporting", "source"]
    assert "  reporting: is missing" in str(error.value).splitlines()


def test_every_unknown_block_is_said_at_once(least):
    with pytest.raises(CommandLineError, match=r"(?s)'sead'; did you mean 'seed'.*'datset'; did you mean 'dataset'"):
        check_names(least | {"sead": 1, "datset": {}})
