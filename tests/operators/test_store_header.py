"""Headers of tile stores: damaged, of hostile programs, of earlier versions; what is verified."""

from __future__ import annotations

import json
import tracemalloc
import warnings

import numpy as np
import pytest
import torch

from kernreg.exceptions import InvalidInputError, StoreError
from kernreg.operators import TileStore
from kernreg.operators.store import check as store_check
from kernreg.operators.store import header as store_header
from tests.contracts.solver import kernel_matrix
from tests.operators.dense import DenseOperator
from tests.operators.stores import change, written

pytest.importorskip("zarr")


def replaced(*path, value):
    def edit(found, kept):
        inner = found
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = value

    return edit


def own(name, value):
    return replaced("attributes", "kernreg", name, value=value)


GRID = ("chunk_grid", "configuration", "chunk_shape")


@pytest.mark.parametrize(
    "edit",
    [
        own("symmetric", False),
        own("dtype", "float32"),
        own("fingerprint", 64 * "0"),
        own("note", {"scale": 2}),
        own("operator", "another"),
        replaced("shape", value=[39, 39]),
        replaced(*GRID, value=[8, 8]),
        replaced("fill_value", value=1),
        replaced("extra", value=1),
    ],
)
def test_any_change_is_noticed(edit, tmp_path):
    written(tmp_path, DenseOperator(kernel_matrix(40)), tile=16, note={"scale": 1})
    change(tmp_path, edit, hashed=False)
    with pytest.raises(StoreError, match=r"damaged header: its hash is another"):
        TileStore.open(tmp_path)


HOSTILE = {
    "huge": replaced("shape", value=[10**12, 10**12]),
    "large": replaced("shape", value=[40_000, 40_000]),
    "huge tiles": replaced(*GRID, value=[10**9, 10**9]),
    "tiles of nothing": replaced(*GRID, value=[0, 0]),
    "oblong tiles": replaced(*GRID, value=[16, 8]),
    "one size": replaced("shape", value=[40]),
    "no rows": replaced("shape", value=[0, 0]),
    "negative": replaced("shape", value=[-40, -40]),
    "sizes that are no whole numbers": replaced("shape", value=[40.0, 40.0]),
    "sizes that are true": replaced("shape", value=[True, True]),
    "half a matrix that is not square": replaced("shape", value=[40, 39]),
    "another type": replaced("data_type", value="float32"),
    "a type of its own": own("dtype", "float16"),
    "a type that is no name": own("dtype", ["float64"]),
    "symmetric in words": own("symmetric", "yes"),
    "a note that is a list": own("note", [1]),
    "no checksum": replaced("codecs", value=[{"name": "bytes"}]),
    "compressed": replaced(
        "codecs", value=[{"name": "bytes"}, {"name": "gzip"}, {"name": "crc32c"}]
    ),
    "bytes the other way round": replaced(
        "codecs", 0, value={"name": "bytes", "configuration": {"endian": "big"}}
    ),
    "codecs that are none": replaced("codecs", value=3),
    "tiles elsewhere": replaced(
        "chunk_key_encoding", value={"name": "default", "configuration": {"separator": "."}}
    ),
    "another grid": replaced("chunk_grid", value={"name": "irregular", "configuration": {}}),
    "a group": replaced("node_type", value="group"),
    "another Zarr": replaced("zarr_format", value=2),
}


@pytest.mark.parametrize("edit", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_header_is_refused_before_memory_is_taken(edit, tmp_path):
    written(tmp_path, DenseOperator(kernel_matrix(40)), tile=16)
    change(tmp_path, edit)
    tracemalloc.start()
    with pytest.raises(StoreError, match="damaged header: "):
        TileStore.open(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


@pytest.mark.parametrize(
    "text",
    [
        500 * '{"attributes":' + "1" + 500 * "}",
        '{"attributes":' + 100_000 * "[",
        '{"attributes": 3}',
        '{"attributes": {"kernreg": ' + " " * 2**24 + "{}}}",
        "\udcff",
    ],
    ids=["nested", "open", "number", "long", "no text"],
)
def test_a_text_that_is_no_header(text, tmp_path):
    written(tmp_path, DenseOperator(np.eye(9)))
    (tmp_path / "zarr.json").write_text(text, errors="surrogateescape")
    with pytest.raises(StoreError, match="damaged header"):
        TileStore.open(tmp_path)


def test_without_a_hash(tmp_path):
    written(tmp_path, DenseOperator(np.eye(9)))
    path = tmp_path / "zarr.json"
    found = json.loads(path.read_text())
    del found["attributes"]["kernreg"]["hash"]
    path.write_text(json.dumps(found))
    with pytest.raises(StoreError, match="damaged header"):
        TileStore.open(tmp_path)


def test_a_store_of_the_first_version_is_read_with_a_warning(tmp_path):
    """Its tiles have checksums, and its fingerprint is that of its data."""
    operator = DenseOperator(kernel_matrix(30))
    written(tmp_path, operator, tile=16)
    path = tmp_path / "zarr.json"
    found = json.loads(path.read_text())
    found["attributes"]["kernreg"]["version"] = 1
    del found["attributes"]["kernreg"]["hash"]
    path.write_text(json.dumps(found))
    with pytest.warns(UserWarning, match="before headers of stores had a hash"):
        store = TileStore.open(tmp_path)
    np.testing.assert_array_equal(store.operator(operator).to_dense(), kernel_matrix(30))
    found["attributes"]["kernreg"]["hash"] = "0"
    path.write_text(json.dumps(found))
    with pytest.raises(StoreError, match="hash is another"):
        TileStore.open(tmp_path)


def test_too_many_tiles(tmp_path):
    class Large(DenseOperator):
        def __init__(self):
            super().__init__(np.eye(2))
            self.shape = (20_000, 20_000)

    with pytest.raises(InvalidInputError, match=r"400000000 tiles of 1 rows.* take a larger tile"):
        TileStore.create(tmp_path / "new", Large(), tile=1)
    assert not (tmp_path / "new").exists()


def test_the_limit_is_that_of_the_tiles_that_are_there(tmp_path, monkeypatch):
    monkeypatch.setattr(store_header, "_MOST_TILES", 9)
    operator = DenseOperator(kernel_matrix(40))
    operator.tile_rows = 8
    assert len(TileStore.create(tmp_path / "few", operator, tile=14).tiles()) == 6
    assert TileStore.create(tmp_path / "few", operator).tile == 14
    with pytest.raises(InvalidInputError, match="25 tiles of 8 rows"):
        TileStore.create(tmp_path / "many", operator)


@pytest.mark.parametrize(("n", "side"), [(5, 5), (1024, 1024), (1025, 1024)])
def test_tiles_of_a_new_store(n, side, tmp_path):
    assert TileStore.create(tmp_path, DenseOperator(np.eye(n))).tile == side


@pytest.mark.parametrize("shape", [(7, 30), (30, 7)])
def test_tiles_of_a_rectangle_are_as_wide_as_its_longer_side(shape, tmp_path):
    K = np.random.default_rng(0).standard_normal(shape)

    class Oblong(DenseOperator):
        def __init__(self):
            super().__init__(np.eye(2))
            self.shape, self.symmetric = shape, False

        def tile(self, rows, cols, out=None):
            out[...] = K[rows, cols]
            return out

    for tile, side in ((None, 30), (100, 30), (8, 8)):
        store = written(tmp_path / str(tile), Oblong(), tile=tile)
        assert store.tile == side
        np.testing.assert_array_equal(store.operator().to_dense(), K)
        assert store.verify(Oblong()) == len(store.tiles())


class TestVerification:
    @pytest.fixture
    def store(self, tmp_path):
        self.K = kernel_matrix(50)
        return written(tmp_path, DenseOperator(self.K), tile=10)

    @pytest.mark.parametrize("value", [np.nan, -np.inf])
    @pytest.mark.parametrize("place", [(3, 1), (2, 2)])
    def test_a_tile_that_is_not_finite(self, store, place, value):
        """With a right checksum: the kernel was so when it was written."""
        store.put(*place, torch.full((10, 10), value, dtype=torch.float64))
        with pytest.raises(StoreError, match=rf"1 of 15 .* first is \({place[0]}, {place[1]}"):
            store.verify()
        store.put(4, 4, torch.full((10, 10), value, dtype=torch.float64))
        with pytest.raises(StoreError, match="2 of 15 tiles"):
            store.verify(DenseOperator(self.K))

    def test_all_are_counted(self, store):
        for place in ((0, 0), (4, 0), (4, 4)):
            store._file(*place).unlink()
        with pytest.raises(StoreError, match=r"3 of 15 tiles .* first is \(0, 0\)"):
            store.verify()

    def test_as_many_samples_as_asked_for(self, store, monkeypatch):
        seen, read = [], TileStore.read
        monkeypatch.setattr(TileStore, "read", lambda s, *at: seen.append(at) or read(s, *at))
        for samples, count in ((0, 0), (1, 1), (4, 4), (15, 15), (99, 15)):
            seen.clear()
            assert store.verify(DenseOperator(self.K), samples=samples) == 15
            assert len(seen) == 15 + count
            assert len(set(seen[15:])) == count

    def test_the_seed_decides_which(self, store, monkeypatch):
        seen, read = [], TileStore.read
        monkeypatch.setattr(TileStore, "read", lambda s, *at: seen.append(at) or read(s, *at))
        found = []
        for seed in (0, 0, 1):
            seen.clear()
            store.verify(DenseOperator(self.K), samples=5, seed=seed)
            found.append(seen[15:])
        assert found[0] == found[1]
        assert len({tuple(f) for f in found}) == 2

    def test_blocks_anywhere_in_a_tile(self, store, monkeypatch):
        """Blocks are of 16 x 16 entries at a place of their own: in time every entry is seen."""
        monkeypatch.setattr(store_check, "_SIDE", 4)
        edited = self.K.copy()
        edited[37, 12] = edited[12, 37] = edited[37, 12] + 1e-3
        said = []
        for seed in range(40):
            try:
                store.verify(DenseOperator(edited), samples=15, seed=seed)
            except StoreError as error:
                said.append(str(error))
        assert 0 < len(said) < 40
        assert all("tile (3, 1)" in text for text in said)

    @pytest.mark.parametrize("sign", [-1, 1])
    def test_rounding_is_allowed(self, store, sign):
        """1e-9 of sqrt(K_ii K_jj) in float64, 1e-8 is another kernel."""
        store.verify(DenseOperator(self.K * (1 + sign * 3e-10)))
        with pytest.raises(StoreError, match="other entries"):
            store.verify(DenseOperator(self.K * (1 + sign * 3e-9)))


def test_opening_again_says_nothing(tmp_path):
    written(tmp_path, DenseOperator(np.eye(9)))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert TileStore.open(tmp_path).pending() == []
    assert said == []
