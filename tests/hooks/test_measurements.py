"""A run's results under the names that MLflow takes."""

from kdad.hooks.measurements import headline


def test_kinds_have_names_that_mlflow_takes_and_no_counts_of_images():
    kinds = {"dent+höle/2": {"images": 3, "found": 2, "image_auroc": 0.75, "pro_auc": None}}
    assert headline({"image_auroc": 0.5, "by_kind": kinds, "seed": 1}) == {
        "image_auroc": 0.5,
        "by_kind.dent_höle/2.found": 2.0,
        "by_kind.dent_höle/2.image_auroc": 0.75,
    }
