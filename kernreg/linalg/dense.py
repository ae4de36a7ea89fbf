"""Kernel matrices in one call."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

from kernreg.backends import bind
from kernreg.backends.base import Part, Request
from kernreg.exceptions import InvalidInputError
from kernreg.linalg.inputs import (
    as_rows,
    check_device,
    check_network,
    common_dtype,
    kernel_names,
)
from kernreg.nn import Layer

__all__ = ["Kernels", "diag", "gram"]


class Kernels(NamedTuple):
    """Both kernels of one network."""

    nngp: Any
    ntk: Any


def gram(
    net: Layer,
    X1: Any,
    X2: Any = None,
    kernel: str | tuple[str, ...] = "ntk",
    *,
    dtype: DTypeLike | None = None,
    device: str | None = None,
    backend: str = "auto",
    out: Any = None,
    exact: bool = False,
) -> Any:
    """Kernel matrix of an infinitely wide network.

    Parameters
    ----------
    net : Layer
        The network, from :mod:`kernreg.nn`.
    X1 : array of shape (n1, d)
        Rows, NumPy or torch; what comes in goes out.
    X2 : array of shape (n2, d), optional
        Columns; left out, the symmetric matrix of ``X1`` is computed, at half the price.
    kernel : {"ntk", "nngp"} or tuple of both
        Which kernel; both come from one pass.
    dtype : dtype, optional
        float32 or float64; that of the data if left out.
    device : str, optional
        Only "cpu".
    backend : str
        "auto", "cpu" or "reference".
    out : array of shape (n1, n2), optional
        Where to write (a tuple of arrays for two kernels).
    exact : bool
        Run every layer; no profile pass.

    Returns
    -------
    array of shape (n1, n2), or Kernels
        A symmetric matrix is so bit for bit, and its diagonal equals :func:`diag`.

    Raises
    ------
    InvalidInputError
        If data or arguments cannot be used.
    BackendError
        If the backend that was asked for cannot run the network.

    Notes
    -----
    O(n1 n2 (d + depth)) time; memory for the result and O(n (d + depth)).

    References
    ----------
    Jacot, Gabriel, Hongler, "Neural tangent kernel" (2018); Lee et al., "Deep neural networks as
    Gaussian processes" (2018).

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import gram, nn
    >>> net = nn.serial(nn.Dense(), nn.Relu(), nn.Dense())
    >>> gram(net, np.eye(2)).round(4)
    array([[0.5   , 0.0796],
           [0.0796, 0.5   ]])
    """
    check_network(net)
    check_device(device)
    names = kernel_names(kernel)
    A = as_rows(X1, "X1")
    B = None if X2 is None else as_rows(X2, "X2", like=A)
    kind = common_dtype(dtype, A, B)
    shape = (len(A), len(A if B is None else B))
    outs = _outputs(out, names, shape, kind)
    _, bound = bind(Request(net.program(), A, B, kind, exact), backend)
    bound.fill(Part(0, shape[0], 0, shape[1]), outs)
    if out is not None:
        return out
    tensors = isinstance(X1, torch.Tensor)
    results: dict[str, Any] = {k: torch.from_numpy(v) if tensors else v for k, v in outs.items()}
    return results[kernel] if isinstance(kernel, str) else _named(results, names)


def diag(net: Layer, X: Any, kernel: str = "ntk", *, dtype: DTypeLike | None = None) -> Any:
    """Diagonal of the kernel matrix, each row with itself.

    Parameters
    ----------
    net : Layer
        The network.
    X : array of shape (n, d)
        Rows.
    kernel : {"ntk", "nngp"}
        Which kernel.
    dtype : dtype, optional
        float32 or float64; that of the data if left out.

    Returns
    -------
    array of shape (n,)

    Raises
    ------
    InvalidInputError
        If data or arguments cannot be used.

    Notes
    -----
    O(n (d + depth)) time and memory.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import diag, nn
    >>> diag(nn.serial(nn.Dense(), nn.Relu(), nn.Dense()), np.eye(2))
    array([0.5, 0.5])
    """
    check_network(net)
    (name,) = kernel_names(kernel, single=True)
    rows = as_rows(X, "X")
    kind = common_dtype(dtype, rows)
    _, bound = bind(Request(net.program(), rows, None, kind), "reference")
    values = bound.diagonal(name).astype(kind)
    return torch.from_numpy(values) if isinstance(X, torch.Tensor) else values


def _outputs(
    out: Any, names: tuple[str, ...], shape: tuple[int, int], kind: np.dtype
) -> dict[str, NDArray[Any]]:
    if out is None:
        return {name: np.empty(shape, kind) for name in names}
    given = (out,) if len(names) == 1 and not isinstance(out, tuple) else tuple(out)
    arrays = [o.numpy() if isinstance(o, torch.Tensor) else o for o in given]
    for a in arrays:
        fits = isinstance(a, np.ndarray) and a.shape == shape and a.dtype == kind
        if not fits or a.strides[1] != a.itemsize or not a.flags.writeable:
            found = f"{getattr(a, 'dtype', type(a).__name__)} of shape {getattr(a, 'shape', None)}"
            raise InvalidInputError(
                f"out must be a writeable {kind.name} array of shape {shape} with contiguous "
                f"rows, found {found}."
            )
    if len(arrays) != len(names):
        raise InvalidInputError(f"out must hold {len(names)} arrays, found {len(arrays)}.")
    return dict(zip(names, arrays, strict=True))


def _named(results: dict[str, Any], names: tuple[str, ...]) -> Any:
    if len(names) == 2:
        return Kernels(results["nngp"], results["ntk"])
    return (results[names[0]],)
