"""Prove the GPU kernels and time them: ``PYTHONPATH=. python benchmarks/gpu.py [--quick]``.

Needs a CUDA GPU, torch and triton, no network and nothing installed. Every template and precision
is checked against float64 on the CPU first; what fails is not timed, and the exit code says so.
Times stand beside the limit of the arithmetic at rates that are measured on the same GPU, and
beside torch, torch.compile, KeOps, JAX and neural-tangents where they can be imported. Writes JSON
after every stage.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import kernreg
from kernreg import KernelOperator, KernelRegressor, nn
from kernreg.backends.triton.tuning import PRECISIONS
from kernreg.solvers.cholesky.in_memory import Cholesky

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.problems import B_STD, W_STD, network, rows, torch_relu_ntk

DEVICE = "cuda"
# Error bounds relative to sqrt(K_ii K_jj): the contract, and what the rougher policies say.
BOUNDS = {"ieee": 5e-6, "tf32x3": 5e-6, "bf16x3": 5e-5, "tf32": 5e-3}
NEAR_BOUND = 2e-5
# Matrix products that a policy takes for one, and float32 instructions of a ReLU layer per entry,
# counted in the machine code (benchmarks/compile.py).
PRODUCTS = {"ieee": 1, "tf32x3": 3, "tf32": 1, "bf16x3": 3}
LAYER = 29
# Rows of the block that peers without tiles get.
BLOCK = 8192


def seconds(run: Callable[[], Any], repeat: int = 5) -> float:
    """Median time of a run on the GPU, after one that warms up."""
    run()
    times = []
    for _ in range(repeat):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / 1000)
    return statistics.median(times)


def wall(run: Callable[[], Any], repeat: int = 3) -> float:
    """Median time of a run that ends when its work does, after one that warms up."""
    run()
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def peer(measure: Callable[[], float], scale: float = 1.0) -> dict[str, Any]:
    """Time of other code, ``scale`` times what is measured; None and the reason if it fails."""
    try:
        return {"seconds": scale * measure()}
    except Exception as error:
        return {"seconds": None, "failed": repr(error)}


def finite(value: Any) -> Any:
    """The same with None for numbers that JSON does not know."""
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def hostile(n: int, d: int) -> np.ndarray:
    """Duplicates, near-duplicates, parallel, anti-parallel, tiny, huge and zero rows."""
    X = np.random.default_rng(1).standard_normal((n, d)).astype(np.float32)
    X[1], X[3], X[5], X[7] = X[0], X[2] + 1e-4 * X[4], X[4] + 1e-6 * X[2], 3 * X[6]
    X[8], X[10], X[12], X[14] = -X[9], 1e-3 * X[11], 1e3 * X[13], 0
    return X


def ceilings(quick: bool) -> dict[str, float]:
    """Rates of this GPU: bytes copied, and operations of matrix products."""
    size = 4096 if quick else 8192
    a = torch.randn(size, size, device=DEVICE)
    source = torch.randn(2**28, device=DEVICE)
    target = torch.empty_like(source)
    found = {"copy_bytes": 2 * source.nbytes / seconds(lambda: target.copy_(source))}
    for name, precision in (("float32", "highest"), ("tf32", "high")):
        torch.set_float32_matmul_precision(precision)
        found[name] = 2 * size**3 / seconds(lambda: a @ a)
    torch.set_float32_matmul_precision("highest")
    for name, kind in (("bf16", torch.bfloat16), ("float64", torch.float64)):
        b = a.to(kind)
        found[name] = 2 * size**3 / seconds(lambda b=b: b @ b)
    return found


def limit(d: int, depth: int, precision: str, rates: dict[str, float]) -> float:
    """Seconds per entry: its inner product on the matrix units, then its layers."""
    unit = {"ieee": "float32", "bf16x3": "bf16"}.get(precision, "tf32")
    product = PRODUCTS[precision] * 2 * d / rates[unit]
    return product + 2 * LAYER * depth / rates["float32"]


def scaled_error(got: np.ndarray, want: np.ndarray, s1: np.ndarray, s2: np.ndarray) -> float:
    scale = np.sqrt(np.outer(s1, s2))
    error = np.abs(got - want) / np.where(scale > 0, scale, 1.0)
    return float(np.max(error)) if np.isfinite(got).all() else float("inf")


def product_error(
    product: np.ndarray, exact: np.ndarray, V: np.ndarray, s1: np.ndarray, s2: np.ndarray
) -> float:
    """Of ``K @ V``, relative to what errors of the entries may add up to."""
    scale = np.sqrt(s1)[:, None] * (np.sqrt(s2) @ np.abs(V))
    error = float(np.max(np.abs(product - exact @ V) / np.where(scale > 0, scale, 1.0)))
    return error if math.isfinite(error) else float("inf")


def error_bound(kind: str, precision: str) -> float:
    """What entries under a policy, or in float64, may be off by on ordinary or hostile rows."""
    if precision == "float64":
        return 1e-10
    return max(BOUNDS[precision], NEAR_BOUND) if kind == "hostile" else BOUNDS[precision]


def arithmetic(precision: str) -> dict[str, str]:
    """Options of an operator for a policy in float32, or for float64."""
    wide = precision == "float64"
    return (
        {"dtype": "float64", "precision": "tf32x3"}
        if wide
        else {
            "dtype": "float32",
            "precision": precision,
        }
    )


def checks(quick: bool) -> list[dict[str, Any]]:
    """Every template and precision against float64, on ordinary and on hostile rows."""
    n, d = (150, 23) if quick else (421, 57)
    networks = {
        "relu 3": network("relu", 3),
        "erf 3": network("erf", 3),
        "gelu 2": nn.mlp(2, nn.Gelu(), b_std=0.1),
        "residual": nn.serial(
            nn.Dense(b_std=0.1),
            nn.repeat(nn.residual(nn.serial(nn.Relu(), nn.Dense(b_std=0.1))), 3),
        ),
        "dropout": nn.serial(nn.Dense(b_std=0.1), nn.Relu(), nn.Dropout(0.7), nn.Dense()),
        "normalised": nn.serial(nn.Dense(b_std=0.1), nn.LayerNorm(), nn.Relu(), nn.Dense()),
        "tanh 1": nn.mlp(1, nn.Tanh(), b_std=0.1),
    }
    found = []
    for name, net in networks.items():
        series = name.startswith("tanh")
        kinds = {"ordinary": rows(40 if series else n, d)}
        if not series:
            kinds["hostile"] = hostile(n, d)
        policies = (*PRECISIONS, "float64") if name == "relu 3" else ("tf32x3", "float64")
        for kind, X in kinds.items():
            for precision in policies:
                found += _guarded(_check, name, net, kind, X, precision)
        if not series:
            for precision in ("float32", "float64"):
                found += _guarded(_gradients, name, net, "ordinary", rows(n, d), precision)
    return found


def _guarded(check: Callable[..., list[dict]], *case: Any) -> list[dict[str, Any]]:
    """The checks of a case; an error is a check that failed."""
    try:
        return check(*case)
    except Exception as error:
        name, _, kind, _, precision = case
        what = {"network": name, "rows": kind, "precision": precision, "error": repr(error)}
        return [what | {"passed": False}]


def _check(name: str, net: nn.Layer, kind: str, X: np.ndarray, precision: str) -> list[dict]:
    options = arithmetic(precision)
    Y = X[: len(X) // 3] * np.float32(1.5)
    bound = error_bound(kind, precision)
    found = []
    for template, other in (("gram, symmetric", None), ("gram", Y)):
        right = X if other is None else other
        want = kernreg.gram(net, X, other, ("nngp", "ntk"), dtype="float64", backend="reference")
        given = None if other is None else torch.from_numpy(other)
        got = kernreg.gram(
            net, torch.from_numpy(X).to(DEVICE), given, ("nngp", "ntk"), backend="triton", **options
        )
        V = np.random.default_rng(2).standard_normal((len(right), 10))
        for kernel in ("nngp", "ntk"):
            s1, s2 = kernreg.diag(net, X, kernel), kernreg.diag(net, right, kernel)
            exact, values = getattr(want, kernel), getattr(got, kernel).cpu().numpy()
            error = scaled_error(values, exact, s1, s2)
            if other is None and not np.array_equal(values, values.T):
                error = float("inf")
            found.append((template, kernel, error))
            operator = KernelOperator(
                net, X, other, kernel, device=DEVICE, backend="triton", **options
            )
            error = product_error(operator @ V, exact, V, s1, s2)
            found.append((template.replace("gram", "K @ V"), kernel, error))
    return [
        {
            "network": name,
            "rows": kind,
            "precision": precision,
            "template": template,
            "kernel": kernel,
            "error": error,
            "bound": bound,
            "passed": bool(error <= bound),
        }
        for template, kernel, error in found
    ]


def _gradients(name: str, net: nn.Layer, kind: str, X: np.ndarray, precision: str) -> list[dict]:
    """Gradients of products by the rows, as shares of the largest, beside the CPU in float64."""
    bound, found = {"float32": 1e-4, "float64": 1e-9}[precision], []
    V = np.random.default_rng(3).standard_normal((len(X), 3))
    for kernel in ("nngp", "ntk"):

        def gradient(device: str, dtype: torch.dtype, kernel: str = kernel) -> np.ndarray:
            A = torch.from_numpy(X).to(device, dtype).requires_grad_()
            columns = torch.from_numpy(V).to(device, dtype)
            (g,) = torch.autograd.grad((KernelOperator(net, A, kernel=kernel) @ columns).sum(), A)
            return g.double().cpu().numpy()

        want = gradient("cpu", torch.float64)
        error = float(np.abs(gradient(DEVICE, getattr(torch, precision)) - want).max())
        error /= float(np.abs(want).max())
        what = {"network": name, "rows": kind, "precision": precision, "kernel": kernel}
        what |= {"template": "gradient of K @ V", "error": error, "bound": bound}
        found.append(what | {"passed": bool(error <= bound)})
    return found


def times(quick: bool, rates: dict[str, float], sound: set[str]) -> list[dict[str, Any]]:
    """Gram matrices and products, beside the limit and beside torch."""
    found: list[dict[str, Any]] = []
    n, m = (10_000, 30_000) if quick else (50_000, 200_000)
    compiled = torch.compile(torch_relu_ntk)
    for precision in [p for p in PRECISIONS if p in sound]:
        for d, depth in ((784, 3), (100, 3), (100, 10)):
            found += _gram(n, d, depth, precision, rates, compiled)
        found += _products(m, precision, rates, compiled)
    return found


def _operators(
    X: torch.Tensor, depth: int, precision: str
) -> tuple[KernelOperator, KernelOperator]:
    """The same matrix as a symmetric one and as a rectangular one."""
    options = {"dtype": "float32", "backend": "triton", "precision": precision, "exact": True}
    net = network("relu", depth)
    return KernelOperator(net, X, **options), KernelOperator(net, X, X, **options)


def _measured(
    entry: dict[str, Any],
    run: Callable[[KernelOperator], Any],
    operators: tuple[KernelOperator, KernelOperator],
    per_entry: float,
    tile: Callable[[Any], Any],
    compiled: Any,
) -> list[dict[str, Any]]:
    """Work on half and on the whole matrix beside the limit, and peers on a block of it."""
    n, work = entry["n"], entry["work"]
    spent, whole = (seconds(lambda o=o: run(o), 3) for o in operators)
    half = {**entry, "work": f"{work}, symmetric", "seconds": spent, "limit": n * n / 2 * per_entry}
    found = [half, {**entry, "seconds": whole, "limit": n * n * per_entry}]
    for row in found:
        row["share"] = row["limit"] / row["seconds"]
    half["symmetric_gain"] = whole / spent
    if entry["precision"] == "tf32x3":
        scale = (n / min(n, BLOCK)) ** 2
        for name, kernel in (("torch", torch_relu_ntk), ("torch.compile", compiled)):
            taken = peer(lambda kernel=kernel: seconds(lambda: tile(kernel), 3), scale)
            found.append({**entry, "work": f"{name}, {work}", **taken})
    return found


def _gram(
    n: int, d: int, depth: int, precision: str, rates: dict[str, float], compiled: Any
) -> list[dict[str, Any]]:
    X, out = torch.from_numpy(rows(n, d)).to(DEVICE), torch.empty(n, n, device=DEVICE)
    entry = {"work": "gram", "n": n, "d": d, "depth": depth, "precision": precision}
    found = _measured(
        entry,
        lambda operator: operator.to_dense(out),
        _operators(X, depth, precision),
        limit(d, depth, precision, rates),
        lambda kernel: kernel(X[:BLOCK], depth),
        compiled,
    )
    return found + (_jax(X[:BLOCK], entry) if precision == "tf32x3" else [])


def _products(
    n: int, precision: str, rates: dict[str, float], compiled: Any
) -> list[dict[str, Any]]:
    d, depth, t = 100, 3, 10
    X, V = torch.from_numpy(rows(n, d)).to(DEVICE), torch.randn(n, t, device=DEVICE)
    entry = {"work": "K @ V", "n": n, "d": d, "depth": depth, "precision": precision, "columns": t}
    found = _measured(
        entry,
        lambda operator: operator @ V,
        _operators(X, depth, precision),
        limit(d, depth, precision, rates) + 2 * t / rates["float32"],
        lambda kernel: kernel(X[:BLOCK], depth) @ V[:BLOCK],
        compiled,
    )
    return found + (_keops(X, V, entry) if precision == "tf32x3" else [])


def _keops(X: torch.Tensor, V: torch.Tensor, entry: dict[str, Any]) -> list[dict]:
    """KeOps at depth 1: it writes nested formulas out, which grows exponentially with depth."""
    if importlib.util.find_spec("pykeops") is None:
        return []
    from pykeops.torch import LazyTensor

    U = X / X.norm(dim=1, keepdim=True)
    rho = (LazyTensor(U[:, None, :]) * LazyTensor(U[None, :, :])).sum(-1).clamp(-1.0, 1.0)
    angle = torch.pi - rho.acos()
    kernel = ((1 - rho * rho).sqrt() + 2 * angle * rho) / (2 * torch.pi)
    taken = peer(lambda: seconds(lambda: kernel @ V, 3))
    return [{**entry, "depth": 1, "work": "KeOps, K @ V", **taken}]


def _jax(X: torch.Tensor, entry: dict[str, Any]) -> list[dict]:
    """The recursion compiled by JAX, and neural-tangents, on a block of a Gram matrix."""
    # Otherwise JAX takes most of the memory of the GPU at its first use.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    depth, scale, found = entry["depth"], (entry["n"] / len(X)) ** 2, []

    def measure(make: Callable[[Any], Callable[[Any], Any]]) -> float:
        import jax

        if DEVICE != "cpu" and jax.default_backend() != "gpu":
            raise RuntimeError(f"JAX computes on {jax.default_backend()}, not on a GPU")
        data, run = jax.numpy.asarray(X.cpu().numpy()), make(jax)
        return wall(lambda: jax.block_until_ready(run(data)))

    def plain(jax: Any) -> Callable[[Any], Any]:
        return jax.jit(lambda data: torch_relu_ntk(data, depth, jax.numpy))

    def tangents(jax: Any) -> Callable[[Any], Any]:
        from benchmarks.peers_worker import kernel_fn

        kernel = kernel_fn("relu", depth, W_STD, B_STD)
        return lambda data: kernel(data, None, get="ntk")

    for name, module, make in (
        ("JAX", "jax", plain),
        ("neural-tangents", "neural_tangents", tangents),
    ):
        if importlib.util.find_spec(module):
            taken = peer(lambda make=make: measure(make), scale)
            found.append({**entry, "work": f"{name}, gram", **taken})
    return found


def solves(quick: bool) -> list[dict[str, Any]]:
    """Kernel ridge regression end to end, and the mixed-precision factor."""
    n, d = (5_000, 50) if quick else (40_000, 100)
    X = rows(n, d)
    y = np.sin(X[:, :10]).astype(np.float32)
    net = network("relu", 3)
    found = []
    for precision in ("full", "mixed"):
        model = KernelRegressor(
            net, alpha=1e-2, device=DEVICE, solver=Cholesky(block=2048, precision=precision)
        )
        torch.cuda.reset_peak_memory_stats()
        begin = time.perf_counter()
        model.fit(X, y)
        spent = time.perf_counter() - begin
        found.append({
            "work": f"kernel ridge, {precision}",
            "n": n,
            "seconds": spent,
            "status": model.solution_.status.name,
            "residuals": list(model.solution_.stats.residuals),
            "peak_numbers": torch.cuda.max_memory_allocated() / 4 / n**2,
        })  # fmt: skip
    return found


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for name in ("triton", "jax", "neural_tangents", "pykeops", "numpy"):
        if importlib.util.find_spec(name):
            found[name] = str(getattr(__import__(name), "__version__", "?"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, about 90 seconds")
    parser.add_argument("--out", type=Path, help="folder of the JSON; default: $OUT or results/")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("benchmarks/gpu.py needs a CUDA GPU; torch sees none.")
    started = time.perf_counter()
    report: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "device": torch.cuda.get_device_name(),
        "memory": torch.cuda.get_device_properties(0).total_memory,
        "versions": versions(),
        "quick": options.quick,
    }
    folder = options.out or Path(os.environ.get("OUT") or Path(__file__).parent / "results")
    folder.mkdir(parents=True, exist_ok=True)
    name = report["device"].replace(" ", "-").lower()
    path = folder / f"{report['date']}-gpu-{name}{'-quick' if options.quick else ''}.json"

    def keep() -> None:
        report["seconds"] = time.perf_counter() - started
        path.write_text(json.dumps(finite(report), indent=1, allow_nan=False) + "\n")

    report["checks"] = checks(options.quick)
    keep()
    failed = [c for c in report["checks"] if not c["passed"]]
    print(f"{len(report['checks']) - len(failed)} checks passed, {len(failed)} failed")
    for c in failed:
        print("FAILED", {k: v for k, v in c.items() if k != "passed"})
    unsound = {c["precision"] for c in failed if "gradient" not in c.get("template", "")}
    report["rates"] = ceilings(options.quick)
    print({k: f"{v:.3g}" for k, v in report["rates"].items()})
    keep()
    report["times"] = times(options.quick, report["rates"], set(PRECISIONS) - unsound)
    keep()
    report["solves"] = solves(options.quick) if not unsound & {"tf32x3", "float64"} else []
    keep()
    for row in report["times"] + report["solves"]:
        print({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})
    print(f"{report['seconds']:.0f} s; written to {path}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
