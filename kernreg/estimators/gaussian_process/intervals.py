"""Intervals of new observations around a Gaussian process, learned from rows that were left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from kernreg.estimators.checks import check_numbers
from kernreg.estimators.gaussian_process.base import GaussianProcess
from kernreg.estimators.held_out import held_out_scores
from kernreg.estimators.intervals import ascending, bounds_of, check_level
from kernreg.estimators.targets import Targets
from kernreg.exceptions import InvalidInputError

__all__ = ["ProcessWithIntervals"]

Floats = NDArray[np.float64]


class ProcessWithIntervals(GaussianProcess):
    """Base of the regression: ``predict`` gives means and standard deviations, this the bounds.

    A fit sets ``_unit``.
    """

    # What targets were divided by.
    _unit: float
    # Sizes of residuals of rows left out; None until they are asked for.
    _held_out: Floats | None

    def predict_interval(
        self, X: Any, level: float = 0.9, *, method: str = "calibrated"
    ) -> tuple[Floats, Floats]:
        """Bounds that a new observation, noise included, is within with some probability.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Data.
        level : float or sequence of float, default=0.9
            The probability, between 0 and 1; of several, results have an axis for them in front.
        method : {"calibrated", "gaussian"}, default="calibrated"
            Whether standard deviations are multiplied by the quantile that residuals of rows left
            out have over theirs, whatever the noise is like, or by that of Gaussian noise.

        Returns
        -------
        lower, upper : ndarray of shape (n_rows,) or (n_rows, n_targets)
            Symmetric about the mean, for a row of weight 1.

        Raises
        ------
        InvalidInputError
            If the level is not between 0 and 1, or fewer rows were left out than it needs.
        """
        check_level(level)
        if method not in ("calibrated", "gaussian"):
            raise InvalidInputError(f"expected method calibrated or gaussian, found {method!r}")
        check_is_fitted(self, "dual_coef_")
        if method == "calibrated" and self._held_out is None:
            values = self._targets + np.reshape(self.y_mean_, (1, -1)) / self._unit
            targets = Targets(values, self._weights, self._centred, self._correct)
            self._held_out = self._sizes_left_out(self.X_fit_, targets)
        mean, std = self.predict(X, return_std=True)
        spread = np.sqrt(std**2 + self.noise_)
        if method == "calibrated":
            assert self._held_out is not None
            return bounds_of(self._held_out, level, mean, spread)
        factor = scipy.stats.norm.ppf((1 + np.atleast_1d(level)) / 2)
        half = factor.reshape(-1, *[1] * mean.ndim) * spread
        lower, upper = mean - half, mean + half
        return (lower[0], upper[0]) if np.ndim(level) == 0 else (lower, upper)

    def _calibrate(self, X: NDArray[Any], targets: Targets, loo: Any, ridge: float) -> None:
        # Learned when it is asked for, unless the rows are gone then.
        self._held_out = None
        if self._kept.features is not None:
            self._held_out = self._sizes_left_out(X, targets)

    def _sizes_left_out(self, X: NDArray[Any], targets: Targets) -> Floats:
        """Residuals of rows left out over their standard deviations, ascending, shape (n, t)."""
        found = held_out_scores(
            lambda rows: self._fitted(X[rows]),
            X,
            targets,
            self._ridge,
            "absolute",
            self.max_memory,
        )
        spread = np.sqrt(found.variance + self._ridge / found.weights)[:, None]
        off = np.abs(found.targets - found.predictions)
        with np.errstate(divide="ignore", invalid="ignore"):
            sizes = np.where((off == 0) & (spread == 0), 0.0, off / spread)
        return ascending(sizes)

    def _own_state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        arrays, header = super()._own_state()
        return arrays if self._held_out is None else arrays | {"held_out": self._held_out}, header

    def _restore(self, arrays: dict[str, NDArray[Any]], header: dict[str, Any]) -> None:
        super()._restore(arrays, header)
        self._held_out = arrays.get("held_out")
        if self._held_out is None:
            if self._kept.features is not None:
                raise ValueError("expected residuals of rows left out")
            return
        check_numbers(self._held_out, (-1, self._targets.shape[1]))
        if (np.diff(self._held_out, axis=0) < 0).any() or (self._held_out < 0).any():
            raise ValueError("expected sizes >= 0 in ascending order")
