"""Tiles of the cpu backend: sizes that do not divide, threads, instruction sets, outputs."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

import kernreg
from kernreg import nn
from kernreg.backends import bind, cpu
from kernreg.backends.base import Part, Request
from kernreg.exceptions import InvalidInputError
from tests.backends.compare import KERNELS, hard_rows, needs_cpu, relative_error, rows

pytestmark = needs_cpu

EPS = np.finfo(float).eps
net = nn.serial(nn.Dense(1.5, 0.1), nn.Relu(), nn.Dense(1.2, 0.3), nn.Erf(), nn.Dense())
# Columns come in blocks of 256, rows in tiles of about 96 and micro-tiles of fewer than 16.
SIZES = [1, 2, 15, 17, 95, 96, 97, 255, 256, 257]


@pytest.mark.parametrize("n", SIZES)
def test_ragged_symmetric(n: int) -> None:
    """Twenty roundings per entry, grown by less than 10."""
    assert relative_error(net, rows(n), None, backend="cpu") <= 200 * EPS
    assert relative_error(net, rows(n), None, backend="cpu", dtype="float32") <= 5e-6


@pytest.mark.parametrize("n", [1, 96, 97, 257])
@pytest.mark.parametrize("m", [1, 255, 256, 257])
def test_ragged_rectangles(n: int, m: int) -> None:
    X, Y = rows(n), rows(m, seed=1)
    assert relative_error(net, X, Y, backend="cpu") <= 200 * EPS
    assert relative_error(net, X, Y, backend="cpu", dtype="float32") <= 5e-6


# The inner dimension is cut at 512, and from 16,384 on columns are packed piece by piece.
@pytest.mark.parametrize("d", [1, 2, 15, 16, 17, 511, 512, 513, 1025, 16_384, 16_385])
def test_inner_dimensions(d: int) -> None:
    """An inner product of unit vectors is off by d roundings at most."""
    X, Y = rows(5, d), rows(3, d, seed=1)
    assert relative_error(net, X, None, backend="cpu") <= (d + 200) * EPS
    assert relative_error(net, X, Y, backend="cpu") <= (d + 200) * EPS


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_symmetric_is_the_full_matrix(dtype: str) -> None:
    """Half the work, the same entries; both are within the contract of the reference."""
    X = rows(300)
    bound = 2 * (5e-6 if dtype == "float32" else 200 * EPS)
    half = kernreg.gram(net, X, kernel=KERNELS, backend="cpu", dtype=dtype)
    full = kernreg.gram(net, X, X.copy(), kernel=KERNELS, backend="cpu", dtype=dtype)
    for kernel in KERNELS:
        s = np.sqrt(kernreg.diag(net, X, kernel))
        error = np.abs(getattr(half, kernel) - getattr(full, kernel)) / np.outer(s, s)
        assert error.max() <= bound


@pytest.mark.parametrize("X2", [None, rows(700, seed=1)])
def test_threads_do_not_change_a_bit(
    X2: np.ndarray | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for threads in ("1", "2", "7"):
        monkeypatch.setenv("KERNREG_NUM_THREADS", threads)
        results.append(kernreg.gram(net, rows(700), X2, backend="cpu"))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize("isa", ["avx512", "avx2", "baseline"])
@pytest.mark.parametrize(
    "fn", [nn.Relu(), nn.Erf(), nn.Gelu(), nn.Gabor(), nn.Sign(), nn.Exp(b=0.3), nn.Tanh()]
)
def test_instruction_sets(isa: str, fn: nn.Nonlinearity, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each keeps the contract on its own."""
    if isa not in cpu._core.instruction_sets():
        pytest.skip(f"this machine has no {isa}")
    monkeypatch.setenv("KERNREG_ISA", isa)
    assert cpu.instruction_set() == isa
    # A series is cut at a tail of 1e-13; the others are good to rounding.
    deep = nn.mlp(depth=2, activation=fn)
    X = hard_rows()
    small = X if fn.closed_form else X[:4]
    assert relative_error(deep, small, None, backend="cpu") <= 1e-10
    assert relative_error(deep, small, small, backend="cpu", dtype="float32") <= 2e-5


def test_an_instruction_set_this_machine_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNREG_ISA", "avx4096")
    assert cpu.instruction_set() == cpu._core.instruction_sets()[0]


@pytest.mark.parametrize("symmetric", [True, False])
def test_parts_make_the_whole(symmetric: bool) -> None:
    """Cuts inside tiles and across the diagonal; entries move by rounding at most."""
    X = torch.from_numpy(rows(150))
    Y = None if symmetric else torch.from_numpy(rows(290, seed=1))
    _, bound = bind(Request(net.program(), X, Y, np.dtype(np.float64)), "cpu")
    cuts1, cuts2 = [0, 1, 50, 97, 150], [0, 49, 97, 98, 150 if symmetric else 290]
    whole = {k: np.empty((150, cuts2[-1])) for k in KERNELS}
    parts = {k: np.full((150, cuts2[-1]), np.nan) for k in KERNELS}
    bound.fill(Part(0, 150, 0, cuts2[-1]), {k: torch.from_numpy(v) for k, v in whole.items()})
    for i0, i1 in pairwise(cuts1):
        for j0, j1 in pairwise(cuts2):
            pieces = {k: torch.from_numpy(v[i0:i1, j0:j1]) for k, v in parts.items()}
            bound.fill(Part(i0, i1, j0, j1), pieces)
    for kernel in KERNELS:
        scale = np.abs(whole[kernel]).max()
        np.testing.assert_allclose(parts[kernel], whole[kernel], rtol=0, atol=200 * EPS * scale)
        if symmetric:
            np.testing.assert_array_equal(np.diag(parts[kernel]), bound.diagonal(kernel))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("widths", [(9, 9), (12, 12), (12, 9), (9, 12)])
def test_out_with_rows_apart(widths: tuple[int, int], backend: str) -> None:
    """Each of two outputs has its own distance between rows, and nothing else is touched."""
    want = kernreg.gram(net, rows(), kernel=KERNELS, backend=backend)
    frames = [np.full((20, width), -1.0) for width in widths]
    outs = tuple(frame[3:12, :9] for frame in frames)
    kernreg.gram(net, rows(), kernel=KERNELS, backend=backend, out=outs)
    for frame, out, expected in zip(frames, outs, want, strict=True):
        np.testing.assert_array_equal(out, expected)
        out[:] = -1.0
        assert (frame == -1.0).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_one_kernel_is_the_same_as_both(kernel: str) -> None:
    both = kernreg.gram(net, rows(), kernel=KERNELS, backend="cpu")
    out = np.empty((9, 9))
    assert kernreg.gram(net, rows(), kernel=kernel, backend="cpu", out=out) is out
    np.testing.assert_array_equal(out, getattr(both, kernel))


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((9, 8)),
        np.zeros((9, 9), np.float32),
        np.zeros((9, 18))[:, ::2],
        np.zeros((9, 9), order="F"),
        np.broadcast_to(np.zeros(9), (9, 9)),
        (np.zeros((9, 9)), np.zeros((9, 9))),
        [[0.0] * 9] * 9,
    ],
)
def test_out_that_does_not_fit(out: object) -> None:
    with pytest.raises(InvalidInputError, match="out must"):
        kernreg.gram(net, rows(), out=out)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.filterwarnings("error")
def test_any_layout_of_the_data(backend: str) -> None:
    """Reversed, transposed, strided and read-only arrays, as pandas and joblib hand them over."""
    X = rows()
    want = kernreg.gram(net, X, backend=backend)
    locked = X.copy()
    locked.flags.writeable = False
    layouts = [np.asfortranarray(X), np.repeat(X, 2, axis=1)[:, ::2], locked, X[::-1][::-1]]
    for data in layouts:
        np.testing.assert_array_equal(kernreg.gram(net, data, backend=backend), want)
    flipped = kernreg.gram(net, X[::-1], backend=backend)
    np.testing.assert_allclose(flipped[::-1, ::-1], want, rtol=1e-13)


def test_a_forked_process_has_threads_of_its_own() -> None:
    """To wait for those of its parent, in a part or in a product of torch, would be for ever."""
    script = """
import os
import numpy as np
import torch
from kernreg import gram, nn

X = np.random.default_rng(0).standard_normal((600, 20))
ones = torch.ones(700, 700, dtype=torch.float64)

def work():
    return gram(nn.mlp(depth=2), X), float((ones @ ones).sum())

K = gram(nn.mlp(depth=2), X)
child = os.fork()
if not child:
    found, total = work()
    os._exit(int(not np.array_equal(found, K) or total != 700.0**3))
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
assert np.array_equal(work()[0], K)
raise SystemExit(status)
"""
    settings = os.environ | {"KERNREG_BACKEND": "cpu", "KERNREG_NUM_THREADS": "2"}
    settings["OMP_NUM_THREADS"] = "2"
    subprocess.run([sys.executable, "-c", script], env=settings, check=True, timeout=120)
