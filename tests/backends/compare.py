"""Rows and error measures that the tests of backends share."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import kernreg
from kernreg import config, nn

KERNELS = ("nngp", "ntk")

needs_cpu = pytest.mark.skipif(
    importlib.util.find_spec("kernreg._core") is None, reason="built with KERNREG_BUILD_EXT=0"
)
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="the package triton is not installed"
)
chosen_freely = pytest.mark.skipif(
    config.backend() != "auto", reason="about the backend that auto takes, KERNREG_BACKEND is set"
)
_native = ["reference", pytest.param("cpu", marks=needs_cpu)]
native = pytest.mark.parametrize("backend", _native)
"""Backends that run as fast here as anywhere, for work that takes an interpreter too long."""

backends = pytest.mark.parametrize(
    "backend", [*_native, pytest.param("triton", marks=needs_triton)]
)


TRITON_DEVICE = "cpu" if config.triton_interpreter() else "cuda"
"""Where Triton computes in tests: a GPU if there is one, otherwise its interpreter."""


def on(backend: str) -> dict[str, str]:
    """The options of ``gram`` for a backend, with a device where it needs one."""
    return {"backend": backend, "device": TRITON_DEVICE if backend == "triton" else "cpu"}


def rows(n: int = 9, d: int = 5, seed: int = 0) -> np.ndarray:
    """Ordinary rows: no two are close to parallel."""
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32).astype(float)


def hard_rows() -> np.ndarray:
    """A duplicate, near-duplicates, parallel, anti-parallel, tiny and zero rows, and others."""
    X = rows(12)
    X[1] = X[0]
    X[3] = X[2] + 1e-4 * X[4]
    X[5] = X[4] + 1e-6 * X[2]
    X[6] = 3 * X[7]
    X[8] = -X[7]
    X[9] = 1e-3 * X[10]
    X[11] = 0
    return X.astype(np.float32).astype(float)


def relative_error(net: nn.Layer, X1: np.ndarray, X2: np.ndarray | None, **options: str) -> float:
    """Worst ``|K - K_ref| / sqrt(K_ii K_jj)`` of both kernels beside the reference; 0 / 0 is 0."""
    other = X1 if X2 is None else X2
    got = kernreg.gram(net, X1, X2, kernel=KERNELS, **options)
    want = kernreg.gram(net, X1, X2, kernel=KERNELS, backend="reference", exact=True)
    worst = 0.0
    for kernel in KERNELS:
        scale = np.sqrt(np.outer(kernreg.diag(net, X1, kernel), kernreg.diag(net, other, kernel)))
        error = np.abs(getattr(got, kernel) - getattr(want, kernel))
        assert np.isfinite(error).all()
        assert (error[scale == 0] == 0).all()
        worst = max(worst, float(np.max(error[scale > 0] / scale[scale > 0], initial=0.0)))
    return worst
