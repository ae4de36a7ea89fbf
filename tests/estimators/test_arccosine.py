"""KernelRegressor against ridge regression from the arc-cosine formulas, without kernreg."""

import numpy as np
import pytest
import scipy.linalg

from kernreg import KernelRegressor, nn

W_STD, B_STD = 1.3, 0.4
NET = nn.serial(
    nn.Dense(W_STD, B_STD), nn.Relu(), nn.Dense(W_STD, B_STD), nn.Relu(), nn.Dense(W_STD, B_STD)
)


def kernels(A, B):
    """NNGP and NTK of two hidden ReLU layers (Cho and Saul 2009; Jacot et al. 2018)."""
    w, b = W_STD**2, B_STD**2
    k = w * (A @ B.T) / A.shape[1] + b
    qa, qb = (w * np.mean(Z**2, axis=1) + b for Z in (A, B))
    t = k
    for _ in range(2):
        scale = np.sqrt(np.outer(qa, qb))
        rho = k / scale
        if A is B:
            # acos loses half the digits at 1, where it is known.
            np.fill_diagonal(rho, 1.0)
        angle = np.pi - np.arccos(rho)
        k = w * scale * (np.sqrt((1 - rho) * (1 + rho)) + rho * angle) / (2 * np.pi) + b
        t = k + w * t * angle / (2 * np.pi)
        qa, qb = (w * q / 2 + b for q in (qa, qb))
    return {"nngp": k, "ntk": t}


def problem(n=60, d=6, t=2):
    rng = np.random.default_rng(7)
    return rng.standard_normal((n, d)), rng.standard_normal((n, t)) + 2, rng.standard_normal((9, d))


def bound(n, alpha):
    """Relative error of a solve of condition number n / alpha + 1.

    Entries are good to some 10 eps of the diagonal: these rows are far enough from parallel that
    acos and the root lose no more than one digit. That makes 10 n eps of the norm, times the
    condition number, once for each of the two sides.
    """
    return 20 * n * np.finfo(float).eps * (n / alpha + 1)


def ridge_regression(X, y, Xt, kernel, ridge):
    K, k = kernels(X, X)[kernel], kernels(Xt, X)[kernel]
    mean = y.mean(axis=0)
    A = K + ridge * np.eye(len(K))
    return mean + k @ scipy.linalg.solve(A, y - mean, assume_a="pos")


def test_rows_are_far_from_parallel():
    X, _, Xt = problem()
    Z = np.vstack([X, Xt])
    k = W_STD**2 * Z @ Z.T / Z.shape[1] + B_STD**2
    q = np.sqrt(np.diagonal(k))
    rho = (k / np.outer(q, q))[~np.eye(len(Z), dtype=bool)]
    assert np.abs(rho).max() < 0.99


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
@pytest.mark.parametrize("solver", ["cholesky", "banded", "eigh"])
def test_predictions(kernel, solver):
    X, y, Xt = problem()
    alpha = 1e-2
    expected = ridge_regression(
        X, y, Xt, kernel, alpha * np.mean(np.diagonal(kernels(X, X)[kernel]))
    )
    model = KernelRegressor(NET, kernel=kernel, alpha=alpha, solver=solver).fit(X, y)
    assert bound(60, alpha) < 2e-9
    np.testing.assert_allclose(model.predict(Xt), expected, rtol=1e-9)


def test_leave_one_out_by_brute_force():
    X, y, _ = problem(n=30)
    alphas = [1.0, 1e-2, 0.1]
    model = KernelRegressor(NET, alpha=alphas, alpha_scale="absolute").fit(X, y)
    scale = np.mean(np.diagonal(kernels(X, X)["ntk"]))
    errors, held_out = [], []
    for alpha in alphas:
        rows = []
        for i in range(30):
            rest = np.arange(30) != i
            rows.append(ridge_regression(X[rest], y[rest], X[i : i + 1], "ntk", alpha)[0])
        held_out.append(np.array(rows))
        errors.append(np.mean((y - held_out[-1]) ** 2))
    best = int(np.argmin(errors))
    assert model.alpha_ == alphas[best]
    error = bound(30, min(alphas) / scale)
    np.testing.assert_allclose(model.loo_.predictions, held_out[best], atol=10 * error)
    np.testing.assert_allclose(model.loo_.squared_error, errors, rtol=10 * error)


def test_a_column_of_zeros_only_rescales_the_weights():
    """The input kernel is a mean over the features: a zero one multiplies it by d / (d + 1)."""
    X, y, Xt = problem()
    narrow = nn.serial(nn.Dense(W_STD * np.sqrt(6 / 7), B_STD), nn.Relu(), nn.Dense())
    wide = nn.serial(nn.Dense(W_STD, B_STD), nn.Relu(), nn.Dense())
    expected = KernelRegressor(narrow, alpha=1e-2).fit(X, y).predict(Xt)
    padded = KernelRegressor(wide, alpha=1e-2).fit(np.c_[X, np.zeros(60)], y)
    found = padded.predict(np.c_[Xt, np.zeros(9)])
    np.testing.assert_allclose(found, expected, rtol=bound(60, 1e-2))


def test_a_constant_column_is_a_bias():
    """Mean over d + 1 features of which one is c: W^2 (d s + c^2) / (d + 1) + b^2."""
    X, y, Xt = problem()
    c = 3.0
    bias = np.sqrt(B_STD**2 + W_STD**2 * c**2 / 7)
    narrow = nn.serial(nn.Dense(W_STD * np.sqrt(6 / 7), bias), nn.Relu(), nn.Dense())
    wide = nn.serial(nn.Dense(W_STD, B_STD), nn.Relu(), nn.Dense())
    expected = KernelRegressor(narrow, alpha=1e-2).fit(X, y).predict(Xt)
    constant = KernelRegressor(wide, alpha=1e-2).fit(np.c_[X, np.full(60, c)], y)
    found = constant.predict(np.c_[Xt, np.full(9, c)])
    np.testing.assert_allclose(found, expected, rtol=bound(60, 1e-2))
