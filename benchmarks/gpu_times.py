"""Times of the GPU kernels, beside the limit of the arithmetic and beside other libraries."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks import gpu_device
from benchmarks.problems import B_STD, W_STD, network, rows, torch_relu_ntk
from kernreg import KernelOperator, KernelRegressor
from kernreg.backends.triton.tuning import PRECISIONS
from kernreg.solvers.cholesky.in_memory import Cholesky

# Matrix products that a policy takes for one, and float32 instructions of a ReLU layer per entry,
# counted in the machine code (benchmarks/compile.py).
PRODUCTS = {"ieee": 1, "tf32x3": 3, "tf32": 1, "bf16x3": 3}
LAYER = 29
# Rows of the block that peers without tiles get.
BLOCK = 8192


def peer(measure: Callable[[], float], scale: float = 1.0) -> dict[str, Any]:
    """Time of other code, ``scale`` times what is measured; None and the reason if it fails."""
    try:
        return {"seconds": scale * measure()}
    except Exception as error:
        return {"seconds": None, "failed": repr(error)}


def ceilings(quick: bool) -> dict[str, float]:
    """Rates of this GPU: bytes copied, and operations of matrix products."""
    size = 4096 if quick else 8192
    a = torch.randn(size, size, device=gpu_device.DEVICE)
    source = torch.randn(2**28, device=gpu_device.DEVICE)
    target = torch.empty_like(source)
    found = {"copy_bytes": 2 * source.nbytes / gpu_device.seconds(lambda: target.copy_(source))}
    for name, precision in (("float32", "highest"), ("tf32", "high")):
        torch.set_float32_matmul_precision(precision)
        found[name] = 2 * size**3 / gpu_device.seconds(lambda: a @ a)
    torch.set_float32_matmul_precision("highest")
    for name, kind in (("bf16", torch.bfloat16), ("float64", torch.float64)):
        b = a.to(kind)
        found[name] = 2 * size**3 / gpu_device.seconds(lambda b=b: b @ b)
    return found


def limit(d: int, depth: int, precision: str, rates: dict[str, float]) -> float:
    """Seconds per entry: its inner product on the matrix units, then its layers."""
    unit = {"ieee": "float32", "bf16x3": "bf16"}.get(precision, "tf32")
    product = PRODUCTS[precision] * 2 * d / rates[unit]
    return product + 2 * LAYER * depth / rates["float32"]


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
    spent, whole = (gpu_device.seconds(lambda o=o: run(o), 3) for o in operators)
    half = {**entry, "work": f"{work}, symmetric", "seconds": spent, "limit": n * n / 2 * per_entry}
    found = [half, {**entry, "seconds": whole, "limit": n * n * per_entry}]
    for row in found:
        row["share"] = row["limit"] / row["seconds"]
    half["symmetric_gain"] = whole / spent
    if entry["precision"] == "tf32x3":
        scale = (n / min(n, BLOCK)) ** 2
        for name, kernel in (("torch", torch_relu_ntk), ("torch.compile", compiled)):
            taken = peer(lambda kernel=kernel: gpu_device.seconds(lambda: tile(kernel), 3), scale)
            found.append({**entry, "work": f"{name}, {work}", **taken})
    return found


def _gram(
    n: int, d: int, depth: int, precision: str, rates: dict[str, float], compiled: Any
) -> list[dict[str, Any]]:
    X = torch.from_numpy(rows(n, d)).to(gpu_device.DEVICE)
    out = torch.empty(n, n, device=gpu_device.DEVICE)
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
    X = torch.from_numpy(rows(n, d)).to(gpu_device.DEVICE)
    V = torch.randn(n, t, device=gpu_device.DEVICE)
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
    taken = peer(lambda: gpu_device.seconds(lambda: kernel @ V, 3))
    return [{**entry, "depth": 1, "work": "KeOps, K @ V", **taken}]


def _jax(X: torch.Tensor, entry: dict[str, Any]) -> list[dict]:
    """The recursion compiled by JAX, and neural-tangents, on a block of a Gram matrix."""
    # Otherwise JAX takes most of the memory of the GPU at its first use.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    depth, scale, found = entry["depth"], (entry["n"] / len(X)) ** 2, []

    def measure(make: Callable[[Any], Callable[[Any], Any]]) -> float:
        import jax

        if gpu_device.DEVICE != "cpu" and jax.default_backend() != "gpu":
            raise RuntimeError(f"JAX computes on {jax.default_backend()}, not on a GPU")
        data, run = jax.numpy.asarray(X.cpu().numpy()), make(jax)
        return gpu_device.wall(lambda: jax.block_until_ready(run(data)))

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
        solver = Cholesky(block=2048, precision=precision)
        model = KernelRegressor(net, alpha=1e-2, device=gpu_device.DEVICE, solver=solver)
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
