"""The estimators inside scikit-learn's model selection."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from kernreg import KernelClassifier, KernelRegressor, nn
from kernreg.exceptions import NetworkError

CV = KFold(3, shuffle=True, random_state=0)


def problem(n=45, d=3):
    rng = np.random.default_rng(3)
    X = 5 * rng.standard_normal((n, d)) + 20
    return X, np.sin(X[:, 0] / 5) + 0.1 * rng.standard_normal(n)


def search_in_pipeline(model, grid):
    X, y = problem()
    pipe = Pipeline([("scale", StandardScaler()), ("model", model)])
    grid = {f"model__{name}": values for name, values in grid.items()}
    return GridSearchCV(pipe, grid, cv=CV, error_score="raise").fit(X, y)


def test_network_parameters_alpha_and_kernel_in_a_pipeline():
    grid = {
        "network__depth": [1, 3],
        "network__W_std": [0.5, 1.5],
        "alpha": [1e-3, 1.0],
        "kernel": ["ntk", "nngp"],
    }
    search = search_in_pipeline(KernelRegressor(nn.mlp(depth=2)), grid)
    X, y = problem()
    assert len(search.cv_results_["params"]) == 16
    for params, score in zip(
        search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
    ):
        own = {name.removeprefix("model__"): value for name, value in params.items()}
        network = nn.mlp(depth=own.pop("network__depth"), W_std=own.pop("network__W_std"))
        explicit = make_pipeline(StandardScaler(), KernelRegressor(network, **own))
        # The same computation twice, so equal to rounding.
        expected = np.mean(cross_val_score(explicit, X, y, cv=CV))
        assert score == pytest.approx(expected, rel=1e-12)
    assert len(set(search.cv_results_["mean_test_score"])) == 16
    best = search.best_estimator_["model"]
    assert best.network_ == best.network
    assert best.network.depth == search.best_params_["model__network__depth"]


def test_layers_of_a_serial_network_by_number():
    network = nn.serial(nn.Dense(1.5, 0.1), nn.Erf(), nn.Dense())
    search = search_in_pipeline(
        KernelRegressor(network, alpha=1e-2),
        {"network__0__W_std": [0.1, 2.0], "network__1": [nn.Relu(), nn.Erf()]},
    )
    X, y = problem()
    scores = {}
    for params, score in zip(
        search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
    ):
        scores[params["model__network__0__W_std"], params["model__network__1"]] = score
    assert len(scores) == 4
    for (W_std, activation), score in scores.items():
        explicit = nn.serial(nn.Dense(W_std, 0.1), activation, nn.Dense())
        pipe = make_pipeline(StandardScaler(), KernelRegressor(explicit, alpha=1e-2))
        assert score == pytest.approx(np.mean(cross_val_score(pipe, X, y, cv=CV)), rel=1e-12)
    assert network == nn.serial(nn.Dense(1.5, 0.1), nn.Erf(), nn.Dense())


def test_whole_networks_as_a_grid():
    networks = [nn.mlp(depth=1), nn.mlp(depth=2, activation=nn.Erf())]
    search = search_in_pipeline(KernelRegressor(), {"network": networks})
    assert search.best_params_["model__network"] in networks


def test_sequences_of_alpha_as_one_value_of_a_grid():
    search = search_in_pipeline(KernelRegressor(nn.mlp(depth=1)), {"alpha": [[1e-3, 0.1], 10.0]})
    best = search.best_estimator_["model"]
    assert best.alpha == [1e-3, 0.1]
    assert best.alpha_ in best.alpha


def test_classifier_with_string_labels():
    X, y = problem(60)
    labels = np.where(y > 0, "up", "down")
    pipe = Pipeline(
        [("scale", StandardScaler()), ("model", KernelClassifier(nn.mlp(), alpha=1e-3))]
    )
    search = GridSearchCV(
        pipe, {"model__network__depth": [1, 2]}, cv=3, scoring="roc_auc", error_score="raise"
    ).fit(X, labels)
    assert set(search.predict(X)) == {"up", "down"}
    assert search.best_score_ > 0.9


def test_cross_val_predict_of_many_targets():
    X, y = problem()
    Y = np.column_stack([y, y**2])
    found = cross_val_predict(KernelRegressor(nn.mlp(depth=1)), X, Y, cv=CV)
    for train, test in CV.split(X):
        expected = KernelRegressor(nn.mlp(depth=1)).fit(X[train], Y[train]).predict(X[test])
        np.testing.assert_allclose(found[test], expected, rtol=1e-12)


def test_unknown_network_parameter_is_named():
    with pytest.raises(NetworkError, match=r"no parameter 'width'.*depth"):
        search_in_pipeline(KernelRegressor(nn.mlp()), {"network__width": [1]})


def test_network_parameters_of_the_default_network():
    model = KernelRegressor().set_params(network__depth=1)
    assert model.network == nn.mlp(depth=1)
    assert model.get_params()["network__depth"] == 1


def test_network_and_its_parameter_together():
    changed = KernelRegressor().set_params(network__W_std=1.1, network=nn.mlp(depth=5))
    assert changed.network == nn.mlp(depth=5, W_std=1.1)


def test_clone_keeps_parameters_and_drops_the_fit():
    X, y = problem()
    model = KernelRegressor(nn.mlp(depth=1), alpha=[0.1, 1.0], max_memory="1GB").fit(X, y)
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert not [name for name in vars(copy) if name.endswith("_")]
