"""A tile store read as an operator: parts, products, solves with other labels and ridges."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from kernreg import KernelOperator, gram, nn
from kernreg.exceptions import InvalidInputError, StoreError
from kernreg.operators import TileStore
from kernreg.solvers import PCG, Cholesky, Eigh
from tests.contracts.solver import SLACK
from tests.operators.dense import DenseOperator
from tests.operators.stores import NET, X, written

pytest.importorskip("zarr")


class TestOperator:
    @pytest.fixture
    def stored(self, tmp_path):
        return written(tmp_path, KernelOperator(NET, X), tile=16).operator()

    def test_parts(self, stored):
        K = stored.to_dense()
        for rows, columns in [((0, 5), (60, 70)), ((15, 17), (3, 50)), ((8, 8), (0, 70))]:
            found = stored.tile(slice(*rows), slice(*columns))
            np.testing.assert_array_equal(found, K[slice(*rows), slice(*columns)])
        np.testing.assert_array_equal(stored.lower_panel(20, 41), K[20:41, :41])
        np.testing.assert_array_equal(stored.diagonal(), K.diagonal())
        np.testing.assert_array_equal(stored.rows([69, 3, 3, -1]), K[[69, 3, 3, -1]])
        out = np.empty((4, 70))
        assert stored.tile(slice(0, 4), slice(None), out) is out
        np.testing.assert_array_equal(out, K[:4])

    def test_products(self, stored):
        K = stored.to_dense()
        for shape in [(70,), (70, 3)]:
            V = np.random.default_rng(4).standard_normal(shape)
            # Sums of 70 products in either order.
            bound = 2 * 70 * 2.0**-53 * np.abs(K) @ np.abs(V)
            assert (np.abs(stored @ V - K @ V) <= bound).all()
            assert isinstance(stored @ torch.from_numpy(V), torch.Tensor)

    def test_what_does_not_fit(self, stored):
        with pytest.raises(InvalidInputError, match="do not fit"):
            stored @ np.ones(69)
        with pytest.raises(IndexError, match="below 70"):
            stored.rows([70])
        with pytest.raises(InvalidInputError, match="no step"):
            stored.tile(slice(0, 9, 2), slice(None))
        with pytest.raises(InvalidInputError, match="out must"):
            stored.tile(slice(0, 9), slice(0, 9), np.empty((9, 8)))

    @pytest.mark.parametrize("solver", [Cholesky(block=20), Eigh()])
    def test_serves_solves_with_other_labels_and_ridges(self, solver, stored):
        K = stored.to_dense()
        for ridge, seed in ((0.1, 5), (3.0, 6)):
            y = np.random.default_rng(seed).standard_normal(70)
            found = solver.solve(solver.init(stored, ridge), y).value
            A = K + ridge * np.eye(70)
            bound = SLACK * np.sqrt(70) * 2.0**-52 * np.linalg.cond(A)
            expected = np.linalg.solve(A, y)
            np.testing.assert_allclose(found, expected, atol=bound * np.abs(expected).max())

    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_refines_to_the_exact_matrix(self, dtype, tmp_path):
        """A rounded store is a preconditioner; the residual is that of the kernel itself."""
        operator = KernelOperator(NET, X)
        y, A = np.sin(X[:, 0]), gram(NET, X) + 2.0 * np.eye(70)
        stored = written(tmp_path, operator, dtype=dtype, tile=16).operator(exact=operator)
        solution = Cholesky().solve(Cholesky().init(stored, 2.0), y)
        assert solution.ok
        bound = (16 + np.sqrt(70)) * 2.0**-52
        size = np.linalg.norm(A, 2) * np.linalg.norm(solution.value) + np.linalg.norm(y)
        assert np.linalg.norm(A @ solution.value - y) < bound * size

    @pytest.mark.parametrize("solver", [Cholesky(), Eigh(), PCG()])
    def test_rounding_that_the_ridge_does_not_cover_is_told(self, solver, tmp_path):
        operator = KernelOperator(NET, X)
        store = written(tmp_path, operator, dtype="bfloat16", tile=32)
        least = 32 * 2.0**-9 * np.sqrt(70) * np.mean(store.operator().diagonal())
        with pytest.warns(UserWarning, match=r"that of the rounded matrix.*exact="):
            state = solver.init(store.operator(), 0.99 * least)
        # The warning is right: y = A x + (rounded - exact) x, with entries off by up to 2^-8.
        y = np.sin(X[:, 0])
        gap = y - gram(NET, X) @ (x := solver.solve(state, y).value) - 0.99 * least * x
        assert np.linalg.norm(gap) > 1e-5 * np.linalg.norm(y)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            solver.init(store.operator(), 1.01 * least)
            solver.init(store.operator(exact=operator), 0.99 * least)

    def test_products_with_rounded_entries_serve_large_ridges_only(self, tmp_path):
        operator = KernelOperator(NET, X)
        stored = written(tmp_path, operator, dtype="bfloat16", tile=32).operator(exact=operator)
        assert stored.rounding == 2.0**-9
        least = 32 * stored.rounding * np.sqrt(70) * np.mean(stored.diagonal())
        solver, y = PCG(storage="recomputed"), np.sin(X[:, 0])
        for ridge, fast in ((0.99 * least, False), (1.01 * least, True), (1e-3, False)):
            state = solver.init(stored, ridge)
            assert (state.fast is not None) == fast
            x = solver.solve(state, y).value
            residual = np.linalg.norm(y - gram(NET, X) @ x - ridge * x)
            assert residual <= 1.01e-8 * np.linalg.norm(y)

    def test_of_an_incomplete_store(self, tmp_path):
        store = TileStore.create(tmp_path, DenseOperator(np.eye(9)), tile=4)
        store.write(DenseOperator(np.eye(9)), tiles=[(0, 0), (2, 1)])
        with pytest.raises(StoreError, match="incomplete: 4 of 6 tiles are to do"):
            store.operator()

    def test_of_another_network(self, tmp_path):
        store = written(tmp_path, KernelOperator(NET, X), tile=16)
        with pytest.raises(StoreError, match="another network or other data"):
            store.operator(exact=KernelOperator(nn.mlp(depth=3), X))
