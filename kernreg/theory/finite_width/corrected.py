"""Kernel matrices of wide but finite networks: the mean kernel to order 1/width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernreg.backends.reference import input_pairs
from kernreg.exceptions import InvalidInputError
from kernreg.linalg import gram
from kernreg.linalg.inputs import as_rows, kernel_names
from kernreg.nn import Layer
from kernreg.theory.finite_width.one_input import run
from kernreg.theory.finite_width.pair_averages import Pairs
from kernreg.theory.finite_width.pair_rules import PairRule, count, pair_rule
from kernreg.theory.finite_width.plain import Plain, check_widths, plain_layers, width_ratios
from kernreg.theory.finite_width.two_inputs import PairState, first_state, next_state

__all__ = ["corrected_gram"]

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

_VALUES = 1 << 16  # pairs times nodes at once; some 40 arrays of as many numbers
_GROWTH = math.log(1.2)


def corrected_gram(
    net: Layer,
    X1: Any,
    X2: Any = None,
    kernel: str = "nngp",
    *,
    width: int | Sequence[int],
    tolerance: float = 1e-4,
) -> Array:
    """Mean kernel of networks of a finite width, to order 1/width.

    Parameters
    ----------
    net : Layer
        Dense layers with one nonlinearity between two of them, as :func:`kernreg.nn.mlp` makes.
        The nonlinearity is smooth, or has a kink at 0.
    X1 : array_like of shape (n, d)
        Rows.
    X2 : array_like of shape (m, d), optional
        Columns; left out, the symmetric matrix of ``X1``.
    kernel : {"nngp", "ntk"}
        Which kernel.
    width : int or sequence of int
        Width of the hidden layers, or of each.
    tolerance : float, default=1e-4
        Relative accuracy of the averages in the correction. The kernel itself is exact.

    Returns
    -------
    ndarray of shape (n, m)
        ``K + G1/width`` or ``Theta + H1/width``. Shift its diagonal before factorising it: to
        this order it need not be positive semidefinite.

    Raises
    ------
    NetworkError
        If the network is of another kind.
    InvalidInputError
        If data or arguments cannot be used, or a row is 0 in a network without biases.

    Notes
    -----
    Every pair is followed through all layers with a rule of its own. On one core about TODO
    seconds per 100,000 pairs and layer; half that of the pairs if X2 is left out. Memory: a few
    n m numbers and about 50 MB. What is left out is of relative order (depth/width)^2.

    Examples
    --------
    >>> from kernreg import nn
    >>> net = nn.mlp(depth=2, activation=nn.Tanh(), W_std=1.5, b_std=0.1)
    >>> corrected_gram(net, np.eye(2), width=64).round(4)
    array([[0., 0.],
           [0., 0.]])
    """
    plain = plain_layers(net)
    (name,) = kernel_names(kernel, single=True)
    widths = check_widths(width, plain.depth)
    if not 0 < tolerance < 0.1:
        raise InvalidInputError(f"tolerance must be a number in (0, 0.1), found {tolerance!r}.")
    A = as_rows(X1, "X1").double().cpu()
    B = A if X2 is None else as_rows(X2, "X2", like=A).double().cpu()
    whole = np.asarray(gram(net, A.numpy(), None if X2 is None else B.numpy(), name))
    if not plain.depth:
        return whole
    tangent = name == "ntk"
    walk = _Walk(plain, widths, A, B, tangent, tolerance)
    if X2 is not None:
        rows, columns = (i.reshape(-1) for i in np.indices(whole.shape))
        correction = walk.corrections(rows, columns).reshape(whole.shape)
    else:
        correction = np.diag(walk.diagonal())
        rows, columns = np.triu_indices(len(A), 1)
        correction[rows, columns] = correction[columns, rows] = walk.corrections(rows, columns)
    return whole + correction / widths[-1]


class _Walk:
    """Rows through all layers, and pairs of them in chunks."""

    def __init__(
        self,
        net: Plain,
        widths: tuple[int, ...],
        A: Tensor,
        B: Tensor,
        tangent: bool,
        tolerance: float,
    ) -> None:
        self.net, self.tangent = net, tangent
        self.ratios = width_ratios(widths, net.depth)
        rows, units = zip(*(_first_layer(net, X) for X in (A, B)), strict=True)
        self.first = run(net, rows[0], widths)
        second = self.first if A is B else run(net, rows[1], widths)
        # Standard deviations, shape (layers, rows).
        self.s1, self.s2 = (torch.from_numpy(np.sqrt(c.K)) for c in (self.first, second))
        start = input_pairs(*units)
        self.rho, self.gap = start.rho, start.gap
        self.tolerance = tolerance
        self.rules: dict[tuple[int, int], tuple[PairRule, int]] = {}

    def rule(self, layer: int, s: float) -> tuple[PairRule, int]:
        """A rule for standard deviations up to ``s``, and its number of nodes."""
        # Few different ones: s is rounded up to the next of these steps.
        step = math.ceil(math.log(s) / _GROWTH)
        if (layer, step) not in self.rules:
            fn = self.net.hidden[layer][0]
            found = pair_rule(fn, math.exp(step * _GROWTH), self.tolerance, tangent=self.tangent)
            self.rules[layer, step] = found, count(found)
        return self.rules[layer, step]

    def diagonal(self) -> Array:
        found = self.first.H1 if self.tangent else self.first.G1
        return np.asarray(found[-1])

    def corrections(self, i: Indices, j: Indices) -> Array:
        """Coefficients of 1/n for pairs of rows, shape (len(i),)."""
        out = np.empty(len(i))
        # Pairs of like variance together: they share rules.
        order = np.argsort(np.maximum(self.s1[0, i], self.s2[0, j]).numpy(), kind="stable")
        start = 0
        while start < len(order):
            part = order[start : start + self._size(i[order[start]], j[order[start]])]
            state = self._follow(torch.from_numpy(i[part]), torch.from_numpy(j[part]))
            out[part] = (state.H1 if self.tangent else state.off_diagonal()).numpy()
            start += len(part)
        return out

    def _size(self, i: int, j: int) -> int:
        """How many pairs like this one go together."""
        largest = torch.maximum(self.s1[:-1, i], self.s2[:-1, j]).tolist()
        nodes = max(self.rule(layer, s)[1] for layer, s in enumerate(largest))
        return max(1, _VALUES // nodes)

    def _follow(self, i: Tensor, j: Tensor) -> PairState:
        s1, s2 = self.s1[:, i], self.s2[:, j]
        pairs = Pairs(self.rho[i, j], self.gap[i, j], s1[0], s2[0])
        state = first_state(self.net, pairs, tangent=self.tangent)
        for layer, (fn, affine) in enumerate(self.net.hidden):
            rule, _ = self.rule(layer, float(torch.maximum(s1[layer], s2[layer]).max()))
            after = s1[layer + 1], s2[layer + 1]
            state = next_state(state, fn, affine, rule, *after, self.ratios[layer])
        return state


def _first_layer(net: Plain, X: Tensor) -> tuple[Array, Tensor]:
    """Variances behind the first layer, and unit vectors with the correlations there."""
    a = net.first
    bias = X.new_full((len(X), 1), a.C_b**0.5)
    rows = torch.cat([bias, (a.C_W / X.shape[1]) ** 0.5 * X], 1)
    norms = rows.norm(dim=1, keepdim=True)
    zero = torch.nonzero(norms[:, 0] == 0)
    if len(zero):
        raise InvalidInputError(
            f"row {int(zero[0])} is 0 and the first layer has no biases: corrections need a "
            "positive variance. Leave the row out or set b_std."
        )
    return (norms[:, 0] ** 2).numpy(), rows / norms
