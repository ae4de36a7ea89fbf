"""Estimators with the scikit-learn interface, and their files."""

from kernreg.estimators.classifier import KernelClassifier
from kernreg.estimators.ensemble.regressor import EnsembleRegressor
from kernreg.estimators.features import FeatureClassifier, FeatureRegressor
from kernreg.estimators.gaussian_process.classifier import GaussianProcessClassifier
from kernreg.estimators.gaussian_process.regressor import GaussianProcessRegressor
from kernreg.estimators.input_gradients import input_gradient
from kernreg.estimators.persistence import load
from kernreg.estimators.preparation import ImageScaler
from kernreg.estimators.regressor import KernelRegressor
from kernreg.estimators.scales import ColumnScales
from kernreg.estimators.whitening import ZCA

__all__ = [
    "ZCA",
    "ColumnScales",
    "EnsembleRegressor",
    "FeatureClassifier",
    "FeatureRegressor",
    "GaussianProcessClassifier",
    "GaussianProcessRegressor",
    "ImageScaler",
    "KernelClassifier",
    "KernelRegressor",
    "input_gradient",
    "load",
]
