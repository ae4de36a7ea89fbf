"""Hashes of what kernreg computes on a fixed corpus, to show that a change left every bit alone.

``python -m benchmarks.same_bits`` compares with ``benchmarks/results/same_bits.json`` and names
what differs; ``--write`` makes that file. Bits depend on processor, libraries and threads: both
runs belong on one machine, whose instruction set and versions stand in the file. Three minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "KERNREG_NUM_THREADS": "1", "TRITON_INTERPRET": "1"}

import numpy as np
import torch

import kernreg
from kernreg import KernelClassifier, KernelRegressor, nn
from kernreg.exceptions import KernregError
from kernreg.operators import KernelOperator, PackedOperator, TileStore
from kernreg.solvers import (
    PCG,
    Banded,
    Cholesky,
    Eigh,
    LowPrecisionCholesky,
    Nystrom,
    OutOfCoreCholesky,
    Restricted,
    RPCholesky,
    SketchAndProject,
)
from kernreg.theory import criticality, eigenlearning, finite_width, inverse
from tests.differential.networks import random_case

FILE = Path(__file__).parent / "results" / "same_bits.json"
KERNELS = ("nngp", "ntk")
SEEDS = range(1, 101)
DEEP = {
    "mlp": nn.mlp(depth=3, b_std=0.1),
    "profile": nn.mlp(depth=40, activation=nn.Erf(), b_std=0.2),
    "tanh": nn.serial(nn.Dense(1.2, 0.1), nn.Tanh(), nn.Dense(1.2, 0.1)),
    "elu": nn.serial(nn.Dense(), nn.Elu(), nn.Dense()),
    "residual": nn.serial(
        nn.Dense(), nn.repeat(nn.residual(nn.serial(nn.Gelu(), nn.Dense(0.5, 0.1))), 9)
    ),
}

Case = tuple[str, Callable[[], Any]]


def digest(value: Any) -> str:
    """Of arrays, and of what prints in full."""
    found = hashlib.sha256()

    def add(v: Any) -> None:
        if isinstance(v, torch.Tensor):
            v = v.cpu().numpy()
        if isinstance(v, np.ndarray) and v.dtype != object:
            found.update(f"{v.dtype}{v.shape}".encode())
            found.update(np.ascontiguousarray(v).tobytes())
        elif isinstance(v, nn.Layer):
            found.update(repr(v).encode())
        elif dataclasses.is_dataclass(v):
            add([type(v).__name__, *(getattr(v, f.name) for f in dataclasses.fields(v))])
        elif isinstance(v, dict):
            add(sorted(v.items()))
        elif isinstance(v, (list, tuple)):
            found.update(f"{len(v)}".encode())
            for part in v:
                add(part)
        elif isinstance(v, float | np.floating):
            found.update(float(v).hex().encode())
        else:
            found.update(repr(v).encode())

    add(value)
    return found.hexdigest()[:16]


def rows(n: int, d: int = 7, seed: int = 0) -> np.ndarray:
    X = np.random.default_rng(seed).standard_normal((n, d))
    X[1], X[2] = X[0], -2 * X[0]
    return X


def grams() -> Iterator[Case]:
    """Every backend on random networks, and on more rows for a few."""

    def entries(net: nn.Layer, X: np.ndarray, backend: str, dtype: str) -> Any:
        return kernreg.gram(net, X, kernel=KERNELS, backend=backend, dtype=dtype)

    for seed in SEEDS:
        case = random_case(seed)
        for backend in ("cpu", "reference", "triton"):
            for dtype in ("float64", "float32"):
                name = f"gram/{backend}/{dtype}/{seed}"
                yield name, lambda c=case, b=backend, t=dtype: entries(c.net, c.X, b, t)
    for name, net in DEEP.items():
        for dtype in ("float64", "float32"):
            yield f"gram/cpu/{dtype}/{name}", lambda n=net, t=dtype: entries(n, rows(300), "cpu", t)
        yield f"cross/{name}", lambda n=net: kernreg.gram(n, rows(70), rows(50, seed=1))
        yield f"text/{name}", lambda n=net: str(n.program())


def operators() -> Iterator[Case]:
    X, V = rows(500), np.random.default_rng(2).standard_normal((500, 3))
    net = DEEP["mlp"]
    yield "operator/kernel", lambda: KernelOperator(net, X) @ V
    yield "operator/float32", lambda: KernelOperator(net, X.astype("f4")) @ V.astype("f4")
    yield "operator/packed", lambda: PackedOperator(KernelOperator(net, X)) @ V

    def stored() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            operator = KernelOperator(net, X)
            store = TileStore.create(Path(folder) / "s", operator, tile=128)
            store.write(operator)
            return store.operator() @ V

    yield "operator/stored", stored


PROBLEMS = {
    "plain": (rows(400), 1e-3, 1),
    "many outputs": (rows(300, 3, 1), 1e-5, 4),
    "float32": (rows(400, 12, 2).astype("f4"), 1e-2, 1),
}


def solvers() -> Iterator[Case]:
    """Every solver, storage and preconditioner on three problems."""
    choices: dict[str, Callable[[], Any]] = {
        "cholesky": Cholesky,
        "banded": Banded,
        "eigh": Eigh,
        "out of core": lambda: OutOfCoreCholesky(tempfile.mkdtemp()),
        "restricted": lambda: Restricted(60),
        "sketch": SketchAndProject,
        "auto": lambda: "auto",
    }
    for storage in ("auto", "recomputed", "packed"):
        choices[f"pcg {storage}"] = lambda s=storage: PCG(RPCholesky(40), storage=s)
    built = {"nystrom": Nystrom(40), "low precision": LowPrecisionCholesky(), "none": None}
    for name, preconditioner in built.items():
        choices[f"pcg {name}"] = lambda p=preconditioner: PCG(p)

    def fitted(make: Callable[[], Any], problem: str) -> Any:
        X, alpha, outputs = PROBLEMS[problem]
        Y = np.sin(X @ np.random.default_rng(3).standard_normal((X.shape[1], outputs)))
        Y = Y.astype(X.dtype)
        solver = make()
        model = KernelRegressor(DEEP["mlp"], alpha=alpha, solver=solver)
        model.fit(X, Y if outputs > 1 else Y[:, 0])
        if isinstance(solver, OutOfCoreCholesky):
            shutil.rmtree(solver.folder)
        solution = model.solution_
        return model.dual_coef_, model.predict(X[:50] + 0.1), solution.status, solution.stats

    for problem in PROBLEMS:
        for name, make in choices.items():
            yield f"solver/{problem}/{name}", lambda m=make, p=problem: of_fit(fitted(m, p))


def of_fit(found: tuple[Any, ...]) -> Any:
    """Without what depends on the clock."""
    coefficients, predictions, status, stats = found
    return coefficients, predictions, status.name, stats.iterations, stats.residuals


def models() -> Iterator[Case]:
    """Choices of alpha, and what a loaded file predicts."""
    X = rows(200)
    y = np.sin(X[:, 0])
    labels = np.array(["no", "perhaps", "yes"])[np.argsort(X, axis=1)[:, 0] % 3]

    def kept(model: Any, target: np.ndarray) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            model.fit(X, target).save(Path(folder) / "m")
            loaded = kernreg.load(Path(folder) / "m")
            return loaded.alpha_, loaded.predict(X), repr(loaded.network_)

    yield "model/regressor", lambda: kept(KernelRegressor(DEEP["mlp"]), y)
    yield "model/nngp", lambda: kept(KernelRegressor(DEEP["tanh"], kernel="nngp"), y)
    yield "model/classifier", lambda: kept(KernelClassifier(DEEP["residual"]), labels)
    weights = np.linspace(0.5, 2.0, 200)
    yield "model/weights", lambda: KernelRegressor(alpha=[1e-3, 1e-1]).fit(X, y, weights).dual_coef_
    yield "model/explain", lambda: KernelRegressor(solver="cholesky").fit(X, y).n_features_in_


def theory() -> Iterator[Case]:
    for name, net in DEEP.items():
        yield f"theory/report/{name}", lambda n=net: criticality.report(n)
        yield f"theory/tune/{name}", lambda n=net: repr(criticality.tune(n))
        yield f"theory/series/{name}", lambda n=net: inverse.kernel_coefficients(n, degree=12)
    normed = nn.serial(nn.LayerNorm(), nn.Relu(), nn.Dropout(0.8), nn.Dense(1.3, 0.2))
    normed = nn.serial(nn.Dense(), nn.repeat(normed, 3))
    yield "theory/report/normed", lambda: criticality.report(normed)
    yield "theory/tune/normed", lambda: repr(criticality.tune(normed))
    yield "theory/series/normed", lambda: inverse.kernel_coefficients(normed)
    for fn in (nn.Relu(), nn.Erf(), nn.Gelu(), nn.Tanh(), nn.Sin()):
        yield f"theory/critical/{fn!r}", lambda f=fn: criticality.critical(f)
    X = rows(6) / 2
    levels = eigenlearning.sphere_spectrum(DEEP["mlp"], 6, 8)
    yield "theory/spectrum", lambda: (levels.values, levels.multiplicity)
    yield "theory/kappa", lambda: eigenlearning.solve_kappa(levels, 50, 1e-3)
    yield "theory/one input", lambda: finite_width.from_network(nn.mlp(4, b_std=0.1), X[3:])
    yield (
        "theory/two inputs",
        lambda: finite_width.two_inputs(
            nn.Gelu(), 0.1, 1.4, 1.0, 1.0, 3, K1=[[1.0, 0.4], [0.4, 0.8]]
        ),
    )


def outcome(work: Callable[[], Any]) -> str:
    """The digest, or the error that kernreg says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return digest(work())
        except KernregError as error:
            return digest(f"{type(error).__name__}: {error}")


def machine() -> dict[str, Any]:
    from kernreg import _core

    return {
        "isa": _core.instruction_sets()[0],
        "numpy": np.__version__,
        "torch": torch.__version__,
        "python": sys.version.split()[0],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="make the file")
    parser.add_argument("--only", default="", help="cases whose names begin so")
    options = parser.parse_args()
    cases = [c for part in (grams, operators, solvers, models, theory) for c in part()]
    found = {}
    for name, work in cases:
        if name.startswith(options.only):
            found[name] = outcome(work)
            print(f"{found[name]} {name}", flush=True)
    if options.write:
        FILE.write_text(json.dumps({"machine": machine(), "hashes": found}, indent=1) + "\n")
        return 0
    kept = json.loads(FILE.read_text())
    if kept["machine"] != machine():
        print(f"another machine: {kept['machine']} then, {machine()} now")
    changed = [name for name in found if kept["hashes"].get(name) != found[name]]
    missing = [n for n in kept["hashes"] if n.startswith(options.only) and n not in found]
    print(f"{len(found)} cases, changed: {changed or 'none'}, missing: {missing or 'none'}")
    return int(bool(changed or missing))


if __name__ == "__main__":
    sys.exit(main())
