"""The tile store: what it holds, what it refuses, and how it goes on."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kernreg import KernelOperator, gram, nn
from kernreg.exceptions import DiskSpaceError, InvalidInputError, StoreError
from kernreg.operators import TileStore
from tests.contracts.solver import kernel_matrix
from tests.operators.dense import DenseOperator
from tests.operators.stores import NET, X, written
from tests.permissions import public_folder, unprivileged

zarr = pytest.importorskip("zarr")

EPS = {"float32": 2.0**-24, "float64": 2.0**-53, "bfloat16": 2.0**-8}


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


class TestEntries:
    @pytest.mark.parametrize("tile", [1, 16, 33, 70, 1000])
    def test_are_those_of_the_operator(self, tile, tmp_path):
        K = kernel_matrix(35 if tile == 1 else 70)
        store = written(tmp_path, DenseOperator(K), tile=tile)
        stored = store.operator()
        np.testing.assert_array_equal(stored.to_dense(), K)
        assert store.tile == min(tile, len(K))
        side = -(-len(K) // store.tile)
        assert len(list((tmp_path / "c").rglob("*/*"))) - side == side * (side + 1) // 2 - side

    @pytest.mark.parametrize("dtype", EPS)
    def test_are_rounded_once(self, dtype, tmp_path):
        operator = KernelOperator(NET, X)
        store = written(tmp_path, operator, dtype=dtype, tile=32)
        found = store.operator().to_dense()
        assert found.dtype == ("float64" if dtype == "float64" else "float32")
        assert (found == found.T).all()
        exact = gram(NET, X)
        # Computed in float32 within 5e-6 of sqrt(K_ii K_jj), then rounded.
        scale = np.sqrt(np.outer(exact.diagonal(), exact.diagonal()))
        computed = 0 if dtype == "float64" else 5e-6
        assert (np.abs(found - exact) <= EPS[dtype] * np.abs(exact) + computed * scale).all()

    def test_bfloat16_is_that_of_torch(self, tmp_path):
        K = np.random.default_rng(2).standard_normal((40, 40)).astype(np.float32)
        K = (K + K.T).astype(np.float32)
        found = written(tmp_path, DenseOperator(K, "float32"), dtype="bfloat16", tile=16)
        expected = torch.from_numpy(K).to(torch.bfloat16).float().numpy()
        np.testing.assert_array_equal(found.operator().to_dense(), expected)
        assert zarr.open_array(tmp_path).dtype == np.uint16

    def test_can_be_read_by_zarr_alone(self, tmp_path):
        K = kernel_matrix(50)
        written(tmp_path, DenseOperator(K), tile=20)
        found = zarr.open_array(tmp_path, mode="r")[:]
        rows, columns = np.indices(found.shape) // 20
        np.testing.assert_array_equal(found, np.where(rows >= columns, K, 0.0))

    def test_zeros_are_written_too(self, tmp_path):
        store = written(tmp_path, DenseOperator(np.zeros((9, 9))), tile=4)
        assert store.pending() == []
        assert not store.operator().to_dense().any()

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_rectangular(self, dtype, tmp_path):
        operator = KernelOperator(NET, X[:30], X, dtype=dtype)
        store = written(tmp_path, operator, tile=16)
        store.verify(operator)
        stored = store.operator()
        dense = operator.to_dense()
        np.testing.assert_allclose(stored.to_dense(), dense, rtol=1e-5, atol=1e-5)
        bound = 140 * np.finfo(dtype).eps * np.abs(dense).sum(1)
        assert (np.abs(stored @ np.ones(70, dtype) - stored.to_dense().sum(1)) <= bound).all()
        for name in ("lower_panel", "diagonal"):
            with pytest.raises(InvalidInputError, match="symmetric operators"):
                getattr(stored, name)(*(0, 3)[: 2 * (name == "lower_panel")])

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_that_are_not_finite(self, value, tmp_path):
        K = kernel_matrix(40)
        K[39, 23] = K[23, 39] = value
        store = TileStore.create(tmp_path, DenseOperator(K), tile=16)
        with pytest.raises(
            InvalidInputError, match=r"NaN or infinity \(first in row 39, column 23"
        ):
            store.write(DenseOperator(K))
        assert (2, 1) in store.pending()

    def test_of_an_operator_elsewhere(self, tmp_path):
        """One that gives tiles instead of filling them, as on another device."""

        class Elsewhere(DenseOperator):
            device = torch.device("meta")

            def tile(self, rows, cols, out=None):
                return torch.from_numpy(self.matrix[rows, cols].copy())

        K = kernel_matrix(40)
        np.testing.assert_array_equal(
            written(tmp_path, Elsewhere(K), tile=16).operator().to_dense(), K
        )


class TestGoingOn:
    def test_only_what_is_missing_is_done(self, tmp_path):
        operator, seen = DenseOperator(kernel_matrix(60)), []
        store = TileStore.create(tmp_path, operator, tile=16)
        assert store.write(operator, tiles=[(3, 1), (0, 0)]) == 2
        assert len(store.pending()) == 8
        again = TileStore.create(tmp_path, operator)
        assert again.write(operator, lambda *step: seen.append(step)) == 8
        assert seen == [(step, 10) for step in range(1, 11)]
        assert again.write(operator) == 0
        assert again.verify(operator) == 10

    def test_verification_reads_each_tile_once(self, tmp_path, monkeypatch):
        store, read, seen = (
            written(tmp_path, DenseOperator(np.eye(60)), tile=16),
            TileStore.read,
            [],
        )
        monkeypatch.setattr(TileStore, "read", lambda *tile: seen.append(tile[1:]) or read(*tile))
        assert store.verify() == 10
        assert seen == store.tiles()

    @pytest.mark.parametrize(
        "damage",
        [
            lambda data: data[:-9],
            lambda data: b"",
            lambda data: data + b"0",
            lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
        ],
        ids=["truncated", "empty", "longer", "one bit"],
    )
    @pytest.mark.parametrize("place", [(2, 1), (3, 3)])
    def test_a_damaged_tile(self, damage, place, tmp_path):
        operator = DenseOperator(kernel_matrix(60))
        store = written(tmp_path, operator, tile=16)
        whole = files(tmp_path)
        stored = store.operator()
        victim = tmp_path / "c" / str(place[0]) / str(place[1])
        victim.write_bytes(damage(victim.read_bytes()))
        with pytest.raises(StoreError, match=r"truncated|damaged"):
            stored.to_dense()
        with pytest.raises(StoreError, match=rf"1 of 10 tiles .* first is \({place[0]}, "):
            store.verify()
        assert store.write(operator) == 1
        assert files(tmp_path) == whole

    def test_all_damaged_tiles_are_counted(self, tmp_path):
        store = written(tmp_path, DenseOperator(kernel_matrix(60)), tile=16)
        for place in ("c/1/0", "c/3/1", "c/3/3"):
            (tmp_path / place).write_bytes(b"")
        with pytest.raises(StoreError, match=r"3 of 10 tiles .* first is \(1, 0"):
            store.verify()

    def test_a_tile_is_complete_or_absent(self, tmp_path, monkeypatch):
        """Zarr writes beside the place and renames: at no time is there half a file."""
        operator, sizes = DenseOperator(kernel_matrix(32)), []
        store = TileStore.create(tmp_path, operator, tile=32)
        place = tmp_path / "c" / "0" / "0"
        replace = type(place).replace

        def watched(source, target):
            sizes.append((source.stat().st_size, place.exists()))
            return replace(source, target)

        monkeypatch.setattr(type(place), "replace", watched)
        store.write(operator)
        assert sizes == [(place.stat().st_size, False)] == [(32 * 32 * 8 + 4, False)]

    def test_what_a_killed_process_left_is_removed(self, tmp_path):
        operator = DenseOperator(np.eye(9))
        store = TileStore.create(tmp_path, operator, tile=4)
        (tmp_path / "c" / "0").mkdir(parents=True)
        (tmp_path / "c" / "0" / f"0.{32 * 'a'}.partial").touch()
        store.write(operator)
        assert list(tmp_path.rglob("*.partial")) == []

    def test_killed_before_the_header(self, tmp_path):
        (tmp_path / f"zarr.{32 * 'a'}.partial").touch()
        written(tmp_path, DenseOperator(np.eye(9)))
        assert list(tmp_path.rglob("*.partial")) == []


class TestRefusals:
    @pytest.mark.parametrize(
        ("other", "message"),
        [
            (KernelOperator(nn.mlp(depth=3, b_std=0.1), X), "another network or other data"),
            (KernelOperator(nn.mlp(depth=2, b_std=0.1 + 1e-9), X), "another network"),
            (KernelOperator(NET, X, kernel="nngp"), "another network or other data"),
            (KernelOperator(NET, X + 1e-9), "another network or other data"),
            (KernelOperator(NET, X[:69]), "another network or other data"),
            (KernelOperator(NET, X, X), "another network or other data"),
            (KernelOperator(NET, X, dtype="float32"), "dtype float64, not float32"),
        ],
    )
    def test_the_store_of_something_else(self, other, message, tmp_path):
        store = written(tmp_path, KernelOperator(NET, X), tile=32)
        before = files(tmp_path)
        with pytest.raises(StoreError, match=message):
            TileStore.create(tmp_path, other)
        if "dtype" not in message:
            with pytest.raises(StoreError, match=message):
                store.write(other)
        assert files(tmp_path) == before

    def test_another_tile(self, tmp_path):
        written(tmp_path, DenseOperator(np.eye(9)), tile=4)
        with pytest.raises(StoreError, match="tile 4, not 5"):
            TileStore.create(tmp_path, DenseOperator(np.eye(9)), tile=5)

    def test_verification_sees_other_entries(self, tmp_path):
        """A function that was edited under its old name: the fingerprint cannot know."""
        K = kernel_matrix(40)
        store = written(tmp_path, DenseOperator(K), tile=16)
        edited = DenseOperator(K * (1 + 1e-6))
        with pytest.raises(StoreError, match=r"other entries than the operator .*diagonal"):
            store.verify(edited)
        edited = DenseOperator(K + 1e-3 * (1 - np.eye(40)))
        with pytest.raises(StoreError, match=r"other entries than the operator .*tile"):
            store.verify(edited)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"version": 99}, "format version 99, this version of kernreg reads 2"),
            ({"format": "other"}, "no kernreg store"),
            (None, "no kernreg store"),
        ],
    )
    def test_another_header(self, change, message, tmp_path):
        written(tmp_path, DenseOperator(np.eye(9)))
        header = json.loads((tmp_path / "zarr.json").read_text())
        header["attributes"] = (
            {} if change is None else {"kernreg": header["attributes"]["kernreg"] | change}
        )
        (tmp_path / "zarr.json").write_text(json.dumps(header))
        with pytest.raises(StoreError, match=message):
            TileStore.open(tmp_path)

    @pytest.mark.parametrize("text", ["", "{", "{}", "[1]", '{"zarr_format": 3}'])
    def test_a_damaged_header(self, text, tmp_path):
        written(tmp_path, DenseOperator(np.eye(9)))
        (tmp_path / "zarr.json").write_text(text)
        with pytest.raises(StoreError, match="damaged header"):
            TileStore.open(tmp_path)

    def test_no_store(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no tile store"):
            TileStore.open(tmp_path)
        (tmp_path / "notes.txt").touch()
        with pytest.raises(StoreError, match=r"not empty \(it holds notes\.txt\)"):
            TileStore.create(tmp_path, DenseOperator(np.eye(3)))
        with pytest.raises(StoreError, match="cannot be written"):
            TileStore.create(tmp_path / "notes.txt", DenseOperator(np.eye(3)))

    def test_read_only_folder(self):
        operator = DenseOperator(kernel_matrix(9))
        with public_folder() as folder:
            store = written(folder / "store", operator)
            incomplete = TileStore.create(folder / "incomplete", operator, tile=4)
            for path in (*folder.iterdir(), folder):
                path.chmod(0o555)
            with unprivileged():
                with pytest.raises(StoreError, match="cannot be written: Permission denied"):
                    TileStore.create(folder / "new", operator)
                with pytest.raises(StoreError, match="cannot be written: Permission denied"):
                    incomplete.write(operator)
                found = TileStore.open(folder / "store").operator().to_dense()
            np.testing.assert_array_equal(found, store.operator().to_dense())

    @pytest.mark.parametrize(
        ("options", "message"),
        [({"dtype": "float16"}, "dtype must be one of"), ({"tile": 0}, "tile")],
    )
    def test_bad_options(self, options, message, tmp_path):
        with pytest.raises(InvalidInputError, match=message):
            TileStore.create(tmp_path / "new", DenseOperator(np.eye(3)), **options)
        assert not (tmp_path / "new").exists()

    def test_without_zarr(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "zarr", None)
        with pytest.raises(StoreError, match="pip install zarr"):
            TileStore.create(tmp_path / "new", DenseOperator(np.eye(3)))

    def test_zarr_is_imported_by_stores_alone(self):
        code = "import sys, kernreg.cli, kernreg.operators as o, kernreg.solvers as s"
        code += "; o.TileStore; s.OutOfCoreCholesky"
        code += "; sys.exit('zarr' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestDisk:
    def test_too_small(self, tmp_path, monkeypatch):
        operator = DenseOperator(np.eye(90))
        store = TileStore.create(tmp_path, operator, tile=16)
        monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
        with pytest.raises(DiskSpaceError, match="free some, or take a folder on another disk"):
            store.write(operator)
        assert len(store.pending()) == len(store.tiles())

    def test_runs_full(self, tmp_path, monkeypatch):
        from zarr.storage import _local

        operator = DenseOperator(kernel_matrix(90))
        store = TileStore.create(tmp_path, operator, tile=16)
        put, calls = _local._put, []

        def full(*arguments, **options):
            calls.append(arguments)
            if len(calls) > 9:
                raise OSError(errno.ENOSPC, "No space left on device")
            return put(*arguments, **options)

        monkeypatch.setattr(_local, "_put", full)
        with pytest.raises(DiskSpaceError, match=r"No space left on device.*finished is kept"):
            store.write(operator)
        assert len(store.pending()) == len(store.tiles()) - 9
        monkeypatch.setattr(_local, "_put", put)
        assert store.write(operator) == len(store.tiles()) - 9
        store.verify(operator)

    def test_full_at_the_header(self, tmp_path, monkeypatch):
        def full(*arguments, **options):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(zarr, "create_array", full)
        with pytest.raises(DiskSpaceError, match=r"No space left on device.*run again"):
            TileStore.create(tmp_path, DenseOperator(np.eye(9)))
        monkeypatch.undo()
        assert TileStore.create(tmp_path, DenseOperator(np.eye(9))).pending() == [(0, 0)]

    def test_largest_size_of_a_file(self, tmp_path):
        """A limit of the system itself: nothing is left of the tile that did not fit."""
        code = (
            "import resource, sys, numpy as np\n"
            "from kernreg.exceptions import DiskSpaceError\n"
            "from kernreg.operators import TileStore\n"
            "from tests.operators.dense import DenseOperator\n"
            "store = TileStore.create(sys.argv[1], DenseOperator(np.eye(64)), tile=64)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
            "try:\n"
            "    store.write(DenseOperator(np.eye(64)))\n"
            "except DiskSpaceError as error:\n"
            "    print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path], check=True, capture_output=True, text=True
        )
        assert "File too large" in done.stdout
        assert not list((tmp_path / "c").rglob("*partial"))
        store = TileStore.open(tmp_path)
        assert store.write(DenseOperator(np.eye(64))) == 1


class TestFingerprint:
    def test_is_of_network_kernel_and_data(self):
        base = KernelOperator(NET, X).fingerprint()
        assert KernelOperator(nn.mlp(depth=2, b_std=0.1), X.copy(), backend="reference")
        assert KernelOperator(NET, np.asfortranarray(X)).fingerprint() == base
        assert KernelOperator(NET, X, dtype="float32").fingerprint() == base
        others = [
            KernelOperator(NET, X, X),
            KernelOperator(NET, X, kernel="nngp"),
            KernelOperator(NET, X, exact=True),
            KernelOperator(NET, X[::-1]),
            KernelOperator(NET, X.reshape(35, 8)),
            KernelOperator(NET, X.astype("float32")),
        ]
        assert len({base, *(other.fingerprint() for other in others)}) == len(others) + 1
