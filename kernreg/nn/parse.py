"""Networks from their text: the code that makes them, or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from kernreg.exceptions import NetworkError
from kernreg.nn import combinators, flips, layers, nonlinearities, presets, spatial
from kernreg.nn.base import Layer
from kernreg.nn.bounds import check_bounds
from kernreg.nn.expressions import evaluate
from kernreg.nn.serialize import from_json, to_json

__all__ = ["NAMES", "parse_network"]

_MAKERS: dict[str, Callable[..., Any]] = {
    name: getattr(module, name)
    for module, names in (
        (layers, ("Dense", "Dropout", "Identity", "LayerNorm")),
        (spatial, spatial.__all__),
        (nonlinearities, nonlinearities.__all__),
        (combinators, ("parallel", "repeat", "residual", "serial")),
        (presets, ("cnn", "mlp", "myrtle", "wide_resnet")),
        (flips, ("flip_augmented",)),
    )
    for name in names
}
NAMES = tuple(sorted(_MAKERS))
"""What a network is written with."""


def parse_network(text: str, *, part: bool = False) -> Layer:
    """A network from its code or its JSON text.

    Only calls of names in :mod:`kernreg.nn` and arithmetic on numbers are evaluated.

    Parameters
    ----------
    text : str
        For example ``mlp(depth=3, activation=Erf(), W_std=2**0.5)``; ``nn.`` may precede names.
    part : bool, default=False
        Whether it may be a part that cannot stand on data, such as a nonlinearity alone.

    Raises
    ------
    NetworkError
        If it is not a network that can stand on data, with the part that is wrong.

    Examples
    --------
    >>> parse_network("serial(Dense(2**0.5), nn.Relu(), Dense())")
    serial(Dense(W_std=1.4142135623730951), Relu(), Dense())
    """
    if text.lstrip().startswith("{"):
        return from_json(text)
    makers = {name: _MAKERS[name] for name in NAMES}
    network = evaluate(text, makers, "mlp(depth=3, activation=Erf(), W_std=1.5)")
    if not isinstance(network, Layer):
        raise NetworkError(f"{text!r} is {network!r}, not a network such as mlp(depth=3).")
    check_bounds(json.loads(to_json(network)))
    if not part:
        network.program()  # raises where a layer cannot stand on data
    return network
