import re

from pages import imagined_page


def test_page_holds_tables_figures_and_settings():
    page = imagined_page()
    for text in ("Is b better than a?", "0.5250 ± 0.0071", "cloner.loss.value_weight=2", "data:image/svg+xml;base64,"):
        assert text in page


def test_page_needs_nothing_from_elsewhere():
    page = re.sub(r"data:image/svg\+xml;base64,[A-Za-z0-9+/=]+", "data:", imagined_page())
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", page)
    assert "http" not in page
    assert "@import" not in page


def test_settings_and_errors_are_escaped():
    page = imagined_page([{"axis": "form", "variant": "c", "category": "brick", "seed": 1, "error": "<b>x</b>"}])
    assert "<script>alert" not in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "1 cases are missing" in page


def test_missing_section_is_there_only_when_something_is_missing():
    assert "are missing" not in imagined_page()
