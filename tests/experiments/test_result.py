"""What a case leaves is one typed object."""

import pytest
from pydantic import ValidationError
from synthetic import failed, result

from kdad.experiments.result import CaseResult


def test_a_result_survives_its_file():
    found = result("a", 3, 1.0, overrides={"cloner.loss.value_weight": 2}, commit=None, folder="somewhere")
    assert CaseResult.model_validate_json(found.model_dump_json()) == found


def test_a_failed_case_says_so_and_where_it_belongs():
    found = failed("c", "broken", seed=4)
    assert not found.finished
    assert result("a", 0, 1.0).finished
    assert found.place == ("form", "c", "brick", 4)
    assert (found.metrics, found.labels, found.threshold) == ({}, [], None)


def test_a_result_has_no_other_fields_and_no_other_status():
    with pytest.raises(ValidationError, match="unknown parameter 'metric'; did you mean 'metrics'"):
        result("a", 0, 1.0, metric=1)
    with pytest.raises(ValidationError, match="status"):
        result("a", 0, 1.0, status="done")
