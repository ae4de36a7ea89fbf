"""Kernel matrices of wide but finite networks: the mean kernel to order 1/width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernreg.exceptions import InvalidInputError
from kernreg.nn import Layer
from kernreg.operators import gram
from kernreg.operators.inputs import as_rows, kernel_names
from kernreg.theory.finite_width.one_input import run
from kernreg.theory.finite_width.pair_averages import NodeSource, Pairs, Source
from kernreg.theory.finite_width.pair_rules import PairRule, count, pair_rule
from kernreg.theory.finite_width.pair_series import SeriesSource, row_series
from kernreg.theory.finite_width.plain import Plain, check_widths, plain_layers, width_ratios
from kernreg.theory.finite_width.two_inputs import PairState, first_state, next_state

__all__ = ["corrected_gram"]

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

_VALUES = 1 << 16  # pairs times nodes at once; some 40 arrays of as many numbers
_GROWTH = math.log(1.2)


def corrected_gram(
    net: Layer | str,
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
    Every pair is followed through all layers, a symmetric matrix has half of them. One core takes
    about 2 to 6 seconds for 100,000 pairs and one layer, 30 for a kink that is not between two
    lines (such as ELU): n = 1,000 is a matter of minutes. Memory: a few n m numbers and some 60
    MB. What is left out is of relative order (depth/width)^2.

    Examples
    --------
    >>> from kernreg import nn
    >>> net = nn.mlp(depth=2, activation=nn.Tanh(), W_std=1.5, b_std=0.1)
    >>> X = np.eye(2)
    >>> corrected_gram(net, X, width=64).round(4)
    array([[0.8741, 0.0251],
           [0.0251, 0.8741]])
    >>> gram(net, X, kernel="nngp").round(4)
    array([[0.8758, 0.025 ],
           [0.025 , 0.8758]])
    """
    plain = plain_layers(net)
    (name,) = kernel_names(kernel, single=True)
    widths = check_widths(width, plain.depth)
    if not 0 < tolerance < 0.1:
        raise InvalidInputError(f"tolerance must be a number in (0, 0.1), found {tolerance!r}.")
    A = as_rows(X1, "X1").double().cpu()
    B = None if X2 is None else as_rows(X2, "X2", like=A).double().cpu()
    whole = np.asarray(gram(net, A, B, name))
    if not plain.depth:
        return whole
    n = len(A)
    walk = _Walk(plain, widths, A if B is None else torch.cat([A, B]), name == "ntk", tolerance)
    if B is None:
        i, j = np.triu_indices(n, 1)
        correction = np.diag(walk.diagonal())
        correction[i, j] = correction[j, i] = walk.corrections(i, j)
    else:
        i, j = (index.reshape(-1) for index in np.indices(whole.shape))
        correction = walk.corrections(i, n + j).reshape(whole.shape)
    return whole + correction / widths[-1]


class _Walk:
    """Rows through all layers, and pairs of them in chunks."""

    def __init__(
        self, net: Plain, widths: tuple[int, ...], X: Tensor, tangent: bool, tolerance: float
    ) -> None:
        self.net, self.tangent, self.tolerance = net, tangent, tolerance
        self.ratios = width_ratios(widths, net.depth)
        variances, self.units = _first_layer(net, X)
        self.alone = run(net, variances, widths)
        self.s = torch.from_numpy(np.sqrt(self.alone.K))  # (layers, rows)
        self.series = [
            row_series(fn, s, tolerance, tangent=tangent)
            for (fn, _), s in zip(net.hidden, self.s, strict=False)
        ]
        self.rules: dict[tuple[int, int], tuple[PairRule, int]] = {}

    def diagonal(self) -> Array:
        """Coefficients of 1/n for every row with itself."""
        found = self.alone.H1 if self.tangent else self.alone.G1
        return np.asarray(found[-1])

    def corrections(self, i: Indices, j: Indices) -> Array:
        """Coefficients of 1/n for pairs of rows, shape (len(i),)."""
        out = np.empty(len(i))
        # Pairs of like variance together: they share rules.
        first, second = torch.from_numpy(i), torch.from_numpy(j)
        largest = torch.maximum(self.s[:-1, first], self.s[:-1, second])
        order = torch.argsort(largest[0], stable=True)
        start = 0
        while start < len(order):
            part = order[start : start + self._size(largest[:, order[start]])]
            state = self._follow(first[part], second[part], largest[:, part])
            out[part.numpy()] = (state.H1 if self.tangent else state.off_diagonal()).numpy()
            start += len(part)
        return out

    def _size(self, largest: Tensor) -> int:
        """How many pairs go together, by the numbers that one of them needs in a layer."""
        needs = [
            self._rule(layer, s)[1] if series is None else series.tables["f0"].shape[1]
            for layer, (s, series) in enumerate(zip(largest.tolist(), self.series, strict=True))
        ]
        return max(1, _VALUES // max(needs))

    def _rule(self, layer: int, s: float) -> tuple[PairRule, int]:
        """A rule for standard deviations up to ``s``, and its number of nodes."""
        # Few different ones: s is rounded up to the next of these steps.
        step = math.ceil(math.log(s) / _GROWTH)
        if (layer, step) not in self.rules:
            fn = self.net.hidden[layer][0]
            found = pair_rule(fn, math.exp(step * _GROWTH), self.tolerance, tangent=self.tangent)
            self.rules[layer, step] = found, count(found)
        return self.rules[layer, step]

    def _follow(self, i: Tensor, j: Tensor, largest: Tensor) -> PairState:
        s1, s2 = self.s[:, i], self.s[:, j]
        start = _correlations(self.units[i], self.units[j])
        state = first_state(self.net, Pairs(*start, s1[0], s2[0]), tangent=self.tangent)
        for layer, (fn, affine) in enumerate(self.net.hidden):
            series = self.series[layer]
            source: Source
            if series is None:
                source = NodeSource(fn, self._rule(layer, float(largest[layer].max()))[0])
            else:
                source = SeriesSource(series, i, j)
            after = s1[layer + 1], s2[layer + 1]
            state = next_state(state, source, affine, *after, self.ratios[layer])
        return state


def _correlations(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Correlation and ``1 - |rho|`` of unit vectors, from their difference or their sum."""
    sign = torch.where((u * v).sum(1) < 0, -1.0, 1.0)
    gap = 0.5 * ((u - sign[:, None] * v) ** 2).sum(1)
    return sign * (1.0 - gap), gap


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
