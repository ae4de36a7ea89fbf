"""From kernels to nonlinearities and back: by quadrature, on every backend, in finite networks."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import kernreg
from kernreg import nn
from kernreg.exceptions import InvalidInputError
from kernreg.numerics.quadrature import pair_moments
from kernreg.theory.inverse.design import (
    DesignedActivation,
    activation_from_kernel,
    equivalent_shallow,
)
from kernreg.theory.inverse.network_series import kernel_coefficients
from kernreg.theory.inverse.power_series import INSIDE
from tests.backends.compare import backends, hard_rows, native, on, relative_error

GOLDEN = json.loads((Path(__file__).parents[1] / "golden.json").read_text())
COSINES = np.array([-1.0, -0.9, -0.4, 0.0, 0.3, 0.8, 0.999, 1.0])


def by_quadrature(made: DesignedActivation, c: np.ndarray) -> np.ndarray:
    """The kernel of the network, from values of its torch module alone."""
    phi = nn.Elementwise(made.torch_activation())
    first, _, last = made.network.layers  # type: ignore[attr-defined]
    weight, bias = first.W_std**2, first.b_std**2
    assert weight + bias == pytest.approx(1.0, rel=1e-15)
    rho = weight * c + bias
    moments = pair_moments(phi, rho, 1.0 - np.abs(rho), 1.0, 1.0)
    kernel = last.W_std**2 * moments.kappa.numpy() + last.b_std**2
    if made.kernel == "ntk":
        kernel = kernel + last.W_std**2 * moments.kappa_dot.numpy() * rho
    return np.asarray(kernel)


def sphere(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Rows of norm ``sqrt(d)``: ordinary ones, a duplicate, an opposite and a close one."""
    X = np.random.default_rng(seed).standard_normal((n, d))
    X[1], X[2], X[3] = X[0], -X[0], X[0] + 1e-3 * X[4]
    return X * math.sqrt(d) / np.linalg.norm(X, axis=1)[:, None]


@pytest.mark.parametrize("seed", range(20))
def test_round_trip(seed: int) -> None:
    """Random kernels with an output layer and a first-layer bias of their own."""
    rng = np.random.default_rng(seed)
    degree, share = int(rng.integers(1, 13)), float(rng.choice([0.0, 0.3]))
    in_rho = rng.exponential(size=degree + 1) * (rng.random(degree + 1) < 0.7)
    in_rho[-1] = 1.0
    W_std, b_std = rng.uniform(0.5, 2.0), float(rng.choice([0.0, 0.4]))
    line = np.polynomial.Polynomial([share, 1.0 - share])
    target = np.polynomial.Polynomial(in_rho)(line) + b_std**2
    made = activation_from_kernel(
        target.coef,
        ["ntk", "nngp"][seed % 2],
        signs=rng.choice([-1, 1], size=5).tolist(),
        W_std=W_std,
        b_std=b_std,
        bias_share=share,
    )
    expected = target(COSINES)
    np.testing.assert_allclose(made.kernel_at(COSINES), expected, rtol=0, atol=1e-12 * target(1.0))
    # The rules of the quadrature agree to 1e-12 for polynomials of degree 12.
    np.testing.assert_allclose(
        by_quadrature(made, COSINES), expected, rtol=0, atol=1e-10 * target(1.0)
    )
    assert made.tail == made.inside == 0.0


@pytest.mark.parametrize("entry", GOLDEN["reverse"], ids=lambda e: f"{e['kernel']} {e['target']}")
def test_golden(entry: dict) -> None:
    made = activation_from_kernel(entry["a"], entry["kernel"])
    np.testing.assert_allclose(np.abs(made.nonlinearity.coef), entry["b_k"], rtol=1e-14)
    expected = np.polynomial.polynomial.polyval(COSINES, entry["a"])
    np.testing.assert_allclose(by_quadrature(made, COSINES), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("entry", GOLDEN["relu_ntk_series"], ids=lambda e: str(e["L_hidden"]))
def test_golden_relu(entry: dict) -> None:
    depth = entry["L_hidden"]
    net = nn.mlp(depth, nn.Relu(), 2**0.5, 0.0)
    made = activation_from_kernel(net, "ntk", degree=11, W_std=math.sqrt(2.0 * (depth + 1)))
    b = np.zeros(12)
    b[: made.degree + 1] = np.abs(made.nonlinearity.coef)
    # Coefficients that are 0 come out of a transform as 1e-17, of which golden has the root.
    np.testing.assert_allclose(b, entry["b_k_ntk"], rtol=0, atol=5e-9)
    np.testing.assert_allclose(b**2, np.square(entry["b_k_ntk"]), rtol=0, atol=2e-15)


@settings(max_examples=50)
@given(
    st.lists(st.floats(0.0, 10.0), min_size=1, max_size=12).filter(any),
    st.sampled_from(["ntk", "nngp"]),
    st.sampled_from(["++--", "+", "-", "+-"]),
)
def test_coefficients(a: list[float], kernel: str, signs: str) -> None:
    made = activation_from_kernel(a, kernel, signs=signs)
    b = np.array(made.nonlinearity.coef)
    k = np.arange(len(b))
    padded = np.zeros(len(a))
    padded[: len(b)] = b**2 * (k + 1.0 if kernel == "ntk" else 1.0)
    # What is below rounding of the sum is left out.
    np.testing.assert_allclose(padded, a, rtol=1e-13, atol=1e-14 * sum(a))
    assert b[-1] != 0
    pattern = np.resize([1.0 if s == "+" else -1.0 for s in signs], len(b))
    assert (b * pattern >= 0).all()


@settings(max_examples=50)
@given(st.lists(st.floats(0.0, 1.0), min_size=2, max_size=8), st.data())
def test_a_negative_coefficient_is_named(a: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(0, len(a) - 1))
    a[k] = -data.draw(st.floats(1e-6, 1.0))
    with pytest.raises(InvalidInputError) as raised:
        activation_from_kernel(a)
    assert f"the coefficient a_{k} = {a[k]:.6g} of c^{k} is negative" in str(raised.value)


def test_infeasible_bias_share() -> None:
    """Theory, section 7: .2 + .5 c + .3 c^3 with s = .1."""
    with pytest.raises(InvalidInputError, match=r"a_0 = .* of rho\^0 in powers of rho"):
        activation_from_kernel([0.0, 0.5, 0.0, 0.3], bias_share=0.1)
    with pytest.raises(InvalidInputError, match=r"a_2 = -0\.123457 of rho\^2 in powers of rho"):
        activation_from_kernel([0.2, 0.5, 0.0, 0.3], bias_share=0.1)
    assert activation_from_kernel([0.2, 0.5, 0.0, 0.3]).degree == 3


def test_bias_share_of_a_function() -> None:
    """``exp(2 (c - 1))`` is one exponential in c and in rho: every share is feasible."""
    made = activation_from_kernel(lambda c: np.exp(2 * (c - 1)), bias_share=0.4, degree=40)
    expected = np.exp(2 * (COSINES - 1))
    np.testing.assert_allclose(by_quadrature(made, COSINES), expected, rtol=0, atol=1e-10)
    # Cut off in c, the polynomial of degree 12 has no such expansion: 2 s <= 1 - s is needed.
    a = GOLDEN["reverse"][-1]["a"]
    with pytest.raises(InvalidInputError, match=r"rho\^11"):
        activation_from_kernel(a, bias_share=0.4)
    made = activation_from_kernel(a, bias_share=0.2)
    expected = np.polynomial.polynomial.polyval(COSINES, a)
    np.testing.assert_allclose(by_quadrature(made, COSINES), expected, rtol=0, atol=1e-10)


def test_truncation_of_a_function() -> None:
    made = activation_from_kernel(lambda c: 1 - np.sqrt(1 - c), "nngp", degree=25, W_std=1.5)
    c = np.linspace(-INSIDE, INSIDE, 101)
    error = 1 - np.sqrt(1 - c) - made.kernel_at(c)
    assert np.abs(error).max() == pytest.approx(made.inside, rel=1e-10)
    assert 1.0 - made.kernel_at(1.0) == pytest.approx(made.tail, rel=1e-10)
    assert made.tail == pytest.approx(0.11, abs=0.01)  # binom(1/2, 25), about (25 pi)^(-1/2)
    assert "error 0.11 at c = 1" in str(made)
    # A series that is given whole is cut off by degree too.
    short = activation_from_kernel(made.series, "nngp", degree=10)
    assert short.degree == 10
    whole = made.series(1.0) + made.series.tail
    assert short.tail == pytest.approx(whole - short.kernel_at(1.0), rel=1e-10)


@backends
@pytest.mark.parametrize("degree", [8, 20])
def test_every_backend(degree: int, backend: str) -> None:
    made = activation_from_kernel(
        lambda c: 1.2 / (1.2 - c), "ntk", degree=degree, W_std=1.3, b_std=0.5, bias_share=0.0
    )
    X = sphere(9, 6)
    expected = made.kernel_at(np.clip(X @ X.T / 6, -1, 1))
    for dtype, bound in (("float64", 1e-13), ("float32", 5e-6)):
        found = kernreg.gram(made.network, X, dtype=dtype, **on(backend))
        np.testing.assert_allclose(found, expected, rtol=0, atol=bound * made.kernel_at(1.0))


@backends
def test_rows_of_any_norm(backend: str) -> None:
    """Duplicates, parallel, opposite, tiny and zero rows: the kernel of the nonlinearity itself."""
    made = activation_from_kernel(lambda c: 1.2 / (1.2 - c), "ntk", degree=12)
    assert relative_error(made.network, 0.4 * hard_rows(), None, **on(backend)) <= 1e-10


@native
def test_bias_share_and_high_degree(backend: str) -> None:
    """Degree 40, and enough rows that many entries come from a series in the angle."""
    made = activation_from_kernel(lambda c: 1.2 / (1.2 - c), degree=40)
    X = sphere(120, 6)
    expected = made.kernel_at(np.clip(X @ X.T / 6, -1, 1))
    found = kernreg.gram(made.network, X, **on(backend))
    # The series in the angle is good to 5e-13.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * made.kernel_at(1.0))
    shared = activation_from_kernel(
        lambda c: np.exp(2 * (c - 1)), "nngp", degree=25, bias_share=0.3
    )
    found = kernreg.gram(shared.network, X[:9], kernel="nngp", **on(backend))
    expected = shared.kernel_at(np.clip(X[:9] @ X[:9].T / 6, -1, 1))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)
    assert shared.inside < 1e-9


@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
@pytest.mark.parametrize("degree", [20, 30])
def test_deep_relu_as_one_hidden_layer(degree: int, kernel: str) -> None:
    deep = nn.mlp(4, nn.Relu(), 2**0.5, 0.1)
    made = equivalent_shallow(deep, kernel, degree)
    X = sphere(30, 10)
    error = kernreg.gram(deep, X, kernel=kernel) - kernreg.gram(made.network, X, kernel=kernel)
    c = np.abs(X @ X.T / 10)
    rounding = 1e-12 * made.kernel_at(1.0)
    assert np.abs(error).max() <= made.tail + rounding
    assert np.abs(error[c <= INSIDE]).max() <= made.inside + rounding
    # The errors that are reported occur: on the diagonal and at the edge.
    np.testing.assert_allclose(np.diag(error), made.tail, rtol=0, atol=10 * rounding)
    edge = math.sqrt(2) * np.array([[1.0, 0.0], [INSIDE, math.sqrt(1 - INSIDE**2)]])
    both = [kernreg.gram(net, edge, kernel=kernel)[0, 1] for net in (deep, made.network)]
    assert both[0] - both[1] == pytest.approx(made.inside, abs=10 * rounding)
    assert made.inside < 0.02 * made.kernel_at(1.0)


def test_deep_relu_at_a_high_degree() -> None:
    deep = nn.mlp(4, nn.Relu(), 2**0.5, 0.0)
    made = equivalent_shallow(deep, "ntk", 100)
    X = sphere(200, 5)
    c = np.clip(X @ X.T / 5, -1, 1)
    error = np.abs(kernreg.gram(deep, X) - made.kernel_at(c))
    assert error.max() <= made.tail * (1 + 1e-12)
    assert error[np.abs(c) <= INSIDE].max() <= made.inside + 1e-12
    # 2e-5 of K(1) = 10 with degree 100: theory, section 7.
    assert made.inside < 3e-4


def test_kernel_of_one_kind_from_the_other() -> None:
    """The NNGP kernel of a deep network as the tangent kernel of a shallow one."""
    series = kernel_coefficients(nn.mlp(3, nn.Erf(), 1.3, 0.2), "nngp", 25)
    made = activation_from_kernel(series, "ntk")
    X = sphere(8, 4)
    expected = kernreg.gram(nn.mlp(3, nn.Erf(), 1.3, 0.2), X, kernel="nngp")
    error = expected - kernreg.gram(made.network, X, kernel="ntk", backend="reference")
    assert np.abs(error).max() <= made.tail + 1e-13


@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
def test_wide_torch_networks(kernel: str) -> None:
    """Twelve networks of width 2^13: their mean within five standard errors of the target."""
    made = activation_from_kernel(
        [0.3, 0.2, 0.0, 0.4, 0.1], kernel, W_std=1.2, b_std=0.3, bias_share=0.0
    )
    X = torch.from_numpy(sphere(6, 5))
    found = []
    for seed in range(12):
        net = made.to_torch(5, 2**13, seed).double()
        rows = []
        for x in X:
            trained = list(net.parameters()) if kernel == "ntk" else [net.output, net.output_bias]
            gradients = torch.autograd.grad(net(x[None])[0, 0], trained)
            rows.append(torch.cat([g.flatten() for g in gradients]))
        # Gradients of the last layer alone have the NNGP kernel.
        J = torch.stack(rows)
        found.append((J @ J.T).numpy())
    error = np.mean(found, axis=0) - made.kernel_at(np.clip((X @ X.T / 5).numpy(), -1, 1))
    standard_error = np.std(found, axis=0, ddof=1) / math.sqrt(12)
    assert standard_error.max() < 0.04 * made.kernel_at(1.0)
    assert (np.abs(error) <= 5 * standard_error + 1e-12).all()


def test_torch_network_has_its_bias() -> None:
    net = activation_from_kernel([0.5, 0.5], bias_share=0.2, b_std=0.1).to_torch(3, 10, n_outputs=2)
    first, second = net.scales
    assert first == pytest.approx((math.sqrt(0.8), math.sqrt(0.2)))
    assert second == pytest.approx((1.0, 0.1))
    assert net(torch.ones(4, 3)).shape == (4, 2)


def test_network_and_function_agree() -> None:
    """A network and a function of the same kernel give the same nonlinearity."""
    net = nn.serial(nn.Dense(), nn.Exp(math.exp(-0.5)), nn.Dense())
    one = activation_from_kernel(net, "nngp", degree=10)
    two = activation_from_kernel(lambda c: np.exp(c - 1), "nngp", degree=10)
    scale = one.kernel_at(1.0) / two.kernel_at(1.0)
    np.testing.assert_allclose(
        one.nonlinearity.coef, math.sqrt(scale) * np.array(two.nonlinearity.coef), rtol=1e-9
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": [1.0, math.inf]}, "a_1 = inf is not finite"),
        ({"target": [math.nan, 1.0]}, "a_0 = nan is not finite"),
        ({"target": lambda c: 1 / (1 - c)}, "sum of its coefficients is infinite"),
        ({"target": lambda c: np.cos(3 * c)}, "a_2 = -4.5 of c^2 is negative"),
        ({"target": lambda c: 1 + c - c**7, "degree": 5}, "beyond c^5 add up to -1"),
        ({"target": [[1.0]]}, "found shape (1, 1)"),
        ({"target": []}, "found shape (0,)"),
        ({"target": "c^3"}, "target must be"),
        ({"target": [0.0, 0.0]}, "all coefficients up to the degree are 0"),
        ({"target": [0.25], "b_std": 0.5}, "all coefficients up to the degree are 0"),
        ({"target": [0.1, 1.0], "b_std": 0.5}, "Use b_std <= 0.316228"),
        ({"target": [1.0], "W_std": 0.0}, "W_std must be positive"),
        ({"target": [1.0], "W_std": math.nan}, "W_std must be a finite number"),
        ({"target": [1.0], "b_std": -1.0}, "b_std must be a finite number >= 0"),
        ({"target": [1.0], "bias_share": 1.0}, "bias_share must be below 1"),
        ({"target": [1.0], "kernel": "rbf"}, "kernel must be"),
        ({"target": [1.0], "signs": "+0"}, "signs must be a pattern"),
        ({"target": [1.0], "signs": ""}, "signs must be a pattern"),
        ({"target": [1.0], "degree": -1}, "degree must be an integer"),
        ({"target": [0.5**k for k in range(90)], "bias_share": 0.45}, "too large for a series"),
    ],
)
def test_what_is_refused(options: dict, message: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        activation_from_kernel(**options)
    assert message in str(raised.value)


def test_equivalent_shallow_takes_networks_only() -> None:
    with pytest.raises(InvalidInputError, match="network"):
        equivalent_shallow([1.0, 2.0])  # type: ignore[arg-type]
