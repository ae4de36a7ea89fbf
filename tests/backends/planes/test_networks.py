"""Random networks of images on the C++ planes, beside the reference."""

from __future__ import annotations

import functools
import os
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

import kernreg
from kernreg import nn
from kernreg.backends import cpu
from kernreg.exceptions import BackendError
from tests.backends.compare import chosen_freely, needs_cpu, needs_triton, on
from tests.backends.planes.measures import (
    EPS,
    IDENTICAL,
    NETWORKS,
    SINGLE,
    apart,
    both,
    conv,
    dtypes,
    erf,
    head,
    images,
    off,
    relu,
    scales,
    tower,
)

SMOOTH = [nn.Erf(), nn.Gelu(), nn.Sin(), nn.Cos(), nn.Exp(b=0.3)]
KINKED = [nn.Relu(), nn.LeakyRelu(0.1), nn.Abs(), nn.Sign()]


class Draw:
    """A random network on images of random sizes, from a seed."""

    def __init__(self, seed: int) -> None:
        self.r = random.Random(seed)
        r = self.r
        shape = [r.randint(5, 12)] if r.random() < 0.3 else [r.randint(5, 9), r.randint(5, 9)]
        channels = r.randint(1, 3)
        # Positions of one number are parallel, unless there are biases: see test_constant_regions.
        self.biased = channels == 1
        self.sizes = tuple(shape)
        self.circular = r.random() < 0.3
        self.net = self.network()
        X = images(5, *shape, channels, seed=seed)
        self.X, self.Y = X[:3], X[3:]

    def bend(self) -> nn.Layer:
        return self.r.choice(SMOOTH + KINKED)

    def weights(self) -> dict[str, Any]:
        r = self.r
        b_std = round(r.uniform(0.1, 0.5), 2) if self.biased or r.random() < 0.6 else 0.0
        options: dict[str, Any] = {"W_std": round(r.uniform(0.8, 1.6), 2), "b_std": b_std}
        if r.random() < 0.1:
            options |= {"parameterization": "standard", "fan_in": r.randint(1, 64)}
        elif r.random() < 0.1:
            options |= {"trainable": False}
        return options

    def conv(self, strides: float = 0.0, padding: str | None = None) -> nn.Layer:
        r = self.r
        shape = tuple(r.randint(1, min(5, n)) for n in self.sizes)
        fits = (2 * k - 1 <= n for k, n in zip(shape, self.sizes, strict=True))
        layer = nn.Conv(
            shape,
            strides=tuple(2 if r.random() < strides and n >= 4 else 1 for n in self.sizes),
            padding=padding or ("CIRCULAR" if self.circular else "SAME"),
            dilation=tuple(r.choice([1, 1, 2]) if fit else 1 for fit in fits),
            **self.weights(),
        )
        self.behind(layer)
        return layer

    def pool(self) -> nn.Layer:
        r = self.r
        layer: nn.Layer
        window = tuple(r.randint(1, 3) if n >= 3 else 1 for n in self.sizes)
        options = {"strides": r.choice([1, 2]), "padding": r.choice(["SAME", "VALID"])}
        layer = nn.SumPool(window, **options)
        if r.random() < 0.7:
            layer = nn.AvgPool(window, normalize_edges=r.random() < 0.5, **options)
        self.behind(layer)
        return layer

    def behind(self, layer: Any) -> None:
        program = nn.serial(nn.Unflatten((*self.sizes, 1)), layer).program()
        self.sizes = program.sizes()[-1]

    def block(self) -> nn.Layer:
        return nn.serial(self.bend(), self.conv())

    def hidden(self) -> list[nn.Layer]:
        """From one convolution to the next."""
        r, axes = self.r, range(len(self.sizes))
        match r.choice(
            ["plain"] * 4 + ["pool", "early", "sum", "product", "concat", "norm", "drop"]
        ):
            case "plain":
                return [self.bend(), self.conv(strides=0.25)]
            case "pool":
                return [self.bend(), self.pool(), self.conv()]
            case "early":
                return [self.pool(), self.bend(), self.conv()]
            case "sum":
                shortcut = r.choice([None, nn.Dense(0.7), self.conv()])
                return [nn.residual(self.block(), shortcut)]
            case "product":
                return [nn.parallel(self.block(), self.block(), merge="product"), self.conv()]
            case "concat":
                branches = (self.block(), self.bend())
                return [nn.parallel(*branches, merge="concat", weights=(1.0, 2.0)), self.conv()]
            case "norm":
                over = tuple(r.sample(axes, r.randint(0, len(axes))))
                return [nn.LayerNorm(eps=r.choice([1e-12, 0.1]), axes=over), *self.block().layers]
            case _:
                return [self.bend(), nn.Dropout(0.8), self.conv()]

    def network(self) -> nn.Layer:
        r = self.r
        first = [self.pool()] if r.random() < 0.15 else []
        padding = None if self.circular else r.choice(["SAME", "VALID"])
        layers: list[nn.Layer] = [*first, self.conv(strides=0.25, padding=padding)]
        for _ in range(r.randint(0, 3)):
            layers += self.hidden()
        layers += [self.bend()] if r.random() < 0.7 else []
        readout = r.choice([nn.Flatten(), nn.GlobalAvgPool(), nn.GlobalSumPool()])
        layers.append(readout)
        for _ in range(r.randint(0, 2)):
            # The exponential of a sum over all positions has no digits to be right about.
            bent = r.choice([*SMOOTH[:-1], *KINKED])
            layers += [nn.Dense(**self.weights()), bent]
        return nn.serial(*layers, nn.Dense(**self.weights()))


@needs_cpu
@pytest.mark.parametrize("seed", range(48))
def test_random_networks(seed: int) -> None:
    """Of at most 16 layers. A kink that meets a gap g grows a rounding by 1 / (pi sqrt(2 g)), which
    is large for a few of the thousands of pairs of positions only, so that ten is enough here,
    too."""
    draw = Draw(seed)
    for Y in (None, draw.Y):
        double, single = off(draw.net, draw.X, Y)
        assert double <= 16 * 200 * EPS, draw.net
        assert single <= SINGLE, draw.net


@needs_cpu
@pytest.mark.parametrize("readout", [nn.Flatten(), nn.GlobalAvgPool()])
@pytest.mark.parametrize("fn", [nn.Tanh(), nn.Swish(), nn.Elementwise(torch.atan)])
def test_nonlinearities_by_series(fn: nn.Nonlinearity, readout: nn.Layer) -> None:
    """A series is cut at a tail of 1e-13, in float32 of 1e-8."""
    net = nn.serial(conv(axes=1), fn, conv(axes=1), relu, readout, head)
    X = images(2, 4, 2)
    double, single = off(net, X)
    assert double <= 1e-11
    assert single <= SINGLE


EVERY_LOOP = {
    f"{fn!r} {b} {readout!r}": nn.serial(
        *[layer for _ in range(3) for layer in (conv(b_std=b), fn)], readout, head
    )
    for fn in (relu, nn.LeakyRelu(0.1), erf)
    for b, readout in ((0.0, nn.Flatten()), (0.2, nn.GlobalAvgPool()))
} | {name: net for name, net in NETWORKS.items() if name != "series"}


@functools.cache
def reference(name: str) -> Any:
    X, Y = isa_images()
    return both(EVERY_LOOP[name], X, Y, backend="reference")


def isa_images() -> tuple[np.ndarray, np.ndarray]:
    """More cells than a vector of the machine has, and not a multiple of them."""
    return images(2, 5, 7, 2), images(2, 5, 7, 2, seed=1)


@needs_cpu
@pytest.mark.parametrize("isa", ["avx512", "avx2", "baseline"])
@pytest.mark.parametrize("name", EVERY_LOOP)
def test_instruction_sets(name: str, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each keeps the contract on its own."""
    if isa not in cpu._core.instruction_sets():
        pytest.skip(f"this machine has no {isa}")
    monkeypatch.setenv("KERNREG_ISA", isa)
    assert cpu.instruction_set() == isa
    double, single = off(EVERY_LOOP[name], *isa_images(), want=reference(name))
    assert double <= IDENTICAL["float64"]
    assert single <= SINGLE


# What planes do not do


THREE = nn.Conv((2, 2, 2), W_std=1.4, b_std=0.1)
REFUSED: dict[str, tuple[nn.Layer, tuple[int, ...], str]] = {
    "transposed": (nn.ConvTranspose((3, 3), strides=2), (3, 3, 2), "is a transposed convolution"),
    "overlapping": (
        nn.serial(conv(), nn.AvgPool((3, 3), strides=2, padding="CIRCULAR")),
        (6, 6, 2),
        "pools over windows that wrap around",
    ),
    "volumes": (nn.serial(THREE, relu, THREE), (3, 4, 3, 2), "have 3 axes of positions"),
    "local strides": (
        nn.ConvLocal((3, 3), strides=2),
        (6, 6, 2),
        "has strides and weights at each position",
    ),
    "two paddings": (
        nn.serial(conv(padding="CIRCULAR"), relu, conv()),
        (5, 5, 2),
        "paddings CIRCULAR and others meet",
    ),
    "too far": (conv(5, dilation=9), (3, 3, 2), "a filter reaches too far"),
    "no series": (
        nn.serial(conv(), nn.Elementwise(torch.relu, smooth=False), nn.Dense()),
        (2, 2, 2),
        "has a kink and no closed form",
    ),
    "branches of two depths": (
        nn.parallel(
            conv(strides=4),
            nn.serial(conv(strides=2), relu, conv(strides=2)),
        ),
        (8, 8, 2),
        "different numbers of positions|leaves .* positions where",
    ),
}


@needs_cpu
@chosen_freely
@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_reason(name: str) -> None:
    """The reference goes on."""
    layer, shape, reason = REFUSED[name]
    net, X = nn.serial(layer, nn.GlobalAvgPool(), head), images(2, *shape)
    with pytest.raises(BackendError, match=f"backend='cpu' cannot run this: .*({reason})"):
        kernreg.gram(net, X, backend="cpu")
    np.testing.assert_array_equal(both(net, X), both(net, X, backend="reference"))
    np.testing.assert_array_equal(np.diagonal(kernreg.gram(net, X)), kernreg.diag(net, X))


@needs_cpu
def test_more_branches_than_there_is_room_for() -> None:
    branches = [nn.serial(conv(), relu, conv()) for _ in range(9)]
    net = nn.serial(nn.parallel(*branches), relu, nn.Flatten())
    with pytest.raises(BackendError, match="more than 8 branches alive at once"):
        kernreg.gram(net, images(2, 3, 3, 1), backend="cpu")


@pytest.mark.parametrize("backend", ["cuda", pytest.param("triton", marks=needs_triton)])
def test_backends_without_planes(backend: str) -> None:
    with pytest.raises(BackendError, match=f"backend='{backend}' cannot run this"):
        kernreg.gram(tower(nn.Flatten()), images(2, 4, 4, 2), **on(backend))


# Cases that once went wrong


@needs_cpu
def test_pools_without_a_layer_before_them() -> None:
    """No instruction has constants then; in a process of its own, which that ended."""
    script = """
import numpy as np
from kernreg import gram, nn

X = np.random.default_rng(0).standard_normal((2, 8, 2))
net = nn.serial(nn.AvgPool(2), nn.AvgPool(2), nn.Conv(1), nn.Flatten())
np.testing.assert_allclose(gram(net, X, backend="cpu"), gram(net, X, backend="reference"))
"""
    subprocess.run([sys.executable, "-c", script], env=os.environ, check=True, timeout=120)


@needs_cpu
@pytest.mark.parametrize(
    "readout",
    [
        nn.serial(nn.AvgPool((2, 2)), nn.Flatten()),
        nn.serial(nn.AvgPool((2, 2)), nn.Conv((1, 1)), relu, nn.Flatten()),
        nn.serial(nn.Conv((1, 1), strides=2), relu, nn.GlobalAvgPool()),
    ],
)
def test_displacements_that_wrap_around(readout: nn.Layer) -> None:
    """A circular stage needs them all, also where what is behind it does not."""
    first, second = conv(strides=2), conv(padding="CIRCULAR")
    net = nn.serial(first, relu, second, relu, readout, head)
    assert max(off(net, images(2, 10, 10, 2), None, "float64")) <= IDENTICAL["float64"]


@needs_cpu
@pytest.mark.parametrize("layer", [nn.Dense(1.2, 0.3), nn.Conv((1, 1), W_std=1.2, b_std=0.3)])
def test_a_bias_before_a_filter(layer: nn.Layer) -> None:
    """Cells between lines get the bias, too, and must not be read."""
    net = nn.serial(conv(), relu, layer, conv(), relu, nn.GlobalAvgPool(), head)
    assert max(off(net, images(2, 4, 4, 2), None, "float64")) <= IDENTICAL["float64"]


@needs_cpu
@chosen_freely
@pytest.mark.filterwarnings("ignore:The slow reference backend")
def test_a_series_that_is_too_long_for_an_image() -> None:
    """The reference goes on, also where the image is neither the first, largest nor smallest."""
    net = nn.serial(conv(axes=1), nn.Tanh(), conv(axes=1), relu, nn.GlobalAvgPool(), head)
    X = 0.5 * images(4, 8, 2)
    X[1], X[2] = 1.5, 0.0
    X[2, 3] = 3.9
    X[3] *= 0.5
    assert kernreg.gram(net, X, X[:1]).shape == (4, 1)


@needs_cpu
@dtypes
@pytest.mark.parametrize("factor", [1e8])
def test_one_image_that_is_very_large(factor: float, dtype: str) -> None:
    """Nothing may overflow on the way, also where it is not in a sample of the images."""
    X = images(600, 2, 2, 1)
    X[301] *= factor
    net = nn.serial(conv(2), relu, conv(2), erf, nn.Flatten(), head)
    made = both(net, X, X[:1], backend="cpu", dtype=dtype)
    want = both(net, X[301:302], X[:1], backend="reference")
    # In float64 eps times the ratio of sizes is left; float32 asks float64.
    tolerance = max(SINGLE if dtype == "float32" else 0.0, min(factor, 1e8) * IDENTICAL["float64"])
    scale = scales(net, X[301:302], X[:1])
    assert apart([K[301:302] for K in made], want, scale) <= tolerance
    assert np.isfinite(made).all()
