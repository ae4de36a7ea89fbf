"""Choose the tiles of the Triton templates on the GPU at hand, and keep them as data.

``PYTHONPATH=. python benchmarks/tune.py [--minutes 5]`` compiles candidates for every template and
precision, drops those that spill, need too much shared memory or give wrong numbers, times the
rest in turns beside the present tile, and writes the best into
``kernreg/backends/triton/tiles.json`` under the capability of the GPU. All times go to a JSON.
``--device-check`` examines the present tiles on this GPU and changes nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import itertools
import json
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

import kernreg

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks import compile as compiler
from benchmarks import gpu, gpu_checks, gpu_device
from benchmarks.problems import network, rows
from kernreg import KernelOperator
from kernreg.backends.triton import backend
from kernreg.backends.triton.tuning import PRECISIONS, Tile, tile

TABLE = Path(backend.__file__).with_name("tiles.json")
# What is compiled with an entry of the table, see compile.py.
VARIANTS = {
    "gram": ("gram", "gram, symmetric"),
    "multiply": ("K @ V", "K @ V, 64 columns"),
    "multiply_half": ("K @ V, symmetric", "K @ V, symmetric, 32"),
}
NETWORKS = ("relu 3", "gelu 10", "residual")
CASES = list(itertools.product(VARIANTS, (*PRECISIONS, "float64")))
# Least gain that is worth another entry, whatever the noise.
GAIN = 0.02
FINALISTS, ROUNDS = 4, 7


def candidates(template: str, present: Tile) -> list[Tile]:
    """Tiles that a template can run on, those most like the present one first.

    A thread gets 4 to 32 entries: fewer keep the matrix units waiting, more never fit registers.
    """
    found = [
        Tile(*sizes)
        for sizes in itertools.product(
            (16, 32, 64, 128), (16, 32, 64, 128), (16, 32, 64), (4, 8), (1, 2, 3)
        )
        if 4 <= sizes[0] * sizes[1] / (32 * sizes[3]) <= 32
        and (template != "gram" or sizes[0] % sizes[1] == 0)
    ]

    def steps(t: Tile) -> float:
        pairs = zip(dataclasses.astuple(t), dataclasses.astuple(present), strict=True)
        return sum(abs(math.log2(a / b)) for a, b in pairs)

    return sorted((t for t in found if t != present), key=steps)


@dataclass
class Trial:
    """A tile, its times in seconds, and why it was given up, if it was."""

    tile: Tile
    seconds: list[float]
    reason: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "tile": list(dataclasses.astuple(self.tile))}


def search(
    present: Tile,
    others: Sequence[Tile],
    examine: Callable[[Tile], str | None],
    prepare: Callable[[Tile], Callable[[], float]],
    until: float,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Tile, list[Trial]]:
    """The fastest tile, or the present one where no other is faster by more than noise.

    Parameters
    ----------
    present : Tile
        What the table holds.
    others : sequence of Tile
        To try, the most promising first.
    examine : callable
        Why a tile cannot be used, or None.
    prepare : callable
        Checks the numbers of a tile, raises if they are wrong, and returns what times one run.
    until : float
        When by ``clock`` no other tile is begun. The present tile and the final are always run.

    Returns
    -------
    tuple of Tile and list of Trial
        The choice, and all that was tried; the present tile first.
    """
    trials: list[Trial] = []
    runs: dict[Tile, Callable[[], float]] = {}

    def attempt(trial: Trial, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            trial.reason = repr(error)
            runs.pop(trial.tile, None)

    def begin(trial: Trial) -> None:
        trial.reason = examine(trial.tile)
        if trial.reason is None:
            runs[trial.tile] = prepare(trial.tile)
            trial.seconds.append(runs[trial.tile]())

    for t in (present, *others):
        if trials and clock() >= until:
            break
        trials.append(Trial(t, []))
        attempt(trials[-1], lambda: begin(trials[-1]))
    good = [trial for trial in trials if trial.tile in runs]
    good.sort(key=lambda trial: (trial.tile != present, min(trial.seconds)))
    final = good[: FINALISTS + (trials[0] in good)]
    for trial in final:
        trial.seconds.clear()
    for _ in range(ROUNDS):
        for trial in final:
            if trial.tile in runs:
                attempt(trial, lambda trial=trial: trial.seconds.append(runs[trial.tile]()))
    final = [trial for trial in final if trial.tile in runs]
    if not final:
        return present, trials
    best = min(final, key=lambda trial: statistics.median(trial.seconds))
    if trials[0] not in final:
        return best.tile, trials
    before = statistics.median(trials[0].seconds)
    spread = statistics.quantiles(trials[0].seconds, n=4)
    noise = max(GAIN, (spread[2] - spread[0]) / before)
    better = statistics.median(best.seconds) < before * (1 - noise)
    return best.tile if better else present, trials


def updated(
    table: Mapping[str, Any], template: str, precision: str, capability: int, chosen: Tile
) -> dict[str, Any]:
    """The table with one entry set; a tile that already serves the capability adds none."""
    found: dict[str, Any] = json.loads(json.dumps(table))
    entries = found[template][precision]
    older = [key for key in entries if int(key) <= capability] or [min(entries, key=int)]
    sizes = list(dataclasses.astuple(chosen))
    if entries[max(older, key=int)] != sizes:
        entries[str(capability)] = sizes
        found[template][precision] = dict(sorted(entries.items(), key=lambda item: int(item[0])))
    return found


def text_of(table: Mapping[str, Any]) -> str:
    """A table as JSON, a line for each precision."""
    templates = [
        f'  "{template}": {{\n'
        + ",\n".join(f'    "{p}": {json.dumps(entries)}' for p, entries in precisions.items())
        + "\n  }"
        for template, precisions in table.items()
    ]
    return "{\n" + ",\n".join(templates) + "\n}\n"


def write(text: str, path: Path) -> None:
    """Replace a file at once and as a whole."""
    handle, draft = tempfile.mkstemp(dir=path.parent, suffix=".draft")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def examined(case: tuple[str, str, int, int, Tile]) -> str | None:
    """Why the machine code of a tile should not be used, or None; runs in a process of its own."""
    template, precision, capability, shared, t = case
    for name, variant in itertools.product(NETWORKS, VARIANTS[template]):
        try:
            reason = compiler.fault(
                compiler.compiled(name, variant, capability, precision, t), shared
            )
        except Exception as error:
            reason = repr(error)
        if reason:
            return f"{variant}, {name}: {reason}"
    return None


@contextlib.contextmanager
def using(t: Tile) -> Iterator[None]:
    """Let every template run on one tile."""
    with mock.patch.multiple(backend, tile=lambda *args: t, INTERPRETED=t):
        yield


def error_of(template: str, half: bool, options: Mapping[str, Any]) -> float:
    """Worst error of what a template does to hostile rows, beside float64 on the CPU."""
    X = gpu_checks.hostile(150, 23)
    Y = X if half else X[:50] * np.float32(1.5)
    net = network("relu", 3)
    exact = kernreg.gram(net, X, None if half else Y, dtype="float64", backend="reference")
    s1, s2 = kernreg.diag(net, X), kernreg.diag(net, Y)
    operator = KernelOperator(net, X, None if half else Y, device=gpu_device.DEVICE, **options)
    if template == "gram":
        return gpu_checks.scaled_error(operator.to_dense(), exact, s1, s2)
    V = np.random.default_rng(2).standard_normal((len(Y), 10))
    return gpu_checks.product_error(operator @ V, exact, V, s1, s2)


def prepared(
    template: str, precision: str, t: Tile, n: int = 16_384, d: int = 200
) -> Callable[[], float]:
    """Check a tile on rows that are hard, and return what times its work on many rows."""
    net, halves = network("relu", 3), {"multiply": (False,), "multiply_half": (True,)}
    options = {**gpu_checks.arithmetic(precision), "exact": True, "backend": "triton"}
    with using(t):
        error = max(
            error_of(template, half, options) for half in halves.get(template, (True, False))
        )
    bound = gpu_checks.error_bound("hostile", precision)
    if not error <= bound:
        raise ArithmeticError(f"error {error:.3g}, allowed {bound:.3g}")
    X = torch.from_numpy(rows(n, d)).to(gpu_device.DEVICE)
    symmetric, other = KernelOperator(net, X, **options), KernelOperator(net, X, X, **options)
    kind = getattr(torch, options["dtype"])
    V = torch.ones(n, 10, dtype=kind, device=X.device)
    out = torch.empty(n if template == "gram" else 0, n, dtype=kind, device=X.device)
    work: dict[str, Callable[[], Any]] = {
        "gram": lambda: (symmetric.to_dense(out), other.to_dense(out)),
        "multiply": lambda: other @ V,
        "multiply_half": lambda: symmetric @ V,
    }

    def run() -> float:
        with using(t):
            return gpu_device.seconds(work[template], 3)

    return run


def present_tiles(capability: int) -> dict[tuple[str, str], Tile]:
    return {case: tile(*case, capability) for case in CASES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="time for all of it, about")
    parser.add_argument("--device-check", action="store_true", help="change nothing")
    parser.add_argument("--out", type=Path, help="folder of the JSON; default: $OUT or results/")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("benchmarks/tune.py needs a CUDA GPU; torch sees none.")
    if os.environ.get("TRITON_INTERPRET"):
        sys.exit("TRITON_INTERPRET is set: nothing would be compiled")
    properties = torch.cuda.get_device_properties(0)
    capability = 10 * properties.major + properties.minor
    shared = getattr(properties, "shared_memory_per_block_optin", 99 * 1024)
    present = present_tiles(capability)
    tried = {
        case: [] if options.device_check else candidates(case[0], t) for case, t in present.items()
    }
    begun = time.monotonic()
    report = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "device": properties.name,
        "capability": capability,
        "versions": gpu.versions(),
        "cases": [],
    }
    folder = options.out or Path(os.environ.get("OUT") or Path(__file__).parent / "results")
    folder.mkdir(parents=True, exist_ok=True)
    name = properties.name.replace(" ", "-").lower()
    path, failed = folder / f"{report['date']}-tune-{name}.json", False
    # Forked processes could not use a GPU that this one does.
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        # Half of the time is for the compiler; cases take turns, so that each gets some.
        order = [
            (*case, capability, shared, t)
            for turn in itertools.zip_longest(*([present[c], *tried[c]] for c in CASES))
            for case, t in zip(CASES, turn, strict=True)
            if t is not None
        ]
        reasons = compile_all(pool, order, begun + 30 * options.minutes)
        for k, (case, now) in enumerate(present.items()):
            left = begun + 60 * options.minutes - time.monotonic()
            best, trials = search(
                now,
                [t for t in tried[case] if (*case, t) in reasons],
                lambda t, case=case: reasons.get((*case, t), "not compiled in time"),
                lambda t, case=case: prepared(*case, t),
                time.monotonic() + left / (len(CASES) - k),
            )
            failed |= options.device_check and trials[0].reason is not None
            report["cases"].append({
                "template": case[0],
                "precision": case[1],
                "chosen": list(dataclasses.astuple(best)),
                "trials": [trial.as_json() for trial in trials],
            })  # fmt: skip
            write(json.dumps(gpu.finite(report), indent=1, allow_nan=False) + "\n", path)
            if best != now:
                table = json.loads(TABLE.read_text())
                write(text_of(updated(table, *case, capability, best)), TABLE)
            print(*case, now, "->" if best != now else "stays", best, trials[0].reason or "")
    print(f"{time.monotonic() - begun:.0f} s; times are in {path}")
    sys.exit(failed)


def compile_all(
    pool: ProcessPoolExecutor, order: Sequence[tuple[str, str, int, int, Tile]], until: float
) -> dict[tuple[str, str, Tile], str | None]:
    """What :func:`examined` says of as many as can be compiled in time, and of the present ones."""
    workers, found, k = os.cpu_count() or 1, {}, 0
    while k < len(order) and (k < len(CASES) or time.monotonic() < until):
        batch = order[k : k + 4 * workers]
        for case, reason in zip(batch, pool.map(examined, batch), strict=True):
            found[case[0], case[1], case[4]] = reason
        k += len(batch)
    return found


if __name__ == "__main__":
    main()
