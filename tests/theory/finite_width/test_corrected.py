"""Corrected kernel matrices against pairs one by one, and against real networks."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge

from kernreg import gram, nn
from kernreg.exceptions import InvalidInputError, NetworkError
from kernreg.theory.finite_width.corrected import corrected_gram
from kernreg.theory.finite_width.plain import plain_layers
from kernreg.theory.finite_width.two_inputs import run_pair

X = np.random.default_rng(0).normal(size=(6, 3))


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
@pytest.mark.parametrize("sigma", [nn.Relu(), nn.Tanh(), nn.Elu()], ids=repr)
def test_pairs(sigma: nn.Nonlinearity, kernel: str) -> None:
    """Every entry is that of its two inputs, to the tolerance asked for."""
    net = nn.mlp(depth=2, activation=sigma, W_std=1.3, b_std=0.2)
    widths = (20, 30)
    corrections = 30 * (
        corrected_gram(net, X, kernel=kernel, width=widths) - gram(net, X, None, kernel)
    )
    plain = plain_layers(net)
    K1 = plain.first.C_b + plain.first.C_W * X @ X.T / 3
    for i, j in [(0, 0), (0, 1), (2, 5)]:
        two = run_pair(plain, K1[np.ix_([i, j], [i, j])], widths)
        exact = (two.G1 if kernel == "nngp" else two.H1)[-1][0, 1]
        # The tolerance is relative to the terms of the sum, which are a few times larger.
        assert corrections[i, j] == pytest.approx(exact, abs=1e-3)


def test_matrices() -> None:
    """Symmetric, the same by blocks, and equal rows have equal entries."""
    net = nn.mlp(depth=2, activation=nn.Relu(), W_std=2**0.5, b_std=0.1)
    Z = np.concatenate([X, X[:1]])
    whole = corrected_gram(net, Z, kernel="ntk", width=32)
    np.testing.assert_array_equal(whole, whole.T)
    block = corrected_gram(net, Z[:2], Z[3:], "ntk", width=32)
    np.testing.assert_allclose(block, whole[:2, 3:], rtol=1e-10)
    np.testing.assert_allclose(whole[6, :6], whole[0, :6], rtol=1e-10)
    # ReLU: nothing on the diagonal.
    np.testing.assert_allclose(np.diag(whole), np.diag(gram(net, Z)), rtol=1e-12)
    wide = corrected_gram(net, Z, kernel="ntk", width=10**9)
    np.testing.assert_allclose(wide, gram(net, Z), rtol=1e-8)
    linear = nn.mlp(depth=0)
    np.testing.assert_array_equal(
        corrected_gram(linear, X, width=[]), gram(linear, X, kernel="nngp")
    )


def test_in_an_estimator() -> None:
    net = nn.mlp(depth=2, activation=nn.Tanh(), W_std=1.5, b_std=0.1)
    K, across = (corrected_gram(net, *rows, width=50) for rows in ((X[:4],), (X[4:], X[:4])))
    assert np.linalg.eigvalsh(K)[0] > -1e-3
    model = KernelRidge(alpha=1e-3, kernel="precomputed").fit(K, X[:4, 0])
    expected = across @ np.linalg.solve(K + 1e-3 * np.eye(4), X[:4, 0])
    np.testing.assert_allclose(model.predict(across), expected, rtol=1e-9)
    # And it is not the kernel of infinite width: G1 / width is some percent.
    infinite = gram(net, X[4:], X[:4], "nngp")
    assert 1e-3 < np.abs(across / infinite - 1.0).max() < 0.1


def test_refusals() -> None:
    net = nn.mlp(depth=1)
    with pytest.raises(NetworkError, match="LayerNorm"):
        corrected_gram(nn.serial(nn.Dense(), nn.LayerNorm(), nn.Relu(), nn.Dense()), X, width=8)
    with pytest.raises(InvalidInputError, match="width"):
        corrected_gram(net, X, width=[8, 8])
    with pytest.raises(InvalidInputError, match="kernel"):
        corrected_gram(net, X, kernel="both", width=8)
    with pytest.raises(InvalidInputError, match="row 1 is 0"):
        corrected_gram(nn.mlp(depth=1, b_std=0.0), [[1.0], [0.0]], width=8)
    with pytest.raises(InvalidInputError, match=r"columns|features"):
        corrected_gram(net, X, X[:, :2], width=8)
    for tolerance in (0.0, -1.0, np.nan, 1.0):
        with pytest.raises(InvalidInputError, match="tolerance"):
            corrected_gram(net, X, width=8, tolerance=tolerance)
