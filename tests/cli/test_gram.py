"""``kernreg gram``."""

import numpy as np
import pytest

from kernreg import KernelOperator, nn
from kernreg.baseline.scaling import Scaler
from kernreg.datasets import load
from kernreg.operators import TileStore

pytest.importorskip("zarr")


def operator(tables, scaling="standard", network=None, **options):
    X = load(tables.prices).X
    X = Scaler.fit(X, scaling).transform(X)
    return KernelOperator(network or nn.mlp(depth=3), X, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_is_the_matrix_of_scaled_rows(dtype, run, tables, tmp_path):
    options = ["--network", "mlp(depth=2, activation=Erf())", "--kernel", "nngp"]
    options += ["--scaling", "common", "--dtype", dtype, "--tile", 16]
    result = run("gram", tables.prices, *options, "--out", tmp_path / "store")
    assert result.exit_code == 0
    assert "Wrote 6 tiles of the nngp of 40 rows of prices to" in " ".join(result.stdout.split())
    network = nn.mlp(depth=2, activation=nn.Erf())
    entries = "float64" if dtype == "float64" else "float32"
    expected = operator(tables, "common", network, kernel="nngp", dtype=entries).to_dense()
    found = TileStore.open(tmp_path / "store").operator().to_dense()
    # Tiles and the whole sum inner products in orders of their own; then bfloat16 rounds.
    rounding = 2.0**-8 if dtype == "bfloat16" else 0
    bound = (100 * np.finfo(entries).eps + rounding) * np.sqrt(
        np.outer(expected.diagonal(), expected.diagonal())
    )
    assert (np.abs(found - expected) <= bound).all()


def test_goes_on_where_it_stopped(run, tables, tmp_path):
    store = tmp_path / "store"
    assert run("gram", tables.prices, "--out", store, "--tile", 10).exit_code == 0
    before = TileStore.open(store).operator().to_dense()
    (store / "c" / "3" / "2").unlink()
    (store / "c" / "1" / "1").write_bytes(b"half a tile")
    result = run("gram", tables.prices, "--out", store)
    words = " ".join(result.stdout.split())
    assert words.startswith("Wrote 2 tiles")
    assert words.endswith("; 8 were there.")
    assert np.array_equal(TileStore.open(store).operator().to_dense(), before)


def test_verify(run, refused, tables, tmp_path):
    store = tmp_path / "store"
    assert "There is no tile store" in refused("gram", tables.prices, "--out", store, "--verify")
    assert not store.exists()
    run("gram", tables.prices, "--out", store, "--tile", 10)
    result = run("gram", tables.prices, "--out", store, "--verify")
    assert result.exit_code == 0
    assert "checked: all are right." in " ".join(result.stdout.split())
    (store / "c" / "2" / "0").unlink()
    message = refused("gram", tables.prices, "--out", store, "--verify")
    assert "1 of 10 tiles are missing or damaged, the first is (2, 0)" in message
    assert not (store / "c" / "2" / "0").exists()


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_the_type_of_a_store_need_not_be_repeated(dtype, run, tables, tmp_path):
    command = ["gram", tables.prices, "--tile", 16, "--out", tmp_path / "store"]
    assert run(*command, "--dtype", dtype).exit_code == 0
    result = run(*command, "--verify")
    assert "6 tiles of" in " ".join(result.stdout.split())
    (tmp_path / "store" / "c" / "1" / "0").unlink()
    assert run(*command).exit_code == 0
    assert TileStore.open(tmp_path / "store").dtype == dtype
    assert not TileStore.open(tmp_path / "store").pending()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--network", "mlp(depth=2)"], "another network or other data"),
        (["--kernel", "nngp"], "another network or other data"),
        (["--scaling", "common"], "another network or other data"),
        (["--dtype", "float64"], "dtype float32, not float64"),
        (["--tile", "12"], "tile 10, not 12"),
    ],
)
@pytest.mark.parametrize("verify", [[], ["--verify"]])
def test_the_store_of_something_else(options, message, verify, run, refused, tables, tmp_path):
    run("gram", tables.prices, "--out", tmp_path, "--tile", 10)
    assert message in refused("gram", tables.prices, *options, *verify, "--out", tmp_path)


def test_a_store_serves_solves(run, tables, tmp_path):
    from kernreg.solvers import Cholesky

    run("gram", tables.prices, "--out", tmp_path, "--tile", 16)
    exact = operator(tables, dtype="float32")
    y = load(tables.prices).y
    values = [
        Cholesky().solve(Cholesky().init(matrix, 0.5), y).value
        for matrix in (exact, TileStore.open(tmp_path).operator(exact=exact))
    ]
    # Both are refined to the residual of a float64 solve with the same float64 entries.
    K = operator(tables, dtype="float64").to_dense()
    bound = 64 * 2.0**-52 * np.linalg.cond(K + 0.5 * np.eye(len(K)))
    np.testing.assert_allclose(*values, atol=bound * np.abs(values[0]).max())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kernel", "rbf"], "--kernel is 'rbf'; expected ntk or nngp"),
        (["--scaling", "log"], "--scaling is 'log'; expected standard or common"),
        (["--dtype", "float16"], "--dtype is 'float16'; expected float32 or float64 or bfloat16"),
        (["--network", "Oracle()"], "Unknown layer 'Oracle'"),
    ],
)
def test_bad_arguments(options, message, refused, tables, empty):
    assert message in refused("gram", tables.prices, *options, "--out", empty / "store")


def test_something_else_in_its_place(refused, tables, tmp_path):
    (tmp_path / "file").touch()
    assert "cannot be written" in refused("gram", tables.prices, "--out", tmp_path / "file")
    assert "is no tile store and not empty" in refused("gram", tables.prices, "--out", tmp_path)
