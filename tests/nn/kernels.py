"""Kernels by the textbook: dense matrices, no correlations, no library code."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

import kernreg
from kernreg import nn

KERNELS = ("nngp", "ntk")


class State(NamedTuple):
    """Covariances of all rows and the tangent kernel."""

    k: np.ndarray
    t: np.ndarray


def rows() -> np.ndarray:
    return np.random.default_rng(3).standard_normal((6, 4))


def start() -> State:
    k = rows() @ rows().T / 4
    return State(k, np.zeros_like(k))


def dense(x: State, W: float = 1.0, b: float = 0.0) -> State:
    k = W * W * x.k + b * b
    return State(k, k + W * W * x.t)


def relu(x: State) -> State:
    """Cho and Saul (2009)."""
    s = np.sqrt(np.diag(x.k))
    cos = np.clip(x.k / np.outer(s, s), -1, 1)
    angle = np.arccos(cos)
    k = np.outer(s, s) * (np.sin(angle) + (np.pi - angle) * cos) / (2 * np.pi)
    return State(k, x.t * (np.pi - angle) / (2 * np.pi))


def erf(x: State) -> State:
    """Williams (1996)."""
    q = 1 + 2 * np.diag(x.k)
    k = 2 / np.pi * np.arcsin(2 * x.k / np.sqrt(np.outer(q, q)))
    return State(k, x.t * 4 / np.pi / np.sqrt(np.outer(q, q) - 4 * x.k**2))


def assert_kernels(net: nn.Layer, want: State) -> None:
    """Off the diagonal to 1e-13; arccos loses half the digits of a correlation of 1."""
    got = kernreg.gram(net, rows(), kernel=KERNELS, backend="reference")
    off = ~np.eye(len(want.k), dtype=bool)
    for have, expected in zip(got, want, strict=True):
        np.testing.assert_allclose(have[off], expected[off], rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(np.diag(have), np.diag(expected), rtol=1e-7)
