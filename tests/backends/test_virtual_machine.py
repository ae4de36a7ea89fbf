"""Programs at the limits of the virtual machine: interpreted duals, registers, states, loops."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

import kernreg
from kernreg import nn
from kernreg.backends import cpu
from kernreg.exceptions import BackendError
from kernreg.ir.pair import Moments, Pair
from kernreg.numerics.angle import MAX_NODES, MAX_TERMS
from tests.backends.compare import hard_rows, needs_cpu, relative_error, rows

pytestmark = needs_cpu

LIBRARY = [
    nn.Relu(), nn.LeakyRelu(0.2), nn.Abs(), nn.ABRelu(-0.5, 1.5), nn.Sign(), nn.Erf(0.8, 1.2, 0.3),
    nn.SigmoidLike(), nn.Gelu(), nn.Sin(1.2, 0.8, 0.3), nn.Cos(0.8, 1.2, 0.3), nn.Gabor(),
    nn.Rbf(0.7), nn.Gaussian(0.9, -0.4), nn.Exp(1.1, 0.3), nn.ExpNormalized(1.2),
    nn.RectifiedMonomial(0), nn.RectifiedMonomial(3), nn.Monomial(0), nn.Monomial(3),
    nn.Polynomial((0.3, 1.0, 0.2)), nn.Hermite((0.2, 0.5, 0.3, 0.1)),
]  # fmt: skip


@pytest.mark.parametrize("fn", LIBRARY, ids=repr)
def test_interpreted_duals(fn: nn.Nonlinearity, monkeypatch: pytest.MonkeyPatch) -> None:
    """An extension that knows no dual runs each of them one primitive at a time.

    LayerNorm keeps powers in check, so that errors grow by less than 100 over two layers.
    """
    names = [name for name in dir(cpu._core) if not name.startswith("__")]
    bare = SimpleNamespace(**{name: getattr(cpu._core, name) for name in names})
    bare.signatures = list
    monkeypatch.setattr(cpu, "_core", bare)
    block = nn.serial(nn.LayerNorm(), fn, nn.Dense(1.1, 0.2))
    net = nn.serial(nn.Dense(), nn.repeat(nn.residual(block), 2), block)
    X = hard_rows()
    assert relative_error(net, X, None, backend="cpu") <= 1e-10
    assert relative_error(net, X, X, backend="cpu", dtype="float32") <= 2e-5


@dataclass(frozen=True, repr=False)
class Line(nn.Nonlinearity):
    """Its dual is made of inputs and literals alone."""

    homogeneous: ClassVar[int | None] = 1

    def dual(self, xp: Any, p: Pair) -> Moments:
        return Moments(kappa=p.rho, kappa_dot=1.0, gap=p.gap)


@dataclass(frozen=True, repr=False)
class Wide(nn.Nonlinearity):
    """The same, by ``count`` values that are alive at once."""

    count: int

    homogeneous: ClassVar[int | None] = 1

    def dual(self, xp: Any, p: Pair) -> Moments:
        values = [xp.exp(p.rho + float(k)) for k in range(self.count)]
        total = values[-1]
        for value in reversed(values[:-1]):
            total = value + total
        return Moments(kappa=p.rho + 0.0 * p.gap * total + (total - total), kappa_dot=1.0)


def refused(net: nn.Layer, bound: float) -> str | None:
    """Why the cpu backend refuses a network; if it does not, its error must be in bounds."""
    try:
        error = relative_error(net, rows(), None, backend="cpu")
    except BackendError as refusal:
        return str(refusal)
    assert error <= bound
    return None


def test_a_dual_without_operations() -> None:
    linear = nn.serial(nn.Dense(1.3, 0.2), nn.Dense(0.7, 0.1))
    net = nn.serial(nn.Dense(1.3, 0.2), Line(), nn.Dense(0.7, 0.1))
    assert relative_error(net, hard_rows(), None, backend="cpu") <= 1e-14
    np.testing.assert_allclose(
        kernreg.gram(net, rows(), backend="cpu"), kernreg.gram(linear, rows()), rtol=1e-13
    )


@pytest.mark.parametrize("count", [8, *range(34, 44), 60])
def test_registers_run_out_politely(count: int) -> None:
    """Right, or refused with the number of registers; "auto" goes to the reference."""
    net = nn.serial(nn.Dense(), Wide(count), nn.Dense())
    # Values of up to exp(40) are added and subtracted again in the same order.
    refusal = refused(net, 1e-12)
    if refusal:
        assert count > 30
        (number,) = map(int, re.findall(r"more than the (\d+) registers", refusal))
        assert number <= cpu._core.REGISTERS
    assert relative_error(net, rows(), None) <= 1e-12


@pytest.mark.parametrize("count", range(1, 12))
@pytest.mark.parametrize("merge", ["sum", "product", "concat"])
def test_many_branches(count: int, merge: str) -> None:
    branches = [nn.serial(nn.Relu(), nn.Dense(0.9 + 0.1 * k, 0.1)) for k in range(count)]
    net = nn.serial(nn.Dense(), nn.parallel(*branches, merge=merge), nn.Dense())
    refusal = refused(net, 1e-12)
    if refusal:
        assert count > 5
        assert "branches alive at once; use backend='reference'" in refusal
    assert relative_error(net, rows(), None) <= 1e-12


@pytest.mark.parametrize("merge", ["sum", "product", "concat"])
def test_a_merge_of_one_branch_leaves_its_input_alone(merge: str) -> None:
    """The input is still needed for the shortcut."""
    alone = nn.parallel(nn.Identity(), merge=merge)
    block = nn.serial(alone, *([nn.Relu()] if merge == "sum" else []), nn.Dense(1.2, 0.1))
    net = nn.serial(nn.Dense(1.5, 0.2), nn.residual(block))
    assert relative_error(net, rows(), None, backend="cpu") <= 1e-14


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_survive_a_loop(dtype: str) -> None:
    """Loops inside residual blocks inside loops, with biases that differ by place."""
    inner = nn.repeat(nn.serial(nn.Erf(), nn.Dense(1.2, 0.3)), 3)
    block = nn.residual(nn.serial(nn.Relu(), nn.Dense(0.8, 0.1), nn.residual(inner), nn.Dense()))
    tail = nn.residual(nn.serial(nn.Gelu(), nn.Dense(0.5, 0.2)), shortcut=nn.Dense(0.7, 0.1))
    net = nn.serial(
        nn.Dense(1.1, 0.2), nn.residual(nn.serial(nn.repeat(block, 4), nn.Dense())), tail
    )
    bound = 1e-12 if dtype == "float64" else 5e-6
    assert relative_error(net, rows(), rows(3, seed=2), backend="cpu", dtype=dtype) <= bound


NESTED = """
from kernreg import nn
from kernreg.exceptions import BackendError
from tests.backends.compare import relative_error, rows
block = nn.serial(nn.Relu(), nn.Dense(1.1, 0.1))
for _ in range({depth}):
    block = nn.repeat(block, 1)
try:
    error = relative_error(nn.serial(nn.Dense(), block), rows(), None, backend="cpu")
except BackendError:
    pass
else:
    assert error <= 1e-12, error
"""


@pytest.mark.parametrize("depth", [8, 200])
def test_loops_in_loops(depth: int) -> None:
    """Right or refused; in a process of its own, since a stack that overflows ends it."""
    command = [sys.executable, "-c", NESTED.format(depth=depth)]
    run = subprocess.run(command, capture_output=True, cwd=Path(__file__).parents[2])
    assert run.returncode == 0, run.stderr.decode()[-1000:]


def test_series_in_the_angle_have_room() -> None:
    from kernreg import _core

    assert _core.ANGLE_TERMS >= MAX_TERMS
    assert _core.MAX_NODES >= MAX_NODES
