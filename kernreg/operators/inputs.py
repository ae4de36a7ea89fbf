"""Checks of data and arguments that all entry points share."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike
from scipy.sparse import csr_array, issparse
from torch import Tensor
from torch.autograd import forward_ad

from kernreg.backends.sparse import AnyRows, SparseRows
from kernreg.backends.triton.tuning import PRECISIONS
from kernreg.exceptions import InvalidInputError, NetworkError
from kernreg.nn import Layer
from kernreg.nn.parse import parse_network
from kernreg.operators.frames import as_numbers
from kernreg.operators.outputs import backwards, within_memory

__all__ = [
    "as_rows",
    "as_sides",
    "check_device",
    "check_network",
    "check_precision",
    "check_trained",
    "common_dtype",
    "kernel_names",
    "sparse_rows",
    "transformed",
]


def transformed(*values: Any) -> bool:
    """Whether some of the values are tensors of ``torch.func.grad``, ``vmap`` or the like.

    So are all tensors while one of these runs, as what is made of them belongs to it, and those
    with a tangent for forward differentiation.
    """
    tensors = [v for v in values if isinstance(v, Tensor)]
    if tensors and torch._C._functorch.peek_interpreter_stack() is not None:
        return True
    return any(forward_ad.unpack_dual(v).tangent is not None for v in tensors)


def as_rows(X: Any, name: str, like: AnyRows | None = None, device: Any = None) -> AnyRows:
    """Data as a float tensor of shape (n, d), checked; sparse arrays of SciPy stay sparse.

    Parameters
    ----------
    X : array-like or sparse array
        NumPy, torch, SciPy, a frame of numbers or nested lists.
    name : str
        What to call it in errors.
    like : Tensor or SparseRows, optional
        Must have as many columns as this, and is made sparse beside sparse rows.
    device : device, optional
        Where to put it; where it is if left out.

    Returns
    -------
    Tensor or SparseRows of shape (n, d), float32 or float64
        Shares the memory of ``X`` where nothing has to change.

    Raises
    ------
    InvalidInputError
        If it is not a finite, real, non-empty matrix, is masked, holds dates or requires a
        gradient, or the device is not there.

    Warns
    -----
    UserWarning
        If it is of half precision, which becomes float64.

    Examples
    --------
    >>> as_rows([[1, 2]], "X").dtype
    torch.float64
    """
    if issparse(X):
        return sparse_rows(X, name, like, device)
    if isinstance(like, SparseRows):
        rows = as_rows(X, name)
        assert isinstance(rows, Tensor)
        return sparse_rows(csr_array(rows.numpy()), name, like, device)
    if isinstance(X, Tensor):
        if X.layout is not torch.strided:
            raise InvalidInputError(
                f"{name} is a sparse tensor; pass a CSR array of SciPy, or X.to_dense()."
            )
        if X.requires_grad:
            raise InvalidInputError(
                f"{name} requires a gradient, which kernels do not carry: pass {name}.detach()."
            )
        if transformed(X):
            raise InvalidInputError(
                f"{name} is inside torch.func.grad, vmap or the like, which only gram and diag "
                "take: use those, or torch.autograd.grad."
            )
        check_device(X.device)
    else:
        X = _from_numpy(X, name)
    if X.ndim != 2:
        raise InvalidInputError(
            f"{name} must be a matrix of shape (n, d), found shape {tuple(X.shape)}; "
            "reshape a single row with X.reshape(1, -1)."
        )
    if X.is_complex():
        raise InvalidInputError(
            f"{name} must hold real numbers, found dtype {X.dtype}; split complex numbers first."
        )
    if X.dtype not in (torch.float32, torch.float64):
        _warn_of_half(str(X.dtype).removeprefix("torch."), name)
        X = X.to(torch.float64)
    if X.shape[0] == 0 or X.shape[1] == 0:
        raise InvalidInputError(f"{name} is empty: shape {tuple(X.shape)}.")
    _check_width(X, name, like)
    # The sum is one pass without a copy; it can overflow, so only the slow test may raise.
    if not torch.isfinite(X.sum()):
        finite = torch.isfinite(X).all(dim=1)
        if not finite.all():
            row = int(torch.nonzero(~finite)[0])
            raise InvalidInputError(
                f"{name} contains NaN or infinity (first in row {row}); drop or impute them."
            )
    if device is None:
        return X
    where = check_device(device)
    with within_memory(
        f"{name} of shape {tuple(X.shape)} does not fit the free memory of {where}: use fewer "
        "rows, float32 or device='cpu'."
    ):
        return X.to(where)


def as_sides(X1: Any, X2: Any, device: Any = None) -> tuple[AnyRows, AnyRows | None]:
    """Rows and columns, or None for those of a symmetric matrix; both sparse where one is."""
    A = as_rows(X1, "X1", device=device)
    if X2 is None:
        return A, None
    if issparse(X2) and isinstance(A, Tensor):
        A = sparse_rows(csr_array(A.cpu().numpy()), "X1", device=device)
    return A, as_rows(X2, "X2", like=A, device=A.device)


def sparse_rows(X: Any, name: str, like: AnyRows | None = None, device: Any = None) -> SparseRows:
    """The same for sparse arrays of SciPy, whose duplicates are added.

    Raises
    ------
    InvalidInputError
        As for :func:`as_rows`, and for a device other than the CPU.
    """
    if check_device(device).type != "cpu":
        raise InvalidInputError(
            f"{name} is sparse, which only the CPU takes: use device='cpu', or X.toarray()."
        )
    if X.ndim != 2 or 0 in X.shape:
        raise InvalidInputError(f"{name} must be a matrix of shape (n, d), found {X.shape}.")
    if X.dtype.kind not in "fiub":
        raise InvalidInputError(f"{name} must hold real numbers, found dtype {X.dtype}.")
    rows = SparseRows.of(X, X.dtype if X.dtype in (np.float32, np.float64) else np.float64)
    _check_width(rows, name, like)
    if not np.isfinite(rows.data).all():
        first = np.flatnonzero(~np.isfinite(rows.data))[0]
        row = int(np.searchsorted(rows.indptr, first, side="right")) - 1
        raise InvalidInputError(
            f"{name} contains NaN or infinity (first in row {row}); drop or impute them."
        )
    return rows


def _check_width(X: AnyRows, name: str, like: AnyRows | None) -> None:
    if like is not None and X.shape[1] != like.shape[1]:
        raise InvalidInputError(
            f"{name} must have {like.shape[1]} columns, as X1 has, found {X.shape[1]}."
        )


def _from_numpy(X: Any, name: str) -> Tensor:
    if isinstance(X, str | Layer):
        kind = "text" if isinstance(X, str) else "a network"
        raise InvalidInputError(
            f"{name} is {kind}, {str(X)[:40]!r}; expected rows of numbers. The arguments are "
            "(net, X1, X2, kernel); write kernel=... by its name."
        )
    X = as_numbers(X, name)
    if X.dtype not in (np.float32, np.float64):
        _warn_of_half(X.dtype.name, name)
        X = X.astype(np.float64)
    # Torch knows no negative strides, and warns of memory that is read-only.
    usable = X.flags.writeable and not backwards(X)
    return torch.from_numpy(X if usable else X.copy())


def _warn_of_half(kind: str, name: str) -> None:
    if kind in ("float16", "bfloat16"):
        warnings.warn(
            f"{name} is {kind}, for which there are no kernels: it is computed in float64. Pass "
            "float32 for less memory and time.",
            UserWarning,
            stacklevel=4,
        )


def common_dtype(dtype: DTypeLike | torch.dtype | None, *arrays: AnyRows | None) -> np.dtype:
    """The dtype asked for, or float32 if all data are, else float64.

    Raises
    ------
    InvalidInputError
        If it is neither float32 nor float64.
    """
    if dtype is None:
        single = all(a is None or a.dtype in (torch.float32, np.float32) for a in arrays)
        return np.dtype(np.float32 if single else np.float64)
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


def check_device(device: Any) -> torch.device:
    """A device by name, the CPU or a GPU that is there.

    Parameters
    ----------
    device : str or torch.device or None
        None is the CPU.

    Returns
    -------
    torch.device

    Raises
    ------
    InvalidInputError
        If it is neither.

    Examples
    --------
    >>> check_device("cpu")
    device(type='cpu')
    """
    try:
        found = torch.device("cpu" if device is None else device)
    except (RuntimeError, TypeError) as error:
        raise InvalidInputError(f"device must be 'cpu' or 'cuda', found {device!r}.") from error
    if found.type not in ("cpu", "cuda"):
        raise InvalidInputError(f"device must be 'cpu' or 'cuda', found {str(found)!r}.")
    if found.type == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count()
    # Torch reads 'cuda:999' as 'cuda:-25'.
    if not 0 <= (found.index or 0) < count:
        raise InvalidInputError(
            f"device {str(device)!r} is not there: torch {torch.__version__} sees {count} CUDA "
            "GPUs. Use device='cpu', or a build of torch for CUDA on a machine with a GPU."
        )
    return found


def check_precision(precision: str) -> str:
    """Raise InvalidInputError for an unknown precision."""
    if precision not in PRECISIONS:
        raise InvalidInputError(
            f"precision must be one of {', '.join(PRECISIONS)}, found {precision!r}."
        )
    return precision


def check_network(net: Any, X: Any = None) -> Layer:
    """A network, also from the text that makes it.

    Parameters
    ----------
    net : Layer or str
        From :mod:`kernreg.nn`, or its code, such as ``"mlp(depth=2)"``.
    X : object, optional
        The argument behind it, to tell when both are swapped.

    Raises
    ------
    InvalidInputError
        If it is no network.
    NetworkError
        If it is text, but not of a network.

    Examples
    --------
    >>> check_network("mlp(depth=2)").depth
    2
    """
    if isinstance(net, str):
        return parse_network(net)
    if isinstance(net, Layer):
        return net
    swapped = isinstance(X, Layer)
    hint = " Both are swapped: the network comes first, then the data." * swapped
    raise InvalidInputError(
        f"net must be a network from kernreg.nn, found {type(net).__name__}.{hint}"
    )


def check_trained(net: Layer, names: tuple[str, ...]) -> None:
    """Raise NetworkError for the tangent kernel of a network that trains nothing."""
    if "ntk" in names and not net.program().trains():
        raise NetworkError(
            f"{net!r} has no trained layer, so its NTK is zero: leave trainable=False out of one "
            "layer, or use kernel='nngp'."
        )
