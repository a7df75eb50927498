"""A person drops an image, and sees score, threshold, decision and heat map: in a real browser, offline."""

import numpy as np
import pytest
from selenium.webdriver.common.by import By

from browsing import wait_for
from serving_files import png
from serving_process import ServingProcess

pytestmark = pytest.mark.browser

#: Drops a file on the page as a hand does: browsers let no script make a list of files but by a transfer.
_DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), letter => letter.charCodeAt(0)), transfer = new DataTransfer();
transfer.items.add(new File([bytes], arguments[1]));
document.getElementById("drop").dispatchEvent(new DragEvent("drop", {bubbles: true, dataTransfer: transfer}));
"""


@pytest.fixture(scope="module")
def server(detector_folder):
    made = ServingProcess(detector_folder)
    yield made
    made.end()


def shown(browser, name: str) -> str:
    return browser.find_element(By.ID, name).text


def test_a_dropped_image_is_judged_and_shown(browser, server, detector_folder, tmp_path):
    from kdad import detectors

    here = detectors.load(detector_folder)
    browser.get(server.address)
    flat, noise = np.full((60, 90, 3), 128, np.uint8), np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    for name, picture in (("flat.png", flat), ("noise.png", noise)):
        (tmp_path / name).write_bytes(png(picture))
        browser.find_element(By.ID, "file").send_keys(str(tmp_path / name))
        wait_for(browser, lambda name=name: shown(browser, "name") == name)
        expected = here.judge(picture)
        assert shown(browser, "verdict") == ("anomalous" if expected.decision else "normal")
        assert float(shown(browser, "score")) == pytest.approx(expected.score, rel=1e-3)
        assert float(shown(browser, "threshold")) == pytest.approx(expected.threshold, rel=1e-3)
        assert shown(browser, "size") == "90 x 60"
        for place in ("picture", "heat"):
            image = browser.find_element(By.ID, place)
            wait_for(browser, lambda image=image: image.get_property("naturalWidth"))
            assert (image.get_property("naturalWidth"), image.get_property("naturalHeight")) == (90, 60)
            assert image.is_displayed()
    picture, heat = (browser.find_element(By.ID, place).rect for place in ("picture", "heat"))
    assert picture == heat  # the one lies over the other


def test_a_drop_of_what_is_no_image_says_so(browser, server):
    browser.get(server.address)
    browser.execute_script(_DROP, "bm8gaW1hZ2U=", "notes.txt")
    wait_for(browser, lambda: "notes.txt: it is no image" in shown(browser, "problem"))
    assert not browser.find_element(By.ID, "answer").is_displayed()


def test_nothing_is_fetched_from_elsewhere(browser, server):
    browser.get(server.address)
    fetched = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [address for address in fetched if not address.startswith(server.address)] == []
    problems = [entry for entry in browser.get_log("browser") if "judge" not in entry["message"]]
    assert problems == []
