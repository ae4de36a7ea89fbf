"""Conjugate gradients that write checkpoints, and are stopped."""

from __future__ import annotations

import numpy as np
import pytest

from kernreg.exceptions import ConvergenceWarning
from kernreg.solvers import PCG
from tests.contracts.solver import gaussian_points
from tests.operators.dense import DenseOperator

N, RIDGE, EVERY = 120, 1e-3, 5


def kernel(n=N, seed=0):
    """Gaussian kernel: plain conjugate gradients need some 100 iterations."""
    X = gaussian_points(n, 2, seed)
    return np.exp(-0.5 * ((X[:, None] - X) ** 2).sum(2))


def targets():
    return gaussian_points(N, 2, seed=1)


def run(path, K=None, ridge=RIDGE, Y=None, **settings):
    arguments = {"preconditioner": None, "storage": "recomputed", "checkpoint_every": EVERY}
    callback = settings.pop("callback", None)
    solver = PCG(**(arguments | settings), checkpoint=path)
    state = solver.init(DenseOperator(kernel() if K is None else K), ridge)
    return solver.solve(state, targets() if Y is None else Y, callback=callback)


def interrupted(path, iterations=23, **settings):
    with pytest.warns(ConvergenceWarning):
        return run(path, max_iter=iterations, **settings)


class Stop(Exception):
    pass


def stopped(path, iteration, **settings):
    """Leave a run in the middle of an iteration's end, as a kill would."""

    def callback(progress):
        if progress.iteration == iteration:
            raise Stop

    with pytest.raises(Stop):
        run(path, callback=callback, **settings)
