"""scikit-learn's own checks, without a single expected failure."""

import os

import scipy.optimize
from sklearn.utils.estimator_checks import parametrize_with_checks

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

# Tuning evaluates the kernel some 50 times for each of its numbers.
SMALL = nn.Dense(1.0, 0.1)


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
        GaussianProcessRegressor(SMALL, optimizer=ToTheEnd()),
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
