"""Models that are written and read again predict the same numbers, bit for bit."""

import copy
import importlib
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator

import kernreg
from kernreg import KernelClassifier, KernelRegressor, nn
from kernreg.exceptions import InvalidInputError, ModelFileError, NetworkError
from kernreg.solvers import PCG, Cholesky, Eigh, RPCholesky


def through_pickle(model, folder):
    return pickle.loads(pickle.dumps(model))


def through_joblib(model, folder):
    joblib.dump(model, folder / "model.joblib")
    return joblib.load(folder / "model.joblib")


def through_file(model, folder):
    model.save(folder / "model.safetensors")
    return kernreg.load(folder / "model.safetensors")


def through_deepcopy(model, folder):
    return copy.deepcopy(model)


WAYS = [through_pickle, through_joblib, through_file, through_deepcopy]

NETWORKS = [
    nn.mlp(depth=2, activation=nn.Erf(), W_std=1.1),
    nn.serial(nn.Dense(), nn.residual(nn.serial(nn.Relu(), nn.Dense(1.2, 0.1))), nn.LayerNorm()),
    nn.mlp(depth=np.int64(2), W_std=np.float64(1.3)),
    None,
]


def data(n=40, t=2):
    rng = np.random.default_rng(4)
    return rng.standard_normal((n, 5)), rng.standard_normal((n, t)), rng.standard_normal((17, 5))


def model_scale(model, X):
    """Largest ``sqrt(K_ii K_jj)`` between each row of X and the training rows, as a column."""
    train, new = (kernreg.diag(model.network_, rows) for rows in (model.X_fit_, X))
    return np.sqrt(new.reshape(-1, 1) * train.max())


def same_arrays(a, b):
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and np.array_equal(a, b)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_regressor(way, network, dtype, tmp_path):
    X, Y, Xt = data()
    model = KernelRegressor(network, alpha=[1e-2, 0.1], kernel="nngp", dtype=dtype).fit(X, Y)
    again = way(model, tmp_path)
    assert same_arrays(again.predict(Xt), model.predict(Xt))
    assert again.network == model.network
    assert again.network_ == model.network_
    assert again.alpha_ == model.alpha_
    assert again.plan_ == model.plan_
    assert again.solution_.status is model.solution_.status
    assert dict(again.solution_.stats) == dict(model.solution_.stats)
    for name in ("X_fit_", "dual_coef_", "y_mean_"):
        assert same_arrays(getattr(again, name), getattr(model, name))
    for name in ("alphas", "squared_error", "predictions", "best"):
        assert same_arrays(getattr(again.loo_, name), getattr(model.loo_, name))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", [(40,), (40, 1)])
def test_one_target(way, shape, tmp_path):
    X, Y, Xt = data()
    model = KernelRegressor(nn.mlp(depth=1), alpha=[1e-2, 0.1]).fit(X, Y[:, 0].reshape(shape))
    again = way(model, tmp_path)
    assert same_arrays(again.predict(Xt), model.predict(Xt))
    for name in ("dual_coef_", "y_mean_"):
        assert np.shape(getattr(again, name)) == np.shape(getattr(model, name))
    assert np.shape(again.loo_.predictions) == shape


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "labels",
    [
        np.array(["no", "perhaps", "yes"]),
        np.array(["no", "perhaps", "ÿés"], dtype=object),
        np.array([-5, 0, 7], dtype=np.int8),
        np.array([0.5, 1.5, 2.5]).round(),
        np.array([False, True]),
    ],
)
def test_classifier(way, labels, tmp_path):
    X, _, Xt = data()
    model = KernelClassifier(nn.mlp(depth=1)).fit(X, labels[np.arange(40) % len(labels)])
    again = way(model, tmp_path)
    assert same_arrays(again.decision_function(Xt), model.decision_function(Xt))
    assert same_arrays(again.predict(Xt), model.predict(Xt))
    assert same_arrays(again.classes_, model.classes_)


@pytest.mark.parametrize(
    "parameters",
    [
        {"alpha": 0.5, "alpha_scale": "absolute", "solver": "cholesky"},
        {"solver": Cholesky(block=16, refine=3), "max_memory": "1GB", "verbose": 0},
        {"solver": Eigh(), "max_memory": 1e9, "backend": "reference"},
        {"solver": PCG(RPCholesky(rank=20), tol=1e-9)},
        {"dtype": np.float32, "device": "cpu", "precision": "ieee"},
        {"fit_intercept": False},
        {"alpha": np.logspace(-3, 0, 4)},
    ],
)
def test_parameters_survive_a_file(parameters, tmp_path):
    X, Y, Xt = data()
    model = KernelRegressor(nn.mlp(depth=1), **parameters).fit(X, Y)
    again = through_file(model, tmp_path)
    assert same_arrays(again.predict(Xt), model.predict(Xt))
    before, after = model.get_params(deep=False), again.get_params(deep=False)
    assert np.array_equal(after.pop("alpha"), before.pop("alpha"))
    assert np.dtype(after.pop("dtype")) == np.dtype(before.pop("dtype"))
    assert after == before
    # A loaded model is an ordinary one: it can be fitted again.
    refitted = again.fit(X, Y)
    assert same_arrays(refitted.predict(Xt), model.predict(Xt))


@pytest.mark.parametrize(
    ("backend", "found"), [("auto", "auto"), ("triton", "auto"), ("reference", "reference")]
)
def test_model_of_a_gpu_that_is_not_there(backend, found, tmp_path):
    X, Y, Xt = data()
    model = KernelRegressor(nn.mlp(depth=1), backend="reference").fit(X, Y)
    expected = model.predict(Xt)
    model.set_params(device="cuda:99", backend=backend).save(tmp_path / "model")
    with pytest.warns(UserWarning, match="device='cuda:99', which is not there.*on the CPU"):
        again = kernreg.load(tmp_path / "model")
    assert (again.device, again.backend) == ("cpu", found)
    # Both are within 1e-10 of sqrt(K_ii K_jj), entry by entry, of the exact kernel.
    bound = 2e-10 * model_scale(model, Xt) * np.abs(model.dual_coef_).sum(axis=0)
    assert (np.abs(again.predict(Xt) - expected) <= bound).all()


def test_file_of_a_version_without_a_parameter(tmp_path, monkeypatch):
    """It stands for the default."""
    X, Y, Xt = data()
    model = KernelRegressor(nn.mlp(depth=1)).fit(X, Y)
    names = [name for name in model.get_params(deep=False) if name != "precision"]
    with monkeypatch.context() as patch:
        patch.setattr(KernelRegressor, "_get_param_names", classmethod(lambda cls: names))
        model.save(tmp_path / "model")
    again = kernreg.load(tmp_path / "model")
    assert again.precision == "tf32x3"
    assert same_arrays(again.predict(Xt), model.predict(Xt))


@pytest.mark.parametrize("way", WAYS)
def test_feature_names(way, tmp_path):
    X, Y, Xt = data()
    model = KernelRegressor().fit(pd.DataFrame(X, columns=list("vwxyz")), Y)
    again = way(model, tmp_path)
    assert again.feature_names_in_.tolist() == list("vwxyz")
    table = pd.DataFrame(Xt, columns=list("vwxyz"))
    assert same_arrays(again.predict(table), model.predict(table))
    with pytest.raises(ValueError, match="feature names should match"):
        again.predict(table[list("zyxwv")])


def test_file_in_another_process(tmp_path):
    X, Y, Xt = data()
    model = KernelRegressor(nn.mlp(depth=2), alpha=1e-2).fit(X, Y)
    model.save(tmp_path / "model.safetensors")
    joblib.dump(model, tmp_path / "model.joblib")
    np.save(tmp_path / "X.npy", Xt)
    script = """
import sys, joblib, numpy as np, kernreg
folder = sys.argv[1]
X = np.load(folder + "/X.npy")
for name, load in (("model.safetensors", kernreg.load), ("model.joblib", joblib.load)):
    np.save(f"{folder}/{name}.npy", load(f"{folder}/{name}").predict(X))
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    for name in ("model.safetensors", "model.joblib"):
        assert same_arrays(np.load(tmp_path / f"{name}.npy"), model.predict(Xt))


def test_file_holds_the_network_of_the_fit_and_the_one_set_later(tmp_path):
    X, Y, Xt = data()
    model = KernelRegressor(nn.mlp(depth=1)).fit(X, Y)
    expected = model.predict(Xt)
    model.set_params(network__depth=3)
    again = through_file(model, tmp_path)
    assert again.network == nn.mlp(depth=3)
    assert again.network_ == nn.mlp(depth=1)
    assert same_arrays(again.predict(Xt), expected)


def test_pickle_of_a_model_that_is_not_fitted():
    model = KernelRegressor(nn.mlp(depth=4), alpha=0.5)
    again = pickle.loads(pickle.dumps(model))
    assert isinstance(again, BaseEstimator)
    assert again.get_params() == model.get_params()


def cubed(x):
    return x**3


def test_network_with_a_function_is_loaded_on_request_only(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, cubed.__module__, sys.modules[__name__])
    X, Y, Xt = data()
    network = nn.serial(nn.Dense(), nn.Elementwise(cubed), nn.Dense())
    model = KernelRegressor(network).fit(X, Y)
    model.save(tmp_path / "model")
    with pytest.raises(ModelFileError, match=r"uses the Python function .*cubed.*trusted=True"):
        kernreg.load(tmp_path / "model")
    again = kernreg.load(tmp_path / "model", trusted=True)
    assert same_arrays(again.predict(Xt), model.predict(Xt))


def test_trusted_function_of_a_module_that_is_not_imported(tmp_path, monkeypatch):
    """A file does not decide what is imported; but it is whole, and the remedy is known."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "kernreg_test_functions.py").write_text("def cubed(x):\n    return x**3\n")
    functions = importlib.import_module("kernreg_test_functions")
    X, Y, Xt = data()
    network = nn.serial(nn.Dense(), nn.Elementwise(functions.cubed), nn.Dense())
    model = KernelRegressor(network).fit(X, Y)
    model.save(tmp_path / "model")
    monkeypatch.delitem(sys.modules, "kernreg_test_functions")
    with pytest.raises(ModelFileError, match="import the module 'kernreg_test_f") as caught:
        kernreg.load(tmp_path / "model", trusted=True)
    assert "damaged" not in str(caught.value)
    importlib.import_module("kernreg_test_functions")
    again = kernreg.load(tmp_path / "model", trusted=True)
    assert same_arrays(again.predict(Xt), model.predict(Xt))


def test_what_has_no_json_form_is_not_saved(tmp_path):
    X, Y, _ = data()
    network = nn.serial(nn.Dense(), nn.Elementwise(lambda x: x**3), nn.Dense())
    model = KernelRegressor(network).fit(X, Y)
    with pytest.raises(NetworkError, match="only functions that can be imported"):
        model.save(tmp_path / "model")
    labels = KernelClassifier().fit(X, np.arange(40) % 2)
    labels.classes_ = np.array([None, 1], dtype=object)
    with pytest.raises(InvalidInputError, match="use numbers or strings"):
        labels.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_an_estimator_of_the_user(tmp_path):
    """Defined once more, as in a notebook, it is the new one; no name of kernreg changes hands."""
    X, y = np.eye(4), np.arange(4.0)
    for scale in (1.0, 2.0):

        class Scaled(KernelRegressor):
            factor = scale

        Scaled(alpha=0.1).fit(X, y).save(tmp_path / "model")
        assert kernreg.load(tmp_path / "model").factor == scale
        assert Scaled.load(tmp_path / "model").alpha_ == 0.1
    type("KernelRegressor", (KernelClassifier,), {})
    KernelRegressor(alpha=0.1).fit(X, y).save(tmp_path / "model")
    assert type(kernreg.load(tmp_path / "model")) is KernelRegressor
