"""Accuracy of convolutional kernels on few images of CIFAR-10, beside fully connected and Gaussian
ones: the figures of the papers on such kernels, at sizes that two cores can do.

    python -m benchmarks.cifar run
    python -m benchmarks.cifar show
    python -m benchmarks.cifar run --data mnist

The first images of either part are taken. Channels are scaled to mean 0 and variance 1 by all
training images of the file; outputs are kernel ridge regressions to centred indicators, their
ridges chosen by leave-one-out. The fully connected network and the kernels of distances are the
best of the whole grid of ``kernreg baseline``, by leave-one-out on the training images.

``run`` appends a line for every model and number of images to ``benchmarks/results/cifar.jsonl``
and skips what is there. Entries are kept tile by tile in ``benchmarks/results/kernels``, so that a
run that was killed goes on, and more training images need the new entries only.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.lines import append, drop_torn, read, within
from benchmarks.problems import data_dir
from kernreg import ImageScaler, KernelOperator
from kernreg.baseline import Settings
from kernreg.baseline import run as run_baseline
from kernreg.datasets import load
from kernreg.operators import MatrixOperator, TileStore
from kernreg.solvers import Cholesky

RESULTS = Path(__file__).parent / "results" / "cifar.jsonl"
KERNELS = Path(__file__).parent / "results" / "kernels"

ALPHAS = np.logspace(-6, 1, 15)
"""Ridges over the mean diagonal; smaller ones are beside the rounding of float32 entries."""
TILE = 40
FULL = 50_000, 10_000

Floats = NDArray[np.float64]
Parts = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


@dataclass(frozen=True)
class Task:
    """Images of a file, how many are taken, and the networks, each with its kernel."""

    file: str
    train: tuple[int, ...]
    test: int
    networks: dict[str, tuple[str, str]]


TASKS = {
    "cifar10": Task(
        "cifar10/cifar10_small_decoded.npz",
        (200, 400, 640),
        640,
        {
            "10 convolutions, flatten": ('cnn(10, b_std=0.0, readout="flatten")', "ntk"),
            "Myrtle-5": ("myrtle(5)", "ntk"),
            "Myrtle-5, flips": ("flip_augmented(myrtle(5))", "ntk"),
            "10 convolutions, average": ("cnn(10, b_std=0.0)", "ntk"),
        },
    ),
    "mnist": Task(
        "mnist/mnist.npz",
        (2000,),
        2000,
        {"8 convolutions, flatten, NNGP": ('cnn(8, b_std=0.0, readout="flatten")', "nngp")},
    ),
}
BASELINES = ("fully connected", "Gaussian", "Laplace")

PUBLISHED = (
    ("CNTK with average pooling, 11 layers", "77 to 78", "1904.11955"),
    ("and local average pooling, flips, random patches", "89", "1911.00809"),
    ("Myrtle-10, flips", "90", "2003.02237"),
)
"""On all 50,000 training and 10,000 test images of CIFAR-10, in %."""


def images(data: str, train: int, test: int) -> tuple[Parts, ImageScaler]:
    """Training images and labels, test images and labels; and the scaler of all of the file."""
    with np.load(data_dir() / TASKS[data].file) as file:
        X, Z = file["X_train"], file["X_test"]
        y, z = file["y_train"][:train], file["y_test"][:test]
    if X.ndim == 3:
        X, Z = X[..., None], Z[..., None]
    return (X[:train], y, Z[:test], z), ImageScaler().fit(X)


def baselines(parts: Parts) -> Iterator[dict[str, Any]]:
    """Lines of the best fully connected network and the best kernels of distances."""
    X, y, Z, z = (a.reshape(len(a), -1) if a.ndim > 1 else a for a in parts)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npz"
        np.savez(path, X_train=X, y_train=y, X_test=Z, y_test=z)
        outcome = run_baseline(load(str(path)), Settings(competitors=False))
    for score in outcome.folds[0].scores:
        first = "fully connected" if score.model.endswith(" network") else score.model.split()[0]
        if first in BASELINES:
            what = f"{score.model}, {score.description}"
            yield {"model": first, "accuracy": score.test, "what": what}


def leading(
    store: TileStore, operator: KernelOperator, rows: int, columns: int
) -> tuple[Floats, int]:
    """The first rows and columns of a matrix, and how many entries were worked out for them."""
    bounds = {where: store.bounds(*where) for where in store.tiles()}
    needed = {where: b for where, b in bounds.items() if b[0] < rows and b[2] < columns}
    missing = set(store.pending()) & set(needed)

    def progress(step: int, _: int) -> None:
        print(f"\r{step}/{len(needed)} tiles ", end="", file=sys.stderr)

    store.write(operator, progress, needed)
    print(end="\r", file=sys.stderr)
    found = np.empty(store.shape)
    for where, (i0, i1, j0, j1) in needed.items():
        found[i0:i1, j0:j1] = values = store.read(*where)
        if store.symmetric:
            found[j0:j1, i0:i1] = values.T
    worked = sum((needed[w][1] - needed[w][0]) * (needed[w][3] - needed[w][2]) for w in missing)
    return found[:rows, :columns], worked


def accuracy(K: Floats, y: NDArray[Any], K_new: Floats, z: NDArray[Any]) -> tuple[float, float]:
    """Share of the new rows that are named rightly, and the ridge of least leave-one-out error."""
    classes = int(max(y.max(), z.max())) + 1
    targets = np.eye(classes)[y] - 1 / classes
    operator, solver = MatrixOperator(K), Cholesky()
    best, chosen = np.inf, (0.0, 0.0)
    for alpha in ALPHAS:
        state = solver.init(operator, alpha * float(np.mean(K.diagonal())))
        weights = solver.solve(state, targets).value
        error = float(np.mean(state.leave_one_out(weights) ** 2))
        if error < best:
            hits = (K_new @ weights).argmax(axis=1) == z
            best, chosen = error, (float(np.mean(hits)), float(alpha))
    return chosen


def growing(
    data: str, model: str, sizes: Sequence[int], most: int, test: int
) -> Iterator[dict[str, Any]]:
    """A line for each number of training images, from one matrix of the largest number."""
    code, kernel = TASKS[data].networks[model]
    (X, y, Z, z), scaler = images(data, most, test)
    X, Z = (scaler.transform(part).astype(np.float32) for part in (X, Z))
    name = f"{data}-{re.sub(r'[^a-z0-9]+', '-', model.lower())}-{most}"
    own, new = (KernelOperator(code, *rows, kernel=kernel) for rows in ((X,), (Z, X)))
    # Where pooling makes no entries dear, tiles of this size are many, but still fast.
    kept = TileStore.create(KERNELS / name, own, tile=TILE)
    kept_new = TileStore.create(KERNELS / f"{name}-{test}", new, tile=TILE)
    for n in sizes:
        # Of the processor, so that other work does not count.
        started = time.process_time()
        K, first = leading(kept, own, n, n)
        K_new, second = leading(kept_new, new, test, n)
        seconds, entries = time.process_time() - started, first + second
        score, alpha = accuracy(K, y[:n], K_new, z)
        line = {"train": n, "model": model, "accuracy": score, "alpha": alpha, "what": code}
        yield line | ({"cpu_ms_per_entry": 1e3 * seconds / entries} if entries else {})


def run(data: str, sizes: Sequence[int], test: int, models: Sequence[str]) -> None:
    """Measure what has not been measured."""
    drop_torn(RESULTS)
    threads = os.environ.get("KERNREG_NUM_THREADS", "all")
    done = {(r["data"], r["train"], r["test"], r["model"]) for r in lines()}
    # Tiles of few images serve for the others of the table.
    most = max(*sizes, *TASKS[data].train)

    def left(model: str) -> list[int]:
        return [n for n in sorted(sizes) if (data, n, test, model) not in done]

    def write(line: dict[str, Any]) -> None:
        line = {"data": data, "test": test, "threads": threads} | line
        if (data, line["train"], test, line["model"]) in done:
            return
        append(RESULTS, line)
        print(line["train"], line["model"], f"{line['accuracy']:.4f}", flush=True)

    for n in sorted({n for model in BASELINES if model in models for n in left(model)}):
        for line in baselines(images(data, n, test)[0]):
            write({"train": n} | line)
    for model in TASKS[data].networks:
        if model in models and left(model):
            for line in growing(data, model, left(model), most, test):
                write(line)


def lines() -> list[dict[str, Any]]:
    """What has been measured."""
    return read(RESULTS)


def show(data: str) -> None:
    """A table of accuracies for each number of test images, and the published ones."""
    found = [line for line in lines() if line["data"] == data]
    for test in sorted({line["test"] for line in found}, reverse=True):
        of = {(line["model"], line["train"]): line for line in found if line["test"] == test}
        sizes = sorted({n for _, n in of})
        print(f"\n{data}, {test} test images, accuracy in % and its standard error:\n")
        print(f"| kernel | {' | '.join(f'{n} training images' for n in sizes)} | CPU ms an entry |")
        print("|---" * (len(sizes) + 2) + "|")
        for model in dict.fromkeys(model for model, _ in of):
            cells = [_cell(of.get((model, n))) for n in sizes]
            rates = [of[m, n]["cpu_ms_per_entry"] for m, n in of if m == model and _timed(of[m, n])]
            cells.append(f"{rates[-1]:.2g}" if rates else "")
            print(f"| {model} | {' | '.join(cells)} |")
    if data == "cifar10":
        _show_published(found)


def _show_published(found: list[dict[str, Any]]) -> None:
    """Figures of papers, and how long they would take here."""
    n, new = FULL
    print(f"\nPublished, {n:,} training and {new:,} test images, so not to be compared:\n")
    print("| kernel | accuracy, % | paper |\n|---|---|---|")
    for published in PUBLISHED:
        print(f"| {' | '.join(published)} |")
    entries = n * (n + 1) / 2 + n * new
    print(f"\nThe {entries / 1e9:.2f} billion entries of that many images would take one core:\n")
    for model in TASKS["cifar10"].networks:
        timed = [line for line in found if line["model"] == model and _timed(line)]
        if timed:
            days = entries * timed[-1]["cpu_ms_per_entry"] / 8.64e7
            print(f"- {model}: {days:.2g} days")


def _timed(line: dict[str, Any]) -> bool:
    return "cpu_ms_per_entry" in line


def _cell(line: dict[str, Any] | None) -> str:
    if line is None:
        return ""
    share = line["accuracy"]
    return within(100 * share, 100 * (share * (1 - share) / line["test"]) ** 0.5)


def main() -> None:
    """Run or show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["run", "show"])
    parser.add_argument("--data", choices=TASKS, default="cifar10")
    parser.add_argument("--train", type=int, nargs="+", help="numbers of training images")
    parser.add_argument("--test", type=int, help="number of test images")
    parser.add_argument("--models", nargs="+", help="names as in the table; all if left out")
    options = parser.parse_args()
    task = TASKS[options.data]
    if options.what == "run":
        models = options.models or [*BASELINES, *task.networks]
        run(options.data, options.train or task.train, options.test or task.test, models)
    show(options.data)


if __name__ == "__main__":
    main()
