"""Estimators with the scikit-learn interface, and their files."""

from kernreg.estimators.classifier import KernelClassifier
from kernreg.estimators.persistence import load
from kernreg.estimators.regressor import KernelRegressor

__all__ = ["KernelClassifier", "KernelRegressor", "load"]
