"""A solver in one file, registered once: plans, estimators and the command line have it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from kernreg import KernelRegressor, load, nn
from kernreg.exceptions import InvalidInputError, ModelFileError
from kernreg.planning.plan import plan
from kernreg.solvers import Solution, Solver, Stats, Status, register
from kernreg.solvers.registry import SOLVERS
from kernreg.solvers.work import entry, flop
from tests.contracts.solver import gaussian_points


@dataclass(frozen=True)
class Inverse(Solver):
    """The explicit inverse, for the sake of the example."""

    name = "inverse"
    runs_on = ("cpu",)
    one_ridge = True
    leave_one_out = True
    drawback = "wasteful: ask for it"

    power: int = 1

    def peak_bytes(self, problem):
        return 3 * 8 * problem.n * (problem.n + problem.n_outputs)

    def work(self, problem):
        cubed = 2.0 * problem.n**3 * problem.n_ridges
        return {entry("float64"): problem.n**2 / 2, flop("float64"): cubed}

    def stored(self, problem):
        return "inverse"

    def init(self, operator, ridge, callback=None):
        dense = operator.astype("float64").to_dense()
        return Inverted(np.linalg.inv(dense + ridge * np.eye(len(dense))))

    def solve(self, state, Y, *, callback=None):
        return Solution(state.matrix @ Y, Status.OK, Stats(peak_bytes=1))


@dataclass
class Inverted:
    """What it makes."""

    matrix: np.ndarray

    def inverse_diagonal(self):
        return self.matrix.diagonal()


@pytest.fixture(autouse=True)
def registered():
    register(Inverse)
    yield
    del SOLVERS["inverse"]


NET = nn.mlp(depth=1)


def data(n=60):
    X = gaussian_points(n, 3)
    return X, np.sin(X[:, 0])


def test_plan():
    chosen = plan(100, 3, dtype="float64", solver="inverse", max_memory="1GB")
    assert (chosen.solver, chosen.storage, chosen.reason) == ("inverse", "inverse", "asked for")
    others = {other.solver: other for other in plan(100, 3, max_memory="1GB").alternatives}
    assert others["inverse"].reason == "wasteful: ask for it"
    assert others["inverse"].peak_bytes > 3 * 8 * 100**2


@pytest.mark.parametrize("alpha", [1e-2, [1e-3, 1e-1], "auto"])
@pytest.mark.parametrize("solver", ["inverse", Inverse(power=2)])
def test_estimators(solver, alpha, tmp_path):
    X, y = data()
    found = KernelRegressor(NET, solver=solver, alpha=alpha).fit(X, y)
    exact = KernelRegressor(NET, solver="cholesky", alpha=alpha).fit(X, y)
    assert found.plan_.solver == "inverse"
    assert found.alpha_ == exact.alpha_
    np.testing.assert_allclose(found.predict(X), exact.predict(X), atol=1e-6)
    found.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.solver == solver
    np.testing.assert_array_equal(again.predict(X), found.predict(X))


def test_explain():
    text = str(KernelRegressor(NET, solver="inverse", alpha=1e-2).explain(*data()))
    assert "inverse" in text
    assert "taken: asked for" in text


def test_the_command_line(run, tables, tmp_path):
    options = ["--alpha", "0.01", "--solver", "inverse"]
    result = run("explain", "mlp(depth=1)", "--data", tables.prices, *options)
    assert "taken: asked for" in result.stdout
    result = run("fit", tables.prices, *options, "--out", tmp_path / "model")
    assert result.exit_code == 0, result.stderr
    assert "inverse (OK)" in result.stdout


def test_a_name_that_is_taken():
    @dataclass(frozen=True)
    class Other(Inverse):
        pass

    with pytest.raises(InvalidInputError, match="another solver 'inverse'"):
        register(Other)


def test_the_class_of_another_solver():
    """Files name classes."""

    @dataclass(frozen=True)
    class Cholesky(Inverse):
        name = "mine"

    with pytest.raises(InvalidInputError, match="of the class Cholesky: take another name"):
        register(Cholesky)


def test_a_setting_that_plans_cannot_give():
    @dataclass(frozen=True)
    class Named(Solver):
        name = "named"
        size: int

    with pytest.raises(InvalidInputError, match=r"Named has settings without a default \(size\)"):
        register(Named)
    assert "named" not in SOLVERS


def test_a_model_file_needs_it_registered(tmp_path):
    X, y = data()
    model = KernelRegressor(NET, solver=Inverse(), alpha=1e-2).fit(X, y)
    model.save(tmp_path / "model")
    del SOLVERS["inverse"]
    with pytest.raises(ModelFileError, match="fitted with Inverse, which is not known here"):
        load(tmp_path / "model")
    with pytest.raises(InvalidInputError, match="cannot be written to a model file"):
        model.save(tmp_path / "other")
    assert not (tmp_path / "other").exists()
    register(Inverse)


def test_unknown_after_it_is_gone():
    del SOLVERS["inverse"]
    with pytest.raises(InvalidInputError, match="'sketch', found 'inverse'"):
        plan(10, 2, solver="inverse")
    with pytest.raises(ValueError, match="'solver' parameter"):
        KernelRegressor(NET, solver="inverse").fit(*data())
    register(Inverse)
