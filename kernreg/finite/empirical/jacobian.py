"""Jacobians of modules by their parameters, and products with them that store none."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.func import functional_call, jacrev, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["dots", "jacobian", "pull", "push"]

Params = Mapping[str, Tensor]

# Numbers of a row that are summed in its own type: of a million, float32 loses four digits.
_SUMMED = 2**9
# Numbers in the sums of pieces that are made at once.
_SUMS = 2**22


def dots(a: Tensor, b: Tensor) -> Tensor:
    """Inner products of rows, ``a @ b.T``, the sums of their pieces in float64.

    Examples
    --------
    >>> ones = torch.full((1, 10**6), 0.1, dtype=torch.float32)
    >>> abs(dots(ones, ones).item() / (10**6 * ones[0, 0].item() ** 2) - 1) < 1e-6
    True
    """
    total = torch.zeros((len(a), len(b)), dtype=torch.float64, device=a.device)
    step = _SUMMED * min(32, max(1, _SUMS // max(1, total.numel())))
    for x, y in zip(a.split(step, 1), b.split(step, 1), strict=True):
        whole = x.shape[1] - x.shape[1] % _SUMMED
        total += (_pieces(x, whole) @ _pieces(y, whole).mT).sum(0, dtype=torch.float64)
        total += x[:, whole:] @ y[:, whole:].T
    return total.to(a.dtype)


def _pieces(a: Tensor, whole: int) -> Tensor:
    """Of shape (pieces, n, numbers that are summed)."""
    return a[:, :whole].unflatten(1, (-1, _SUMMED)).transpose(0, 1)


def _outputs(module: torch.nn.Module, params: Params, X: Tensor) -> Tensor:
    """Of shape (n, t)."""
    # A copy, as a module may change what it is given; attention by products of matrices, as the
    # fused one has no second derivative.
    with sdpa_kernel(SDPBackend.MATH):
        found: Tensor = functional_call(module, dict(params), (X.clone(),))
    return found.reshape(len(X), -1)


def jacobian(
    module: torch.nn.Module, params: Params, X: Tensor, output: int | None
) -> list[Tensor]:
    """Derivatives of outputs by parameters.

    Parameters
    ----------
    module : Module
        Each row of its outputs must belong to the same row of ``X``.
    params : mapping of str to Tensor
        Those that take part.
    X : Tensor
        Rows.
    output : int or None
        One output, or all of them.

    Returns
    -------
    list of Tensor
        For each parameter, of shape (n, t, its numbers).
    """

    def one(given: Params, x: Tensor) -> Tensor:
        y = _outputs(module, given, x[None])[0]
        return y if output is None else y[output : output + 1]

    found = vmap(jacrev(one), (None, 0))(dict(params), X)
    return [part.flatten(2).detach() for part in found.values()]


def pull(module: torch.nn.Module, params: Params, X: Tensor, v: Tensor) -> list[Tensor]:
    """``J^T v``: one tensor for each parameter; ``v`` has shape (n, t)."""
    with torch.enable_grad():
        leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
        y = _outputs(module, leaves, X)
        found = torch.autograd.grad(y, list(leaves.values()), v, allow_unused=True)
    return [
        torch.zeros_like(p) if g is None else g for g, p in zip(found, leaves.values(), strict=True)
    ]


def push(module: torch.nn.Module, params: Params, X: Tensor, direction: list[Tensor]) -> Tensor:
    """``J direction``, of shape (n, t)."""
    given = {name: p.detach() for name, p in params.items()}
    along = dict(zip(given, direction, strict=True))

    def run(p: Params) -> Tensor:
        return _outputs(module, p, X)

    try:
        found: Tensor = torch.func.jvp(run, (given,), (along,))[1]
    except (NotImplementedError, RuntimeError):
        # No forward derivative of some operation: that of J^T v by v does as well.
        found = _twice(module, given, X, direction)
    return found.detach()


def _twice(module: torch.nn.Module, params: Params, X: Tensor, direction: list[Tensor]) -> Tensor:
    with torch.enable_grad():
        leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
        y = _outputs(module, leaves, X)
        v = torch.zeros_like(y, requires_grad=True)
        leaf = list(leaves.values())
        pulled = torch.autograd.grad(y, leaf, v, create_graph=True, allow_unused=True)
        along = sum((g * d).sum() for g, d in zip(pulled, direction, strict=True) if g is not None)
        assert isinstance(along, Tensor)
        return torch.autograd.grad(along, v)[0]
