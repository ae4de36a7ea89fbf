"""Parameters that cannot be used, and those that a model may get besides numbers and names."""

import numpy as np
import pytest

from kernreg import KernelClassifier, KernelOperator, KernelRegressor, diag, load, nn
from kernreg.backends import cpu
from kernreg.estimators import planned
from kernreg.exceptions import BackendError, InvalidInputError, NetworkError
from tests.backends.compare import chosen_freely

RNG = np.random.default_rng(9)
X = RNG.standard_normal((15, 3))
Y = RNG.standard_normal(15)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"network": "relu"}, "Unknown layer 'relu'.*Did you mean 'Relu'"),
        ({"network": "serial(Relu(), Dense())"}, "Relu.* stands directly on the input"),
        ({"network": 3}, "'network' parameter .*nn.base.Layer"),
        ({"network": nn.Relu}, "'network' parameter"),
        ({"kernel": "rbf"}, "'kernel' parameter .*'ntk'"),
        ({"kernel": ("ntk", "nngp")}, "'kernel' parameter"),
        ({"alpha": -1e-3}, "'alpha' parameter"),
        ({"alpha": np.nan}, "'alpha' parameter"),
        ({"alpha": None}, "'alpha' parameter"),
        ({"alpha": "best"}, "'alpha' parameter .*'auto'"),
        ({"alpha": []}, "'auto', a number or a non-empty sequence of numbers"),
        ({"alpha": [[0.1, 1.0]]}, "sequence of numbers"),
        ({"alpha": ["a"]}, "sequence of numbers"),
        ({"alpha": [0.1, 1j]}, "sequence of numbers"),
        ({"alpha": [0.1, -1.0]}, r"finite and >= 0, found \[0.1, -1.0\]"),
        ({"alpha": [0.1, np.inf]}, "finite and >= 0"),
        ({"alpha_scale": "trace"}, "'alpha_scale' parameter .*'mean_diag'"),
        ({"solver": "magic"}, "'solver' parameter .*'eigh'"),
        ({"dtype": "float16"}, "'dtype' parameter .*'float32'"),
        ({"dtype": np.float16}, "float32, float64 or None, found float16"),
        ({"dtype": np.dtype("int64")}, "float32, float64 or None, found int64"),
        ({"dtype": complex}, "found complex128"),
        ({"device": "cuda:9"}, "device 'cuda:9' is not there.*Use device='cpu'"),
        ({"device": "tpu"}, "'cpu' or 'cuda', found 'tpu'"),
        ({"backend": "abacus"}, "'auto' or one of cpu, .*reference, found 'abacus'"),
        ({"precision": "half"}, "'precision' parameter .*'tf32x3'"),
        ({"max_memory": 0}, "'max_memory' parameter"),
        ({"max_memory": "plenty"}, "like '4GB'.*found 'plenty'"),
        ({"verbose": "loudly"}, "'verbose' parameter"),
    ],
)
@pytest.mark.parametrize("model", [KernelRegressor, KernelClassifier])
def test_unusable(model, parameters, message):
    with pytest.raises(ValueError, match=message):
        model(**parameters).fit(X, Y > 0)


def test_a_network_that_cannot_be_names_the_layer():
    with pytest.raises(NetworkError, match=r"Erf\(\) stands directly on the input"):
        KernelRegressor(nn.Erf()).fit(X, Y)


def test_constructors_only_store():
    alpha, network = [-1.0], object()
    model = KernelRegressor(network, alpha=alpha)
    assert model.alpha is alpha
    assert model.network is network


def test_fit_leaves_parameters_alone():
    alpha = np.array([1, 0])
    model = KernelRegressor(alpha=alpha, solver="eigh")
    before = model.get_params()
    model.fit(X, Y)
    assert model.get_params() == before
    assert alpha.tolist() == [1, 0]
    assert type(model.alpha_) is float


@pytest.mark.parametrize(
    "alpha", [(0.1, 1.0), np.array([0.1, 1.0]), [np.float32(0.1), 1], range(3)]
)
def test_kinds_of_sequences(alpha):
    model = KernelRegressor(nn.mlp(depth=1), alpha=alpha).fit(X, Y)
    assert model.alpha_ in np.asarray(alpha, dtype=float)
    assert model.loo_.alphas.shape == (len(alpha),)


def test_absolute_is_relative_times_the_weighted_mean_diagonal():
    network = nn.mlp(depth=1)
    weights = RNG.uniform(0.5, 2.0, 15)
    mean = np.average(diag(network, X), weights=weights)
    relative = KernelRegressor(network, alpha=0.1).fit(X, Y, weights)
    absolute = KernelRegressor(network, alpha=0.1 * mean, alpha_scale="absolute")
    # The two ridges agree to rounding; so do the solutions, times a condition number below 1e3.
    error = 1e3 * 15 * np.finfo(float).eps
    found = absolute.fit(X, Y, weights).predict(X)
    np.testing.assert_allclose(found, relative.predict(X), rtol=error, atol=error)
    plain = KernelRegressor(network, alpha=0.1 * mean, alpha_scale="mean_diag").fit(X, Y, weights)
    assert np.abs(plain.predict(X) - relative.predict(X)).max() > 1e-3


def test_backends_agree():
    network = nn.mlp(depth=2, activation=nn.Erf())
    models = [KernelRegressor(network, alpha=0.1, backend=b) for b in ("auto", "reference")]
    fast, slow = (model.fit(X, Y).predict(X) for model in models)
    # Entries within 1e-10, condition number at most 15 / 0.1 + 1.
    np.testing.assert_allclose(fast, slow, rtol=2e-8, atol=2e-8)


def test_precision_reaches_every_operator(monkeypatch):
    asked = []

    class Recorder(KernelOperator):
        def __init__(self, *args, **options):
            asked.append(options["precision"])
            super().__init__(*args, **options)

    monkeypatch.setattr(planned, "KernelOperator", Recorder)
    KernelRegressor(nn.mlp(depth=1), precision="ieee").fit(X, Y).predict(X)
    assert asked == ["ieee", "ieee"]


@chosen_freely
def test_backend_that_is_not_there(monkeypatch):
    monkeypatch.setattr(cpu, "_MISSING", "the C++ extension is not there")
    expected = KernelRegressor(backend="reference").fit(X, Y).predict(X)
    assert np.array_equal(KernelRegressor(backend="auto").fit(X, Y).predict(X), expected)
    with pytest.raises(BackendError, match="extension is not there"):
        KernelRegressor(backend="cpu").fit(X, Y)


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel": "nngp"},
        {"network": nn.mlp(depth=6)},
        {"network": "mlp(depth=6)", "kernel": "nngp", "alpha": 3.0, "alpha_scale": "absolute"},
        {"fit_intercept": False, "solver": "pcg", "dtype": "float32"},
    ],
)
def test_a_fitted_model_predicts_as_it_was_fitted(changes, tmp_path):
    """Whatever is set for the next fit."""
    model = KernelRegressor(nn.mlp(depth=1), alpha=1e-2).fit(X, Y)
    before = model.predict(X)
    model.set_params(**changes)
    assert np.array_equal(model.predict(X), before)
    assert (model.kernel_, model.network_) == ("ntk", nn.mlp(depth=1))
    model.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert np.array_equal(again.predict(X), before)
    assert again.kernel == model.kernel
    assert np.abs(again.fit(X, Y).predict(X) - before).max() > 0


def test_swapped_arguments_of_fit():
    with pytest.raises(InvalidInputError, match=r"X is a vector of 15 .*swapped"):
        KernelRegressor().fit(Y, X)
