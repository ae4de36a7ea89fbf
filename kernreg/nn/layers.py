"""Dense layers, normalisation and dropout."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any

from kernreg.exceptions import NetworkError
from kernreg.ir import operations as ir
from kernreg.ir.builder import Builder, Kind, Ref
from kernreg.nn.base import Layer, check_number

__all__ = ["Dense", "Dropout", "Identity", "LayerNorm", "check_weights"]

# A whole number from here on is a layer's width in other libraries, and no standard deviation.
_LIKE_A_WIDTH = 32


def check_weights(layer: Any) -> None:
    """Raise :class:`NetworkError` for weights of a layer that are not usable."""
    name = type(layer).__name__
    check_number(name, "W_std", layer.W_std, low=0.0, strict=True)
    if layer.b_std is not None:
        check_number(name, "b_std", layer.b_std, low=0.0)
    if layer.parameterization not in ("ntk", "standard"):
        raise NetworkError(
            f"{name}: parameterization must be 'ntk' or 'standard', "
            f"found {layer.parameterization!r}."
        )
    if layer.parameterization == "standard":
        if layer.fan_in is None:
            raise NetworkError(
                f"{name}: the 'standard' parameterization needs fan_in, the width of the "
                "layer's input."
            )
        check_number(name, "fan_in", layer.fan_in, low=1)
        if layer.fan_in != int(layer.fan_in):
            raise NetworkError(f"{name}: fan_in must be a whole number, found {layer.fan_in!r}.")
    if type(layer.trainable).__name__ not in ("bool", "bool_"):  # NumPy's come from grids
        raise NetworkError(f"{name}: trainable must be True or False, found {layer.trainable!r}.")


@dataclass(frozen=True, repr=False)
class Dense(Layer):
    """Fully connected layer ``W h + b`` of infinite width.

    ``W ~ N(0, W_std^2 / fan_in)``, ``b ~ N(0, b_std^2)``. In the "ntk" parameterization
    ``nngp' = W_std^2 nngp + b_std^2`` and ``ntk' = nngp' + W_std^2 ntk``; in the "standard" one
    the learning rate of the weights grows with the width, ``ntk' = fan_in nngp + 1 + W_std^2 ntk``.

    Parameters
    ----------
    W_std : float
        Standard deviation of the weights times the square root of the width before them.
    b_std : float or None
        Standard deviation of the biases; None: no bias parameters. Only in the "standard"
        parameterization do 0.0 and None differ: there a bias of variance 0 is still trained.
    parameterization : {"ntk", "standard"}
        How gradients are scaled.
    fan_in : int, optional
        Width of the layer's input, which the "standard" parameterization needs.
    trainable : bool
        Whether gradient descent moves the weights. Those that it does not, as in networks of
        random features, are part of the NNGP only: ``ntk' = W_std^2 ntk``.

    References
    ----------
    Jacot, Gabriel, Hongler, "Neural tangent kernel" (2018); Lee et al., "Wide neural networks of
    any depth evolve as linear models" (2019).

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.Dense(W_std=1.5, b_std=0.1)
    Dense(W_std=1.5, b_std=0.1)
    >>> features = nn.serial(nn.Dense(trainable=False), nn.Relu(), nn.Dense())  # of random weights
    """

    W_std: float = 1.0
    b_std: float | None = 0.0
    parameterization: str = "ntk"
    fan_in: int | None = None
    trainable: bool = True

    def __post_init__(self) -> None:
        first: Any = self.W_std
        third: Any = self.parameterization
        if isinstance(third, numbers.Real):
            raise NetworkError(
                f"Dense has no width argument, the width is infinite: expected at most W_std and "
                f"b_std by position, found {self.W_std!r}, {self.b_std!r}, "
                f"{third!r}. Write Dense(W_std={self.b_std!r}, b_std={third!r})."
            )
        if isinstance(first, numbers.Integral) and int(first) >= _LIKE_A_WIDTH:
            raise NetworkError(
                f"Dense has no width argument, the width is infinite: expected W_std, found the "
                f"whole number {first}. Leave it out, or write W_std={float(first)} if a standard "
                f"deviation is meant."
            )
        check_weights(self)

    def passes(self) -> bool:
        return False

    def lower(self, b: Builder, x: Ref) -> Ref:
        """Append the dense layer."""
        fan_in = self.fan_in if self.parameterization == "standard" else None
        return b.dense(x, self.W_std, self.b_std, fan_in, repr(self), self.trainable)


@dataclass(frozen=True, repr=False)
class Identity(Layer):
    """The layer that does nothing; a shortcut in :func:`residual` and :func:`parallel`.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.Identity()
    Identity()
    """

    def lower(self, b: Builder, x: Ref) -> Ref:
        """Append nothing."""
        return x


@dataclass(frozen=True, repr=False)
class LayerNorm(Layer):
    """Layer normalisation without trained parameters: ``k / sqrt((eps + q1)(eps + q2))``.

    Parameters
    ----------
    eps : float
        Added to the variances.
    axes : tuple of int
        Axes of positions, from 0, over which variances are averaged besides over channels; for
        images 0 is the height and 1 the width.

    References
    ----------
    Ba, Kiros, Hinton, "Layer normalization" (2016).

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.serial(nn.Dense(), nn.LayerNorm(), nn.Relu(), nn.Dense()).program().flops()
    60
    """

    eps: float = 1e-12
    axes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_number("LayerNorm", "eps", self.eps, low=0.0)
        given: Any = self.axes
        axes = tuple(given) if isinstance(given, tuple | list) else (given,)
        whole = [isinstance(a, numbers.Integral) and type(a) is not bool for a in axes]
        if not all(whole) or min(axes, default=0) < 0 or len(set(axes)) != len(axes):
            raise NetworkError(
                f"LayerNorm: axes must be different numbers of axes of positions, from 0, found "
                f"{self.axes!r}."
            )
        object.__setattr__(self, "axes", tuple(sorted(int(a) for a in axes)))

    def lower(self, b: Builder, x: Ref) -> Ref:
        """Append the normalisation; its input must be Gaussian."""
        if x.kind is not Kind.GAUSSIAN:
            raise NetworkError(
                f"{self!r} stands after {x.made_by}, but it needs a Gaussian preactivation: "
                "put it after a Dense layer."
            )
        domain = x.domain
        if self.axes:
            domain = b.positions(x, None, repr(self))
            if domain.axes is not None and self.axes[-1] >= domain.axes:
                raise NetworkError(
                    f"{self!r}: axes must be below {domain.axes}, the number of axes of positions."
                )
        op = ir.Normalize(x.index, b.slot(self.eps), self.axes)
        return b.emit(op, x.kind, repr(self), domain)


@dataclass(frozen=True, repr=False)
class Dropout(Layer):
    """Dropout in training mode: each sample's own variance grows by ``1 / keep_prob``.

    Two rows of ``X`` are two samples, also when they are equal; only the diagonal of a symmetric
    Gram matrix belongs to one sample.

    Parameters
    ----------
    keep_prob : float
        Probability to keep a unit, in (0, 1].

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.Dropout(0.9)
    Dropout(keep_prob=0.9)
    """

    keep_prob: float

    def __post_init__(self) -> None:
        check_number("Dropout", "keep_prob", self.keep_prob, low=0.0, strict=True)
        if self.keep_prob > 1:
            raise NetworkError(f"Dropout: keep_prob must be at most 1, found {self.keep_prob!r}.")

    def lower(self, b: Builder, x: Ref) -> Ref:
        """Append the dropout."""
        op = ir.Dropout(x.index, b.slot(self.keep_prob))
        return b.emit(op, Kind.OTHER, repr(self), x.domain)
