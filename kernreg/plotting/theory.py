"""Displays of what theory says of a network, in the style of scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from kernreg.exceptions import InvalidInputError
from kernreg.plotting.style import COLOURS, SMALL, colour_bar, given_or_new, legend_above
from kernreg.theory.criticality.critical_point import Critical, critical
from kernreg.theory.criticality.phases import PhaseDiagram, phase_diagram
from kernreg.theory.eigenlearning.curves import (
    LearningCurve,
    measure_learning_curve,
    predict_learning_curve,
)
from kernreg.theory.finite_width.monte_carlo import Sample, sample
from kernreg.theory.finite_width.one_input import Coefficients, coefficients

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FiniteWidthDisplay", "LearningCurveDisplay", "PhaseDiagramDisplay"]

# Sizes of training sets that are written below the axis each, beyond it powers of ten.
_FEW = 8
_REGIONS = {"ordered": "ordered", "chaotic": "chaotic", "unbounded": "variance grows for ever"}


class PhaseDiagramDisplay:
    """Phases of deep networks over the variances of weights and biases.

    Parameters
    ----------
    diagram : PhaseDiagram
        From :func:`kernreg.theory.criticality.phase_diagram`.
    point : Critical, optional
        The critical initialisation; marked if it has one inside the diagram.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        Where it was drawn.
    figure_ : matplotlib.figure.Figure
        Its figure.

    Examples
    --------
    >>> from kernreg import nn
    >>> shown = PhaseDiagramDisplay.from_nonlinearity(nn.Tanh(), [0.0, 0.1], [0.5, 1.0, 2.0])
    >>> shown.ax_.get_xlabel()
    'variance of the weights $C_W$'
    """

    def __init__(self, diagram: PhaseDiagram, point: Critical | None = None) -> None:
        self.diagram = diagram
        self.point = point

    @classmethod
    def from_nonlinearity(
        cls,
        sigma: Any,
        C_b: ArrayLike,
        C_W: ArrayLike,
        *,
        input_norm: float = 1.0,
        ax: Axes | None = None,
    ) -> Self:
        """Compute and draw.

        Parameters
        ----------
        sigma : Nonlinearity or callable
            See :func:`kernreg.theory.averages.as_nonlinearity`.
        C_b, C_W : array_like of shapes (m,) and (n,)
            Variances of biases and weights, ascending.
        input_norm : float, default=1.0
            As for :func:`kernreg.theory.criticality.phase`.
        ax : Axes, optional
            Where to draw.
        """
        return cls(phase_diagram(sigma, C_b, C_W, input_norm=input_norm), critical(sigma)).plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw: colours say how fast nearby inputs separate, the line is the edge of chaos."""
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        ax = given_or_new(ax)
        found = self.diagram
        growth = np.log(np.maximum(found.chi_perp, 1e-3))
        # No fixed point, no edge: chi_perp is that of the largest variance looked at.
        edge = np.where(found.phase == "unbounded", np.nan, growth)
        most = max(float(np.nanmax(np.abs(growth))), 1e-3)
        shading: Any = "gouraud" if min(growth.shape) > 1 else "nearest"
        mesh = ax.pcolormesh(
            found.C_W, found.C_b, growth, cmap="RdBu_r", vmin=-most, vmax=most, shading=shading
        )
        colour_bar(mesh, ax, r"$\ln\chi_\perp$: ordered < 0 < chaotic")
        ax.grid(False)
        marks: list[Any] = []
        if min(edge.shape) > 1 and (edge < 0).any() and (edge > 0).any():
            ax.contour(found.C_W, found.C_b, edge, levels=[0.0], colors="black", linewidths=1.5)
            marks.append(Line2D([], [], color="black", linewidth=1.5, label="edge of chaos"))
        unbounded = (found.phase == "unbounded").astype(float)
        if min(growth.shape) > 1 and unbounded.any():
            ax.contourf(
                found.C_W, found.C_b, unbounded, levels=[0.5, 1.5], colors="none", hatches=["//"]
            )
            marks.append(
                Patch(facecolor="none", edgecolor="black", hatch="//", label="no fixed point")
            )
        where = self.point
        if where is not None and where.C_W is not None and where.C_b is not None:
            label = f"critical: {where.kind}"
            marks += ax.plot(
                where.C_W,
                where.C_b,
                marker="*",
                markersize=13,
                color="black",
                linestyle="none",
                clip_on=False,
                label=label,
            )
        for name, text in _REGIONS.items():
            _name_region(ax, found, name, text)
        if marks:
            legend_above(ax, marks, ncols=3)
        ax.set_xlim(found.C_W[0], found.C_W[-1])
        ax.set_ylim(found.C_b[0], found.C_b[-1])
        ax.set_xlabel("variance of the weights $C_W$")
        ax.set_ylabel("variance of the biases $C_b$")
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _name_region(ax: Axes, found: PhaseDiagram, name: str, text: str) -> None:
    """Write the name of a phase where it is widest."""
    from matplotlib.patheffects import withStroke
    from scipy.ndimage import distance_transform_edt

    inside = found.phase == name
    if not inside.any():
        return
    # Distances over the size of the diagram; its frame is a border as well.
    shape = [1.0 / n for n in inside.shape]
    depth = distance_transform_edt(np.pad(inside, 1), sampling=shape)[1:-1, 1:-1]
    row, column = np.unravel_index(int(np.argmax(depth)), depth.shape)
    ax.text(
        found.C_W[column],
        found.C_b[row],
        text,
        ha="center",
        va="center",
        fontsize=SMALL,
        path_effects=[withStroke(linewidth=3, foreground="white")],
        clip_on=True,
    )


class LearningCurveDisplay:
    """Test error against the number of training points, predicted and measured.

    Parameters
    ----------
    predicted : LearningCurve
        From :func:`kernreg.theory.eigenlearning.predict_learning_curve`.
    measured : LearningCurve, optional
        From :func:`kernreg.theory.eigenlearning.measure_learning_curve`.

    Attributes
    ----------
    ax_, figure_
        Where it was drawn.

    Examples
    --------
    >>> from kernreg import nn
    >>> X = np.random.default_rng(0).normal(size=(60, 2))
    >>> shown = LearningCurveDisplay.from_data(nn.mlp(1), X, X[:, 0], [10, 30], trials=2)
    >>> len(shown.ax_.get_legend().get_texts())
    4
    """

    def __init__(self, predicted: LearningCurve, measured: LearningCurve | None = None) -> None:
        self.predicted = predicted
        self.measured = measured

    @classmethod
    def from_data(
        cls,
        net: Any,
        X: Any,
        y: Any,
        n_grid: Any,
        alpha: float = 1e-3,
        *,
        trials: int = 10,
        seed: int = 0,
        ax: Axes | None = None,
        **options: Any,
    ) -> Self:
        """Predict, measure and draw.

        Parameters
        ----------
        net, X, y, n_grid, alpha
            As for :func:`kernreg.theory.eigenlearning.predict_learning_curve`.
        trials : int, default=10
            Random training sets of each size; 0 measures nothing.
        seed : int, default=0
            Of the training sets.
        ax : Axes, optional
            Where to draw.
        **options
            Passed on, such as ``kernel`` and ``noise``.
        """
        predicted = predict_learning_curve(net, X, y, n_grid, alpha, **options)
        measured = None
        if trials:
            rest = {name: value for name, value in options.items() if name != "method"}
            measured = measure_learning_curve(
                net, X, y, n_grid, alpha, trials=trials, seed=seed, **rest
            )
        return cls(predicted, measured).plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw: lines are predictions, points with standard errors are measured."""
        ax = given_or_new(ax)
        for part, colour in (("test", COLOURS[0]), ("train", COLOURS[1])):
            values = getattr(self.predicted, part)
            ax.plot(self.predicted.n, values, color=colour, label=f"{part}, predicted")
            if self.measured is not None:
                ax.errorbar(
                    self.measured.n,
                    getattr(self.measured, part),
                    yerr=getattr(self.measured, f"{part}_error"),
                    linestyle="none",
                    marker="o",
                    markersize=5,
                    color=colour,
                    label=f"{part}, measured",
                )
        ax.set_xscale("log")
        ax.set_yscale("log")
        if len(self.predicted.n) <= _FEW:
            ax.set_xticks(self.predicted.n, [f"{n:,}" for n in self.predicted.n])
            ax.set_xticks([], minor=True)
        ax.set_xlabel("training points $n$")
        ax.set_ylabel("mean squared error")
        legend_above(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self


class FiniteWidthDisplay:
    """Relative fluctuations of order 1/n along the depth of a network, beside real networks.

    Parameters
    ----------
    predicted : Coefficients
        From :func:`kernreg.theory.finite_width.coefficients`, for one input.
    samples : sequence of Sample
        From :func:`kernreg.theory.finite_width.sample`, of any depths.

    Attributes
    ----------
    ax_, figure_
        Where it was drawn.

    Examples
    --------
    >>> from kernreg import nn
    >>> shown = FiniteWidthDisplay.from_nonlinearity(nn.Relu(), 0.0, 2.0, depth=4)
    >>> shown.ax_.get_xlabel()
    'hidden layers'
    """

    def __init__(self, predicted: Coefficients, samples: Sequence[Sample] = ()) -> None:
        if predicted.K.ndim != 1:
            raise InvalidInputError(
                f"expected coefficients for one input, found {predicted.K.shape[1]} inputs."
            )
        self.predicted = predicted
        self.samples = tuple(samples)

    @classmethod
    def from_nonlinearity(
        cls,
        sigma: Any,
        C_b: float,
        C_W: float,
        depth: int,
        *,
        K1: float = 1.0,
        width: int | None = None,
        draws: int = 2000,
        seed: int = 0,
        ax: Axes | None = None,
    ) -> Self:
        """Predict, sample real networks if a width is given, and draw.

        Parameters
        ----------
        sigma, C_b, C_W, depth
            As for :func:`kernreg.theory.finite_width.coefficients`, in the "ntk"
            parameterization.
        K1 : float, default=1.0
            Variance of the first layer.
        width : int, optional
            Of the networks that are sampled, at up to four depths.
        draws, seed
            How many, and of which seed.
        ax : Axes, optional
            Where to draw.
        """
        predicted = coefficients(sigma, C_b, C_W, C_b, C_W, depth, K1=K1)
        samples = []
        if width is not None:
            for layers in np.unique(np.linspace(1, depth, min(4, depth)).round().astype(int)):
                samples.append(
                    sample(sigma, C_b, C_W, C_b, C_W, int(layers), width, draws, K1=K1, seed=seed)
                )
        return cls(predicted, samples).plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw ``V / K^2`` and ``n Var H / Theta^2``: both times the depth over the width."""
        ax = given_or_new(ax)
        found, layers = self.predicted, np.arange(len(self.predicted.K))
        names = (r"$V/K^2$", r"$n\,\mathrm{Var}\,H/\Theta^2$")
        ax.plot(layers, found.V / found.K**2, color=COLOURS[0], label=names[0])
        ax.plot(layers, found.ntk_variance, color=COLOURS[1], label=names[1])
        for number, drawn in enumerate(self.samples):
            depth = len(drawn.widths)
            size, tangent = float(drawn.K.value), float(drawn.Theta.value)
            points = (
                (float(drawn.V.value) / size**2, float(drawn.V.standard_error) / size**2),
                (
                    float(drawn.spread.value) / tangent**2,
                    float(drawn.spread.standard_error) / tangent**2,
                ),
            )
            for (value, bar), colour, what in zip(points, COLOURS, names, strict=False):
                ax.errorbar(
                    depth,
                    value,
                    yerr=bar,
                    marker="o",
                    color=colour,
                    linestyle="none",
                    label=f"{what}, width {drawn.widths[-1]}" if number == 0 else None,
                )
        ax.set_xlabel("hidden layers")
        ax.set_ylabel("coefficient of 1/width")
        legend_above(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self
