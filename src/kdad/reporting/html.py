"""Pages as one HTML file each, with their figures inside, which work offline."""

import base64
import io
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure


def render_html(package: str, page: str, **values: Any) -> str:
    """Fill a page's template in `package` with `values`; text is escaped, and a value that is missing is an error."""
    template = files(package).joinpath(f"templates/{page}.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(template).render(**values)


def embedded_png(figure: Figure) -> str:
    """Return the figure as PNG in base64."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()
