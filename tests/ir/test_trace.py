"""Recording a dual as straight-line code."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernreg import nn
from kernreg.ir.graph import PAIR, PARAM, ROW1, ROW2, Graph, Value, evaluate
from kernreg.ir.pair import Pair
from kernreg.ir.trace import DualCode, trace_dual
from kernreg.numerics.torchmath import TorchMath
from tests.nn.strategies import CLOSED_FORM

X, Y, R = 0.7, 1.3, -0.4


def graph() -> tuple[Graph, Value, Value, Value]:
    g = Graph()
    return g, g.leaf("x", ROW1), g.leaf("y", ROW2), g.leaf("r", PAIR)


def value(node: Value) -> float:
    numbers = {"x": X, "y": Y, "r": R}
    leaves = {name: torch.tensor(v, dtype=torch.float64) for name, v in numbers.items()}
    return float(evaluate((node,), leaves, TorchMath)[0])


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda g, x, y, r: x + y * r - 2, X + Y * R - 2),
        (lambda g, x, y, r: 2 - r / x, 2 - R / X),
        (lambda g, x, y, r: (g.const(1.0) + r) * (r + 1) - (r - 1), (1 + R) ** 2 - R + 1),
        (lambda g, x, y, r: 1 / r + x / y, 1 / R + X / Y),
        (lambda g, x, y, r: -r * x**3 + y**0, -R * X**3 + 1),
        (
            lambda g, x, y, r: g.sqrt(x) * g.exp(r) - g.expm1(y),
            X**0.5 * math.exp(R) - math.expm1(Y),
        ),
        (lambda g, x, y, r: g.abs(r) + g.minimum(x, y) - g.maximum(r, 0.5), -R + X - 0.5),
        (lambda g, x, y, r: g.where(r > 0, x, y) + g.where(x <= y, r, 1.0), Y + R),
        (lambda g, x, y, r: g.where(r < 0, x, y) + g.where(x >= y, r, 1.0), X + 1),
        (lambda g, x, y, r: g.where(x > X, x, y) + g.where(x < X, x, y), 2 * Y),
        (lambda g, x, y, r: g.where(x >= X, x, y) + g.where(x <= X, x, y), 2 * X),
        (lambda g, x, y, r: g.arc(x), math.acos(1 - X)),
        (lambda g, x, y, r: g.asin(x), math.asin(X)),
        (
            lambda g, x, y, r: g.lune(x),
            (math.sin(math.acos(1 - X)) - (1 - X) * math.acos(1 - X)) / math.pi,
        ),
    ],
)
def test_recorded_arithmetic_is_arithmetic(write: Callable[..., Value], expected: float) -> None:
    assert value(write(*graph())) == pytest.approx(expected, rel=1e-14)


def test_levels() -> None:
    """What a node depends on decides whether it is worked out per program, row or entry."""
    g, x, y, r = graph()
    p = g.leaf("p", PARAM)
    assert (p * 2).level == PARAM
    assert (p * x + 1).level == ROW1
    assert (y / p).level == ROW2
    for node in (x + y, x * r, g.where(r > 0, p, 1.0), g.exp(r)):
        assert node.level == PAIR


def test_equal_expressions_are_one_node() -> None:
    g, x, y, r = graph()
    assert x * y + r is y * x + r
    assert g.exp(r) is g.exp(r)
    assert g.exp(r) is not g.exp(x)


def test_literals_are_folded() -> None:
    g, x, _, r = graph()
    assert (g.const(2.0) * 3 + g.sqrt(4.0)).number == 8.0
    assert (g.const(2.0) * 0.5).number == 1.0
    assert r * 1 is r
    assert r + 0 is r
    assert g.const(0.0) + r is r
    assert r - 0 is r
    assert (r * 0).number == 0.0
    assert 2 * (3 * r) is 6 * r
    assert -1 * (-1 * r) is r
    assert x**1 is x


def test_rows_are_gathered_out_of_products() -> None:
    """``(r x1) x2 y`` is two multiplications per entry, not three."""
    g, x, y, r = graph()
    z = g.leaf("z", ROW1)
    product = r * x * y * z
    assert product is (x * z) * y * r
    entries = [v for v in _nodes(product) if v.level == PAIR and v.op == "mul"]
    assert len(entries) == 2


def test_rows_are_divided_by_once_per_row() -> None:
    _, x, y, r = graph()
    assert [v.op for v in _nodes(r / x) if v.level == PAIR] == ["mul", "leaf"]
    assert r / x is r * (1.0 / x)
    assert y / x is y * (1.0 / x)
    assert (x / r).op == "div"
    assert (x / r).args == (x, r)


def _nodes(v: Value) -> list[Value]:
    return [v] + [n for a in v.args for n in _nodes(a)]


def test_refused() -> None:
    _, x, _, r = graph()
    with pytest.raises(TypeError, match=r"must not branch on values: use xp\.where"):
        bool(r > 0)
    for power in (0.5, -1):
        with pytest.raises(TypeError, match="whole powers only"):
            x**power


def arc(gap: float) -> float:
    return 2 * math.asin(math.sqrt(gap / 2))


def lune(gap: float) -> float:
    return (math.sin(arc(gap)) - arc(gap) * math.cos(arc(gap))) / math.pi


OPERATIONS: dict[str, Callable[..., float]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
    "gt": operator.gt, "ge": operator.ge, "min": min, "max": max, "abs": abs,
    "where": lambda condition, a, b: a if condition else b,
    "sqrt": math.sqrt, "exp": math.exp, "expm1": math.expm1, "arc": arc, "lune": lune,
    "asin": math.asin,
}  # fmt: skip


def direct(fn: nn.Nonlinearity, rho: float, gap: float, s1: float, s2: float) -> list[float]:
    numbers = [torch.tensor([v], dtype=torch.float64) for v in (rho, gap, s1, s2)]
    m = fn.dual(TorchMath, Pair(*numbers))
    return [float(v) for v in (m.kappa, m.kappa_dot, m.gap) if v is not None]


def run(fn: nn.Nonlinearity, rho: float, s1: float, s2: float, u1: float, u2: float) -> list[float]:
    """The recorded code, worked out name by name as a backend would."""
    code = trace_dual(fn)
    names = code.names()
    env = {"rho": rho, "gap": 1.0 - abs(rho)}
    leaves = {f"p{i}": getattr(fn, name) for i, name in enumerate(fn.parameters)}
    leaves["norm"] = u1 * u2
    sides = [leaves | {"s": s1, "u": u1}, leaves | {"s": s2, "u": u2}]
    tables = ((code.scalars, sides[0]), (code.rows1, sides[0]), (code.rows2, sides[1]))
    for slots, side in tables:
        numbers = {k: torch.tensor(v, dtype=torch.float64) for k, v in side.items()}
        values = evaluate(slots, numbers, TorchMath)
        env |= {names[id(v)]: float(x) for v, x in zip(slots, values, strict=True)}

    def operand(v: Value) -> float:
        name = names[id(v)]
        return env[name] if name in env else float(name)

    for v in code.pairs:
        env[names[id(v)]] = OPERATIONS[v.op](*(operand(a) for a in v.args))
    return [operand(v) for v in (code.plain, code.dot, code.gap) if v is not None]


@settings(max_examples=100)
@given(
    fn=CLOSED_FORM,
    rho=st.sampled_from([-1.0, -0.7, 0.0, 0.3, 0.999, 1.0]),
    s1=st.floats(0.3, 2.0),
    s2=st.floats(0.3, 2.0),
)
def test_the_code_is_the_dual(fn: nn.Nonlinearity, rho: float, s1: float, s2: float) -> None:
    """Tables per row and operations per entry make the normalised dual.

    Only the order of roundings differs, by at most 50 operations of one unit each.
    """
    if fn.homogeneous is not None:
        s1 = s2 = 1.0
    u1, u2 = (direct(fn, 1.0, 0.0, s, s)[0] ** -0.5 for s in (s1, s2))
    kappa, dot, *gap = direct(fn, rho, 1.0 - abs(rho), s1, s2)
    want = [kappa * u1 * u2, dot * s1 * s2 * u1 * u2, *gap]
    bound = 50 * np.finfo(float).eps
    assert run(fn, rho, s1, s2, u1, u2) == pytest.approx(want, rel=bound, abs=bound)


def test_homogeneous_duals_need_no_tables() -> None:
    for fn in (nn.Relu(), nn.Abs(), nn.Sign(), nn.Monomial(3)):
        code = trace_dual(fn)
        assert code.rows1 == code.rows2 == ()


def test_operands_are_named_by_what_they_depend_on() -> None:
    """The names that backends write: constants c, rows x and y, entries v, inputs, literals."""
    code = trace_dual(nn.Sin(1.0, 2.0, 0.5))
    names = code.names()
    tables = {"c": code.scalars, "x": code.rows1, "y": code.rows2, "v": code.pairs}
    for letter, values in tables.items():
        assert [names[id(v)] for v in values] == [f"{letter}{i}" for i in range(len(values))]
        assert values
    others = {
        names[id(v)]
        for v in (node for out in code.outputs() for node in _nodes(out))
        if v.op == "const" or (v.op == "leaf" and v.level == PAIR)
    }
    assert {"rho"} <= others
    assert all(name in ("rho", "gap") or math.isfinite(float(name)) for name in others)


def test_the_signature_tells_codes_apart() -> None:
    g, x, y, r = graph()
    p = g.leaf("p", PARAM)
    one, two = r * x, g.exp(r) * y
    code = DualCode((p,), (x,), (y,), (one, g.exp(r), two), rho=one, gap=two, dot=two, plain=one)
    for other in (
        replace(code, rho=two),
        replace(code, dot=one),
        replace(code, gap=one),
        replace(code, plain=two),
        replace(code, scalars=()),
        replace(code, rows1=(x, p)),
        replace(code, rows2=(y, p)),
        replace(code, pairs=(one, g.exp(r), two, g.sqrt(r))),
    ):
        assert other.signature != code.signature
    assert replace(code).signature == code.signature


def test_parameters_stay_out_of_the_code() -> None:
    one, two = trace_dual(nn.Sin(1.0, 2.0, 0.5)), trace_dual(nn.Sin(0.3, 1.0, -1.0))
    assert one.signature == two.signature
    assert trace_dual(nn.Relu()).signature != trace_dual(nn.Abs()).signature
    assert trace_dual(nn.Relu()).signature != trace_dual(nn.Sin()).signature
