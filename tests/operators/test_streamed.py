from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernreg import KernelOperator, nn
from kernreg.exceptions import BackendError, InvalidInputError
from kernreg.operators import ParquetRows, RowSource, StreamedOperator
from kernreg.operators.budget import PANEL_BYTES
from kernreg.operators.parts import _meetings, row_numbers
from kernreg.operators.sources import ArrayRows, chosen_rows
from kernreg.solvers import PCG, Restricted
from tests.contracts.solver import gaussian_points

NET = nn.mlp(depth=2, b_std=0.1)
DROPPED = nn.serial(nn.Dense(), nn.Relu(), nn.Dropout(0.8), nn.Dense())
N = 130


@pytest.fixture(scope="module")
def points():
    X = gaussian_points(N, 4, seed=5)
    X[60:70] = X[:10]
    return X


@pytest.fixture
def parquet(points, tmp_path):
    path = tmp_path / "X.parquet"
    frame = pd.DataFrame(points, columns=list("abcd"))
    frame.assign(name="text", k=np.arange(N)).to_parquet(path, row_group_size=37)
    return path


@pytest.fixture
def few_rows(monkeypatch):
    """Reads of 40 rows, tiles of 40 x 7."""
    for name, value in {"_FEWEST": 40, "_MOST": 40, "PANEL_BYTES": 8 * 40 * 7}.items():
        monkeypatch.setattr(f"kernreg.operators.streamed.{name}", value)


class TestParts:
    @pytest.mark.parametrize("net", [NET, DROPPED])
    @pytest.mark.parametrize("kind", [KernelOperator, StreamedOperator])
    def test_are_those_of_the_matrix(self, net, kind, points):
        """Dropout makes the diagonal another number than a row's kernel with an equal row."""
        K = kind(net, points)
        dense = KernelOperator(net, points).to_dense()
        index = np.array([5, 65, 5, 129, -1, 0])
        # Float64 contract: 1e-10 of the diagonal.
        atol = 1e-10 * dense.diagonal().max()
        for rows in (slice(None), slice(3, 70), [1, 65, 2, 1]):
            for columns in (index, slice(60, 68), [-3]):
                np.testing.assert_allclose(
                    K.part(rows, columns), dense[rows][:, columns], atol=atol
                )
        out = np.empty((N, 6))
        assert K.part(slice(None), index, out) is out
        np.testing.assert_allclose(out, dense[:, index], atol=atol)
        unique = np.array([5, 65, 129, 0])
        np.testing.assert_allclose(
            K.take(unique).to_dense(), dense[np.ix_(unique, unique)], atol=atol
        )
        np.testing.assert_allclose(K.diagonal(), dense.diagonal(), atol=atol)

    def test_torch_in_torch_out(self, points):
        K = KernelOperator(DROPPED, torch.from_numpy(points))
        block = K.part(slice(0, 5), [3, 4])
        assert isinstance(block, torch.Tensor)
        np.testing.assert_array_equal(block[[3, 4], [0, 1]], K.diagonal()[3:5])

    def test_many_rows_are_prepared_late(self):
        X = gaussian_points(5000, 3)
        K = KernelOperator(NET, X)
        index = np.array([7, 4999])
        early = K.part(index, index), K.diagonal()
        assert K._made is None
        np.testing.assert_array_equal(early[0], early[0].T)
        tile = K.tile(slice(4999, 5000), slice(7, 8))
        np.testing.assert_allclose(early[0][1, 0], tile[0, 0], rtol=1e-12)
        assert K._made is not None
        np.testing.assert_array_equal(K.diagonal(), early[1])

    def test_many_rows_still_fail_early(self):
        with pytest.raises(BackendError):
            KernelOperator(NET, gaussian_points(5000, 3), backend="cuda")

    def test_bad_numbers(self, points):
        K = KernelOperator(NET, points)
        with pytest.raises(InvalidInputError, match="mask"):
            K.part(slice(None), np.ones(N, dtype=bool))
        with pytest.raises(IndexError, match="out of bounds"):
            K.take([N])
        with pytest.raises(InvalidInputError, match="step"):
            K.part(slice(None, None, 2), [0])
        with pytest.raises(InvalidInputError, match="symmetric"):
            KernelOperator(NET, points, points).part([0], [0])

    @given(st.lists(st.integers(0, 9), max_size=12), st.lists(st.integers(0, 9), max_size=12))
    def test_meetings(self, rows, columns):
        rows, columns = np.array(rows, dtype=np.int64), np.array(columns, dtype=np.int64)
        found = set(zip(*(a.tolist() for a in _meetings(rows, columns, 10)), strict=True))
        assert found == {
            (i, j) for i in range(len(rows)) for j in range(len(columns)) if rows[i] == columns[j]
        }

    def test_row_numbers(self):
        np.testing.assert_array_equal(row_numbers(slice(-2, None), 5), [3, 4])
        np.testing.assert_array_equal(row_numbers([], 5), [])


class TestStreamed:
    def test_rows_and_products_equal_those_in_memory(self, points, parquet):
        memory = KernelOperator(NET, points)
        K = StreamedOperator(NET, ParquetRows(parquet, list("abcd"), dtype="float64"))
        V = gaussian_points(N, 2)
        dense = memory.to_dense()
        np.testing.assert_allclose(K.rows([3, 64]), dense[[3, 64]], rtol=1e-10)
        np.testing.assert_allclose(K @ V, dense @ V, atol=1e-10 * np.abs(dense).sum())
        np.testing.assert_allclose(K @ V[:, 0], dense @ V[:, 0], atol=1e-10 * np.abs(dense).sum())
        assert K.astype("float32").part([0], [1]).dtype == np.float32

    @pytest.mark.parametrize("net", [NET, DROPPED])
    def test_all_over_many_reads_and_tiles(self, net, points, few_rows):
        K, memory = StreamedOperator(net, points), KernelOperator(net, points)
        dense, V = memory.to_dense(), gaussian_points(N, 3)
        bound = 1e-10 * np.abs(dense).sum()
        np.testing.assert_allclose(K @ V, dense @ V, atol=bound)
        parts = [K.lower_times(torch.from_numpy(V.T), rows).numpy() for rows in ((0, 55), (55, N))]
        np.testing.assert_allclose(sum(parts).T, dense @ V, atol=bound)
        np.testing.assert_allclose(K.rows([3]), dense[[3]], atol=bound)
        np.testing.assert_allclose(K.diagonal(), dense.diagonal(), rtol=1e-10)
        np.testing.assert_allclose(K.to_dense(), dense, rtol=1e-10)
        np.testing.assert_allclose(K.lower_panel(50, 125), dense[50:125, :125], rtol=1e-10)
        tile = K.tile(slice(60, 129), slice(3, 70))
        np.testing.assert_allclose(tile, dense[60:129, 3:70], rtol=1e-10)
        assert K.fingerprint() == memory.fingerprint()
        assert K.fingerprint() != StreamedOperator(net, points[:-1]).fingerprint()

    def test_tiles_of_a_product_are_no_larger_than_a_panel(self, monkeypatch):
        n, sizes, tile = 4000, [], KernelOperator.tile

        def noted(self, rows, cols, out=None):
            sizes.append((rows.stop - rows.start) * (cols.stop - cols.start))
            return tile(self, rows, cols, out)

        K = StreamedOperator(NET, gaussian_points(n, 3))
        monkeypatch.setattr(KernelOperator, "tile", noted)
        K @ np.ones(n)
        assert 8 * max(sizes) <= PANEL_BYTES
        # The lower half, and the upper one of the square with which each of its tiles begins.
        assert n * n / 2 < sum(sizes) <= n * (n + max(sizes) / n) / 2 * (1 + 1e-12)

    def test_rows_that_parts_have_in_common_are_read_once(self, points, parquet, monkeypatch):
        source = ParquetRows(parquet, list("abcd"), dtype="float64")
        read, groups = source._file.read_row_group, []
        monkeypatch.setattr(
            source._file, "read_row_group", lambda k, **how: groups.append(k) or read(k, **how)
        )
        K = StreamedOperator(NET, source)
        solver = Restricted(centres=50, method="uniform", chunk=20)
        solver.solve(solver.init(K, 0.1), points[:, :1])
        # The first row, the centres, and two passes over four groups.
        assert len(groups) <= 1 + 4 + 2 * 4
        groups.clear()
        block = np.arange(0, N, 3)
        for start in range(0, N, 10):
            K.part(slice(start, start + 10), block)
        assert len(groups) <= 2 * 4

    @pytest.mark.parametrize("storage", ["auto", "packed", "recomputed"])
    def test_conjugate_gradients_keep_it_or_not(self, storage, points):
        solver, V = PCG(storage=storage, tol=1e-10), gaussian_points(N, 2)
        K = StreamedOperator(NET, points)
        assert solver.solve(solver.init(K, 1.0), V).ok

    def test_wrong_operand(self, points):
        with pytest.raises(InvalidInputError, match="do not fit"):
            StreamedOperator(NET, points) @ np.ones(3)

    def test_bad_rows_are_named_when_they_are_read(self, points):
        X = points.copy()
        X[100, 2] = np.nan
        K = StreamedOperator(NET, X)
        K.part(slice(0, 100), [3])
        for rows in (slice(90, 120), [1, 100, 3]):
            with pytest.raises(InvalidInputError, match="row 100"):
                K.part(rows, [3])


class TestSources:
    @given(st.data())
    def test_parquet_rows_by_slice_and_number(self, tmp_path_factory, data):
        n, group = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 17))
        X = np.random.default_rng(n).standard_normal((n, 3)).astype(np.float32)
        path = tmp_path_factory.mktemp("rows") / "X.parquet"
        pd.DataFrame(X, columns=list("abc")).to_parquet(path, row_group_size=group)
        source = ParquetRows(path)
        assert isinstance(source, RowSource)
        assert source.shape == (n, 3)
        start = data.draw(st.integers(0, n))
        stop = data.draw(st.integers(start, n))
        index = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=30)), dtype=np.int64)
        for other in (source, ArrayRows(X)):
            np.testing.assert_array_equal(other.rows(start, stop), X[start:stop])
            np.testing.assert_array_equal(chosen_rows(other, slice(start, stop)), X[start:stop])
            np.testing.assert_array_equal(chosen_rows(other, index), X[index])

    def test_columns_in_the_order_asked_for(self, points, parquet):
        source = ParquetRows(parquet, ["d", "k"], dtype="float64")
        np.testing.assert_array_equal(source.rows(3, 5), np.c_[points[3:5, 3], [3, 4]])

    def test_bad_files(self, parquet, tmp_path):
        with pytest.raises(InvalidInputError, match="no column 'z'"):
            ParquetRows(parquet, ["a", "z"])
        with pytest.raises(InvalidInputError, match="'name' holds"):
            ParquetRows(parquet)
        with pytest.raises(InvalidInputError, match="dtype"):
            ParquetRows(parquet, ["a"], dtype="int32")
        with pytest.raises(FileNotFoundError):
            ParquetRows(tmp_path / "absent.parquet")
        (tmp_path / "text").write_text("no parquet at all")
        with pytest.raises(InvalidInputError, match="no Parquet file"):
            ParquetRows(tmp_path / "text")
        pd.DataFrame({"a": []}, dtype=float).to_parquet(tmp_path / "empty")
        with pytest.raises(InvalidInputError, match="empty"):
            ParquetRows(tmp_path / "empty")

    def test_missing_values_are_refused(self, tmp_path):
        frame = pd.DataFrame({"a": [1.0, None, 3.0], "b": pd.array([1, 2, None], dtype="Int64")})
        frame.to_parquet(tmp_path / "X.parquet")
        source = ParquetRows(tmp_path / "X.parquet")
        with pytest.raises(InvalidInputError, match="row 1"):
            chosen_rows(source, slice(0, 3))

    @pytest.mark.parametrize("X", [np.ones(3), np.ones((0, 2)), np.array([["a"]])])
    def test_bad_arrays(self, X):
        with pytest.raises(InvalidInputError, match="matrix of real numbers"):
            ArrayRows(X)
