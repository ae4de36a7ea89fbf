"""Ready-made networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kernreg.exceptions import NetworkError
from kernreg.ir.builder import Builder, Ref
from kernreg.nn import nonlinearities
from kernreg.nn.arguments import checked
from kernreg.nn.base import Layer, Nonlinearity, check_number
from kernreg.nn.combinators import Repeat, Serial
from kernreg.nn.expressions import named
from kernreg.nn.layers import Dense
from kernreg.nn.nonlinearities import Relu

__all__ = ["Mlp", "mlp"]


@dataclass(frozen=True, repr=False)
class Mlp(Layer):
    """A fully connected network; made by :func:`mlp`."""

    depth: int
    activation: Nonlinearity = Relu()
    W_std: float = 2**0.5
    b_std: float | None = 0.1

    def __post_init__(self) -> None:
        check_number("mlp", "depth", self.depth, low=0)
        if self.depth != int(self.depth):
            raise NetworkError(f"mlp: depth must be a whole number, found {self.depth!r}.")
        given: Any = self.activation
        if isinstance(given, str):
            object.__setattr__(self, "activation", _nonlinearity(given))
        if not isinstance(self.activation, Nonlinearity):
            raise NetworkError(
                "mlp: activation must be a nonlinearity such as nn.Relu() or 'relu', "
                f"found {self.activation!r}."
            )
        Dense(self.W_std, self.b_std)

    def layers(self) -> Serial:
        """The network spelled out."""
        dense = Dense(self.W_std, self.b_std)
        return Serial((dense, Repeat(Serial((self.activation, dense)), self.depth)))

    def passes(self) -> bool:
        return False

    def lower(self, b: Builder, x: Ref) -> Ref:
        """Append the network."""
        return self.layers().lower(b, x)

    def __repr__(self) -> str:
        return (
            f"mlp(depth={self.depth!r}, activation={self.activation!r}, "
            f"W_std={self.W_std!r}, b_std={self.b_std!r})"
        )


def _nonlinearity(text: str) -> Any:
    """A nonlinearity by its name or its code."""
    makers = {name: getattr(nonlinearities, name) for name in nonlinearities.__all__}
    return named(text, makers, "'relu' or 'Erf(a=2)'")


@checked
def mlp(
    depth: int = 3,
    activation: Nonlinearity | str | None = None,
    W_std: float = 2**0.5,
    b_std: float | None = 0.1,
) -> Mlp:
    """A fully connected network of ``depth`` hidden layers and a linear readout.

    Parameters
    ----------
    depth : int
        Number of hidden layers.
    activation : Nonlinearity or str, optional
        ``Relu()`` if left out; also its name or code, such as ``"relu"`` or ``"Erf(a=2)"``.
    W_std, b_std : float
        Of every dense layer, see :class:`kernreg.nn.Dense`.

    Returns
    -------
    Mlp

    Raises
    ------
    NetworkError
        If an argument is not usable.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.mlp(depth=1, activation=nn.Erf(), W_std=1.5, b_std=0.2).layers()
    serial(Dense(W_std=1.5, b_std=0.2), repeat(serial(Erf(), Dense(W_std=1.5, b_std=0.2)), 1))
    """
    return Mlp(depth, Relu() if activation is None else activation, W_std, b_std)  # type: ignore[arg-type]
