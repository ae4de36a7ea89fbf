"""Finite networks drawn at random, and kernels and their fluctuations measured on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from kernreg.exceptions import InvalidInputError
from kernreg.theory.checks import check_count
from kernreg.theory.finite_width.pair_rules import derivatives
from kernreg.theory.finite_width.plain import Plain, check_widths, uniform

__all__ = ["Estimate", "Sample", "sample"]

Array = NDArray[np.float64]

_BATCHES = 50
_WEIGHTS = 1 << 22  # weights of one layer, or entries of NTKs, that are held at once


@dataclass(frozen=True, eq=False)
class Estimate:
    """A stochastic estimate: its value, and the standard error over the samples.

    Examples
    --------
    >>> Estimate(2.0, 0.1).value
    2.0
    """

    value: Any
    standard_error: Any


@dataclass(frozen=True, eq=False)
class Sample:
    """Estimates from random networks; made by :func:`sample`.

    Each field is an :class:`Estimate` with ``value`` and ``standard_error``:
    floats for one input, for p inputs arrays of shape (p, p), or (p, p, p, p) from V on. With n
    the width of the last hidden layer, z outputs of the network and H its NTK, i != j:

    Parameters
    ----------
    K, Theta : Estimate
        ``E[z_ia z_ib]`` and ``E[H_ii,ab]``.
    V : Estimate
        ``n Cov(z_ia z_ib, z_jc z_jd)``.
    A, B : Estimate
        ``n Cov(H_ii,ab, H_jj,cd)`` and ``n E[H_ij,ab H_ij,cd]``.
    D, F : Estimate
        ``n Cov(z_ia z_ib, H_jj,cd)`` and ``n E[z_ia z_jb H_ij,cd]``.
    spread : Estimate
        ``A + 2 B``, which is ``n Var(H_ii)`` to this order; A and B are of the same networks.
    network : Plain
        The layers.
    K1 : ndarray
        Covariance of the first layer.
    widths : tuple of int
        Of the hidden layers.
    draws : int
        Number of networks.

    Examples
    --------
    >>> from kernreg import nn
    >>> found = sample(nn.Relu(), 0.0, 2.0, 0.0, 2.0, depth=1, width=16, draws=500, K1=1.0)
    >>> found.draws, found.widths, abs(found.V.value - 5.0) < 4 * found.V.standard_error
    (500, (16,), True)
    """

    K: Estimate
    Theta: Estimate
    V: Estimate
    A: Estimate
    B: Estimate
    D: Estimate
    F: Estimate
    spread: Estimate
    network: Plain
    K1: Array
    widths: tuple[int, ...]
    draws: int

    def estimates(self) -> dict[str, Estimate]:
        """The estimates by name."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, Estimate)}


def sample(
    sigma: Any,
    C_b: float,
    C_W: float,
    lambda_b: float,
    lambda_W: float,
    depth: int,
    width: int | Sequence[int],
    draws: int,
    *,
    K1: ArrayLike | None = None,
    x: ArrayLike | None = None,
    seed: int = 0,
    outputs: int = 16,
    chunk: int | None = None,
    dtype: str = "float64",
) -> Sample:
    """Draw networks and measure kernels and their fluctuations.

    Parameters
    ----------
    sigma, C_b, C_W, lambda_b, lambda_W, depth
        See :func:`kernreg.theory.finite_width.coefficients`; ``depth`` at least 1.
    width : int or sequence of int
        Width of the hidden layers, or of each.
    draws : int
        Number of networks, at least 100.
    K1 : float or array_like of shape (p, p), optional
        Covariance of the first layer, for one or p inputs.
    x : array_like of shape (d,) or (p, d), optional
        The inputs themselves; either these or ``K1``.
    seed : int, default=0
        Of torch's generator.
    outputs : int, default=16
        Outputs of each network, at least 2. More of them give smaller errors per network.
    chunk : int, optional
        Networks drawn at once; left out, as many as have 4 million weights per layer, and
        entries of their NTKs.
    dtype : {"float64", "float32"}
        Of weights and products; averages are taken in float64.

    Returns
    -------
    Sample

    Raises
    ------
    InvalidInputError
        If an argument cannot be used.

    Notes
    -----
    Time O(draws depth width^2 (outputs + 1) p), mostly random numbers and batched products; the
    NTK comes from the gradients of the outputs by preactivations, carried back layer by layer,
    never from a gradient by parameters. Memory: weights of all layers and some
    five NTKs for one chunk. Averages
    over the last layer's weights are taken exactly where that is free (K, V and D use
    ``C_b + C_W sigma.sigma / n`` in place of ``z z``). Standard errors come from 50 batches.
    The estimates differ from the expansion by its next order in depth/width.

    Examples
    --------
    >>> from kernreg import nn
    >>> found = sample(nn.Relu(), 0.0, 2.0, 0.0, 2.0, depth=2, width=32, draws=2000, K1=2.0)
    >>> abs(found.K.value - 2.0) < 4 * found.K.standard_error
    True
    """
    net = uniform(sigma, C_b, C_W, lambda_b, lambda_W, depth)
    widths = check_widths(width, net.depth)
    _check(net, draws, outputs, chunk, dtype)
    covariance = _covariance(net, K1, x)
    generator = torch.Generator().manual_seed(seed)
    draw = _Draw(net, np.atleast_2d(covariance), widths, outputs, dtype, generator)
    tangent = (len(draw.K1) * outputs) ** 2
    largest = max(tangent, *(a * b for a, b in zip(widths, (*widths[1:], outputs), strict=True)))
    size = chunk or max(1, _WEIGHTS // largest)
    parts = [draw.measure(min(size, draws - start)) for start in range(0, draws, size)]
    columns = [torch.cat(column).numpy() for column in zip(*parts, strict=True)]
    found = _estimates(columns, widths[-1], scalar=covariance.ndim == 0)
    return Sample(**found, network=net, K1=covariance, widths=widths, draws=draws)


def _check(net: Plain, draws: Any, outputs: Any, chunk: Any, dtype: str) -> None:
    if net.depth < 1:
        raise InvalidInputError("depth must be at least 1: without a hidden layer all is exact.")
    check_count("draws", draws, 2 * _BATCHES)
    check_count("outputs", outputs, 2)
    if chunk is not None:
        check_count("chunk", chunk, 1)
    if dtype not in ("float32", "float64"):
        raise InvalidInputError(f"dtype must be 'float32' or 'float64', found {dtype!r}.")


def _covariance(net: Plain, K1: ArrayLike | None, x: ArrayLike | None) -> Array:
    """Covariance of the first layer: a number for one input, else of shape (p, p)."""
    if (K1 is None) == (x is None):
        raise InvalidInputError("give either K1 or x: the covariance of the first layer or inputs.")
    if x is not None:
        rows = np.asarray(x, dtype=np.float64)
        if rows.ndim not in (1, 2) or rows.size == 0:
            raise InvalidInputError(f"x must be of shape (d,) or (p, d), found {rows.shape}.")
        K1 = net.first.C_b + net.first.C_W / rows.shape[-1] * (rows @ rows.T)
    K = np.asarray(K1, dtype=np.float64)
    if K.ndim not in (0, 2) or (K.ndim == 2 and K.shape[0] != K.shape[1]):
        raise InvalidInputError(f"K1 must be a number or of shape (p, p), found {K.shape}.")
    net.check_variance(np.diag(K) if K.ndim else K)
    least = np.linalg.eigvalsh(np.atleast_2d(K))[0]
    if not np.isfinite(K).all() or not np.allclose(K, K.T) or least < -1e-12 * np.max(K):
        raise InvalidInputError(
            f"K1 must be symmetric and positive semidefinite, found {K.tolist()}."
        )
    return K


class _Pass(NamedTuple):
    """One pass forward: the first preactivations, then lists over the layers behind them."""

    first: Tensor
    weights: list[Tensor]
    biases: list[Tensor]
    slopes: list[Tensor]
    overlaps: list[Tensor]
    kernel: Tensor
    outputs: Tensor


@dataclass(frozen=True)
class _Draw:
    """Networks of one shape, and what is measured on each.

    Tensors have axes (network, input, neuron), or (network, input and output, neuron) for
    gradients.
    """

    net: Plain
    K1: Array
    widths: tuple[int, ...]
    outputs: int
    dtype: str
    generator: torch.Generator

    def normal(self, *shape: int) -> Tensor:
        kind = torch.float32 if self.dtype == "float32" else torch.float64
        return torch.randn(*shape, generator=self.generator, dtype=kind)

    def measure(self, count: int) -> tuple[Tensor, ...]:
        """Of each network: the kernel of its outputs, the NTK's mean, and three products."""
        run = self.forward(count)
        return (run.kernel, *_products(self.tangent(run).double(), run.outputs.double()))

    def forward(self, count: int) -> _Pass:
        """Outputs of new networks, and what led to them."""
        values, vectors = np.linalg.eigh(self.K1)
        root = torch.from_numpy(vectors * np.sqrt(np.maximum(values, 0.0)))
        first = self.normal(count, len(root), self.widths[0])
        z = first = root.to(first.dtype) @ first
        overlaps = [torch.from_numpy(self.net.first_kernels(self.K1)).expand(count, -1, -1)]
        weights, biases, slopes = [], [], []
        for (fn, a), n_in, n_out in zip(
            self.net.hidden, self.widths, (*self.widths[1:], self.outputs), strict=True
        ):
            value, slope = derivatives(fn, z, 1)
            square = (value @ value.mT).double() / n_in
            weights.append(math.sqrt(a.C_W / n_in) * self.normal(count, n_out, n_in))
            biases.append(math.sqrt(a.C_b) * self.normal(count, 1, n_out))
            slopes.append(slope)
            overlaps.append(a.lambda_b + a.lambda_W * square)
            z = value @ weights[-1].mT + biases[-1]
        return _Pass(first, weights, biases, slopes, overlaps, a.C_b + a.C_W * square, z)

    def tangent(self, run: _Pass) -> Tensor:
        """NTK of all outputs and inputs, axes (network, input, output, input, output)."""
        p, m = len(self.K1), self.outputs
        count = len(run.outputs)
        eye = torch.eye(m, dtype=torch.float64)
        H = run.overlaps[-1][:, :, None, :, None] * eye[:, None]
        # Gradient of each output by the preactivations of one layer after the other.
        back = run.weights[-1][:, None].expand(-1, p, -1, -1)
        for layer in range(len(run.weights) - 1, -1, -1):
            back = back * run.slopes[layer][:, :, None]
            flat = back.reshape(count, p * m, -1)
            products = (flat @ flat.mT).reshape(count, p, m, p, m)
            H = H + run.overlaps[layer][:, :, None, :, None] * products
            if layer:
                back = (flat @ run.weights[layer - 1]).reshape(count, p, m, -1)
        return H


def _products(H: Tensor, z: Tensor) -> tuple[Tensor, ...]:
    """Averages over outputs i, and over pairs i != j of them, of what is measured."""
    m = z.shape[-1]
    pairs = m * (m - 1)
    own = torch.einsum("naibi->nabi", H)
    total = own.sum(-1)
    square = torch.einsum("nabi,ncdi->nabcd", own, own)
    apart = torch.einsum("nab,ncd->nabcd", total, total) - square
    crossed = torch.einsum("naibj,ncidj->nabcd", H, H) - square
    mixed = torch.einsum("nai,nbj,ncidj->nabcd", z, z, H) - torch.einsum(
        "nai,nbi,ncdi->nabcd", z, z, own
    )
    return total / m, apart / pairs, crossed / pairs, mixed / pairs


def _estimates(columns: list[Array], n: int, *, scalar: bool) -> dict[str, Estimate]:
    """Mean and standard error over batches of networks, each estimate unbiased in its batch."""
    kernel, tangent, apart, crossed, mixed = columns
    batches: list[dict[str, Array]] = []
    for rows in np.array_split(np.arange(len(kernel)), _BATCHES):
        k, h = kernel[rows], tangent[rows]
        squared = np.multiply.outer(h.mean(0), h.mean(0)) - _covariances(h, h) / len(rows)
        batches.append(
            {
                "K": k.mean(0),
                "Theta": h.mean(0),
                "V": n * _covariances(k, k),
                "A": n * (apart[rows].mean(0) - squared),
                "B": n * crossed[rows].mean(0),
                "D": n * _covariances(k, h),
                "F": n * mixed[rows].mean(0),
                "spread": n * (apart[rows].mean(0) - squared + 2.0 * crossed[rows].mean(0)),
            }
        )
    found = {}
    for name in batches[0]:
        values = np.array([batch[name] for batch in batches])
        mean, error = values.mean(0), values.std(0, ddof=1) / math.sqrt(_BATCHES)
        found[name] = Estimate(mean.item(), error.item()) if scalar else Estimate(mean, error)
    return found


def _covariances(a: Array, b: Array) -> Array:
    """Covariance over the first axis of every entry of ``a`` with every entry of ``b``."""
    return np.tensordot(a - a.mean(0), b - b.mean(0), axes=(0, 0)) / (len(a) - 1)
