"""Waiting for what a browser is to show, and what bars people from a page."""

from collections.abc import Callable
from typing import Any

from selenium.webdriver import Chrome
from selenium.webdriver.support.ui import WebDriverWait


def wait_for(browser: Chrome, find: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Return what `find` finds, as soon as that is true; raises selenium's `TimeoutException`."""
    return WebDriverWait(browser, seconds, poll_frequency=0.1).until(lambda _: find())


def barriers_of(browser: Chrome) -> list[str]:
    """Return what axe-core finds serious on the page as it is: rule, and the first element."""
    from axe_core_python.selenium import Axe

    violations = Axe().run(browser, options={"resultTypes": ["violations"]})["violations"]
    serious = [each for each in violations if each["impact"] in ("serious", "critical")]
    return [f"{each['id']}: {each['nodes'][0]['html'][:100]}" for each in serious]
