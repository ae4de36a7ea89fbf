"""Plain fully connected networks, layer by layer, as the formulas of finite width want them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernreg.exceptions import InvalidInputError, NetworkError
from kernreg.nn import Dense, Layer, Nonlinearity
from kernreg.nn.combinators import Repeat, Serial
from kernreg.nn.parse import parse_network
from kernreg.nn.presets import Mlp
from kernreg.theory.averages import as_nonlinearity
from kernreg.theory.checks import check_count, check_number

__all__ = [
    "Affine",
    "Plain",
    "check_widths",
    "plain_layers",
    "uniform",
    "width_ratios",
]


@dataclass(frozen=True)
class Affine:
    """Weights and biases of one layer.

    Parameters
    ----------
    C_b, C_W : float
        Variance of the biases, and of the weights times the width before them.
    lambda_b, lambda_W : float
        Factors of biases and weights in the NTK, the latter times the width before them.
    """

    C_b: float
    C_W: float
    lambda_b: float
    lambda_W: float

    def __post_init__(self) -> None:
        for name in ("C_b", "C_W", "lambda_b", "lambda_W"):
            value = check_number(name, getattr(self, name), strict=name == "C_W")
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Plain:
    """An affine layer, then as often as the network is deep a nonlinearity and an affine layer.

    Parameters
    ----------
    first : Affine
        The layer on the input.
    hidden : tuple of (Nonlinearity, Affine)
        What follows each hidden layer.
    """

    first: Affine
    hidden: tuple[tuple[Nonlinearity, Affine], ...]

    @property
    def depth(self) -> int:
        """Number of hidden layers."""
        return len(self.hidden)

    def first_kernels(self, K1: NDArray[np.float64]) -> NDArray[np.float64]:
        """The NTK of the first layer, from its NNGP kernel."""
        a = self.first
        return a.lambda_b + a.lambda_W / a.C_W * (K1 - a.C_b)

    def check_variance(self, K1: ArrayLike) -> NDArray[np.float64]:
        """Variances of the first layer as an array.

        Raises
        ------
        InvalidInputError
            If one is not a finite number > 0, or below ``C_b``, which no input gives.
        """
        q = np.asarray(K1, dtype=np.float64)
        # Rounding may leave a zero input with a little less than C_b.
        if not np.isfinite(q).all() or (q <= 0).any() or (q < self.first.C_b * (1 - 1e-12)).any():
            raise InvalidInputError(
                "K1, the variance of the first layer, must be finite, > 0 and at least C_b = "
                f"{self.first.C_b:g} (it is C_b + C_W |x|^2 / d), found {K1!r}."
            )
        return q


def uniform(
    sigma: Any, C_b: float, C_W: float, lambda_b: float, lambda_W: float, depth: int
) -> Plain:
    """A network whose layers are all alike.

    Parameters
    ----------
    sigma : Nonlinearity or callable
        See :func:`kernreg.theory.averages.as_nonlinearity`.
    C_b, C_W, lambda_b, lambda_W : float
        See :class:`Affine`.
    depth : int
        Number of hidden layers, at least 0.

    Returns
    -------
    Plain

    Raises
    ------
    InvalidInputError
        If an argument cannot be used.

    Examples
    --------
    >>> from kernreg import nn
    >>> uniform(nn.Relu(), 0.0, 2.0, 0.0, 2.0, depth=3).depth
    3
    """
    count = check_count("depth, the number of hidden layers,", depth, 0)
    affine = Affine(C_b, C_W, lambda_b, lambda_W)
    return Plain(affine, ((as_nonlinearity(sigma), affine),) * count)


def plain_layers(net: Layer | str) -> Plain:
    """The layers of a multilayer perceptron written in :mod:`kernreg.nn`.

    Parameters
    ----------
    net : Layer
        ``Dense`` layers with one nonlinearity between two of them, nested and repeated at will.

    Returns
    -------
    Plain
        With ``C_W = lambda_W = W_std^2`` and ``C_b = lambda_b = b_std^2``.

    Raises
    ------
    NetworkError
        If the network is anything else.

    Examples
    --------
    >>> from kernreg import nn
    >>> plain_layers(nn.mlp(depth=2, activation=nn.Tanh(), W_std=1.5, b_std=0.0)).hidden[1]
    (Tanh(), Affine(C_b=0.0, C_W=2.25, lambda_b=0.0, lambda_W=2.25))
    """
    if isinstance(net, str):
        net = parse_network(net)
    if not isinstance(net, Layer):
        raise NetworkError(f"expected a network of kernreg.nn, found {net!r}.")
    layers = list(_flat(net))
    for i, layer in enumerate(layers):
        expected: type[Layer] = Dense if i % 2 == 0 else Nonlinearity
        if not isinstance(layer, expected):
            raise NetworkError(
                "finite-width theory is for Dense layers with one nonlinearity between two of "
                f"them: expected a {expected.__name__} as layer {i}, found {layer!r}. Without a "
                "nonlinearity write nn.ABRelu(1, 1)."
            )
        if isinstance(layer, Dense) and layer.parameterization != "ntk":
            raise NetworkError(
                f"finite-width theory needs parameterization='ntk', found {layer!r}: in the "
                "'standard' one the NTK grows with the width."
            )
        if isinstance(layer, Dense) and not layer.trainable:
            raise NetworkError(
                f"finite-width theory needs layers that are all trained, found {layer!r}."
            )
    if len(layers) % 2 == 0:
        raise NetworkError(
            f"finite-width theory needs a Dense layer at the end, found {layers[-1:]}."
        )
    affine = [_affine(layer) for layer in layers[::2]]
    return Plain(affine[0], tuple(zip(layers[1::2], affine[1:], strict=True)))  # type: ignore[arg-type]


def _flat(net: Layer) -> Iterator[Layer]:
    if isinstance(net, Mlp):
        yield from _flat(net.layers())
    elif isinstance(net, Serial):
        for layer in net.layers:
            yield from _flat(layer)
    elif isinstance(net, Repeat):
        for _ in range(int(net.n)):
            yield from _flat(net.block)
    else:
        yield net


def _affine(layer: Any) -> Affine:
    C_b, C_W = (layer.b_std or 0.0) ** 2, layer.W_std**2
    return Affine(C_b, C_W, C_b, C_W)


def check_widths(widths: int | Sequence[int], depth: int) -> tuple[int, ...]:
    """Widths of the hidden layers, one number or one for each.

    Parameters
    ----------
    widths : int or sequence of int
        Each at least 1.
    depth : int
        Number of hidden layers.

    Returns
    -------
    tuple of int
        Of length ``depth``.

    Raises
    ------
    InvalidInputError
        If there are not as many, or one is not a positive integer.

    Examples
    --------
    >>> check_widths(64, 3)
    (64, 64, 64)
    """
    given = (widths,) * depth if isinstance(widths, int | np.integer) else tuple(widths)
    if len(given) != depth:
        raise InvalidInputError(
            f"{depth} hidden layers need one width, or {depth} of them, found {widths!r}."
        )
    return tuple(check_count("a width", n, 1) for n in given)


def width_ratios(widths: int | Sequence[int] | None, depth: int) -> list[float]:
    """Width of each hidden layer over that of the one before; 1 for the first.

    Coefficients of layer l + 1 are those of 1 / n_l. What layer l hands on is of order
    1 / n_(l-1), hence the ratio n_l / n_(l-1).
    """
    if widths is None:
        return [1.0] * depth
    n = check_widths(widths, depth)
    return [1.0, *(b / a for a, b in itertools.pairwise(n))][:depth]
