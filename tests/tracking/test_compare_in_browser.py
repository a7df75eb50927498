"""An ablation's axis is compared in three clicks from the run's page, and the links open what they say."""

import pytest
from selenium.webdriver.common.by import By

from browsing import wait_for
from kdad.tracking.destination import EXPERIMENT_ID, RUN_ID, axis_link, run_link
from kdad.tracking.uploader import begin_run
from kdad.tracking.writer import MlflowWriter
from tracking_server import TrackingServer

pytestmark = [pytest.mark.browser, pytest.mark.long]


@pytest.fixture
def parent(tmp_path, destination) -> tuple[str, str]:
    """Experiment and run of an ablation with three variants of an axis, and one of another."""
    run, _ = begin_run(destination, tmp_path / "waiting", "an ablation", {}, None)
    run.parameters({"cloner.loss.value_weight": 0.5})
    link = axis_link("", EXPERIMENT_ID, RUN_ID, "loss_terms")
    run.tags({"mlflow.note.content": f"Compare: [loss_terms]({link})"})
    for axis, variant, weight in (("loss_terms", "a", 0.1), ("loss_terms", "b", 0.2), ("loss_terms", "c", 0.3)):
        case = run.child(f"variant {variant}", {"axis": axis})
        case.parameters({"cloner.loss.value_weight": weight})
        case.metrics({"image_auroc": 1 - weight})
    run.child("variant of another axis", {"axis": "filter"}).metrics({"image_auroc": 0.5})
    run.end("FINISHED")
    MlflowWriter(destination).write(run)
    facts = run.sent
    return facts["experiment"], facts["id"]


@pytest.fixture
def server(tmp_path, destination):
    """A server on the destination's database."""
    made = TrackingServer(tmp_path, destination.uri)
    made.start()
    yield made
    made.kill()


def test_an_axis_in_three_clicks(browser, server, parent):
    experiment, run = parent
    browser.get(run_link(f"{server.uri}/", experiment, run))
    wait_for(browser, lambda: browser.find_elements(By.LINK_TEXT, "loss_terms"))[0].click()
    if len(browser.window_handles) > 1:
        browser.switch_to.window(browser.window_handles[-1])
    wait_for(browser, lambda: "variant c" in browser.page_source)
    assert "an ablation" not in [link.text for link in browser.find_elements(By.TAG_NAME, "a")]
    select_all = browser.find_element(By.CSS_SELECTOR, "input[aria-label='Select all runs']")
    browser.execute_script("arguments[0].click()", select_all)
    compare = wait_for(
        browser,
        lambda: [found for found in browser.find_elements(By.TAG_NAME, "button") if found.text.strip() == "Compare"],
    )[0]
    wait_for(browser, compare.is_enabled)
    compare.click()
    wait_for(browser, lambda: "Comparing 3 Runs" in browser.page_source)
    shown = browser.find_element(By.TAG_NAME, "body").text
    assert "cloner.loss.value_weight" in shown
    assert "image_auroc" in shown
