"""Networks by their code, in Python as on the command line, and names that are misspelled."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import kernreg
from kernreg import KernelClassifier, KernelRegressor, nn
from kernreg.exceptions import ArgumentError, NetworkError
from kernreg.nn.parse import parse_network

RNG = np.random.default_rng(4)
X, Y = RNG.standard_normal((20, 3)), RNG.standard_normal(20)


@pytest.mark.parametrize(
    ("text", "net"),
    [
        ("mlp(depth=2)", nn.mlp(depth=2)),
        (" nn.mlp(2, nn.Erf(a=2), W_std=2**0.5) ", nn.mlp(2, nn.Erf(a=2), 2**0.5)),
        ("mlp(activation='relu')", nn.mlp()),
        ("serial(Dense(), Relu(), Dense())", nn.serial(nn.Dense(), nn.Relu(), nn.Dense())),
        (nn.to_json(nn.mlp(depth=4)), nn.mlp(depth=4)),
    ],
)
@pytest.mark.parametrize("estimator", [KernelRegressor, KernelClassifier])
def test_estimators_take_code(estimator: type, text: str, net: nn.Layer, tmp_path) -> None:
    model = estimator(text, alpha=0.1).fit(X, Y > 0)
    assert model.network == model.get_params()["network"] == clone(model).network == text
    assert model.network_ == net
    model.save(tmp_path / "model")
    again = kernreg.load(tmp_path / "model")
    assert (again.network, again.network_) == (text, net)
    assert np.array_equal(again.predict(X), model.predict(X))


def test_parameters_of_a_network_by_code() -> None:
    search = GridSearchCV(KernelRegressor("mlp(depth=1)"), {"network__depth": [2, 3]}, cv=2)
    assert search.fit(X, Y).best_estimator_.network in (nn.mlp(depth=2), nn.mlp(depth=3))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mlp(depht=2)", "depht.*Did you mean 'depth'"),
        ("serial(Relu(), Dense())", "Relu.* stands directly on the input"),
        ("residual(serial(Relu(), Dense()))", "stands directly on the input"),
        ("__import__('os')", "Unknown layer '__import__'"),
        ("mlp", "lacks its parentheses"),
        ("3", "is 3, not a network"),
        ("", "is not a network"),
    ],
)
def test_text_that_is_no_network(text: str, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        KernelRegressor(text).fit(X, Y)


@pytest.mark.parametrize(
    ("text", "layer"),
    [
        ("relu", nn.Relu()),
        ("ReLU", nn.Relu()),
        ("nn.Gelu", nn.Gelu()),
        ("Erf(a=2)", nn.Erf(a=2)),
        ("LeakyRelu(0.1)", nn.LeakyRelu(0.1)),
        ("tanh()", None),
    ],
)
def test_activations_by_name(text: str, layer: nn.Layer | None) -> None:
    if layer is None:
        with pytest.raises(NetworkError, match="Did you mean 'Tanh'"):
            nn.mlp(activation=text)
        return
    assert nn.mlp(activation=text) == nn.mlp(activation=layer)
    assert nn.mlp().with_params(activation=text).activation == layer


@pytest.mark.parametrize("text", ["relo", "Dense", "mlp(depth=1)", "3", "", "Dropout(0.5)"])
def test_what_is_no_activation(text: str) -> None:
    with pytest.raises(NetworkError):
        nn.mlp(activation=text)


@pytest.mark.parametrize(
    ("call", "meant"),
    [
        (lambda: nn.mlp(W_sdt=3), "W_std"),
        (lambda: nn.Dense(w_std=1.0), "W_std"),
        (lambda: nn.Dropout(keep_probability=0.5), "keep_prob"),
        (lambda: nn.LayerNorm(epsilon=1e-6), "eps"),
        (lambda: nn.LeakyRelu(slop=0.1), "slope"),
        (lambda: nn.parallel(nn.Dense(), nn.Dense(), merg="sum"), "merge"),
        (lambda: nn.residual(nn.Dense(), shortcuts=nn.Dense()), "shortcut"),
        (lambda: nn.repeat(blok=nn.Dense(), n=2), "block"),
        (lambda: nn.Elementwise(fun=abs), "fn"),
    ],
)
def test_a_misspelled_name_is_told(call: Callable[[], object], meant: str) -> None:
    with pytest.raises(ArgumentError, match=f"Did you mean '{meant}'"):
        call()
    with pytest.raises(TypeError, match="takes "):
        call()


def test_layers_stay_values() -> None:
    net = nn.parallel(nn.mlp(depth=1), nn.Dense(2.0, trainable=False))
    for other in (copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other == net
    assert list(inspect.signature(nn.Dropout).parameters) == ["keep_prob"]
    assert list(inspect.signature(nn.mlp).parameters) == ["depth", "activation", "W_std", "b_std"]

    class Shifted(nn.Nonlinearity):
        """A user's own, without a decorator."""

    assert isinstance(Shifted(), nn.Layer)


def test_blocks_may_start_with_a_nonlinearity() -> None:
    block = nn.serial(nn.Relu(), nn.Dense())
    assert nn.serial(nn.Dense(), nn.residual(block), nn.repeat(block, 2)).program().ops
    with pytest.raises(NetworkError, match=r"Relu.* stands after Relu"):
        nn.serial(nn.Relu(), nn.Relu(), nn.Dense())
    with pytest.raises(NetworkError, match="stands directly on the input"):
        kernreg.gram(block, X)


def test_one_parser() -> None:
    from kernreg.cli import networks

    assert (
        tuple(sorted({*nn.__all__} - {"Layer", "Nonlinearity", "from_json", "to_json"}))
        == networks.NAMES
    )
    assert networks.parse_network("mlp(1)") == parse_network("mlp(1)")


def test_names_of_the_package() -> None:
    assert dir(kernreg) == sorted(kernreg.__all__)
    assert all(hasattr(kernreg, name) for name in dir(kernreg))
