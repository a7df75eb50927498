"""A committee against its members made alone: what is summed, what is shared, and what is kept."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import spearmanr

from kdad.detectors.baselines.detector import BaselineDetector
from kdad.detectors.baselines.parameters import BaselineSettings
from kdad.detectors.committee.detector import CommitteeDetector
from kdad.detectors.committee.parameters import CommitteeParameters, CommitteeSettings
from kdad.detectors.mkd.detector import MkdDetector
from kdad.detectors.mkd.parameters import MkdSettings
from kdad.detectors.reverse_distillation.detector import ReverseDistillationDetector
from kdad.detectors.stfpm.detector import StfpmDetector
from kdad.detectors.stfpm.parameters import StfpmSettings
from kdad.errors import InputError
from kdad.features.network import FrozenNetwork
from kdad.images.splits import Split
from kdad.scoring.smoothing import smooth

MEMBERS = ("mkd", "position_gaussian", "stfpm", "reverse_distillation")
KINDS = dict(zip(MEMBERS, (MkdDetector, BaselineDetector, StfpmDetector, ReverseDistillationDetector), strict=True))


def finished(detector, images) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a member's scores and the map that it shows, smoothed, as if it were alone."""
    raw = detector.maps(images, None, detector.needed_methods)
    maps = {name: smooth(found, detector.smoothing(name)) for name, found in raw.maps.items()}
    return detector.image_score.of_images(raw.scores, maps), maps[detector.methods[0]]


@pytest.fixture
def alone(fit, settings):
    """Each member, fitted alone by the settings that it has in the committee."""
    return {name: fit(KINDS[name], own) for name, own in settings(*MEMBERS).of_members.items()}


def test_finished_maps_are_multiplied_and_scored_against_training_images(fit, settings, alone):
    made = fit(CommitteeDetector, settings(*MEMBERS, committee={"top_fraction": 0.1}))
    training, test = (made.feature_set.batch(made.feature_set.split.rows(part)) for part in ("train", "test"))

    def product(images):
        return np.prod([finished(alone[name].detector, images)[1].double() for name in MEMBERS], 0) ** (1 / 4)

    usual, shown = product(training), product(test)
    found = made.detector.maps(test, None, [*made.detector.methods, "detection"])
    assert made.detector.methods == ["product", *MEMBERS]
    assert list(found.scores) == [f"{name}_score" for name in MEMBERS]
    for name in MEMBERS:
        own_scores, own_map = finished(alone[name].detector, test)
        np.testing.assert_allclose(found.maps[name], own_map, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found.scores[f"{name}_score"], own_scores, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.maps["product"], shown, rtol=1e-3)
    standardised = (shown - usual.mean(0)) / (usual.std(0) + 0.2 * usual.std())
    np.testing.assert_allclose(found.maps["detection"], standardised, rtol=1e-2, atol=1e-2)
    scores, _ = made.detector.score_and_show(test)
    tops = [np.sort(one, axis=None)[-154:].mean() for one in standardised]  # a tenth of 32 * 48 = 1536 pixels
    np.testing.assert_allclose(scores, tops, rtol=1e-2, atol=1e-2)


def test_nothing_is_smoothed_after_the_product_and_predicting_takes_its_score(fit, settings):
    detector = fit(CommitteeDetector, settings("mkd", "position_gaussian")).detector
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    scores, maps = detector.score_and_map(images)
    raw = detector.maps(images)
    np.testing.assert_array_equal(maps["product"], raw.maps["product"])
    np.testing.assert_array_equal(scores, detector.image_score.of_images(raw.scores, raw.maps))
    assert list(maps) == ["product", "detection"]


def test_the_source_runs_once_over_an_image_for_all_members_and_never_over_known_ones(fit, settings, monkeypatch):
    made = fit(CommitteeDetector, settings(*MEMBERS))
    rows, passes, outputs = made.feature_set.split.rows("test"), Counter(), FrozenNetwork.outputs

    def counting(network, images, *depth):
        passes["images"] += len(images)
        return outputs(network, images, *depth)

    monkeypatch.setattr(FrozenNetwork, "outputs", counting)
    made.detector.maps(made.feature_set.batch(rows), made.feature_set.outputs(rows))
    assert not passes
    made.detector.maps(made.feature_set.batch(rows))
    assert passes == {"images": len(rows)}


def test_members_that_were_trained_alone_are_found_and_have_the_same_keys(fit, settings, alone):
    made = fit(CommitteeDetector, settings("stfpm", "mkd"))
    assert made.fitting.reused
    assert {name: member.key for name, member in made.detector.members.items()} == {
        name: alone[name].detector.key for name in ("stfpm", "mkd")
    }
    third = fit(CommitteeDetector, settings("position_gaussian"))
    assert third.detector.members["position_gaussian"].key == alone["position_gaussian"].detector.key
    assert len({made.detector.key, third.detector.key, alone["mkd"].detector.key}) == 3


def test_losses_are_those_of_the_members_that_train(fit, settings):
    found = fit(CommitteeDetector, settings(*MEMBERS)).fitting.history
    assert {term.split(".")[0] for term in found["term"]} == {"mkd", "stfpm", "reverse_distillation"}
    assert fit(CommitteeDetector, settings("position_gaussian")).fitting.history is None


def test_a_single_member_shows_what_it_shows_alone(fit, settings, alone):
    made = fit(CommitteeDetector, settings("mkd"))
    images = made.feature_set.batch(made.feature_set.split.scored)
    _, shown = finished(alone["mkd"].detector, images)
    np.testing.assert_allclose(made.detector.maps(images).maps["product"], shown, rtol=1e-5)


def test_places_inside_of_a_one_class_svm_whose_values_are_below_0_keep_their_order(fit, settings):
    made = fit(CommitteeDetector, settings("patch_ocsvm"))
    own = fit(BaselineDetector, settings("patch_ocsvm").of_members["patch_ocsvm"])
    images = made.feature_set.batch(made.feature_set.split.rows("test"))
    _, shown = finished(own.detector, images)
    assert (shown < 0).float().mean() > 0.3
    together = made.detector.maps(images).maps["product"]
    inside = shown < 0
    assert spearmanr(shown[inside], together[inside]).statistic == pytest.approx(1, abs=1e-4)


def test_what_is_kept_says_whose_it_is(fit, settings):
    detector = fit(CommitteeDetector, settings("mkd", "memory_bank")).detector
    names = detector.state_dict()
    assert {name.split(".")[0] for name in names} == {"mkd", "memory_bank", "moments"}
    assert "memory_bank.patches" in names
    facts = detector.metadata()
    with pytest.raises(ValueError, match="its members are mkd, memory_bank, and it has what memory_bank learnt"):
        detector.load_state(names, {"members": {"memory_bank": facts["members"]["memory_bank"]}})


def test_raw_maps_are_found_again_by_everything_that_members_finish_them_by(fit, settings):
    made = fit(CommitteeDetector, settings("mkd"))
    key = made.detector.raw_key(["product"], made.feature_set)
    assert fit(CommitteeDetector, settings("mkd")).detector.raw_key(["product"], made.feature_set) == key
    smoother = {"localisation": ["discrepancy"], "smoothing": {"discrepancy": {"gaussian_sigma": 2.0}}}
    for scoring in (smoother, smoother | {"smoothing": {"discrepancy": {"gaussian_sigma": 0.5}}}):
        other = fit(CommitteeDetector, settings("mkd", scoring=scoring)).detector
        assert other.key == made.detector.key  # one training
        assert other.raw_key(["product"], made.feature_set) != key


def test_a_point_that_a_member_needs_and_the_source_lacks_is_refused_before_training(prepare, settings):
    wrong = {"methods": {"memory_bank": {"detector": "memory_bank"}}, "points": ["stage9"]}
    with pytest.raises(InputError, match=r"baselines\.points names 'stage9'"):
        prepare(CommitteeDetector, settings("mkd", "memory_bank", baselines=wrong))


def test_only_what_is_drawn_depends_on_the_seed(settings):
    assert CommitteeDetector.is_stochastic(settings("mkd"))
    assert CommitteeDetector.extraction_options(settings("mkd", features={"batch_size": 3}), (8, 8)).batch_size == 3


def test_the_cost_is_that_of_the_members_that_say_theirs(fit, settings, alone):
    found = fit(CommitteeDetector, settings(*MEMBERS)).detector.cost()
    expected = [alone[name].detector.cost() for name in MEMBERS if name != "position_gaussian"]
    assert found == {name: sum(cost[name] for cost in expected) for name in ("parameters", "flops")}


def test_members_have_the_settings_that_they_would_have_alone(settings):
    given = settings("stfpm", "mkd", "memory_bank")
    blocks = given.model_dump()
    alone = {
        "stfpm": StfpmSettings.model_validate({"stfpm": blocks["stfpm"]}),
        "mkd": MkdSettings.model_validate({name: blocks[name] for name in MkdSettings.model_fields}),
    }
    own = {name: blocks[name] for name in BaselineSettings.model_fields}
    alone["memory_bank"] = BaselineSettings.model_validate(BaselineSettings.select_variant(own, "memory_bank", ""))
    assert given.of_members == alone
    assert list(given.of_members) == ["stfpm", "mkd", "memory_bank"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (["mdk"], r"committee\.members names 'mdk'; did you mean 'mkd'\?"),
        (["mkd", "uninformed_students"], r"names 'uninformed_students'; known: .*mkd, patch_ocsvm, position_gaussian"),
        (
            ["mkd", "nearest_pixels"],
            r"names 'nearest_pixels', which .* no map; choose from mkd, stfpm, reverse_",
        ),
        (["left_out"], r"committee\.members names 'left_out', which baselines\.methods leaves out"),
        (["mkd", "mkd"], r"members names one twice: mkd, mkd; each has one voice"),
        ([], "members"),
    ],
)
def test_who_cannot_be_a_member(settings, members, message):
    with pytest.raises(ValidationError, match=message):
        settings(*members)


@pytest.mark.parametrize(("block", "member"), [("baselines", "memory_bank"), ("stfpm", "stfpm")])
def test_members_whose_maps_are_standardised_cannot_be_multiplied(settings, block, member):
    blocks = settings("mkd", member).model_dump(mode="json")
    blocks[block]["normalisation"] = "per_pixel"
    with pytest.raises(ValidationError, match=rf"{block}\.normalisation is 'per_pixel'.*set .* to none, or leave that"):
        CommitteeSettings.model_validate(blocks)
    blocks["committee"]["members"] = ["mkd"]
    assert CommitteeSettings.model_validate(blocks).committee.members == ["mkd"]  # nothing to the others


def test_the_name_of_the_product_is_no_members(settings):
    methods = {"product": {"detector": "memory_bank"}}
    with pytest.raises(ValidationError, match=r"names 'product', as the committee's own map is called; call"):
        settings("product", baselines={"methods": methods})


def test_members_look_through_one_source(settings):
    other = {"name": "resnet18", "weights": "random"}
    with pytest.raises(ValidationError, match=r"stfpm\.source differs in name \('resnet18', and 'timm:test_"):
        settings("mkd", "stfpm", source=other)
    assert settings("mkd", source=other).source.name == "resnet18"  # stfpm is no member: its source is nothing to it


def test_a_member_whose_source_is_the_default_follows_the_committees(settings):
    given = {"training": {"epochs": 2, "batch_size": 4}}
    made = settings("mkd", "reverse_distillation", reverse_distillation=given)
    own = made.of_members["reverse_distillation"].reverse_distillation
    assert (own.source, own.training.epochs) == (made.source, 2)


def test_members_may_be_given_in_words():
    assert CommitteeParameters.model_validate({"members": "mkd stfpm"}).members == ["mkd", "stfpm"]
    assert "committee" in CommitteeSettings.model_fields


def test_of_a_united_set_the_committee_has_moments_of_each_category_and_members_have_those_of_all(
    prepare, settings, train_context
):
    detector, feature_set = prepare(CommitteeDetector, settings("mkd"))
    table = feature_set.split.table
    united = Split(table.assign(member=np.where(np.arange(len(table)) % 2, "odd", "even")))
    detector.fit(replace(feature_set, split=united), train_context)
    assert detector.categories == ["even", "odd"]
    assert detector.members["mkd"].moments is not None
    assert detector.members["mkd"].categories == []
