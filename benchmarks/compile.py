"""Compile the Triton templates for GPUs that need not be there, and look at the machine code.

``make compile`` prints registers, stack, shared memory and instruction mix of every template on
its default tile; ``python benchmarks/compile.py --write`` also keeps them in
``benchmarks/results/compile.json``. It fails if a kernel uses stack, which is where spilled
registers go, more shared memory than the device has, or atomics that order other memory.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from kernreg import nn
from kernreg.backends.base import Request
from kernreg.backends.derivatives import Differentiable
from kernreg.backends.symbolic import traced
from kernreg.backends.triton.backend import TritonBackend
from kernreg.backends.triton.derivatives import DERIVATIVE_TILE
from kernreg.backends.triton.source import values_text
from kernreg.backends.triton.tuning import Tile, tile

RESULT = Path(__file__).parent / "results" / "compile.json"
# Bytes of shared memory that one block may have.
SHARED = {80: 163 * 1024, 90: 227 * 1024}
SIZES = {"n", "m", "d", "shift", "ldx", "ldy", "ld0", "ld1", "columns"}
MIX = ("HGMMA", "HMMA", "DMMA", "FFMA", "DFMA", "MUFU", "LDG", "STG", "RED", "REDG", "ATOMG")

NETWORKS = {
    f"{type(fn).__name__.lower()} {depth}": nn.mlp(depth=depth, activation=fn, b_std=0.1)
    for fn in (nn.Relu(), nn.Erf(), nn.Gelu())
    for depth in (1, 3, 10)
} | {
    "residual": nn.serial(
        nn.Dense(b_std=0.1),
        nn.residual(nn.serial(nn.Relu(), nn.Dense(b_std=0.1))),
        nn.Relu(),
        nn.Dense(),
    )
}
TEMPLATES = {
    "gram": ("gram", "gram", {"HALF": False, "NNGP": False, "NTK": True}),
    "gram, symmetric": ("gram", "gram", {"HALF": True, "NNGP": False, "NTK": True}),
    "K @ V": ("multiply", "multiply", {"HALF": False, "NTK": True, "BT": 16}),
    "K @ V, symmetric": ("multiply", "multiply_half", {"HALF": True, "NTK": True, "BT": 16}),
}
WIDEST = {
    "K @ V, 128 columns": ("multiply", "multiply", {"HALF": False, "NTK": True, "BT": 128}),
    "K @ V, 64 columns": ("multiply", "multiply", {"HALF": False, "NTK": True, "BT": 64}),
    "K @ V, symmetric, 32": ("multiply", "multiply_half", {"HALF": True, "NTK": True, "BT": 32}),
}
"""Kernel, entry of tiles.json, and what is fixed when it is compiled."""
DERIVATIVES = "derivatives"


def compiled(
    network: str, template: str, capability: int, precision: str, given: Tile | None = None
) -> dict[str, Any]:
    """Compile one template around one network, on its default tile; what the machine code uses."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from kernreg.backends.triton import templates

    started = time.perf_counter()
    wide = precision == "float64"
    X = torch.from_numpy(np.random.default_rng(0).standard_normal((64, 5)))
    request = Request(NETWORKS[network].program(), X, None, np.dtype("f8" if wide else "f4"), True)
    if template == DERIVATIVES:
        kernel, t = templates.gram, given or DERIVATIVE_TILE
        fixed: dict[str, Any] = {"HALF": False, "NNGP": True, "NTK": True}
        program = derivatives_program(request, wide)
    else:
        name, sizes, fixed = (TEMPLATES | WIDEST)[template]
        bound = TritonBackend().bind(request)
        narrow = any(code.two_ways for _, code in bound.duals.found.values())
        kernel, t = getattr(templates, name), given or tile(sizes, precision, capability, narrow)
        program = bound.program()
    constants = {
        **fixed,
        "PROGRAM": program,
        "PRECISION": "ieee" if wide else precision,
        **{"BM": t.BM, "BN": t.BN, "BK": t.BK},
    }
    element = "*fp64" if wide else "*fp32"
    types = {"D": "*fp64", "D0": "*fp64", "D1": "*fp64", "near": "fp32"}
    signature = {
        a: "constexpr" if a in constants else "i32" if a in SIZES else types.get(a, element)
        for a in kernel.arg_names
    }
    aligned = {
        (k,): [["tt.divisibility", 16]]
        for k, a in enumerate(kernel.arg_names)
        if signature[a].startswith("*") or a == "d"
    }
    source = ASTSource(kernel, signature, constants, aligned)
    options = {"num_warps": t.warps, "num_stages": t.stages, "enable_fp_fusion": True}
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    row = {"network": network, "template": template, "sm": capability, "precision": precision}
    row |= {"tile": [t.BM, t.BN, t.BK], "warps": t.warps, "stages": t.stages}
    row |= {"shared": made.metadata.shared, **_machine_code(made.asm["cubin"])}
    return row | {"seconds": round(time.perf_counter() - started, 2)}


def derivatives_program(request: Request, wide: bool) -> Any:
    """The generated function of the derivatives by product and square."""
    from kernreg.backends.triton.cache import load

    rows = request.X1.to(torch.float64)
    found = traced(request.program, Differentiable(request.program, rows, rows, "ntk"), "ntk", 1)
    product, square = found.ends
    return load(values_text((product, square), "float64" if wide else "float32")).program


def _machine_code(cubin: bytes) -> dict[str, Any]:
    """Registers, stack and instruction mix, by the tool that comes with Triton."""
    import triton.backends.nvidia as nvidia

    tool = Path(nvidia.__file__).parent / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage, code = (
            subprocess.run([tool, flag, file.name], capture_output=True, text=True, check=True)
            for flag in ("-res-usage", "-sass")
        )
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage.stdout + usage.stderr)
    if found is None:
        raise RuntimeError(f"cuobjdump says nothing of registers: {usage.stdout}{usage.stderr}")
    words = Counter(
        re.findall(r"^\s+/\*\w+\*/\s+(?:@!?\w+\s+)?([A-Z][A-Z0-9]*)", code.stdout, re.M)
    )
    mix = {name: words[name] for name in MIX if words[name]}
    return {"registers": int(found[1]), "stack": int(found[2]), "mix": mix}


def _cases() -> Iterator[tuple[str, str, int, str]]:
    """Every network under the default policy; the other policies around one network."""
    for capability in SHARED:
        for template in TEMPLATES:
            for network in NETWORKS:
                yield network, template, capability, "tf32x3"
            for precision in ("ieee", "tf32", "bf16x3", "float64"):
                yield "relu 3", template, capability, precision
        for template in WIDEST:
            for precision in ("tf32x3", "float64"):
                yield "relu 3", template, capability, precision
        for network in ("relu 3", "residual"):
            for precision in ("ieee", "float64"):
                yield network, DERIVATIVES, capability, precision
        # Wider products without matrix units are split.
        yield "relu 3", "K @ V, 64 columns", capability, "ieee"


def main(write: bool = False) -> None:
    """Compile all templates and check what they use; ``--write`` keeps the table."""
    if os.environ.get("TRITON_INTERPRET"):
        sys.exit("TRITON_INTERPRET is set: nothing would be compiled")
    started = time.perf_counter()
    with ProcessPoolExecutor() as pool:
        made = list(pool.map(compiled, *zip(*_cases(), strict=True)))
    seconds = round(time.perf_counter() - started, 1)
    table = Table(title=f"{len(made)} kernels compiled in {seconds} s")
    heads = ["network", "template", "sm", "precision", "tile", "warps", "registers", "stack"]
    heads += ["shared", "mix"]
    for head in heads:
        table.add_column(head)
    for row in made:
        mix = " ".join(f"{name}:{count}" for name, count in row["mix"].items())
        table.add_row(*(mix if h == "mix" else str(row[h]) for h in heads))
    Console(width=160).print(table)
    if write:
        import triton

        versions = {"triton": triton.__version__, "torch": torch.__version__}
        report = {"versions": versions, "seconds": seconds, "kernels": made}
        RESULT.write_text(json.dumps(report, indent=1) + "\n")
    bad = [f"{reason}: {row}" for row in made if (reason := _fault_of_default(row))]
    if bad:
        sys.exit("\n".join(bad))


def fault(row: dict[str, Any], shared: int) -> str | None:
    """Why a compiled kernel should not be used where a block may have ``shared`` bytes, or None."""
    if row["stack"]:
        return f"{row['stack']} bytes of stack"
    if row["shared"] > shared:
        return f"{row['shared']} bytes of shared memory, {shared} are there"
    return "atomics that order other memory" if "ATOMG" in row["mix"] else None


def _fault_of_default(row: dict[str, Any]) -> str | None:
    units = row["sm"] >= 90 and row["precision"] not in ("ieee", "float64")
    if units and "HGMMA" not in row["mix"]:
        return "no wgmma"
    return fault(row, SHARED[row["sm"]])


if __name__ == "__main__":
    typer.run(main)
