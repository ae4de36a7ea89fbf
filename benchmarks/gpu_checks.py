"""What the GPU kernels compute, beside float64 on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import kernreg
from benchmarks import gpu_device
from benchmarks.problems import network, rows
from kernreg import KernelOperator, nn
from kernreg.backends.triton.tuning import PRECISIONS

# Error bounds relative to sqrt(K_ii K_jj): the contract, and what the rougher policies say.
BOUNDS = {"ieee": 5e-6, "tf32x3": 5e-6, "bf16x3": 5e-5, "tf32": 5e-3}
NEAR_BOUND = 2e-5


def hostile(n: int, d: int) -> np.ndarray:
    """Duplicates, near-duplicates, parallel, anti-parallel, tiny, huge and zero rows."""
    X = np.random.default_rng(1).standard_normal((n, d)).astype(np.float32)
    X[1], X[3], X[5], X[7] = X[0], X[2] + 1e-4 * X[4], X[4] + 1e-6 * X[2], 3 * X[6]
    X[8], X[10], X[12], X[14] = -X[9], 1e-3 * X[11], 1e3 * X[13], 0
    return X


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
        there = torch.from_numpy(X).to(gpu_device.DEVICE)
        given = None if other is None else torch.from_numpy(other)
        got = kernreg.gram(net, there, given, ("nngp", "ntk"), backend="triton", **options)
        V = np.random.default_rng(2).standard_normal((len(right), 10))
        for kernel in ("nngp", "ntk"):
            s1, s2 = kernreg.diag(net, X, kernel), kernreg.diag(net, right, kernel)
            exact, values = getattr(want, kernel), getattr(got, kernel).cpu().numpy()
            error = scaled_error(values, exact, s1, s2)
            if other is None and not np.array_equal(values, values.T):
                error = float("inf")
            found.append((template, kernel, error))
            operator = KernelOperator(
                net, X, other, kernel, device=gpu_device.DEVICE, backend="triton", **options
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
        error = float(np.abs(gradient(gpu_device.DEVICE, getattr(torch, precision)) - want).max())
        error /= float(np.abs(want).max())
        what = {"network": name, "rows": kind, "precision": precision, "kernel": kernel}
        what |= {"template": "gradient of K @ V", "error": error, "bound": bound}
        found.append(what | {"passed": bool(error <= bound)})
    return found
