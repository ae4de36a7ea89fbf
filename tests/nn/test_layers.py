"""Layers refuse bad numbers, and networks refuse layers that do not fit."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from kernreg import nn
from kernreg.exceptions import KernregError, NetworkError

BAD = [-1.0, math.nan, math.inf, -math.inf, "1", 1j, True, np.array([1.0])]
branch = nn.serial(nn.Dense(), nn.Relu(), nn.Dense())


@pytest.mark.parametrize("value", [0.0, None, *BAD])
def test_weights_are_positive_numbers(value: object) -> None:
    with pytest.raises(NetworkError, match="Dense: W_std must be a finite number > 0, found"):
        nn.Dense(W_std=value)  # type: ignore[arg-type]
    with pytest.raises(NetworkError, match="W_std must be a finite number > 0, found"):
        nn.mlp(W_std=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", BAD)
def test_biases_are_numbers_from_0_or_none(value: object) -> None:
    with pytest.raises(NetworkError, match="Dense: b_std must be a finite number >= 0, found"):
        nn.Dense(b_std=value)  # type: ignore[arg-type]
    assert nn.Dense(b_std=None).b_std is None


@pytest.mark.parametrize("value", BAD)
def test_layer_norm_needs_a_number_from_0(value: object) -> None:
    with pytest.raises(NetworkError, match="LayerNorm: eps must be a finite number >= 0, found"):
        nn.LayerNorm(eps=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0.0, 1.5, *BAD])
def test_dropout_needs_a_probability(value: object) -> None:
    with pytest.raises(NetworkError, match="Dropout: keep_prob must be"):
        nn.Dropout(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("fan_in", [0, 2.5, *BAD])
def test_standard_parameterization_needs_a_width(fan_in: object) -> None:
    """A width is a whole number of units."""
    with pytest.raises(NetworkError, match="Dense: fan_in must be"):
        nn.Dense(parameterization="standard", fan_in=fan_in)  # type: ignore[arg-type]


def test_parameterizations_by_name() -> None:
    with pytest.raises(NetworkError, match="needs fan_in, the width"):
        nn.Dense(parameterization="standard")
    with pytest.raises(NetworkError, match="must be 'ntk' or 'standard', found 'mean field'"):
        nn.Dense(parameterization="mean field")


@pytest.mark.parametrize("last", [0.1, 0, 1.5])
def test_dense_has_no_width(last: float) -> None:
    """A line pasted from neural-tangents: the message holds the line to write."""
    with pytest.raises(NetworkError, match="Dense has no width argument") as caught:
        nn.Dense(512, 1.5, last)  # type: ignore[arg-type]
    assert "found 512, 1.5, " in str(caught.value)
    assert str(caught.value).endswith(f"Write Dense(W_std=1.5, b_std={last}).")


@pytest.mark.parametrize("width", [32, 512, np.int64(64)])
def test_dense_takes_no_whole_number_that_looks_like_a_width(width: int) -> None:
    for numbers in ((width,), (width, 0.1)):
        with pytest.raises(NetworkError, match=f"the whole number {width}. Leave it out"):
            nn.Dense(*numbers)
    assert nn.Dense(float(width)).W_std == width
    assert nn.Dense(2).W_std == 2


def test_numpy_numbers_are_numbers() -> None:
    assert nn.Dense(np.float32(1.5), np.float64(0.5)) == nn.Dense(1.5, 0.5)
    assert nn.mlp(depth=np.int64(2)) == nn.mlp(depth=2)


def test_errors_are_value_errors_of_kernreg() -> None:
    assert issubclass(NetworkError, ValueError)
    assert issubclass(NetworkError, KernregError)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Relu().program(), r"^Relu\(\) stands directly on the input"),
        (lambda: nn.serial(nn.Relu(), nn.Dense()).program(), r"^Relu\(\) stands directly on the"),
        (lambda: nn.LayerNorm().program(), r"^LayerNorm\(\) stands after the input"),
        (
            lambda: nn.serial(nn.Dense(), nn.Erf(), nn.Relu()),
            r"^Relu\(\) stands after Erf\(\), .* put a Dense layer before it",
        ),
        (
            lambda: nn.serial(nn.Dense(), nn.Relu(), nn.Dropout(0.5), nn.Erf()),
            r"^Erf\(\) stands after Dropout\(keep_prob=0.5\)",
        ),
        (
            lambda: nn.serial(nn.Dense(), nn.Relu(), nn.LayerNorm()),
            r"^LayerNorm\(\) stands after Relu\(\)",
        ),
        (
            lambda: nn.parallel(nn.Dense(), nn.serial(nn.Dense(), nn.Relu())),
            r"branch serial\(Dense\(\), Relu\(\)\) ends in Relu\(\), which is not Gaussian",
        ),
        (
            lambda: nn.residual(nn.serial(nn.Dense(), nn.Relu())),
            r"branch serial\(Dense\(\), Relu\(\)\) ends in Relu\(\), which is not Gaussian",
        ),
        (
            lambda: nn.residual(nn.Dense()).program(),
            r"branch Identity\(\) ends in the input, which is not Gaussian",
        ),
        (
            lambda: nn.serial(nn.Dense(), nn.parallel(branch, branch, merge="product"), nn.Erf()),
            r"^Erf\(\) stands after parallel\(",
        ),
        (
            lambda: nn.serial(nn.Dense(), nn.repeat(nn.Relu(), 2)),
            r"^Relu\(\) stands after Relu\(\)",
        ),
    ],
)
def test_layers_that_do_not_fit_are_named(make: Callable[[], object], message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.residual(nn.Identity()),
        lambda: nn.serial(nn.Dense(), nn.parallel(nn.Identity(), nn.LayerNorm())),
        lambda: nn.serial(nn.Dense(), nn.parallel(nn.Identity(), nn.Identity(), merge="product")),
    ],
)
def test_branches_that_depend_on_each_other_are_refused(make: Callable[[], object]) -> None:
    """The kernel of ``x + x`` is ``4 k``, not ``2 k``: only independent branches add up."""
    with pytest.raises(NetworkError, match="independent"):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.serial(nn.Dense(), "relu"), "serial: argument 1 must be a layer, found 'relu'"),
        (lambda: nn.serial(nn.Dense(), nn.Relu), r"found .*Relu.* \(write it with parentheses\)"),
        (lambda: nn.residual(None), "residual: argument 0 must be a layer, found None"),
        (lambda: nn.residual(branch, 3), "residual: argument 1 must be a layer, found 3"),
        (lambda: nn.parallel(), "parallel: at least one branch is needed, found none"),
        (lambda: nn.parallel(branch, 1), "parallel: argument 1 must be a layer, found 1"),
        (
            lambda: nn.parallel(branch, merge="mean"),
            "merge must be one of sum, product, concat, found 'mean'",
        ),
        (lambda: nn.parallel(branch, weights=(1.0,)), "weights belong to merge='concat' only"),
        (
            lambda: nn.parallel(branch, branch, merge="concat", weights=(1.0,)),
            "2 branches need as many weights, found 1",
        ),
        (
            lambda: nn.parallel(branch, branch, merge="concat", weights=(1.0, 0.0)),
            "a weight must be a finite number > 0, found 0.0",
        ),
        (lambda: nn.parallel(branch, branch, axis=0), "axis belongs to merge='concat' without"),
        (
            lambda: nn.parallel(branch, branch, merge="concat", axis=-1),
            "axis must be a finite number >= 0, found -1",
        ),
        (
            lambda: nn.parallel(nn.Dense(), nn.Relu(), merge="concat", axis=0),
            "joining positions needs independent Gaussian branches",
        ),
        (
            lambda: nn.serial(nn.Conv((3, 3)), nn.parallel(branch, branch, merge="concat", axis=2)),
            "axis must be below 2, the number of axes of positions",
        ),
        (lambda: nn.repeat(branch, -1), "repeat: n must be a finite number >= 0, found -1"),
        (lambda: nn.repeat(branch, 1.5), "repeat: n must be a whole number, found 1.5"),
        (lambda: nn.repeat("relu", 2), "repeat: argument 0 must be a layer, found 'relu'"),
        (lambda: nn.mlp(depth=1.5), "mlp: depth must be a whole number, found 1.5"),
        (lambda: nn.mlp(depth=-1), "mlp: depth must be a finite number >= 0, found -1"),
        (lambda: nn.mlp(activation=nn.Dense()), "mlp: activation must be a nonlinearity"),
        (lambda: nn.mlp(activation=nn.Relu), "mlp: activation must be a nonlinearity"),
    ],
)
def test_arguments_of_combinators(make: Callable[[], object], message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        make()
