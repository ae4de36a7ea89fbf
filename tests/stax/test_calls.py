"""Calls as scripts make them: forms of results, defaults, and refusals that say what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import kernreg
from kernreg import GaussianProcessRegressor, nn, stax
from kernreg.exceptions import InvalidInputError, NetworkError

RNG = np.random.default_rng(0)
X, Z, Y = RNG.standard_normal((6, 3)), RNG.standard_normal((4, 3)), RNG.standard_normal((6, 2))
IMAGES, OTHERS = RNG.standard_normal((5, 6, 6, 2)), RNG.standard_normal((3, 6, 6, 2))
PLAIN = stax.serial(stax.Dense(64, 1.5, 0.1), stax.Relu(), stax.Dense(1, 1.2))
NETWORK = nn.serial(nn.Dense(1.5, 0.1), nn.Relu(), nn.Dense(1.2, None))


def kernel_of(*layers: stax.Triple) -> stax.KernelFn:
    return stax.serial(*layers)[2]


def test_forms_of_results() -> None:
    init_fn, apply_fn, kernel_fn = PLAIN
    assert callable(init_fn)
    assert callable(apply_fn)
    assert kernel_fn.network == NETWORK
    want = kernreg.gram(NETWORK, X, Z, kernel=("nngp", "ntk"))
    for name in ("nngp", "ntk"):
        np.testing.assert_array_equal(kernel_fn(X, Z, name), getattr(want, name))
    both = kernel_fn(X, Z, ("ntk", "nngp"))
    assert both._fields == ("ntk", "nngp")
    np.testing.assert_array_equal(both.ntk, want.ntk)
    all_of_it = kernel_fn(X, Z)
    np.testing.assert_array_equal(all_of_it.nngp, want.nngp)
    np.testing.assert_array_equal(all_of_it.cov1, kernreg.diag(NETWORK, X, "nngp"))
    np.testing.assert_array_equal(all_of_it.cov2, kernreg.diag(NETWORK, Z, "nngp"))
    assert not all_of_it.x1_is_x2
    own = kernel_fn(X)
    assert own.x1_is_x2
    assert own.cov2 is None
    np.testing.assert_array_equal(own.cov1, np.diagonal(own.nngp))
    assert kernel_fn(X.astype(np.float32), None, "ntk").dtype == np.float32
    assert kernel_fn(X, None, "ntk", diagonal_batch=None).shape == (6, 6)


def test_batch_is_not_needed() -> None:
    kernel_fn = PLAIN.kernel_fn
    assert stax.batch(kernel_fn, batch_size=5, device_count=0, store_on_device=False) is kernel_fn


def test_defaults_are_those_of_stax() -> None:
    """VALID convolutions without bias, pools one position apart."""
    kernel_fn = kernel_of(
        stax.Conv(16, (3, 3)), stax.Relu(), stax.AvgPool((2, 2)), stax.Flatten(), stax.Dense(1)
    )
    assert kernel_fn.network == nn.serial(
        nn.Conv((3, 3), (1, 1), "VALID", 1.0, None),
        nn.Relu(),
        nn.AvgPool((2, 2), (1, 1)),
        nn.Flatten(),
        nn.Dense(1.0, None),
    )


def test_a_loop_is_a_series() -> None:
    block = stax.serial(stax.Relu(), stax.Dense(32, 1.4, 0.2))
    looped = kernel_of(stax.Dense(32), stax.repeat(block, 3), stax.Erf(), stax.Dense(1))
    series = kernel_of(stax.Dense(32), block, block, block, stax.Erf(), stax.Dense(1))
    np.testing.assert_allclose(looped(X, None, "ntk"), series(X, None, "ntk"), rtol=1e-13)
    assert "repeat" in repr(looped.network)


def test_functions_with_a_kink() -> None:
    """The remedy that the message names."""
    with pytest.raises(NetworkError, match="smooth=False"):
        stax.Elementwise(torch.relu)
    expected = stax.serial(stax.Dense(1), stax.Relu())[2](X, None, "ntk")
    for made in (stax.Elementwise, stax.ElementwiseNumerical):
        found = stax.serial(stax.Dense(1), made(torch.relu, smooth=False))[2](X, None, "ntk")
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_the_first_turn_may_have_another_width() -> None:
    """In the standard parameterization, where the data have other channels than the layers."""
    block = stax.serial(stax.Dense(8, parameterization="standard"), stax.Relu())
    end = stax.Dense(1, parameterization="standard")
    looped = kernel_of(stax.repeat(block, 3), end)(X, None, "ntk")
    np.testing.assert_allclose(looped, kernel_of(block, block, block, end)(X, None, "ntk"), 1e-13)


def test_widths_behind_flatten_and_side_by_side() -> None:
    dense = stax.Dense(4, parameterization="standard")
    kernel_fn = kernel_of(
        stax.Conv(8, (3, 3), parameterization="standard"),
        stax.FanOut(2),
        stax.parallel(stax.Relu(), stax.serial(stax.Relu(), stax.Conv(24, (1, 1)))),
        stax.FanInConcat(-1),
        stax.Flatten(),
        dense,
    )
    net = nn.serial(
        nn.Conv((3, 3), 1, "VALID", 1.0, None, parameterization="standard", fan_in=2),
        nn.parallel(
            nn.Relu(),
            nn.serial(nn.Relu(), nn.Conv((1, 1), 1, "VALID", 1.0, None)),
            merge="concat",
            weights=(8.0, 24.0),
        ),
        nn.Flatten(),
        nn.Dense(1.0, None, parameterization="standard", fan_in=16 * 32),
    )
    want = kernreg.gram(net, IMAGES, OTHERS)
    np.testing.assert_allclose(kernel_fn(IMAGES, OTHERS, "ntk"), want, rtol=1e-13)


def test_branches_of_parts_that_stand_apart() -> None:
    """A series may begin before, and end behind, what another one branches."""
    apart = kernel_of(
        stax.serial(stax.Dense(8), stax.FanOut(2)),
        stax.parallel(stax.Relu(), stax.Identity()),
        stax.parallel(stax.Dense(8), stax.Dense(8)),
        stax.serial(stax.FanInSum(), stax.Dense(1)),
    )
    right = nn.serial(nn.Identity(), nn.Dense(1.0, None))
    left = nn.serial(nn.Relu(), nn.Dense(1.0, None))
    want = nn.serial(nn.Dense(1.0, None), nn.parallel(left, right), nn.Dense(1.0, None))
    np.testing.assert_allclose(apart(X, Z, "ntk"), kernreg.gram(want, X, Z), rtol=1e-14)


@pytest.mark.parametrize("axis", [-1, (1, 2, 3), (3, 1), 3])
def test_layer_norm(axis: Any) -> None:
    kernel_fn = kernel_of(stax.Conv(8, (3, 3)), stax.LayerNorm(axis), stax.Relu(), stax.Flatten())
    inner = {-1: (), 3: (), (1, 2, 3): (0, 1), (3, 1): (0,)}[axis]
    conv = nn.Conv((3, 3), 1, "VALID", 1.0, None)
    net = nn.serial(conv, nn.LayerNorm(axes=inner), nn.Relu(), nn.Flatten())
    want = kernreg.gram(net, IMAGES, kernel="nngp")
    np.testing.assert_allclose(kernel_fn(IMAGES, None, "nngp"), want, rtol=1e-14)


def test_posterior_of_images_is_that_of_the_estimator() -> None:
    kernel_fn = kernel_of(
        stax.Conv(8, (3, 3), W_std=1.4), stax.Relu(), stax.GlobalAvgPool(), stax.Dense(1)
    )
    y = Y[:5]
    predict_fn = stax.predict.gradient_descent_mse_ensemble(kernel_fn, IMAGES, y, diag_reg=1e-2)
    found = predict_fn(x_test=OTHERS, get="nngp", compute_cov=True)
    model = GaussianProcessRegressor(
        kernel_fn.network, alpha=1e-2, optimizer=None, fit_intercept=False
    ).fit(IMAGES, y)
    mean, cov = model.predict(OTHERS, return_cov=True)
    np.testing.assert_allclose(found.mean, mean, atol=1e-12)
    np.testing.assert_allclose(found.covariance, cov[..., 0], atol=1e-12)


def test_forms_of_predictions() -> None:
    kernel_fn = PLAIN.kernel_fn
    predict_fn = stax.predict.gradient_descent_mse_ensemble(kernel_fn, X, Y, 0.5, 1e-3)
    both = predict_fn(x_test=Z)
    assert both._fields == ("nngp", "ntk")
    assert both.ntk.shape == (4, 2)
    some = predict_fn(t=np.array([0.0, 3.0]), x_test=Z, compute_cov=True)
    assert some.ntk.mean.shape == (2, 4, 2)
    assert some.nngp.covariance.shape == (2, 4, 4)
    np.testing.assert_allclose(some.ntk.covariance[0], kernel_fn(Z, None, "nngp"), atol=1e-13)
    np.testing.assert_array_equal(predict_fn(get="ntk"), Y)  # at the end, targets are met
    late = predict_fn(t=1e12, x_test=Z, get="ntk", compute_cov=True)
    end = predict_fn(x_test=Z, get="ntk", compute_cov=True)
    np.testing.assert_allclose(late.mean, end.mean, atol=1e-10)
    np.testing.assert_allclose(late.covariance, end.covariance, atol=1e-10)
    one = stax.predict.gradient_descent_mse_ensemble(kernel_fn, X, Y[:, 0], 0.5, 1e-3)
    np.testing.assert_allclose(one(x_test=Z, get="ntk"), end.mean[:, 0], atol=1e-13)


def test_posterior_of_one_matrix() -> None:
    kernel_fn = PLAIN.kernel_fn
    K, between, own = (kernel_fn(a, b, "ntk") for a, b in ((X, None), (Z, X), (Z, None)))
    predict_fn = stax.predict.gp_inference(K, Y, diag_reg=1e-2)
    found = predict_fn("ntkgp", between, own)
    kernels = (kernel_fn(a, b) for a, b in ((X, None), (Z, X), (Z, None)))
    train, cross, test = kernels
    want = stax.predict.gp_inference(train, Y, diag_reg=1e-2)("ntkgp", cross, test)
    np.testing.assert_array_equal(found.mean, want.mean)
    np.testing.assert_array_equal(found.covariance, want.covariance)
    by_name = predict_fn(k_test_train=between)
    np.testing.assert_array_equal(by_name.ntk, want.mean)
    np.testing.assert_array_equal(by_name.nngp, want.mean)
    refused(lambda: predict_fn(None, between, own), InvalidInputError, "needs both kernels")


def test_training_rows_meet_their_targets() -> None:
    kernel_fn = PLAIN.kernel_fn
    found = stax.predict.gp_inference(kernel_fn(X), Y, 1e-2)("nngp", None, kernel_fn(X))
    np.testing.assert_array_equal(found.mean, Y)
    np.testing.assert_array_equal(found.covariance, np.zeros((6, 6)))


def test_equal_rows_are_the_same_rows() -> None:
    """Dropout counts once on the diagonal of a row with itself, however it is given."""
    kernel_fn = kernel_of(stax.Dense(4), stax.Relu(), stax.Dropout(0.5), stax.Dense(1))
    own = kernel_fn(X, None, "nngp")
    np.testing.assert_array_equal(kernel_fn(X, X.copy(), "nngp"), own)
    assert kernel_fn(X, X, "x1_is_x2")
    predict_fn = stax.predict.gradient_descent_mse_ensemble(kernel_fn, X, Y, diag_reg=0.1)
    want = own @ np.linalg.solve(own + 0.1 * np.trace(own) / 6 * np.eye(6), Y)
    np.testing.assert_allclose(predict_fn(x_test=X, get="nngp"), want, atol=1e-12)


def test_outputs_of_test_rows_alone() -> None:
    kernel_fn = PLAIN.kernel_fn
    K, between = kernel_fn(X, None, "ntk"), kernel_fn(Z, X, "ntk")
    predict_fn = stax.predict.gradient_descent_mse(K, Y)
    both = predict_fn(4.0, 0.0, np.zeros((4, 2)), between)
    np.testing.assert_array_equal(predict_fn(4.0, None, np.zeros((4, 2)), between), both[1])
    np.testing.assert_array_equal(predict_fn(4.0, 0.0, None, between), both[0])


def test_what_is_not_needed_is_taken() -> None:
    assert stax.ExpNormalized(do_clip=True).kernel_fn.network == nn.serial(nn.ExpNormalized(1, -1))
    kernel_fn = PLAIN.kernel_fn
    make = stax.predict.gradient_descent_mse_ensemble
    want = make(kernel_fn, X, Y)(x_test=Z, get="ntk")
    found = make(kernel_fn, X, Y, trace_axes=1, diagonal_batch=None)(x_test=Z, get="ntk")
    np.testing.assert_array_equal(found, want)
    kernels = kernel_fn(X)
    assert kernels.replace(ntk=None).ntk is None


def test_positions_are_joined_by_either_number_of_an_axis() -> None:
    def joined(axis: int) -> np.ndarray:
        branches = stax.parallel(stax.Conv(4, (3, 3)), stax.Conv(4, (1, 3)))
        conv = stax.Conv(4, (1, 1))
        ends = stax.FanInConcat(axis), stax.Relu(), stax.GlobalAvgPool(), stax.Dense(1)
        found: np.ndarray = kernel_of(conv, stax.FanOut(2), branches, *ends)(IMAGES, None, "ntk")
        return found

    np.testing.assert_array_equal(joined(-3), joined(1))


def refused(call: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        call()


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ([stax.FanOut(2), stax.parallel(stax.Relu())], r"need FanOut\(1\) before them, found 2"),
        ([stax.parallel(stax.Relu(), stax.Relu())], "found no copies"),
        ([stax.FanInSum()], "there are no branches"),
        ([stax.Dense(1), stax.FanOut(2)], "ends in branches"),
        ([stax.FanOut(2), stax.Dense(1)], "put it into parallel"),
        ([stax.FanOut(2), stax.FanOut(2)], "merge the branches before"),
        ([stax.Dense(1, parameterization="muP")], "parameterization"),
        ([stax.Dense(8), stax.LayerNorm(0)], "must have the channels"),
        ([stax.Conv(8, (3, 3))], "the network is for images"),
    ],
)
def test_networks_that_do_not_fit(layers: list[stax.Triple], says: str) -> None:
    kernel_fn = kernel_of(*layers)
    refused(lambda: kernel_fn(X), (NetworkError, InvalidInputError), says)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: PLAIN.init_fn(0, (3,)), InvalidInputError, r"kernreg\.finite\.module"),
        (lambda: PLAIN.kernel_fn(X, mask_constant=0.0), InvalidInputError, "no counterpart"),
        (lambda: PLAIN.kernel_fn(X, get="cov3"), InvalidInputError, "found 'cov3'"),
        (lambda: PLAIN.kernel_fn(X[0]), InvalidInputError, r"found \(3,\)"),
        (lambda: PLAIN.kernel_fn(PLAIN.kernel_fn(X)), InvalidInputError, "array of rows"),
        (lambda: stax.serial(nn.Relu()), NetworkError, "argument 0 must be what a function"),
        (lambda: stax.Aggregate(1), NetworkError, "no such layer"),
        (lambda: stax.Dense(1, channel_axis=1), NetworkError, "move their axes"),
        (lambda: stax.Conv(1, (3,), dimension_numbers=("NCHW",) * 3), NetworkError, "move their"),
        (lambda: stax.Elementwise(nngp_fn=max), NetworkError, "give fn"),
        (lambda: stax.Index(stax.Slice[:, 0]), NetworkError, "cut the images"),
        (
            lambda: stax.predict.gradient_descent_mse(np.eye(6), Y)(1.0, None),
            InvalidInputError,
            "or both",
        ),
        (lambda: stax.Dropout(0.5, "eval"), NetworkError, "train or test"),
        (lambda: stax.FanOut(0), NetworkError, "found 0"),
        (lambda: stax.repeat(stax.Relu(), 0), NetworkError, "found 0"),
        (lambda: stax.predict.gradient_descent(None, X, Y), InvalidInputError, "EnsembleRegressor"),
        (
            lambda: stax.predict.gp_inference(np.eye(6), Y, trace_axes=()),
            InvalidInputError,
            "EmpiricalOperator",
        ),
        (lambda: stax.predict.gp_inference(np.eye(5), Y)(), InvalidInputError, "6 targets"),
        (lambda: stax.predict.gp_inference(np.eye(6), Y, -1.0)(), InvalidInputError, "at least 0"),
        (lambda: stax.predict.gp_inference(np.eye(6), Y * np.nan), InvalidInputError, "finite"),
        (
            lambda: stax.predict.gp_inference(PLAIN.kernel_fn(X, None, ("ntk",)), Y)("nngp"),
            InvalidInputError,
            "no nngp kernel",
        ),
        (
            lambda: stax.predict.gp_inference(PLAIN.kernel_fn(X), Y)("gp", np.eye(6)),
            InvalidInputError,
            "found 'gp'",
        ),
        (
            lambda: stax.predict.gradient_descent_mse_ensemble(PLAIN.kernel_fn, X, Y)(t=-1.0),
            InvalidInputError,
            "at least 0",
        ),
        (
            lambda: stax.predict.gradient_descent_mse_ensemble(PLAIN.kernel_fn, X, Y, 0.0),
            InvalidInputError,
            "above 0",
        ),
        (
            lambda: stax.predict.gradient_descent_mse(np.eye(6), Y)(1.0, 0.0, np.zeros((4, 2))),
            InvalidInputError,
            "needs k_test_train",
        ),
    ],
)
def test_refusals(call: Any, error: type[Exception], says: str) -> None:
    refused(call, error, says)
