"""Waiting for what a browser is to show."""

from collections.abc import Callable
from typing import Any

from selenium.webdriver import Chrome
from selenium.webdriver.support.ui import WebDriverWait


def wait_for(browser: Chrome, find: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Return what `find` finds, as soon as that is true; raises selenium's `TimeoutException`."""
    return WebDriverWait(browser, seconds, poll_frequency=0.1).until(lambda _: find())
