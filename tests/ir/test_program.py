"""Lowering of networks to programs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings

from kernreg import nn
from kernreg.exceptions import NetworkError
from kernreg.ir import operations as ir
from kernreg.ir.builder import Builder, Kind
from kernreg.ir.domain import Domain
from kernreg.ir.program import Program
from tests.nn.strategies import NONLINEARITIES, networks


def test_lowering() -> None:
    net = nn.serial(
        nn.Dense(1.5, 0.1),
        nn.residual(nn.serial(nn.LayerNorm(0.01), nn.Sin(2.0, 3.0), nn.Dropout(0.9), nn.Dense())),
    )
    assert net.program() == Program(
        (
            ir.Input(),
            ir.Dense(0, W=0, b=1),
            ir.Normalize(1, eps=2),
            ir.Apply(2, nn.Sin(2.0, 3.0), slots=(3, 4, 5)),
            ir.Dropout(3, keep=6),
            ir.Dense(4, W=7),
            ir.Sum((5, 1)),
        ),
        (1.5, 0.1, 0.01, 2.0, 3.0, 0.0, 0.9, 1.0),
    )


def test_lowering_of_merges() -> None:
    net = nn.serial(
        nn.Dense(),
        nn.parallel(nn.Relu(), nn.Abs(), merge="concat", weights=(1.0, 3.0)),
        nn.parallel(nn.Dense(), nn.Dense(), merge="product"),
    )
    program = net.program()
    assert program.ops[4] == ir.Sum((2, 3), slots=(1, 2))
    assert program.params[1:3] == (0.25, 0.75)
    assert program.ops[7] == ir.Product((5, 6))


@pytest.mark.parametrize(
    ("layer", "op"),
    [
        (nn.Dense(2.0, 0.0), ir.Dense(0, W=0)),
        (nn.Dense(2.0, None), ir.Dense(0, W=0)),
        (nn.Dense(2.0, 0.0, "standard", 3), ir.Dense(0, W=0, b=1, fan_in=3)),
        (nn.Dense(2.0, None, "standard", 3), ir.Dense(0, W=0, fan_in=3)),
    ],
)
def test_biases_of_variance_0(layer: nn.Layer, op: ir.Op) -> None:
    """They count in the "standard" parameterization only, where they are trained."""
    assert layer.program().ops[1] == op


@pytest.mark.parametrize("n", [1, 3, 10_000])
def test_repeat_stays_a_loop(n: int) -> None:
    block = nn.serial(nn.Relu(), nn.Dense(1.5, 0.1))
    program = nn.serial(nn.Dense(), nn.repeat(block, n)).program()
    assert len(program.ops) == 3
    loop = program.ops[2]
    assert loop == ir.Repeat(
        1, (ir.Carry(), ir.Apply(0, nn.Relu()), ir.Dense(1, W=1, b=2)), count=n
    )
    assert program.params == (1.0, 1.5, 0.1)


def test_no_turns_no_loop() -> None:
    block = nn.serial(nn.Relu(), nn.Dense())
    assert nn.serial(nn.Dense(), nn.repeat(block, 0)).program() == nn.Dense().program()


def test_loops_nest() -> None:
    inner = nn.repeat(nn.serial(nn.Relu(), nn.Dense(3.0)), 5)
    program = nn.serial(nn.Dense(), nn.repeat(nn.serial(inner, nn.Dense(4.0)), 2)).program()
    outer = program.ops[2]
    assert isinstance(outer, ir.Repeat)
    assert isinstance(outer.body[1], ir.Repeat)
    assert (outer.count, outer.body[1].count) == (2, 5)
    assert program.params == (1.0, 3.0, 4.0)


@settings(max_examples=60)
@given(net=networks(NONLINEARITIES))
def test_every_program_is_in_order(net: nn.Layer) -> None:
    """Single assignment: arguments come before their use, slots lie inside the parameters."""

    def check(ops: tuple[ir.Op, ...], head: type) -> None:
        assert isinstance(ops[0], head)
        for i, op in enumerate(ops[1:], 1):
            assert all(0 <= x < i for x in (op.xs if hasattr(op, "xs") else (op.x,)))
            slots = [getattr(op, name, None) for name in ("W", "b", "eps", "keep")]
            slots += getattr(op, "slots", ())
            assert all(0 <= s < len(program.params) for s in slots if s is not None)
            if isinstance(op, ir.Repeat):
                check(op.body, ir.Carry)

    program = net.program()
    check(program.ops, ir.Input)


def test_structure_leaves_parameters_out() -> None:
    """A grid over hyperparameters compiles once."""

    def net(W: float, b: float, a: float, keep: float, share: float) -> nn.Layer:
        return nn.serial(
            nn.Dense(W, b),
            nn.parallel(nn.Sin(a), nn.Erf(b=a), merge="concat", weights=(share, 1.0)),
            nn.Dropout(keep),
            nn.repeat(nn.serial(nn.Dense(W), nn.Relu()), 3),
        )

    one, two = net(1.0, 0.1, 1.0, 0.9, 1.0).program(), net(2.0, 0.2, 0.5, 0.5, 3.0).program()
    assert one.params != two.params
    assert one.structure() == two.structure()
    assert hash(one.structure()) == hash(two.structure())
    # Another instance of a nonlinearity keeps its own text, but runs on the same parameters.
    assert str(one.with_params(two.params)) == str(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (nn.mlp(depth=2), nn.mlp(depth=3)),
        (nn.mlp(depth=2), nn.mlp(depth=2, activation=nn.Abs())),
        (nn.mlp(depth=2), nn.mlp(depth=2, b_std=0.0)),
        (nn.mlp(1, nn.Monomial(2)), nn.mlp(1, nn.Monomial(3))),
        (nn.mlp(1, nn.Hermite((0.0, 1.0))), nn.mlp(1, nn.Hermite((0.0, 2.0)))),
        (
            nn.Dense(parameterization="standard", fan_in=2),
            nn.Dense(parameterization="standard", fan_in=3),
        ),
    ],
)
def test_structure_holds_what_shapes_code(one: nn.Layer, two: nn.Layer) -> None:
    assert one.program().structure() != two.program().structure()


def test_with_params() -> None:
    program = nn.Dense(1.5, 0.1).program()
    assert program.with_params((2, 0)).params == (2.0, 0.0)
    with pytest.raises(ValueError, match="expected 2 parameters, found 1"):
        program.with_params((2.0,))


def test_text() -> None:
    net = nn.serial(
        nn.Dense(1.5),
        nn.parallel(nn.Erf(), nn.Sin(0.5), merge="concat", weights=(1.0, 3.0)),
        nn.Dropout(0.9),
        nn.Dense(1.0, 0.0, "standard", 7),
        nn.repeat(nn.residual(nn.serial(nn.LayerNorm(0.5), nn.Relu(), nn.Dense(2.0))), 4),
        nn.parallel(nn.Identity(), nn.Dense(), merge="product"),
    )
    assert str(net.program()) == "\n".join(
        [
            "%0 = input",
            "%1 = dense %0  W_std=1.5",
            "%2 = Erf() %1",
            "%3 = Sin(a=0.5) %1",
            "%4 = sum 0.25 %2 + 0.75 %3",
            "%5 = dropout %4  keep=0.9",
            "%6 = dense %5  W_std=1 b_std=0 standard fan_in=7",
            "%7 = repeat 4 times on %6",
            "  %0 = carry",
            "  %1 = normalize %0  eps=0.5",
            "  %2 = Relu() %1",
            "  %3 = dense %2  W_std=2",
            "  %4 = sum %3 + %0",
            "%8 = dense %7  W_std=1",
            "%9 = product %7 * %8",
        ]
    )


def test_cost_is_a_sum_over_turns() -> None:
    block = nn.serial(nn.Relu(), nn.Dense())
    base = nn.Dense().program().flops()
    one = nn.serial(nn.Dense(), nn.repeat(block, 1)).program().flops() - base
    many = nn.serial(nn.Dense(), nn.repeat(block, 1000)).program().flops() - base
    unrolled = nn.serial(nn.Dense(), *[block] * 1000).program().flops() - base
    assert one > 0
    assert many == unrolled == 1000 * one


def test_cost_knows_what_is_dear() -> None:
    """A series of a hundred terms or so costs several times what a closed form does."""
    cheap, dear = (nn.mlp(1, fn).program().flops() for fn in (nn.Relu(), nn.Tanh()))
    assert dear > 3 * cheap


def test_the_output_is_the_last_value() -> None:
    builder = Builder()
    x = builder.input()
    builder.dense(x, 1.0, None, None, "Dense()")
    with pytest.raises(ValueError, match="last value"):
        builder.finish(x)


@pytest.mark.parametrize("merge", ["sum", "product"])
def test_branches_have_the_same_positions(merge: str) -> None:
    builder = Builder()
    vector = builder.input(Kind.GAUSSIAN)
    image = replace(vector, domain=Domain(axes=2), made_by="Reshaped()")
    merged = {
        "sum": lambda *xs: builder.sum([*xs], (), Kind.GAUSSIAN, "parallel(...)"),
        "product": lambda *xs: builder.product([*xs], "parallel(...)"),
    }[merge]
    assert merged(image, image).domain == Domain(axes=2)
    with pytest.raises(NetworkError, match=r"^parallel.*same positions.*behind Reshaped"):
        merged(vector, image)
