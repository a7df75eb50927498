import pandas as pd

from kdad.datasets.tidy_table import TidyTableDataset, widen

TABLE = pd.DataFrame(
    [
        ("loss", "b", 0, "pro_auc", 0.5, 1.0),
        ("loss", "b", 1, "pro_auc", 0.7, 1.0),
        ("loss", "b", 0, "flops", 2_000_000, 1.0),
        ("loss", "a", 0, "pro_auc", 0.25, None),
    ],
    columns=["axis", "variant", "seed", "metric", "value", "paper"],
)


def test_a_row_holds_all_of_a_variant_and_cells_are_means_over_seeds():
    wide = widen(TABLE, ["axis", "variant"], "metric", ["value"])
    assert list(wide.columns) == ["axis", "variant", "pro_auc", "flops"]
    assert wide.values.tolist() == [["loss", "b", "0.6", "2,000,000"], ["loss", "a", "0.25", ""]]


def test_several_values_stand_side_by_side_without_columns_of_nothing():
    wide = widen(TABLE[TABLE["metric"] == "pro_auc"], ["metric"], "variant", ["paper", "value"])
    assert list(wide.columns) == ["metric", "b paper", "b value", "a value"]
    assert wide.values.tolist() == [["pro_auc", "1", "0.6", "0.25"]]


def test_the_preview_is_the_wide_form(tmp_path):
    dataset = TidyTableDataset(filepath=str(tmp_path / "table.csv"), save_args={"index": False})
    dataset.save(TABLE)
    shown = dataset.preview(nrows=1, rows=["axis", "variant"], columns="metric", values=["value"])
    assert shown == {
        "index": [0],
        "columns": ["axis", "variant", "pro_auc", "flops"],
        "data": [["loss", "b", "0.6", "2,000,000"]],
    }


def test_an_empty_table_has_an_empty_preview(tmp_path):
    assert widen(TABLE.iloc[:0], ["axis"], "metric", ["value"]).empty
