"""scikit-learn's own checks, without a single expected failure."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from kernreg import KernelClassifier, KernelRegressor


@parametrize_with_checks([KernelRegressor(), KernelClassifier(), KernelRegressor(solver="eigh")])
def test_scikit_learn_contract(estimator, check):
    check(estimator)
