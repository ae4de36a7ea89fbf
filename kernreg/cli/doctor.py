"""``kernreg doctor``."""

from __future__ import annotations

import importlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version

from rich.markup import escape
from rich.table import Table

from kernreg.cli.console import stdout

__all__ = ["doctor"]

_PACKAGES = (
    "kernreg numpy scipy scikit-learn torch pandas pyarrow safetensors matplotlib jinja2 rich typer"
)


def doctor() -> None:
    """Say what this installation can use, and why not the rest."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in report():
        table.add_row(name, escape(value))
    stdout.print(table)


def report() -> list[tuple[str, str]]:
    """Findings as pairs of subject and text."""
    import psutil

    from kernreg.config import num_threads

    memory = psutil.virtual_memory()
    rows = [
        ("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("versions", ", ".join(f"{name} {_version(name)}" for name in _PACKAGES.split())),
        ("cpu", _cpu()),
        ("extension", _extension()),
        (
            "threads",
            f"{num_threads()} of {os.cpu_count()} cores; set KERNREG_NUM_THREADS to change",
        ),
        ("blas", _blas()),
        ("memory", f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB available"),
        ("gpu", _gpu()),
    ]
    return rows + [(f"backend {name}", text) for name, text in _backends()]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _cpu() -> str:
    name, flags = platform.processor() or platform.machine(), ""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = (line.partition(":") for line in file)
            fields = {key.strip(): value.strip() for key, _, value in lines}
        name, flags = fields.get("model name", name), fields.get("flags", "")
    except OSError:
        pass
    known = [isa for isa in ("avx2", "fma", "avx512f", "avx512dq") if isa in flags.split()]
    return f"{name} ({', '.join(known) or 'no AVX2'})"


def _extension() -> str:
    try:
        core = importlib.import_module("kernreg._core")
    except ImportError as error:
        return f"not available: {error}; build it with `pip install .` and a C++ compiler"
    return f"available: {core.__file__}"


def _blas() -> str:
    import numpy as np
    import torch
    from threadpoolctl import threadpool_info

    np.ones((2, 2)) @ np.ones((2, 2))
    torch.ones(2, 2)
    pools = {
        f"{pool['internal_api']} {pool.get('version') or ''}".strip() for pool in threadpool_info()
    }
    return ", ".join(sorted(pools))


def _gpu() -> str:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
        return f"{', '.join(names)}; CUDA {torch.version.cuda}"
    if torch.version.cuda is None:
        return f"none: torch {torch.__version__} is built without CUDA"
    return f"none found by torch {torch.__version__}, which is built for CUDA {torch.version.cuda}"


def _backends() -> list[tuple[str, str]]:
    """Each on the device that it is for, if there is one; cuda lacks what it lacks without, too."""
    import torch

    from kernreg import backends, nn
    from kernreg.backends.cuda.compile import missing

    program, found = nn.mlp(depth=2).program(), []
    for name, reason in backends.explain(program):
        if name in ("triton", "cuda") and torch.cuda.is_available():
            reason = backends.BACKENDS[name].supports(program, torch.device("cuda"))
        elif name == "cuda" and (lacks := missing()):
            reason = f"{reason}; {lacks}"
        found.append((name, reason or "available"))
    return found
