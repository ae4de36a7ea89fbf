"""Gaussian process regression with the kernel of an infinitely wide network."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.utils import check_random_state

from kernreg import nn
from kernreg.estimators.gaussian_process.intervals import ProcessWithIntervals
from kernreg.estimators.posterior import check_covariance_fits, prior_variance
from kernreg.estimators.sampling import conditioned, exact_fits, from_covariance, from_kernel
from kernreg.exceptions import InvalidInputError
from kernreg.solvers.base import Solver

__all__ = ["GaussianProcessRegressor"]

Floats = NDArray[np.float64]

_FIRST_ROWS = 256
# Of the prior: targets of a twentieth were still fitted as well as those of its size.
_SMALL = 0.05
# Of the targets, from which on it is all noise.
_NOISE = 0.9


class GaussianProcessRegressor(MultiOutputMixin, RegressorMixin, ProcessWithIntervals):
    """Posterior of a network of infinite width, with error bars, for data with Gaussian noise.

    With ``kernel="nngp"`` this is exact Bayesian inference for the network, all weights Gaussian;
    with ``kernel="ntk"`` the same with the neural tangent kernel as the prior. Methods, arguments
    and shapes of results are those of :class:`sklearn.gaussian_process.GaussianProcessRegressor`.

    Parameters
    ----------
    network : Layer or str, optional
        The network, from :mod:`kernreg.nn`, or its code; ``nn.mlp(depth=3)`` if left out.
    kernel : {"nngp", "ntk"}, default="nngp"
        Which kernel of the network is the prior covariance.
    alpha : float or array-like of shape (n_samples,), default=1e-2
        Variance of the noise, where tuning starts; one number for each row is the noise of each,
        of which only the mean is tuned.
    alpha_scale : {"mean_diag", "absolute"}, default="mean_diag"
        Whether ``alpha`` is relative to the (sample-weighted) mean of the kernel's diagonal over
        the training rows, or absolute. ``noise_`` is absolute.
    optimizer : "fmin_l_bfgs_b", callable or None, default="fmin_l_bfgs_b"
        How ``fit`` tunes the network's numbers and the noise: a callable is called as
        ``optimizer(function, start, bounds=bounds)`` and returns the best vector and its value,
        ``function(theta)`` being minus the log marginal likelihood and its gradient. None keeps
        them as they are given.
    n_restarts_optimizer : int, default=0
        Further starts, drawn at random.
    normalize_y : bool, default=False
        Whether targets, less their mean, are divided by their standard deviation for the fit (one
        for all targets), and results multiplied. Networks whose layers share their numbers cannot
        be tuned to targets far smaller than their outputs without it. An absolute ``alpha`` is that
        of the divided targets, as in scikit-learn.
    fit_intercept : bool, default=True
        Whether the weighted mean of the targets is the mean of the prior, which is 0 if not (as in
        scikit-learn).
    solver : str or a solver, default="auto"
        As in :class:`KernelRegressor`. A factor gives variances for n^2 operations a row, PCG for a
        solve. With "restricted" they are those of the posterior of its own model: what its centres
        do not span keeps the variance of the prior.
    dtype : {"float64"}, optional
        Of kernel, factor and predictions: variances are small differences, of which float32 would
        leave no digit.
    device, backend, precision, max_memory, verbose, store
        As in :class:`KernelRegressor`.
    random_state : int, RandomState or None, default=None
        Draws the starts of the optimizer.

    Attributes
    ----------
    network_ : Layer
        The network with the numbers that were tuned.
    noise_ : float
        Variance of the noise, absolute, of a row of weight 1.
    alpha_ : float
        The same in the units of ``alpha``.
    log_marginal_likelihood_value_ : float or None
        Log marginal likelihood of all training rows, of the divided targets if they are; None with
        a solver that gives no determinant.
    theta_, theta_names_ : ndarray of shape (k,), list of str
        What was tuned: logarithms of standard deviations and of alpha, other numbers as they are.
    dual_coef_, X_fit_, y_mean_, kernel_, plan_, solution_, n_features_in_, feature_names_in_
        As in :class:`KernelRegressor`.
    X_train_, y_train_ : ndarray
        Training rows and targets.

    Notes
    -----
    Standard deviations of 0 stay; those of several layers with one name, such as ``W_std`` of
    ``nn.mlp``, are one number. More than 2,000 rows are tuned on a random 2,000 of them, the
    same in every fit; the posterior is that of all.

    Time: tuning some 50 times a Gram matrix and n^3 operations for at most 2,000 rows; then n^3/3
    for the factor, n^2 for each variance. Memory n^2/2 numbers, and tiles for new rows.

    What the error bars mean, and do not, is in the guide, under uncertainty.

    References
    ----------
    Lee et al., "Deep neural networks as Gaussian processes" (2018).
    Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), chapters 2 and 5.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import GaussianProcessRegressor, nn
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-2, 2, (40, 1))
    >>> y = np.sin(2 * X[:, 0]) + 0.1 * rng.standard_normal(40)
    >>> model = GaussianProcessRegressor(nn.mlp(depth=2, activation="erf")).fit(X, y)
    >>> mean, std = model.predict([[0.5], [4.0]], return_std=True)
    >>> bool(std[0] < 0.1 < std[1]), 0.05 < model.noise_**0.5 < 0.2
    (True, True)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **ProcessWithIntervals._parameter_constraints,
        "normalize_y": ["boolean"],
    }

    def __init__(
        self,
        network: nn.Layer | str | None = None,
        kernel: str = "nngp",
        alpha: Any = 1e-2,
        alpha_scale: str = "mean_diag",
        optimizer: str | Callable[..., Any] | None = "fmin_l_bfgs_b",
        n_restarts_optimizer: int = 0,
        normalize_y: bool = False,
        fit_intercept: bool = True,
        solver: str | Solver = "auto",
        dtype: Any = None,
        device: str = "cpu",
        backend: str = "auto",
        precision: str = "tf32x3",
        max_memory: float | str | None = None,
        verbose: bool | int = 0,
        store: str | os.PathLike[str] | None = None,
        input_shape: tuple[int, ...] | None = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(
            network,
            kernel,
            alpha,
            alpha_scale,
            optimizer,
            n_restarts_optimizer,
            fit_intercept,
            solver,
            dtype,
            device,
            backend,
            precision,
            max_memory,
            verbose,
            store,
            input_shape,
            random_state,
        )
        self.normalize_y = normalize_y

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False  # before it, predictions are those of the prior
        return tags

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Tune the hyperparameters, and solve for the posterior.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets; several have the same kernel and noise.
        sample_weight : float or array-like of shape (n_samples,), optional
            The noise of a row is divided by its weight; the likelihood counts it so many times.
            Rows of weight 0 are left out.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If data or parameters cannot be used.
        MemoryBudgetError
            If the fit does not fit the memory budget; nothing was allocated.
        NotPositiveDefiniteError
            If the kernel matrix has no Cholesky factor, even with a jitter.
        """
        self._require_one_process()
        alpha, sample_weight, counted = self._noise(X, sample_weight)
        X, y, weights = self._validated(X, y, sample_weight, multi_output=True, y_numeric=True)
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        self._unit = _size_of(y, weights, self.fit_intercept) if self.normalize_y else 1.0
        self._fit_process(X, y / self._unit, weights, alpha, counted)
        self.noise_ = self._ridge * self._unit**2
        self.y_mean_ = self.y_mean_ * self._unit
        self.dual_coef_ = self.dual_coef_ * self._unit
        self.solution_ = replace(self.solution_, value=self.solution_.value * self._unit)
        if self.optimizer is not None:
            self._warn_of_noise()
        return self

    def predict(self, X: Any, return_std: bool = False, return_cov: bool = False) -> Any:
        """Posterior mean, with standard deviations or covariances; of the prior before ``fit``.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Data.
        return_std : bool, default=False
            Also standard deviations of the network's output, without noise, in tiles of rows.
        return_cov : bool, default=False
            Also its covariance.

        Returns
        -------
        mean : ndarray of shape (n_rows,) or (n_rows, n_targets)
            Means.
        std : ndarray of the shape of mean
            If asked for; targets have the same.
        cov : ndarray of shape (n_rows, n_rows) or (n_rows, n_rows, n_targets)
            If asked for.

        Raises
        ------
        InvalidInputError
            If both are asked for.
        MemoryBudgetError
            If a covariance does not fit the memory budget.
        """
        if return_std and return_cov:
            raise InvalidInputError("ask for one of return_std and return_cov")
        fitted = hasattr(self, "dual_coef_")
        rows = self._rows(X)
        mean = self._predict_targets(X) if fitted else np.zeros(len(rows))
        if not return_std and not return_cov:
            return mean
        if return_cov:
            known = len(self.X_fit_) if fitted else 0
            copies = 2 + (self._targets.shape[1] if fitted else 0)
            check_covariance_fits(len(rows), known, self.max_memory, copies)
            if not fitted:
                return mean, np.asarray(self._operator(rows).to_dense())
            return mean, self._for_targets(self._unit**2 * self._after().covariance(rows))
        if not fitted:
            return mean, np.sqrt(prior_variance(self._operator(rows)))
        return mean, self._for_targets(self._unit * np.sqrt(self._after().variance(rows)))

    def sample_y(
        self, X: Any, n_samples: int = 1, random_state: Any = 0, *, method: str = "auto"
    ) -> Floats:
        """Draw functions from the posterior, or from the prior before ``fit``.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
            Where to evaluate them.
        n_samples : int, default=1
            How many.
        random_state : int, RandomState or None, default=0
            Draws them.
        method : {"auto", "exact", "pathwise"}, default="auto"
            "exact" makes the covariance of all rows; "pathwise" draws from the prior by products
            with its kernel alone, and corrects by a solve: memory O(n + n_rows) for each sample.
            "auto" is exact up to 3,000 rows, if that fits.

        Returns
        -------
        ndarray of shape (n_rows, n_samples) or (n_rows, n_targets, n_samples)
            Values without noise.

        References
        ----------
        Wilson et al., "Pathwise conditioning of Gaussian processes" (2021).
        """
        if method not in ("auto", "exact", "pathwise"):
            raise InvalidInputError(f"expected method auto, exact or pathwise, found {method!r}")
        if n_samples < 1:
            raise InvalidInputError(f"expected n_samples >= 1, found {n_samples!r}")
        rng = check_random_state(random_state)
        rows = self._rows(X)
        fitted = hasattr(self, "dual_coef_")
        known = len(self.X_fit_) if fitted else 0
        if method == "auto":
            method = "exact" if exact_fits(len(rows), known, self.max_memory) else "pathwise"
        t = self._targets.shape[1] if fitted else 1
        if method == "exact":
            mean = self.predict(X)
            cov = (
                self._unit**2 * self._after().covariance(rows)
                if fitted
                else np.asarray(self._operator(rows).to_dense())
            )
            drawn = from_covariance(cov, t * n_samples, rng)
            drawn = drawn.reshape(len(rows), t, n_samples) + mean.reshape(len(rows), -1, 1)
        else:
            drawn = self._pathwise(rows, t, n_samples, rng)
        return drawn[:, 0] if not fitted or np.ndim(self.y_mean_) == 0 else drawn

    @property
    def X_train_(self) -> NDArray[np.floating]:
        """Training rows, as scikit-learn calls them."""
        return self.X_fit_

    @property
    def y_train_(self) -> Floats:
        """Training targets."""
        return np.asarray(self._targets * self._unit + self.y_mean_).reshape(
            -1, *np.shape(self.y_mean_)
        )

    def _warn_of_noise(self) -> None:
        """Warn where tuning found noise only, and the network cannot shrink to the targets."""
        size = float(np.sqrt(np.mean(self._targets**2)))
        given = self._operator(self.X_fit_[:_FIRST_ROWS])
        prior = float(np.sqrt(np.mean(prior_variance(given))))
        if self._ridge**0.5 > _NOISE * size and 0 < size < _SMALL * prior:
            warnings.warn(
                f"tuning found noise only. Targets have a standard deviation of {size:.3g}, the "
                f"network's outputs {prior:.3g}, and all its layers shrink alike: give "
                "normalize_y=True",
                UserWarning,
                stacklevel=3,
            )

    def _own_state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        arrays, header = super()._own_state()
        return arrays, header | {"unit": self._unit}

    def _restore(self, arrays: dict[str, NDArray[Any]], header: dict[str, Any]) -> None:
        super()._restore(arrays, header)
        self._unit = float(header["unit"])
        if not 0 < self._unit < np.inf:
            raise ValueError(f"expected a positive unit, found {self._unit}")
        self.noise_ = self._ridge * self._unit**2

    def _pathwise(self, rows: Floats, t: int, n_samples: int, rng: np.random.RandomState) -> Floats:
        if not hasattr(self, "dual_coef_"):
            return from_kernel(self._operator(rows), n_samples, rng)[:, None]
        after = self._after()
        if after.features is not None:
            raise InvalidInputError(
                "this model keeps its centres only, and pathwise draws need all rows: use "
                "method='exact' for fewer rows at once, or fit with another solver"
            )

        def solve(columns: Floats) -> Floats:
            assert after.solver is not None
            return np.asarray(after.solver.solve(after.state, columns).value)

        drawn = conditioned(
            self._fitted,
            self.X_fit_,
            rows,
            np.repeat(self._targets, n_samples, axis=1),
            self._ridge / self._weights,
            solve,
            rng,
        )
        mean = np.reshape(self.y_mean_, (1, -1, 1))
        return self._unit * drawn.reshape(len(rows), t, n_samples) + mean


def _size_of(y: Floats, weights: Floats, centred: bool) -> float:
    """Standard deviation of all targets, about the mean of each if it is taken off."""
    targets = y.reshape(len(y), -1)
    mean = np.average(targets, axis=0, weights=weights) * centred
    size = float(np.sqrt(np.average(np.mean((targets - mean) ** 2, axis=1), weights=weights)))
    return size if 0 < size < np.inf else 1.0
