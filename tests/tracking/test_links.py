"""Links into MLflow's pages; that they open what they say is seen in `test_compare_in_browser.py`."""

from urllib.parse import parse_qs

import pytest

from kdad.tracking.destination import Destination
from kdad.tracking.links import axis_link, experiment_link, place_of_ui, run_link


def test_links_of_a_run_and_of_an_experiment():
    assert (
        run_link("http://there:1/", "7", "abc")
        == "http://there:1/#/experiments/7/runs/abc?workflowType=machine_learning"
    )
    assert experiment_link("", "7") == "#/experiments/7/runs?workflowType=machine_learning"


def test_an_axis_is_filtered_and_sorted_by_a_metric():
    options = parse_qs(axis_link("", "7", "abc", "loss_terms").partition("?")[2])
    assert options["searchFilter"] == ["tags.axis = 'loss_terms' and tags.mlflow.parentRunId = 'abc'"]
    assert options["orderByKey"] == ["metrics.`image_auroc`"]
    assert options["workflowType"] == ["machine_learning"]


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("sqlite:////place/mlflow.db", "http://127.0.0.1:5001/"),
        ("http://there:8000", "http://there:8000/"),
        ("https://there/mlflow/", "https://there/mlflow/"),
    ],
)
def test_where_the_ui_is(uri, place):
    assert place_of_ui(Destination(uri, "kdad", None), {"host": "127.0.0.1", "port": "5001"}) == place
