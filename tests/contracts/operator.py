"""What every operator promises, as tests to inherit: a subclass gives ``make`` and its flags."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kernreg.exceptions import InvalidInputError
from kernreg.operators import Operator

N = 70


class OperatorContract:
    """Of symmetric operators of order ``N`` and of order 1.

    Two evaluations of an entry may differ by ``entry_error`` roundings of the largest one.
    """

    dtypes = ("float64", "float32")
    streamed = fused = kept = False
    reevaluates = True

    def worker(self, K):
        """What a loop over rows is given in this process."""
        return K

    entry_error = 64

    def make(self, n, dtype, folder) -> Operator:
        """An operator with n rows."""
        raise NotImplementedError

    @pytest.fixture(params=["float64", "float32"])
    def K(self, request, tmp_path):
        if request.param not in self.dtypes:
            pytest.skip("has one type")
        return self.make(N, request.param, tmp_path)

    @pytest.fixture
    def dense(self, K):
        return K.to_dense()

    def close(self, found, expected, terms=0):
        """Equal up to rounding of entries, and of as many terms of a sum."""
        assert found.shape == expected.shape
        eps = np.finfo(expected.dtype).eps
        bound = (self.entry_error + terms) * eps * max(1.0, np.abs(expected).max(initial=0.0))
        assert np.abs(found - expected).max(initial=0.0) <= bound

    def test_what_it_declares(self, K):
        assert K.shape == (N, N)
        assert K.dtype in (np.dtype("float32"), np.dtype("float64"))
        assert K.symmetric is True
        assert isinstance(K.device, torch.device)
        assert (K.fused, K.kept, K.streamed) == (self.fused, self.kept, self.streamed)
        assert K.reevaluates is self.reevaluates
        assert K.rounding > 0
        assert K.processes == 1

    def test_the_whole(self, K, dense):
        assert isinstance(dense, np.ndarray)
        assert (dense.shape, dense.dtype) == (K.shape, K.dtype)
        self.close(dense, dense.T.copy())
        out = np.full(K.shape, np.nan, dtype=K.dtype)
        assert K.to_dense(out) is out
        self.close(out, dense)

    @pytest.mark.parametrize(
        ("rows", "columns"),
        [
            ((0, 5), (60, 70)),
            ((15, 17), (3, 50)),
            ((8, 8), (0, 70)),
            ((3, 4), (9, 9)),
            ((0, 70),) * 2,
        ],
    )
    def test_tiles(self, rows, columns, K, dense):
        part = slice(*rows), slice(*columns)
        self.close(K.tile(*part), dense[part])
        # A view of a larger array: rows are contiguous, the whole is not.
        frame = np.full((rows[1] - rows[0] + 2, columns[1] - columns[0] + 3), 7.0, dtype=K.dtype)
        inside = frame[1:-1, 2:-1]
        assert K.tile(*part, inside) is inside
        self.close(inside, dense[part])
        inside[...] = 7.0
        assert (frame == 7.0).all()

    def test_outputs_that_do_not_fit(self, K):
        part = slice(0, 9), slice(0, 9)
        other = np.float32 if K.dtype == np.float64 else np.float64
        for out in (np.empty((9, 8), K.dtype), np.empty((9, 9), other), np.empty(9, K.dtype)):
            with pytest.raises(InvalidInputError, match="out must"):
                K.tile(*part, out)
        elsewhere = torch.empty((9, 9), dtype=torch.from_numpy(np.empty(0, K.dtype)).dtype)
        with pytest.raises(InvalidInputError, match="out must"):
            K.tile(*part, elsewhere.to("meta"))
        with pytest.raises(InvalidInputError, match="no step"):
            K.tile(slice(0, 9, 2), slice(0, 9))

    def test_rows(self, K, dense):
        self.close(np.asarray(K.rows([69, 3, 3, -1])), dense[[69, 3, 3, -1]])
        assert np.shape(K.rows([])) == (0, N)
        with pytest.raises(IndexError, match="below 70"):
            K.rows([70])
        with pytest.raises(InvalidInputError, match="row numbers"):
            K.rows([0.5])

    def test_diagonal(self, K, dense):
        assert np.array_equal(K.diagonal(), dense.diagonal())

    @pytest.mark.parametrize("bounds", [(0, 70), (0, 1), (20, 41), (69, 70)])
    def test_lower_panels(self, bounds, K, dense):
        i0, i1 = bounds
        expected = dense[i0:i1, :i1]
        self.close(K.lower_panel(i0, i1), expected)
        out = np.full(expected.shape, np.nan, dtype=K.dtype)
        K.lower_panel(i0, i1, out)
        self.close(out, expected)
        panel = torch.empty(expected.shape, dtype=torch.from_numpy(expected).dtype)
        K.fill_panel(panel, i0)
        self.close(panel.numpy(), expected)

    @pytest.mark.parametrize("shape", [(N,), (N, 1), (N, 3), (N, 0)])
    @pytest.mark.parametrize("wide", [True, False])
    def test_products(self, shape, wide, K, dense):
        V = np.random.default_rng(4).standard_normal(shape)
        V = V if wide else V.astype(np.float32)
        found = K @ V
        assert isinstance(found, np.ndarray)
        assert found.flags.c_contiguous
        assert found.dtype == np.result_type(K.dtype, V.dtype)
        narrow = dense.astype(np.float64) @ V
        self.close(found, narrow.astype(K.dtype), 2 * N * N)
        strided = np.stack([V, V], axis=-1)[..., 0]
        assert np.array_equal(K @ strided, found)
        tensor = K @ torch.from_numpy(V)
        assert isinstance(tensor, torch.Tensor)
        assert np.array_equal(tensor.numpy(), found)

    def test_products_with_other_numbers(self, K, dense):
        whole = np.arange(N) % 3
        self.close(K @ whole, (dense @ whole).astype(K.dtype), 2 * N * N)
        v = np.random.default_rng(5).standard_normal(N)
        turned = K @ (v + 2j * v)
        assert np.array_equal(turned.real, K @ v)
        assert np.array_equal(turned.imag, K @ (2 * v))

    def test_operands_that_do_not_fit(self, K):
        for V in (np.ones(N - 1), np.ones((1, N)), np.ones((N, 1, 1)), np.float64(1.0)):
            with pytest.raises(InvalidInputError, match="do not fit"):
                K @ V

    def test_shares_of_a_product_make_up_the_whole(self, K):
        lines = torch.from_numpy(np.random.default_rng(6).standard_normal((2, N)))
        shares = [K.lower_times(lines, rows) for rows in ((0, 0), (0, 41), (41, N))]
        self.close(sum(shares).numpy(), (K @ lines.T.numpy()).T.astype(K.dtype), 2 * N * N)

    def test_other_types(self, K, dense):
        for dtype in ("float32", "float64"):
            other = K.astype(dtype)
            assert isinstance(other, Operator)
            assert other.dtype == dtype
            self.close(other.to_dense().astype(np.float32), dense.astype(np.float32))
        with pytest.raises(InvalidInputError, match="float32 or float64"):
            K.astype("int32")

    def test_parts_by_number(self, K, dense):
        if not self.streamed:
            for work in (lambda: K.part([0], [1]), lambda: K.take([0]), K.require_parts):
                with pytest.raises(InvalidInputError, match="no parts by row numbers"):
                    work()
            return
        rows, columns = np.array([3, 3, 68]), slice(2, 5)
        self.close(K.part(rows, columns), dense[rows][:, columns])
        self.close(K.take(rows).to_dense(), dense[np.ix_(rows, rows)])
        with pytest.raises(IndexError, match="below 70"):
            K.part([70], columns)
        with pytest.raises(InvalidInputError, match="at least one row number"):
            K.take([])

    def test_as_scipy(self, K):
        v = np.random.default_rng(7).standard_normal(N)
        assert np.array_equal(K.as_scipy() @ v, K @ v)
        assert np.array_equal(K.as_scipy().T @ v, K @ v)

    def test_a_loop_over_rows_in_one_process(self, K):
        def work(operator, start, stop, factor, callback):
            assert operator is self.worker(K)
            callback(stop, stop)
            return np.arange(start, stop) * factor

        seen = []
        found = K.over_rows(work, 2, joined=True, callback=lambda *step: seen.append(step))
        assert np.array_equal(found, 2 * np.arange(N))
        assert seen == [(N, N)]

    def test_one_row(self, tmp_path):
        K = self.make(1, self.dtypes[0], tmp_path)
        dense = K.to_dense()
        assert dense.shape == (1, 1)
        assert np.array_equal(K.diagonal(), dense[0])
        self.close(K.lower_panel(0, 1), dense)
        self.close(K @ np.array([2.0]), 2.0 * dense[0])
        self.close(np.asarray(K.rows([-1])), dense)
