"""Mean, error bars and drawn functions of an ensemble or a posterior."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array

from kernreg.exceptions import InvalidInputError
from kernreg.plotting.models import (
    at_time,
    column_of,
    last_step,
    model_of,
    numbers_of,
    one_target,
    require_std,
)
from kernreg.plotting.style import COLOURS, given_or_new, legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["EnsembleDisplay"]

Floats = NDArray[np.float64]

# Times of which the largest is this many times the smallest are drawn over their logarithm.
_WIDE = 30.0


class EnsembleDisplay:
    """Mean, error bars and drawn functions of an ensemble of networks, or of a posterior.

    For :class:`kernreg.EnsembleRegressor`, :class:`kernreg.GaussianProcessRegressor` and other
    regressors that predict standard deviations, alone or at the end of a pipeline.

    Parameters
    ----------
    x : array_like of shape (m,)
        A feature, or times, ascending.
    mean, std : array_like of shape (m,) or (m, k)
        Of k outputs; each is a line with a band.
    samples : array_like of shape (m, s), optional
        Functions that were drawn.
    points : pair of array_like of shape (n,), optional
        Where targets are, and what they are.
    targets : array_like of shape (k,), optional
        Of each output, drawn across all x.
    n_std : float, default=2.0
        Standard deviations from the mean to the edge of the band.
    labels : sequence of str, optional
        Of the outputs.
    xlabel, ylabel : str
        Of the axes.
    time_axis : bool, default=False
        Whether x are times, which get a logarithmic axis if they are far apart.

    Attributes
    ----------
    ax_, figure_
        Where it was drawn.
    lines_, bands_ : list of Line2D, list of collection
        Means and error bars, one for each output.

    Examples
    --------
    >>> from kernreg import EnsembleRegressor, nn
    >>> X = np.linspace(-1, 1, 8)[:, None]
    >>> model = EnsembleRegressor(nn.mlp(depth=1)).fit(X, np.sin(3 * X[:, 0]))
    >>> shown = EnsembleDisplay.from_estimator(model, X, time=100.0, limits=(-2, 2))
    >>> shown.mean.shape, shown.samples.shape
    ((200, 1), (200, 3))
    >>> EnsembleDisplay.over_time(model, X[:2], [1, 10, 100]).mean.shape
    (3, 2)
    """

    def __init__(
        self,
        x: ArrayLike,
        mean: ArrayLike,
        std: ArrayLike,
        *,
        samples: ArrayLike | None = None,
        points: tuple[ArrayLike, ArrayLike] | None = None,
        targets: ArrayLike | None = None,
        n_std: float = 2.0,
        labels: Any = None,
        xlabel: str = "input",
        ylabel: str = "output",
        time_axis: bool = False,
    ) -> None:
        self.x = numbers_of("x", x)
        if self.x.ndim != 1 or not self.x.size or (np.diff(self.x) < 0).any():
            raise InvalidInputError(f"expected x as ascending numbers, found shape {self.x.shape}.")
        if time_axis and self.x[0] < 0:
            raise InvalidInputError(f"expected times >= 0, found {self.x[0]:g}.")
        m = len(self.x)
        self.mean, self.std = (
            found[:, None] if found.ndim == 1 else found
            for found in (numbers_of("mean", mean), numbers_of("std", std))
        )
        k = self.mean.shape[-1]
        if self.mean.shape != (m, k) or self.std.shape != (m, k):
            raise InvalidInputError(
                f"expected mean and std of shape ({m},) or ({m}, k), one for each x, found shapes "
                f"{np.shape(mean)} and {np.shape(std)}."
            )
        if (self.std < 0).any():
            raise InvalidInputError(f"expected std >= 0, found {self.std.min():g}.")
        if not n_std > 0:
            raise InvalidInputError(f"expected n_std > 0, found {n_std!r}.")
        self.samples = np.empty((m, 0)) if samples is None else numbers_of("samples", samples)
        if self.samples.ndim != 2 or len(self.samples) != m:
            raise InvalidInputError(
                f"expected samples of shape ({m}, s), found shape {self.samples.shape}."
            )
        self.points: tuple[Floats, Floats] | None = None
        if points is not None:
            at, values = numbers_of("points", points[0]), numbers_of("points", points[1])
            if at.ndim != 1 or at.shape != values.shape:
                raise InvalidInputError(
                    "expected points as two arrays of shape (n,), found shapes "
                    f"{at.shape} and {values.shape}."
                )
            self.points = at, values
        self.targets = None if targets is None else numbers_of("targets", targets)
        if self.targets is not None and self.targets.shape != (k,):
            raise InvalidInputError(
                f"expected {k} targets, one for each output, found shape {self.targets.shape}."
            )
        if labels is not None and len(labels) != k:
            raise InvalidInputError(f"expected {k} labels, found {len(labels)}.")
        self.n_std = float(n_std)
        self.labels = None if labels is None else [str(label) for label in labels]
        self.xlabel, self.ylabel = xlabel, ylabel
        self.time_axis = time_axis

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike | None = None,
        *,
        feature: int | str = 0,
        time: float | None = None,
        target: int = 0,
        samples: int = 3,
        n_std: float = 2.0,
        limits: tuple[float, float] | None = None,
        grid_resolution: int = 200,
        random_state: Any = 0,
        ax: Axes | None = None,
    ) -> Self:
        """Predict along one feature, and draw.

        Parameters
        ----------
        estimator : estimator
            A regressor with ``predict(X, return_std=True)``, or a pipeline that ends in one. The
            band is that of its standard deviations: those of kernreg are without noise.
        X : array_like of shape (n, d)
            Rows. The feature runs through their range, the others stay at their medians.
        y : array_like of shape (n,) or (n, n_targets), optional
            Targets of these rows, drawn as points.
        feature : int or str, default=0
            Which one, by its place or the name of its column.
        time : float, optional
            Of an ensemble, another time than that of its fit.
        target : int, default=0
            Which, of several.
        samples : int, default=3
            Functions that are drawn; 0 for none.
        n_std : float, default=2.0
            Standard deviations from the mean to the edge of the band.
        limits : pair of float, optional
            From where to where the feature runs.
        grid_resolution : int, default=200
            Places along the feature.
        random_state : int, RandomState or None, default=0
            Draws the functions.
        ax : Axes, optional
            Where to draw.

        Raises
        ------
        InvalidInputError
            If the estimator predicts no standard deviations, or something does not fit.
        """
        require_std(estimator)
        values = check_array(X, dtype=np.float64, input_name="X")
        column, name = column_of(X, values.shape[1], feature)
        low, high = (values[:, column].min(), values[:, column].max()) if limits is None else limits
        if not -np.inf < low < high < np.inf:
            raise InvalidInputError(
                f"expected feature {feature!r} to run from a number to a larger one, found "
                f"{low!r} to {high!r}: give limits."
            )
        if grid_resolution < 2 or samples < 0:
            raise InvalidInputError(
                "expected grid_resolution >= 2 and samples >= 0, found "
                f"{grid_resolution!r} and {samples!r}."
            )
        grid = np.tile(np.median(values, axis=0), (grid_resolution, 1))
        grid[:, column] = np.linspace(low, high, grid_resolution)
        # A model that was fitted to a table wants one.
        rows = type(X)(grid, columns=X.columns) if hasattr(X, "iloc") else grid
        options = at_time(estimator, time)
        mean, std = estimator.predict(rows, return_std=True, **options)
        drawn = None
        if samples:
            last, inner = last_step(estimator, rows)
            found = last.sample_y(inner, samples, random_state=random_state, **options)
            drawn = one_target(found, target, axis=1) if np.ndim(found) == 3 else found
        points = None
        if y is not None:
            shown = one_target(numbers_of("y", y), target, axis=1)
            if shown.shape != (len(values),):
                raise InvalidInputError(
                    f"expected {len(values)} targets, one per row, found shape {np.shape(y)}."
                )
            points = values[:, column], shown
        return cls(
            grid[:, column],
            one_target(mean, target, axis=1),
            one_target(std, target, axis=1),
            samples=drawn,
            points=points,
            n_std=n_std,
            xlabel=name,
        ).plot(ax)

    @classmethod
    def over_time(
        cls,
        estimator: Any,
        X: Any,
        times: ArrayLike,
        y: ArrayLike | None = None,
        *,
        target: int = 0,
        samples: int = 0,
        random_state: Any = 0,
        n_std: float = 2.0,
        labels: Any = None,
        ax: Axes | None = None,
    ) -> Self:
        """Predict some rows at several times of training, and draw.

        Parameters
        ----------
        estimator : EnsembleRegressor
            Fitted, or a pipeline that ends in one.
        X : array_like of shape (k, d)
            A few rows: each is a line with a band.
        times : array_like of shape (m,)
            Ascending, finite; steps, if the model was trained by steps.
        y : array_like of shape (k,) or (k, n_targets), optional
            Targets of these rows, drawn as dashed lines.
        target : int, default=0
            Which, of several.
        samples : int, default=0
            Networks that are drawn and followed through training, each a thin line for every row.
        random_state : int, RandomState or None, default=0
            Draws them.
        n_std : float, default=2.0
            Standard deviations from the mean to the edge of the band.
        labels : sequence of str, optional
            Of the rows.
        ax : Axes, optional
            Where to draw.

        Raises
        ------
        InvalidInputError
            If the estimator is not trained over time, or something does not fit.
        """
        require_std(estimator)
        moments = np.atleast_1d(numbers_of("times", times))
        options = at_time(estimator, moments)
        if moments.ndim != 1 or not moments.size or (moments < 0).any():
            raise InvalidInputError(f"expected times >= 0, found {times!r}.")
        if samples < 0:
            raise InvalidInputError(f"expected samples >= 0, found {samples!r}.")
        mean, std = estimator.predict(X, return_std=True, **options)
        drawn = None
        if samples:
            last, inner = last_step(estimator, X)
            paths = last.sample_y(inner, samples, random_state=random_state, **options)
            # Shape (times, rows, samples), or with targets before the last axis.
            paths = paths if paths.ndim == 3 else paths[:, :, target]
            drawn = paths.reshape(len(moments), -1)
        shown = None if y is None else one_target(numbers_of("y", y), target, axis=1)
        count = np.shape(mean)[1]
        trained_by_steps = getattr(model_of(estimator), "steps", None) is not None
        return cls(
            moments,
            one_target(mean, target, axis=2),
            one_target(std, target, axis=2),
            samples=drawn,
            targets=shown,
            n_std=n_std,
            labels=[f"row {row}" for row in range(count)] if labels is None else labels,
            xlabel="steps of training" if trained_by_steps else "time of training",
            time_axis=True,
        ).plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw: lines are means, bands are error bars, thin lines are functions drawn."""
        ax = given_or_new(ax)
        many = self.mean.shape[1] > 1
        names = self.labels or [
            "mean" if not many else f"output {k}" for k in range(len(self.mean.T))
        ]
        self.lines_: list[Any] = []
        self.bands_: list[Any] = []
        # One grey entry explains the bands of all lines.
        band = f"± {self.n_std:g} standard deviations"
        for k, (mean, std) in enumerate(zip(self.mean.T, self.std.T, strict=True)):
            colour = COLOURS[k % len(COLOURS)]
            self.bands_.append(
                ax.fill_between(
                    self.x,
                    mean - self.n_std * std,
                    mean + self.n_std * std,
                    color=colour,
                    alpha=0.18,
                    linewidth=0,
                    label=None if many else band,
                )
            )
            self.lines_ += ax.plot(self.x, mean, color=colour, linewidth=1.8, label=names[k])
        if many:
            ax.fill_between([], [], color="#555555", alpha=0.18, linewidth=0, label=band)
        each = max(1, self.samples.shape[1] // self.mean.shape[1])
        for number, drawn in enumerate(self.samples.T):
            # Those of several outputs have the colours of their means.
            colour = COLOURS[number // each % len(COLOURS)] if many else COLOURS[1]
            label = "drawn" if number == 0 and not many else None
            ax.plot(self.x, drawn, color=colour, linewidth=0.8, alpha=0.8, label=label)
        if many and self.samples.size:
            ax.plot([], [], color="#555555", linewidth=0.8, label="drawn")
        if self.points is not None:
            ax.plot(*self.points, "o", color="black", markersize=4, alpha=0.7, label="targets")
        if self.targets is not None:
            for k, value in enumerate(self.targets):
                colour = COLOURS[k % len(COLOURS)]
                ax.axhline(value, color=colour, linestyle="--", linewidth=1.0)
            ax.plot([], [], color="#555555", linestyle="--", linewidth=1.0, label="target")
        if self.time_axis:
            self._scale_times(ax)
        ax.set_xlabel(self.xlabel)
        ax.set_ylabel(self.ylabel)
        legend_above(ax, ncols=3 if many else 2)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _scale_times(self, ax: Axes) -> None:
        positive = self.x[self.x > 0]
        if len(positive) < 2 or positive[-1] < _WIDE * positive[0]:
            return
        if self.x[0] == 0:
            # Time 0, the ensemble before training, has no logarithm.
            ax.set_xscale("symlog", linthresh=float(positive[0]), linscale=0.5)
        else:
            ax.set_xscale("log")
