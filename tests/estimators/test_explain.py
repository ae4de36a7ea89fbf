"""``explain`` tells what a fit would do, truly and without doing it."""

import numpy as np
import pandas as pd
import pytest

from kernreg import KernelClassifier, KernelRegressor, nn
from kernreg.estimators import planned
from kernreg.exceptions import InvalidInputError, MemoryBudgetError, NetworkError
from kernreg.solvers import Cholesky

NET = nn.mlp(depth=2, W_std=1.25)


def data(n=50, d=4):
    rng = np.random.default_rng(6)
    return rng.standard_normal((n, d)), rng.standard_normal(n)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"alpha": [0.1, 1.0]},
        {"alpha": np.logspace(-3, 0, 12)},
        {"solver": "eigh"},
        {"solver": Cholesky(block=8)},
        {"dtype": "float32"},
    ],
)
def test_the_plan_is_the_one_of_fit(parameters):
    X, y = data()
    for targets in (y, np.column_stack([y, y, y])):
        model = KernelRegressor(NET, max_memory="1GB", **parameters)
        told = model.explain(X, targets, seconds=False)
        assert told.plan == model.fit(X, targets).plan_
        assert told.fits
        assert told.dtype == model.dual_coef_.dtype.name
        assert told.n_targets == targets.reshape(50, -1).shape[1]


@pytest.mark.parametrize(("n_classes", "n_targets"), [(2, 1), (3, 3), (7, 7)])
def test_the_plan_of_a_classifier(n_classes, n_targets):
    X, _ = data()
    labels = np.array(list("abcdefg"))[np.arange(50) % n_classes]
    model = KernelClassifier(NET, max_memory="1GB", alpha=[0.1, 1.0])
    told = model.explain(X, labels, seconds=False)
    assert told.n_targets == n_targets
    assert told.plan == model.fit(X, labels).plan_


def test_nothing_is_computed_without_times(monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("explain evaluated a kernel")

    monkeypatch.setattr(planned, "KernelOperator", forbidden)
    model = KernelRegressor(NET)
    told = model.explain(np.ones((100_000, 3)), seconds=False)
    assert told.n_samples == 100_000
    assert not [name for name in vars(model) if name.endswith("_")]


def test_times_are_predicted():
    X, y = data()
    told = KernelRegressor(NET, alpha=0.1).explain(X, y)
    assert told.plan.seconds > 0
    # The disk is measured when its folder is known.
    times = {other.solver: other.seconds for other in told.plan.alternatives}
    assert times.pop("out_of_core") is None
    assert all(seconds > 0 for seconds in times.values())
    assert KernelRegressor(NET, alpha=0.1).explain(X, y, seconds=False).plan.seconds is None


def test_text_holds_what_a_user_asks_for():
    X, y = data()
    told = KernelClassifier(NET, kernel="nngp", alpha=[0.25, 2.0], max_memory="1GB").explain(
        X, y > 0
    )
    text = str(told)
    for part in (
        "KernelClassifier",
        repr(NET),
        "nngp",
        "50 rows, 4 features, 1 target",
        "float64",
        "0.25, 2",
        "1.28e+03 kernel entries",
        "reference: yes",
        "cholesky",
        "1 GB allowed",
    ):
        assert part in text
    assert str(NET.program()).splitlines()[0] in text
    assert repr(told) == text
    assert {name for name, _ in told.backends} >= {"cpu", "reference"}


def test_a_fit_that_does_not_fit_is_told_not_raised():
    X, y = data(400)
    model = KernelRegressor(NET, max_memory="100kB")
    told = model.explain(X)
    assert not told.fits
    assert isinstance(told.plan, MemoryBudgetError)
    assert "does not fit" in str(told)
    with pytest.raises(MemoryBudgetError) as caught:
        model.fit(X, y)
    assert str(caught.value) == str(told.plan)


def test_default_network_and_its_cost():
    X, _ = data()
    told = KernelRegressor().explain(X)
    assert told.network == repr(nn.mlp(depth=3))
    deeper = KernelRegressor(nn.mlp(depth=6)).explain(X)
    assert 1.5 * told.flops_per_entry < deeper.flops_per_entry < 2.5 * told.flops_per_entry


def test_tables():
    X, y = data()
    table = pd.DataFrame(X, columns=list("abcd"))
    assert KernelRegressor(NET).explain(table, pd.Series(y)).n_features == 4


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.full((3, 2), np.nan), ValueError, "NaN"),
        (np.full((3, 2), np.inf), ValueError, "infinity"),
        (np.ones(3), ValueError, "Expected 2D array"),
        (np.ones((0, 2)), ValueError, "0 sample"),
        (np.ones((2, 0)), ValueError, "0 feature"),
        (np.ones((2, 2)) * 1j, ValueError, "Complex data not supported"),
    ],
)
def test_data_are_checked(X, error, message):
    with pytest.raises(error, match=message):
        KernelRegressor(NET).explain(X)


def test_parameters_are_checked():
    X, _ = data()
    with pytest.raises(ValueError, match="'alpha' parameter"):
        KernelRegressor(NET, alpha=-1.0).explain(X)
    with pytest.raises(InvalidInputError, match="device"):
        KernelRegressor(NET, device="cuda:9").explain(X)
    with pytest.raises(NetworkError, match="Dense layer before it"):
        KernelRegressor(nn.Relu()).explain(X)
    with pytest.raises(InvalidInputError, match="at least two rows"):
        KernelRegressor(NET, alpha=[0.1, 1.0]).explain(X[:1])
