"""How names are written on figures."""

import logging

import pytest
from matplotlib import font_manager, rc_context, rcParams

from kdad.reporting import style


@pytest.fixture(autouse=True)
def _forget():
    """Fonts are looked for once a process; here for each test."""
    caches = (style._families, style._letters, style._warn_once)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.fixture
def installed(monkeypatch):
    """Let other fonts be installed."""

    def install(*names):
        fonts = [font_manager.FontEntry(fname="", name=name) for name in ("DejaVu Sans", *names)]
        monkeypatch.setattr(font_manager.fontManager, "ttflist", fonts)

    return install


def test_what_no_font_has_is_shown_as_codes_and_said_once(monkeypatch, caplog):
    monkeypatch.setattr(style, "_OTHER_SCRIPTS", ())
    with caplog.at_level(logging.WARNING):
        assert style.drawable("划痕 Größe é 1") == "U+5212 U+75D5  Größe é 1"
        assert style.drawable("划") == "U+5212 "
    (message,) = caplog.messages
    assert "Noto Sans CJK" in message


def test_plain_names_are_left_alone_and_nothing_is_said(caplog):
    assert style.drawable("test/a$b_{c$\n000.png") == "test/a$b_{c$\n000.png"
    assert not caplog.messages


def test_an_installed_font_of_another_script_is_used(installed):
    installed("WenQuanYi Zen Hei", "Comic Sans")
    with rc_context():
        style.new_figure(1, 1)
        assert rcParams["font.family"] == ["DejaVu Sans", "WenQuanYi Zen Hei"]
