"""The best way to derivatives of a kernel by its inputs."""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from kernreg.backends.derivatives import Differentiable
from kernreg.backends.fused_derivatives import FusedDerivatives
from kernreg.exceptions import BackendError
from kernreg.ir.program import Program

__all__ = ["derivatives_of"]


def derivatives_of(
    program: Program,
    X1: Tensor,
    X2: Tensor,
    kernel: str,
    sides: int = 1,
    dtype: torch.dtype = torch.float64,
) -> Differentiable:
    """Derivatives by the C++ engine or by Triton where they can, else by torch in float64."""
    try:
        if X1.device.type == "cuda" and importlib.util.find_spec("triton") is not None:
            from kernreg.backends.triton.derivatives import TritonDerivatives

            return TritonDerivatives(program, X1, X2, kernel, sides, dtype)
        return FusedDerivatives(program, X1, X2, kernel, sides, dtype)
    except BackendError:
        return Differentiable(program, X1, X2, kernel, sides)
