import base64

from kdad.reporting.html import embedded, embedded_figure
from kdad.reporting.style import DARK, INK, NORMAL, new_figure, plain_axes


def drawn():
    figure = new_figure(3, 2)
    axes = plain_axes(figure.subplots(), "title", "x", "y")
    axes.plot([0, 1], [0, 1], color=NORMAL)
    return figure


def svg() -> str:
    head, _, content = embedded_figure(drawn()).partition(",")
    assert head == "data:image/svg+xml;base64"
    return base64.b64decode(content).decode()


def test_a_figures_colours_are_variables_that_a_dark_page_changes():
    style, _, drawing = svg().partition("</style>")
    bright, dark = style.split("@media (prefers-color-scheme:dark)")
    place = list(DARK).index(NORMAL)
    assert f"--c{place}:{NORMAL};" in bright
    assert f"--c{place}:{DARK[NORMAL]};" in dark
    assert f"stroke: var(--c{place})" in drawing
    assert f"fill: {INK}" not in drawing
    assert "fill: #ffffff" not in drawing


def test_equal_figures_are_equal_files():
    assert svg() == svg()


def test_a_png_is_embedded_as_it_is():
    assert embedded(b"picture") == "data:image/png;base64,cGljdHVyZQ=="
