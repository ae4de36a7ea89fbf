"""From a kernel to the nonlinearity that has it."""

from kernreg.theory.inverse.design import (
    DesignedActivation,
    activation_from_kernel,
    equivalent_shallow,
)
from kernreg.theory.inverse.network_series import kernel_coefficients, sine_coefficients
from kernreg.theory.inverse.power_series import PowerSeries, function_coefficients

__all__ = [
    "DesignedActivation",
    "PowerSeries",
    "activation_from_kernel",
    "equivalent_shallow",
    "function_coefficients",
    "kernel_coefficients",
    "sine_coefficients",
]
