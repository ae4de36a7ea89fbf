"""How often intervals hold what they should."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.plotting.models import (
    last_step,
    model_of,
    numbers_of,
    require_std,
)
from kernreg.plotting.style import COLOURS, given_or_new, legend_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CalibrationDisplay"]

Floats = NDArray[np.float64]

_LEVELS = np.arange(1, 20) / 20
# Share of calibrated intervals that the band around the diagonal holds, at each level.
_SHARE = 0.95


class CalibrationDisplay:
    """How often intervals hold what they should: share of observations against nominal level.

    On the diagonal they are calibrated; below it error bars are too small. For probabilities of
    classes the tool is :class:`sklearn.calibration.CalibrationDisplay`.

    Parameters
    ----------
    nominal : array_like of shape (k,)
        Probabilities that central intervals are made for, between 0 and 1.
    observed : array_like of shape (k,)
        Shares of observations within them.
    count : int
        Observations.
    name : str, optional
        Of the model, for the legend.

    Attributes
    ----------
    lower, upper : ndarray of shape (k,)
        Shares between which calibrated intervals of independent observations are in 95 of 100
        samples, at each level, by the binomial distribution.
    ax_, figure_
        Where it was drawn.
    line_ : Line2D
        The observed shares.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.standard_normal(1000)
    >>> good = CalibrationDisplay.from_predictions(y, np.zeros(1000), np.ones(1000))
    >>> bool(np.abs(good.observed - good.nominal).max() < 0.06)
    True
    >>> bad = CalibrationDisplay.from_predictions(y, np.zeros(1000), np.full(1000, 0.5))
    >>> bool((bad.observed < bad.lower).all())
    True
    """

    def __init__(
        self, nominal: ArrayLike, observed: ArrayLike, count: int, *, name: str | None = None
    ) -> None:
        self.nominal, self.observed = (
            numbers_of("nominal", nominal),
            numbers_of("observed", observed),
        )
        if self.nominal.ndim != 1 or self.nominal.shape != self.observed.shape:
            raise InvalidInputError(
                "expected nominal and observed of shape (k,), found shapes "
                f"{self.nominal.shape} and {self.observed.shape}."
            )
        if not self.nominal.size or not ((self.nominal > 0) & (self.nominal < 1)).all():
            raise InvalidInputError(f"expected levels between 0 and 1, found {nominal!r}.")
        if not ((self.observed >= 0) & (self.observed <= 1)).all():
            raise InvalidInputError(f"expected shares from 0 to 1, found {observed!r}.")
        if count < 1:
            raise InvalidInputError(f"expected at least one observation, found {count!r}.")
        self.count, self.name = int(count), name
        lower, upper = scipy.stats.binom.interval(_SHARE, self.count, self.nominal)
        self.lower, self.upper = lower / self.count, upper / self.count

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        noise: float | None = None,
        levels: ArrayLike | None = None,
        name: str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Predict, count and draw.

        Parameters
        ----------
        estimator : estimator
            A regressor with ``predict_interval(X, level)`` or ``predict(X, return_std=True)``, or a
            pipeline that ends in one.
        X : array_like of shape (n, d)
            Rows that it was not fitted to.
        y : array_like of shape (n,) or (n, n_targets)
            What was observed.
        noise : float, optional
            Variance of the noise in y: intervals are then Gaussian, from standard deviations. If
            left out, they are those of ``predict_interval``; of a model without it they are
            Gaussian, with its ``noise_``, or 0.
        levels, name, ax
            As for :meth:`from_predictions`; the name is that of the class if left out.

        Raises
        ------
        InvalidInputError
            If the estimator predicts no standard deviations, or something does not fit.
        """
        last = model_of(estimator)
        name = type(last).__name__ if name is None else name
        if noise is None and hasattr(last, "predict_interval"):
            return cls._of_intervals(estimator, X, y, levels, name, ax)
        require_std(estimator)
        if noise is None:
            noise = float(getattr(last, "noise_", 0.0))
        if not 0 <= noise < np.inf:
            raise InvalidInputError(f"expected a noise >= 0, found {noise!r}.")
        mean, std = estimator.predict(X, return_std=True)
        spread = np.sqrt(np.square(std) + noise)
        return cls.from_predictions(y, mean, spread, levels=levels, name=name, ax=ax)

    @classmethod
    def _of_intervals(
        cls, estimator: Any, X: Any, y: ArrayLike, levels: Any, name: str, ax: Axes | None
    ) -> Self:
        """From the intervals that a model gives itself."""
        last, rows = last_step(estimator, X)
        seen = numbers_of("y", y)
        nominal = _LEVELS if levels is None else np.atleast_1d(numbers_of("levels", levels))
        low, high = last.predict_interval(rows, nominal)
        if low.shape[1:] != seen.shape:
            raise InvalidInputError(f"expected y of shape {low.shape[1:]}, found {seen.shape}.")
        within = (low <= seen) & (seen <= high)
        observed = within.reshape(len(nominal), -1).mean(axis=1)
        return cls(nominal, observed, seen.size, name=name).plot(ax)

    @classmethod
    def from_predictions(
        cls,
        y: ArrayLike,
        mean: ArrayLike,
        std: ArrayLike,
        *,
        levels: ArrayLike | None = None,
        name: str | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Count and draw.

        Parameters
        ----------
        y : array_like of shape (n,) or (n, n_targets)
            What was observed.
        mean, std : array_like of the shape of y
            Of Gaussian predictions, noise included.
        levels : array_like of shape (k,), optional
            Probabilities of central intervals; 0.05, 0.1, ..., 0.95 if left out.
        name : str, optional
            Of the model, for the legend.
        ax : Axes, optional
            Where to draw; several models can share axes.

        Raises
        ------
        InvalidInputError
            If shapes differ, or numbers are out of range.
        """
        seen, middle, spread = numbers_of("y", y), numbers_of("mean", mean), numbers_of("std", std)
        if seen.ndim not in (1, 2) or not seen.shape == middle.shape == spread.shape:
            raise InvalidInputError(
                "expected y, mean and std of one shape, (n,) or (n, n_targets), found shapes "
                f"{seen.shape}, {middle.shape} and {spread.shape}."
            )
        if not seen.size:
            raise InvalidInputError("expected at least one observation, found none.")
        if (spread < 0).any():
            raise InvalidInputError(f"expected std >= 0, found {spread.min():g}.")
        nominal = _LEVELS if levels is None else numbers_of("levels", levels)
        reach = scipy.stats.norm.ppf((1 + np.atleast_1d(nominal)) / 2)
        off = np.abs(seen - middle).ravel()
        observed = [float(np.mean(off <= half * spread.ravel())) for half in reach]
        return cls(nominal, observed, seen.size, name=name).plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw: the dashed diagonal is calibrated, within the band by chance."""
        ax = given_or_new(ax)
        # Another model may have drawn the diagonal already.
        there = ax.get_legend_handles_labels()[1]
        drawn = [label for label in there if label not in ("ideal", self._band)]
        if "ideal" not in there:
            ax.plot([0, 1], [0, 1], color="#555555", linestyle="--", linewidth=1, label="ideal")
        if self._band not in there:
            ax.fill_between(
                self.nominal,
                self.lower,
                self.upper,
                color="#555555",
                alpha=0.15,
                linewidth=0,
                label=self._band,
            )
        (self.line_,) = ax.plot(
            self.nominal,
            self.observed,
            "o-",
            color=COLOURS[len(drawn) % len(COLOURS)],
            markersize=4,
            label=self.name or "observed",
        )
        ax.set_xlabel("nominal level of the interval")
        ax.set_ylabel("share of observations within")
        ax.set_xlim(0, 1)
        ax.set_ylim(0, 1)
        legend_above(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @property
    def _band(self) -> str:
        return f"{100 * _SHARE:g} % range by chance, n = {self.count}"
