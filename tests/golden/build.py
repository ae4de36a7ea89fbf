"""From an entry of the golden index to a kernreg network."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from kernreg import nn

DATA = Path(__file__).parent / "data"
DEFAULT_WIDTH = 64

Arch = list[dict[str, Any]]


@cache
def index() -> dict[str, dict[str, Any]]:
    """Every entry of the index, by its id."""
    lines = (DATA / "index.jsonl").read_text().splitlines()
    return {entry["id"]: entry for entry in map(json.loads, lines)}


@cache
def arrays(case: str) -> dict[str, np.ndarray]:
    """Inputs ``x1``, ``x2`` and the expected matrices, 60-digit ones where there are."""
    found = dict(np.load(DATA / index()[case]["file"]))
    for name, value in exact(case).items():
        found[name.removesuffix("_exact")] = value
    return found


@cache
def exact(case: str) -> dict[str, np.ndarray]:
    """The 60-digit matrices of a case; empty if there are none."""
    path = DATA / "open_exact" / f"{case}.npz"
    return dict(np.load(path)) if path.exists() else {}


def is_spatial(case: str) -> bool:
    """Whether the inputs of a case are images or signals; those of the others are rows."""
    return len(index()[case]["shapes"]["x1"]) > 2


def layers(arch: Arch) -> list[dict[str, Any]]:
    """All layers of an architecture, those inside branches included."""
    out = []
    for layer in arch:
        out.append(layer)
        for branch in layer.get("branches", []):
            out += layers(branch)
    return out


_BY_NAME: dict[str, Callable[..., nn.Layer]] = {
    "ABRelu": nn.ABRelu,
    "Abs": nn.Abs,
    "Cos": nn.Cos,
    "Erf": nn.Erf,
    "GlobalAvgPool": nn.GlobalAvgPool,
    "GlobalSumPool": nn.GlobalSumPool,
    "Exp": nn.Exp,
    "ExpNormalized": nn.ExpNormalized,
    "Gabor": nn.Gabor,
    "Gaussian": nn.Gaussian,
    "Gelu": nn.Gelu,
    "Hermite": lambda degree: nn.Hermite((0.0,) * degree + (1.0,)),
    "Identity": nn.Identity,
    "LeakyRelu": lambda alpha: nn.LeakyRelu(alpha),
    "Monomial": nn.Monomial,
    "Polynomial": lambda coef: nn.Polynomial(tuple(coef)),
    "Rbf": nn.Rbf,
    "RectifiedMonomial": nn.RectifiedMonomial,
    "Relu": lambda do_stabilize=False: nn.Relu(),
    "Sigmoid_like": nn.SigmoidLike,
    "Sign": nn.Sign,
    "Sin": nn.Sin,
}
_NUMERICAL = {"tanh": nn.Tanh, "swish": nn.Swish}
_MERGE = {"FanInSum": "sum", "FanInProd": "product", "FanInConcat": "concat"}


def network(arch: Arch, in_features: int | None = None, positions: int = 1) -> nn.Layer:
    """The network that an ``arch`` list of the index describes.

    Parameters
    ----------
    arch : list of dict
        Layers, as in the index.
    in_features : int, optional
        Width of the input; needed where the first layer is in the standard parameterization.
    positions : int
        Those of an image, which :class:`nn.Flatten` multiplies the width by.
    """
    flat = [
        layer | {"positions": positions} if layer["op"] == "Flatten" else layer for layer in arch
    ]
    return _serial(flat, in_features)[0]


def _serial(arch: Arch, width: int | None) -> tuple[nn.Layer, int | None]:
    """The layers of ``arch`` in series after a value of that width, and the width they leave."""
    built = []
    for layer in arch:
        one, width = _layer(layer, width)
        built.append(one)
    if not built:
        return nn.Identity(), width
    return nn.serial(*built), width


def _layer(layer: dict[str, Any], width: int | None) -> tuple[nn.Layer, int | None]:
    options = {name: value for name, value in layer.items() if name != "op"}
    match layer["op"]:
        case "Dense":
            return _dense(width, **options)
        case "Branch":
            return _branch(width, **options)
        case "LayerNorm":
            axis = options["axis"]
            axes = tuple(a - 1 for a in axis if a != 3) if isinstance(axis, list) else ()
            return nn.LayerNorm(eps=options.get("eps", 1e-12), axes=axes), width
        case "Flatten":
            return nn.Flatten(), None if width is None else width * options["positions"]
        case "Conv" | "ConvLocal" | "ConvTranspose" as name:
            return _conv(getattr(nn, name), width, **options)
        case "AvgPool" | "SumPool" as name:
            return _pool(getattr(nn, name), **options), width
        case "Dropout":
            keep = options["rate"] if options["mode"] == "train" else 1.0
            return nn.Dropout(keep_prob=keep), width
        case "ElementwiseNumerical":
            return _NUMERICAL[options["fn"]](), width
        case op:
            return _BY_NAME[op](**options), width


def _dense(
    width: int | None,
    W_std: float,
    b_std: float | None,
    out_dim: int = DEFAULT_WIDTH,
    s: tuple[int, int] = (1, 1),
    parameterization: str = "ntk",
) -> tuple[nn.Layer, int]:
    """``s`` stretches the widths: the layer really has ``out_dim * s[1]`` outputs."""
    out = out_dim * s[1]
    if parameterization == "ntk":
        return nn.Dense(W_std=W_std, b_std=b_std), out
    assert width is not None, "the first standard layer must know the width of the input"
    fan_in = width // s[0]
    dense = nn.Dense(W_std=W_std, b_std=b_std, parameterization="standard", fan_in=fan_in)
    return dense, out


def _conv(
    maker: Callable[..., nn.Layer],
    width: int | None,
    filter_shape: list[int],
    out_chan: int = DEFAULT_WIDTH,
    s: tuple[int, int] = (1, 1),
    parameterization: str = "ntk",
    **options: Any,
) -> tuple[nn.Layer, int]:
    """As :func:`_dense`; ``fan_in`` is that of one position of the filter."""
    out = out_chan * s[1]
    if parameterization == "standard":
        assert width is not None, "the first standard layer must know the channels of the input"
        options |= {"parameterization": "standard", "fan_in": width // s[0]}
    return maker(tuple(filter_shape), **options), out


def _pool(
    maker: Callable[..., nn.Layer],
    window_shape: list[int],
    strides: list[int] | None = None,
    padding: str = "VALID",
    **options: Any,
) -> nn.Layer:
    """Windows that the index leaves without strides lie one position apart."""
    steps = tuple(strides or [1] * len(window_shape))
    return maker(tuple(window_shape), strides=steps, padding=padding, **options)


def _branch(
    width: int | None, branches: list[Arch], merge: dict[str, Any]
) -> tuple[nn.Layer, int | None]:
    built = [_serial(branch, width) for branch in branches]
    parts, widths = zip(*built, strict=True)
    how = _MERGE[merge["op"]]
    if how != "concat":
        return nn.parallel(*parts, merge=how), widths[0]
    if merge["axis"] != -1:  # the first axis is that of images
        return nn.parallel(*parts, merge=how, axis=merge["axis"] - 1), widths[0]
    return nn.parallel(*parts, merge=how, weights=widths), sum(widths)
