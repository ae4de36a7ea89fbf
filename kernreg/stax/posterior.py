"""Posteriors from kernel matrices, as ``nt.predict`` has them."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kernreg.exceptions import InvalidInputError
from kernreg.stax.trained import (
    Trained,
    matrix_of,
    require_one_kernel,
    shaped,
    symmetric,
    targets_of,
)

__all__ = ["Gaussian", "each", "gp_inference"]

_KINDS = ("nngp", "ntk", "ntkgp")


class Gaussian(NamedTuple):
    """Mean of shape (n, outputs), and the covariance (n, n) that all outputs have.

    Examples
    --------
    >>> predict_fn = gp_inference(np.eye(2), np.array([[1.0], [2.0]]))
    >>> found = predict_fn("nngp", k_test_train=np.array([[0.5, 0.0]]), k_test_test=np.eye(1))
    >>> found.mean.tolist(), found.covariance.tolist()
    ([[0.5]], [[0.75]])
    """

    mean: Any
    covariance: Any


def gp_inference(
    k_train_train: Any,
    y_train: Any,
    diag_reg: float = 0.0,
    diag_reg_absolute_scale: bool = False,
    trace_axes: Any = (-1,),
) -> Callable[..., Any]:
    """Posteriors of Gaussian processes, and of networks that are trained to the end.

    Parameters
    ----------
    k_train_train : namedtuple or ndarray of shape (n, n)
        ``kernel_fn(x, None, ("nngp", "ntk"))``, or one kernel.
    y_train : array-like of shape (n, outputs)
        Targets.
    diag_reg : float
        Ridge, over the mean of the diagonal unless ``diag_reg_absolute_scale``.
    diag_reg_absolute_scale : bool
        Whether it is absolute.
    trace_axes : tuple
        ``(-1,)``: outputs share their kernel.

    Returns
    -------
    callable
        ``predict_fn(get=None, k_test_train=None, k_test_test=None)``: the mean of shape
        (m, outputs), or with ``k_test_test`` a :class:`Gaussian`, for ``get`` "nngp", "ntk" (of the
        ensemble; its covariance needs both kernels) or "ntkgp" (the process with the NTK); several
        of them, or all if it is None, as a namedtuple. Without ``k_test_train`` the training rows,
        which get their targets.

    Raises
    ------
    InvalidInputError
        If kernels are missing or do not fit.
    NotPositiveDefiniteError
        If there is no Cholesky factor: raise ``diag_reg``.

    Notes
    -----
    Time n^3/3 operations, n^2 for each test row and its covariance.

    Examples
    --------
    >>> from kernreg import stax
    >>> x, y = np.eye(4), np.arange(4.0)[:, None]
    >>> _, _, kernel_fn = stax.serial(stax.Dense(1), stax.Erf(), stax.Dense(1))
    >>> predict_fn = gp_inference(kernel_fn(x, None, ("nngp", "ntk")), y, diag_reg=1e-6)
    >>> mean = predict_fn("ntk", kernel_fn(x, x, ("nngp", "ntk")))
    >>> bool(np.abs(mean - y).max() < 1e-4)
    True
    """
    require_one_kernel(trace_axes, y_train)
    targets = targets_of(y_train)
    one_matrix = isinstance(k_train_train, np.ndarray)  # for whatever is asked
    made: dict[str, Trained] = {}

    def trained(name: str) -> Trained:
        if name not in made:
            matrix = matrix_of(k_train_train, name, "k_train_train")
            made[name] = Trained(matrix, targets, diag_reg, diag_reg_absolute_scale)
        return made[name]

    def one(kind: str, k_test_train: Any, k_test_test: Any) -> Any:
        follows = trained("nngp" if kind == "nngp" else "ntk")
        name = "nngp" if kind == "nngp" else "ntk"
        if k_test_train is None:
            mean, n = shaped(follows.targets.copy(), y_train), len(follows.targets)
            return mean if k_test_test is None else Gaussian(mean, np.zeros((n, n)))
        between = matrix_of(k_test_train, name, "k_test_train")
        mean = shaped(between @ follows.end, y_train)
        if k_test_test is None:
            return mean
        if kind != "ntk":
            own = matrix_of(k_test_test, name, "k_test_test")
            return Gaussian(mean, symmetric(own - between @ follows.solved(between.T.copy())))
        if one_matrix:
            raise InvalidInputError(
                "predict_fn: the covariance of trained networks needs both kernels: give what "
                "kernel_fn(..., ('nngp', 'ntk')) returns, or ask for get='ntkgp'."
            )
        prior = matrix_of(k_test_train, "nngp", "k_test_train")
        own = matrix_of(k_test_test, "nngp", "k_test_test")
        moved = follows.solved(between.T.copy())
        crossed = prior @ moved
        spread = moved.T @ matrix_of(k_train_train, "nngp", "k_train_train") @ moved
        return Gaussian(mean, symmetric(own - crossed - crossed.T + spread))

    def predict_fn(get: Any = None, k_test_train: Any = None, k_test_test: Any = None) -> Any:
        here = [k for k in ("nngp", "ntk") if one_matrix or hasattr(k_train_train, k)]
        names = here if get is None else get
        return each(names, lambda kind: one(kind, k_test_train, k_test_test))

    return predict_fn


def _named(found: dict[str, Any]) -> Any:
    return namedtuple("Gaussians", found)(**found)


def each(names: Any, one: Callable[[str], Any]) -> Any:
    """What one name gives, or a namedtuple of what each gives."""
    kinds = (names,) if isinstance(names, str) else tuple(names)
    for kind in kinds:
        if kind not in _KINDS:
            raise InvalidInputError(f"get must be among {', '.join(_KINDS)}, found {kind!r}.")
    if isinstance(names, str):
        return one(names)
    return _named({kind: one(kind) for kind in kinds})
