"""Checks of data and arguments that all entry points share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from scipy.sparse import issparse

from kernreg.exceptions import InvalidInputError
from kernreg.nn import Layer

__all__ = ["as_rows", "check_device", "check_network", "common_dtype", "kernel_names"]


def as_rows(X: Any, name: str, like: NDArray[Any] | None = None) -> NDArray[Any]:
    """Data as a float array of shape (n, d), checked.

    Parameters
    ----------
    X : array-like
        NumPy, torch or nested lists.
    name : str
        What to call it in errors.
    like : ndarray, optional
        Must have as many columns as this.

    Returns
    -------
    ndarray of shape (n, d), float32 or float64

    Raises
    ------
    InvalidInputError
        If it is not a finite, real, non-empty matrix.

    Examples
    --------
    >>> as_rows([[1, 2]], "X").dtype
    dtype('float64')
    """
    if isinstance(X, torch.Tensor):
        check_device(str(X.device.type))
        if X.layout is not torch.strided:
            raise InvalidInputError(f"{name} is sparse; make it dense with X.to_dense().")
        X = X.detach()
        X = (X if X.dtype != torch.bfloat16 else X.to(torch.float64)).numpy()
    if issparse(X):
        raise InvalidInputError(f"{name} is sparse; make it dense with X.toarray().")
    try:
        X = np.asarray(X)
    except ValueError as error:
        raise InvalidInputError(f"{name} is not a rectangular array: {error}") from error
    if X.ndim != 2:
        raise InvalidInputError(
            f"{name} must be a matrix of shape (n, d), found shape {X.shape}; "
            "reshape a single row with X.reshape(1, -1)."
        )
    if X.dtype.kind not in "fiub":
        raise InvalidInputError(
            f"{name} must hold real numbers, found dtype {X.dtype}; encode text and split "
            "complex numbers first."
        )
    if X.dtype not in (np.float32, np.float64):
        X = X.astype(np.float64)
    if X.shape[0] == 0 or X.shape[1] == 0:
        raise InvalidInputError(f"{name} is empty: shape {X.shape}.")
    if like is not None and X.shape[1] != like.shape[1]:
        raise InvalidInputError(
            f"{name} must have {like.shape[1]} columns, as X1 has, found {X.shape[1]}."
        )
    if not np.isfinite(X).all():
        row = int(np.flatnonzero(~np.isfinite(X).all(axis=1))[0])
        raise InvalidInputError(
            f"{name} contains NaN or infinity (first in row {row}); drop or impute them."
        )
    # Torch knows no negative strides, and warns of memory that is read-only.
    return X if X.flags.writeable and min(X.strides) >= 0 else X.copy()


def common_dtype(dtype: DTypeLike | torch.dtype | None, *arrays: NDArray[Any] | None) -> np.dtype:
    """The dtype asked for, or float32 if all data are, else float64.

    Raises
    ------
    InvalidInputError
        If it is neither float32 nor float64.
    """
    if dtype is None:
        return np.dtype(np.result_type(*(a for a in arrays if a is not None)))
    if isinstance(dtype, torch.dtype):
        dtype = str(dtype).removeprefix("torch.")
    try:
        found = np.dtype(dtype)
    except TypeError:
        found = np.dtype(object)
    if found not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise InvalidInputError(f"dtype must be float32 or float64, found {dtype!r}.")
    return found


def kernel_names(kernel: Any, *, single: bool = False) -> tuple[str, ...]:
    """The kernels asked for, as a tuple.

    Raises
    ------
    InvalidInputError
        If a name is unknown, or there are several where one is wanted.
    """
    names = tuple(kernel) if isinstance(kernel, tuple | list) else (kernel,)
    unknown = [k for k in names if k not in ("nngp", "ntk")]
    if unknown or not names or (single and len(names) != 1) or len(set(names)) != len(names):
        raise InvalidInputError(
            f"kernel must be 'nngp' or 'ntk'{'' if single else ' or a tuple of both'}, "
            f"found {kernel!r}."
        )
    return names


def check_device(device: Any) -> None:
    """Raise InvalidInputError for any device but the CPU."""
    if device is not None and str(device) != "cpu":
        raise InvalidInputError(f"device must be 'cpu', found {str(device)!r}.")


def check_network(net: Any) -> None:
    """Raise InvalidInputError for what is no network."""
    if not isinstance(net, Layer):
        raise InvalidInputError(
            f"net must be a network from kernreg.nn, found {type(net).__name__}."
        )
