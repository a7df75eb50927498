"""The baselines' page, from a table by hand."""

import pandas as pd

from kdad.comparison.baseline_page import render_page, table_cells

ROW = {
    "method": "nearest_source",
    "sees": "source",
    "image_auroc": 0.8765,
    "image_auroc_low": 0.8,
    "image_auroc_high": 0.95,
    "pixel_auroc": None,
    "pro_auc": None,
    "pixel_auroc_mkd_protocol": None,
    "fit_seconds": 0.1234,
    "milliseconds_an_image": 2.51,
    "kept_megabytes": 1.5,
    "peak_megabytes": 12.4,
}


def test_cells_by_hand():
    (cells,) = table_cells(pd.DataFrame([ROW]))
    assert cells == [
        *("nearest source", "source", "0.876 [0.800, 0.950]", "-", "-", "-", "0.12", "2.5", "1.50 [12]"),
    ]


def test_without_anomalous_test_images_there_is_no_interval():
    nothing = dict.fromkeys(("image_auroc", "image_auroc_low", "image_auroc_high"))
    (cells,) = table_cells(pd.DataFrame([ROW | nothing]))
    assert cells[2] == "-"


def test_names_are_escaped():
    page = render_page("a <b>", "facts", pd.DataFrame([ROW | {"method": "<script>"}]), {})
    assert "<script>" not in page
    assert "a &lt;b&gt;" in page
