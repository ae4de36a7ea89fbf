"""Derivatives from differences."""

from __future__ import annotations

__all__ = ["STENCIL", "STENCIL_UNIT"]

STENCIL = ((-2, 1.0), (-1, -8.0), (1, 8.0), (2, -1.0))
"""Steps and weights of the central difference of order four, over ``STENCIL_UNIT`` steps."""

STENCIL_UNIT = 12.0
