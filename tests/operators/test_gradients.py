"""Gradients of kernels: against differences of 60 digits, and by torch's own check."""

import numpy as np
import pytest
import torch
from mpmath import mp, mpf
from torch.autograd import gradcheck

from kernreg import KernelOperator, diag, gram, nn
from kernreg.exceptions import InvalidInputError
from kernreg.operators.matrix import MatrixOperator
from kernreg.operators.packed import PackedOperator
from tests.differential.recursion import DIGITS, exact_kernels

NONLINEARITIES = [
    nn.Relu(),
    nn.LeakyRelu(0.2),
    nn.ABRelu(-0.5, 1.2),
    nn.Abs(),
    nn.RectifiedMonomial(2),
    nn.Erf(1.2, 0.8, 0.3),
    nn.SigmoidLike(),
    nn.Gelu(),
    nn.Sin(1.1, 0.9, 0.4),
    nn.Cos(),
    nn.Rbf(0.7),
    nn.Gaussian(),
    nn.ExpNormalized(),
    nn.Gabor(),
    nn.Monomial(2),
    nn.Hermite((0.3, 1.0, 0.5)),
    nn.Elementwise(torch.erf),
]
FAR, NEAR = 0.9, 1e-6


def rows(angle, seed=0):
    """Two rows with some angle between them, of lengths about the root of their dimension."""
    rng = np.random.default_rng(seed)
    x, z = rng.standard_normal((2, 4))
    z -= (z @ x) / (x @ x) * x
    y = np.cos(angle) * x + np.sin(angle) * np.linalg.norm(x) / np.linalg.norm(z) * z
    return 2.0 * x / np.linalg.norm(x), 2.2 * y / np.linalg.norm(y), rng.standard_normal(4)


def slope_of_60_digits(net, x, y, v, kernel):
    """Derivative of ``K(x, y)`` with ``x`` in the direction ``v``: the error is about 1e-40."""
    step = mpf(10) ** -20
    with mp.workdps(DIGITS):
        ends = []
        for sign in (1, -1):
            moved = [mpf(a) + sign * step * mpf(b) for a, b in zip(x, v, strict=True)]
            found = exact_kernels(net.layers(), [moved, [mpf(b) for b in y]])
            ends.append(getattr(found, kernel)[0, 1])
        return float((ends[0] - ends[1]) / (2 * step))


def slope(net, x, y, v, kernel, dtype=torch.float64):
    """The same by autograd; also the size of its two parts, which rounding is relative to."""
    X = torch.tensor(x[None], dtype=dtype, requires_grad=True)
    K = gram(net, X, torch.tensor(y[None], dtype=dtype), kernel)
    (g,) = torch.autograd.grad(K.sum(), X)
    size = float(K.detach().abs().max()) * np.linalg.norm(v) / np.linalg.norm(x)
    return float(g[0].double() @ torch.tensor(v)), max(size, float(np.linalg.norm(g) * 0.5))


def deep(fn):
    """Polynomials of degree two grow doubly exponentially; series take seconds in torch."""
    short = nn.RectifiedMonomial | nn.Monomial | nn.Hermite | nn.Elementwise
    return not isinstance(fn, short)


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
@pytest.mark.parametrize("depth", [1, 3, 20])
@pytest.mark.parametrize("fn", NONLINEARITIES, ids=lambda fn: type(fn).__name__)
def test_derivatives_are_those_of_60_digits(fn, depth, kernel):
    if depth == 20 and not deep(fn):
        pytest.skip("three layers are enough")
    net = nn.mlp(depth, fn, W_std=1.2, b_std=0.3)
    for angle in (FAR, NEAR):
        x, y, v = rows(angle)
        want = slope_of_60_digits(net, x, y, v, kernel)
        found, size = slope(net, x, y, v, kernel)
        assert found == pytest.approx(want, rel=1e-9, abs=1e-9 * size)
        found, size = slope(net, x, y, v, kernel, torch.float32)
        if angle == FAR:  # nearer rows are others once they are rounded
            assert found == pytest.approx(want, rel=1e-4, abs=1e-4 * size)


def close_rows(n, groups):
    """Normal rows, the last so many of them near as many others, and a copy in single precision."""
    generator = torch.Generator().manual_seed(n)
    X = torch.randn(n, 10, generator=generator, dtype=torch.float64)
    near = torch.randn(groups, 10, generator=generator, dtype=torch.float64)
    X[n - groups :] = X[n - groups - 1] + 1e-5 * near
    return X.float().double()


@pytest.mark.parametrize(
    ("n", "m", "groups"),
    [(2, None, 1), (258, None, 1), (270, None, 1), (510, None, 30), (2, 50, 1), (300, 300, 5)],
)
def test_close_rows_in_single_precision(n, m, groups):
    """Whatever tile they are in, and however many others are in it: 1e-4 of a row's gradient."""
    net, X = nn.mlp(3), close_rows(n, groups)
    Y = None if m is None else torch.cat([X[-1:] + 1e-5 * X[:1], close_rows(m - 1, 1)])
    Y = None if Y is None else Y.float().double()
    W = torch.randn(n, m or n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def gradient(dtype):
        A = X.to(dtype, copy=True).requires_grad_()
        K = gram(net, A, None if Y is None else Y.to(dtype))
        return torch.autograd.grad((K * W.to(dtype)).sum(), A)[0].double()

    want, found = gradient(torch.float64), gradient(torch.float32)
    assert ((found - want).norm(dim=1) <= 1e-4 * want.norm(dim=1)).all()


NETWORKS = {
    "relu": nn.mlp(2, nn.Relu(), 1.3, 0.2),
    "no bias": nn.mlp(2, nn.Relu(), 1.3, None),
    "residual": nn.serial(
        nn.Dense(1.0, 0.1),
        nn.residual(nn.serial(nn.Gelu(), nn.Dense(1.2, 0.1))),
        nn.Relu(),
        nn.Dense(),
    ),
    "product": nn.serial(
        nn.Dense(1.1, 0.2),
        nn.parallel(nn.Relu(), nn.serial(nn.Erf(), nn.Dense(1.0, 0.2)), merge="product"),
        nn.Dense(1.0, 0.3),
    ),
    "dropout and norm": nn.serial(
        nn.Dense(1.2, 0.1),
        nn.Relu(),
        nn.Dense(),
        nn.LayerNorm(),
        nn.Relu(),
        nn.Dropout(0.8),
        nn.Dense(),
        nn.Erf(),
        nn.Dense(),
    ),
    "standard": nn.serial(
        nn.Dense(1.3, 0.2, parameterization="standard", fan_in=3),
        nn.Relu(),
        nn.Dense(1.1, 0.3, parameterization="standard", fan_in=50),
    ),
}


def tensors(*shapes, seed=0):
    torch.manual_seed(seed)
    return [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradcheck(name, kernel):
    net = NETWORKS[name]
    X, Y, V, U = tensors((4, 3), (3, 3), (3, 2), (4, 2))
    assert gradcheck(lambda A, B: gram(net, A, B, kernel), (X, Y))
    assert gradcheck(lambda A: gram(net, A, kernel=kernel), (X,))
    assert gradcheck(lambda A: diag(net, A, kernel=kernel), (X,))
    assert gradcheck(lambda A, B, C: KernelOperator(net, A, B, kernel) @ C, (X, Y, V))
    assert gradcheck(lambda A, C: KernelOperator(net, A, kernel=kernel) @ C, (X, U))


def test_gradcheck_of_a_series():
    X, Y = tensors((2, 2), (1, 2))
    assert gradcheck(lambda A, B: gram(nn.mlp(1, nn.Tanh(), 1.1, 0.3), A, B), (X, Y))


def test_scales_of_columns_and_numbers_of_the_network():
    net = nn.mlp(2, nn.Relu())
    (X,), a = (
        tensors((4, 3)),
        torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64, requires_grad=True),
    )
    W, b = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (1.3, 0.2))
    assert gradcheck(lambda s: gram(net, X.detach() * s), (a,))
    assert gradcheck(lambda W, b, A: gram(net, A, params={"W_std": W, "b_std": b}), (W, b, X))


def test_tiles_add_up(monkeypatch):
    monkeypatch.setattr("kernreg.operators.pull_back._LOW", 3)
    monkeypatch.setattr("kernreg.operators.pull_back._WIDE", 5)
    net = NETWORKS["relu"]
    X, Y = tensors((5, 2), (4, 2))
    assert gradcheck(lambda A, B: gram(net, A, B), (X, Y))
    assert gradcheck(lambda A: gram(net, A), (X,))


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
def test_equal_rows_and_rows_of_zeros_have_finite_gradients(kernel):
    (X,) = tensors((3, 4))
    with torch.no_grad():
        X[1], X[2] = X[0], 0.0
    for net in (NETWORKS["relu"], nn.mlp(1, nn.Erf(), 1.0, 0.2)):
        for K in (gram(net, X, kernel=kernel), gram(net, X, X.detach().clone(), kernel)):
            (g,) = torch.autograd.grad(K.sum(), X)
            assert bool(torch.isfinite(g).all())


def test_a_row_with_itself_moves_both_sides():
    """``K(x, x)`` on the diagonal: the derivative is that of :func:`diag`."""
    net, (X,) = NETWORKS["relu"], tensors((3, 4))
    (first,) = torch.autograd.grad(torch.diagonal(gram(net, X)).sum(), X)
    (second,) = torch.autograd.grad(diag(net, X).sum(), X)
    torch.testing.assert_close(first, second, rtol=1e-13, atol=1e-13)


def test_values_do_not_change_and_nothing_is_carried_without_need():
    net, (X,) = NETWORKS["relu"], tensors((5, 4))
    plain = gram(net, X.detach())
    assert torch.equal(gram(net, X).detach(), plain)
    assert not plain.requires_grad
    with torch.no_grad():
        assert not gram(net, X).requires_grad


def test_both_kernels_of_one_pass_carry_gradients():
    net, (X,) = NETWORKS["relu"], tensors((4, 3))
    nngp, ntk = gram(net, X, kernel=("nngp", "ntk"))
    (both,) = torch.autograd.grad(nngp.sum() + ntk.sum(), X)
    parts = [torch.autograd.grad(gram(net, X, kernel=k).sum(), X)[0] for k in ("nngp", "ntk")]
    torch.testing.assert_close(both, parts[0] + parts[1], rtol=1e-13, atol=1e-13)


def test_images_say_that_there_is_no_gradient():
    X = torch.randn(2, 6, 6, 1, requires_grad=True)
    with pytest.raises(InvalidInputError, match=r"pass X\.detach\(\)"):
        gram(nn.cnn(1, readout="flatten"), X)


@pytest.mark.parametrize("angle", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("depth", [1, 3])
def test_float32_with_close_pairs(depth, angle):
    """Parts as large as one over the angle cancel there."""
    made = torch.Generator().manual_seed(3)
    X = torch.randn(40, 6, generator=made)
    X[1] = X[0] + angle * torch.randn(6, generator=made)
    w = torch.randn(40, 40, generator=made)
    found = []
    for kind in (torch.float32, torch.float64):
        rows = X.to(kind).requires_grad_()
        (g,) = torch.autograd.grad((w.to(kind) * gram(nn.mlp(depth), rows)).sum(), rows)
        found.append(g.double())
    assert float((found[0] - found[1]).norm() / found[1].norm()) < 1e-4


def test_kept_entries_carry_no_gradient_and_say_so():
    K = PackedOperator(KernelOperator(nn.mlp(1), np.eye(4)))
    V = torch.ones(4, dtype=torch.float64, requires_grad=True)
    with pytest.raises(InvalidInputError, match=r"a PackedOperator do not carry: pass V\.detach"):
        K @ V
    with torch.no_grad():
        assert (K @ V).shape == (4,)


def test_products_with_a_matrix_carry_gradients():
    K = torch.tensor([[2.0, 1.0], [1.0, 3.0]], dtype=torch.float64, requires_grad=True)
    V = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda K, V: MatrixOperator(K) @ V, (K, V))


def test_a_number_of_the_network_must_be_one():
    with pytest.raises(InvalidInputError, match="W_std must be one number"):
        gram(nn.mlp(1), np.eye(2), params={"W_std": torch.ones(2)})
