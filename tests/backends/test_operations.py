"""An operation in a file of its own: what this one adds, every pass knows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

import kernreg
from kernreg import nn
from kernreg.backends import rows as R
from kernreg.backends.analysis import analyze
from kernreg.backends.base import Request
from kernreg.backends.generated import GeneratedBound
from kernreg.backends.reference import PAIRS
from kernreg.backends.rounding import ROUNDING
from kernreg.backends.rows import ROWS
from kernreg.backends.signs import SIGNS, all_nonnegative
from kernreg.backends.tiles import INSTRUCTIONS
from kernreg.backends.triton.source import module_text
from kernreg.exceptions import UnknownOperationError
from kernreg.ir import operations as ir
from kernreg.ir.builder import Builder, Ref
from kernreg.ir.fold import Pass, Rules
from kernreg.nn.base import Layer
from kernreg.theory import criticality, inverse
from tests.backends.compare import KERNELS, needs_cpu, rows


@dataclass(frozen=True)
class Scaling(ir.Op):
    """Values times a factor: variances times its square."""

    x: int
    factor: int

    @property
    def inputs(self) -> tuple[int, ...]:
        return (self.x,)

    def text(self, params):
        return f"scaling %{self.x}  factor={params[self.factor]:g}"


@dataclass(frozen=True, repr=False)
class Scaled(Layer):
    """The layer that has it."""

    factor: float

    def lower(self, b: Builder, x: Ref) -> Ref:
        op = Scaling(x.index, b.slot(self.factor))
        return b.emit(op, x.kind, repr(self), x.domain)


SIGNS.of(Scaling)(all_nonnegative)


@ROWS.of(Scaling)
def _rows(params, op, x):
    return R.Row(params[op.factor] * x.s, x.tau), ()


@PAIRS.of(Scaling)
def _pairs(run, op, x):
    return run.behind(op, x.pair, x)


@ROUNDING.of(Scaling)
def _rounding(walk, op, x):
    return replace(x, row=R.row_behind(op, walk.params, x.row))


@INSTRUCTIONS.of(Scaling)
def _instructions(t, op, x):
    return t.behind(op, t.same_pairs(x), x)


def pair(*outer) -> tuple[nn.Layer, nn.Layer]:
    """A scaled network, and one with the factor in the weights before it."""
    first = nn.serial(nn.Dense(1.3, 0.2), Scaled(0.7)), nn.Dense(1.3 * 0.7, 0.2 * 0.7)
    return tuple(nn.serial(*outer, one, nn.Relu(), nn.Dense(0.9, 0.1)) for one in first)


NETWORKS = {
    "once": pair(),
    "behind others": pair(nn.Dense(), nn.Gelu()),
    "in a loop": tuple(nn.serial(nn.Dense(), nn.repeat(n, 3)) for n in pair(nn.Erf())),
    "in a branch": tuple(nn.serial(nn.Dense(), nn.residual(n)) for n in pair(nn.Relu())),
}


@pytest.mark.parametrize("case", NETWORKS)
@pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_cpu)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_reference_and_tiles_run_it(case: str, backend: str, dtype: str) -> None:
    X = rows()
    for kernel in KERNELS:
        found, expected = (
            kernreg.gram(n, X, kernel=kernel, backend=backend, dtype=dtype, exact=True)
            for n in NETWORKS[case]
        )
        size = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
        bound = 1e-13 if dtype == "float64" else 5e-6
        assert (np.abs(found - expected) / size).max() <= bound


def test_the_diagonal_knows_it() -> None:
    found, expected = (kernreg.diag(n, rows()) for n in NETWORKS["in a loop"])
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_triton_text_is_that_without_it() -> None:
    """A scaled state has other rows, which are tables: no statement is added."""
    X = torch.from_numpy(rows())
    texts = []
    for net in NETWORKS["behind others"]:
        bound = GeneratedBound(Request(net.program(), X, None, np.dtype("float64")))
        texts.append(module_text(bound.tiles, bound.duals.found, "float64"))
    # The nonlinearity and the dense layer behind it stay one statement.
    assert texts[0] == texts[1]
    assert "# Relu, Dense" in texts[0]


def test_analysis_bounds_its_rounding() -> None:
    row = R.input_row(torch.from_numpy(rows()))
    found, expected = (
        analyze(n.program(), (row, row), np.dtype("float32"), 100, True)
        for n in NETWORKS["behind others"]
    )
    assert found.error == pytest.approx(expected.error, rel=1e-6)
    assert found.near == expected.near


def test_programs_print_it() -> None:
    text = str(NETWORKS["once"][0].program())
    assert text.splitlines()[2] == "%2 = scaling %1  factor=0.7"


@pytest.mark.parametrize(
    "work", [criticality.report, criticality.tune, inverse.kernel_coefficients]
)
def test_a_pass_without_a_rule_names_layer_and_pass(work) -> None:
    with pytest.raises(UnknownOperationError, match="what scaling does to") as error:
        work(NETWORKS["once"][0])
    assert str(error.value).startswith("Scaled(factor=0.7): ")


def test_rules_are_found_for_the_kind_of_operation() -> None:
    rules = Rules("a count")

    @rules.of(Scaling, ir.Dense)
    def count(walk, op, x):
        return x + 1

    class Count(Pass[int]):
        pass

    Count.rules = rules
    net = nn.serial(nn.Dense(), nn.repeat(nn.serial(Scaled(2.0), nn.Dense()), 4))
    assert Count().run(net.program().ops, 0) == 9
    assert ir.Repeat not in rules
