"""Seconds for a pair of images: by side, depth, network, number of images and threads.

    python -m benchmarks.images [part ...]

Parts are ``sides``, ``networks``, ``depths``, ``rows``; all if none is named. Writes
``benchmarks/results/images.json``. Some minutes on two quiet cores.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kernreg import gram, nn

RESULTS = Path(__file__).parent / "results" / "images.json"
_LONG_ENOUGH = 1.0

Record = dict[str, Any]


def images(n: int, side: int, channels: int = 3) -> np.ndarray:
    """Smooth random images."""
    rng = np.random.default_rng(0)
    steps = rng.standard_normal((n, side, side, channels))
    out = steps.cumsum(1).cumsum(2) / side
    return np.asarray(out - out.mean((1, 2), keepdims=True), dtype=np.float32)


def per_pair(net: nn.Layer, side: int, channels: int = 3, most: int = 256) -> tuple[float, int]:
    """Seconds for one pair of different images, both kernels, float32; and how many were taken."""
    n = 1
    while True:
        X, Y = images(2 * n, side, channels)[:n], images(2 * n, side, channels)[n:]
        found = []
        for _ in range(3):
            started = time.perf_counter()
            gram(net, X, Y, kernel=("nngp", "ntk"), backend="cpu")
            found.append(time.perf_counter() - started)
        if min(found) > _LONG_ENOUGH or n >= most:
            return min(found) / n**2, n**2
        n *= 2


def sides() -> Iterator[Record]:
    """Images of growing size, three layers."""
    for readout in ("flatten", "average"):
        for side in (8, 16, 32, 64):
            seconds, pairs = per_pair(nn.cnn(3, readout=readout), side)
            yield {"readout": readout, "side": side, "seconds": seconds, "pairs": pairs}


def depths() -> Iterator[Record]:
    """Deeper networks on images of 32 x 32 x 3."""
    for readout in ("flatten", "average"):
        for depth in (1, 3, 10, 21):
            seconds, pairs = per_pair(nn.cnn(depth, readout=readout), 32)
            yield {"readout": readout, "depth": depth, "seconds": seconds, "pairs": pairs}


def networks() -> Iterator[Record]:
    """Ready-made networks on images of 32 x 32 x 3."""
    made: dict[str, nn.Layer] = {
        "myrtle(5)": nn.myrtle(5),
        "myrtle(7)": nn.myrtle(7),
        "myrtle(10)": nn.myrtle(10),
        "wide_resnet(10, 1)": nn.wide_resnet(10, 1),
        "flip_augmented(myrtle(5))": nn.flip_augmented(nn.myrtle(5)),
        "cnn(3, 'erf', readout='flatten')": nn.cnn(3, "erf", readout="flatten"),
    }
    for name, net in made.items():
        seconds, pairs = per_pair(net, 32)
        yield {"network": name, "seconds": seconds, "pairs": pairs}


def rows() -> Iterator[Record]:
    """The whole symmetric matrix of growing numbers of images, flat readout."""
    net = nn.cnn(3, readout="flatten")
    for n in (32, 128, 512, 2048):
        X = images(n, 32)
        found = []
        for _ in range(2):
            started = time.perf_counter()
            gram(net, X, backend="cpu")
            found.append(time.perf_counter() - started)
        yield {"images": n, "seconds": min(found)}


PARTS: dict[str, Callable[[], Iterator[Record]]] = {
    "sides": sides,
    "depths": depths,
    "networks": networks,
    "rows": rows,
}


def main(arguments: list[str]) -> None:
    """Measure parts, each on one thread and on two in processes of their own."""
    if arguments[:1] == ["--worker"]:
        for record in PARTS[arguments[1]]():
            print(json.dumps(record), flush=True)
        return
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for part in arguments or list(PARTS):
        for threads in (1, 2):
            env = {
                **os.environ,
                "KERNREG_NUM_THREADS": str(threads),
                "OMP_NUM_THREADS": str(threads),
            }
            call = [sys.executable, "-m", "benchmarks.images", "--worker", part]
            run = subprocess.run(call, env=env, capture_output=True, text=True, check=True)
            records = [json.loads(line) for line in run.stdout.splitlines()]
            results[f"{part}, {threads} threads"] = records
            for record in records:
                print(part, threads, record, flush=True)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
