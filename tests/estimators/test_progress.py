"""The progress bar: where it goes, how far, and that it is closed whatever happens."""

import contextlib

import numpy as np
import pytest

from kernreg import KernelClassifier, KernelRegressor, nn
from kernreg.estimators import base
from kernreg.estimators.progress import progress
from kernreg.exceptions import NotPositiveDefiniteError
from kernreg.solvers import PCG, Cholesky, Restricted, SketchAndProject

NET = nn.mlp(depth=1)
RNG = np.random.default_rng(13)
X, Y = RNG.standard_normal((30, 3)), RNG.standard_normal(30)


def steps_of(monkeypatch, model):
    """Steps that the solver reports during a fit."""
    seen = []

    @contextlib.contextmanager
    def record(text, shown):
        seen.append((text, shown))
        yield lambda *move: seen.append(move)

    monkeypatch.setattr(base, "progress", record)
    model.fit(X, Y)
    return seen


def test_hidden_bar_is_no_callback(capsys):
    with progress("text", False) as callback:
        assert callback is None
    KernelRegressor(NET).fit(X, Y).predict(X)
    captured = capsys.readouterr()
    assert captured.err == captured.out == ""


@pytest.mark.parametrize("verbose", [1, 5, True])
@pytest.mark.parametrize("solver", ["cholesky", "banded", "eigh"])
@pytest.mark.parametrize("alpha", [0.1, [0.1, 1.0]])
def test_bar_on_stderr_reaches_the_end(solver, alpha, verbose, capsys):
    KernelClassifier(NET, alpha=alpha, solver=solver, verbose=verbose).fit(X, Y > 0)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"KernelClassifier: {solver}" in captured.err
    assert "100 %" in captured.err


def test_cholesky_reports_each_panel_of_each_ridge(monkeypatch):
    model = KernelRegressor(NET, alpha=[0.1, 1.0], solver=Cholesky(block=10), verbose=1)
    panels = [(1, 3), (2, 3), (3, 3)]
    assert steps_of(monkeypatch, model) == [("KernelRegressor: cholesky", True), *panels, *panels]


def test_eigh_reports_two_steps_for_all_ridges(monkeypatch):
    model = KernelRegressor(NET, alpha=[0.1, 1.0, 2.0], solver="eigh")
    assert steps_of(monkeypatch, model) == [("KernelRegressor: eigh", False), (1, 2), (2, 2)]


@pytest.mark.parametrize(
    "solver", [PCG(None, storage="packed"), SketchAndProject(block=10)], ids=["pcg", "sketch"]
)
def test_iterations_move_the_bar_by_digits_of_the_residual(solver, monkeypatch):
    seen = steps_of(monkeypatch, KernelRegressor(NET, alpha=1e-2, solver=solver))
    moves = [move for move in seen[1:] if len(move) == 3]
    assert len(moves) > 3
    for step, total, note in moves:
        iteration, residual = note.removeprefix("iteration ").split(", residual ")
        digits = np.log(float(residual)) / np.log(solver.tol)
        # The note has two digits of the residual.
        assert abs(step / total - np.clip(digits, 0, 1)) < 0.02
        assert int(iteration) >= 1
    assert moves[-1][:2] == (100, 100)


def test_leave_one_out_of_restricted_moves_the_bar(monkeypatch):
    """In passes that score all ridges and the best one, of three chunks each."""
    solver = Restricted(centres=10, method="uniform", chunk=10)
    model = KernelRegressor(NET, alpha=[0.1, 1.0], solver=solver)
    chunks = [(10, 30), (20, 30), (30, 30)]
    assert steps_of(monkeypatch, model)[1:] == 3 * chunks


def test_bar_is_closed_when_a_fit_fails(capsys):
    twice = np.vstack([X, np.nextafter(X, 9)])
    model = KernelRegressor(NET, alpha=0, solver=Cholesky(max_jitter=0), verbose=1)
    with pytest.raises(NotPositiveDefiniteError):
        model.fit(twice, np.append(Y, Y))
    assert "KernelRegressor" in capsys.readouterr().err
    # rich allows one live display at a time, so a second bar tells whether the first is closed.
    KernelRegressor(NET, verbose=1).fit(X, Y)
    assert "100 %" in capsys.readouterr().err
