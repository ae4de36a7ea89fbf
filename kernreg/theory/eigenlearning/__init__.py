"""What kernel regression learns from n points, from the spectrum of the kernel."""

from kernreg.theory.eigenlearning.curves import (
    LearningCurve,
    measure_learning_curve,
    predict_learning_curve,
)
from kernreg.theory.eigenlearning.errors import (
    Eigenlearning,
    eigenlearning,
    learnabilities,
    overfitting_coefficient,
    sample_size,
    solve_kappa,
)
from kernreg.theory.eigenlearning.from_training import TrainingEstimates, training_estimates
from kernreg.theory.eigenlearning.spectra import (
    hypercube_spectrum,
    sample_spectrum,
    sphere_spectrum,
)
from kernreg.theory.eigenlearning.spectrum import Spectrum

__all__ = [
    "Eigenlearning",
    "LearningCurve",
    "Spectrum",
    "TrainingEstimates",
    "eigenlearning",
    "hypercube_spectrum",
    "learnabilities",
    "measure_learning_curve",
    "overfitting_coefficient",
    "predict_learning_curve",
    "sample_size",
    "sample_spectrum",
    "solve_kappa",
    "sphere_spectrum",
    "training_estimates",
]
