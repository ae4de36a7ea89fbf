"""Nonlinearities without a closed form as Hermite series, with coefficients for each row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kernreg.ir.pair import Dual
from kernreg.numerics.quadrature import line_values

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "HermiteTable",
    "hermite_coefficients",
    "hermite_polynomials",
    "parity",
    "series_length",
]

_ROWS = 256  # evaluated at once, each at about 2,000 nodes


@dataclass(frozen=True)
class HermiteTable:
    """Hermite coefficients of a nonlinearity at several standard deviations.

    Parameters
    ----------
    coefficients : Tensor, shape (n, n_terms)
        ``a_j(s) = E[phi(s z) h_j(z)]`` with normalised Hermite polynomials ``h_j``.
    tail : Tensor, shape (n,)
        ``E[phi(s z)^2] - sum_j a_j^2``: bounds the error of the series for ``kappa``.
    slope_tail : Tensor, shape (n,)
        ``s^2 E[phi'(s z)^2] - sum_j j a_j^2``, the same for ``s1 s2 kappa_dot``.
    """

    coefficients: Tensor
    tail: Tensor
    slope_tail: Tensor


def hermite_coefficients(fn: Dual, s: Any, n_terms: int) -> HermiteTable:
    """Coefficients of ``E[phi(u) phi(v)] = sum_j a_j(s1) a_j(s2) rho^j``.

    Parameters
    ----------
    fn : Dual
        The nonlinearity.
    s : array_like, shape (n,)
        Standard deviations.
    n_terms : int
        Length of the series.

    Returns
    -------
    HermiteTable

    Notes
    -----
    Time O(n n_terms) times about 2,000 nodes. The tails are differences, so they are known to
    about 1e-14 of the whole sums and never below 0.

    Examples
    --------
    >>> from kernreg import nn
    >>> table = hermite_coefficients(nn.Hermite((0, 0, 1)), [1.0], 4)
    >>> [round(abs(a), 12) for a in table.coefficients[0].tolist()]
    [0.0, 0.0, 1.0, 0.0]
    """
    import torch

    # Each once: products may differ in the last bit from row to row of a block.
    s, at = torch.unique(torch.as_tensor(s, dtype=torch.float64), return_inverse=True)
    tables, sums = [], []
    for block in s.split(_ROWS):
        nodes, value, slope, weights = line_values(fn, block)
        tables.append(value @ (hermite_polynomials(nodes, n_terms) * weights).T)
        squares = (value * value) @ weights
        sums.append((squares, block * block * ((slope * slope) @ weights)))
    table = torch.cat(tables)
    square, slope_square = (torch.cat(parts) for parts in zip(*sums, strict=True))
    order = torch.arange(n_terms, dtype=s.dtype, device=s.device)
    return HermiteTable(
        coefficients=table[at],
        tail=(square - (table * table).sum(1)).clamp(min=0.0)[at],
        slope_tail=(slope_square - (table * table) @ order).clamp(min=0.0)[at],
    )


def parity(fn: Dual) -> int:
    """1 for an even nonlinearity, -1 for an odd one, 0 for others.

    Examples
    --------
    >>> from kernreg import nn
    >>> parity(nn.Tanh()), parity(nn.Softplus())
    (-1, 0)
    """
    import torch

    from kernreg.numerics.torchmath import TorchMath

    x = torch.logspace(-3, 3, 999, dtype=torch.float64)
    right, left = (fn.phi(TorchMath, v) for v in (x, -x))
    return int(torch.equal(left, right)) - int(torch.equal(left, -right))


def series_length(fn: Dual, s: Any, tol: float, max_terms: int = 1024) -> int | None:
    """Terms after which the Hermite series is accurate for both moments.

    Parameters
    ----------
    fn : Dual
        The nonlinearity.
    s : array_like, shape (n,)
        Standard deviations that occur.
    tol : float
        Largest tail allowed, relative to ``E[phi^2]`` and to ``E[phi'^2]``; what is below 1e-13
        cannot be seen in float64 and counts as 1e-13.
    max_terms : int
        Longest series allowed.

    Returns
    -------
    int or None
        None if ``max_terms`` are not enough.

    Examples
    --------
    >>> from kernreg import nn
    >>> series_length(nn.Tanh(), [0.5], 1e-6), series_length(nn.Elu(), [1.0], 1e-12)
    (14, None)
    """
    import torch

    table = hermite_coefficients(fn, s, max_terms)
    square = table.coefficients**2
    order = torch.arange(max_terms, dtype=square.dtype, device=square.device)
    longest = 1
    for weighted, tail in ((square, table.tail), (square * order, table.slope_tail)):
        whole = weighted.sum(1) + tail
        # left[:, j]: what a series of j terms leaves out.
        left = weighted.flip(1).cumsum(1).flip(1) + tail[:, None]
        enough = left <= max(tol, 1e-13) * whole[:, None]
        if not bool((tail <= max(tol, 1e-13) * whole).all()):
            return None
        longest = max([longest, *(~enough).sum(1).tolist()])
    return longest


def hermite_polynomials(x: Tensor, n_terms: int) -> Tensor:
    """Normalised Hermite polynomials, shape (n_terms, len(x))."""
    import torch

    rows = [torch.ones_like(x), x]
    for j in range(1, n_terms - 1):
        rows.append((x * rows[j] - math.sqrt(j) * rows[j - 1]) / math.sqrt(j + 1))
    return torch.stack(rows[:n_terms])
