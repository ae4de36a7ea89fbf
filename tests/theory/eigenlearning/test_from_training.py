from __future__ import annotations

import numpy as np
import pytest

from kernreg import gram, nn
from kernreg.exceptions import InvalidInputError, JitterWarning
from kernreg.theory.eigenlearning.from_training import training_estimates

NET = nn.mlp(depth=2)


def sample(n=40):
    X = np.random.default_rng(0).normal(size=(n, 3))
    return X, np.stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2]], axis=1)


@pytest.mark.parametrize("alpha", [0.0, 1e-3, 0.5])
def test_against_refits(alpha):
    X, Y = sample()
    K = gram(NET, X)
    ridge = alpha * np.mean(np.diag(K))
    A = K + ridge * np.eye(len(X))
    inverse = np.linalg.inv(A)
    left_out = []
    for i in range(len(X)):
        rest = np.arange(len(X)) != i
        left_out.append(Y[i] - K[i, rest] @ np.linalg.solve(A[np.ix_(rest, rest)], Y[rest]))
    found = training_estimates(NET, X, Y, alpha)
    # Condition numbers of a few thousand times eps.
    assert found.loo == pytest.approx(np.mean(np.sum(np.square(left_out), axis=1)), rel=1e-10)
    assert found.kappa == pytest.approx(1 / np.trace(inverse), rel=1e-10)
    assert found.train == pytest.approx(
        np.mean(np.sum((ridge * inverse @ Y) ** 2, axis=1)), rel=1e-10, abs=1e-20
    )
    if alpha:
        identity = found.train * (len(X) * found.kappa / ridge) ** 2
        assert found.gcv == pytest.approx(identity, rel=1e-12)


def test_estimates_agree_with_fresh_data():
    X, Y = sample(600)
    K = gram(NET, X)
    found = training_estimates(K[:300, :300], None, Y[:300], 0.1, alpha_scale="absolute")
    dual = np.linalg.solve(K[:300, :300] + 0.1 * np.eye(300), Y[:300])
    errors = np.sum((K[300:, :300] @ dual - Y[300:]) ** 2, axis=1)
    # 4 standard errors of the test error; the estimates have such an error themselves.
    bound = 4 * 2**0.5 * errors.std() / 300**0.5
    assert abs(found.loo - errors.mean()) < bound
    assert abs(found.gcv - errors.mean()) < bound


def test_duplicates_without_ridge_warn():
    X, Y = sample()
    with pytest.warns(JitterWarning):
        found = training_estimates(NET, np.concatenate([X, X]), np.concatenate([Y, Y]), 0.0)
    assert np.isfinite([found.kappa, found.gcv, found.loo, found.train]).all()


def test_contradicting_duplicates_are_not_fitted():
    """The best fit takes the mean of two labels; what is left is their variance."""
    X, Y = sample()
    with pytest.warns(JitterWarning):
        found = training_estimates(NET, np.concatenate([X, X]), np.concatenate([Y + 1, Y - 1]), 0.0)
    # The ridge that is added is of the order of rounding times the condition number.
    assert found.train == pytest.approx(2.0, rel=1e-6)


def test_bad_input():
    X, Y = sample()
    with pytest.raises(InvalidInputError, match="targets of shape"):
        training_estimates(NET, X, Y[:-1])
    with pytest.raises(InvalidInputError, match="alpha"):
        training_estimates(NET, X, Y, np.nan)
    with pytest.raises(InvalidInputError, match="alpha_scale"):
        training_estimates(NET, X, Y, 0.1, alpha_scale="n")
