"""Networks typed on the command line."""

from __future__ import annotations

import ast
import inspect
import operator
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kernreg import nn
from kernreg._wording import did_you_mean, listed
from kernreg.exceptions import NetworkError

__all__ = ["NAMES", "looks_like_network", "parse_network"]

NAMES = tuple(sorted(set(nn.__all__) - {"Layer", "Nonlinearity", "from_json", "to_json"}))
"""What a network is written with."""

_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def looks_like_network(text: str) -> bool:
    """Whether an argument is a network and not the name of a file or a set.

    Examples
    --------
    >>> looks_like_network("mlp(depth=2)"), looks_like_network("table.csv")
    (True, False)
    """
    return ("(" in text and not os.path.exists(text)) or text.lstrip().startswith("{")


def parse_network(text: str) -> nn.Layer:
    """A network from its code, its JSON text or a file with that JSON text.

    Only calls of names in :mod:`kernreg.nn` and arithmetic on numbers are evaluated.

    Parameters
    ----------
    text : str
        For example ``mlp(depth=3, activation=Erf(), W_std=2**0.5)``; ``nn.`` may precede names.

    Raises
    ------
    NetworkError
        If it is not a network, with the part that is wrong.

    Examples
    --------
    >>> parse_network("serial(Dense(2**0.5), nn.Relu(), Dense())")
    serial(Dense(W_std=1.4142135623730951), Relu(), Dense())
    """
    if text.lstrip().startswith("{"):
        return nn.from_json(text)
    if text.endswith(".json") and Path(text).is_file():
        try:
            return nn.from_json(Path(text).read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise NetworkError(f"{text} is not UTF-8 text: {error}.") from error
    try:
        network = _value(ast.parse(text.strip(), mode="eval").body)
    except SyntaxError as error:
        raise NetworkError(
            f"{text!r} is not a network: {error.msg}. Write it as code, for example "
            "mlp(depth=3, activation=Erf(), W_std=1.5)."
        ) from error
    except (RecursionError, MemoryError) as error:
        # The parser says MemoryError as well when its own stack is full.
        raise NetworkError(f"{text[:60]!r} ... is nested too deeply for a network.") from error
    if not isinstance(network, nn.Layer):
        raise NetworkError(f"{text!r} is {network!r}, not a network such as mlp(depth=3).")
    return network


def _value(node: ast.AST) -> Any:
    if isinstance(node, ast.Call):
        return _call(node)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str | None):
        return _bounded(node, node.value)
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(_value(item) for item in node.elts)
    try:
        if isinstance(node, ast.UnaryOp):
            return _bounded(node, _OPERATORS[type(node.op)](_number(node.operand)))
        if isinstance(node, ast.BinOp):
            operands = _number(node.left), _number(node.right)
            return _bounded(node, _OPERATORS[type(node.op)](*operands))
    except (KeyError, ArithmeticError) as error:
        raise NetworkError(f"{ast.unparse(node)!r} cannot be computed.") from error
    if isinstance(node, ast.Name) and node.id in NAMES:
        raise NetworkError(f"{node.id!r} lacks its parentheses: write {node.id}(...).")
    if isinstance(node, ast.Name):
        raise _unknown(node.id)
    raise NetworkError(
        f"{ast.unparse(node)!r} is not allowed in a network; expected layers and numbers."
    )


def _number(node: ast.AST) -> Any:
    value = _value(node)
    if not isinstance(value, int | float):
        raise NetworkError(f"{ast.unparse(node)!r} is not a number of at most 1e6.")
    return value


def _bounded(node: ast.AST, value: Any) -> Any:
    """Keep towers of powers and depths from running for ever; layers refuse infinity better."""
    if isinstance(value, int | float) and 1e6 < abs(value) < float("inf"):
        raise NetworkError(f"{ast.unparse(node)!r} is not a number of at most 1e6.")
    return value


def _call(node: ast.Call) -> Any:
    function = node.func
    if isinstance(function, ast.Attribute):
        inside = isinstance(function.value, ast.Name) and function.value.id == "nn"
        name = function.attr if inside else ast.unparse(function)
    else:
        name = ast.unparse(function)
    if name not in NAMES:
        raise _unknown(name)
    maker = getattr(nn, name)
    positional = [_value(argument) for argument in node.args]
    if any(keyword.arg is None for keyword in node.keywords):
        raise NetworkError(f"** is not allowed in a network: {ast.unparse(node)!r}.")
    named = {str(keyword.arg): _value(keyword.value) for keyword in node.keywords}
    expected = inspect.signature(maker)
    try:
        expected.bind(*positional, **named)
    except TypeError as error:
        known = list(expected.parameters)
        hints = "".join(did_you_mean(key, known) for key in named if key not in known)
        raise NetworkError(
            f"{ast.unparse(node)}: {error}; {name} takes {listed(known) or 'no arguments'}.{hints}"
        ) from error
    try:
        return maker(*positional, **named)
    except TypeError as error:
        raise NetworkError(f"{ast.unparse(node)}: {error}.") from error


def _unknown(name: str) -> NetworkError:
    return NetworkError(
        f"Unknown layer {name!r}; known are {', '.join(NAMES)}.{did_you_mean(name, NAMES)}"
    )
