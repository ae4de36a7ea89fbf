"""Figures: of a baseline, and displays of kernels and theory in the style of scikit-learn."""

from kernreg.plotting.baseline import (
    plot_calibration,
    plot_confusion,
    plot_depths,
    plot_importances,
    plot_predictions,
    plot_ridge_path,
    plot_spectrum,
)
from kernreg.plotting.calibration import CalibrationDisplay
from kernreg.plotting.ensemble import EnsembleDisplay
from kernreg.plotting.finite import KernelEvolutionDisplay
from kernreg.plotting.matrices import GramDisplay, SpectrumDisplay
from kernreg.plotting.style import to_svg
from kernreg.plotting.theory import FiniteWidthDisplay, LearningCurveDisplay, PhaseDiagramDisplay

__all__ = [
    "CalibrationDisplay",
    "EnsembleDisplay",
    "FiniteWidthDisplay",
    "GramDisplay",
    "KernelEvolutionDisplay",
    "LearningCurveDisplay",
    "PhaseDiagramDisplay",
    "SpectrumDisplay",
    "plot_calibration",
    "plot_confusion",
    "plot_depths",
    "plot_importances",
    "plot_predictions",
    "plot_ridge_path",
    "plot_spectrum",
    "to_svg",
]
