"""Solves by conjugate gradients that tests look at, and products that they count."""

from __future__ import annotations

import numpy as np

from kernreg.solvers import PCG
from tests.operators.dense import DenseOperator


def run(operator, ridge, Y, solver=None, **settings):
    solver = solver or PCG(**settings)
    state = solver.init(operator, ridge)
    return solver.solve(state, Y), state


class CountingOperator(DenseOperator):
    """Counts products and, while it is float32, multiplies them by a factor that is wrong."""

    def __init__(self, matrix, dtype="float64", factor=1.0, counts=None):
        super().__init__(matrix, dtype)
        self.factor = factor
        self.counts = {"float32": 0, "float64": 0} if counts is None else counts

    def times(self, columns):
        self.counts[self.dtype.name] += 1
        product = super().times(columns)
        return product * self.factor if self.dtype == np.float32 else product

    def astype(self, dtype):
        return CountingOperator(self.matrix, dtype, self.factor, self.counts)


def relative_residual(K, ridge, x, Y):
    residual = np.linalg.norm(Y - K @ x - ridge * x, axis=0)
    return np.max(residual / np.linalg.norm(Y, axis=0))
