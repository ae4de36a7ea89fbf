"""States of single rows where squares leave the range of float64, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import kernreg
from kernreg import nn
from kernreg.backends import rows as R
from kernreg.backends.ops.sum import sum_row
from kernreg.exceptions import InvalidInputError
from tests.backends.compare import KERNELS, native, rows

STANDARD = {"parameterization": "standard", "fan_in": 300}


def row(*s: float) -> R.Row:
    t = torch.tensor(s, dtype=torch.float64)
    return R.Row(t, torch.ones_like(t))


@native
@pytest.mark.parametrize("exponents", [(-200, 200), (-140, 155), (-290, -170)])
def test_lengths_do_not_matter_to_a_sign(exponents: tuple[int, int], backend: str) -> None:
    """Squares of these lengths are beyond float64, and so are those of their coordinates."""
    low, high = (10.0**k for k in exponents)
    X = rows(5)
    sizes = np.array([low, high, 1.0, low, high])[:, None]
    net = nn.serial(nn.Dense(), nn.Sign(), nn.Dense())
    want = kernreg.gram(net, X, kernel="nngp", backend=backend)
    found = kernreg.gram(net, sizes * X, kernel="nngp", backend=backend)
    # Scaled coordinates are off by eps / 2, and an angle by as much.
    np.testing.assert_allclose(found, want, rtol=0, atol=2e-15)


@native
@pytest.mark.parametrize("size", [1e-300, 1e-161, 1e-158, 1e160, 1e300])
def test_layer_norm_without_eps_forgets_the_size(size: float, backend: str) -> None:
    X = rows(4)
    net = nn.serial(nn.Dense(), nn.LayerNorm(eps=0.0), nn.Erf(), nn.Dense())
    for kernel in KERNELS:
        want = kernreg.gram(net, X, kernel=kernel, backend=backend)
        found = kernreg.gram(net, size * X, kernel=kernel, backend=backend)
        np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-14)


@native
@pytest.mark.parametrize("zeros", [[], [1], [0, 3]])
@pytest.mark.parametrize("eps", [0.0, 1e-3])
def test_rows_of_zeros_have_no_kernel(eps: float, zeros: list[int], backend: str) -> None:
    """Without biases, through sums and normalisation; other rows do not see them."""
    block = nn.serial(nn.Relu(), nn.Dense())
    net = nn.serial(nn.Dense(), nn.residual(block), nn.LayerNorm(eps), block)
    X = rows(4)
    want = kernreg.gram(net, X, kernel=KERNELS, backend=backend)
    X[zeros] = 0.0
    found = kernreg.gram(net, X, kernel=KERNELS, backend=backend)
    for K, whole in zip(found, want, strict=True):
        whole[zeros] = whole[:, zeros] = 0.0
        np.testing.assert_array_equal(K, whole)


def test_sums_of_branches_far_from_one() -> None:
    """3, 4 and 5, in any unit; a branch that is nothing beside another one has no share."""
    for unit in (1e-200, 1.0, 1e200):
        out, shares = sum_row([row(3 * unit), row(4 * unit)], [1.0, 1.0])
        assert float(out.s) == pytest.approx(5 * unit, rel=1e-15)
        assert [float(u) for u in shares] == pytest.approx([0.6, 0.8], rel=1e-15)
    out, shares = sum_row([row(0.0), row(0.0)], [1.0, 1.0])
    assert [float(v) for v in (out.s, *shares)] == [0.0, 1.0, 0.0]
    out, shares = sum_row([row(1e-148), row(1e125)], [1.0, 1.0])
    assert [float(v) for v in (out.s, *shares)] == pytest.approx([1e125, 1e-273, 1.0], rel=1e-14)


@native
@pytest.mark.parametrize("size", [1e40, 1e70, 1e79, 1e120])
@pytest.mark.parametrize("fn", [nn.Gaussian(0.7, -0.6), nn.Erf(b=2.0)], ids=repr)
def test_saturated_kernels(fn: nn.Nonlinearity, size: float, backend: str) -> None:
    """Their limits for large rows, equal ones and a multiple among them.

    A Gaussian becomes a delta function, of weight ``a sqrt(pi / -b)``; erf the sign.
    """
    X = rows(5, 3)
    X[1], X[2] = X[0], 2 * X[0]
    s = np.linalg.norm(X, axis=1) / 3**0.5
    cos = (X @ X.T) / np.outer(s, s) / 3
    found = kernreg.gram(nn.serial(nn.Dense(), fn), size * X, kernel=KERNELS, backend=backend)
    off = ~np.isclose(cos, 1.0)
    angle = np.arccos(np.clip(cos, -1, 1))
    scale = size * np.outer(s, s) ** 0.5
    if isinstance(fn, nn.Gaussian):
        # E[a^2 exp(b u^2) exp(b v^2)] of independent and of equal u and v.
        far = 0.7**2 / (1.2 * np.sin(angle[off]) * scale[off]) / scale[off]
        np.testing.assert_allclose(found.nngp[off], far, rtol=1e-9)
        np.testing.assert_allclose(found.nngp[0, 1], 0.7**2 / (2.4**0.5 * size * s[0]), rtol=1e-9)
    else:
        np.testing.assert_allclose(found.nngp[off], 1 - 2 * angle[off] / np.pi, atol=1e-12)
        slope = 2.0 / np.pi / np.sin(angle[off])
        np.testing.assert_allclose(found.ntk[off], cos[off] * slope, rtol=1e-9)
    for K in found:
        assert np.isfinite(K).all()
        assert K[0, 1] == pytest.approx(K[0, 0], rel=1e-13)


@native
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_bias_that_is_trained_behind_vanishing_layers(dtype: str, backend: str) -> None:
    """The NTK is 1 from the last bias, though variances fall to 1e-180."""
    layer = nn.serial(nn.Relu(), nn.Dense(1e-3, **STANDARD))
    net = nn.serial(nn.Dense(), nn.LayerNorm(), nn.repeat(layer, 30))
    K = kernreg.gram(net, rows(5), dtype=dtype, backend=backend)
    # All before the last layer is worth its weights: below 300 / 1000^2 squared, and so on.
    np.testing.assert_allclose(K, 1.0, atol=1e-5)


@native
@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            nn.serial(
                nn.Dense(), nn.repeat(nn.serial(nn.Monomial(3), nn.Dense(2.0, None)), 9), nn.Elu()
            ),
            "overflows",
        ),
        (
            nn.serial(nn.Dense(1e3), nn.Exp(), nn.Dense()),
            "overflows float64: a standard deviation on its way is beyond float64",
        ),
        (nn.serial(nn.Dense(1e155), nn.Erf(), nn.Dense()), "too large for Erf"),
        (nn.serial(nn.Dense(1e-170), nn.Relu(), nn.Dense()), "vanishes in float64"),
        (
            nn.serial(nn.Dense(), nn.repeat(nn.serial(nn.Relu(), nn.Dense(1e-3, **STANDARD)), 60)),
            "tangent kernel is lost",
        ),
    ],
)
def test_what_cannot_be_told_is_refused(net: nn.Layer, message: str, backend: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        kernreg.gram(net, 3.0 + rows(4), backend=backend)


def test_a_kernel_that_vanishes_is_refused_where_it_is_wanted() -> None:
    """The last layer trains inputs of 1e-13 squared, its output is 1e-26 squared."""
    net = nn.serial(nn.Dense(1e-13), nn.Relu(), nn.Dense(1e-13, **STANDARD))
    X = rows(4).astype(np.float32)
    K = kernreg.gram(net, X, kernel="ntk")
    assert (np.diag(K) > 0).all()
    assert (kernreg.gram(net, X.astype(float), kernel=("nngp", "ntk")).nngp > 0).any()
    for kernel in ("nngp", ("nngp", "ntk")):
        with pytest.raises(InvalidInputError, match="The nngp kernel vanishes in float32"):
            kernreg.gram(net, X, kernel=kernel)
    for backend in ("cpu", "reference"):
        diagonal = kernreg.KernelOperator(net, X, backend=backend).to_dense()[0, 0]
        assert diagonal == pytest.approx(K[0, 0], rel=1e-6)
        with pytest.raises(InvalidInputError, match="The nngp kernel vanishes"):
            kernreg.KernelOperator(net, X, kernel="nngp", backend=backend).to_dense()


def test_a_kernel_below_float32_is_refused_there_only() -> None:
    net = nn.serial(nn.Dense(1e-25), nn.Relu(), nn.Dense())
    for size in (1e-3, 1.0):
        with pytest.raises(InvalidInputError, match=r"vanishes in float32.* larger W_std"):
            kernreg.gram(net, size * rows(4), dtype="float32")
    assert (kernreg.diag(net, rows(4)) > 0).all()
    zeros = kernreg.gram(nn.mlp(2, b_std=None), np.zeros((3, 2)))
    assert (zeros == 0).all()
