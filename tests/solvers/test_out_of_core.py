"""The factorisation on disk: agreement, resumption, and what can go wrong with a disk."""

from __future__ import annotations

import errno
import json
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from kernreg import KernelOperator, nn
from kernreg.exceptions import (
    DiskSpaceError,
    InvalidInputError,
    JitterWarning,
    MemoryBudgetError,
    NotPositiveDefiniteError,
    StoreError,
)
from kernreg.operators import MatrixOperator
from kernreg.operators.store.disk import locked
from kernreg.solvers import Cholesky, OutOfCoreCholesky, Problem, Status
from tests.contracts.solver import SLACK, SolverContract, gaussian_points, kernel_matrix
from tests.operators.dense import DenseOperator
from tests.permissions import public_folder, unprivileged

EPS64 = np.finfo(np.float64).eps


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """What ``fsync`` is for, a power failure, cannot be tested here."""
    monkeypatch.setattr("os.fsync", lambda file: None)


class FreshFolder(SolverContract):
    """The contract, with a new folder for each problem."""

    settings: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _folders(self, tmp_path):
        self.folder, self.count = tmp_path, 0

    @property
    def solver(self):
        self.count += 1
        return OutOfCoreCholesky(self.folder / str(self.count), **self.settings)

    def solve(self, K, ridge, Y, dtype="float64"):
        solver = self.solver
        return solver.solve(solver.init(DenseOperator(K, dtype), ridge), Y)


class TestOnePanel(FreshFolder):
    dtypes = ("float32", "float64")


class TestManyPanels(FreshFolder):
    settings: ClassVar = {"block": 7}
    dtypes = ("float32", "float64")


class TestUnrefined(FreshFolder):
    settings: ClassVar = {"block": 16, "refine": False}
    dtypes = ("float32", "float64")

    def eps(self, dtype):
        return np.finfo(dtype).eps


@pytest.mark.parametrize("block", [1, 9, 32])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_that_a_state_gives_is_that_of_the_factor_in_memory(block, dtype, tmp_path):
    n = 150
    K, V = kernel_matrix(n), gaussian_points(n, 3)
    operator = DenseOperator(K, dtype)
    found = OutOfCoreCholesky(tmp_path, block=block).init(operator, 0.3)
    expected = Cholesky(block=block).init(operator, 0.3)
    # Two backward stable factors differ by cond * eps at most.
    A = K + 0.3 * np.eye(n)
    bound = SLACK * np.sqrt(n) * np.finfo(dtype).eps * np.linalg.cond(A)
    np.testing.assert_allclose(found.inverse_diagonal(), expected.inverse_diagonal(), rtol=bound)
    for name in ("half_solve", "inverse_times"):
        left, right = getattr(found, name)(V), getattr(expected, name)(V)
        assert left.dtype == dtype
        np.testing.assert_allclose(left, right, atol=bound * np.abs(right).max())
    dual = np.linalg.solve(A, V)
    left, right = found.leave_one_out(dual), expected.leave_one_out(dual)
    np.testing.assert_allclose(left, right, atol=2 * bound * np.abs(right).max())


def test_predictions_from_float32_are_those_of_float64(tmp_path):
    """The refinement makes up for the precision of the factor and for that of its entries."""
    X, Z = gaussian_points(400, 6), gaussian_points(100, 6, seed=1)
    Y, net = np.sin(3 * X[:, :2]), nn.mlp(depth=2)
    exact = KernelOperator(net, X)
    ridge = 1e-4 * exact.diagonal().mean()
    cross = KernelOperator(net, Z, X)
    reference = cross @ Cholesky().solve(Cholesky().init(exact, ridge), Y).value
    solver = OutOfCoreCholesky(tmp_path, block=50)
    solution = solver.solve(solver.init(exact.astype("float32"), ridge), Y)
    assert solution.status is Status.OK
    assert solution.value.dtype == np.float64
    assert np.abs(cross @ solution.value - reference).max() < 1e-6 * np.abs(reference).max()


def test_groups_fit_the_limit_and_make_no_difference(tmp_path):
    """Panels that are read from disk once per group, or once per panel."""
    n = 300
    A, Y = kernel_matrix(n) + np.eye(n), gaussian_points(n, 2)
    solvers = [
        OutOfCoreCholesky(tmp_path / str(limit), block=4, max_bytes=limit)
        for limit in (2**30, 8 * (3 * 4 * n + 8 * n))
    ]
    assert [solver.group(n, "float64") for solver in solvers] == [20, 4]
    values = [solver.solve(solver.init(DenseOperator(A), 0.0), Y).value for solver in solvers]
    bound = SLACK * np.sqrt(n) * EPS64 * np.linalg.cond(A)
    np.testing.assert_allclose(*values, atol=bound * np.abs(values[0]).max())
    for solver in solvers:
        assert solver.peak_bytes(Problem(n, n_outputs=0)) <= solver.max_bytes


def test_too_little_memory_is_told_before_any_work(tmp_path):
    operator = DenseOperator(np.eye(100))
    with pytest.raises(MemoryBudgetError, match="raise max_bytes or take a smaller block"):
        OutOfCoreCholesky(tmp_path / "new", block=50, max_bytes=100_000).init(operator, 0.0)
    assert operator.panels == 0
    assert not (tmp_path / "new").exists()


def test_a_complete_factor_is_used_as_it_is(tmp_path):
    K, Y = kernel_matrix(60), gaussian_points(60, 1)
    solver = OutOfCoreCholesky(tmp_path, block=8)
    first = solver.init(DenseOperator(K), 0.1)
    again = DenseOperator(K)
    second = solver.init(again, 0.1)
    assert again.panels == 0
    assert second.log_determinant() == first.log_determinant()
    np.testing.assert_array_equal(solver.solve(first, Y).value, solver.solve(second, Y).value)
    assert sorted(p.name for p in tmp_path.glob("*.tmp")) == []


def test_callback_counts_panels_that_are_on_disk(tmp_path):
    seen = []

    def look(step, total):
        assert len(list(tmp_path.glob("panel-*"))) >= step
        seen.append((step, total))

    OutOfCoreCholesky(tmp_path, block=8).init(DenseOperator(kernel_matrix(30)), 0.1, look)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def panels(folder):
    return {path.name: path.read_bytes() for path in folder.glob("panel-*")}


DAMAGE = {
    "truncated": lambda data: data[:-9],
    "empty": lambda data: b"",
    "longer": lambda data: data + b"0",
    "one bit": lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_panel_is_factored_again(damage, tmp_path, caplog):
    K = kernel_matrix(80)
    solver = OutOfCoreCholesky(tmp_path, block=5)
    solver.init(DenseOperator(K), 0.1)
    whole = panels(tmp_path)
    victim = tmp_path / "panel-000007.bin"
    victim.write_bytes(DAMAGE[damage](victim.read_bytes()))
    operator = DenseOperator(K)
    solver.init(operator, 0.1)
    assert operator.panels == 1
    assert panels(tmp_path) == whole
    assert "panel-000007.bin" in caplog.text


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_panel_that_is_damaged_later_is_told_by_the_solve(damage, tmp_path):
    """No refinement would notice: the factor of a float64 operator is believed."""
    K = kernel_matrix(40)
    solver = OutOfCoreCholesky(tmp_path, block=5)
    state = solver.init(DenseOperator(K), 0.1)
    victim = tmp_path / "panel-000003.bin"
    victim.write_bytes(DAMAGE[damage](victim.read_bytes()))
    for work in (lambda: solver.solve(state, np.ones(40)), state.inverse_diagonal):
        with pytest.raises(StoreError, match=r"panel-000003\.bin (is damaged|has).*init again"):
            work()
    state = solver.init(DenseOperator(K), 0.1)
    assert solver.solve(state, np.ones(40)).ok


def test_a_panel_that_is_lost_later_is_told(tmp_path):
    solver = OutOfCoreCholesky(tmp_path, block=5)
    state = solver.init(DenseOperator(kernel_matrix(40)), 0.1)
    (tmp_path / "panel-000003.bin").unlink()
    with pytest.raises(StoreError, match=r"panel-000003\.bin is missing: run init again"):
        solver.solve(state, np.ones(40))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"K": kernel_matrix(40, seed=1)}, "another network or data"),
        ({"ridge": 0.2}, "another ridge"),
        ({"dtype": "float32"}, "another dtype"),
        ({"block": 9}, "another block"),
        ({"K": kernel_matrix(41)}, "rows"),
    ],
)
def test_the_factor_of_something_else_is_refused(change, message, tmp_path):
    problem = {"K": kernel_matrix(40), "ridge": 0.1, "dtype": "float64", "block": 8}

    def run(K, ridge, dtype, block):
        return OutOfCoreCholesky(tmp_path, block=block).init(DenseOperator(K, dtype), ridge)

    run(**problem)
    before = panels(tmp_path)
    with pytest.raises(StoreError, match=message):
        run(**(problem | change))
    assert panels(tmp_path) == before


def test_another_format_version_is_refused(tmp_path):
    solver, operator = OutOfCoreCholesky(tmp_path), DenseOperator(np.eye(4))
    solver.init(operator, 0.1)
    header = json.loads((tmp_path / "factor.json").read_text())
    (tmp_path / "factor.json").write_text(json.dumps(header | {"version": 99}))
    with pytest.raises(StoreError, match="another version"):
        solver.init(operator, 0.1)
    (tmp_path / "factor.json").write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        solver.init(operator, 0.1)


def test_disk_that_is_too_small(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    operator = DenseOperator(np.eye(50))
    with pytest.raises(DiskSpaceError, match="free some, or take a folder on another disk"):
        OutOfCoreCholesky(tmp_path).init(operator, 0.0)
    assert operator.panels == 0


def test_disk_that_runs_full(tmp_path, monkeypatch):
    from kernreg.solvers.cholesky import factor_on_disk

    K = kernel_matrix(90)
    OutOfCoreCholesky(tmp_path / "whole", block=5).init(DenseOperator(K), 0.1)
    write, calls = factor_on_disk.write_rows, []

    def full(path, matrix):
        calls.append(path)
        if len(calls) > 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, matrix)

    monkeypatch.setattr(factor_on_disk, "write_rows", full)
    solver = OutOfCoreCholesky(tmp_path / "broken", block=5)
    with pytest.raises(DiskSpaceError, match=r"No space left on device.*finished is kept"):
        solver.init(DenseOperator(K), 0.1)
    monkeypatch.setattr(factor_on_disk, "write_rows", write)
    rest = DenseOperator(K)
    solver.init(rest, 0.1)
    assert 0 < rest.panels < 9
    assert panels(tmp_path / "broken") == panels(tmp_path / "whole")


def test_folder_that_cannot_be_written(tmp_path):
    operator = DenseOperator(np.eye(5))
    with public_folder() as folder:
        folder.chmod(0o555)
        for place in (folder, folder / "new"):
            with unprivileged(), pytest.raises(StoreError, match="written: Permission denied"):
                OutOfCoreCholesky(place).init(operator, 0.0)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        OutOfCoreCholesky(tmp_path / "file").init(operator, 0.0)
    assert operator.panels == 0


def test_folder_in_use(tmp_path):
    with locked(tmp_path), pytest.raises(StoreError, match="Another process works in"):
        OutOfCoreCholesky(tmp_path).init(DenseOperator(np.eye(5)), 0.0)


def test_jitter_is_that_of_the_factorisation_in_memory(tmp_path):
    X = gaussian_points(60, 3)
    X[30:] = X[:30]
    K = np.exp(X @ X.T / 3)
    solver = OutOfCoreCholesky(tmp_path, block=13)
    with pytest.warns(JitterWarning):
        expected = Cholesky(block=13).init(DenseOperator(K, "float32"), 0.0)
    for _ in range(2):  # the second time from disk
        with pytest.warns(JitterWarning, match="added a jitter of"):
            state = solver.init(DenseOperator(K, "float32"), 0.0)
        assert state.jitter == expected.jitter > 0
        assert state.log_determinant() == pytest.approx(expected.log_determinant(), rel=1e-3)


def test_killed_between_two_rungs_of_the_ladder(tmp_path):
    """No panel of a lower jitter may end up in the factor of a higher one."""
    X = gaussian_points(60, 3)
    X[30:] = X[:30]
    operator = DenseOperator(np.exp(X @ X.T / 3))

    class KilledError(Exception):
        pass

    def kill(step, total):
        if step == 2:
            raise KilledError

    with pytest.raises(KilledError):
        OutOfCoreCholesky(tmp_path / "broken", block=13).init(operator, 0.0, kill)
    for name in ("broken", "whole"):
        with pytest.warns(JitterWarning):
            OutOfCoreCholesky(tmp_path / name, block=13).init(operator, 0.0)
    assert panels(tmp_path / "broken") == panels(tmp_path / "whole")


def test_indefinite_matrix_names_the_remedy(tmp_path):
    K = np.diag(np.r_[np.ones(20), -1.0])
    for _ in range(2):  # what the folder remembers is as good as a new attempt
        with pytest.raises(NotPositiveDefiniteError, match=r"row 20.*raise alpha"):
            OutOfCoreCholesky(tmp_path, block=8).init(DenseOperator(K), 0.0)


def test_operator_on_a_gpu(tmp_path):
    operator = DenseOperator(np.eye(3))
    operator.device = torch.device("cuda:0")
    with pytest.raises(InvalidInputError, match=r"found an operator on cuda:0: .*device='cpu'"):
        OutOfCoreCholesky(tmp_path).init(operator, 0.0)


def test_operator_that_cannot_be_identified(tmp_path):
    operator = MatrixOperator(np.eye(3))
    with pytest.raises(InvalidInputError, match="with a fingerprint"):
        OutOfCoreCholesky(tmp_path).init(operator, 0.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [{"block": 0}, {"refine": "often"}, {"max_jitter": -1.0}])
def test_bad_settings(arguments):
    with pytest.raises(InvalidInputError, match=next(iter(arguments))):
        OutOfCoreCholesky("unused", **arguments)
