"""Solutions of kernel systems as functions of matrix, targets and ridge."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernreg.exceptions import InvalidInputError, NotPositiveDefiniteError
from kernreg.operators.autograd import NOT_AGAIN, once
from kernreg.operators.inputs import transformed
from kernreg.operators.kernel import KernelOperator
from kernreg.operators.pull_back import pull_back, weights_of_product

__all__ = ["solve"]


def solve(K: Any, y: Tensor, ridge: Any) -> Tensor:
    """Solution ``c`` of ``(K + ridge I) c = y``, differentiable by all three.

    Parameters
    ----------
    K : Tensor of shape (n, n), or KernelOperator
        Symmetric and positive semidefinite. Of an operator on a tensor of rows that requires a
        gradient, the rows get it.
    y : Tensor of shape (n,) or (n, t)
        Right-hand sides.
    ridge : float or Tensor
        One number, at least 0.

    Returns
    -------
    Tensor of the shape of ``y``, float64

    Raises
    ------
    InvalidInputError
        If shapes do not fit.
    NotPositiveDefiniteError
        If there is no Cholesky factor.

    Notes
    -----
    One factorisation, n^3/3 operations and n^2 numbers in float64. The backward pass solves once
    more with it (implicit differentiation), and of an operator goes over its tiles.

    Examples
    --------
    >>> import torch
    >>> from kernreg import KernelOperator, nn, solve
    >>> X = torch.eye(3, dtype=torch.float64, requires_grad=True)
    >>> c = solve(KernelOperator(nn.mlp(depth=1), X), torch.ones(3, dtype=torch.float64), 0.1)
    >>> c.sum().backward()
    >>> X.grad.shape
    torch.Size([3, 3])
    """
    operator = K if isinstance(K, KernelOperator) else None
    shape = tuple(K.shape)
    if len(shape) != 2 or shape[0] != shape[1] or (operator and not operator.symmetric):
        raise InvalidInputError(
            f"K must be a symmetric matrix or the operator of one set of rows, found shape {shape}."
        )
    if not isinstance(y, Tensor) or y.ndim not in (1, 2) or len(y) != shape[0]:
        raise InvalidInputError(
            f"y must be a tensor of shape ({shape[0]},) or ({shape[0]}, t), found "
            f"{tuple(getattr(y, 'shape', ()))}."
        )
    if operator is None and transformed(K, y, ridge):
        return _inside_a_transform(K, y, ridge)
    level = torch.as_tensor(ridge, dtype=torch.float64)
    if level.numel() != 1 or not float(level.detach()) >= 0:
        raise InvalidInputError(f"ridge must be one number, at least 0, found {ridge!r}.")
    columns = y.reshape(len(y), -1)
    source = K if operator is None else operator.source
    out: Tensor = _Solve.apply(source, columns, level.reshape(()), operator)
    return out.reshape(y.shape)


def _inside_a_transform(K: Tensor, y: Tensor, ridge: Any) -> Tensor:
    """The same by functions of torch, which ``torch.func`` can see."""
    level = torch.as_tensor(ridge, dtype=torch.float64)
    if level.numel() != 1 or (not isinstance(ridge, Tensor) and not ridge >= 0):
        raise InvalidInputError(f"ridge must be one number, at least 0, found {ridge!r}.")
    wide, ridge = K.to(torch.float64), level.reshape(())
    shifted = wide + ridge * torch.eye(len(wide), dtype=wide.dtype, device=wide.device)
    try:
        factor = torch.linalg.cholesky(shifted)
    except torch.linalg.LinAlgError as error:
        raise NotPositiveDefiniteError(
            "K + ridge I has no Cholesky factor; use a larger ridge."
        ) from error
    return torch.cholesky_solve(y.to(torch.float64).reshape(len(y), -1), factor).reshape(y.shape)


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, source: Tensor, y: Tensor, ridge: Tensor, operator: KernelOperator | None
    ) -> Tensor:
        if operator is None:
            K = source.to(torch.float64, copy=True)
        else:
            K = torch.as_tensor(operator.astype("float64").to_dense())
        K.diagonal().add_(float(ridge))
        factor, wrong = torch.linalg.cholesky_ex(K)
        if int(wrong):
            raise NotPositiveDefiniteError(
                f"K + {float(ridge):.3g} I has no Cholesky factor; use a larger ridge."
            )
        c = torch.cholesky_solve(y.to(torch.float64), factor)
        ctx.operator = operator
        ctx.kinds = y.dtype, ridge.dtype
        ctx.save_for_backward(source, factor, c)
        return c

    @staticmethod
    @once(NOT_AGAIN)
    def backward(ctx: Any, g: Tensor) -> Any:
        source, factor, c = ctx.saved_tensors
        adjoint = torch.cholesky_solve(g.to(torch.float64), factor)
        by_source = None
        if ctx.needs_input_grad[0] and ctx.operator is None:
            half = adjoint @ c.T
            by_source = (-0.5 * (half + half.T)).to(source.dtype)
        elif ctx.needs_input_grad[0]:
            operator = ctx.operator
            program = operator.net.program()
            by_source, _ = pull_back(
                program, source, None, operator.kernel, weights_of_product(-adjoint, c, True)
            )
            assert by_source is not None
            by_source = by_source.to(source.dtype)
        by_ridge = -(adjoint * c).sum().to(ctx.kinds[1])
        return by_source, adjoint.to(ctx.kinds[0]), by_ridge, None
