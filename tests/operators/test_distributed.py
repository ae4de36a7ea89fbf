"""Jobs of 1, 2 and 4 processes on this machine, with Gloo."""

from __future__ import annotations

import multiprocessing
import re
import signal
import socket
import time

import numpy as np
import psutil
import pytest

from kernreg import KernelOperator, KernelRegressor, distributed
from kernreg.operators import led, write_store
from kernreg.solvers import Cholesky
from tests.operators import job

# Processes forked from one that has the libraries loaded and no threads.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.operators.job", "zarr"])


class Job:
    """Processes with the environment that ``torchrun`` gives them; none ends because others do."""

    def __init__(self, task, size, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.folder, self.members = folder, []
        for rank in range(size):
            names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
            names |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "KERNREG_NUM_THREADS": 1}
            environment = {name: str(value) for name, value in names.items()}
            self.members.append(
                CONTEXT.Process(target=job.member, args=(environment, task, folder), daemon=True)
            )
        for member in self.members:
            member.start()

    def end(self, *ranks, seconds=120):
        """Exit codes and stderr of some processes, once they end by themselves."""
        for rank in ranks:
            self.members[rank].join(seconds)
        codes = [self.members[rank].exitcode for rank in ranks]
        for member in self.members:
            member.kill()
            member.join()
        return codes, [(self.folder / f"{rank}.err").read_text() for rank in ranks]


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


@pytest.fixture(scope="module", params=[2, 4])
def agreement(request, tmp_path_factory):
    """What each process of a job found."""
    folder = tmp_path_factory.mktemp("agreement")
    run("agreement", request.param, folder)
    return [dict(np.load(folder / f"{rank}.npz")) for rank in range(request.param)]


def test_without_a_job_nothing_is_sent(exact, monkeypatch):
    """The work gets the operator itself, and no function that sends is called."""
    X, Y, _ = job.problem()
    operator, solver = KernelOperator(job.NET, X), job.SOLVERS["kept"]
    for name in ("all_reduce", "all_gather", "broadcast", "send", "recv", "barrier", "scatter"):
        monkeypatch.setattr(f"torch.distributed.{name}", pytest.fail)
    given = []

    def work(K):
        given.append(K)
        return solver.solve(solver.init(K, job.RIDGE), Y)

    found = led(operator, work).value
    dual, cross = exact
    assert not distributed.is_distributed()
    assert len(given) == 1
    assert given[0] is operator
    alone = solver.solve(solver.init(operator, job.RIDGE), Y).value
    np.testing.assert_array_equal(found, alone)
    assert np.max(np.abs(cross @ (found - dual))) <= 1e-6 * np.max(np.abs(cross @ dual))


def test_all_processes_get_the_solution_bit_by_bit(agreement, exact):
    found = agreement
    dual, cross = exact
    expected = cross @ dual
    for name, value in found[0].items():
        if name.split()[0] in job.SOLVERS:
            assert np.max(np.abs(cross @ value - expected)) <= 1e-6 * np.max(np.abs(expected))
        for other in found[1:]:
            assert other[name].tobytes() == value.tobytes(), name


def test_rows_products_estimator_and_memory(agreement):
    X, Y, X_new = job.problem()
    found, count = agreement[-1], len(agreement)
    K = KernelOperator(job.NET, X)
    # Two evaluations of an entry agree to rounding; products to that of n terms.
    eps = job.N * np.finfo(np.float64).eps
    np.testing.assert_allclose(found["rows"], K.rows([5, 0, 599, 7, 7]), rtol=eps)
    size = np.abs(K.to_dense()) @ np.abs(Y)
    assert (np.abs(found["product"] - K @ Y) <= eps * size).all()
    model = KernelRegressor(job.NET).fit(X, Y)
    scale = np.max(np.abs(K.to_dense())) * np.max(np.sum(np.abs(model.dual_coef_), axis=0))
    np.testing.assert_allclose(found["predicted"], model.predict(X_new), atol=eps * scale, rtol=0)
    np.testing.assert_allclose(found["one row"], model.predict(X_new)[:1], atol=eps * scale, rtol=0)
    # A share of n^2/2, and the corner of the first one, a square instead of a triangle.
    assert found["bytes"] <= 8 * (job.N**2 / 2 / count + job.N**2 / count / 2 + job.N)


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
        assert not {"rounding", "function without a name"} & set(found)
        assert "rank 0 computes 10 rows of inputs" in found["inputs"]
        assert "rank 1 has other data than rank 0 (first seen in row 0)" in found["data"]
        assert "(first seen in row 7)" in found["data beside a large row"]
        assert "rank 0 has a kernel matrix of 600 rows in float64 by network" in found["network"]
        assert "600 rows" in found["number of rows"]
        assert "599 rows" in found["number of rows"]


@pytest.mark.parametrize(
    ("fate", "code", "found"),
    [
        (
            "store_error",
            0,
            [
                "rank 1 failed with InvalidInputError: bad tile",
                "rank 1 failed with StoreError: .* other data",
            ],
        ),
        ("store_killed", 1, ["rank 1 has given no sign of life for 3 seconds"]),
    ],
)
def test_a_lost_writer_of_a_store_stops_the_other(fate, code, found, tmp_path):
    pytest.importorskip("zarr")
    codes, texts = Job(fate, 2, tmp_path).end(0)
    assert codes == [code], texts
    lines = (tmp_path / "0.txt").read_text().splitlines()
    for line, message in zip(lines, found, strict=True):
        count, error = line.split(" ", 1)
        assert re.match(f"DistributedError: {message}", error)
        # Half a second for each of the 55 tiles; a silence and two signs of life take ten of them.
        assert int(count) < 27
    # What gives the signs of life of a process ends with it, or at the next one.
    children = [int((tmp_path / f"{rank}.pid").read_text()) for rank in (0, 1)]
    end = time.monotonic() + 30
    while any(map(psutil.pid_exists, children)):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_process_that_holds_the_lock_of_python_lives(tmp_path):
    codes, texts = Job("busy", 2, tmp_path).end(0, 1)
    assert codes == [0, 0], texts


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_is_an_error_in_the_other_and_a_restart_finishes(victim, exact, tmp_path):
    task = f"killed_{victim}"
    one = Job(task, 2, tmp_path)
    one.members[victim].join(120)
    assert one.members[victim].exitcode == -signal.SIGKILL
    (code,), (text,) = one.end(1 - victim, seconds=30)
    assert code == 1
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
    assert code == 1
    assert "rank 1 has given no sign of life for 4 seconds" in text


def test_an_uncaught_error_names_its_process(tmp_path):
    codes, texts = Job("uncaught", 2, tmp_path).end(0, 1)
    assert codes == [1, 1]
    assert "DistributedError: rank 1 failed with InvalidInputError: no such column" in texts[0]


def test_half_an_environment_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ValueError, match=r"RANK.*torchrun"):
        distributed.initialize()
