"""Infinitely wide networks at any moment of their training."""

from kernreg.theory.training.dynamics import Dynamics, largest_learning_rate
from kernreg.theory.training.ensemble import Ensemble, along_modes
from kernreg.theory.training.krylov import functions_times
from kernreg.theory.training.losses import LOSSES, trajectory
from kernreg.theory.training.matrix_free import MatrixFree

__all__ = [
    "LOSSES",
    "Dynamics",
    "Ensemble",
    "MatrixFree",
    "along_modes",
    "functions_times",
    "largest_learning_rate",
    "trajectory",
]
