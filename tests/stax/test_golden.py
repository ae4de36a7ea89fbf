"""Every golden network and prediction, written in the calls of its source."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from kernreg import stax
from tests.golden import build
from tests.golden import test_golden as vectors
from tests.golden import test_predictions as predictions
from tests.golden import test_spatial as images

WIDTH = build.DEFAULT_WIDTH


def written(arch: build.Arch) -> list[stax.Triple]:
    """The layers of an entry of the index as calls of stax."""
    found: list[stax.Triple] = []
    for layer in arch:
        options = {name: value for name, value in layer.items() if name != "op"}
        op = layer["op"]
        if op == "Branch":
            branches = [stax.serial(*written(branch)) for branch in options["branches"]]
            merge = dict(options["merge"])
            found += [
                stax.FanOut(len(branches)),
                stax.parallel(*branches),
                getattr(stax, merge.pop("op"))(**merge),
            ]
            continue
        if op == "Dense":
            options.setdefault("out_dim", WIDTH)
        elif op.startswith("Conv"):
            options.setdefault("out_chan", WIDTH)
        found.append(getattr(stax, op)(**options))
    return found


def kernel_fn(arch: build.Arch) -> stax.KernelFn:
    _init_fn, _apply_fn, made = stax.serial(*written(arch))
    return made


@pytest.mark.parametrize("case", vectors.CLOSED)
def test_vectors(case: str) -> None:
    c = vectors.Case(case)
    made = kernel_fn(c.arch)
    for X2, cross in ((None, False), (c.X2, True)):
        found = made(c.X1, X2, ("nngp", "ntk"))
        for kernel in ("nngp", "ntk"):
            want, error = c.expected(case, kernel, cross)
            scale = c.scale(kernel, cross)
            size = np.where(np.abs(want) > 0.01 * scale, np.abs(want), scale)
            vectors.assert_within(getattr(found, kernel), want, error * size)


@pytest.mark.parametrize("name", images.VECTORS_BEHIND)
def test_images(name: str) -> None:
    case = images.Case(name)
    made = kernel_fn(build.index()[name]["arch"])
    for X2, cross in ((None, False), (case.X2, True)):
        found = made(case.X1, X2)
        for kernel in ("nngp", "ntk"):
            got = images.errors(getattr(found, kernel), case, kernel, cross)
            assert (got <= case.bound(kernel, cross)).all()


TIMES: dict[str, Any] = {"inf": None, "arr": np.array([0.0, 0.5, 3.0])}
POSTERIORS = [key for key in predictions.KEYS if not key[1].startswith("ode")]


def predicted(case: str, key: str) -> Any:
    """An array of the source by the call that made it."""
    entry, z = predictions.INDEX[case], predictions.data(case)
    made = kernel_fn(entry["arch"])
    reg = entry["diag_reg"], entry["diag_reg_absolute_scale"]
    rate, both = entry["learning_rate"], ("nngp", "ntk")
    if key.startswith("max_lr"):
        momentum = float(key.removeprefix("max_lr_mom"))
        matrix = made(z["x_train"], None, "ntk")
        return np.array(stax.predict.max_learning_rate(matrix, z["y_train"].size, momentum))
    if match := re.fullmatch(r"ens_(ntk|nngp)_t([\d.]+|inf|arr)_(train|test)_(mean|cov)", key):
        train, time, rows, what = match.groups()
        predict_fn = stax.predict.gradient_descent_mse_ensemble(
            made, z["x_train"], z["y_train"], rate, *reg
        )
        t = TIMES[time] if time in TIMES else float(time)
        found = predict_fn(t, z["x_test"] if rows == "test" else None, train, what == "cov")
        return found.covariance if what == "cov" else found
    if match := re.fullmatch(r"gp_(ntk|nngp|ntkgp)_(mean|cov)", key):
        predict_fn = stax.predict.gp_inference(made(z["x_train"], None, both), z["y_train"], *reg)
        found = predict_fn(match[1], made(z["x_test"], z["x_train"]), made(z["x_test"], None, both))
        return found.mean if match[2] == "mean" else found.covariance
    match = re.fullmatch(r"gdmse_t([\d.]+|inf)_(train|test)", key)
    assert match is not None
    predict_fn = stax.predict.gradient_descent_mse(
        made(z["x_train"], None, "ntk"), z["y_train"], rate, *reg
    )
    outputs = z["fx_train_0"], z["fx_test_0"], made(z["x_test"], z["x_train"], "ntk")
    train, test = predict_fn(float(match[1]), *outputs)
    return train if match[2] == "train" else test


@pytest.mark.parametrize(("case", "key"), POSTERIORS, ids=["-".join(pair) for pair in POSTERIORS])
def test_predictions(case: str, key: str) -> None:
    want = predictions.data(case)[key]
    got = np.asarray(predicted(case, key))
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=0, atol=predictions.EXACT)
