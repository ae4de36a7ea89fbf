"""Second derivatives of kernels by their rows, and the transforms of ``torch.func``."""

import numpy as np
import pytest
import torch
from mpmath import mp, mpf
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import grad, hessian, jacfwd, jacrev, vmap

from kernreg import KernelOperator, diag, gram, nn, solve
from kernreg.exceptions import InvalidInputError
from tests.differential.recursion import DIGITS, exact_kernels
from tests.operators.test_gradients import NETWORKS, NONLINEARITIES, rows, tensors

KERNELS = ["nngp", "ntk"]
CLOSED = [fn for fn in NONLINEARITIES if fn.closed_form]
SMALL = {"atol": 1e-6, "rtol": 1e-5, "fast_mode": True}  # of differences with a step of 1e-6


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_operation(name, kernel):
    X, Y = tensors((4, 3), (3, 3))
    net = NETWORKS[name]
    assert gradgradcheck(lambda A: gram(net, A, kernel=kernel), (X,), **SMALL)
    assert gradgradcheck(lambda A, B: gram(net, A, B, kernel), (X, Y), **SMALL)
    assert gradgradcheck(lambda A: diag(net, A, kernel), (X,), **SMALL)


@pytest.mark.parametrize("fn", CLOSED, ids=lambda fn: type(fn).__name__)
def test_every_nonlinearity(fn):
    X, Y = tensors((3, 3), (2, 3))
    net = nn.mlp(2, fn, 1.1, 0.3)
    assert gradgradcheck(lambda A, B: gram(net, A, B), (X, Y), **SMALL)
    assert gradgradcheck(lambda A: gram(net, A), (X,), **SMALL)


def second_slope_of_60_digits(net, x, y, v):
    """Second derivative of the NTK with ``x`` in the direction ``v``: the error is about 1e-30."""
    step = mpf(10) ** -15
    with mp.workdps(DIGITS):
        ends = []
        for times in (-1, 0, 1):
            moved = [mpf(a) + times * step * mpf(b) for a, b in zip(x, v, strict=True)]
            ends.append(exact_kernels(net.layers(), [moved, [mpf(b) for b in y]]).ntk[0, 1])
        return float((ends[0] - 2 * ends[1] + ends[2]) / step**2)


@pytest.mark.parametrize("angle", [0.9, 1e-3])
@pytest.mark.parametrize("fn", [nn.Relu(), nn.Erf(), nn.Gelu(), nn.Sin()], ids=repr)
def test_second_derivatives_are_those_of_60_digits(fn, angle):
    net = nn.mlp(3, fn, 1.3, 0.4)
    x, y, v = rows(angle)
    X, Y = torch.tensor(x[None]), torch.tensor(y[None])
    step = torch.tensor(v[None])
    H = hessian(lambda A: gram(net, A, Y).sum())(X).reshape(4, 4)
    found = float(step[0] @ H @ step[0])
    want = second_slope_of_60_digits(net, x, y, v)
    # Cancellation of terms of the size of 1 / angle, twice where a kink is near.
    assert found == pytest.approx(want, rel=1e-9 / angle, abs=1e-9 * float(H.abs().max()))


def test_penalties_of_gradients_have_gradients():
    """Torch takes a gradient without a history for a constant: a penalty would do nothing."""
    (X,) = tensors((5, 3))
    net = NETWORKS["relu"]

    def penalty(A):
        (g,) = torch.autograd.grad(gram(net, A).sum(), A, create_graph=True)
        return (g * g).sum()

    assert gradcheck(penalty, (X,), **SMALL)


def test_tiles_add_up(monkeypatch):
    X, Y = tensors((8, 3), (7, 3))
    net, v = NETWORKS["relu"], torch.ones(8, 3, dtype=torch.float64)

    def moved(A, B=None):
        (g,) = torch.autograd.grad(gram(net, A, B).sin().sum(), A, create_graph=True)
        return torch.autograd.grad((g * v).sum(), A if B is None else (A, B))

    whole = [*moved(X), *moved(X, Y)]
    monkeypatch.setattr("kernreg.operators.pull_back._TRACED", 3)
    monkeypatch.setattr("kernreg.operators.pull_back._LOW", 3)
    monkeypatch.setattr("kernreg.operators.pull_back._WIDE", 5)
    for a, b in zip([*moved(X), *moved(X, Y)], whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_transforms_agree_with_autograd():
    X, Y = (A.detach() for A in tensors((4, 3), (5, 3)))
    net = NETWORKS["relu"]

    def entries(A):
        return gram(net, A)

    want = torch.autograd.functional.jacobian(entries, X)
    for transform in (jacrev, jacfwd):
        torch.testing.assert_close(transform(entries)(X), want, rtol=1e-12, atol=1e-12)
    both = grad(lambda A, B: gram(net, A, B).sin().sum(), argnums=(0, 1))(X, Y)
    A, B = (t.clone().requires_grad_() for t in (X, Y))
    torch.testing.assert_close(both, torch.autograd.grad(gram(net, A, B).sin().sum(), (A, B)))
    want = torch.autograd.functional.hessian(lambda A: gram(net, A).sum(), X)
    torch.testing.assert_close(hessian(lambda A: gram(net, A).sum())(X), want)
    for transform in (jacrev, jacfwd):
        found = transform(lambda A: diag(net, A))(X)
        torch.testing.assert_close(
            found, torch.autograd.functional.jacobian(lambda A: diag(net, A), X)
        )
    second = hessian(lambda A: diag(net, A, "nngp").sum())(X)
    want = torch.autograd.functional.hessian(lambda A: diag(net, A, "nngp").sum(), X)
    torch.testing.assert_close(second, want)


def test_batches_of_rows():
    X, Y = (A.detach() for A in tensors((3, 4, 2), (3, 5, 2)))
    net = NETWORKS["product"]
    assert torch.equal(vmap(lambda A: gram(net, A))(X), torch.stack([gram(net, A) for A in X]))
    pairs = torch.stack([gram(net, A, Y[0]) for A in X])
    assert torch.equal(vmap(lambda A: gram(net, A, Y[0]))(X), pairs)
    slopes = vmap(grad(lambda A, B: gram(net, A, B, "nngp").sum()))(X, Y)
    for k in range(3):
        A = X[k].clone().requires_grad_()
        (want,) = torch.autograd.grad(gram(net, A, Y[k], "nngp").sum(), A)
        torch.testing.assert_close(slopes[k], want)
    nngp, ntk = vmap(lambda A: tuple(gram(net, A, kernel=("nngp", "ntk"))))(X)
    assert torch.equal(ntk, torch.stack([gram(net, A) for A in X]))
    assert nngp.shape == (3, 4, 4)


def test_solutions_inside_transforms():
    X, y = (A.detach() for A in tensors((6, 2), (6,)))
    net = NETWORKS["relu"]

    def loss(A, ridge):
        return solve(gram(net, A), y, ridge).square().sum()

    ridge = torch.tensor(0.3, dtype=torch.float64)
    found = grad(loss, argnums=(0, 1))(X, ridge)
    A, r = X.clone().requires_grad_(), ridge.clone().requires_grad_()
    torch.testing.assert_close(found, torch.autograd.grad(loss(A, r), (A, r)))


def test_float32_rows_keep_their_type():
    X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    H = hessian(lambda A: gram(NETWORKS["relu"], A).sum())(X)
    wide = hessian(lambda A: gram(NETWORKS["relu"], A).sum())(X.double())
    assert H.dtype == torch.float32
    # Rounding of first derivatives, of which these are made.
    torch.testing.assert_close(H.double(), wide, rtol=1e-4, atol=1e-4 * float(wide.abs().max()))


def test_what_cannot_be_differentiated_again_says_so():
    (X,) = tensors((4, 3))
    V = torch.ones(4, 1, dtype=torch.float64)
    net = NETWORKS["relu"]
    W = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    products = {
        "product": lambda: (KernelOperator(net, X) @ V).sum(),
        "solution": lambda: solve(KernelOperator(net, X), V[:, 0], 0.1).square().sum(),
        "number": lambda: gram(net, X.detach(), params={"W_std": W}).sin().sum(),
    }
    for name, value in products.items():
        by = W if name == "number" else X
        (g,) = torch.autograd.grad(value(), by, create_graph=True)
        with pytest.raises(InvalidInputError, match="cannot be differentiated again"):
            g.sum().backward()
    (g,) = torch.autograd.grad(gram(net, X).sum(), X, create_graph=True)
    (h,) = torch.autograd.grad(g.square().sum(), X, create_graph=True)
    with pytest.raises(InvalidInputError, match="no third"):
        h.sum().backward()


def test_series_have_first_derivatives_only():
    (X,) = tensors((3, 3))
    (g,) = torch.autograd.grad(gram(nn.mlp(1, nn.Tanh()), X).sum(), X, create_graph=True)
    with pytest.raises(InvalidInputError, match="first derivatives only"):
        g.square().sum().backward()


def test_what_transforms_cannot_take_says_so():
    X = torch.randn(4, 3, dtype=torch.float64)
    net = NETWORKS["relu"]
    with pytest.raises(InvalidInputError, match="only gram and diag"):
        grad(lambda A: (KernelOperator(net, A) @ torch.ones(4, 1)).sum())(X)
    with pytest.raises(InvalidInputError, match=r"torch\.autograd\.grad"):
        grad(lambda W: gram(net, X, params={"W_std": W}).sum())(torch.tensor(1.0))
    with pytest.raises(InvalidInputError, match=r"shape \(n, d\)"):
        grad(lambda A: gram(net, A).sum())(torch.ones(3))
    with pytest.raises(InvalidInputError, match="networks on images"):
        grad(lambda A: gram(nn.cnn(1), A).sum())(torch.ones(2, 16))


def test_equal_rows_that_meet_a_kink_are_left_out():
    X = torch.tensor(np.random.default_rng(0).standard_normal((3, 3)))
    X[1] = X[0]
    H = hessian(lambda A: gram(NETWORKS["relu"], A).sum())(X)
    assert bool(torch.isfinite(H).all())


@pytest.mark.parametrize("fn", [nn.Relu(), nn.Erf(), nn.Gelu(), nn.Gaussian()], ids=repr)
@pytest.mark.parametrize("bias", [None, 0.3])
def test_orthogonal_rows(fn, bias):
    """Rows of indicators: the absolute correlation has a kink there, the kernel none."""
    X = torch.eye(3, dtype=torch.float64)
    net = nn.mlp(2, fn, 1.2, bias)

    def slope(A):
        return grad(lambda B: gram(net, B, X[1:]).sum())(A)

    step = 1e-5  # its square, and rounding over it, are below the tolerance
    for column in range(3):
        move = step * torch.eye(3, dtype=torch.float64)[column]
        want = (slope(X[:1] + move) - slope(X[:1] - move)) / (2 * step)
        H = hessian(lambda B: gram(net, B, X[1:]).sum())(X[:1])[0, column, 0]
        torch.testing.assert_close(H, want[0], rtol=1e-5, atol=1e-7)


def test_rows_of_zeros_have_first_derivatives_only():
    X = torch.zeros(2, 3, dtype=torch.float64)
    X[0] = 1.0
    assert bool(torch.isfinite(grad(lambda A: gram(NETWORKS["relu"], A).sum())(X)).all())
    with pytest.raises(InvalidInputError, match="rows of zeros"):
        hessian(lambda A: gram(NETWORKS["relu"], A).sum())(X)


@pytest.mark.parametrize("name", ["relu", "no bias"])
def test_float32_gradients_at_rows_of_zeros(name):
    (X,) = tensors((5, 3))
    X = X.detach().float()
    X[2] = 0.0
    found = grad(lambda A: gram(NETWORKS[name], A, X[:2]).sum())(X)
    want = grad(lambda A: gram(NETWORKS[name], A, X[:2].double()).sum())(X.double())
    torch.testing.assert_close(found.double(), want, rtol=1e-4, atol=1e-4 * float(want.abs().max()))


def test_what_is_constant_inside_a_transform():
    Z, X, y = (A.detach() for A in tensors((4, 2), (6, 2), (6,)))
    net = NETWORKS["relu"]

    def mean(A):
        return (gram(net, A, X) @ solve(gram(net, X), y, 0.1)).sum() + diag(net, X).sum()

    A = Z.clone().requires_grad_()
    torch.testing.assert_close(grad(mean)(Z), torch.autograd.grad(mean(A), A)[0])


def test_forward_differentiation():
    X = tensors((3, 2))[0].detach()
    net = NETWORKS["relu"]
    move = torch.arange(6.0, dtype=torch.float64).reshape(3, 2)
    with forward_ad.dual_level():
        K = gram(net, forward_ad.make_dual(X, move))
        found = forward_ad.unpack_dual(K).tangent
    jacobian = torch.autograd.functional.jacobian(lambda A: gram(net, A), X)
    want = torch.einsum("ijkl,kl->ij", jacobian, move)
    torch.testing.assert_close(found, want)
    with pytest.raises(InvalidInputError, match="limit of forward differentiation"):
        jacfwd(jacfwd(lambda A: gram(net, A).sum()))(X)


def test_numbers_and_second_derivatives_do_not_mix():
    (X,) = tensors((4, 3))
    W = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    K = gram(NETWORKS["relu"], X, params={"W_std": W})
    (slope,) = torch.autograd.grad(K.sum(), X, create_graph=True)
    with pytest.raises(InvalidInputError, match="cannot be differentiated again"):
        slope.square().sum().backward()
    (by_W,) = torch.autograd.grad(
        gram(NETWORKS["relu"], X.detach(), params={"W_std": W}).sum(), W, create_graph=True
    )
    with pytest.raises(InvalidInputError, match="cannot be differentiated again"):
        (by_W * W).backward()


def test_arguments_inside_transforms():
    X = torch.ones(4, 3, dtype=torch.float64)
    net = NETWORKS["relu"]
    for given in ({"device": "cpu"}, {"input_shape": (3, 1, 1)}, {"channels": "first"}):
        with pytest.raises(InvalidInputError, match=f"{next(iter(given))}= is not for calls"):
            grad(lambda A, given=given: gram(net, A, **given).sum())(X)
    K = torch.eye(4, dtype=torch.float64)
    for ridge in (-0.1, torch.arange(4.0)):
        with pytest.raises(InvalidInputError, match="ridge must be one number"):
            grad(lambda A, ridge=ridge: solve(A, X[:, 0], ridge).sum())(K)
    with pytest.raises(InvalidInputError, match="y must be"):
        grad(lambda A: solve(A, X[:3, 0], 0.1).sum())(K)
    rows = [[1.0, 2.0, 3.0]]
    assert grad(lambda A: gram(net, rows, A).sum())(X).shape == (4, 3)
