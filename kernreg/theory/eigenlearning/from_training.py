"""The test error of kernel ridge regression, estimated from its training data alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kernreg.solvers import Eigh
from kernreg.theory.eigenlearning.problem import (
    absolute_ridge,
    as_targets,
    decompose,
    kernel_matrix,
)

__all__ = ["TrainingEstimates", "training_estimates"]


@dataclass(frozen=True)
class TrainingEstimates:
    """Test error estimated from training data alone; squared errors summed over outputs.

    Parameters
    ----------
    kappa : float
        ``1 / tr (K + ridge)^-1``.
    gcv : float
        Generalised cross-validation: the eigenlearning estimate ``train (n kappa / ridge)^2``,
        which has a limit at ridge 0.
    loo : float
        Mean squared leave-one-out error; better than ``gcv`` for few or unequal points.
    train : float
        Mean squared error on the training points.

    Examples
    --------
    >>> from kernreg import nn
    >>> X = np.linspace(-1, 1, 30)[:, None]
    >>> found = training_estimates(nn.mlp(depth=1), X, np.sin(3 * X[:, 0]))
    >>> found.train < found.gcv < found.loo
    True
    """

    kappa: float
    gcv: float
    loo: float
    train: float


def training_estimates(
    net: Any,
    X: Any,
    y: Any,
    alpha: float = 1e-3,
    *,
    alpha_scale: str = "mean_diag",
    kernel: str = "ntk",
) -> TrainingEstimates:
    """Estimate kappa and the test error from the training data alone, without a spectrum.

    Parameters
    ----------
    net : Layer or ndarray of shape (n, n)
        A network, or a kernel matrix and then ``X=None``.
    X : array of shape (n, d) or None
        Training inputs.
    y : array of shape (n,) or (n, t)
        Targets, not centred here; text, booleans and whole numbers of shape (n,) are labels, one
        output per class.
    alpha : float
        Ridge, relative to the mean diagonal of the kernel matrix.
    alpha_scale : {"mean_diag", "absolute"}
        What ``alpha`` is relative to.
    kernel : {"ntk", "nngp"}
        Which kernel of the network.

    Returns
    -------
    TrainingEstimates

    Raises
    ------
    InvalidInputError
        If data or arguments cannot be used.

    Warns
    -----
    JitterWarning
        If the matrix is singular and the ridge had to be raised.

    Notes
    -----
    About 9 n^3 operations, 3 n^2 numbers. Valid at ridge 0.

    References
    ----------
    Craven and Wahba, Smoothing noisy data with spline functions (1979); Wei, Hu, Steinhardt, More
    than a toy, arXiv:2203.06176.

    Examples
    --------
    >>> from kernreg import nn
    >>> X = np.random.default_rng(0).normal(size=(60, 2))
    >>> found = training_estimates(nn.mlp(depth=2), X, np.sin(X[:, 0]))
    >>> found.train < found.loo < 0.1
    True
    """
    K = kernel_matrix(net, X, kernel)
    Y = as_targets(y, len(K))
    ridge = absolute_ridge(alpha, alpha_scale, K)
    state = decompose(K)
    path = Eigh().path(state, Y, np.array([ridge]))
    inverse = state.inverse_diagonal(float(path.ridges[0]))
    dual = float(np.mean(np.sum(path.dual[0] ** 2, axis=1)))
    return TrainingEstimates(
        kappa=float(1.0 / inverse.sum()),
        gcv=dual / float(inverse.mean()) ** 2,
        loo=float(np.mean(np.sum(path.loo_residuals[0] ** 2, axis=1))),
        # The ridge that was used: a singular matrix may have needed a larger one.
        train=(ridge + float(path.jitter[0])) ** 2 * dual,
    )
