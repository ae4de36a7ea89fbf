"""Where the system starts no more threads, or others have a share, the work is done by fewer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import joblib
import numpy as np
import pytest

from kernreg import gram, nn
from kernreg.config import num_threads
from kernreg.solvers import OutOfCoreCholesky
from tests.contracts.solver import kernel_matrix
from tests.operators.dense import DenseOperator

ROOT = Path(__file__).resolve().parents[2]
REFUSES = r"""
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
static int left = -1;
int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *x) {
  int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
  *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
  if (getenv("THREADS_LEFT")) left = atoi(getenv("THREADS_LEFT")), unsetenv("THREADS_LEFT");
  if (left == 0) return EAGAIN;
  if (left > 0) --left;
  return real(t, a, f, x);
}
"""
CHILD = """
import ctypes, sys, threading
import numpy as np
from kernreg import gram, nn
X = np.random.default_rng(0).standard_normal((400, 5))
found = []
for left in (b"1", b"0"):
    ctypes.CDLL(None).setenv(b"THREADS_LEFT", left, 1)
    found.append(gram(nn.mlp(depth=2), X, backend="cpu"))
np.save(sys.argv[1], found)
try:
    threading.Thread(target=print).start()
except RuntimeError:
    print("none can be started")
"""


def test_a_reader_that_cannot_be_started(tmp_path, monkeypatch):
    """Panels are then read and written by the thread that uses them."""
    K, Y = kernel_matrix(60), np.ones(60)

    def solved(folder):
        solver = OutOfCoreCholesky(folder, block=8)
        return solver.solve(solver.init(DenseOperator(K), 0.1), Y).value

    expected = solved(tmp_path / "first")

    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    np.testing.assert_array_equal(solved(tmp_path / "second"), expected)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs LD_PRELOAD")
def test_tiles_with_the_threads_that_there_are(tmp_path):
    """The system refuses the second of three more, then all; OpenMP would end the process."""
    source, library = tmp_path / "refuses.c", tmp_path / "refuses.so"
    source.write_text(REFUSES)
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-o", library, source, "-ldl"], check=True
    )
    environment = os.environ | {
        "LD_PRELOAD": str(library),
        "PYTHONPATH": str(ROOT),
        "KERNREG_NUM_THREADS": "4",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", CHILD, tmp_path / "found.npy"]
    child = subprocess.run(
        command, check=True, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout == "none can be started\n"
    X = np.random.default_rng(0).standard_normal((400, 5))
    expected = gram(nn.mlp(depth=2), X, backend="cpu")
    for entries in np.load(tmp_path / "found.npy"):
        np.testing.assert_array_equal(entries, expected)


def test_workers_of_joblib_share_the_cores(monkeypatch):
    """Two of them have half of the cores each, as loky tells them, and no more."""
    for name in ("KERNREG_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    share = max(1, joblib.cpu_count() // 2)
    with joblib.parallel_config(backend="loky", n_jobs=2):
        assert set(joblib.Parallel()(joblib.delayed(num_threads)() for _ in range(4))) == {share}
