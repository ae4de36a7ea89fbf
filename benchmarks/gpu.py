"""Prove the GPU kernels and time them: ``PYTHONPATH=. python benchmarks/gpu.py [--quick]``.

Needs a CUDA GPU, torch and triton, no network and nothing installed. Every template and precision
is checked against float64 on the CPU first; what fails is not timed, and the exit code says so.
Times stand beside the limit of the arithmetic at rates that are measured on the same GPU, and
beside torch, torch.compile, KeOps, JAX and neural-tangents where they can be imported. Writes JSON
after every stage.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import math
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch

from kernreg.backends.triton.tuning import PRECISIONS

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.gpu_checks import checks
from benchmarks.gpu_times import ceilings, solves, times


def finite(value: Any) -> Any:
    """The same with None for numbers that JSON does not know."""
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "torch": torch.__version__}
    for name in ("triton", "jax", "neural_tangents", "pykeops", "numpy"):
        if importlib.util.find_spec(name):
            found[name] = str(getattr(__import__(name), "__version__", "?"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, about 90 seconds")
    parser.add_argument("--out", type=Path, help="folder of the JSON; default: $OUT or results/")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("benchmarks/gpu.py needs a CUDA GPU; torch sees none.")
    started = time.perf_counter()
    report: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "device": torch.cuda.get_device_name(),
        "memory": torch.cuda.get_device_properties(0).total_memory,
        "versions": versions(),
        "quick": options.quick,
    }
    folder = options.out or Path(os.environ.get("OUT") or Path(__file__).parent / "results")
    folder.mkdir(parents=True, exist_ok=True)
    name = report["device"].replace(" ", "-").lower()
    path = folder / f"{report['date']}-gpu-{name}{'-quick' if options.quick else ''}.json"

    def keep() -> None:
        report["seconds"] = time.perf_counter() - started
        path.write_text(json.dumps(finite(report), indent=1, allow_nan=False) + "\n")

    report["checks"] = checks(options.quick)
    keep()
    failed = [c for c in report["checks"] if not c["passed"]]
    print(f"{len(report['checks']) - len(failed)} checks passed, {len(failed)} failed")
    for c in failed:
        print("FAILED", {k: v for k, v in c.items() if k != "passed"})
    unsound = {c["precision"] for c in failed if "gradient" not in c.get("template", "")}
    report["rates"] = ceilings(options.quick)
    print({k: f"{v:.3g}" for k, v in report["rates"].items()})
    keep()
    report["times"] = times(options.quick, report["rates"], set(PRECISIONS) - unsound)
    keep()
    report["solves"] = solves(options.quick) if not unsound & {"tf32x3", "float64"} else []
    keep()
    for row in report["times"] + report["solves"]:
        print({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})
    print(f"{report['seconds']:.0f} s; written to {path}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
