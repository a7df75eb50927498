"""A person drops an image, and sees score, threshold, decision and heat map: in a real browser, offline."""

from types import SimpleNamespace

import numpy as np
import pytest
from selenium.webdriver.common.by import By

from browsing import wait_for
from kdad import detectors
from kdad.parameters.blocks import ServingParameters
from kdad.scoring.threshold import quantile_threshold
from kdad.serving.app import create_app
from serving_files import png
from serving_process import served_here

pytestmark = pytest.mark.browser

#: Drops a file on the page as a hand does: browsers let no script make a list of files but by a transfer.
_DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), letter => letter.charCodeAt(0)), transfer = new DataTransfer();
transfer.items.add(new File([bytes], arguments[1]));
document.getElementById("drop").dispatchEvent(new DragEvent("drop", {bubbles: true, dataTransfer: transfer}));
"""


NOISE = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
FLAT = np.full((60, 90, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def kept(detector_folder, tmp_path_factory):
    """A detector that calls a flat image normal and noise anomalous: its threshold lies between their scores.

    From its lowest normal score to the threshold it is twice as far as from the flat image to the threshold.
    """
    detector = detectors.load(detector_folder)
    noise, flat = detector.predict(NOISE).score, detector.predict(FLAT).score
    assert flat < noise < 0  # scores have no zero that means anything
    step = (noise - flat) / 2
    normal = np.array([flat - step, flat + step])
    detector.calibrated(quantile_threshold(normal, 0.5), normal, (0.0, 1.0))
    return detector.save(tmp_path_factory.mktemp("between") / "detector")


TOKEN = "a token of this test"


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    return tmp_path_factory.mktemp("taught")


@pytest.fixture(scope="module")
def server(kept, taught):
    app = create_app(detectors.load(kept), ServingParameters(token=TOKEN, teach=str(taught)))
    with served_here(app) as (host, port):
        yield SimpleNamespace(address=f"http://{host}:{port}")


def shown(browser, name: str) -> str:
    return browser.find_element(By.ID, name).text


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("name", "picture", "verdict", "percentile", "share"),
    [("flat.png", FLAT, "normal", "50.0 %", 25), ("noise.png", NOISE, "anomalous", "100.0 %", 75)],
)
def test_an_image_is_predicted_and_shown(browser, server, kept, tmp_path, name, picture, verdict, percentile, share):
    expected = detectors.load(kept).predict(picture)
    browser.get(server.address)
    (tmp_path / name).write_bytes(png(picture))
    browser.find_element(By.ID, "file").send_keys(str(tmp_path / name))
    wait_for(browser, lambda: shown(browser, "name") == name)
    assert (shown(browser, "verdict"), int(expected.decision)) == (verdict, int(verdict == "anomalous"))
    assert browser.find_element(By.ID, "verdict").get_attribute("class") == verdict
    assert float(shown(browser, "score")) == pytest.approx(expected.score, rel=1e-3)
    assert float(shown(browser, "threshold")) == pytest.approx(expected.threshold, rel=1e-3)
    assert (shown(browser, "percentile"), shown(browser, "size")) == (percentile, "90 x 60")
    width = browser.execute_script("return document.getElementById('bar').style.width")
    assert float(width.rstrip("%")) == pytest.approx(share, abs=0.1)
    for place in ("picture", "heat"):
        image = browser.find_element(By.ID, place)
        wait_for(browser, lambda image=image: image.get_property("naturalWidth"))
        assert (image.get_property("naturalWidth"), image.get_property("naturalHeight")) == (90, 60)
        assert image.is_displayed()
    picture, heat = (browser.find_element(By.ID, place).rect for place in ("picture", "heat"))
    assert picture == heat  # the one lies over the other
    assert picture["width"] / picture["height"] == pytest.approx(1.5, rel=0.01)
    assert picture["width"] > 400  # however small the file is


def test_one_that_is_good_is_kept(browser, server, taught, tmp_path):
    browser.get(server.address)
    (tmp_path / "noise.png").write_bytes(png(NOISE))
    browser.find_element(By.ID, "file").send_keys(str(tmp_path / "noise.png"))
    wait_for(browser, lambda: shown(browser, "verdict") == "anomalous")
    browser.find_element(By.ID, "who").send_keys("Ada")
    browser.find_element(By.ID, "token").send_keys("wrong")
    for token, said in (("", "the token is wrong"), (TOKEN, "Kept as a good one."), ("", "It is kept already.")):
        if token:
            browser.find_element(By.ID, "token").clear()
            browser.find_element(By.ID, "token").send_keys(token)
        browser.find_element(By.CSS_SELECTOR, "#teach button").click()
        wait_for(browser, lambda said=said: said in shown(browser, "taught"))
    (kept,) = taught.glob("*.png")
    assert kept.read_bytes() == png(NOISE)


def test_the_docs_are_shown_and_fetch_nothing_from_elsewhere(browser, server):
    browser.get_log("browser")
    browser.get(f"{server.address}/docs")
    wait_for(browser, lambda: "/predict" in browser.find_element(By.ID, "swagger-ui").text)
    fetched = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert fetched and all(address.startswith((server.address, "data:")) for address in fetched)
    assert browser.get_log("browser") == []


def test_a_drop_of_what_is_no_image_says_so(browser, server):
    browser.get(server.address)
    browser.execute_script(_DROP, "bm8gaW1hZ2U=", "notes.txt")
    wait_for(browser, lambda: "notes.txt: it is no image" in shown(browser, "problem"))
    assert not browser.find_element(By.ID, "answer").is_displayed()


def test_nothing_is_fetched_from_elsewhere(browser, server):
    browser.get(server.address)
    fetched = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [address for address in fetched if not address.startswith(server.address)] == []
    problems = [
        entry
        for entry in browser.get_log("browser")
        if "predict" not in entry["message"] and "good" not in entry["message"]
    ]
    assert problems == []
