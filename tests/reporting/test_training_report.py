"""What a training's page says before its script runs, and what its script is given."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from kdad.reporting.training_report import picture_side, render_training_report
from training_reports import SIDE, TEST, THRESHOLD, report

_GROUPS = {"group_false_positive_rate": 0.25, "test_normal_groups": 4}


@pytest.fixture(scope="module")
def page() -> str:
    return render_training_report(**report())


def _data(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1])


def _picture(file: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(file))).convert("L"), float)


def test_the_verdict_comes_first_with_counts_and_exact_intervals(page):
    tiles = dict(re.findall(r"<div><dt>(.*?)</dt><dd>(.*?)</dd></div>", page))
    # Above 2: 3.0, 3.5, 2.5 and 4.0 of seven anomalous, 2.5 of seven normal; Clopper and Pearson's by tables.
    assert tiles["anomalous images found"] == "4 of 7<small>57.1 %, 95 % interval 18.4 to 90.1 %</small>"
    assert tiles["false alarms"] == "1 of 7<small>14.3 %, 95 % interval 0.4 to 57.9 %</small>"
    assert tiles["false alarms promised"].startswith("16.7 %")
    assert "look &lt;here&gt;" in page


def test_the_script_is_given_every_test_image_and_no_text_ends_it(page):
    data = _data(page)
    assert [(image["kind"], image["score"]) for image in data["images"]] == TEST
    assert data["threshold"] == THRESHOLD
    assert "<b>" not in page.replace("<b></b>", "").split('id="data"')[1].split("</script>")[0]
    normal, broken = data["images"][0], data["images"][8]
    assert "mask" not in normal
    square = np.zeros((SIDE, SIDE), bool)
    square[6:12, 6:12] = True
    assert np.array_equal(_picture(broken["mask"]), 255 * square)
    assert np.array_equal(_picture(broken["map"]), 255 * square)  # limits 1 and 2
    assert np.abs(_picture(broken["image"]) - 255 * (0.25 + 0.5 * square)).mean() < 6


def test_a_system_without_maps_has_a_page_as_well():
    page = render_training_report(**report(maps=False))
    assert "map" not in _data(page)["images"][8]
    assert "Colours of the maps" not in page
    assert ">PRO<" not in page


def test_images_of_groups_have_no_interval_of_their_own():
    given = report()
    given["metrics"]["threshold"]["group_scores"] = [1.0, 2.0]
    page = render_training_report(**given | {"metrics": given["metrics"] | _GROUPS})
    assert "<dd>1 of 7<small>14.3 %</small>" in page
    assert "<dd>1 of 4<small>25.0 %, 95 % interval 0.6 to 80.6 %</small>" in page  # Clopper and Pearson's
    assert "too narrow" in page


def test_each_category_of_a_united_set_has_a_row():
    given = report()
    of = {"image_auroc": 0.75, "false_positive_rate": 0.5, "true_positive_rate": 1.0}
    page = render_training_report(**given | {"metrics": given["metrics"] | {"categories": {"<brick>": of, "mean": of}}})
    for name in ("&lt;brick&gt;", "mean"):
        assert f'<th scope="row">{name}</th><td>0.7500</td><td>0.5000</td><td>1.0000</td>' in page
    assert "By category" not in render_training_report(**given)


def test_pictures_of_many_images_are_smaller():
    assert [picture_side(count) for count in (0, 1, 100, 10**6)] == [256, 256, 256, 48]
    assert 190 < picture_side(1000) < 220
    for count in (1000, 5000):
        assert count * picture_side(count) ** 2 * 0.35 * 4 / 3 < 20_000_000  # as base64
