"""Networks are values: equal by content, hashable, immutable, printable, picklable, storable."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernreg import nn
from tests.nn.strategies import NONLINEARITIES, networks

NETWORKS = networks(NONLINEARITIES, max_leaves=3)
few = settings(max_examples=40)


@few
@given(net=NETWORKS)
def test_repr_is_the_code_that_makes_it(net: nn.Layer) -> None:
    copy = eval(repr(net), vars(nn))
    assert copy == net
    assert hash(copy) == hash(net)
    assert copy.program() == net.program()


@few
@given(net=NETWORKS)
def test_pickle_and_json(net: nn.Layer) -> None:
    for copy in (pickle.loads(pickle.dumps(net)), nn.from_json(nn.to_json(net))):
        assert copy is not net
        assert copy == net
        assert hash(copy) == hash(net)


@few
@given(nets=st.tuples(NETWORKS, NETWORKS))
def test_equal_networks_print_alike_and_others_do_not(nets: tuple[nn.Layer, nn.Layer]) -> None:
    """The text shows every argument that is not at its default, so it tells networks apart."""
    one, two = nets
    assert (one == two) == (repr(one) == repr(two))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (nn.Dense(1.5), nn.Dense(1.25)),
        (nn.Dense(), nn.Dense(b_std=None)),
        (nn.Dense(), nn.Identity()),
        (nn.Relu(), nn.Abs()),
        (nn.Sin(1.0, 2.0), nn.Sin(2.0, 1.0)),
        (nn.serial(nn.Dense(), nn.Dense()), nn.serial(nn.Dense())),
        (nn.serial(nn.Dense()), nn.Dense()),
        (nn.repeat(nn.Dense(), 2), nn.repeat(nn.Dense(), 3)),
        (nn.parallel(nn.Dense()), nn.parallel(nn.Dense(), merge="product")),
        (nn.residual(nn.Dense()), nn.residual(nn.Dense(), nn.Dense())),
        (nn.mlp(depth=2), nn.mlp(depth=3)),
        (nn.Elementwise(torch.tanh), nn.Elementwise(torch.arctan)),
    ],
)
def test_unequal(one: nn.Layer, two: nn.Layer) -> None:
    assert one != two
    assert len({one, two}) == 2


def test_lists_become_tuples() -> None:
    """Whatever sequence an argument is, the layer that holds it is hashable."""
    branch = nn.serial(nn.Dense(), nn.Relu(), nn.Dense())
    net = nn.parallel(branch, nn.Dense(), merge="concat", weights=[1.0, 2.0])  # type: ignore[arg-type]
    same = nn.parallel(branch, nn.Dense(), merge="concat", weights=(1.0, 2.0))
    assert net == same
    assert hash(net) == hash(same)
    longer = branch.with_params(layers=[*branch.layers, nn.Relu()])
    assert longer == nn.serial(nn.Dense(), nn.Relu(), nn.Dense(), nn.Relu())
    assert len({longer}) == 1


def test_immutable() -> None:
    layer = nn.Dense()
    with pytest.raises(dataclasses.FrozenInstanceError):
        layer.W_std = 2.0  # type: ignore[misc]


def test_repr_leaves_defaults_out() -> None:
    assert repr(nn.Dense()) == "Dense()"
    assert repr(nn.Dense(2.0, None)) == "Dense(W_std=2.0, b_std=None)"
    # 1 == 1.0, but the code must give back what was put in.
    assert repr(nn.Dense(1)) == "Dense(W_std=1)"
    assert repr(nn.residual(nn.Dense(), nn.Identity())) == "residual(Dense())"
    net = nn.parallel(nn.Dense(), nn.Dense(2.0), merge="concat", weights=(1.0, 3.0))
    assert repr(net) == ("parallel(Dense(), Dense(W_std=2.0), merge='concat', weights=(1.0, 3.0))")


def test_numpy_scalars_survive_json() -> None:
    """They come from parameter grids."""
    net = nn.serial(nn.Dense(np.float64(1.5)), nn.repeat(nn.Dense(), np.int64(3)))
    copy = nn.from_json(nn.to_json(net))
    assert copy == net
    assert repr(copy) == "serial(Dense(W_std=1.5), repeat(Dense(), 3))"
