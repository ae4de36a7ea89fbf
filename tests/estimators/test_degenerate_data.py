"""Data at the edge of what can be used, where the right answer is known."""

import warnings

import numpy as np
import pytest

from kernreg import KernelClassifier, KernelRegressor, diag, gram, nn
from kernreg.exceptions import InvalidInputError, JitterWarning, NotPositiveDefiniteError
from kernreg.solvers import Cholesky

EPS = np.finfo(float).eps
BIAS_FREE = nn.mlp(depth=2, b_std=0.0)
SOLVERS = ["cholesky", "banded", "eigh"]


def data(n=30, d=4, seed=10):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal(n) + 3


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_row_of_zeros_gets_the_mean(solver):
    """Without biases its kernel with every row is zero."""
    X, y = data()
    X[3] = 0.0
    model = KernelRegressor(BIAS_FREE, alpha=1e-3, solver=solver).fit(X, y)
    assert model.predict(np.zeros((1, 4)))[0] == model.y_mean_
    others = np.arange(30) != 3
    ridge = 1e-3 * np.mean(diag(BIAS_FREE, X))
    # All other rows see nothing of it but the mean.
    A = gram(BIAS_FREE, X[others]) + ridge * np.eye(29)
    expected = np.linalg.solve(A, y[others] - y.mean())
    error = 20 * 30 * EPS * np.linalg.cond(A) * np.abs(expected).max()
    np.testing.assert_allclose(model.dual_coef_[others], expected, atol=error)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("alpha", [0.0, 1e-3, [1e-3, 1.0]])
def test_equal_rows_everywhere_predict_the_mean(solver, alpha):
    _, y = data()
    model = KernelRegressor(nn.mlp(depth=2), alpha=alpha, solver=solver).fit(np.ones((30, 4)), y)
    # The centred targets sum to zero, so the coefficients do, up to 30 eps / alpha.
    found = model.predict(np.array([[1.0, 1, 1, 1], [5, 2, 0, 1]]))
    np.testing.assert_allclose(found, y.mean(), rtol=30 * 30 * EPS / 1e-3)


@pytest.mark.parametrize("solver", SOLVERS)
def test_zeros_without_a_ridge(solver):
    """Nothing is wrong with the network: any ridge gives the mean."""
    y = data()[1]
    model = KernelRegressor(BIAS_FREE, alpha=0, solver=solver)
    with pytest.raises((NotPositiveDefiniteError, InvalidInputError), match="raise alpha"):
        model.fit(np.zeros((30, 4)), y)
    model.set_params(alpha=1e-12).fit(np.zeros((30, 4)), y)
    np.testing.assert_allclose(model.predict(np.ones((1, 4))), y.mean(), rtol=30 * EPS)


def test_one_row_and_several_targets():
    model = KernelRegressor(alpha=0.5).fit([[1.0, 2.0]], [[3.0, 4.0]])
    assert model.predict([[7.0, 8.0], [1.0, 2.0]]).tolist() == [[3.0, 4.0], [3.0, 4.0]]


def test_two_rows_choose_an_alpha():
    model = KernelRegressor(alpha=[0.1, 1.0]).fit([[1.0, 0.0], [0.0, 1.0]], [0.0, 1.0])
    # A fit to one row predicts its target everywhere.
    np.testing.assert_allclose(model.loo_.predictions, [1.0, 0.0], atol=100 * EPS)
    np.testing.assert_allclose(model.loo_.squared_error, [1.0, 1.0], rtol=200 * EPS)
    assert model.alpha_ == 0.1


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_row_and_its_multiple_without_biases(solver):
    """Their kernel functions are proportional: singular, and no alpha = 0 without a warning."""
    X, y = data()
    with pytest.warns(JitterWarning, match="raise alpha"):
        model = KernelRegressor(BIAS_FREE, alpha=0, solver=solver).fit(
            np.vstack([X, 2 * X[:2]]), np.append(y, [9.0, 9.0])
        )
    assert not model.solution_.ok
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nearly_equal_rows_with_a_ridge_share_their_mean(dtype):
    """As rows approach each other the fit tends to the one of equal rows."""
    X, y = data()
    near = X[:5] + 1e-7 * np.random.default_rng(0).standard_normal((5, 4))
    model = KernelRegressor(nn.mlp(depth=2), alpha=1e-2, dtype=dtype)
    targets = np.append(y, y[:5] + 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = model.fit(np.vstack([X, near]), targets).predict(X)
    expected = model.set_params(dtype=None).fit(np.vstack([X, X[:5]]), targets).predict(X)
    # Entries move by up to 1e-7 (float64) or 2e-5 (float32 contract), times n / alpha.
    entry = {"float32": 2e-5, "float64": 1e-6}[dtype]
    assert np.abs(found - expected).max() < entry * 35 / 1e-2 * np.std(targets)


def test_zeros_of_either_sign_are_equal():
    X = np.array([[0.0, 1.0], [-0.0, 1.0], [2.0, 1.0]])
    model = KernelRegressor(alpha=0).fit(X, [1.0, 3.0, 5.0])
    np.testing.assert_allclose(model.predict(X), [2.0, 2.0, 5.0], rtol=1e3 * EPS)


def test_equal_rows_of_different_labels_without_a_ridge():
    X, _ = data()
    labels = np.repeat(["a", "b", "c"], 10)
    twice, more = np.vstack([X, X[:1], X[:1]]), np.append(labels, ["b", "b"])
    model = KernelClassifier(nn.mlp(depth=2), alpha=0).fit(twice, more)
    # Codes of the row: one a and two b of three.
    expected = np.array([-1 / 3, 1 / 3, -1.0])
    error = 1e4 * 30 * EPS
    np.testing.assert_allclose(model.decision_function(X[:1])[0], expected, atol=error)
    assert model.predict(X[:11]).tolist() == ["b"] + ["a"] * 9 + ["b"]


def test_not_positive_definite_names_a_remedy_that_works():
    X, y = data()
    X[1] = X[0]
    X[1, 0] = np.nextafter(X[0, 0], 9)
    model = KernelRegressor(alpha=0, alpha_scale="absolute", solver=Cholesky(max_jitter=0))
    with pytest.raises(NotPositiveDefiniteError, match=r"row 1.*duplicate rows") as caught:
        model.fit(X, y)
    assert isinstance(caught.value, ArithmeticError)
    ridge = float(str(caught.value).split("at least ")[1].split(",")[0])
    assert ridge > 0
    assert model.set_params(alpha=ridge).fit(X, y).solution_.ok


@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1e30])
def test_units_do_not_matter_to_a_bias_free_network(scale):
    """The kernel is quadratic in the data, and so is the ridge."""
    X, y = data()
    expected = KernelRegressor(BIAS_FREE, alpha=1e-2).fit(X, y).predict(X)
    found = KernelRegressor(BIAS_FREE, alpha=1e-2).fit(X * scale, y).predict(X * scale)
    np.testing.assert_allclose(found, expected, rtol=20 * 30 * EPS * (30 / 1e-2 + 1))


def test_huge_targets():
    X, y = data()
    expected = KernelRegressor(alpha=1e-2).fit(X, y).predict(X)
    found = KernelRegressor(alpha=1e-2).fit(X, y * 2.0**900).predict(X)
    np.testing.assert_allclose(found, expected * 2.0**900, rtol=20 * 30 * EPS * (30 / 1e-2 + 1))
