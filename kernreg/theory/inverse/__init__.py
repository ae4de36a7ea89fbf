"""From a kernel to the nonlinearity that has it."""

from kernreg.theory.inverse.design import (
    DesignedActivation,
    activation_from_kernel,
    equivalent_shallow,
)
from kernreg.theory.inverse.network_series import kernel_coefficients
from kernreg.theory.inverse.power_series import PowerSeries

__all__ = [
    "DesignedActivation",
    "PowerSeries",
    "activation_from_kernel",
    "equivalent_shallow",
    "kernel_coefficients",
]
