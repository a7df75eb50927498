import math

from kdad.metrics.names import COMPARED, MAIN, METRICS, PIXEL_METRICS, labels


def test_labels_say_what_is_ranked():
    assert labels(COMPARED) == {
        "image_auroc": "image AUROC",
        "pixel_auroc": "pixel AUROC",
        "pro_auc": "PRO",
        "pixel_auroc_mkd_protocol": "pixel AUROC, MKD protocol",
    }
    assert MAIN == ("image_auroc", "pixel_auroc", "pro_auc")
    assert METRICS["false_positive_rate"].label == "false positive rate"
    assert PIXEL_METRICS == ("pixel_auroc", "pixel_ap", "pro_auc", "pixel_auroc_mkd_protocol")


def test_values_have_their_digits_and_what_was_not_measured_is_a_dash():
    assert [METRICS["pro_auc"].text(value) for value in (0.12345, 1, None, math.nan)] == ["0.1235", "1.0000", "-", "-"]
