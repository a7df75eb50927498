from rich.console import Console

from kdad.reporting.metrics_table import console_table

DETECTION = {
    "image_auroc": 0.98765,
    "image_ap": 0.9,
    "image_f1_max": 0.8,
    "image_auroc_low": 0.95,
    "image_auroc_high": 1.0,
}
HEAD = {"dataset": "textures", "category": "brick", "source": "vgg16", "seed": 3}


def rendered(metrics: dict) -> str:
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(console_table(metrics))
    return console.export_text()


def test_table_shows_detection_and_each_method():
    found = {"pixel_auroc": 0.91234, "pixel_ap": 0.5, "pro_auc": 0.7, "pixel_auroc_mkd_protocol": 0.6}
    text = rendered({**HEAD, **DETECTION, "localisation": {"discrepancy": found}, "localisation_left_out": None})
    assert "textures / brick, vgg16, seed 3" in text
    assert "0.9877" in text
    assert "0.950 to 1.000" in text
    assert "0.9123" in text


def test_missing_metrics_are_dashes_with_the_reason():
    missing = dict.fromkeys(["pixel_auroc", "pixel_ap", "pro_auc", "pixel_auroc_mkd_protocol"])
    none = dict.fromkeys(DETECTION)
    text = rendered({**HEAD, **none, "localisation": {"discrepancy": missing}, "localisation_left_out": "no masks"})
    assert "no masks" in text
    assert "0." not in text


def test_what_is_left_out_alone_is_said():
    found = {"pixel_auroc": 0.9, "pixel_ap": 0.5, "pro_auc": 0.7, "pixel_auroc_mkd_protocol": None}
    said = {
        "localisation_left_out": None,
        "metrics_left_out": "pixel_auroc_mkd_protocol: no normal pixel",
        "anomalous_images_without_mask": 2,
        "anomalous_images_with_empty_mask": 1,
    }
    text = rendered({**HEAD, **DETECTION, "localisation": {"discrepancy": found}, **said})
    assert "left out: pixel_auroc_mkd_protocol: no normal pixel" in text
    words = " ".join(text.split())
    assert "2 anomalous images have no mask" in words
    assert "1 anomalous images have an empty mask" in words
