"""Damaged files: no flipped bit and no changed byte ends in another answer without a word.

``python -m tests.faults`` tries 400 of each in each kind of file; ``--trials`` and ``--seed``
change that, ``--kinds`` names some. The suite tries a few (``tests/test_faults.py``).
"""

from __future__ import annotations

import argparse
import collections
import logging
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import kernreg
from kernreg import KernelClassifier, KernelOperator, KernelRegressor, nn
from kernreg.exceptions import KernregError
from kernreg.operators import TileStore
from kernreg.solvers import PCG, OutOfCoreCholesky, RPCholesky, SketchAndProject

Answer = tuple[Any, ...]
N, RIDGE = 48, 1e-3
X = np.random.default_rng(0).standard_normal((N, 3))
Y = np.sin(X[:, 0])
NETWORK = nn.mlp(depth=2, b_std=0.1)
OPERATOR = KernelOperator(NETWORK, X)


class Kind(NamedTuple):
    """Files that are made once, and the answer that they give."""

    make: Callable[[Path], object]
    answer: Callable[[Path], Answer]


def save_regressor(folder: Path) -> None:
    KernelRegressor(NETWORK, alpha=[1e-3, 1e-2]).fit(X, Y).save(folder / "model")


def save_classifier(folder: Path) -> None:
    labels = np.array(["no", "perhaps", "yes"])[np.argsort(X, axis=1)[:, 0]]
    KernelClassifier(nn.serial(nn.Dense(), nn.Erf(), nn.Dense())).fit(X, labels).save(
        folder / "model"
    )


def of_model(folder: Path) -> Answer:
    model = kernreg.load(folder / "model")
    return model.predict(X), model.alpha_, repr(model.network_), model.solution_.value


def write_store(folder: Path) -> None:
    TileStore.create(folder / "store", OPERATOR, tile=20, note={"network": "mlp"}).write(OPERATOR)


def of_store(folder: Path) -> Answer:
    store = TileStore.open(folder / "store")
    return store.note, store.operator(exact=OPERATOR).to_dense()


def of_store_alone(folder: Path) -> Answer:
    """Read by somebody who does not have the data."""
    store = TileStore.open(folder / "store")
    return store.note, store.fingerprint, store.symmetric, store.operator() @ Y


def solver_of(kind: str, folder: Path, more: int) -> Any:
    path = folder / "checkpoint"
    if kind == "pcg":
        return PCG(RPCholesky(rank=2), checkpoint=path, max_iter=4 + more)
    return SketchAndProject(checkpoint=path, max_passes=2 + more, block=16)


def stop(kind: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        solver = solver_of(kind, folder, 0)
        solver.solve(solver.init(OPERATOR, RIDGE), Y)

    return make


def resume(kind: str) -> Callable[[Path], Answer]:
    def answer(folder: Path) -> Answer:
        solver = solver_of(kind, folder, 60)
        return (solver.solve(solver.init(OPERATOR, RIDGE), Y).value,)

    return answer


def factor(folder: Path) -> Answer:
    solver = OutOfCoreCholesky(folder / "factor", block=16)
    return (solver.solve(solver.init(OPERATOR, RIDGE), Y).value,)


KINDS = {
    "regressor": Kind(save_regressor, of_model),
    "classifier": Kind(save_classifier, of_model),
    "store": Kind(write_store, of_store),
    "store alone": Kind(write_store, of_store_alone),
    "pcg checkpoint": Kind(stop("pcg"), resume("pcg")),
    "sketch checkpoint": Kind(stop("sketch"), resume("sketch")),
    "factor": Kind(factor, factor),
}


def bit(data: bytes, rng: random.Random) -> bytes:
    """One bit flipped."""
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def byte(data: bytes, rng: random.Random) -> bytes:
    """A few bytes replaced, deleted, inserted or exchanged, or the end cut off."""
    place, count = rng.randrange(len(data)), rng.choice((1, 1, 1, 2, 8, 100))
    found = rng.randbytes(count)
    match rng.randrange(6):
        case 0 | 1:
            return data[:place] + found + data[place + count :]
        case 2:
            return data[:place] + data[place + count :]
        case 3:
            return data[:place] + found + data[place:]
        case 4:
            return data[:place] + data[place : place + 2][::-1] + data[place + 2 :]
        case _:
            return data[:place]


MUTATIONS = {"bit": bit, "byte": byte}


def same(one: Any, other: Any) -> bool:
    """Whether two answers are equal to the last bit."""
    if isinstance(one, np.ndarray):
        equal = isinstance(other, np.ndarray) and one.dtype == other.dtype
        return equal and one.shape == other.shape and one.tobytes() == other.tobytes()
    return type(one) is type(other) and one == other


def trials(kind: Kind, mutation: str, count: int, seed: int) -> Iterator[tuple[str, str]]:
    """What came of each damaged file, and what was done to it.

    Yields
    ------
    outcome : str
        "error" (of kernreg), "same", "WRONG" or "CRASH" (another error).
    what : str
        File, place and error.
    """
    rng = random.Random(f"{mutation} {seed}")
    with tempfile.TemporaryDirectory() as room, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole, damaged = Path(room, "whole"), Path(room, "damaged")
        whole.mkdir()
        kind.make(whole)
        files = sorted(p for p in whole.rglob("*") if p.is_file() and p.stat().st_size)
        # Headers are small beside the numbers, and as likely to matter.
        shutil.copytree(whole, damaged)
        expected = kind.answer(damaged)
        for _ in range(count):
            shutil.rmtree(damaged)
            shutil.copytree(whole, damaged)
            victim = damaged / rng.choice(files).relative_to(whole)
            data = victim.read_bytes()
            # Half of them in the first part of a file, where its header is.
            head = min(len(data), 4096 if rng.random() < 0.5 else len(data))
            changed = MUTATIONS[mutation](data[:head], rng) + data[head:]
            victim.write_bytes(changed)
            what = victim.name
            try:
                found = kind.answer(damaged)
            except KernregError as error:
                yield "error", f"{what}: {error}"
            except Exception as error:
                yield "CRASH", f"{what}: {error!r}"
            else:
                fits = all(same(a, b) for a, b in zip(found, expected, strict=True))
                yield ("same" if fits else "WRONG"), what


def main() -> int:
    """Try all kinds and count; 1 if any file was believed or ended in another error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    logging.disable(logging.WARNING)  # of panels that are factored again
    bad = 0
    for name in options.kinds:
        for mutation in MUTATIONS:
            began, count = time.monotonic(), collections.Counter[str]()
            for outcome, what in trials(KINDS[name], mutation, options.trials, options.seed):
                count[outcome] += 1
                if outcome.isupper():
                    bad += 1
                    print(f"{outcome} {name}: {what}")
            seconds = time.monotonic() - began
            print(f"{name:18} {mutation:5} {dict(count)} {seconds:.0f} s", flush=True)
    print(f"{bad} damaged files were believed or ended in another error.")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
