"""The numbers of a network and of the noise that a fit may tune, as one vector."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernreg import nn
from kernreg.exceptions import NetworkError
from kernreg.finite.as_network import ModuleNetwork
from kernreg.nn.base import Nonlinearity

__all__ = ["Hyperparameters", "Parameter", "parameters_of"]

# Of standard deviations: what numbers of a network mean in its kernel is even in them.
_SCALES = ("W_std", "b_std")
# A kernel of L layers goes with the 2 L-th power of W_std: the error of differences of order four
# over this step is 3e-10 of the derivative, that of rounding 1e-11.
_STEP = 0.01
_RANGE = math.log(1e5)


@dataclass(frozen=True)
class Parameter:
    """A number of a network.

    Parameters
    ----------
    name : str
        As in ``network.get_params()``.
    value : float
        As given.
    scale : bool
        Whether it is positive and tuned by its logarithm.
    uses : int
        How often a row passes it, about.
    """

    name: str
    value: float
    scale: bool
    uses: int

    @property
    def coordinate(self) -> float:
        """The number as it stands in the vector."""
        return math.log(self.value) if self.scale else self.value

    @property
    def bounds(self) -> tuple[float, float]:
        """Of the coordinate."""
        if self.scale:
            return self.coordinate - _RANGE, self.coordinate + _RANGE
        reach = 10.0 * max(1.0, abs(self.value))
        return self.value - reach, self.value + reach

    @property
    def step(self) -> float:
        """Of differences of the coordinate."""
        size = 1.0 if self.scale else max(0.1, abs(self.value))
        return _STEP * size / (2 * self.uses)

    def at(self, coordinate: float) -> float:
        """The number for a coordinate."""
        return math.exp(coordinate) if self.scale else float(coordinate)


@dataclass(frozen=True)
class Hyperparameters:
    """Parameters of a network, and the noise, by their place in the vector ``theta``.

    The noise is the last one, by its logarithm.

    Parameters
    ----------
    network : Layer
        As given.
    parameters : tuple of Parameter
        Those that are tuned.
    alpha : float
        As given.
    """

    network: nn.Layer | ModuleNetwork
    parameters: tuple[Parameter, ...]
    alpha: float

    @property
    def names(self) -> list[str]:
        """What each number of the vector is."""
        shown = [f"log({p.name})" if p.scale else p.name for p in self.parameters]
        return [*shown, "log(alpha)"]

    @property
    def theta(self) -> NDArray[np.float64]:
        """The vector as given."""
        noise = math.log(self.alpha) if self.alpha > 0 else -math.inf
        return np.array([*(p.coordinate for p in self.parameters), noise])

    @property
    def bounds(self) -> NDArray[np.float64]:
        """Lower and upper bounds, shape (k, 2)."""
        noise = (math.log(1e-10), math.log(1e5))
        return np.array([*(p.bounds for p in self.parameters), noise])

    def network_at(self, theta: NDArray[np.float64]) -> nn.Layer | ModuleNetwork:
        """The network for a vector.

        Raises
        ------
        NetworkError
            If a number is out of the range of its layer.
        """
        values = {p.name: p.at(float(x)) for p, x in zip(self.parameters, theta, strict=False)}
        if not values or isinstance(self.network, ModuleNetwork):
            return self.network
        return self.network.with_params(**values)

    def alpha_at(self, theta: NDArray[np.float64]) -> float:
        """The noise for a vector."""
        return math.exp(float(theta[-1]))


def parameters_of(network: nn.Layer | ModuleNetwork, alpha: float) -> Hyperparameters:
    """What can be tuned: standard deviations that are not 0, and numbers of nonlinearities.

    Parameters
    ----------
    network : Layer or ModuleNetwork
        The network; of a torch module nothing is tuned but the noise.
    alpha : float
        The noise.

    Returns
    -------
    Hyperparameters

    Examples
    --------
    >>> found = parameters_of(nn.mlp(depth=2, activation=nn.LeakyRelu(0.1)), 0.01)
    >>> found.names
    ['activation__slope', 'log(W_std)', 'log(b_std)', 'log(alpha)']
    """
    found: list[Parameter] = []
    if isinstance(network, ModuleNetwork):
        return Hyperparameters(network, (), alpha)
    for name, value, repeats in _numbers(network):
        last = name.rpartition("__")[2]
        scale = last in _SCALES
        if not isinstance(value, int | float) or isinstance(value, bool) or (scale and value == 0):
            continue
        given = Parameter(name, float(value), scale, repeats)
        if _usable(network, given):
            found.append(given)
    return Hyperparameters(network, tuple(found), alpha)


def _usable(network: nn.Layer, parameter: Parameter) -> bool:
    """Whether the network stands around this value."""
    for offset in (-2 * parameter.step, 2 * parameter.step):
        try:
            value = parameter.at(parameter.coordinate + offset)
            network.with_params(**{parameter.name: value}).program()
        except NetworkError:
            return False
    return True


def _numbers(layer: nn.Layer, prefix: str = "", repeats: int = 1) -> list[tuple[str, object, int]]:
    """Names and values of what may be tuned inside a layer, each once, and how often it is used."""
    params = layer.get_params(deep=False)
    times = params.get("n", params.get("depth", 1))
    inside = repeats * (int(times) if isinstance(times, int | float) and times > 1 else 1)
    found: list[tuple[str, object, int]] = []
    numbered = {k: v for k, v in layer.get_params().items() if k.isdigit()}
    for name, value in {**params, **numbered}.items():
        if isinstance(value, nn.Layer):
            found += _numbers(value, f"{prefix}{name}__", inside)
        elif name in _SCALES or (isinstance(layer, Nonlinearity) and name in layer.parameters):
            found.append((prefix + name, value, inside + ("depth" in params)))
    return found
