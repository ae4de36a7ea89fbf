"""Recorded row passes: the same numbers as the rules that they were recorded from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings

import kernreg
from kernreg import nn
from kernreg.backends import rows as R
from kernreg.backends import small
from kernreg.backends.analysis import analyze
from kernreg.backends.base import Request
from kernreg.backends.cpu import _machine, load_extension
from kernreg.backends.recorded import NotRecordable, record
from kernreg.backends.small import small_problem
from kernreg.backends.tiles import TileProgram, translate
from kernreg.exceptions import InvalidInputError
from tests.backends.compare import hard_rows, needs_cpu, rows
from tests.nn.strategies import HOMOGENEOUS, JUMPS, SMOOTH, networks

pytestmark = needs_cpu

EPS = np.finfo(float).eps
FLOAT64 = np.dtype(np.float64)
core = load_extension()[0]
ANY = networks(HOMOGENEOUS | SMOOTH | JUMPS)


@pytest.fixture(autouse=True)
def nothing_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small, "_RECORDINGS", {})


def both(
    net: nn.Layer, X1: np.ndarray, X2: np.ndarray | None = None
) -> tuple[TileProgram, TileProgram]:
    """The translation by a recording, and by the rules themselves."""
    data = [torch.from_numpy(X) for X in (X1, X2) if X is not None]
    states = [R.input_row(X) for X in data]
    pair = (states[0], states[-1])
    request = Request(net.program(), data[0], None if X2 is None else data[1], FLOAT64, exact=True)
    assert core is not None
    small_problem(request, pair, _machine(), core)  # which only notes that it has been there
    found = small_problem(request, pair, _machine(), core)
    assert found is not None
    analysis = analyze(net.program(), pair, FLOAT64, 1, exact=True)
    assert found[1] == analysis.near
    return found[0], translate(net.program(), pair, _machine(), analysis, FLOAT64)


def agree(found: TileProgram, right: TileProgram) -> None:
    """To the last bit: every step rounds as torch does."""
    np.testing.assert_array_equal(found.code, right.code)
    np.testing.assert_array_equal(found.consts, right.consts)
    for one, other in zip(found.tables, right.tables, strict=True):
        np.testing.assert_array_equal(one, other)
    for row, other_row in zip(found.rows, right.rows, strict=True):
        np.testing.assert_array_equal(row.s, other_row.s)
        np.testing.assert_array_equal(row.tau, other_row.tau)


@settings(max_examples=60, deadline=None)
@given(net=ANY)
def test_random_networks(net: nn.Layer) -> None:
    small._RECORDINGS.clear()
    agree(*both(net, rows()))
    agree(*both(net, rows(30, seed=3), rows(70, seed=4)))  # again, on other rows
    agree(*both(net, hard_rows(), rows(65)))


def test_what_holds_of_other_rows_is_asked_again() -> None:
    """Behind the first nonlinearity nothing is left of a row of zeros."""
    net = nn.serial(nn.Dense(1.5, 0.0), nn.Erf(), nn.Dense(1.5, 0.3), nn.Erf(), nn.Dense())
    X = rows(4)
    agree(*both(net, X))
    first = small._RECORDINGS[net.program()]
    X[2] = 0.0
    agree(*both(net, X))
    assert small._RECORDINGS[net.program()] is not first
    agree(*both(net, rows(4)))


def test_the_program_with_its_numbers_is_what_is_kept() -> None:
    X = rows(4)
    for b in (0.1, 0.2):
        agree(*both(nn.mlp(2, b_std=b), X))
    assert len(small._RECORDINGS) == 2


def test_a_program_is_recorded_when_it_comes_again() -> None:
    X, net = rows(4), nn.mlp(2)
    first = kernreg.gram(net, X, backend="cpu")
    assert list(small._RECORDINGS.items()) == [(net.program(), None)]
    for _ in range(2):
        np.testing.assert_array_equal(kernreg.gram(net, X, backend="cpu"), first)
        assert small._RECORDINGS[net.program()] is not None


def test_deep_networks_on_many_rows_are_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small, "_NUMBERS", 4 * 14)  # of 14 operations
    for n in (4, 5):
        for _ in range(2):
            kernreg.gram(nn.mlp(4), rows(n), backend="cpu")
        assert (small._RECORDINGS[nn.mlp(4).program()] is not None) == (n == 4)
        small._RECORDINGS.clear()


def test_few_recordings_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small, "_KEPT", 3)
    for b in (0.1, 0.2, 0.3, 0.4, 0.5):
        kernreg.gram(nn.mlp(1, b_std=b), rows(2))
    assert list(small._RECORDINGS) == [nn.mlp(1, b_std=b).program() for b in (0.3, 0.4, 0.5)]


@pytest.mark.parametrize(
    ("scale", "message"), [(1e200, "too large for Erf"), (1e-320, "vanishes in float64")]
)
def test_errors_of_rules_are_raised(scale: float, message: str) -> None:
    """Also where a recording from ordinary rows is there."""
    net = nn.serial(nn.Dense(), nn.Erf() if scale > 1 else nn.Relu(), nn.Dense())
    for _ in range(2):
        kernreg.gram(net, rows(3), backend="cpu")
    with pytest.raises(InvalidInputError, match=message):
        kernreg.gram(net, np.full((3, 2), scale), backend="cpu")


def test_without_a_closed_form_nothing_is_recorded() -> None:
    net = nn.mlp(2, activation=nn.Tanh())
    with pytest.raises(NotRecordable):
        record(net.program(), R.input_row(torch.from_numpy(rows())), _machine(), core.ROW_OPS)
    for _ in range(2):
        kernreg.gram(net, rows(3), backend="cpu")
    assert list(small._RECORDINGS.items()) == [(net.program(), None)]


def test_rows_alike_are_left_to_the_profile() -> None:
    """Of rows of one length, if they are many and layers many."""
    X = rows(60, 4)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    request = Request(nn.mlp(12).program(), torch.from_numpy(X), None, FLOAT64)
    row = R.input_row(request.X1)
    assert core is not None
    for _ in range(2):
        assert small_problem(request, (row, row), _machine(), core) is None
    few = Request(request.program, request.X1[:9], None, FLOAT64)
    short = R.Row(row.s[:9], row.tau[:9])
    assert small_problem(few, (short, short), _machine(), core) is not None


@pytest.mark.parametrize("n", [63, 64, 65, 129])
def test_blocks_of_rows(n: int) -> None:
    agree(*both(nn.mlp(3), rows(n)))
