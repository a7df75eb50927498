"""Who may sit in a committee, and what each member's own settings are."""

import pytest
from pydantic import ValidationError

from kdad.detectors.baselines.parameters import BaselineSettings
from kdad.detectors.committee.parameters import CommitteeParameters, CommitteeSettings
from kdad.detectors.mkd.parameters import MkdSettings
from kdad.detectors.stfpm.parameters import StfpmSettings


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
