"""Averages over pairs as Hermite series: quick for many pairs of few rows, for smooth sigma.

With normalised Hermite polynomials, ``<f(x) g(y)> = sum_j f_j g_j rho^j`` where the coefficients
``f_j = <f h_j>`` depend on one row each. Near a kink the series converges too slowly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernreg.nn import Nonlinearity
from kernreg.numerics import hermite
from kernreg.theory.averages import line
from kernreg.theory.finite_width.pair_averages import Pairs, scaled
from kernreg.theory.finite_width.pair_rules import check_derivatives

__all__ = ["RowSeries", "SeriesSource", "row_series"]

_LONGEST = 512
_ROWS = 128  # at once, each at about 2,000 nodes


@dataclass(frozen=True)
class RowSeries:
    """Coefficients and means of what is averaged, for n rows.

    Parameters
    ----------
    tables : dict of Tensor, each of shape (n, terms)
        Coefficients of f and its derivatives 0 to 3, their powers and products with x: "xx f2"
        is ``x^2 f''`` and "f0 f0 f1" is ``f^2 f'``.
    means : dict of Tensor, each of shape (n,)
        Means of products of two or four of these.
    """

    tables: dict[str, Tensor]
    means: dict[str, Tensor]


def row_series(fn: Nonlinearity, s: Tensor, tolerance: float, *, tangent: bool) -> RowSeries | None:
    """Series of rows, as long as the tolerance wants.

    Parameters
    ----------
    fn : Nonlinearity
        The nonlinearity.
    s : Tensor, shape (n,)
        Standard deviations of the rows.
    tolerance : float
        Largest share of a mean square that may be left out.
    tangent : bool
        Whether the averages for the NTK are wanted.

    Returns
    -------
    RowSeries or None
        None if 512 terms are not enough.

    Raises
    ------
    InvalidInputError
        If autograd does not give the derivatives of ``fn``.

    Notes
    -----
    Time O(n terms) times 2,000 nodes, memory O(n terms).

    Examples
    --------
    >>> from kernreg import nn
    >>> s = torch.ones(1, dtype=torch.float64)
    >>> row_series(nn.Tanh(), s, 1e-4, tangent=False).tables["f0"].shape[1] < 60
    True
    >>> row_series(nn.Relu(), s, 1e-4, tangent=False) is None
    True
    """
    if not fn.smooth:
        return None
    check_derivatives(fn, float(s.max()), 3 if tangent else 2)
    parts = [_rows(fn, block, tangent) for block in s.split(_ROWS)]
    tables, means, squares = (
        {name: torch.cat([part[k][name] for part in parts]) for name in parts[0][k]}
        for k in range(3)
    )
    terms = 1
    for name, table in tables.items():
        left = squares[name][:, None] - (table * table).cumsum(1)
        missing = (left > tolerance * squares[name][:, None]).sum(1) + 1
        terms = max(terms, int(missing.max()))
    if terms > _LONGEST:
        return None
    return RowSeries({name: table[:, :terms] for name, table in tables.items()}, means)


def _rows(
    fn: Nonlinearity, s: Tensor, tangent: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Coefficients to the longest length, means, and mean squares."""
    rule = line(fn, (s * s).numpy())
    x, weights = torch.from_numpy(rule.nodes), torch.from_numpy(rule.weights)
    f = scaled(fn, x.expand(len(s), -1), s, 3 if tangent else 2)
    square = f[0] * f[0]
    parts = {"f0": f[0], "f0 f0": square, "f0 f0 f0": square * f[0], "f1": f[1], "f2": f[2]}
    parts |= {"x f1": x * f[1], "x f2": x * f[2], "xx f2": x * x * f[2]}
    if tangent:
        parts |= {"f3": f[3], "x f3": x * f[3], "xx f3": x * x * f[3]}
        parts |= {"f0 f1": f[0] * f[1], "f0 f0 f1": square * f[1]}
    means = {
        "f0^2": square,
        "f0^4": square * square,
        "x f1 f0": x * f[1] * f[0],
        "xx f2 f0": x * x * f[2] * f[0],
        "x f2 f1": x * f[2] * f[1],
        "f1^2": f[1] * f[1],
    }
    basis = (hermite.hermite_polynomials(x, _LONGEST) * weights).T
    return (
        {name: part @ basis for name, part in parts.items()},
        {name: part @ weights for name, part in means.items()},
        {name: (part * part) @ weights for name, part in parts.items()},
    )


@dataclass(frozen=True)
class SeriesSource:
    """Averages of pairs of rows, as
    :class:`kernreg.theory.finite_width.pair_averages.NodeSource` gives them.

    Parameters
    ----------
    rows : RowSeries
        Of all rows.
    i, j : Tensor, shape (P,)
        Which rows make the pairs.
    """

    rows: RowSeries
    i: Tensor
    j: Tensor

    def distances(self, pairs: Pairs, c1: Tensor, c2: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`kernreg.theory.finite_width.pair_averages.NodeSource.distances`."""
        square = self.rows.means["f0^2"]
        own = 0.5 * (c1**2 * square[self.i] + c2**2 * square[self.j])
        overlap = c1 * c2 * self._Products(self, pairs.rho)("f0", "f0")
        return own - overlap, own + overlap

    def sums(
        self, pairs: Pairs, c1: Tensor, c2: Tensor, after: Pairs, *, tangent: bool
    ) -> dict[str, Tensor]:
        """See :meth:`kernreg.theory.finite_width.pair_averages.NodeSource.sums`."""
        P = self._Products(self, pairs.rho)
        r, c = after.rho, c1 * c2
        means = self.rows.means
        f = {name: mean[self.i] for name, mean in means.items()}
        g = {name: mean[self.j] for name, mean in means.items()}
        uu, vv, uv = c1**2 * f["f0^2"], c2**2 * g["f0^2"], c * P("f0", "f0")
        uuuu, vvvv = c1**4 * f["f0^4"], c2**4 * g["f0^4"]
        uuuv, uvvv = c1**2 * c * P("f0 f0 f0", "f0"), c2**2 * c * P("f0", "f0 f0 f0")
        uuvv = c**2 * P("f0 f0", "f0 f0")
        out = {
            "u v": uv,
            "u u": uu,
            "w": uv - 0.5 * r * (uu + vv),
            "v v": vv,
            "uu uu": uuuu,
            "uu w": uuuv - 0.5 * r * (uuuu + uuvv),
            "uu vv": uuvv,
            "w w": uuvv - r * (uuuv + uvvv) + 0.25 * r**2 * (uuuu + 2.0 * uuvv + vvvv),
            "w vv": uvvv - 0.5 * r * (uuvv + vvvv),
            "vv vv": vvvv,
            "x u f1": c1 * f["x f1 f0"],
            "y v g1": c2 * g["x f1 f0"],
            "x2 f2 f0": f["xx f2 f0"],
            "y2 g2 g0": g["xx f2 f0"],
            "x f2 f1": f["x f2 f1"],
            "y g2 g1": g["x f2 f1"],
            "f1 f1": f["f1^2"],
            "g1 g1": g["f1^2"],
            "x f1 v_u": c2 * P("x f1", "f0") - r * c1 * f["x f1 f0"],
            "y g1 u_v": c1 * P("f0", "x f1") - r * c2 * g["x f1 f0"],
            "x2 20": P("xx f2", "f0"),
            "x 21": P("x f2", "f1"),
            "11": P("f1", "f1"),
            "22": P("f2", "f2"),
            "y 12": P("f1", "x f2"),
            "y2 02": P("f0", "xx f2"),
        }
        if tangent:
            uu_dot, vv_dot = c1**2 * P("f0 f0 f1", "f1"), c2**2 * P("f1", "f0 f0 f1")
            uv_dot = c * P("f0 f1", "f0 f1")
            out |= {
                "uu 11": uu_dot,
                "uv 11": uv_dot,
                "vv 11": vv_dot,
                "w 11": uv_dot - 0.5 * r * (uu_dot + vv_dot),
                "x2 31": P("xx f3", "f1"),
                "x 32": P("x f3", "f2"),
                "33": P("f3", "f3"),
                "y 23": P("f2", "x f3"),
                "y2 13": P("f1", "xx f3"),
            }
        return out

    class _Products:
        """``<f g>`` over pairs for two tables by name."""

        def __init__(self, source: SeriesSource, rho: Tensor) -> None:
            tables = source.rows.tables
            terms = tables["f0"].shape[1]
            powers = rho[:, None] ** torch.arange(terms, dtype=rho.dtype)
            self.left = {name: table[source.i] for name, table in tables.items()}
            self.right = {name: table[source.j] * powers for name, table in tables.items()}

        def __call__(self, f: str, g: str) -> Tensor:
            return torch.einsum("pj,pj->p", self.left[f], self.right[g])
