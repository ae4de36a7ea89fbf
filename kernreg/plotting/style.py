"""Colours and fonts that all figures share, and figures as SVG."""

from __future__ import annotations

import html
import io
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "QUIET",
    "SMALL",
    "STYLE",
    "colour_bar",
    "given_or_new",
    "legend_above",
    "new_axes",
    "panels",
    "to_svg",
]

# Okabe and Ito's palette, which people with colour vision deficiencies can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555", "#000000")
# What others stand beside: bars of other models, lines of an ideal.
QUIET = "#b8c2cc"
# A report in a window of 1200 pixels shows a point as 1.25 pixels: this is just over 12 pixels.
SMALL = 9.7
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "font.family": "sans-serif",
    "svg.fonttype": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a94a3",
    "axes.labelcolor": "#333d4b",
    "xtick.color": "#566170",
    "ytick.color": "#566170",
    "grid.color": "#e3e7ec",
    "legend.frameon": False,
    "legend.fontsize": SMALL,
}


def new_axes(width: float = 5.4, height: float = 3.6) -> tuple[Figure, Axes]:
    """An empty figure in the style of the project.

    Parameters
    ----------
    width, height : float
        Inches.

    Examples
    --------
    >>> figure, axes = new_axes()
    >>> figure.axes == [axes]
    True
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(True, linewidth=0.8)
        axes.set_axisbelow(True)
    return figure, axes


def to_svg(figure: Figure, name: str) -> str:
    """A figure as an ``<svg>`` element that can stand in an HTML page.

    Parameters
    ----------
    figure : Figure
        Any figure.
    name : str
        Read out by screen readers; also keeps the element ids of several figures apart: figures
        of one page need different names.

    Examples
    --------
    >>> to_svg(new_axes()[0], "nothing")[:4]
    '<svg'
    """
    import matplotlib

    text = io.StringIO()
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": name}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    prefix = re.sub(r"\W+", "-", name).lower()

    def renamed(tag: re.Match[str]) -> str:
        return re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>{prefix}-", tag[0])

    # Within tags only: a text may hold anything.
    svg = re.sub(r"<\w[^<>]*>", renamed, svg)
    label = html.escape(name)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1).strip()


def panels(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (9.6, 3.8), **options: Any
) -> tuple[Figure, Any]:
    """``matplotlib.pyplot.subplots`` in the style of the project.

    Parameters
    ----------
    rows, columns : int
        How many axes.
    size : tuple of float
        Width and height in inches.
    **options
        Of ``subplots``, such as ``width_ratios``.

    Returns
    -------
    figure, axes
        As ``subplots`` has them.

    Examples
    --------
    >>> figure, (left, right) = panels(1, 2)
    >>> left.spines["top"].get_visible()
    False
    """
    import matplotlib
    import matplotlib.pyplot as plt

    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", **options)
        for ax in figure.axes:
            ax.grid(True, linewidth=0.8)
            ax.set_axisbelow(True)
    return figure, axes


def given_or_new(ax: Axes | None) -> Axes:
    """The axes given, or those of a new figure of pyplot, which notebooks show."""
    return panels(size=(5.4, 3.6))[1] if ax is None else ax


def colour_bar(drawn: Any, ax: Axes, label: str) -> None:
    """The scale of a field of colours beside its axes.

    Parameters
    ----------
    drawn : ScalarMappable
        What has been drawn.
    ax : Axes
        Where it was.
    label : str
        What the colours mean, with the unit.
    """
    import matplotlib

    with matplotlib.rc_context(STYLE):
        bar = ax.figure.colorbar(drawn, ax=ax, label=label)
    bar.outline.set_visible(False)


def legend_above(ax: Axes, handles: Any = None, ncols: int = 2) -> None:
    """A legend of all marks above the axes, where it hides none of them.

    Parameters
    ----------
    ax : Axes
        The axes.
    handles : list of Artist, optional
        What is explained; all that have labels if left out.
    ncols : int
        Columns.
    """
    ax.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=ncols,
        fontsize=SMALL,
        frameon=False,
        handlelength=2.2,
        columnspacing=1.2,
    )
