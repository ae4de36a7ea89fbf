"""Networks on positions that tests share."""

from __future__ import annotations

from typing import Any

from kernreg import nn

conv, relu = nn.Conv((3, 3)), nn.Relu()
whole = nn.serial(conv, relu, nn.GlobalAvgPool(), nn.Dense())


def program(net: nn.Layer, *shape: int) -> Any:
    return nn.serial(nn.Unflatten(shape), net).program()
