"""Layers that gradient descent leaves alone: in the NNGP, but not in the NTK."""

from __future__ import annotations

import numpy as np
import pytest

import kernreg
from kernreg import KernelRegressor, nn
from kernreg.exceptions import NetworkError
from kernreg.theory.finite_width.plain import plain_layers
from kernreg.theory.inverse import kernel_coefficients
from tests.backends.compare import backends, on
from tests.nn.kernels import KERNELS, State, dense, relu, rows, start


def frozen(x: State, W: float = 1.0, b: float = 0.0) -> State:
    """``t' = W^2 t``: the weights pass the gradient on and have none of their own."""
    return State(W * W * x.k + b * b, W * W * x.t)


LOCKED = nn.Dense(1.3, 0.4, trainable=False)
BARE = nn.Dense(0.8, None, trainable=False)


@backends
@pytest.mark.parametrize(
    ("net", "expected"),
    [
        # Random features: the NTK of a linear model of what the fixed layers give.
        (
            nn.serial(LOCKED, nn.Relu(), nn.Dense(1.1, 0.2)),
            dense(relu(frozen(start(), 1.3, 0.4)), 1.1, 0.2),
        ),
        (
            nn.serial(nn.Dense(1.2, 0.3), nn.Relu(), BARE, nn.Relu(), nn.Dense(0.9)),
            dense(relu(frozen(relu(dense(start(), 1.2, 0.3)), 0.8)), 0.9),
        ),
        (
            nn.serial(nn.Dense(1.2, 0.3), nn.Relu(), LOCKED),
            frozen(relu(dense(start(), 1.2, 0.3)), 1.3, 0.4),
        ),
        (
            nn.serial(nn.Dense(), nn.repeat(nn.serial(nn.Relu(), LOCKED), 2)),
            frozen(relu(frozen(relu(dense(start())), 1.3, 0.4)), 1.3, 0.4),
        ),
        # The learning rate of a layer that has none does not matter.
        (
            nn.serial(
                nn.Dense(1.2, 0.3), nn.Relu(), nn.Dense(1.3, 0.4, "standard", 40, trainable=False)
            ),
            frozen(relu(dense(start(), 1.2, 0.3)), 1.3, 0.4),
        ),
    ],
)
def test_recursion(backend: str, net: nn.Layer, expected: State) -> None:
    """The textbook recursion loses half its digits on the diagonal, where 1 - cos is a square."""
    for dtype, bound in (("float64", 1e-7), ("float32", 1e-5)):
        found = kernreg.gram(net, rows(), kernel=KERNELS, dtype=dtype, **on(backend))
        np.testing.assert_allclose(found.nngp, expected.k, rtol=bound, atol=bound)
        np.testing.assert_allclose(found.ntk, expected.t, rtol=bound, atol=bound)
    ntk = kernreg.diag(net, rows())
    np.testing.assert_allclose(ntk, np.diag(expected.t), rtol=1e-7)


def test_the_last_layer_alone_is_the_nngp() -> None:
    """Training the readout only is regression on random features: its NTK is the NNGP."""
    net = nn.serial(LOCKED, nn.Erf(), LOCKED, nn.Erf(), nn.Dense(1.7, 0.5))
    both = kernreg.gram(net, rows(), kernel=KERNELS)
    np.testing.assert_allclose(both.ntk, both.nngp, rtol=1e-13)


def test_long_loops_with_a_profile() -> None:
    """Rows of one norm, where depth is one function of the angle."""
    X = np.random.default_rng(0).standard_normal((300, 5))
    X /= np.linalg.norm(X, axis=1)[:, None]
    block = nn.serial(nn.Relu(), nn.Dense(2**0.5, trainable=False))
    net = nn.serial(nn.Dense(), nn.repeat(block, 60), nn.Dense())
    found = kernreg.gram(net, X, kernel=KERNELS)
    exact = kernreg.gram(net, X, kernel=KERNELS, exact=True, backend="reference")
    np.testing.assert_allclose(found.ntk, exact.ntk, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(found.nngp, exact.nngp, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("net", [LOCKED, nn.serial(BARE, nn.Relu(), nn.repeat(LOCKED, 2))])
def test_nothing_trained_has_no_tangent_kernel(net: nn.Layer) -> None:
    assert kernreg.gram(net, rows(), kernel="nngp").shape == (6, 6)
    for ask in (
        lambda: kernreg.gram(net, rows()),
        lambda: kernreg.gram(net, rows(), kernel=KERNELS),
        lambda: kernreg.diag(net, rows()),
        lambda: kernreg.KernelOperator(net, rows()),
        lambda: KernelRegressor(net).fit(rows(), np.arange(6.0)),
    ):
        with pytest.raises(NetworkError, match="no trained layer, so its NTK is zero"):
            ask()


def test_as_a_value() -> None:
    assert nn.Dense(1.3, 0.4) != LOCKED
    assert repr(LOCKED) == "Dense(W_std=1.3, b_std=0.4, trainable=False)"
    assert nn.from_json(nn.to_json(LOCKED)) == LOCKED
    assert LOCKED.with_params(trainable=True) == nn.Dense(1.3, 0.4)
    assert "W_std=1.3 b_std=0.4 not trained" in str(LOCKED.program())
    assert LOCKED.program().structure() != nn.Dense(1.3, 0.4).program().structure()
    without = '{"layer": "Dense", "W_std": 2.0}'  # files of before have no such entry
    assert nn.from_json(without) == nn.Dense(2.0)


@pytest.mark.parametrize("value", [1, 0, "no", None])
def test_yes_or_no(value: object) -> None:
    with pytest.raises(NetworkError, match="trainable must be True or False"):
        nn.Dense(trainable=value)  # type: ignore[arg-type]


def test_theory_refuses_or_follows() -> None:
    net = nn.serial(LOCKED, nn.Relu(), nn.Dense())
    with pytest.raises(NetworkError, match=r"all trained, found Dense.*trainable=False"):
        plain_layers(net)
    net = nn.serial(LOCKED, nn.Erf(), nn.Dense(1.2, 0.1))
    angle = np.array([0.4, 1.3])
    X = 2**0.5 * np.column_stack([np.cos(angle), np.sin(angle)])
    expected = kernreg.gram(net, X)[0, 1]
    a = kernel_coefficients(net, "ntk", degree=40).coefficients
    assert np.polynomial.polynomial.polyval(np.cos(0.9), a) == pytest.approx(expected, rel=1e-9)
