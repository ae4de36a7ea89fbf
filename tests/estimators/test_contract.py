"""scikit-learn's own checks, without a single expected failure."""

import os

import pytest
import scipy.optimize
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from kernreg import (
    ColumnScales,
    EnsembleRegressor,
    FeatureClassifier,
    FeatureRegressor,
    GaussianProcessClassifier,
    GaussianProcessRegressor,
    KernelClassifier,
    KernelRegressor,
    nn,
)


class ToTheEnd:
    """Weights and repeated rows have one likelihood, and so one optimum, if it is reached."""

    def __call__(self, function, start, bounds):
        options = {"ftol": 1e-15, "gtol": 1e-9, "maxiter": 1000}
        found = scipy.optimize.minimize(
            function, start, jac=True, bounds=bounds, method="L-BFGS-B", options=options
        )
        return found.x, found.fun

    def __repr__(self):
        return "ToTheEnd()"  # in the names of tests, which all processes must share


ESTIMATORS = [KernelRegressor(), KernelClassifier(), KernelRegressor(solver="eigh")]
if os.environ.get("KERNREG_BACKEND") != "triton":  # as in conftest.py
    ESTIMATORS += [
        GaussianProcessRegressor(optimizer=None),
        GaussianProcessClassifier(optimizer=None),
        EnsembleRegressor(),
        EnsembleRegressor(alpha=1e-3, solver="krylov"),
        EnsembleRegressor(loss="huber", time=3.0),
        ColumnScales(max_iter=3),
        FeatureRegressor("mlp(depth=1)", alpha=1e-2, turns=1),
        FeatureClassifier("mlp(depth=1)", alpha=1e-2, turns=1),
    ]


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_contract(estimator, check):
    check(estimator)


# Tuning evaluates the kernel some 50 times for each of its numbers: what it could break, only.
TUNED = GaussianProcessRegressor(nn.Dense(1.0, 0.1), optimizer=ToTheEnd())
BREAKABLE = ("sample_weight", "idempotent", "overwrite", "pickle")


@pytest.mark.skipif(os.environ.get("KERNREG_BACKEND") == "triton", reason="as in conftest.py")
@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, id=check.func.__name__)
        for _, check in estimator_checks_generator(TUNED)
        if any(part in check.func.__name__ for part in BREAKABLE)
    ],
)
def test_scikit_learn_contract_when_tuned(check):
    check(TUNED)
