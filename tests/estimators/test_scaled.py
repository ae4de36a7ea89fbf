"""Models on columns with learned scales (``scale="ard"``)."""

import numpy as np
import pytest

import kernreg
from kernreg import ColumnScales, KernelClassifier, KernelRegressor, nn
from kernreg.estimators.scales import learn_scales
from kernreg.exceptions import InvalidInputError, MemoryBudgetError
from kernreg.operators import write_store
from kernreg.operators.kernel import KernelOperator

NET = "mlp(depth=1, activation=Erf(), b_std=0.3)"


def data(n=120):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, 6))
    return X, np.sin(2.0 * X[:, 1]) + 0.5 * X[:, 4] ** 2, rng.standard_normal((40, 6))


@pytest.fixture(scope="module")
def fitted():
    X, y, _ = data()
    return KernelRegressor(NET, scale="ard").fit(X, y)


def test_is_the_plain_model_on_scaled_columns(fitted):
    X, y, Z = data()
    plain = KernelRegressor(NET).fit(X * fitted.scales_, y)
    assert plain.alpha_ == fitted.alpha_
    np.testing.assert_array_equal(fitted.predict(Z), plain.predict(Z * fitted.scales_))
    np.testing.assert_array_equal(fitted.X_fit_, X)


def test_scales_are_those_of_the_transformer(fitted):
    X, y, _ = data()
    other = ColumnScales(fitted.network, max_rows=700).fit(X, y)
    np.testing.assert_allclose(fitted.scales_, other.scales_, rtol=1e-12)
    np.testing.assert_allclose(fitted.feature_importances_, other.feature_importances_, rtol=1e-12)


def test_columns_that_matter_have_the_shares(fitted):
    shares = fitted.feature_importances_
    assert set(np.argsort(shares)[-2:]) == {1, 4}
    assert shares.sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("solver", ["cholesky", "banded", "eigh", "pcg", "restricted"])
def test_every_solver_sees_the_scales(fitted, solver):
    X, y, Z = data()
    model = KernelRegressor(NET, alpha=1e-3, solver=solver, scale="ard").fit(X, y)
    plain = KernelRegressor(NET, alpha=1e-3, solver=solver).fit(X * model.scales_, y)
    np.testing.assert_array_equal(model.scales_, fitted.scales_)
    np.testing.assert_array_equal(model.predict(Z), plain.predict(Z * model.scales_))


def test_classifiers_learn_from_their_codes():
    X, y, Z = data()
    model = KernelClassifier(NET, scale="ard").fit(X, y > 0.5)
    plain = KernelClassifier(NET).fit(X * model.scales_, y > 0.5)
    assert model.scales_.std() > 0
    np.testing.assert_array_equal(model.predict_proba(Z), plain.predict_proba(Z * model.scales_))


def test_intervals_and_gradients_are_by_the_columns_as_they_came():
    X, y, Z = data()
    fitted = KernelRegressor(NET, alpha=1e-2, scale="ard").fit(X, y)
    found = kernreg.input_gradient(fitted, Z[:3])
    step = 1e-5  # its square, and the rounding of predictions over it, are below the tolerance
    for k in range(Z.shape[1]):
        moved = step * np.eye(Z.shape[1])[k]
        slope = (fitted.predict(Z[:3] + moved) - fitted.predict(Z[:3] - moved)) / (2 * step)
        np.testing.assert_allclose(found[:, k], slope, atol=1e-6 * np.abs(found).max())
    low, high = fitted.predict_interval(Z)
    assert (low <= fitted.predict(Z)).all()
    assert (fitted.predict(Z) <= high).all()


def test_files_keep_the_scales(fitted, tmp_path):
    _, _, Z = data()
    fitted.save(tmp_path / "model.safetensors")
    again = kernreg.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.predict(Z), fitted.predict(Z))
    np.testing.assert_array_equal(again.feature_importances_, fitted.feature_importances_)
    assert again.scale == "ard"


def test_impossible_scales_are_not_saved(tmp_path):
    X, y, _ = data()
    model = KernelRegressor(NET, scale="ard").fit(X, y)
    model.scales_ = -model.scales_
    with pytest.raises(InvalidInputError, match="positive scales"):
        model.save(tmp_path / "model.safetensors")


def test_a_fit_without_scales_forgets_them(fitted):
    X, y, Z = data()
    model = KernelRegressor(NET, scale="ard").fit(X, y)
    model.set_params(scale=None).fit(X, y)
    assert not hasattr(model, "scales_")
    assert not hasattr(model, "feature_importances_")
    np.testing.assert_array_equal(model.predict(Z), KernelRegressor(NET).fit(X, y).predict(Z))


def test_explain_takes_data_of_another_width(fitted):
    assert fitted.explain(np.ones((50, 3)), seconds=False).n_features == 3


def test_weights_count_as_rows():
    """Twice the weight is as no weight; a row of weight 3 outweighs three others."""
    X, y, _ = data(60)
    net, Y = nn.mlp(1, nn.Erf(), b_std=0.3), y[:, None]
    plain = learn_scales(net, "ntk", X, Y, max_iter=3)
    twice = learn_scales(net, "ntk", X, Y, max_iter=3, weights=np.full(60, 2.0))
    other = learn_scales(net, "ntk", X, Y, max_iter=3, weights=np.linspace(0.1, 3.0, 60))
    np.testing.assert_array_equal(plain.scales, twice.scales)
    assert np.abs(np.log(other.scales / plain.scales)).max() > 1e-3


def test_images_and_stores_are_refused(tmp_path):
    X, y, _ = data()
    images = np.random.default_rng(0).standard_normal((20, 4, 4, 1))
    with pytest.raises(InvalidInputError, match="for images"):
        KernelRegressor(nn.cnn(1, readout="flatten"), scale="ard").fit(images, y[:20])
    operator = KernelOperator(nn.mlp(1, nn.Erf(), b_std=0.3), X, kernel="ntk")
    write_store(tmp_path / "store", operator)
    with pytest.raises(InvalidInputError, match="leave store out"):
        KernelRegressor(NET, scale="ard", store=tmp_path / "store").fit(X, y)
    with pytest.raises(ValueError, match="scale"):
        KernelRegressor(NET, scale="learned").fit(X, y)


def test_a_failed_fit_leaves_the_model_as_it_was():
    X, y, Z = data()
    model = KernelRegressor(NET, alpha=1e-3, scale="ard").fit(X, y)
    before, scales = model.predict(Z), model.scales_
    with pytest.raises(MemoryBudgetError):
        model.set_params(max_memory=10).fit(5.0 * X, y)
    with pytest.raises(InvalidInputError):
        model.set_params(max_memory=None, store="none").fit(X, y)
    np.testing.assert_array_equal(model.scales_, scales)
    np.testing.assert_array_equal(model.set_params(store=None).predict(Z), before)


@pytest.mark.parametrize("name", ["Tanh", "Swish"])
def test_a_search_that_leaves_the_range_of_a_series_goes_on(name):
    X, y, _ = data(40)
    network = f"mlp(depth=1, activation={name}(), b_std=0.3)"
    model = KernelRegressor(network, alpha=1e-3, scale="ard").fit(X[:, :3], y)
    assert np.isfinite(model.scales_).all()


def test_networks_without_gradients_are_refused():
    X, y, _ = data(30)
    with pytest.raises(InvalidInputError, match="learned by gradients, which this network"):
        KernelRegressor("mlp(depth=1, activation=Elu())", scale="ard").fit(X, y)


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_rows(n):
    X, y, _ = data()
    with pytest.raises(InvalidInputError, match="at least 3 rows"):
        KernelRegressor(NET, scale="ard").fit(X[:n], y[:n])


def test_explain_knows_what_cannot_be_scaled():
    images = np.ones((20, 4, 4, 1))
    with pytest.raises(InvalidInputError, match="for images"):
        KernelRegressor(nn.cnn(1), scale="ard").explain(images, seconds=False)
