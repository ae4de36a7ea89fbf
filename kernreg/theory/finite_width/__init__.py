"""What networks of finite width add to the kernels of infinite ones, to order 1/width."""

from kernreg.theory.finite_width.comparison import Comparison, compare
from kernreg.theory.finite_width.corrected import corrected_gram
from kernreg.theory.finite_width.monte_carlo import Estimate, Sample, sample
from kernreg.theory.finite_width.one_input import Coefficients, coefficients, from_network
from kernreg.theory.finite_width.two_inputs import TwoInputs, two_inputs
from kernreg.theory.finite_width.universality import (
    Growth,
    growth,
    optimal_aspect_ratio,
    scale_invariant,
)

__all__ = [
    "Coefficients",
    "Comparison",
    "Estimate",
    "Growth",
    "Sample",
    "TwoInputs",
    "coefficients",
    "compare",
    "corrected_gram",
    "from_network",
    "growth",
    "optimal_aspect_ratio",
    "sample",
    "scale_invariant",
    "two_inputs",
]
