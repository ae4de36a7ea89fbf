"""KernelRegressor against the formulas it stands for."""

import numpy as np
import pytest

import kernreg
from kernreg import KernelRegressor, nn
from kernreg.estimators import planned, predict
from kernreg.exceptions import JitterWarning
from tests.backends.compare import chosen_freely

NET = nn.mlp(depth=2, W_std=1.5, b_std=0.2)
EPS = np.finfo(np.float64).eps


def data(n=40, d=5, t=None, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = rng.standard_normal(n if t is None else (n, t)) + 7.0
    return X, y, rng.standard_normal((25, d))


def by_hand(X, y, Xt, ridge, w=None, kernel="ntk", network=NET, fit_intercept=True):
    """Prediction from the dense formula."""
    w = np.ones(len(X)) if w is None else w
    mean = np.average(y, axis=0, weights=w) if fit_intercept else 0.0
    K = kernreg.gram(network, X, kernel=kernel, dtype="float64")
    dual = np.linalg.solve(K + np.diag(ridge / w), y - mean)
    return mean + kernreg.gram(network, Xt, X, kernel=kernel, dtype="float64") @ dual


def bound(n, alpha):
    """Error of two solves whose condition number is at most n / alpha + 1, with room for n."""
    return 20 * n * EPS * (n / alpha + 1)


@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
@pytest.mark.parametrize("solver", ["cholesky", "banded", "eigh"])
def test_absolute_alpha_is_the_ridge(kernel, solver):
    X, y, Xt = data()
    model = KernelRegressor(NET, kernel=kernel, alpha=0.3, alpha_scale="absolute", solver=solver)
    expected = by_hand(X, y, Xt, 0.3, kernel=kernel)
    np.testing.assert_allclose(model.fit(X, y).predict(Xt), expected, rtol=bound(40, 1e-2))


def test_relative_alpha_is_relative_to_the_mean_diagonal():
    X, y, Xt = data()
    mean = np.mean(kernreg.diag(NET, X, kernel="ntk"))
    model = KernelRegressor(NET, alpha=1e-2).fit(X, y)
    np.testing.assert_allclose(
        model.predict(Xt), by_hand(X, y, Xt, 1e-2 * mean), rtol=bound(40, 1e-2)
    )


@pytest.mark.parametrize("t", [None, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_without_intercept_the_targets_are_not_centred(t, weighted):
    X, y, Xt = data(t=t)
    w = np.linspace(0.5, 2.0, 40) if weighted else None
    model = KernelRegressor(NET, alpha=0.3, alpha_scale="absolute", fit_intercept=False)
    found = model.fit(X, y, sample_weight=w).predict(Xt)
    expected = by_hand(X, y, Xt, 0.3, w, fit_intercept=False)
    np.testing.assert_allclose(found, expected, rtol=bound(40, 1e-2))
    assert not np.any(model.y_mean_)
    centred = model.set_params(fit_intercept=True).fit(X, y, sample_weight=w).predict(Xt)
    assert np.abs(centred - found).max() > 0.1


def test_relative_alpha_does_not_see_the_scale_of_a_bias_free_kernel():
    X, y, Xt = data()
    small = KernelRegressor(nn.mlp(depth=2, W_std=1.0, b_std=0.0)).fit(X, y).predict(Xt)
    large = KernelRegressor(nn.mlp(depth=2, W_std=4.0, b_std=0.0)).fit(X, y).predict(Xt)
    np.testing.assert_allclose(small, large, rtol=bound(40, 1e-3))


def test_default_network():
    X, y, Xt = data()
    model = KernelRegressor().fit(X, y)
    assert model.network is None
    assert model.network_ == nn.mlp(depth=3)
    again = KernelRegressor(nn.mlp(depth=3)).fit(X, y)
    assert np.array_equal(model.predict(Xt), again.predict(Xt))


def test_many_targets_are_as_many_single_ones():
    X, Y, Xt = data(t=3)
    model = KernelRegressor(NET, alpha=1e-2).fit(X, Y)
    assert model.dual_coef_.shape == Y.shape
    assert model.y_mean_.shape == (3,)
    for j in range(3):
        single = KernelRegressor(NET, alpha=1e-2).fit(X, Y[:, j])
        assert single.dual_coef_.shape == (40,)
        np.testing.assert_allclose(
            model.predict(Xt)[:, j], single.predict(Xt), rtol=bound(40, 1e-2)
        )


def test_adding_a_constant_to_the_targets_adds_it_to_predictions():
    X, y, Xt = data()
    low, high = (KernelRegressor(NET).fit(X, y + c).predict(Xt) for c in (0.0, 1000.0))
    np.testing.assert_allclose(high - low, 1000.0, rtol=1000 * bound(40, 1e-3))


def test_tiny_alpha_interpolates():
    X, y, _ = data()
    model = KernelRegressor(NET, alpha=1e-10).fit(X, y)
    np.testing.assert_allclose(model.predict(X), y, atol=1e-7)


def test_fitted_attributes():
    X, y, _ = data()
    model = KernelRegressor(NET, alpha=0.5, solver="cholesky").fit(X, y)
    assert np.array_equal(model.X_fit_, X)
    assert model.alpha_ == 0.5
    assert model.plan_.solver == "cholesky"
    assert model.solution_.ok
    assert model.solution_.value is model.dual_coef_
    assert model.loo_ is None
    assert model.n_features_in_ == 5


def test_later_changes_of_the_data_do_not_reach_the_model():
    X, y, Xt = data()
    model = KernelRegressor(NET).fit(X, y)
    before = model.predict(Xt)
    X += 1.0
    assert np.array_equal(model.predict(Xt), before)


@pytest.mark.parametrize(
    ("given", "asked", "result"),
    [
        ("float64", None, "float64"),
        ("float32", None, "float32"),
        ("int64", None, "float64"),
        ("float64", "float32", "float32"),
        ("float32", np.float64, "float64"),
        ("float64", np.dtype("float32"), "float32"),
    ],
)
def test_dtype(given, asked, result):
    X, y, Xt = data()
    model = KernelRegressor(NET, alpha=1e-2, dtype=asked).fit(X.astype(given), y)
    assert model.predict(Xt).dtype == np.float64
    assert model.dual_coef_.dtype == model.X_fit_.dtype == result


@pytest.mark.parametrize("solver", ["cholesky", "pcg"])
def test_the_solution_has_the_residual_that_it_says(solver):
    """A float32 copy of it would have some 6e-8 ||A|| ||x||, which is far more for a small alpha.

    The coefficients for predictions are that copy.
    """
    X, y, _ = data()
    X = X.astype(np.float32)
    alpha, target = 1e-6, y - y.mean()
    model = KernelRegressor(NET, alpha=alpha, solver=solver).fit(X, y)
    K = kernreg.gram(NET, X, kernel="ntk", dtype="float64")
    A = K + alpha * np.mean(kernreg.diag(NET, X, kernel="ntk")) * np.eye(40)

    def residual(x):
        return np.linalg.norm(target - A @ x) / np.linalg.norm(target)

    said, value = model.solution_.stats.residuals[-1], model.solution_.value
    assert value.dtype == np.float64
    assert said <= 1e-8
    # The ridge in float32 and the rounding of A x.
    assert abs(residual(value) - said) <= 1e-12
    assert model.dual_coef_.dtype == np.float32
    np.testing.assert_array_equal(model.dual_coef_, value.astype(np.float32))
    assert residual(model.dual_coef_) > 10 * residual(value)


def test_float32_is_close_to_float64():
    X, y, Xt = data()
    single = KernelRegressor(NET, alpha=1e-2, dtype="float32").fit(X, y).predict(Xt)
    double = KernelRegressor(NET, alpha=1e-2).fit(X, y).predict(Xt)
    # Entries are good to 5e-6 of the diagonal; y^T (K + r)^-1 y <= n var(y) / r bounds their sum.
    assert np.abs(single - double).max() < 5e-6 * 40 * np.std(y) / 1e-2


def test_blocks_do_not_change_predictions(monkeypatch):
    X, y, Xt = data()
    model = KernelRegressor(NET).fit(X, y)
    whole = model.predict(Xt)
    monkeypatch.setattr(predict, "PANEL_BYTES", 3 * 40 * 8)
    np.testing.assert_allclose(model.predict(Xt), whole, rtol=bound(40, 1e-3))


@chosen_freely
def test_max_memory_bounds_the_blocks(monkeypatch):
    X, y, Xt = data()
    model = KernelRegressor(NET).fit(X, y)
    sizes = []
    tile = planned.KernelOperator.tile

    def spy(self, rows, cols, out=None):
        block = tile(self, rows, cols, out)
        sizes.append(block.nbytes)
        return block

    monkeypatch.setattr(planned.KernelOperator, "tile", spy)
    model.set_params(max_memory=2000).predict(Xt)
    assert max(sizes) <= 1000
    assert sum(sizes) == 25 * 40 * 8


@pytest.mark.parametrize("solver", ["cholesky", "banded", "eigh"])
def test_equal_rows_without_a_ridge_share_their_mean(solver, recwarn):
    X, y, _ = data()
    twice, targets = np.vstack([X, X[:7]]), np.append(y, y[:7] + 2.0)
    merged = y + np.r_[np.ones(7), np.zeros(33)]
    model = KernelRegressor(NET, alpha=0, solver=solver).fit(twice, targets)
    np.testing.assert_allclose(model.predict(X), merged, rtol=1e-9)
    assert len(model.X_fit_) == 40
    assert not [w for w in recwarn if issubclass(w.category, JitterWarning)]


def test_nearly_equal_rows_without_a_ridge_warn():
    X, y, _ = data()
    X[1] = X[0] + 1e-16
    X[1, 0] = np.nextafter(X[0, 0], 10)
    y[1] = y[0]
    with pytest.warns(JitterWarning, match="raise alpha"):
        model = KernelRegressor(NET, alpha=0).fit(X, y)
    assert not model.solution_.ok


def test_constant_columns_and_zero_rows():
    X, y, Xt = data()
    X[:, 2] = 3.0
    X[4] = 0.0
    predictions = KernelRegressor(nn.mlp(depth=2, b_std=0.0)).fit(X, y).predict(Xt)
    assert np.isfinite(predictions).all()


def test_data_of_zeros_predict_the_mean():
    _, y, Xt = data()
    model = KernelRegressor(nn.mlp(depth=2, b_std=0.0)).fit(np.zeros((40, 5)), y)
    np.testing.assert_allclose(model.predict(Xt), y.mean(), rtol=1e-14)


def test_one_row_predicts_its_target():
    assert KernelRegressor().fit([[1.0, 2.0]], [3.0]).predict([[0.0, 5.0]]) == 3.0
    eigh = KernelRegressor(solver="eigh").fit([[1.0, 2.0]], [3.0])
    assert eigh.predict([[0.0, 5.0]]) == 3.0


def test_verbose_shows_progress(capsys):
    X, y, _ = data()
    KernelRegressor(NET, verbose=1).fit(X, y)
    captured = capsys.readouterr()
    assert "KernelRegressor" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("offset", [1.7e9, -4e9])
@pytest.mark.parametrize("t", [1, 2])
def test_float32_features_and_targets_far_from_zero(offset, t):
    """float32 has no digit for what the features explain; the mean stays in float64."""
    X, y, Xt = data()
    Y = np.column_stack([y, -y])[:, :t]
    models = [
        KernelRegressor(NET, alpha=1e-2).fit(X.astype("float32"), targets)
        for targets in (Y, Y + offset)
    ]
    near, far = (model.predict(Xt) for model in models)
    # The targets themselves are rounded by the offset's last digit.
    error = 4e-16 * abs(offset) * 50 / 1e-2
    np.testing.assert_allclose(far - offset, near, atol=error)
    assert np.ptp(near, axis=0).min() > 100 * error
