"""Jobs of 1, 2 and 4 processes on this machine, with Gloo."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kernreg import KernelOperator, KernelRegressor, distributed
from kernreg.linalg import Cholesky, led, top_eigenvalues, write_store
from tests.linalg import job

ROOT = Path(__file__).parents[2]


class Job:
    """Processes as ``torchrun`` starts them, but not ended by it when one of them ends."""

    def __init__(self, task, size, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.members = []
        for rank in range(size):
            names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
            names |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
            command = [sys.executable, "-m", "tests.linalg.job", task, str(folder)]
            environment = os.environ | {name: str(value) for name, value in names.items()}
            self.members.append(
                subprocess.Popen(
                    command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
                )
            )

    def end(self, *ranks, seconds=120):
        """Exit codes and stderr of some processes, once they end by themselves."""
        try:
            ends = [self.members[rank].communicate(timeout=seconds)[1] for rank in ranks]
            return [self.members[rank].returncode for rank in ranks], ends
        finally:
            for member in self.members:
                member.kill()
                member.wait()


def run(task, size, folder):
    """A job that goes well."""
    codes, texts = Job(task, size, folder).end(*range(size))
    assert codes == [0] * size, texts


@pytest.fixture(scope="module")
def exact():
    """Dual coefficients by Cholesky in float64, and the kernel of new rows."""
    X, Y, X_new = job.problem()
    solver = Cholesky()
    dual = solver.solve(solver.init(KernelOperator(job.NET, X), job.RIDGE), Y).value
    return dual, KernelOperator(job.NET, X_new, X).to_dense()


@pytest.mark.parametrize("size", [1, 2, 4])
def test_any_number_of_processes_gives_the_solution(size, exact, tmp_path):
    if size == 1:
        # Without a job, as led and by_rows work in any program.
        X, Y, _ = job.problem()
        operator = KernelOperator(job.NET, X, dtype="float32")
        solver = job.SOLVERS["kept"]
        value = led(operator, lambda K: solver.solve(solver.init(K, job.RIDGE), Y)).value
        assert not distributed.is_distributed()
        found = [{"kept float32": value}]
    else:
        run("agreement", size, tmp_path)
        found = [dict(np.load(tmp_path / f"{rank}.npz")) for rank in range(size)]
    dual, cross = exact
    expected = cross @ dual
    for name, value in found[0].items():
        if name.split()[0] in job.SOLVERS:
            assert np.max(np.abs(cross @ value - expected)) <= 1e-6 * np.max(np.abs(expected))
        for other in found[1:]:
            assert other[name].tobytes() == value.tobytes(), name


def test_rows_spectrum_estimator_and_memory_are_those_of_one_process(tmp_path):
    X, Y, X_new = job.problem()
    run("agreement", 2, tmp_path)
    found = np.load(tmp_path / "1.npz")
    K = KernelOperator(job.NET, X)
    # Two evaluations of an entry agree to rounding; eigenvalues and products to that of n terms.
    eps = job.N * np.finfo(np.float64).eps
    np.testing.assert_allclose(found["rows"], K.rows([5, 0, 599, 7, 7]), rtol=eps)
    np.testing.assert_allclose(found["top"], top_eigenvalues(K, 3), rtol=1e-6)
    model = KernelRegressor(job.NET).fit(X, Y)
    # Cholesky runs on rank 0, as in one process.
    np.testing.assert_array_equal(found["dual"], model.dual_coef_)
    scale = np.max(np.abs(K.to_dense())) * np.max(np.sum(np.abs(model.dual_coef_), axis=0))
    np.testing.assert_allclose(found["predicted"], model.predict(X_new), atol=eps * scale, rtol=0)
    np.testing.assert_allclose(found["one row"], model.predict(X_new)[:1], atol=eps * scale, rtol=0)
    # Half of n^2/2, and blocks on the diagonal of at most all rows of a share.
    assert found["bytes"] <= 8 * (job.N**2 / 4 + 0.71 * job.N * 0.71 * job.N / 2)


def test_a_store_is_written_by_two_as_by_one(tmp_path):
    pytest.importorskip("zarr")
    run("store", 2, tmp_path)
    _, count = write_store(tmp_path / "one", KernelOperator(job.NET, job.problem()[0]), tile=64)

    def files(folder):
        found = [path for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in found}

    assert files(tmp_path / "store") == files(tmp_path / "one")
    assert [int((tmp_path / f"{rank}.txt").read_text()) for rank in (0, 1)] == [count, count]


def test_an_error_in_one_process_reaches_all_and_the_job_can_go_on(tmp_path):
    run("errors", 2, tmp_path)
    first, second = (
        dict(line.split(": ", 1) for line in (tmp_path / f"{rank}.txt").read_text().splitlines())
        for rank in (0, 1)
    )
    assert second["operator of 1"] == "InvalidInputError: bad tile"
    lost = "DistributedError: rank"
    assert first["operator of 1"] == f"{lost} 1 failed with InvalidInputError: bad tile"
    assert first["callback of 0"].startswith("ZeroDivisionError")
    assert second["callback of 0"].startswith(f"{lost} 0 failed with ZeroDivisionError")
    assert first["solver"] == "NotPositiveDefiniteError: K"
    assert second["solver"] == f"{lost} 0 failed with NotPositiveDefiniteError: K"
    assert first["rows"] == f"{lost} 1 failed with OSError: no disk"
    assert second["rows"] == "OSError: no disk"
    for found in (first, second):
        assert "rank 1 has another network or other data" in found["data"]
        assert "600 rows" in found["number of rows"]
        assert "599 rows" in found["number of rows"]


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_is_an_error_in_the_other_and_a_restart_finishes(victim, exact, tmp_path):
    task = f"killed_{victim}"
    one = Job(task, 2, tmp_path)
    assert one.members[victim].wait(120) == -signal.SIGKILL
    (code,), (text,) = one.end(1 - victim, seconds=30)
    assert code not in (0, -signal.SIGKILL)
    assert "DistributedError" in text
    assert f"rank {victim} ended without a message" in text
    assert (tmp_path / "checkpoint").is_file()
    run(task, 2, tmp_path)
    # Twelve products were done, and every fifth iteration kept.
    assert int((tmp_path / "0.txt").read_text()) > 5
    dual, cross = exact
    found = np.load(tmp_path / "1.npy")
    assert np.max(np.abs(cross @ (found - dual))) <= 1e-6 * np.max(np.abs(cross @ dual))


def test_a_frozen_process_is_an_error_in_the_other(tmp_path):
    (code,), (text,) = Job("frozen", 2, tmp_path).end(0)
    assert code > 0
    assert "rank 1 has given no sign of life for 4 seconds" in text


def test_an_uncaught_error_names_its_process(tmp_path):
    codes, texts = Job("uncaught", 2, tmp_path).end(0, 1)
    assert min(codes) > 0
    assert "DistributedError: rank 1 failed with InvalidInputError: no such column" in texts[0]


def test_half_an_environment_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ValueError, match=r"RANK.*torchrun"):
        distributed.initialize()
