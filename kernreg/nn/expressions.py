"""Calls and arithmetic in text, evaluated without running anything else."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from kernreg.exceptions import ArgumentError, NetworkError
from kernreg.wording import did_you_mean

__all__ = ["evaluate", "named"]

_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


def evaluate(text: str, makers: Mapping[str, Callable[..., Any]], example: str) -> Any:
    """The value of an expression of calls of ``makers`` and arithmetic on numbers.

    Parameters
    ----------
    text : str
        The expression; ``nn.`` may precede names.
    makers : mapping of str to callable
        All that may be called.
    example : str
        What the text should look like.

    Raises
    ------
    NetworkError
        If it holds anything else, with the part that is wrong.

    Examples
    --------
    >>> evaluate("2 * nn.f(3)", {"f": float}, "f(1)")
    6.0
    """
    try:
        return _Reader(makers).value(ast.parse(text.strip(), mode="eval").body)
    except SyntaxError as error:
        raise NetworkError(
            f"{text!r} is not a network: {error.msg}. Write it as code, for example {example}."
        ) from error
    except (RecursionError, MemoryError) as error:
        # The parser says MemoryError as well when its own stack is full.
        raise NetworkError(f"{text[:60]!r} ... is nested too deeply for a network.") from error


def named(text: str, makers: Mapping[str, Callable[..., Any]], example: str) -> Any:
    """As :func:`evaluate`, or a name alone, in any case, for what it makes without arguments.

    Examples
    --------
    >>> named("ReLU", {"Relu": lambda: "a relu"}, "Relu()")
    'a relu'
    """
    name = text.strip().removeprefix("nn.")
    if not name.isidentifier():
        return evaluate(text, makers, example)
    spelled = {known.lower(): known for known in makers}
    if name.lower() not in spelled:
        raise _unknown(name, makers)
    return makers[spelled[name.lower()]]()


class _Reader:
    """Values of the nodes of an expression."""

    def __init__(self, makers: Mapping[str, Callable[..., Any]]) -> None:
        self.makers = makers

    def value(self, node: ast.AST) -> Any:
        if isinstance(node, ast.Call):
            return self.call(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str | None):
            return _bounded(node, node.value)
        if isinstance(node, ast.Tuple | ast.List):
            return tuple(self.value(item) for item in node.elts)
        try:
            if isinstance(node, ast.UnaryOp):
                return _bounded(node, _OPERATORS[type(node.op)](self.number(node.operand)))
            if isinstance(node, ast.BinOp):
                operands = self.number(node.left), self.number(node.right)
                return _bounded(node, _OPERATORS[type(node.op)](*operands))
        except (KeyError, ArithmeticError) as error:
            raise NetworkError(f"{ast.unparse(node)!r} cannot be computed.") from error
        if isinstance(node, ast.Name) and node.id in self.makers:
            raise NetworkError(f"{node.id!r} lacks its parentheses: write {node.id}(...).")
        if isinstance(node, ast.Name):
            raise _unknown(node.id, self.makers)
        raise NetworkError(
            f"{ast.unparse(node)!r} is not allowed in a network; expected layers and numbers."
        )

    def number(self, node: ast.AST) -> Any:
        value = self.value(node)
        if not isinstance(value, int | float):
            raise NetworkError(f"{ast.unparse(node)!r} is not a number of at most 1e6.")
        return value

    def call(self, node: ast.Call) -> Any:
        function = node.func
        if isinstance(function, ast.Attribute):
            inside = isinstance(function.value, ast.Name) and function.value.id == "nn"
            name = function.attr if inside else ast.unparse(function)
        else:
            name = ast.unparse(function)
        if name not in self.makers:
            raise _unknown(name, self.makers)
        positional = [self.value(argument) for argument in node.args]
        if any(keyword.arg is None for keyword in node.keywords):
            raise NetworkError(f"** is not allowed in a network: {ast.unparse(node)!r}.")
        keywords = {str(keyword.arg): self.value(keyword.value) for keyword in node.keywords}
        try:
            return self.makers[name](*positional, **keywords)
        except ArgumentError as error:
            reason = str(error).removeprefix(f"{name}: ")
            raise ArgumentError(f"{ast.unparse(node)}: {reason}") from error
        except TypeError as error:
            raise NetworkError(f"{ast.unparse(node)}: {error}.") from error


def _bounded(node: ast.AST, value: Any) -> Any:
    """Keep towers of powers and depths from running for ever; layers refuse infinity better."""
    if isinstance(value, int | float) and 1e6 < abs(value) < float("inf"):
        raise NetworkError(f"{ast.unparse(node)!r} is not a number of at most 1e6.")
    return value


def _unknown(name: str, makers: Mapping[str, Callable[..., Any]]) -> NetworkError:
    return NetworkError(
        f"Unknown layer {name!r}; known are {', '.join(makers)}.{did_you_mean(name, makers)}"
    )
