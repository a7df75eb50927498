"""The look that all figures share, and how names are written on them."""

import logging
from functools import cache
from pathlib import Path

from matplotlib import font_manager, ft2font, rcParams
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from kdad.parameters.written_names import printable
from kdad.reporting import overlays

logger = logging.getLogger(__name__)

NORMAL = "#3a6ea5"
ANOMALOUS = "#c8452f"
INK = "#2b2b2b"
MUTED = "#8a8a8a"
#: Lines of several methods or terms; told apart also without colour vision.
CYCLE = ("#3a6ea5", "#c8452f", "#2f8f6b", "#b8862b", "#7a5195", "#5c6670")
#: What a dark page shows in place of a figure's colours.
DARK = {
    "#ffffff": "#1b1d20",
    "#000000": "#e8e8e8",
    INK: "#e8e8e8",
    MUTED: "#9a9a9a",
    **dict(zip(CYCLE, ("#7fb0e6", "#f08a78", "#6cc7a1", "#dcb765", "#b79bd6", "#aab4be"), strict=True)),
}
#: Of anomaly maps.
HEAT = LinearSegmentedColormap.from_list("heat", overlays.HEAT)

#: Fonts of other scripts than Latin, Greek and Cyrillic, as far as they are installed: for names of files and kinds.
_OTHER_SCRIPTS = (
    *("Noto Sans CJK SC", "Noto Sans SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Micro Hei"),
    *("WenQuanYi Zen Hei", "Droid Sans Fallback", "PingFang SC", "Hiragino Sans GB", "Microsoft YaHei", "SimHei"),
    *("Malgun Gothic", "Arial Unicode MS", "Unifont"),
)


def new_figure(width: float, height: float) -> Figure:
    """Return an empty white figure of this size in inches, laid out without overlaps and apart from pyplot's state."""
    rcParams["font.family"] = list(_families())
    return Figure(figsize=(width, height), layout="constrained", facecolor="white", dpi=130)


def titled_figure(width: float, height: float, title: str) -> Figure:
    """Return an empty figure with a heading: what data it is of; dollar signs in names are no formula."""
    figure = new_figure(width, height)
    if title:
        heading = {"x": 0.01, "ha": "left", "fontsize": 11, "color": INK, "fontweight": "bold"}
        figure.suptitle(drawable(printable(title)), parse_math=False, **heading)
    return figure


def drawable(text: str) -> str:
    """Return text with what no font here can draw as codes (``U+5212``), and say once which font to install."""
    missing = sorted({letter for letter in text if ord(letter) > 0x7F and ord(letter) not in _letters()})
    if missing:
        _warn_once()
    return "".join(f"U+{ord(letter):04X} " if letter in missing else letter for letter in text)


@cache
def _families() -> tuple[str, ...]:
    """Return the usual font and those of other scripts that are installed."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ("DejaVu Sans", *(name for name in _OTHER_SCRIPTS if name in installed))


@cache
def _letters() -> frozenset[int]:
    """Return the codes of all letters that the fonts have."""
    files = {Path(font_manager.findfont(name)) for name in _families()}
    return frozenset(code for file in files for code in ft2font.FT2Font(str(file)).get_charmap())


@cache
def _warn_once() -> None:
    logger.warning(
        "No installed font has all letters of the names on the figures, which show their codes instead; install one "
        "that has, such as Noto Sans CJK (Debian: fonts-noto-cjk)"
    )


def plain_axes(axes: Axes, title: str, x_label: str, y_label: str) -> Axes:
    """Title and label axes, drop the upper and right frame, and draw a faint grid."""
    axes.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold")
    axes.set_xlabel(x_label, color=INK)
    axes.set_ylabel(y_label, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.tick_params(colors=INK, labelsize=9)
    return axes


def draw_message(message: str) -> Figure:
    """Return a figure that says why there is nothing to draw."""
    figure = new_figure(5.2, 2.2)
    figure.subplots().set_axis_off()  # a notebook shows no figure without axes
    figure.text(0.5, 0.5, message, ha="center", va="center", wrap=True, color=MUTED, fontsize=11)
    return figure
