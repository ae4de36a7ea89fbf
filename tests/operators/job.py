"""What the processes of a job under test do."""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import sys
import time

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from kernreg import KernelOperator, KernelRegressor, distributed, nn
from kernreg.distributed.job import current
from kernreg.exceptions import (
    DistributedError,
    InvalidInputError,
    NotPositiveDefiniteError,
    StoreError,
)
from kernreg.operators import StreamedOperator, led, write_store
from kernreg.operators.packed import kept_bytes
from kernreg.solvers import PCG, Nystrom, Restricted, SketchAndProject

N, RIDGE = 600, 1e-4
NET = nn.mlp(depth=2, b_std=0.1)
NAMELESS = nn.serial(nn.Dense(), nn.Elementwise(lambda x: torch.exp(-x * x)), nn.Dense())
SOLVERS = {
    "kept": PCG(storage="packed", tol=1e-9),
    "evaluated": PCG(storage="recomputed", tol=1e-9),
    "sketch": SketchAndProject(block=200, tol=1e-9, max_passes=1000),
    "restricted": Restricted(centres=N, chunk=100),
    "Nystrom": PCG(Nystrom(rank=100), storage="packed", tol=1e-9),
}

# Seconds, in tasks where it counts.
SILENCES = {"frozen": 4.0, "busy": 3.0, "store_killed": 3.0}


def problem():
    """Rows, targets, and rows to predict."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, 4))
    return X, np.sin(X[:, :2]), rng.standard_normal((50, 4))


class Doomed(KernelOperator):
    """An operator that does something bad when it evaluates its ``calls``-th tile or panel."""

    calls = sys.maxsize

    def tile(self, rows, cols, out=None):
        self.calls -= 1
        if not self.calls:
            self.fate()
        return super().tile(rows, cols, out)


def doomed(rank, fate, calls=12):
    """The operator, which in process ``rank`` ends badly in the middle of the work."""
    operator = Doomed(NET, problem()[0])
    if distributed.rank() == rank:
        operator.calls, operator.fate = calls, fate
    return operator


def solve(operator, solver=SOLVERS["evaluated"], **options):
    Y = problem()[1]
    return led(operator, lambda K: solver.solve(solver.init(K, RIDGE), Y, **options))


def agreement(folder):
    """Solutions by every solver, and what else all processes work on."""
    X, Y, X_new = problem()
    found = {}
    for dtype in ("float64", "float32"):
        operator = KernelOperator(NET, X, dtype=dtype)
        for name, solver in SOLVERS.items():
            if name == "restricted" and dtype == "float32":
                # Its answer is that of float32 entries.
                continue
            found[f"{name} {dtype}"] = solve(operator, solver).value
    for name in ("kept", "evaluated", "sketch", "restricted"):
        found[f"{name} streamed"] = solve(StreamedOperator(NET, X), SOLVERS[name]).value
    operator = KernelOperator(NET, X)
    found["rows"] = led(operator, lambda K: K.rows([5, 0, 599, 7, 7]))
    found["bytes"] = led(operator, kept_bytes)
    found["product"] = led(operator, lambda K: K @ Y)
    model = KernelRegressor(NET).fit(X, Y)
    found["dual"], found["predicted"] = model.dual_coef_, model.predict(X_new)
    found["one row"] = model.predict(X_new[:1])
    np.savez(folder / f"{distributed.rank()}.npz", **found)


def store(folder):
    """A tile store."""
    _, written = write_store(folder / "store", KernelOperator(NET, problem()[0]), tile=64)
    (folder / f"{distributed.rank()}.txt").write_text(str(written))


def raise_(error):
    raise error


def _doomed_store(folder, operator):
    """Rank 1 cannot write all its tiles; rank 0 would need half a minute for them."""
    (folder / f"{distributed.rank()}.pid").write_text(str(current().child))
    steps, text = [], ""

    def after(step, count):
        steps.append(step)
        time.sleep(0.0 if distributed.rank() else 0.5)

    try:
        write_store(folder / "store", operator, tile=64, callback=after)
    except (DistributedError, InvalidInputError, StoreError) as error:
        text = f"{type(error).__name__}: {error}"
    with open(folder / f"{distributed.rank()}.txt", "a") as file:
        file.write(f"{len(steps)} {text}\n")


def store_error(folder):
    """A tile store that rank 1 cannot write, then one of other data; work succeeds after both."""
    for operator in (
        doomed(1, lambda: raise_(InvalidInputError("bad tile")), 3),
        KernelOperator(NET, problem()[0] + distributed.rank()),
    ):
        _doomed_store(folder, operator)
    assert solve(doomed(0, None, -1)).ok


def store_killed(folder):
    """Rank 1 is killed while a tile store is written."""
    _doomed_store(folder, doomed(1, _kill, 3))


def busy(folder):
    """Rank 0 computes for three silences and holds Python's lock, as LAPACK under SciPy does."""
    led(doomed(0, None, -1), lambda K: ctypes.PyDLL(None).sleep(9))


def errors(folder):
    """Errors of one process, with work that succeeds after each."""
    rank = distributed.rank()
    X = problem()[0]
    # Beside the entries of one large row, those of any other are rounding.
    large = np.concatenate([X[:-1], 1e6 * X[-1:]])
    other = large.copy()
    other[7] += 1e-3
    attempts = {
        "operator of 1": lambda: solve(doomed(1, lambda: raise_(InvalidInputError("bad tile")))),
        "callback of 0": lambda: solve(doomed(0, None, -1), callback=lambda now: 1 / 0),
        "solver": lambda: led(doomed(0, None, -1), lambda K: raise_(NotPositiveDefiniteError("K"))),
        "rows": lambda: distributed.by_rows(
            10, lambda start, stop: np.zeros(5) if start == 0 else raise_(OSError("no disk"))
        ),
        # Processors prepare data differently: that is rounding.
        "rounding": lambda: led(KernelOperator(NET, X * (1 + 1e-14 * rank)), lambda K: K.shape),
        "function without a name": lambda: led(KernelOperator(NAMELESS, X[:20]), lambda K: K.shape),
        "inputs": lambda: distributed.by_rows(10, lambda i, j: np.zeros(j - i), X + rank),
        "data": lambda: solve(KernelOperator(NET, X + rank)),
        "data beside a large row": lambda: solve(KernelOperator(NET, other if rank else large)),
        "number of rows": lambda: solve(KernelOperator(NET, X[: N - rank])),
        "network": lambda: solve(KernelOperator(nn.mlp(depth=2, b_std=0.1 + 1e-12 * rank), X)),
    }
    lines = []
    for name, attempt in attempts.items():
        try:
            attempt()
        except (DistributedError, InvalidInputError, ArithmeticError, OSError) as error:
            lines.append(f"{name}: {type(error).__name__}: {error}")
        assert solve(doomed(0, None, -1)).ok
    (folder / f"{distributed.rank()}.txt").write_text("\n".join(lines))


def _killed(folder, rank):
    solver = PCG(storage="recomputed", checkpoint=folder / "checkpoint", checkpoint_every=5)
    fate = (lambda: None) if (folder / "checkpoint").exists() else _kill
    first = []
    solution = solve(doomed(rank, fate), solver, callback=lambda now: first.append(now.iteration))
    assert solution.ok
    np.save(folder / f"{distributed.rank()}.npy", solution.value)
    (folder / f"{distributed.rank()}.txt").write_text(str(min(first, default=0)))


def _kill():
    os.kill(os.getpid(), signal.SIGKILL)


def killed_0(folder):
    """Rank 0 is killed in the first run."""
    _killed(folder, 0)


def killed_1(folder):
    """Rank 1 is killed in the first run."""
    _killed(folder, 1)


def frozen(folder):
    """Rank 1 stops for ever."""
    solve(doomed(1, lambda: os.kill(os.getpid(), signal.SIGSTOP)))


def uncaught(folder):
    """Rank 1 ends with an exception before it takes part."""
    if distributed.rank():
        raise InvalidInputError("no such column")
    solve(doomed(0, None, -1))


def member(environment, task, folder):
    """The whole life of a process, stderr in a file: as that of a script under ``torchrun``."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    threadpool_limits(1)
    with open(folder / f"{environment['RANK']}.err", "w") as file:
        os.dup2(file.fileno(), 2)
    code = 0
    try:
        distributed.initialize(silence=SILENCES.get(task, 20.0))
        globals()[task](folder)
    except Exception:
        sys.excepthook(*sys.exc_info())
        code = 1
    # multiprocessing does not call it.
    atexit._run_exitfuncs()
    sys.exit(code)
