"""What the functions of a finite sample share: kernel matrix, targets, ridge, eigenvectors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from kernreg.exceptions import InvalidInputError
from kernreg.nn import Layer
from kernreg.operators import MatrixOperator, gram
from kernreg.solvers import Eigh, EighState
from kernreg.solvers.solution import finite_right_hand_side
from kernreg.theory.checks import check_number

__all__ = [
    "absolute_ridge",
    "as_targets",
    "decompose",
    "kernel_matrix",
]

# LAPACK's eigenvalues are off by a few roundings of the largest; none below is known.
_FLOOR = 10.0
_NEGATIVE = 1e3


def kernel_matrix(net: Any, X: Any, kernel: str) -> NDArray[Any]:
    """The kernel matrix of a network on a sample, or one that was given.

    Parameters
    ----------
    net : Layer, str or ndarray of shape (n, n)
        A network, also as text; or a kernel matrix from elsewhere, and then ``X`` must be None.
    X : array of shape (n, d) or None
        Inputs.
    kernel : {"ntk", "nngp"}
        Which kernel of the network.

    Returns
    -------
    ndarray of shape (n, n)
        In float64 if it was computed, in its own type if it was given.

    Raises
    ------
    InvalidInputError
        If inputs are missing or superfluous, or a matrix is not symmetric and finite.

    Examples
    --------
    >>> from kernreg import nn
    >>> kernel_matrix(nn.mlp(depth=1, b_std=0.0), np.eye(2), "nngp").diagonal()
    array([1., 1.])
    """
    if isinstance(net, Layer | str):
        if X is None:
            raise InvalidInputError("X is missing: a network needs inputs of shape (n, d).")
        return _numpy(gram(net, X, kernel=kernel, dtype="float64"))
    K = _numpy(net)
    if X is not None:
        raise InvalidInputError(
            "expected a network from kernreg.nn with X, or a kernel matrix with X=None, found "
            f"{type(net).__name__} with X."
        )
    if K.ndim != 2 or K.shape[0] != K.shape[1] or not K.size or K.dtype.kind not in "fiu":
        raise InvalidInputError(
            f"expected a network from kernreg.nn or a kernel matrix of shape (n, n), found "
            f"{type(net).__name__} of shape {K.shape} and dtype {K.dtype}."
        )
    K = K if K.dtype in (np.float32, np.float64) else K.astype(np.float64)
    if not np.isfinite(K).all():
        raise InvalidInputError("the kernel matrix contains NaN or infinity.")
    if np.abs(K - K.T).max() > 1e3 * np.finfo(K.dtype).eps * np.abs(K).max():
        raise InvalidInputError(
            "the kernel matrix is not symmetric: average it with its transpose if only rounding "
            "makes the difference."
        )
    return K


def decompose(K: NDArray[Any]) -> EighState:
    """Eigenvalues of a kernel matrix, with zero for those that rounding hides, and eigenvectors.

    Parameters
    ----------
    K : ndarray of shape (n, n)
        Symmetric; its dtype says how exact it is.

    Returns
    -------
    EighState
        Ascending eigenvalues.

    Raises
    ------
    InvalidInputError
        If an eigenvalue is negative beyond rounding.

    Notes
    -----
    About 9 n^3 operations, 3 n^2 numbers.

    Examples
    --------
    >>> decompose(np.ones((2, 2))).values
    array([0., 2.])
    """
    state = Eigh().init(MatrixOperator(K))
    largest = float(state.values[-1])
    rounding = float(np.finfo(K.dtype).eps) * max(largest, 0.0)
    lowest = float(state.values[0])
    if largest <= 0 or lowest < -_NEGATIVE * rounding:
        raise InvalidInputError(
            "expected a positive semidefinite kernel matrix with a positive eigenvalue, found "
            f"eigenvalues from {lowest:.3g} to {largest:.3g}."
        )
    return replace(state, values=np.where(state.values > _FLOOR * rounding, state.values, 0.0))


def as_targets(y: Any, n: int) -> NDArray[np.float64]:
    """Targets as columns; labels as one column per class, 1 for the class and 0 otherwise.

    Parameters
    ----------
    y : array of shape (n,) or (n, t)
        Floats are targets. Text, booleans and whole numbers of shape (n,) are labels.
    n : int
        Rows expected.

    Returns
    -------
    ndarray of shape (n, t)

    Raises
    ------
    InvalidInputError
        Wrong shape, NaN, or as many labels as if they were numbers to predict.

    Examples
    --------
    >>> as_targets(["cat", "dog", "cat"], 3).tolist()
    [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]
    """
    values = y.detach().cpu().numpy() if isinstance(y, Tensor) else np.asarray(y)
    if values.ndim != 1 or values.dtype.kind == "f":
        return finite_right_hand_side(values, n).reshape(n, -1)
    if len(values) != n:
        raise InvalidInputError(f"expected {n} labels, one per row, found {len(values)}.")
    try:
        classes, index = np.unique(values, return_inverse=True)
    except TypeError as error:
        raise InvalidInputError(
            f"the labels in y are of several types: {error}; make them all text or all numbers."
        ) from error
    if len(classes) > max(2, n // 2):
        raise InvalidInputError(
            f"y of dtype {values.dtype} is taken for labels, but {len(classes)} of {n} differ: "
            "for regression give floats, y.astype(float)."
        )
    return np.eye(len(classes))[index]


def absolute_ridge(alpha: Any, alpha_scale: str, K: NDArray[Any]) -> float:
    """The number that is added to the diagonal; ``alpha`` as the estimators understand it.

    Raises
    ------
    InvalidInputError
        If ``alpha`` or ``alpha_scale`` cannot be used.

    Examples
    --------
    >>> absolute_ridge(0.1, "mean_diag", 2 * np.eye(3)), absolute_ridge(0.1, "absolute", np.eye(3))
    (0.2, 0.1)
    """
    number = check_number("alpha", alpha)
    if alpha_scale not in ("mean_diag", "absolute"):
        raise InvalidInputError(
            f"alpha_scale must be 'mean_diag' or 'absolute', found {alpha_scale!r}."
        )
    return number * float(np.mean(K.diagonal())) if alpha_scale == "mean_diag" else number


def _numpy(values: Any) -> NDArray[Any]:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
