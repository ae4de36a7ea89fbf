"""Time and memory of fits against their plans: ``python -m benchmarks.plan``.

Writes ``benchmarks/results/plan.json``. Needs the data of ``KERNREG_DATA`` and a quiet machine.
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import torch

from benchmarks.fits import Case, measured

RESULTS = Path(__file__).parent / "results" / "plan.json"
CASES = (
    Case("cholesky", "gaussian", 8000, "float32", outputs=10),
    Case("cholesky", "gaussian", 8000, "float64", outputs=10),
    Case("cholesky", "kin40k", 20_000, "float32"),
    Case("cholesky", "nycflights13", 12_000, "float64"),
    Case("cholesky", "kin40k", 6000, "float64", alphas=3),
    Case("eigh", "kin40k", 5000, "float64", alphas=17),
    Case("eigh", "gaussian", 4000, "float32", alphas=17, outputs=10),
    Case("pcg recomputed", "kin40k", 20_000, "float32"),
    Case("pcg packed", "kin40k", 16_000, "float32"),
    Case("pcg packed", "nycflights13", 12_000, "float64", outputs=5),
    Case("pcg factor", "kin40k", 12_000, "float64"),
    Case("out of core", "kin40k", 16_000, "float32"),
    Case("restricted", "nycflights13", 200_000, "float32"),
    Case("restricted 3000", "kin40k", 40_000, "float64"),
    Case("sketch 3 passes", "kin40k", 20_000, "float32"),
)


def main() -> None:
    machine = {
        "machine": platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    rows = []
    for case in CASES:
        found = measured(case)
        found["seconds_ratio"] = found["seconds"] / found["predicted_seconds"]
        found["bytes_ratio"] = found["bytes"] / found["predicted_bytes"]
        rows.append(found)
        RESULTS.write_text(json.dumps(machine | {"fits": rows}, indent=1) + "\n")
        print(
            f"{case.solver:16} {found['storage']:10} {case.data:13} n={case.n:<7} {case.dtype} "
            f"{found['seconds']:7.1f} s = {found['seconds_ratio']:.2f} of predicted, "
            f"{found['bytes'] / 1e9:.2f} GB = {found['bytes_ratio']:.2f} of predicted, "
            f"explain {found['explain_seconds']:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
