"""Where the time goes: each step of a fit against the limit that this run measures.

    python -m benchmarks.limit [--rows 4000]

Limits are the rates of the machine at hand in the same run: large products in float32 and float64
(torch's BLAS), the bandwidth of memory (``a = b + s c`` on arrays that no cache holds), the disk.
Each line gives the seconds of a step, those that its operations or bytes would take at the limit,
and the ratio; best of three. Writes ``benchmarks/results/limit-<processor>.json``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.timing import seconds
from kernreg import KernelOperator, KernelRegressor, nn
from kernreg.operators import PackedOperator, TileStore, write_store
from kernreg.solvers import Banded, Cholesky
from kernreg.wording import aligned

RESULTS = Path(__file__).parent / "results"
D = 784
_ORDER = 3000
_NUMBERS = 2**26


def best(action: Callable[[], Any], turns: int = 3) -> float:
    """Shortest of some runs."""
    return min(seconds(action) for _ in range(turns))


def processor() -> str:
    """Its name, from the system."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    found = re.search(r"model name\s*:\s*(.+)", text)
    return found[1] if found else "unknown"


def limits(folder: Path) -> dict[str, float]:
    """Operations a second by type, and bytes a second of memory and disk."""
    found = {}
    for name in ("float32", "float64"):
        A = torch.randn(_ORDER, _ORDER, dtype=getattr(torch, name))
        found[name] = 2 * _ORDER**3 / best(lambda A=A: A @ A)  # type: ignore[misc]
    a, b, c = torch.zeros(3, _NUMBERS, dtype=torch.float32)
    a += 1.0
    found["memory"] = 3 * 4 * _NUMBERS / best(lambda: torch.add(b, c, alpha=2.0, out=a))
    data = np.random.default_rng(0).bytes(2**28)

    def write() -> None:
        with (folder / "bytes").open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    found["disk"] = len(data) / best(write)
    return found


# What is done, its seconds, and what it takes at least, by the limit that holds it.
Step = tuple[str, float, dict[str, float]]


def steps(n: int, folder: Path) -> Iterator[Step]:
    """All of them, on random rows."""
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((n, D)).astype(np.float32)
    other = rng.standard_normal((n, D)).astype(np.float32)
    narrow = rng.standard_normal((n, 20))
    net = nn.mlp(depth=3)
    half = {"float32": n * n * D}
    X = torch.from_numpy(wide)
    yield "X @ X.T, all of it", best(lambda: X @ X.T), {"float32": 2 * n * n * D}
    out = np.empty((n, n), np.float32)
    nets = {
        "ReLU, depth 3": net,
        "ReLU, depth 10": nn.mlp(depth=10),
        "ReLU, depth 100": nn.mlp(depth=100),
        "Erf, depth 3": nn.mlp(depth=3, activation=nn.Erf()),
        "Tanh, depth 3": nn.mlp(depth=3, activation=nn.Tanh()),
    }
    for name, described in nets.items():
        K = KernelOperator(described, wide)
        yield f"Gram, {name}, d = {D}", best(lambda K=K: K.to_dense(out)), half  # type: ignore[misc]
    K = KernelOperator(nn.mlp(depth=100), wide, other)
    every = {"float32": 2 * n * n * D}
    yield f"Gram of two sets, depth 100, d = {D}", best(lambda: K.to_dense(out)), every
    whole = KernelOperator(net, narrow)
    dense = np.empty((n, n))
    entries = {"float64": n * n * 20.0}
    yield "Gram, ReLU, depth 3, d = 20, float64", best(lambda: whole.to_dense(dense)), entries
    yield from solving(n, narrow, net)
    yield from keeping(n, narrow, net, folder)
    y = rng.standard_normal(n)
    model = KernelRegressor(net, alpha=1e-2).fit(narrow, y)
    some = rng.standard_normal((1000, 20))
    least = {"float64": 1000 * n * 2 * 21.0}
    yield "predict of 1,000 rows", best(lambda: model.predict(some)), least


def solving(n: int, X: np.ndarray, net: nn.Layer) -> Iterator[Step]:
    """Factors, solutions, refinement and leave-one-out, the evaluation of entries apart."""
    rng = np.random.default_rng(1)
    Y = rng.standard_normal((n, 10))
    solver = Cholesky(refine=False)
    for dtype, size in (("float32", 4), ("float64", 8)):
        K = KernelOperator(net, X, dtype=dtype)
        entries = best(lambda K=K: K.to_dense(), 2)  # type: ignore[misc]
        ridge = 1e-2 * float(np.mean(K.diagonal()))
        taken = best(lambda K=K, r=ridge: solver.init(K, r))  # type: ignore[misc]
        cubic = {dtype: n**3 / 3}
        yield f"factor, {dtype}, and half a Gram matrix", taken, cubic
        yield f"factor, {dtype}, without it", max(0.0, taken - entries / 2), cubic
        state = solver.init(K, ridge)
        twice = {dtype: 4.0 * n * n / 2 * 10, "memory": n * n * size}
        solve = best(lambda s=state: solver.solve(s, Y))  # type: ignore[misc]
        yield f"solution for 10 outputs, {dtype}", solve, twice
    yield "diagonal of the inverse, float64", seconds(state.inverse_diagonal), {"float64": n**3 / 3}
    K = KernelOperator(net, X, dtype="float32")
    refining = Cholesky()
    state = refining.init(K, ridge)
    products = {"float64": 3 * (n * n * 20.0 + 2.0 * n * n * 10)}
    yield "refined solution, float32", best(lambda: refining.solve(state, Y), 2), products
    band, K = Banded(), KernelOperator(net, X)
    made = band.init(K)
    taken = best(lambda: band.init(K), 2) - best(lambda: K.to_dense(), 2)
    yield "reduction to a band", taken, {"float64": 8 / 3 * n**3}
    path = best(lambda: band.path(made, Y, np.logspace(-4, 0, 13)), 2)
    yield "13 ridges behind it", path, {"float64": 13 * 192.0 * n * n}


def keeping(n: int, X: np.ndarray, net: nn.Layer, folder: Path) -> Iterator[Step]:
    """Products with tiles that are kept or evaluated anew, and tiles on disk."""
    V = np.random.default_rng(2).standard_normal((n, 1)).astype(np.float32)
    K = KernelOperator(net, X, dtype="float32")
    packed = PackedOperator(K)
    yield "product, tiles kept, float32", best(lambda: packed @ V, 5), {"memory": 2.0 * n * n}
    yield "product, tiles anew, float32", best(lambda: K @ V), {"float32": n * n * 21.0}
    where = folder / "store"
    stored = 2.0 * n * n
    yield "store written", seconds(lambda: write_store(where, K)), {"disk": stored}
    operator = TileStore.open(where).operator()
    yield "product, tiles of the store", best(lambda: operator @ V), {"memory": stored}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--rows", type=int, default=4000)
    options = parser.parse_args()
    lines = []
    with tempfile.TemporaryDirectory(dir=".") as scratch:
        rates = limits(Path(scratch))
        for name, taken, least in steps(options.rows, Path(scratch)):
            ideal, bound = max((count / rates[kind], kind) for kind, count in least.items())
            lines.append({"step": name, "seconds": taken, "limit": bound, "at_the_limit": ideal})
            print(f"{name:45}{taken:10.4f} s{ideal:10.4f}{taken / ideal:8.1f}", flush=True)
    header = {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "rows": options.rows,
        "rates": rates,
    }
    slug = re.sub(r"[^a-z0-9]+", "-", processor().lower()).strip("-")
    path = RESULTS / f"limit-{slug}.json"
    path.write_text(json.dumps(header | {"steps": lines}, indent=1) + "\n")
    rows = [
        (s["step"], f"{s['seconds']:.4f}", s["limit"], f"{s['seconds'] / s['at_the_limit']:.1f}")
        for s in lines
    ]
    print("\n".join(aligned(("step", "seconds", "limit", "times it"), rows)))


if __name__ == "__main__":
    main()
