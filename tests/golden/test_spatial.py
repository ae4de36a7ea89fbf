"""Every spatial case of the golden index, and the convolutional kernels of the theory sheet."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kernreg
from kernreg import nn
from kernreg.backends.blocks import evaluate_blocks
from kernreg.exceptions import BackendError, InvalidInputError
from tests.backends.compare import KERNELS, chosen_freely, native, needs_cpu
from tests.golden import build

CASES = [case for case in build.index() if build.is_spatial(case)]
WITH_POSITIONS = [case for case in CASES if len(build.index()[case]["shapes"]["nngp"]) > 2]
VECTORS_BEHIND = [case for case in CASES if case not in WITH_POSITIONS]
REFUSED = {
    "convtranspose_1d_same_s2_flatten": "is a transposed convolution",
    "convtranspose_2d_valid_s2_gap": "is a transposed convolution",
    "convtranspose_1d_circular_gap": "is a transposed convolution",
    "faninconcat_spatial1d": "joins positions of branches",
    "pool_avg33s2_circular_flatten": "pools over windows that wrap around",
    "pool_avg33s2_circular_gap": "pools over windows that wrap around",
}
PLANES = [case for case in VECTORS_BEHIND if case not in REFUSED]
THEORY = json.loads((Path(__file__).parent / "theory_cntk.json").read_text())

EXACT = 1e-10
# The source has the angle of two equal positions from sqrt(p1 p2 - q^2), where the rounding of a
# few eps of p1 p2 is left: sqrt(8 eps) = 4e-8. A kink takes angle / pi of the tangent kernel, 1e-8
# at each layer.
PER_KINK = math.sqrt(8 * np.finfo(np.float64).eps) / math.pi
KINKED = {"ABRelu", "Abs", "LeakyRelu", "Relu"}


class Case:
    """One entry of the index with what the tests compare."""

    def __init__(self, case: str) -> None:
        arch, self.data = build.index()[case]["arch"], build.arrays(case)
        self.X1, self.X2 = self.data["x1"], self.data["x2"]
        *sizes, channels = self.X1.shape[1:]
        self.net = build.network(arch, channels, positions=math.prod(sizes))
        self.kinks = sum(layer["op"] in KINKED for layer in build.layers(arch))

    def bound(self, kernel: str, cross: bool) -> np.ndarray:
        """What an entry may be off, of the largest one: 1e-10, more where images are equal."""
        other = self.X2 if cross else self.X1
        equal = (self.X1[:, None] == other[None]).reshape(len(self.X1), len(other), -1).all(-1)
        inexact = kernel == "ntk" and self.kinks > 0
        return np.where(equal & inexact, self.kinks * PER_KINK, EXACT)


def errors(got: Any, case: Case, kernel: str, cross: bool) -> np.ndarray:
    """Errors in units of the largest entry, of which the source may have made so much."""
    want = case.data[f"{kernel}_x" if cross else kernel]
    assert got.shape == want.shape
    assert np.isfinite(got).all()
    return np.abs(got - want) / np.abs(want).max()


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        *((name, "reference") for name in VECTORS_BEHIND),
        *(pytest.param(name, "cpu", marks=needs_cpu) for name in PLANES),
    ],
)
def test_float64(name: str, backend: str) -> None:
    case = Case(name)
    for X2, cross in ((None, False), (case.X2, True)):
        made = kernreg.gram(case.net, case.X1, X2, kernel=KERNELS, backend=backend)
        for kernel in KERNELS:
            got = errors(getattr(made, kernel), case, kernel, cross)
            assert (got <= case.bound(kernel, cross)).all()


@needs_cpu
@pytest.mark.parametrize("name", PLANES)
def test_float32(name: str) -> None:
    """The contract: 5e-6 of ``sqrt(K_ii K_jj)``, beside which the source's 1e-8 is nothing."""
    case = Case(name)
    for X2, cross in ((None, False), (case.X2, True)):
        options = {"kernel": KERNELS, "dtype": "float32", "backend": "cpu"}
        made = kernreg.gram(case.net, case.X1, X2, **options)
        for kernel in KERNELS:
            rows = np.sqrt(np.diagonal(case.data[kernel]))
            cols = np.sqrt(kernreg.diag(case.net, case.X2, kernel)) if cross else rows
            want = case.data[f"{kernel}_x" if cross else kernel]
            got = getattr(made, kernel)
            assert got.dtype == np.float32
            assert (np.abs(got - want) <= 5e-6 * np.outer(rows, cols)).all()


@needs_cpu
@chosen_freely
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", PLANES)
def test_symmetry_and_diagonal_bit_for_bit(name: str, dtype: str) -> None:
    case = Case(name)
    made = kernreg.gram(case.net, case.X1, kernel=KERNELS, dtype=dtype, backend="cpu")
    for kernel in KERNELS:
        K = getattr(made, kernel)
        np.testing.assert_array_equal(K, K.T)
        diagonal = kernreg.diag(case.net, case.X1, kernel, dtype=dtype)
        np.testing.assert_array_equal(np.diagonal(K), diagonal)


@needs_cpu
@chosen_freely
@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_reason(name: str) -> None:
    """The reference goes on where planes cannot."""
    case = Case(name)
    with pytest.raises(BackendError, match=f"backend='cpu' cannot run this: .*{REFUSED[name]}"):
        kernreg.gram(case.net, case.X1, backend="cpu")
    got = kernreg.gram(case.net, case.X1, case.X2, kernel=KERNELS)
    want = kernreg.gram(case.net, case.X1, case.X2, kernel=KERNELS, backend="reference")
    np.testing.assert_array_equal(got, want)


def with_positions(net: nn.Layer, X1: np.ndarray, X2: np.ndarray) -> dict[str, np.ndarray]:
    """Both kernels of every two positions, axes (n1, n2, height, height, width, width)."""
    program = nn.serial(nn.Unflatten(X1.shape[1:]), net).program()
    n1, n2 = len(X1), len(X2)
    first, second = torch.cartesian_prod(torch.arange(n1), torch.arange(n2)).T
    own = torch.arange(n1 + n2)
    pair, row = evaluate_blocks(
        program.ops,
        program.params,
        torch.from_numpy(np.concatenate([X1, X2])),
        torch.cat([first, own]),
        torch.cat([second + n1, own]),
    )
    high, wide = row.s.shape[1:]
    s = row.s.reshape(n1 + n2, -1)
    scale = s[first][:, :, None] * s[second + n1][:, None, :]
    shape = (n1, n2, high, wide, high, wide)
    return {
        kernel: (scale * values[: n1 * n2]).reshape(shape).permute(0, 1, 2, 4, 3, 5).numpy()
        for kernel, values in (("nngp", pair.rho), ("ntk", pair.tau))
    }


@pytest.mark.parametrize("name", WITH_POSITIONS)
def test_positions_that_are_left(name: str) -> None:
    """Every two positions of every two images; equal positions of one image are exact to 1e-8."""
    case = Case(name)
    for X2, cross in ((case.X1, False), (case.X2, True)):
        made = with_positions(case.net, case.X1, X2)
        for kernel in KERNELS:
            got = errors(made[kernel], case, kernel, cross)
            assert (got <= case.bound(kernel, cross)[:, :, None, None, None, None]).all()


@pytest.mark.parametrize("name", WITH_POSITIONS)
def test_no_matrix_of_positions(name: str) -> None:
    case = Case(name)
    with pytest.raises(
        InvalidInputError, match=r"ends in Conv.* which leaves positions: end it in"
    ):
        kernreg.gram(case.net, case.X1)


def network_of_the_theory(entry: dict[str, Any]) -> nn.Layer:
    W, b = math.sqrt(entry["C_W"]), math.sqrt(entry["C_b"])
    layers: list[nn.Layer] = []
    for size, stride, padding, bent in entry["layers"]:
        layers.append(nn.Conv((size, size), stride, padding, W, b))
        layers += [nn.Relu()] if bent else []
    if entry["lap_c"] is not None:
        layers.append(nn.LocalAvgPool(entry["lap_c"]))
    readout = nn.GlobalAvgPool() if entry["gap"] else nn.Flatten()
    return nn.serial(*layers, readout, nn.Dense(W, b))


@native
@pytest.mark.parametrize("entry", THEORY["entries"], ids=lambda entry: str(entry["id"]))
def test_theory(entry: dict[str, Any], backend: str) -> None:
    """An independent program of the theory sheet's formulas agrees to its rounding."""
    X, Y = (np.array(THEORY[name])[None] for name in ("x", "y"))
    net = network_of_the_theory(entry)
    for kernel in KERNELS:
        got = kernreg.gram(net, X, Y, kernel, backend=backend)
        assert got[0, 0] == pytest.approx(entry[kernel], rel=EXACT)
