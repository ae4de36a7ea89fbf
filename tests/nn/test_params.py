"""Parameters by name, as scikit-learn reads and sets them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from sklearn.base import clone

from kernreg import KernelRegressor, nn
from kernreg.exceptions import NetworkError
from tests.nn.strategies import NONLINEARITIES, networks

net = nn.serial(nn.Dense(1.5, 0.1), nn.residual(nn.serial(nn.Relu(), nn.Dense(b_std=0.2))))
few = settings(max_examples=40)


def test_names_reach_every_layer() -> None:
    params = net.get_params()
    assert params["layers"] is net.layers
    assert params["0__W_std"] == 1.5
    assert params["1__block__0"] == nn.Relu()
    assert params["1__block__1__b_std"] == 0.2
    assert params["1__shortcut"] == nn.Identity()
    assert net.get_params(deep=False) == {"layers": net.layers}


@few
@given(net=networks(NONLINEARITIES, max_leaves=3))
def test_every_parameter_can_be_set_to_itself(net: nn.Layer) -> None:
    for name, value in net.get_params().items():
        assert net.with_params(**{name: value}) == net


@few
@given(net=networks(NONLINEARITIES, max_leaves=3))
def test_clone(net: nn.Layer) -> None:
    copy = clone(net)
    assert copy == net
    assert copy is not net
    assert clone(KernelRegressor(net)).network == net


def test_set_nested() -> None:
    changed = net.set_params(**{"0__W_std": 2.0, "1__block__0": nn.Erf(), "1__block__1__b_std": 0})
    assert changed == nn.serial(nn.Dense(2.0, 0.1), nn.residual(nn.serial(nn.Erf(), nn.Dense())))
    assert net.layers[0] == nn.Dense(1.5, 0.1)  # the original is a value and stays
    assert nn.mlp().with_params(activation=nn.LeakyRelu(), activation__slope=0.25) == nn.mlp(
        activation=nn.LeakyRelu(0.25)
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("depth", 1, "Serial has no parameter 'depth'; it has layers"),
        ("0__depth", 1, "Dense has no parameter 'depth'; it has W_std, b_std"),
        ("5", nn.Dense(), "Serial has no inner layer '5'; they are numbered 0 to 1"),
        ("5__W_std", 1.0, "Serial has no inner layer '5'; they are numbered 0 to 1"),
        ("1__layer__0", nn.Dense(), "Residual has no inner layer 'layer'"),
        ("0__W_std__x", 1.0, "Dense has no inner layer 'W_std'"),
        ("0__W_std", -1.0, "Dense: W_std must be a finite number > 0"),
        ("0", nn.Relu(), r"Relu\(\) stands|Identity\(\) ends in"),
        ("1__block__1", nn.Identity(), "have no weights of their own"),
    ],
)
def test_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        net.with_params(**{name: value})


def test_nothing_to_set() -> None:
    assert net.with_params() is net
    assert nn.Identity().get_params() == {}
    with pytest.raises(NetworkError, match="Identity has no parameter 'x'; it has none"):
        nn.Identity().with_params(x=1)
