"""Layers that neural-tangents has and kernreg has not: they say so, and what there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from kernreg.exceptions import NetworkError

__all__ = ["Aggregate", "DotGeneral", "GlobalSelfAttention", "ImageResize", "Index", "Slice"]


def _absent(name: str, instead: str) -> Callable[..., NoReturn]:
    def function(*_: Any, **__: Any) -> NoReturn:
        raise NetworkError(f"{name}: kernreg has no such layer; {instead}")

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""Raises: there is no such layer; {instead}

    Examples
    --------
    >>> {name}()
    Traceback (most recent call last):
    ...
    kernreg.exceptions.NetworkError: {name}: kernreg has no such layer; {instead}
    """
    return function


Aggregate = _absent("Aggregate", "average the features of neighbours before they are rows.")
DotGeneral = _absent("DotGeneral", "apply a constant linear map to the data.")
GlobalSelfAttention = _absent("GlobalSelfAttention", "nn.GlobalAvgPool() also sees all positions.")
ImageResize = _absent("ImageResize", "resize the images, or use nn.AvgPool or nn.ConvTranspose.")
Index = _absent("Index", "cut the images before they are given to the kernel.")

Slice = np.s_
"""What :func:`Index` is given."""
