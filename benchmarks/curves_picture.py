"""The picture of ``python -m benchmarks.curves draw``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kernreg.plotting.style import COLOURS, legend_above, panels

if TYPE_CHECKING:
    from benchmarks.curves import Curve

PANELS = ("sphere", "hypercube", "mnist")
NAMES = {"paper": "paper", "pool": '"pool"', "points": '"points"'}
LINES: dict[str, Any] = {"paper": (0, (4, 3)), "pool": "-", "points": "-"}


def draw(found: Mapping[str, Sequence[Curve]], path: str) -> None:
    """Predicted test errors as lines, measured ones as points with their standard errors."""
    import matplotlib

    matplotlib.use("Agg")
    shown = [name for name in PANELS if name in found]
    figure, axes = panels(len(shown), 1, size=(6.4, 3.9 * len(shown)), squeeze=False)
    for ax, name in zip(axes[:, 0], shown, strict=True):
        _panel(ax, [curve for curve in found[name] if _is_drawn(curve)])
        ax.set_title(found[name][0].domain, fontsize=10, loc="left", pad=56)
        ax.set_ylabel("mean squared error\non other rows")
    figure.savefig(path, dpi=120)


def _is_drawn(curve: Curve) -> bool:
    """Without a ridge, which moves the curves by little."""
    return curve.alpha == 0


def _shown(curve: Curve) -> list[str]:
    """The paper's prediction, and the best one where there are several."""
    return list(dict.fromkeys(("paper", list(curve.predicted)[-1])))


def _panel(ax: Any, curves: Sequence[Curve]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.ticker import NullFormatter

    marks = []
    for curve, colour in zip(curves, COLOURS, strict=False):
        for theory in _shown(curve):
            style = {"color": colour, "linestyle": LINES[theory], "linewidth": 1.5}
            ax.plot(curve.n, curve.predicted[theory], **style)
        noisy = f", noise {curve.noise:g}" if curve.noise else ""
        ax.errorbar(
            curve.n,
            curve.measured,
            yerr=curve.standard_error,
            linestyle="none",
            marker="o",
            markersize=5,
            color=colour,
        )
        marks.append(Line2D([], [], color=colour, linewidth=4, label=curve.target + noisy))
    marks.append(Line2D([], [], color="0.3", marker="o", linestyle="none", label="measured"))
    for theory in _shown(curves[0]):
        marks.append(Line2D([], [], color="0.3", linestyle=LINES[theory], label=NAMES[theory]))
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(curves[0].n, [f"{n:,}" for n in curves[0].n])
    ax.set_xticks([], minor=True)
    ax.yaxis.set_major_formatter("{x:g}")
    low, high = ax.get_ylim()
    ax.yaxis.set_minor_formatter("{x:.1g}" if high < 15 * low else NullFormatter())
    ax.set_xlabel("training rows $n$")
    legend_above(ax, marks, ncols=3)
