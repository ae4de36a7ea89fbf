"""Learning curves of kernel ridge regression: predicted from one kernel matrix, and measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError, NotPositiveDefiniteError
from kernreg.theory.checks import check_count, check_number
from kernreg.theory.eigenlearning.finite_pool import (
    PoolErrors,
    errors_from_points,
    errors_from_spectrum,
)
from kernreg.theory.eigenlearning.problem import (
    absolute_ridge,
    as_targets,
    decompose,
    kernel_matrix,
)
from kernreg.theory.eigenlearning.spectra import spectrum_of
from kernreg.wording import aligned

__all__ = ["LearningCurve", "measure_learning_curve", "predict_learning_curve"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Mean squared errors against the number of training points, summed over outputs.

    Parameters
    ----------
    n : ndarray of shape (g,)
        Training points.
    test : ndarray of shape (g,)
        Error on points that were not trained on, against their (noisy) targets.
    train : ndarray of shape (g,)
        Error on the training points.
    test_error, train_error : ndarray of shape (g,)
        Standard errors of the two where they were measured, zero where they were predicted.
    size : int
        Points of the pool from which the training points are drawn.
    source : str
        How the curve was found.

    Examples
    --------
    >>> from kernreg import nn
    >>> X = np.linspace(-1, 1, 60)[:, None]
    >>> curve = predict_learning_curve(nn.mlp(depth=1), X, np.sin(3 * X[:, 0]), [5, 20])
    >>> curve.n.tolist(), curve.size, bool(curve.test[1] < curve.test[0])
    ([5, 20], 60, True)
    """

    n: NDArray[np.int64]
    test: Array
    train: Array
    test_error: Array
    train_error: Array
    size: int
    source: str

    @property
    def all_points(self) -> Array:
        """Error over the whole pool, training points included."""
        share = self.n / self.size
        return np.asarray(share * self.train + (1.0 - share) * self.test)

    def __str__(self) -> str:
        measured = bool(self.test_error.any())

        def cell(value: float, error: float) -> str:
            return f"{value:.4g}" + (f" +- {error:.2g}" if measured else "")

        rows = [
            (str(n), cell(test, test_error), cell(train, train_error))
            for n, test, test_error, train, train_error in zip(
                self.n, self.test, self.test_error, self.train, self.train_error, strict=True
            )
        ]
        title = f"{self.source}, from a pool of {self.size} points"
        return "\n".join([title, *aligned(("n", "test", "train"), rows, numbers=True)])


def predict_learning_curve(
    net: Any,
    X: Any,
    y: Any,
    n_grid: Any,
    alpha: float = 1e-3,
    *,
    alpha_scale: str = "mean_diag",
    kernel: str = "ntk",
    noise: float = 0.0,
    method: str = "points",
) -> LearningCurve:
    """Predict the test and training error for several sizes of the training set, without training.

    Parameters
    ----------
    net : Layer or ndarray of shape (N, N)
        A network, or a kernel matrix and then ``X=None``.
    X : array of shape (N, d) or None
        Inputs of a pool from which the training points are drawn, without replacement.
    y : array of shape (N,) or (N, t)
        Targets, not centred here; text, booleans and whole numbers of shape (N,) are labels, one
        output per class, 1 for the class and 0 otherwise.
    n_grid : array of int, shape (g,)
        Sizes of the training set, from 1 to N - 1.
    alpha : float
        Ridge, relative to the mean diagonal of the kernel matrix; not scaled by n.
    alpha_scale : {"mean_diag", "absolute"}
        What ``alpha`` is relative to.
    kernel : {"ntk", "nngp"}
        Which kernel of the network.
    noise : float
        Standard deviation of noise added to all targets, beyond what they hold already; of
        several outputs, the root of the sum of their variances.
    method : {"points", "spectrum"}
        ``"spectrum"`` is eigenlearning: it knows the eigenvalues and the target's power in the
        eigenvectors. ``"points"`` also knows the eigenvectors, so that it sees where points
        differ in how well others predict them: clusters, outliers, near-duplicates.

    Returns
    -------
    LearningCurve
        ``test`` is the error on the rest of the pool, an unbiased estimate of that on new data.

    Raises
    ------
    InvalidInputError
        If data or arguments cannot be used, an n is not below N, or the matrix is singular and
        ``alpha`` too small.

    Notes
    -----
    About 9 N^3 operations once; ``"points"`` adds some 15 N^3 for each n. Memory 5 N^2 numbers.

    Both methods correct for drawing without replacement: at ridge 0 the test error of
    ``"spectrum"`` is eigenlearning's error of all points times ``N / (N - n)``.

    ``"points"`` is the more exact of the two on real data. Both fail at a small ridge where rows
    are duplicates or nearly equal, or inputs lie on a grid.

    References
    ----------
    Simon, Dickens, Karkada, DeWeese, arXiv:2110.03922; see
    :mod:`kernreg.theory.eigenlearning.finite_pool`.

    Examples
    --------
    >>> from kernreg import nn
    >>> X = np.random.default_rng(0).normal(size=(300, 3))
    >>> y = np.tanh(X[:, 0] * X[:, 1])
    >>> predicted = predict_learning_curve(nn.mlp(depth=2), X, y, [50, 150])
    >>> measured = measure_learning_curve(nn.mlp(depth=2), X, y, [50, 150], trials=20)
    >>> bool((abs(predicted.test / measured.test - 1) < 0.1).all())
    True
    """
    if method not in ("points", "spectrum"):
        raise InvalidInputError(f"method must be 'points' or 'spectrum', found {method!r}.")
    K, Y, grid, ridge, noise = _problem(net, X, y, n_grid, alpha, alpha_scale, kernel, noise)
    spectrum = spectrum_of(decompose(K), Y)
    found: list[PoolErrors] = []
    for n in grid.tolist():
        errors = errors_from_spectrum(spectrum, n, ridge, noise)
        if method == "points":
            errors = errors_from_points(K, Y, n, ridge, noise, kappa=errors.kappa)
        found.append(errors)
    return LearningCurve(
        n=grid,
        test=np.array([errors.test for errors in found]),
        train=np.array([errors.train for errors in found]),
        test_error=np.zeros(len(grid)),
        train_error=np.zeros(len(grid)),
        size=len(K),
        source=f"predicted from the {method}",
    )


def measure_learning_curve(
    net: Any,
    X: Any,
    y: Any,
    n_grid: Any,
    alpha: float = 1e-3,
    *,
    alpha_scale: str = "mean_diag",
    kernel: str = "ntk",
    noise: float = 0.0,
    trials: int = 10,
    seed: int = 0,
) -> LearningCurve:
    """Train on random parts of a pool and test on the rest, to compare with a prediction.

    Parameters
    ----------
    net, X, y, n_grid, alpha, alpha_scale, kernel, noise
        As in :func:`predict_learning_curve`; noise is drawn anew for each trial, for several
        outputs with equal variances.
    trials : int
        Random parts for each n, at least 2.
    seed : int
        Of parts and noise.

    Returns
    -------
    LearningCurve
        Means over the trials and their standard errors. Parts that are large beside the pool
        overlap, and the errors are then too small.

    Raises
    ------
    InvalidInputError
        If data or arguments cannot be used, or an n is not below N.
    NotPositiveDefiniteError
        If the kernel matrix of a part is singular.

    Notes
    -----
    Cholesky in float64: n^3/3 operations for each trial, and N^2 numbers for the whole kernel.

    Examples
    --------
    >>> from kernreg import nn
    >>> X = np.linspace(-1, 1, 100)[:, None]
    >>> measured = measure_learning_curve(nn.mlp(depth=2), X, X[:, 0], [10, 50])
    >>> bool(measured.test[1] < measured.test[0])
    True
    """
    K, Y, grid, ridge, noise = _problem(net, X, y, n_grid, alpha, alpha_scale, kernel, noise)
    trials = check_count("trials", trials, 2)
    K = K.astype(np.float64, copy=False)
    random = np.random.default_rng(seed)
    errors = np.empty((len(grid), trials, 2))
    for i, n in enumerate(grid.tolist()):
        for trial in range(trials):
            order = random.permutation(len(K))
            labels = Y
            if noise:
                labels = Y + noise / Y.shape[1] ** 0.5 * random.standard_normal(Y.shape)
            errors[i, trial] = _one_trial(K, labels, order[:n], order[n:], ridge)
    test, train = errors.mean(axis=1).T
    test_error, train_error = errors.std(axis=1, ddof=1).T / trials**0.5
    source = f"measured in {trials} trials"
    return LearningCurve(grid, test, train, test_error, train_error, len(K), source)


def _one_trial(
    K: Array, Y: Array, inside: NDArray[np.int64], outside: NDArray[np.int64], ridge: float
) -> tuple[float, float]:
    """Test and training error."""
    own = K[np.ix_(inside, inside)]
    own[np.diag_indices(len(inside))] += ridge
    try:
        factor = scipy.linalg.cho_factor(own, lower=True, overwrite_a=True, check_finite=False)
    except scipy.linalg.LinAlgError as error:
        raise NotPositiveDefiniteError(
            f"the kernel matrix of {len(inside)} points is not positive definite: raise alpha or "
            "remove duplicate rows."
        ) from error
    dual = scipy.linalg.cho_solve(factor, Y[inside], check_finite=False)
    wrong = Y[outside] - K[np.ix_(outside, inside)] @ dual
    return float(np.mean(np.sum(wrong**2, axis=1))), ridge**2 * float(
        np.mean(np.sum(dual**2, axis=1))
    )


def _problem(
    net: Any,
    X: Any,
    y: Any,
    n_grid: Any,
    alpha: Any,
    alpha_scale: str,
    kernel: str,
    noise: Any,
) -> tuple[NDArray[Any], Array, NDArray[np.int64], float, float]:
    """Kernel matrix, targets, sizes, ridge and noise, checked."""
    sizes = np.atleast_1d(np.asarray(n_grid))
    if sizes.ndim != 1 or not sizes.size or sizes.dtype.kind not in "iu":
        raise InvalidInputError(
            f"n_grid must hold whole numbers, found dtype {sizes.dtype} of shape {sizes.shape}."
        )
    noise = check_number("noise", noise)
    K = kernel_matrix(net, X, kernel)
    Y = as_targets(y, len(K))
    if sizes.min() < 1 or sizes.max() >= len(K):
        raise InvalidInputError(
            f"n_grid must lie between 1 and {len(K) - 1}, one less than there are points: some "
            f"are left to test on; found {int(sizes.min())} to {int(sizes.max())}."
        )
    return K, Y, sizes.astype(np.int64), absolute_ridge(alpha, alpha_scale, K), noise
