"""Pages as one HTML file each, with their figures inside, which work offline."""

import base64
import io
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHARED = "kdad.reporting"  # its templates are the frame, style and script of all pages


def render_html(package: str, page: str, **values: Any) -> str:
    """Fill a page's template in `package` with `values`; text is escaped, and a value that is missing is an error."""
    return _environment(package).get_template(f"{page}.html.j2").render(**values)


@cache
def _environment(package: str) -> Environment:
    loader = ChoiceLoader([PackageLoader(package), PackageLoader(_SHARED)])
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)


def embedded_figure(figure: "Figure") -> str:
    """Return the figure as the source of an `img`, see `embedded_svg`."""
    return embedded_svg(svg_of(figure))


def svg_of(figure: "Figure") -> bytes:
    """Return the figure as SVG; equal figures are equal files."""
    import matplotlib  # late: a server draws none

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "figure"}):  # and no date
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def embedded_svg(content: bytes) -> str:
    """Return a figure's SVG as the source of an `img` that is sharp at any size, and dark on a dark page."""
    return embedded(_follow_colour_scheme(content.decode()).encode(), "svg+xml")


def embedded(content: bytes, kind: str = "png") -> str:
    """Return a picture of a kind (``png``, ``jpeg``, ``svg+xml``) as the source of an `img`."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _follow_colour_scheme(svg: str) -> str:
    """Replace the project's colours in an SVG by variables, which a dark page gives other values."""
    from kdad.reporting.style import DARK

    for place, colour in enumerate(DARK):
        for use in ("fill", "stroke"):
            svg = svg.replace(f"{use}: {colour}", f"{use}: var(--c{place})")
    bright = "".join(f"--c{place}:{colour};" for place, colour in enumerate(DARK))
    dark = "".join(f"--c{place}:{colour};" for place, colour in enumerate(DARK.values()))
    style = f":root{{{bright}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    return svg.replace("<defs>", f"<defs><style>{style}</style>", 1)
