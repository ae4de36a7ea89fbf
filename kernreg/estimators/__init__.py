"""Estimators with the scikit-learn interface, and their files."""

from kernreg.estimators.classifier import KernelClassifier
from kernreg.estimators.ensemble.regressor import EnsembleRegressor
from kernreg.estimators.gaussian_process.classifier import GaussianProcessClassifier
from kernreg.estimators.gaussian_process.regressor import GaussianProcessRegressor
from kernreg.estimators.persistence import load
from kernreg.estimators.preparation import ZCA, ImageScaler
from kernreg.estimators.regressor import KernelRegressor

__all__ = [
    "ZCA",
    "EnsembleRegressor",
    "GaussianProcessClassifier",
    "GaussianProcessRegressor",
    "ImageScaler",
    "KernelClassifier",
    "KernelRegressor",
    "load",
]
