"""Fails when a step has become slower, measured by the limits of the machine that it runs on.

    python -m benchmarks.gate [--write] [--only STEP ...]

Each step runs in turns with the limit that holds it: a product of matrices in its type, a pass
through memory, or calls of NumPy on two rows. The ratio of their shortest times, per operation or
byte, hardly depends on the machine. Both are processor time of one thread, which other work hardly
touches; threads that wait for each other beside other work take up to fifty times longer, so that
the gate does not see whether a step still spreads over cores: ``benchmarks.limit`` does. A step
fails when its ratio is more than 1.5 times the one in
``benchmarks/results/gate.json`` for this processor and instruction set; on another processor, more
than 1.5 times the largest of those with the same instruction set, or of all. A step that fails is
measured up to three times more, and its best counts, as machines are shared. ``--write`` measures
five times and puts the best there instead.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from benchmarks.gate_steps import ROWS, STEPS, Step, limit
from benchmarks.limit import processor
from kernreg.backends.cpu import instruction_set

RESULTS = Path(__file__).parent / "results" / "gate.json"
ALLOWED = 1.5
RETRIES = 3
_LONG_ENOUGH, _TURNS = 0.5, 5

Ratios = Mapping[str, float]


def measured(step: Step) -> float:
    """How many times longer than at its limit a step takes."""
    action = step.prepare()
    reference, count = limit(step.limit)
    taken: list[float] = []
    at_limit: list[float] = []
    # The first calls compile and fill caches.
    action()
    reference()
    started = time.process_time()
    while len(taken) < _TURNS or time.process_time() - started < _LONG_ENOUGH:
        at_limit.append(seconds(reference))
        taken.append(seconds(action))
    return min(taken) / step.least * count / min(at_limit)


def seconds(action: Callable[[], Any]) -> float:
    """Processor time of one call."""
    started = time.process_time()
    action()
    return time.process_time() - started


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """For kernreg, torch and BLAS."""
    before = os.environ.get("KERNREG_NUM_THREADS"), torch.get_num_threads()
    os.environ["KERNREG_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        os.environ.pop("KERNREG_NUM_THREADS")
        if before[0] is not None:
            os.environ["KERNREG_NUM_THREADS"] = before[0]
        torch.set_num_threads(before[1])


def kind() -> str:
    """What committed ratios are filed under.

    The name alone says too little: virtual machines give one for several generations.
    """
    return f"{processor()}, {instruction_set()}"


def committed(this: str, known: Mapping[str, Ratios]) -> tuple[Ratios, str]:
    """What to compare with, and a sentence about where it is from.

    Parameters
    ----------
    this : str
        The processor at hand, from `kind`.
    known : mapping of str to mapping
        Ratios by processor.

    Returns
    -------
    tuple of dict and str
        Ratios by step.

    Examples
    --------
    >>> known = {"A, avx2": {"gram": 1.0}, "B, avx2": {"gram": 2.0}, "C, avx512": {"gram": 3.0}}
    >>> committed("A, avx2", known)[0], committed("D, avx2", known)[0]
    ({'gram': 1.0}, {'gram': 2.0})
    >>> committed("D, baseline", known)[1]
    'Nothing is committed for D, baseline: the largest ratio of any processor counts.'
    """
    if this in known:
        return known[this], f"Compared with {this}."
    alike = [name for name in known if name.rpartition(", ")[2] == this.rpartition(", ")[2]]
    taken = alike or list(known)
    names = sorted({step for name in taken for step in known[name]})
    largest = {s: max(known[name][s] for name in taken if s in known[name]) for s in names}
    which = f"of {' and '.join(alike)}" if alike else "of any processor"
    return largest, f"Nothing is committed for {this}: the largest ratio {which} counts."


def failed(
    steps: Sequence[Step],
    against: Ratios,
    measure: Callable[[Step], float] = measured,
    say: Callable[[str], None] = print,
) -> list[str]:
    """Measure, retry what fails, and name what still does.

    Parameters
    ----------
    steps : sequence of Step
        What to measure.
    against : mapping of str to float
        Committed ratios. A step without one fails: it guards nothing.
    measure : callable
        Gives the ratio of a step.
    say : callable
        Takes a line for each step.

    Returns
    -------
    list of str
        A line for each step that is too slow.
    """
    found = []
    for step in steps:
        if step.name not in against:
            found.append(f"{step.name}: no ratio is committed; `--write` measures it")
            continue
        most = ALLOWED * against[step.name]
        tries = [measure(step)]
        while min(tries) > most and len(tries) <= RETRIES:
            tries.append(measure(step))
        best, before = min(tries), against[step.name]
        again = "" if len(tries) == 1 else f", best of {len(tries)} tries"
        line = f"{step.name:45}{best:9.2f}{before:9.2f}{best / before:7.2f}{again}"
        say(line)
        if best > most:
            found.append(
                f"{step.name}: {best:.2f} times the limit ({step.limit}), committed are "
                f"{before:.2f}, that is {best / before:.2f} times as much{again}"
            )
    return found


def write(steps: Sequence[Step]) -> None:
    """Measure all of them five times, one after the other, and keep the best."""
    turns = [{step.name: measured(step) for step in steps} for _ in range(5)]
    ratios = {step.name: min(turn[step.name] for turn in turns) for step in steps}
    for step in steps:
        most = max(turn[step.name] for turn in turns)
        print(f"{step.name:45}{ratios[step.name]:9.2f} to {most:.2f}")
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    record = {
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__,
        "ratios": {name: float(f"{ratio:.3g}") for name, ratio in ratios.items()},
    }
    same = kept if kept.get("rows") == ROWS else {}
    processors = same.get("processors", {}) | {kind(): record}
    text: dict[str, Any] = {"rows": ROWS, "processors": processors}
    RESULTS.write_text(json.dumps(text, indent=1) + "\n")


def main() -> None:
    """Measure, print, and exit with 1 if a step is too slow."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="STEP", help="parts of names")
    options = parser.parse_args()
    started = time.monotonic()
    wanted = [s for s in STEPS if not options.only or any(o in s.name for o in options.only)]
    if options.write:
        with one_thread():
            write(STEPS)
        return
    text = json.loads(RESULTS.read_text())
    known = {name: record["ratios"] for name, record in text["processors"].items()}
    against, where = committed(kind(), known)
    print(where)
    print(f"{'step':45}{'ratio':>9}{'was':>9}{'':>7}", flush=True)
    with one_thread():
        slower = failed(wanted, against, say=lambda line: print(line, flush=True))
    print(f"{len(wanted)} steps in {time.monotonic() - started:.0f} s")
    if slower:
        sys.exit("\n".join(["slower than committed:", *slower]))


if __name__ == "__main__":
    main()
