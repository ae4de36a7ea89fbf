"""Networks as JSON text and back."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

from kernreg.exceptions import NetworkError
from kernreg.nn.base import LAYERS, Layer
from kernreg.nn.bounds import check_bounds, check_length, functions_named
from kernreg.wording import did_you_mean, listed

__all__ = ["from_json", "to_json"]

_TOO_DEEP = "The network is nested too deeply: write layers side by side, as in serial(a, b, c)."


def to_json(network: Layer) -> str:
    """Write a network as JSON text.

    Parameters
    ----------
    network : Layer
        Any layer.

    Returns
    -------
    str

    Raises
    ------
    NetworkError
        If a callable inside has no importable name.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.to_json(nn.LayerNorm(0.5))
    '{"layer": "LayerNorm", "eps": 0.5, "axes": []}'
    """
    try:
        return json.dumps(_encode(network))
    except RecursionError as error:
        raise NetworkError(_TOO_DEEP) from error


def from_json(text: str, *, trusted: bool = False) -> Layer:
    """Read a network that :func:`to_json` wrote.

    Parameters
    ----------
    text : str
        JSON text.
    trusted : bool, default=False
        Allow a network that names Python functions, as ``nn.Elementwise(fn)`` does: they are looked
        up in modules that are imported, and called.

    Returns
    -------
    Layer

    Raises
    ------
    NetworkError
        If the text is not JSON, names an unknown layer or, without ``trusted``, a Python function,
        or describes more than 50,000 layers, repetitions included, or 100 inside each other.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.from_json(nn.to_json(nn.mlp(depth=2))) == nn.mlp(depth=2)
    True
    """
    try:
        check_length(text)
        value = json.loads(text)
        check_bounds(value)
        functions = functions_named(value)
        if functions and not trusted:
            raise NetworkError(
                f"The network uses the Python function {functions[0]!r}, which would be called. If "
                "you trust the text, read it in Python by kernreg.nn.from_json(text, trusted=True)."
            )
        network = _decode(value)
    except NetworkError:
        raise
    except RecursionError as error:
        raise NetworkError(f"Not the JSON text of a network: {_TOO_DEEP}") from error
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        raise NetworkError(f"Not the JSON text of a network: {error}") from error
    if not isinstance(network, Layer):
        raise NetworkError(f"The JSON text holds {network!r}, not a network.")
    return network


def _encode(value: Any) -> Any:
    if isinstance(value, Layer):
        fields = dataclasses.fields(value)  # type: ignore[arg-type]
        return {"layer": value.key()} | {f.name: _encode(getattr(value, f.name)) for f in fields}
    if isinstance(value, tuple):
        return [_encode(v) for v in value]
    if callable(value):
        return {"callable": _path(value)}
    # NumPy scalars come from parameter grids.
    return value.item() if hasattr(value, "item") else value


def _path(function: Any) -> str:
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if not module or "<" in name:
        raise NetworkError(
            f"{function!r} cannot be written to a file: only functions that can be imported by "
            "name can. Define it at the top of a module."
        )
    return f"{module}:{name}"


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_decode(v) for v in value)
    if isinstance(value, dict) and "callable" in value:
        module, _, name = value["callable"].partition(":")
        # A file must not decide what is imported: the caller imports the module first.
        function: Any = sys.modules.get(module)
        for part in name.split("."):
            function = getattr(function, part, None)
        if function is None:
            raise NetworkError(
                f"The network uses the function {value['callable']!r}: import the module "
                f"{module!r} before loading it."
            )
        return function
    if isinstance(value, dict):
        return _layer(value)
    return value


def _layer(entries: dict[str, Any]) -> Layer:
    """The layer that a JSON object stands for."""
    if "layer" not in entries:
        raise NetworkError(
            "A layer in JSON names its class in the entry 'layer', as in "
            f'{{"layer": "Mlp", "depth": 2}}; found {listed(entries) or "no entries"}.'
        )
    name = entries["layer"]
    known = sorted(set(LAYERS) - {"Nonlinearity"})
    if name not in known:
        hint = did_you_mean(str(name), known)
        shown = ", ".join(layer for layer in known if ":" not in layer)
        raise NetworkError(f"Unknown layer {name!r}; known are {shown}.{hint}")
    return LAYERS[name](**{k: _decode(v) for k, v in entries.items() if k != "layer"})
