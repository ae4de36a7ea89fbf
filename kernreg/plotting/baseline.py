"""Figures of kernels and of a baseline; each returns a matplotlib ``Figure``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kernreg.plotting.style import COLOURS, SMALL, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "plot_calibration",
    "plot_confusion",
    "plot_depths",
    "plot_importances",
    "plot_predictions",
    "plot_ridge_path",
    "plot_spectrum",
]


def plot_depths(
    scores: Mapping[tuple[str, str], Mapping[int, float]], label: str, best: float | None = None
) -> Figure:
    """Best score against depth, one line for each nonlinearity and kernel.

    Parameters
    ----------
    scores : mapping of (family, kernel) to mapping of depth to score
        Solid lines for "ntk", dashed ones for "nngp".
    label : str
        Name of the score.
    best : float, optional
        A value for a horizontal line.

    Notes
    -----
    The axis ends at 1, a perfect score, so that differences are seen beside the error that is left.

    Examples
    --------
    >>> figure = plot_depths({("Relu", "ntk"): {1: 0.8, 3: 0.9}}, "R2")
    >>> figure.axes[0].get_ylabel()
    'R2'
    """
    figure, axes = new_axes()
    families = list(dict.fromkeys(family for family, _ in scores))
    shift = {"nngp": -0.04, "ntk": 0.04}
    for (family, kernel), points in scores.items():
        depths = sorted(points)
        axes.plot(
            [depth + shift.get(kernel, 0.0) for depth in depths],
            [points[depth] for depth in depths],
            marker="o" if kernel == "ntk" else "s",
            markersize=5,
            markerfacecolor=None if kernel == "ntk" else "white",
            linestyle="-" if kernel == "ntk" else "--",
            color=COLOURS[families.index(family) % len(COLOURS)],
            label=f"{family} {kernel}",
        )
    if best is not None:
        axes.axhline(
            best, color="#566170", linewidth=1, linestyle=":", label="best Gaussian kernel"
        )
    every = sorted({depth for points in scores.values() for depth in points})
    axes.set_xticks(every)
    axes.set_xlabel("hidden layers")
    axes.set_ylabel(label)
    shown = [score for points in scores.values() for score in points.values()]
    _up_to_perfect(axes, [*shown, *([] if best is None else [best])])
    axes.legend(fontsize=SMALL, handlelength=2.2, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def plot_importances(shares: Mapping[str, float], most: int = 15) -> Figure:
    """Which columns predictions depend on, as bars.

    Parameters
    ----------
    shares : mapping of str to float
        Share of each column, largest first, summing to 1.
    most : int
        Columns that have a bar of their own; the others share the last one.

    Examples
    --------
    >>> figure = plot_importances({"size": 0.9, "age": 0.1})
    >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
    ['size', 'age']
    """
    shown = dict(list(shares.items())[:most])
    if len(shares) > most:
        rest = len(shares) - most + 1
        shown = dict(list(shares.items())[: most - 1])
        shown[f"{rest} others"] = sum(list(shares.values())[most - 1 :])
    figure, axes = new_axes(height=1.3 + 0.27 * len(shown))
    places = np.arange(len(shown))
    last = len(shown) - 1 if len(shares) > most else len(shown)
    colours = [COLOURS[0] if place < last else "#b8c2cc" for place in places]
    axes.barh(places, [100 * share for share in shown.values()], height=0.7, color=colours)
    axes.set_yticks(places, [_short(name, 24) for name in shown], parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("share of the squared slopes, %")
    return figure


def plot_ridge_path(
    alphas: np.ndarray, errors: Mapping[str, np.ndarray], label: str, chosen: float | None = None
) -> Figure:
    """Leave-one-out error against the ridge, one line for each kernel.

    Parameters
    ----------
    alphas : ndarray of shape (n_alphas,)
        Ridges, positive.
    errors : mapping of str to ndarray of shape (n_alphas,)
        Error of each kernel.
    label : str
        Name of the error.
    chosen : float, optional
        A ridge to mark.

    Examples
    --------
    >>> figure = plot_ridge_path(np.array([0.1, 1.0]), {"ntk": np.array([0.2, 0.3])}, "error")
    >>> figure.axes[0].get_xscale()
    'log'
    """
    figure, axes = new_axes(height=3.6 + 0.19 * len(errors))
    for index, (name, values) in enumerate(errors.items()):
        axes.plot(
            alphas,
            values,
            marker=".",
            linewidth=2.2 if index == 0 else 1.3,
            color=COLOURS[index % len(COLOURS)],
            label=name,
            zorder=3 if index == 0 else 2,
        )
    if chosen is not None:
        axes.axvline(chosen, color="#566170", linewidth=1, linestyle=":", label="chosen ridge")
    axes.set_xscale("log")
    positive = [v for values in errors.values() for v in values if v > 0]
    if (
        positive
        and max(positive) > 8 * min(positive)
        and len(positive) == len(alphas) * len(errors)
    ):
        axes.set_yscale("log")
    else:
        # From no error on: an axis that starts elsewhere makes small differences look large.
        axes.set_ylim(bottom=0.0)
    axes.set_xlabel("ridge alpha, relative to the mean diagonal")
    axes.set_ylabel(label)
    figure.legend(loc="outside lower left", fontsize=SMALL, handlelength=2.2)
    return figure


def plot_spectrum(eigenvalues: np.ndarray, alpha: float | None = None) -> Figure:
    """Eigenvalues of a kernel matrix over their mean, by rank.

    Parameters
    ----------
    eigenvalues : ndarray of shape (n,)
        In descending order, over their mean.
    alpha : float, optional
        The ridge relative to the mean diagonal, which is the mean eigenvalue.

    Examples
    --------
    >>> plot_spectrum(np.array([2.0, 0.5, 0.5]), alpha=0.1).axes[0].get_xlabel()
    'rank'
    """
    figure, axes = new_axes(height=3.8)
    ranks = np.unique(np.geomspace(1, len(eigenvalues), 400).astype(int))
    values = eigenvalues[ranks - 1]
    shown = values > 0
    axes.loglog(ranks[shown], values[shown], color=COLOURS[0], linewidth=2, label="eigenvalues")
    if alpha is not None:
        above = int(np.sum(eigenvalues > alpha))
        axes.axhline(
            alpha,
            color=COLOURS[1],
            linewidth=1.2,
            linestyle="--",
            label=f"alpha = {alpha:.2g}: {above:,} of {len(eigenvalues):,} eigenvalues above",
        )
        figure.legend(loc="outside lower left", fontsize=SMALL, handlelength=2.2)
    axes.set_xlabel("rank")
    axes.set_ylabel("eigenvalue / mean eigenvalue")
    return figure


def plot_predictions(truth: np.ndarray, predicted: np.ndarray, target: str = "target") -> Figure:
    """Predicted against true values.

    Parameters
    ----------
    truth, predicted : ndarray of shape (n,)
        At most 2,000 points are drawn, evenly spaced in the order given.
    target : str
        Name of the target; a long one is shortened to fit the axes.

    Examples
    --------
    >>> figure = plot_predictions(np.array([0.0, 1.0]), np.array([0.1, 0.9]), "price")
    >>> figure.axes[0].get_xlabel()
    'true price'
    """
    figure, axes = new_axes()
    low = float(min(truth.min(), predicted.min()))
    high = float(max(truth.max(), predicted.max()))
    chosen = np.linspace(0, len(truth) - 1, min(len(truth), 2000)).astype(int)
    axes.plot([low, high], [low, high], color="#566170", linewidth=1, label="predicted = true")
    axes.plot(
        truth[chosen],
        predicted[chosen],
        linestyle="none",
        marker="o",
        markersize=4,
        markeredgewidth=0,
        alpha=0.55,
        color=COLOURS[0],
        label=f"{len(chosen):,} test rows",
    )
    figure.legend(loc="outside lower left", fontsize=SMALL, ncols=2, handlelength=2.2)
    axes.set_xlabel(f"true {_short(target, 48)}", parse_math=False)
    axes.set_ylabel(f"predicted {_short(target, 24)}", parse_math=False)
    return figure


def plot_confusion(truth: np.ndarray, predicted: np.ndarray, labels: Sequence[object]) -> Figure:
    """Counts of true against predicted classes.

    Parameters
    ----------
    truth, predicted : ndarray of shape (n,)
        Labels.
    labels : sequence
        All labels; with more than 16 the counts are shown by colour alone, and not every label
        has room.

    Examples
    --------
    >>> figure = plot_confusion(np.array([0, 1, 1]), np.array([0, 1, 0]), [0, 1])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['1', '1', '1']
    """
    figure, axes = new_axes(height=4.0)
    place = {label: index for index, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), dtype=int)
    for true, guess in zip(truth.tolist(), predicted.tolist(), strict=True):
        counts[place[true], place[guess]] += 1
    # Square roots, so that rare mistakes are seen beside frequent hits.
    axes.imshow(np.sqrt(counts), cmap="Blues", aspect="auto")
    axes.grid(False)
    ticks = range(0, len(labels), -(-len(labels) // 16))
    names = [_short(str(labels[tick]), 14) for tick in ticks]
    long = max(map(len, names)) > 4 and len(names) > 4
    axes.set_xticks(
        ticks,
        names,
        rotation=45 if long else 0,
        ha="right" if long else "center",
        parse_math=False,
    )
    axes.set_yticks(ticks, names, parse_math=False)
    if len(labels) <= 16:
        dark = counts.max() ** 0.5 * 0.55
        for row, column in np.argwhere(counts):
            axes.text(
                column,
                row,
                str(counts[row, column]),
                ha="center",
                va="center",
                fontsize=SMALL,
                color="white" if counts[row, column] ** 0.5 > dark else "#333d4b",
            )
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    return figure


def _up_to_perfect(axes: Axes, scores: Sequence[float]) -> None:
    """Limits from the worst score to 1, which is the best there is."""
    worst = min((score for score in scores if np.isfinite(score)), default=0.0)
    room = max(1.0 - worst, 0.01)
    axes.set_ylim(1.0 - 1.05 * room, 1.0 + 0.03 * room)


def _short(text: str, most: int) -> str:
    """At most so many characters, from both ends, because many names differ in the last."""
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail - 1]}…{text[-tail:]}"


def plot_calibration(
    said: Sequence[float], found: Sequence[float], counts: Sequence[int], *, intervals: bool
) -> Figure:
    """Shares that a model foretold against those that were found.

    Parameters
    ----------
    said : sequence of float
        Levels of intervals, or mean probabilities of the likeliest class.
    found : sequence of float
        Shares of the rows that are within, or of that class.
    counts : sequence of int
        Rows that each share is of; bars are two standard errors of the share that was foretold.
    intervals : bool
        Which of the two it is.

    Examples
    --------
    >>> figure = plot_calibration([0.5, 0.9], [0.48, 0.93], [100, 100], intervals=True)
    >>> figure.axes[0].get_xlabel()
    'level of the intervals'
    """
    figure, axes = new_axes()
    expected, observed = np.asarray(said, dtype=float), np.asarray(found, dtype=float)
    error = 2 * np.sqrt(expected * (1 - expected) / np.maximum(np.asarray(counts), 1))
    axes.plot([0, 1], [0, 1], color="#566170", linewidth=1, linestyle=":", label="as foretold")
    axes.errorbar(
        expected,
        observed,
        yerr=error,
        color=COLOURS[0],
        marker="o",
        markersize=5,
        linewidth=1.5,
        elinewidth=1,
        capsize=2,
        label="test rows",
    )
    low = max(0.0, min(expected.min(), observed.min()) - 0.1) if len(expected) else 0.0
    axes.set_xlim(low, 1.02)
    axes.set_ylim(low, 1.02)
    names = ("level of the intervals", "share of test rows within")
    classes = ("probability of the likeliest class", "share of test rows of that class")
    axes.set_xlabel((names if intervals else classes)[0])
    axes.set_ylabel((names if intervals else classes)[1])
    axes.legend(loc="upper left", fontsize=SMALL)
    return figure
