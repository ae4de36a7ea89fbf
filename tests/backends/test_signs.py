"""What is known of the signs of correlations."""

from __future__ import annotations

import numpy as np
import pytest

import kernreg
from kernreg import nn
from kernreg.backends.signs import nonnegative
from kernreg.nn.base import LAYERS, Nonlinearity
from tests.backends.compare import needs_cpu, relative_error, rows

EPS = np.finfo(float).eps
one_sign = [layer for layer in LAYERS.values() if getattr(layer, "nonnegative", False)]


@pytest.mark.parametrize("layer", one_sign, ids=lambda layer: layer.__name__)
def test_one_sign_means_no_negative_correlation(layer: type[Nonlinearity]) -> None:
    """Any rows, also opposite ones; an entry may miss 0 by the rounding of the whole."""
    try:
        fn = layer()
    except TypeError:
        fn = layer(1)
    X = rows(40)
    X[1] = -X[0]
    K = kernreg.gram(nn.serial(nn.Dense(1.3, 0.2), fn), X, kernel="nngp", backend="reference")
    s = np.sqrt(np.diagonal(K))
    assert (K / np.outer(s, s)).min() >= -100 * EPS


def test_most_nonlinearities_have_two_signs() -> None:
    assert nn.Relu in one_sign
    assert not {nn.Erf, nn.Gelu, nn.LeakyRelu, nn.Sin, nn.Sign, nn.Tanh} & set(one_sign)


def ops(*layers: nn.Layer) -> tuple:
    return nn.serial(*layers).program().ops


def test_linear_steps_keep_what_is_known() -> None:
    assert not nonnegative(ops(nn.Dense(), nn.Erf(), nn.Dense()))
    several = ops(nn.Dense(), nn.Relu(), nn.Dense(), nn.LayerNorm(), nn.Dropout(0.5))
    known = [nonnegative(several[:end]) for end in range(1, 7)]
    assert known == [False, False, True, True, True, True]
    mixed = ops(nn.Dense(), nn.Relu(), nn.Dense(), nn.residual(nn.serial(nn.Erf(), nn.Dense())))
    assert not nonnegative(mixed)


def test_a_loop_keeps_the_sign_only_if_its_body_does() -> None:
    body = nn.serial(nn.Relu(), nn.Dense())
    assert nonnegative(ops(nn.Dense(), nn.repeat(body, 3)))
    keeps = nn.serial(nn.Dense(), nn.Dropout(0.5))
    assert nonnegative(ops(nn.Dense(), nn.Relu(), nn.repeat(keeps, 3)))
    assert not nonnegative(ops(nn.Dense(), nn.repeat(keeps, 3)))


@needs_cpu
@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize(
    "body",
    [
        nn.serial(nn.Relu(), nn.Dense(1.3, 0.1)),
        nn.serial(nn.Dense(1.1, 0.2), nn.Relu(), nn.Dense(1.2)),
        nn.serial(nn.Erf(), nn.Dense(1.3, 0.1), nn.Relu(), nn.Dense(1.2, 0.2)),
        nn.repeat(nn.serial(nn.Abs(), nn.Dense(1.2, 0.3)), 2),
    ],
    ids=["relu", "relu inside", "erf first", "nested"],
)
def test_first_turn_of_a_loop(body: nn.Layer, count: int) -> None:
    """It meets correlations of both signs, the others do not; up to 30 layers of roundings."""
    net = nn.serial(nn.Dense(1.2, 0.1), nn.repeat(body, count), nn.Dense())
    X = rows(40)
    X[1] = -X[0]
    X[2] = -2 * X[3] + 1e-3 * X[4]
    for Y in (None, rows(7, seed=1)):
        assert relative_error(net, X, Y, backend="cpu") <= 600 * EPS
        assert relative_error(net, X, Y, backend="cpu", dtype="float32") <= 5e-6
