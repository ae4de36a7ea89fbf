"""Kernel matrices in one call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor

from kernreg.backends import bind
from kernreg.backends.base import CPU, Part, Request
from kernreg.backends.sparse import AnyRows, SparseRows
from kernreg.exceptions import InvalidInputError
from kernreg.nn import Layer
from kernreg.operators.autograd import (
    carry_numbers,
    detached,
    wants_gradient,
)
from kernreg.operators.images import check_shapes, flat_rows, on_images, shape_of
from kernreg.operators.inputs import (
    as_rows,
    as_sides,
    check_network,
    check_precision,
    check_trained,
    common_dtype,
    kernel_names,
    transformed,
)
from kernreg.operators.outputs import as_output, check_apart, deliver
from kernreg.operators.transfer import fill
from kernreg.operators.transformable import carry_diagonal, carry_entries

__all__ = ["Kernels", "diag", "gram"]


class Kernels(NamedTuple):
    """Both kernels of one network.

    Examples
    --------
    >>> found = gram("mlp(depth=1)", [[1.0, 0.0], [0.0, 1.0]], kernel=("nngp", "ntk"))
    >>> type(found).__name__, found.ntk.shape, bool((found.ntk >= found.nngp).all())
    ('Kernels', (2, 2), True)
    """

    nngp: Any
    ntk: Any


def gram(
    net: Layer | str,
    X1: Any,
    X2: Any = None,
    kernel: str | tuple[str, ...] = "ntk",
    *,
    dtype: DTypeLike | None = None,
    device: str | None = None,
    backend: str = "auto",
    out: Any = None,
    exact: bool = False,
    precision: str = "tf32x3",
    input_shape: tuple[int, ...] | None = None,
    channels: str = "last",
    params: Mapping[str, Any] | None = None,
) -> Any:
    """Kernel matrix of an infinitely wide network.

    Parameters
    ----------
    net : Layer or str
        The network, from :mod:`kernreg.nn`, or its code, such as ``"mlp(depth=2)"``.
    X1 : array of shape (n1, d), or of images (n1, height, width, channels)
        Rows: NumPy, torch (what comes in goes out), a frame of numbers or nested lists, or a
        sparse array of SciPy, whose zeros take no time. Half precision is computed in float64,
        with a warning.
    X2 : array of shape (n2, d), optional
        Columns; left out, the symmetric matrix of ``X1`` is computed, at half the price.
    kernel : {"ntk", "nngp"} or tuple of both
        Which kernel; both come from one pass.
    dtype : dtype, optional
        float32 or float64; that of the data if left out.
    device : device, optional
        "cpu" or "cuda"; where the data are if left out.
    backend : str
        "auto", "cpu", "triton", "cuda" or "reference".
    out : array of shape (n1, n2), optional
        Where to write, on the device or in host memory (a tuple of arrays for two kernels); it
        must not share memory with the rows.
    exact : bool
        Run every layer; no profile pass.
    precision : {"tf32x3", "ieee", "tf32", "bf16x3"}
        Of float32 products on the matrix units of a GPU: three tf32 products (the accuracy of
        float32), none of the matrix units, one tf32 product (relative error 5e-4), three bf16
        products (1e-5). Rows that are nearly parallel keep float32 accuracy under all of them.
    input_shape : tuple of int, optional
        ``(height, width, channels)`` of the images that flat rows hold, for a spatial network.
        Arrays of shape (n, height, width, channels) need none.
    channels : {"last", "first"}
        Where arrays of images have their channels; "first" is (n, channels, height, width).
    params : dict, optional
        Numbers of the network by name, as in ``net.get_params()``, in place of its own; tensors
        take part in autograd.

    Returns
    -------
    array of shape (n1, n2), or Kernels
        Of both kernels a tuple ``(nngp, ntk)``, in whatever order they were named. A symmetric
        matrix is so bit for bit, and its diagonal equals :func:`diag`. Of tensors that require a
        gradient it carries one (of networks on vectors).

    Raises
    ------
    InvalidInputError
        If data or arguments cannot be used.
    BackendError
        If the backend that was asked for cannot run the network.

    Notes
    -----
    O(n1 n2 (d + depth)) time; memory for the result and O(n (d + depth)). A backward pass by rows
    goes tile by tile, in float32 where all tensors are; between equal rows a kink's own part, which
    has no derivative, is left out. It can be differentiated once more, and works inside
    ``torch.func.grad``, ``jacrev``, ``hessian`` and ``vmap``. One by ``params`` takes four matrices
    for each number, and is exact to 3e-10.

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
    if transformed(X1, X2, *(params or {}).values()):
        _refuse_inside(device=device, out=out, input_shape=input_shape, channels=channels)
        options = {"dtype": dtype, "backend": backend, "exact": exact, "precision": precision}
        return _inside_a_transform(net, X1, X2, kernel, params, options)
    net = check_network(net, X1)
    numbers = dict(params or {})
    net = net.with_params(**{k: _number(v, k) for k, v in numbers.items()})
    names = kernel_names(kernel)
    check_trained(net, names)
    net = on_images(net, shape_of(X1, channels) or input_shape, "X1")
    net = net if X2 is None else on_images(net, shape_of(X2, channels), "X2")
    sources = flat_rows(X1, channels), None if X2 is None else flat_rows(X2, channels)
    A, B = as_sides(detached(sources[0]), detached(sources[1]), device)
    check_shapes(net, A.shape[1], "X1", sparse=isinstance(A, SparseRows))
    kind = common_dtype(dtype, A, B)
    shape = (len(A), len(A if B is None else B))
    tensors = isinstance(X1, Tensor)
    # Results that become NumPy arrays are brought to host memory panel by panel.
    outs = _outputs(out, names, shape, kind, A.device if tensors else CPU)
    if out is not None:
        given = out if isinstance(out, tuple) else (out,)
        for k, target in enumerate(given):
            check_apart(target, X1, X2, A, B, *given[:k])
    request = Request(net.program(), A, B, kind, exact, check_precision(precision), names)
    _, bound = bind(request, backend)
    whole = Part(0, shape[0], 0, shape[1])
    fill(bound, whole, outs, symmetric=B is None, device=A.device)
    if out is not None:
        for target, given in zip(
            outs.values(), out if isinstance(out, tuple) else (out,), strict=True
        ):
            deliver(target, given)
        return out
    results = {k: v if tensors else v.numpy() for k, v in outs.items()}
    if wants_gradient(*sources, *numbers.values()):
        results = {
            k: _carried(torch.as_tensor(v), sources, net, k, numbers, (A, B))
            for k, v in results.items()
        }
    return results[kernel] if isinstance(kernel, str) else _named(results, names)


def diag(
    net: Layer | str,
    X: Any,
    kernel: str = "ntk",
    *,
    dtype: DTypeLike | None = None,
    input_shape: tuple[int, ...] | None = None,
    channels: str = "last",
) -> Any:
    """Diagonal of the kernel matrix, each row with itself.

    Parameters
    ----------
    net : Layer or str
        The network, or its code.
    X : array of shape (n, d)
        Rows.
    kernel : {"ntk", "nngp"}
        Which kernel.
    dtype : dtype, optional
        float32 or float64; that of the data if left out.
    input_shape, channels
        As for :func:`gram`.

    Returns
    -------
    array of shape (n,)
        Of a tensor that requires a gradient it carries one.

    Raises
    ------
    InvalidInputError
        If data or arguments cannot be used.

    Notes
    -----
    O(n (d + depth)) time and memory; of images with pooling, the price of a pair for each.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import diag, nn
    >>> diag(nn.serial(nn.Dense(), nn.Relu(), nn.Dense()), np.eye(2))
    array([0.5, 0.5])
    """
    net = check_network(net, None if transformed(X) else X)
    (name,) = kernel_names(kernel, single=True)
    check_trained(net, (name,))
    if transformed(X):
        _refuse_inside(input_shape=input_shape, channels=channels)
        require_rows(X)
        return carry_diagonal(X, lambda A: diag(net, A, name, dtype=dtype), net.program(), name)
    net = on_images(net, shape_of(X, channels) or input_shape)
    source = flat_rows(X, channels)
    rows = as_rows(detached(source), "X")
    check_shapes(net, rows.shape[1], sparse=isinstance(rows, SparseRows))
    kind = common_dtype(dtype, rows)
    program = net.program()
    # Rows alone are all that vectors need.
    backend = "reference" if program.axes == 0 else "auto"
    _, bound = bind(Request(program, rows, None, kind, kernels=(name,)), backend)
    values = bound.diagonal(name).astype(kind)
    if not isinstance(X, Tensor):
        return values
    found = torch.from_numpy(values).to(X.device)
    if wants_gradient(source):
        return carry_diagonal(source, lambda _: found, program, name)
    return found


def _inside_a_transform(
    net: Layer | str,
    X1: Tensor,
    X2: Tensor | None,
    kernel: str | tuple[str, ...],
    params: Mapping[str, Any] | None,
    options: dict[str, Any],
) -> Any:
    """:func:`gram` where ``torch.func.grad``, ``jacrev`` or ``vmap`` want to see it."""
    net = check_network(net, None)
    if any(isinstance(v, Tensor) for v in (params or {}).values()):
        raise InvalidInputError(
            "gram inside torch.func.grad, vmap and the like takes no tensors in params=: give "
            "numbers, or use torch.autograd.grad."
        )
    require_rows(X1, X2)
    first, second = torch.as_tensor(X1), None if X2 is None else torch.as_tensor(X2)

    def entries(name: str) -> Tensor:
        def compute(A: Tensor, B: Tensor | None) -> Tensor:
            found: Tensor = gram(net, A, B, name, params=params, **options)
            return found

        changed = net.with_params(**dict(params or {}))
        return carry_entries(first, second, compute, changed.program(), name)

    names = kernel_names(kernel)
    found = {name: entries(name) for name in names}
    return found[kernel] if isinstance(kernel, str) else _named(found, names)


def _refuse_inside(channels: str = "last", **given: Any) -> None:
    """Refuse arguments that mean nothing inside a transform of torch."""
    names = [name for name, value in given.items() if value is not None]
    names += ["channels"] * (channels != "last")
    if names:
        raise InvalidInputError(
            f"{names[0]}= is not for calls inside torch.func.grad, vmap and the like: rows are "
            "matrices there, results are tensors where the rows are."
        )


def require_rows(*values: Any) -> None:
    """Refuse what is no matrix inside a transform of torch."""
    for X in values:
        if X is not None and np.ndim(X) != 2:
            raise InvalidInputError(
                "Inside torch.func.grad, vmap and the like rows must be tensors of shape (n, d), "
                f"found {tuple(np.shape(X))}."
            )


def _number(value: Any, name: str) -> Any:
    """A number of a network, of which tensors hold one."""
    if isinstance(value, Tensor) and value.numel() != 1:
        raise InvalidInputError(
            f"params: {name} must be one number, found a tensor of shape {tuple(value.shape)}."
        )
    return float(value.detach()) if isinstance(value, Tensor) else value


def _carried(
    K: Tensor,
    sources: tuple[Any, Any],
    net: Layer,
    kernel: str,
    numbers: dict[str, Any],
    rows: tuple[AnyRows, AnyRows | None],
) -> Tensor:
    """The matrix with its history."""
    if wants_gradient(*sources) and isinstance(rows[0], SparseRows):
        raise InvalidInputError(
            "There are no gradients by rows beside sparse ones: make all dense."
        )
    X1, X2 = (_as_source(X, A) for X, A in zip(sources, rows, strict=True))
    if wants_gradient(X1, X2):
        assert X1 is not None
        known = K
        K = carry_entries(X1, X2, lambda *_: known, net.program(), kernel)
    moving = {k: v for k, v in numbers.items() if wants_gradient(v)}
    if moving:
        A, B = (X.to(torch.float64) if isinstance(X, Tensor) else X for X in rows)

        def at(values: Any) -> Tensor:
            found: Tensor = gram(net.with_params(**values), A, B, kernel)
            return found

        K = carry_numbers(K, moving, at)
    return K


def _as_source(X: Any, rows: AnyRows | None) -> Tensor | None:
    """What a gradient is taken by: the tensor that came in, or rows that need none."""
    if rows is None or isinstance(rows, SparseRows):
        return None
    return X.to(rows.dtype) if isinstance(X, Tensor) else rows


def _outputs(
    out: Any, names: tuple[str, ...], shape: tuple[int, int], kind: np.dtype, device: torch.device
) -> dict[str, Tensor]:
    given = out if isinstance(out, tuple) else (out,)
    if out is None:
        given = (None,) * len(names)
    if len(given) != len(names):
        raise InvalidInputError(f"out must hold {len(names)} arrays, found {len(given)}.")
    return {name: as_output(o, shape, kind, device) for name, o in zip(names, given, strict=True)}


def _named(results: dict[str, Any], names: tuple[str, ...]) -> Any:
    if len(names) == 2:
        return Kernels(results["nngp"], results["ntk"])
    return (results[names[0]],)
