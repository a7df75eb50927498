"""The look that all figures share."""

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

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
#: Anomaly maps: dark blue is normal, yellow is anomalous, even in luminance.
HEAT = LinearSegmentedColormap.from_list("heat", ["#0d1b3e", "#4a2377", "#a62c6d", "#e8603c", "#fbb61a", "#fcfdbf"])


def new_figure(width: float, height: float) -> Figure:
    """Return an empty white figure of this size in inches, laid out without overlaps and apart from pyplot's state."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white", dpi=130)


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
    figure.text(0.5, 0.5, message, ha="center", va="center", wrap=True, color=MUTED, fontsize=11)
    return figure
