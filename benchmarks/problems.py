"""Inputs and networks that the benchmarks share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

import kernreg
from kernreg import nn

W_STD, B_STD = 2**0.5, 0.1
KERNEL = "ntk"
ACTIVATIONS = {"relu": nn.Relu(), "erf": nn.Erf()}


def data_dir() -> Path:
    """Folder of the data sets: ``KERNREG_DATA``, default ``../shared/data``."""
    return Path(os.environ.get("KERNREG_DATA", "../shared/data"))


def network(activation: str, depth: int) -> nn.Layer:
    """``depth`` hidden layers with biases, and a readout."""
    return nn.mlp(depth, ACTIVATIONS[activation], W_std=W_STD, b_std=B_STD)


def rows(n: int, d: int, *, unit_norm: bool = False, seed: int = 0) -> np.ndarray:
    """Gaussian rows in float32, of norm ``sqrt(d)`` each if ``unit_norm``."""
    X = np.random.default_rng(seed).standard_normal((n, d))
    if unit_norm:
        X *= np.sqrt(d) / np.linalg.norm(X, axis=1, keepdims=True)
    return X.astype(np.float32)


def float32_error(net: nn.Layer, X: np.ndarray, K: np.ndarray) -> float:
    """Worst error of the float32 matrix ``K`` of ``X``, relative to ``sqrt(K_ii K_jj)``."""
    exact = kernreg.gram(net, X.astype(np.float64), kernel=KERNEL, backend="reference")
    scale = np.sqrt(np.diagonal(exact))
    return float(np.max(np.abs(K - exact) / np.outer(scale, scale)))


def torch_relu_ntk(X: Any, depth: int, xp: Any = torch) -> Any:
    """The NTK of a ReLU network as one writes it by hand: full square, one recursion.

    The variances have their own recursion, so that a compiler can fuse all layers. ``xp`` is torch
    or ``jax.numpy``, of which ``X`` is an array.
    """
    W, b = W_STD**2, B_STD**2
    q = W * (X * X).mean(1) + b
    K = W * (X @ X.T) / X.shape[1] + b
    T = K
    for _ in range(depth):
        s = xp.sqrt(q[:, None] * q)
        rho = xp.clip(K / s, -1.0, 1.0)
        angle = xp.pi - xp.arccos(rho)
        K = W * s * (xp.sqrt(1 - rho * rho) + angle * rho) / (2 * xp.pi) + b
        T = K + W * T * angle / (2 * xp.pi)
        q = W * q / 2 + b
    return T
