"""One scale per column, learned by the gradient of leave-one-out errors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import scipy.optimize
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from kernreg import nn
from kernreg.exceptions import BackendError, InvalidInputError
from kernreg.operators.dense import gram
from kernreg.operators.inputs import check_network, kernel_names

__all__ = ["MAX_ITER", "ColumnScales", "Learned", "learn_scales"]

_REACH = (-7.0, 3.0)
"""Of logarithms of scales: columns below do not matter, and above each row would be alone."""
_RIDGES = (-18.0, 3.0)
"""Logarithms of the ridge, in units of the mean diagonal."""
_HELD_OUT = 0.2
_MAX_ROWS, _PENALTY = 700, 1e-3
MAX_ITER = 60
"""Steps of L-BFGS at most."""
_PASSES = 10
"""Backward passes for slopes at most."""
_STARTS = np.logspace(-7, 0, 15)


@dataclass
class _Problem:
    """Leave-one-out error of kernel ridge regression as a function of scales and ridge."""

    network: nn.Layer
    kernel: str
    X: Tensor
    y: Tensor
    w: Tensor
    penalty: float

    def loss(self, K: Tensor, log_ridge: Tensor) -> Tensor:
        """Mean squared error of rows left out, of targets of mean square 1."""
        inverse = torch.linalg.inv(K + torch.diag(self.ridges(K, torch.exp(log_ridge))))
        errors = (inverse @ self.y) / torch.diagonal(inverse)[:, None]
        return (self.w @ (errors * errors)).mean() / self.w.sum()

    def ridges(self, K: Tensor, ridge: Any) -> Tensor:
        """What is added to the diagonal; a row of weight 2 counts as two rows."""
        return ridge * torch.diagonal(K).mean() / self.w

    def value(self, theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """The penalised loss and its gradient by logarithms of scales, and of the ridge."""
        point = torch.tensor(theta, requires_grad=True)
        logs, log_ridge = point[:-1], point[-1]
        try:
            K = gram(self.network, self.X * torch.exp(logs), kernel=self.kernel)
            loss = torch.log(self.loss(K, log_ridge)) + self.penalty * (logs * logs).mean()
            (slope,) = torch.autograd.grad(loss, point)
        except (torch.linalg.LinAlgError, BackendError, InvalidInputError):
            # A singular matrix, or rows so large that a series or the kernel ends: no place to go.
            return np.inf, np.zeros_like(theta)
        if not (bool(torch.isfinite(loss)) and bool(torch.isfinite(slope).all())):
            return np.inf, np.zeros_like(theta)
        return float(loss.detach()), slope.numpy()

    def start(self) -> float:
        """The logarithm of the best ridge of the plain kernel."""
        K = gram(self.network, self.X, kernel=self.kernel)
        losses = [float(self.loss(K, torch.tensor(np.log(r)))) for r in _STARTS]
        return float(np.log(_STARTS[int(np.nanargmin(losses))]))


@dataclass(frozen=True)
class Learned:
    """Scales of columns, the errors with and without them on rows held out, and steps taken.

    ``better`` is whether the scales predict those rows better than the plain kernel; ``shares()``
    are those of the columns in the squared slopes of the better one's predictions.
    """

    scales: NDArray[np.float64]
    errors: dict[str, float]
    better: bool
    steps: int
    shares: Callable[[], NDArray[np.float64]]

    @property
    def kept(self) -> NDArray[np.float64]:
        """The scales where they are better, else 1."""
        return self.scales if self.better else np.ones_like(self.scales)


def learn_scales(
    network: nn.Layer,
    kernel: str,
    X: NDArray[np.float64],
    Y: NDArray[np.float64],
    max_rows: int = _MAX_ROWS,
    max_iter: int = MAX_ITER,
    penalty: float = _PENALTY,
    random_state: Any = 0,
    callback: Callable[[int], None] | None = None,
    weights: NDArray[np.float64] | None = None,
) -> Learned:
    """Scales by L-BFGS on the leave-one-out error of some rows, judged on others.

    Parameters
    ----------
    network : Layer
        On vectors.
    kernel : str
        "ntk" or "nngp".
    X : ndarray of shape (n, d)
        Rows.
    Y : ndarray of shape (n, t)
        Targets; all columns count equally.
    max_rows, max_iter, penalty, random_state
        As of :class:`ColumnScales`.
    callback : callable, optional
        Told the number of steps so far.
    weights : ndarray of shape (n,), optional
        Positive weights of the rows.

    Returns
    -------
    Learned
    """
    w = np.ones(len(X)) if weights is None else weights / weights.mean()
    Y = Y - np.average(Y, axis=0, weights=w)
    size = np.sqrt(np.average(Y * Y, axis=0, weights=w))
    Y = Y / np.where(size > 0, size, 1.0)
    order = check_random_state(random_state).permutation(len(X))
    chosen = min(max_rows, max(2, round((1.0 - _HELD_OUT) * len(X))))
    inside, outside = order[:chosen], order[chosen : chosen + 2 * max_rows]
    if len(outside) == 0:
        raise InvalidInputError(
            f"Scales of columns need at least 3 rows, one of them to judge by; found {len(X)}."
        )
    rows, targets, counts = (
        torch.from_numpy(np.asarray(values[inside], dtype=np.float64)) for values in (X, Y, w)
    )
    problem = _Problem(network, kernel, rows, targets, counts, penalty)
    _require_gradients(problem)
    d, ridge, steps = X.shape[1], problem.start(), 0

    def told(_: Any) -> None:
        nonlocal steps
        steps += 1
        if callback is not None:
            callback(steps)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found = scipy.optimize.minimize(
            problem.value,
            np.append(np.zeros(d), np.clip(ridge, *_RIDGES)),
            jac=True,
            method="L-BFGS-B",
            bounds=[_REACH] * d + [_RIDGES],
            callback=told,
            options={"maxiter": max_iter},
        )
    logs = found.x[:-1]
    held_out = [
        torch.from_numpy(np.asarray(values[outside], dtype=np.float64)) for values in (X, Y, w)
    ]
    errors = {
        "plain": _error(problem, np.zeros(d), ridge, *held_out),
        "scaled": _error(problem, logs, float(found.x[-1]), *held_out),
    }
    better = errors["scaled"] < errors["plain"]
    kept = (logs, float(found.x[-1])) if better else (np.zeros(d), ridge)
    shares = partial(_shares, problem, *kept)
    return Learned(np.exp(logs), errors, better, int(found.nit), shares)


def _require_gradients(problem: _Problem) -> None:
    """Refuse networks whose kernel has no gradient by the rows, before the search."""
    try:
        rows = problem.X[:2].clone().requires_grad_()
        torch.autograd.grad(gram(problem.network, rows, kernel=problem.kernel).sum(), rows)
    except BackendError as error:
        raise InvalidInputError(
            f"Scales of columns are learned by gradients, which this network has none of: {error}"
        ) from error


class ColumnScales(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Multiply each column by a scale that is learned from the targets.

    A kernel of dense networks sees rows up to rotations, so columns that do not matter add noise
    to every distance. Scales are found by L-BFGS on the leave-one-out error of kernel ridge
    regression, together with the ridge, on some of the rows; they are kept only if they predict
    rows better that were left out of it.

    Parameters
    ----------
    network : Layer or str, optional
        The network whose kernel is used; ``mlp(depth=2, b_std=0.3)`` if left out.
    kernel : {"ntk", "nngp"}, default="ntk"
        Which kernel.
    max_rows : int, default=700
        Rows that the error is worked out on, at most.
    max_iter : int, default=60
        Steps of L-BFGS at most.
    penalty : float, default=1e-3
        Times the mean square of the logarithms of the scales, beside the logarithm of the error.
    random_state : int, RandomState or None, default=0
        Chooses the rows.

    Attributes
    ----------
    scales_ : ndarray of shape (n_features,)
        What columns are multiplied by; all 1 if the plain kernel predicts better.
    feature_importances_ : ndarray of shape (n_features,)
        Mean squared slopes of predictions along the columns, times their variances, summing to 1.
        A column on which targets depend linearly has a small scale and yet a large share.
    errors_ : dict
        Mean squared errors ``"plain"`` and ``"scaled"`` on the rows that were held out, in units
        of the variance of the targets.
    n_iter_ : int
        Steps that were taken.
    n_features_in_ : int
        Number of features.

    Notes
    -----
    Columns should be on a common scale before, as behind ``StandardScaler``. A step costs
    O(m^3 + m^2 (d + depth)) time and O(m^2) memory for m rows.

    See Also
    --------
    kernreg.gram : Gradients of kernels.

    References
    ----------
    Neal, "Bayesian Learning for Neural Networks" (1996), automatic relevance determination.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import ColumnScales
    >>> X = np.random.default_rng(0).standard_normal((150, 5))
    >>> scales = ColumnScales().fit(X, np.sin(2 * X[:, 1]))
    >>> int(scales.feature_importances_.argmax())
    1
    """

    def __init__(
        self,
        network: nn.Layer | str | None = None,
        kernel: str = "ntk",
        max_rows: int = _MAX_ROWS,
        max_iter: int = MAX_ITER,
        penalty: float = _PENALTY,
        random_state: Any = 0,
    ) -> None:
        self.network = network
        self.kernel = kernel
        self.max_rows = max_rows
        self.max_iter = max_iter
        self.penalty = penalty
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def fit(self, X: Any, y: Any) -> Self:
        """Learn the scales.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets, or labels.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If data or parameters cannot be used.
        """
        if self.max_rows < 10 or self.max_iter < 1 or not self.penalty >= 0:
            raise InvalidInputError(
                "ColumnScales: max_rows must be at least 10, max_iter at least 1 and penalty not "
                f"negative, found {self.max_rows}, {self.max_iter} and {self.penalty}."
            )
        net = nn.mlp(depth=2, b_std=0.3) if self.network is None else check_network(self.network)
        (kernel,) = kernel_names(self.kernel, single=True)
        X, y = validate_data(
            self, X, y, dtype=np.float64, multi_output=True, ensure_min_samples=2, y_numeric=False
        )
        found = learn_scales(
            net,
            kernel,
            X,
            _targets(y),
            self.max_rows,
            self.max_iter,
            self.penalty,
            self.random_state,
        )
        self.scales_, self.errors_, self.n_iter_ = found.kept, found.errors, found.steps
        self.feature_importances_ = found.shares()
        return self

    def transform(self, X: Any) -> NDArray[Any]:
        """Columns times their scales.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self, "scales_")
        rows = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        return np.asarray(rows * self.scales_.astype(rows.dtype))


def _targets(y: NDArray[Any]) -> NDArray[np.float64]:
    """Numbers in columns; labels as indicators."""
    kind = type_of_target(y, input_name="y")
    if kind in ("binary", "multiclass") and (
        y.dtype.kind not in "iuf" or len(np.unique(y)) <= max(2, len(y) // 20)
    ):
        y = (y[:, None] == np.unique(y)[None]).astype(np.float64)
    try:
        values = np.asarray(y, dtype=np.float64).reshape(len(y), -1)
    except ValueError:
        raise InvalidInputError("y must hold numbers or labels.") from None
    return values


def _coefficients(
    problem: _Problem, logs: NDArray[np.float64], log_ridge: float
) -> tuple[Tensor, Tensor]:
    """Rows as the kernel sees them, and the dual coefficients of the fit to them."""
    rows = problem.X * torch.from_numpy(np.exp(logs))
    K = gram(problem.network, rows, kernel=problem.kernel)
    ridges = torch.diag(problem.ridges(K, np.exp(log_ridge)))
    return rows, torch.linalg.solve(K + ridges, problem.y)


def _shares(problem: _Problem, logs: NDArray[np.float64], log_ridge: float) -> NDArray[np.float64]:
    """Shares of the columns in the squared slopes of the predictions, times variances."""
    rows, c = _coefficients(problem, logs, log_ridge)
    if c.shape[1] > _PASSES:
        # Random signs: the mean over sums is that of the squares.
        made = torch.Generator().manual_seed(0)
        c = c @ (2.0 * torch.randint(0, 2, (c.shape[1], _PASSES), generator=made) - 1.0).to(c)
    squares = torch.zeros(rows.shape[1], dtype=rows.dtype)
    for column in c.T:
        at = rows.clone().requires_grad_()
        # The kernel takes two names for one matrix as two.
        values = gram(problem.network, at, rows.clone(), kernel=problem.kernel) @ column
        (slopes,) = torch.autograd.grad(values.sum(), at)
        squares += (slopes * slopes).mean(dim=0)
    shares = (squares * rows.var(dim=0, correction=0)).numpy()
    total = float(shares.sum())
    return shares / total if total > 0 else np.full(len(shares), 1.0 / len(shares))


def _error(
    problem: _Problem, logs: NDArray[np.float64], log_ridge: float, X: Tensor, y: Tensor, w: Tensor
) -> float:
    """Mean squared error on other rows."""
    rows, c = _coefficients(problem, logs, log_ridge)
    scaled = X * torch.from_numpy(np.exp(logs))
    error = gram(problem.network, scaled, rows, kernel=problem.kernel) @ c - y
    return float((w @ (error * error)).mean() / w.sum())
