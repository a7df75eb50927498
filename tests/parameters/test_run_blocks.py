"""The blocks of a run: defaults, ranges, fields that depend on one another, and one message for all that is wrong."""

import pytest

from kdad.errors import InputError
from kdad.parameters.run import bind_parameters
from parameter_blocks import changed, least_parameters


@pytest.fixture
def least() -> dict:
    """The least that a run needs, ready for gradient maps too."""
    return changed(least_parameters(), "scoring.smoothing.gradients", {})


def test_defaults(least):
    found = bind_parameters(least)
    assert (found.source.name, found.source.weights) == ("efficientnet_lite0", "pretrained")
    assert found.source.critical_points is None
    assert found.features.activation_scaling == "per_point"
    assert (found.compute.device, found.compute.precision, found.compute.threads) == ("auto", "auto", None)
    assert (found.cloner.architecture.size, found.cloner.architecture.hidden_width) == ("small", 16)
    assert (found.cloner.loss.value_weight, found.cloner.loss.direction_weight) == (0.5, 1.0)
    assert found.cloner.training.schedule == "one_cycle"
    assert found.scoring.gradient_map.smooth_grad_samples == 50
    assert found.scoring.gradient_map.guided == "cloner"
    assert found.scoring.smoothing["discrepancy"].gaussian_sigma == 0
    assert found.scoring.max_fpr == 0.3


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", -1),
        ("seed", 0.5),
        ("patches.size", 0),
        ("patches.per_image", 0),
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
        ("scoring.forward_map.fusion", "product"),
        ("scoring.forward_map.normalisation", "test"),
        ("scoring.gradient_map.smooth_grad_samples", 0),
        ("scoring.gradient_map.smooth_grad_sd", 0),
        ("scoring.gradient_map.guided", "source"),
        ("scoring.threshold_quantile", 1),
        ("scoring.bootstrap_resamples", 99),
        ("scoring.max_fpr", 0),
        ("scoring.max_fpr", 1.1),
        ("reporting.sheet_rows", 0),
        ("teacher.depth", 0),
        ("teacher.width", 0),
        ("teacher.knowledge_weight", -0.1),
        ("teacher.compactness_form", "absolute"),
        ("teacher.margin", 0),
        ("teacher.patches_per_epoch", 1),
        ("students.count", 0),
        ("students.output_stride", 3),
        ("students.receptive_fields", []),
        ("students.descriptors", "memory"),
        ("student_scoring.score", "map_mean"),
        ("student_scoring.top_fraction", 0),
    ],
)
def test_a_value_out_of_range_is_named_with_what_was_given(least, path, value):
    with pytest.raises(InputError) as error:
        bind_parameters(changed(least, path, value))
    lines = str(error.value).splitlines()
    assert lines[0] == "parameters cannot be used:"
    assert lines[1].startswith(f"  {path}: ")
    assert f"(given: {value!r})" in lines[1]
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("cloner.architecture", {"size": "free"}, "size=free needs widths"),
        ("cloner.architecture", {"size": "small", "widths": [[16]]}, "widths goes with size=free"),
        ("cloner.loss", {"value_weight": 0, "direction_weight": 0}, "both 0: nothing would be learnt"),
        ("scoring.smoothing.discrepancy", {"opening_size": 4}, "opening_size is 4; it must be odd"),
        ("scoring.localisation", ["gradients", "discrepancy", "gradients"], "localisation names a method twice"),
        ("scoring.localisation", ["smooth_grad"], "smoothing has no entry for smooth_grad"),
        ("cloner.architecture", {"size": "free", "widths": [[16, 0]]}, "widths holds a number below 1"),
        ("students.receptive_fields", [17, 29], "receptive field 29 is unknown; choose from 17, 33, 65"),
        ("students.receptive_fields", "33 33", "names a value twice"),
        ("student_scoring.localisation", ["regression_error"], "smoothing has no entry for regression_error"),
        ("teacher.source", {"input_normalisation": "dataset"}, "a teacher knows none"),
    ],
)
def test_fields_that_do_not_go_together(least, path, value, message):
    with pytest.raises(InputError, match=rf"{path.rpartition('.')[0]}.*: .*{message}"):
        bind_parameters(changed(least, path, value))


def test_a_teacher_needs_something_to_learn_from(least):
    weights = {"knowledge_weight": 0, "metric_weight": 0, "compactness_weight": 0}
    nothing = changed(least, "teacher", least["teacher"] | weights)
    with pytest.raises(InputError, match=r"teacher.*are all 0: nothing would be learnt"):
        bind_parameters(nothing)
    for name in weights:
        bind_parameters(changed(nothing, f"teacher.{name}", 1))


def test_augmented_images_cannot_be_cached(least):
    flipped = changed(least, "students.augmentation", "flips")
    assert bind_parameters(flipped).students.descriptors == "auto"
    with pytest.raises(InputError, match="augmented images are new in every epoch"):
        bind_parameters(changed(flipped, "students.descriptors", "cache"))


@pytest.mark.parametrize(("given", "expected"), [("17 65", [17, 65]), (33, [33]), ("33", [33])])
def test_receptive_fields_can_come_from_the_command_line(least, given, expected):
    assert bind_parameters(changed(least, "students.receptive_fields", given)).students.receptive_fields == expected


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("cloner.architecture", {"size": "free", "widths": [[16, 24]]}),
        ("cloner.loss", {"value_weight": 1, "direction_weight": 0}),
        ("cloner.loss", {"value_weight": 0, "direction_weight": 1}),
        ("scoring.smoothing.discrepancy", {"opening_size": 0}),
        ("scoring.smoothing.discrepancy", {"opening_size": 3}),
        ("scoring.localisation", ["gradients", "discrepancy"]),
        ("scoring.detection.points", ["block2"]),
        ("scoring.detection.top_fraction", 1),
        ("scoring.max_fpr", 1),
    ],
)
def test_fields_that_do_go_together(least, path, value):
    bind_parameters(changed(least, path, value))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("sead", "parameters: unknown parameter 'sead'; did you mean 'seed'"),
        ("cloner.training.epoch", "cloner.training: unknown parameter 'epoch'; did you mean 'epochs'"),
        (
            "scoring.smoothing.discrepancy.gauss_sigma",
            "discrepancy: unknown parameter 'gauss_sigma'; did you mean 'gaussian_sigma'",
        ),
        ("source.critical_point", "source: unknown parameter 'critical_point'; did you mean 'critical_points'"),
    ],
)
def test_an_unknown_key_offers_the_nearest_name(least, path, message):
    with pytest.raises(InputError, match=message):
        bind_parameters(changed(least, path, 1))


def test_a_method_that_does_not_exist_is_named(least):
    with pytest.raises(InputError, match=r"scoring\.localisation\.0: .*'smooth_grad'.*given: 'smoothgrad'"):
        bind_parameters(changed(least, "scoring.localisation", ["smoothgrad"]))
    with pytest.raises(InputError, match=r"scoring\.smoothing\.grads"):
        bind_parameters(changed(least, "scoring.smoothing", {"grads": {}}))


def test_everything_that_is_wrong_is_said_at_once(least):
    del least["reporting"]
    wrong = changed(changed(least, "cloner.training.epochs", "many"), "source.nam", "vgg16")
    with pytest.raises(InputError) as error:
        bind_parameters(wrong)
    lines = sorted(line.strip().split(":")[0] for line in str(error.value).splitlines()[1:])
    assert lines == ["cloner.training.epochs", "reporting", "source"]
