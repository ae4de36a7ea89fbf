"""Power series of the kernels of fully connected networks on a sphere."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.special
import torch
from numpy.polynomial.polynomial import polyval
from numpy.typing import NDArray

from kernreg import nn
from kernreg.backends import rows as R
from kernreg.exceptions import InvalidInputError
from kernreg.ir import operations as ir
from kernreg.ir.fold import Pass, Rules
from kernreg.ir.pair import Dual
from kernreg.numerics.hermite import hermite_coefficients
from kernreg.numerics.torchmath import TorchMath
from kernreg.operators import diag, gram
from kernreg.operators.inputs import check_network, kernel_names
from kernreg.theory.averages import line
from kernreg.theory.checks import check_count
from kernreg.theory.inverse.power_series import (
    INSIDE,
    REFUSED,
    ROUNDING,
    Circle,
    Complex,
    PowerSeries,
    with_errors,
)

__all__ = ["kernel_coefficients", "sine_coefficients"]

Array = NDArray[np.float64]

# Hermite terms of a nonlinearity: what ``line_values`` resolves.
_TERMS = 1024


def kernel_coefficients(net: nn.Layer | str, kernel: str = "ntk", degree: int = 40) -> PowerSeries:
    """Power series of a network's kernel on inputs with ``|x|^2 = d``.

    Parameters
    ----------
    net : Layer
        A fully connected network of any depth, with any nonlinearities, branches and loops.
    kernel : {"ntk", "nngp"}
        Which kernel.
    degree : int
        Of the last coefficient.

    Returns
    -------
    PowerSeries

    Raises
    ------
    InvalidInputError
        If an argument is unusable, the tangent kernel goes through a jump, or a nonlinearity needs
        more than 1,024 Hermite terms.
    UnknownOperationError
        If there is no rule for a layer: the kernel behind dropout is not a function of the angle.

    Notes
    -----
    The layers act on the kernel at complex ``c``: a nonlinearity by its Hermite coefficients at
    its variance, ``kappa = sum_j b_j^2 rho^j``, one of two slopes by its closed form with complex
    ``acos``. The result is compared with :func:`kernreg.gram` where the error is largest. About
    1,000 points times 1,000 terms for each layer, up to 0.1 s.

    References
    ----------
    J. Simon, S. Anand, M. DeWeese, Reverse engineering the neural tangent kernel, ICML 2022.

    Examples
    --------
    >>> from kernreg import nn
    >>> net = nn.serial(nn.Dense(2**0.5), nn.Relu(), nn.Dense(2**0.5))
    >>> print(kernel_coefficients(net, "ntk", degree=3))
    a_k: 0.6366 2 0.9549 0 up to degree 3; left out 0.41 at c = 1, 0.22 for |c| <= 0.95
    """
    net = check_network(net)
    circle = Circle.of_degree(check_count("degree", degree))
    (kernel,) = kernel_names(kernel, single=True)
    program = net.program()
    row = R.Row(torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
    end = _Walk(program.params).run(program.ops, _State(circle.points, 0.0 * circle.points, row))
    values = end.nngp if kernel == "nngp" else end.ntk
    # The first point is c = r, where the positive terms that were left out add up.
    expected = _exact(net, kernel, circle.radius)
    missed = abs(values[0].real - expected)
    if not missed <= REFUSED * expected:
        raise InvalidInputError(
            f"the {kernel} of this network has no power series that is good enough: at c = "
            f"{circle.radius:.3g} it is off by {missed:.1e} of {expected:.3g}. The tangent kernel "
            "of a jump (nn.Sign) has none; otherwise use fewer layers or smoother nonlinearities."
        )
    return circle.series(
        values,
        float(diag(net, np.ones((1, 1)), kernel)[0]),
        _exact(net, kernel, INSIDE),
        noise=missed,
    )


def sine_coefficients(sine: nn.Sin, kernel: str = "ntk", degree: int = 40) -> PowerSeries:
    r"""Power series of one hidden layer of :class:`kernreg.nn.Sin`, in closed form.

    Parameters
    ----------
    sine : Sin
        ``a sin(b z + c)``.
    kernel : {"ntk", "nngp"}
        Of ``serial(Dense(), sine, Dense())``.
    degree : int
        Of the last coefficient; the largest one is near ``b^2``.

    Returns
    -------
    PowerSeries

    Raises
    ------
    InvalidInputError
        If an argument is unusable.

    Notes
    -----
    ``a_k = (1 + k) a^2 exp(-b^2) b^(2k) / k!`` for the NTK, times ``cos(c)^2`` for odd and
    ``sin(c)^2`` for even ``k``; without ``1 + k`` for the NNGP kernel. With a phase of 0 the kernel
    is odd, and on the hypercube its spectrum becomes flat as ``b`` grows, which is what the parity
    function asks for.

    Examples
    --------
    >>> from kernreg import nn
    >>> sine_coefficients(nn.Sin(b=2.0), degree=5).coefficients.round(4)
    array([0.    , 0.1465, 0.    , 0.7815, 0.    , 0.9378])
    """
    if not isinstance(sine, nn.Sin):
        raise InvalidInputError(f"sine must be an nn.Sin, found {sine!r}.")
    degree = check_count("degree", degree)
    (kernel,) = kernel_names(kernel, single=True)
    trained = kernel == "ntk"
    k = np.arange(degree + 1)
    rate = sine.b**2
    poisson = np.exp(scipy.special.xlogy(k, rate) - rate - scipy.special.gammaln(k + 1))
    shares = np.where(k % 2 == 1, 1.0 - sine.sin2, sine.sin2)
    a = sine.a**2 * poisson * shares * (1.0 + trained * k)
    network = nn.serial(nn.Dense(), sine, nn.Dense())
    one, at_inside = (_exact(network, kernel, c) for c in (1.0, INSIDE))
    return with_errors(a, one, at_inside, INSIDE, ROUNDING * one)


class _State(NamedTuple):
    """Both kernels at complex points, and the row that they belong to."""

    nngp: Complex
    ntk: Complex
    row: R.Row

    @property
    def variance(self) -> float:
        return float(self.row.s) ** 2


SERIES = Rules("the power series of a kernel")
"""Rules ``(params, operation, *states) -> (nngp, ntk)`` at complex points."""


@dataclass(frozen=True)
class _Walk(Pass[_State]):
    params: tuple[float, ...]

    def step(self, op: ir.Op, xs: list[_State], done: list[_State]) -> _State:
        if isinstance(op, ir.Repeat):
            return self.repeat(op, xs[0])
        nngp, ntk = SERIES.find(op)(self.params, op, *xs)
        return _State(nngp, ntk, R.row_behind(op, self.params, *(x.row for x in xs)))


@SERIES.of(ir.Dense)
def _dense(params: tuple[float, ...], op: ir.Dense, x: _State) -> tuple[Complex, Complex]:
    square = params[op.W] ** 2
    bias = 0.0 if op.b is None else params[op.b] ** 2
    nngp = square * x.nngp + bias
    new = nngp if op.fan_in is None else op.fan_in * x.nngp + float(op.b is not None)
    new = new if op.trained else 0.0 * nngp
    return nngp, new + square * x.ntk


@SERIES.of(ir.Apply)
def _apply(params: tuple[float, ...], op: ir.Apply, x: _State) -> tuple[Complex, Complex]:
    kappa, kappa_dot = _dual(op.bound(params), x.nngp, x.variance)
    return kappa, kappa_dot * x.ntk


@SERIES.of(ir.Sum)
def _sum(params: tuple[float, ...], op: ir.Sum, *xs: _State) -> tuple[Complex, Complex]:
    weights = op.weights(params)
    nngp = np.tensordot(weights, [x.nngp for x in xs], axes=1)
    return nngp, np.tensordot(weights, [x.ntk for x in xs], axes=1)


@SERIES.of(ir.Product)
def _product(params: tuple[float, ...], op: ir.Product, *xs: _State) -> tuple[Complex, Complex]:
    nngp, ntk = xs[0].nngp, xs[0].ntk
    for x in xs[1:]:
        nngp, ntk = nngp * x.nngp, ntk * x.nngp + nngp * x.ntk
    return nngp, ntk


@SERIES.of(ir.Normalize)
def _normalize(params: tuple[float, ...], op: ir.Normalize, x: _State) -> tuple[Complex, Complex]:
    scale = params[op.eps] + x.variance
    return x.nngp / scale, x.ntk / scale


def _dual(fn: Dual, k: Complex, q: float) -> tuple[Complex, Complex]:
    """``E[phi phi]`` and ``E[phi' phi']`` at complex covariances ``k`` and variance ``q``."""
    rho: Complex = k / q
    if fn.homogeneous == 1:
        ends = torch.tensor([-1.0, 1.0], dtype=torch.float64)
        below, above = (fn.phi(TorchMath, ends) * ends).tolist()
        bend = (above - below) ** 2 / (2.0 * math.pi)
        turn = 0.5 * math.pi + np.arcsin(rho)  # pi - acos
        sine = np.sqrt(1.0 - rho) * np.sqrt(1.0 + rho)
        return (
            q * (bend * (sine + turn * rho) + below * above * rho),
            bend * turn + below * above,
        )
    squares = _hermite_squares(fn, q)
    # Terms that even the largest correlation leaves below rounding.
    sizes = np.arange(_TERMS) * squares * float(np.abs(rho).max()) ** np.arange(_TERMS)
    squares = squares[: 2 + int(np.count_nonzero(np.cumsum(sizes[::-1]) > 1e-17 * sizes.sum()))]
    slopes = np.arange(1, len(squares)) * squares[1:]
    return polyval(rho, squares), polyval(rho, slopes) / q


@functools.lru_cache(maxsize=256)
def _hermite_squares(fn: Dual, q: float) -> Array:
    """``b_j^2`` of ``phi(sqrt(q) z) = sum_j b_j h_j(z)``."""
    line(fn, q)  # refuses what cannot be averaged
    table = hermite_coefficients(fn, [math.sqrt(q)], _TERMS)
    return table.coefficients[0].numpy() ** 2


def _exact(net: nn.Layer, kernel: str, c: float) -> float:
    """The kernel of two inputs with ``|x|^2 = d`` at the angle ``acos(c)``."""
    x = np.array([[1.0, 0.0], [c, math.sqrt(1.0 - c * c)]]) * math.sqrt(2.0)
    return float(gram(net, x[:1], x[1:], kernel, backend="reference")[0, 0])
