"""The NTK of a torch module by each method, beside the ways that torch.func documents.

    python -m benchmarks.finite [--peers-python .venv-peers/bin/python] [--quick] [--only 3 ...]

Convolutional networks of ReLU layers (3 x 3, averaged), float32, all in one run; a peer's result is
compared before it is timed. Seconds are the best of some runs in turns. Memory is how far the peak
of a fresh process grows, the module and its images not counted. Writes
``benchmarks/results/finite.json`` case by case; `--only` measures some anew.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.func import functional_call, jacrev, jvp, vjp, vmap

from benchmarks.peers import NeuralTangents
from benchmarks.timing import seconds
from kernreg.finite import EmpiricalOperator

RESULTS = Path(__file__).parent / "results" / "finite.json"
# Layers, channels, side of the images, number of images, outputs, whether between all outputs.
Case = tuple[int, int, int, int, int, bool]
LARGE: Case = (10, 110, 32, 32, 10, False)
CASES: list[Case] = [
    LARGE,
    (10, 110, 32, 32, 1, False),
    (3, 32, 16, 32, 1, False),
    (3, 32, 16, 32, 10, False),
    (3, 32, 16, 32, 10, True),
    (3, 128, 16, 32, 10, False),
    (3, 32, 16, 128, 10, False),
]
QUICK: list[Case] = [(3, 16, 8, 8, 4, False), (3, 16, 8, 8, 4, True)]


def network(case: Case) -> torch.nn.Module:
    """Convolutions, the mean over positions, and a readout."""
    layers, channels, _, _, outputs, _ = case
    torch.manual_seed(0)
    parts: list[torch.nn.Module] = []
    for k in range(layers):
        parts += [
            torch.nn.Conv2d(channels if k else 3, channels, 3, padding=1),
            torch.nn.ReLU(),
        ]
    parts += [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    return torch.nn.Sequential(*parts, torch.nn.Linear(channels, outputs))


def images(case: Case) -> torch.Tensor:
    """Random ones."""
    side, count = case[2:4]
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def by_jacobians(f: torch.nn.Module, X: torch.Tensor, full: bool) -> torch.Tensor:
    """Contraction of Jacobians, layer by layer, as torch.func's page on tangent kernels has it."""
    params = {k: v.detach() for k, v in f.named_parameters()}

    def one(p: Any, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = functional_call(f, p, (x[None],))[0]
        return out

    parts = [j.flatten(2) for j in vmap(jacrev(one), (None, 0))(params, X).values()]
    if full:
        return sum(torch.einsum("ntp,mup->ntmu", j, j) for j in parts)  # type: ignore[return-value]
    total = sum(torch.einsum("ntp,mtp->nm", j, j) for j in parts)
    return total / parts[0].shape[1]  # type: ignore[operator,return-value]


def by_products(f: torch.nn.Module, X: torch.Tensor, full: bool) -> torch.Tensor:
    """Derivatives along gradients, as the same page has it."""
    params = {k: v.detach() for k, v in f.named_parameters()}

    def entry(x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        def at(x: torch.Tensor) -> Callable[[Any], torch.Tensor]:
            return lambda p: functional_call(f, p, (x[None],))[0]

        out, pulled = vjp(at(x1), params)
        return vmap(lambda v: jvp(at(x2), (params,), pulled(v))[1])(torch.eye(len(out)))

    found = vmap(vmap(entry, (None, 0)), (0, None))(X, X)  # (n, n, t, t)
    if full:
        return found.transpose(1, 2)
    return torch.einsum("nmtt->nm", found) / found.shape[-1]


def own(method: str) -> Callable[[torch.nn.Module, torch.Tensor, bool], torch.Tensor]:
    """EmpiricalOperator by one of its methods."""

    def run(f: torch.nn.Module, X: torch.Tensor, full: bool) -> torch.Tensor:
        outputs = "full" if full else "mean"
        K = EmpiricalOperator(f, X, outputs=outputs, method=method).to_dense()
        return K.reshape(len(X), -1, len(X), K.shape[0] // len(X)) if full else K

    return run


METHODS: dict[str, Callable[[torch.nn.Module, torch.Tensor, bool], torch.Tensor]] = {
    "kernreg, auto": own("auto"),
    "kernreg, structured": own("structured"),
    "kernreg, jacobian": own("jacobian"),
    "torch.func, Jacobian contraction": by_jacobians,
    "torch.func, NTK-vector products": by_products,
}
# Its structured derivatives fail with the version of JAX that it can be installed with here.
PEER_METHODS = {1: "Jacobian contraction", 2: "NTK-vector products"}
# n^2 t forward derivatives take minutes on the large networks, and 24 GB for 128 images; the peer
# takes 20 GB on the large ones.
SLOW = "torch.func, NTK-vector products"


def peak(case: Case, name: str) -> int:
    """Bytes by which the peak of a fresh process grows."""
    command = [sys.executable, "-m", "benchmarks.finite", "--case", json.dumps([case, name])]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def one(case: Case, name: str) -> None:
    """Print it for this process."""
    f, X = network(case), images(case)
    f(X[:1])
    before = _highest()
    METHODS[name](f, X, case[5])
    print(_highest() - before)


def _highest() -> int:
    """The peak of this process; that of getrusage begins with what its parent had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def measured(case: Case, peer: NeuralTangents | None) -> dict[str, Any]:
    """Seconds, bytes and differences of all methods on one network."""
    f, X = network(case), images(case)
    layers, channels, side, count, outputs, full = case
    small = channels * side * layers < 10_000 and count <= 32
    names = [n for n in METHODS if n != SLOW or small]
    exact = METHODS["kernreg, structured"](f, X, full)
    found: dict[str, dict[str, float]] = {}
    for name in names:
        apart = (METHODS[name](f, X, full) - exact).abs().max() / exact.abs().max()
        found[name] = {"apart": float(apart), "bytes": peak(case, name), "seconds": np.inf}
    rounds = 2 if count * channels * side > 50_000 else 3
    for _ in range(rounds):
        for name in names:
            taken = seconds(lambda name=name: METHODS[name](f, X, full))  # type: ignore[misc]
            found[name]["seconds"] = min(found[name]["seconds"], taken)
    if peer is not None and small:
        for number, name in PEER_METHODS.items():
            peer.load(
                X.numpy().transpose(0, 2, 3, 1).copy(),
                "ntk",
                empirical=number,
                layers=layers,
                channels=channels,
                outputs=outputs,
                full=full,
            )
            grown = peer.grown
            best = min(peer.time() for _ in range(rounds))
            found[f"neural-tangents, {name}"] = {"bytes": grown, "seconds": best}
    return {
        "layers": layers,
        "channels": channels,
        "side": side,
        "images": count,
        "outputs": outputs,
        "full": full,
        "parameters": sum(p.numel() for p in f.parameters()),
        "methods": found,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--peers-python", help="that has neural-tangents")
    parser.add_argument("--quick", action="store_true", help="small networks; nothing is written")
    parser.add_argument("--only", type=int, nargs="+", help="numbers of cases, from 0")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        case, name = json.loads(options.case)
        return one(tuple(case), name)
    with tempfile.TemporaryDirectory() as folder:
        peer = None
        if options.peers_python:
            peer = NeuralTangents(options.peers_python, Path(folder), torch.get_num_threads())
        cases = QUICK if options.quick else CASES
        for number in options.only or range(len(cases)):
            show(found := measured(cases[number], peer))
            if not options.quick:
                keep(found)
        if peer is not None:
            peer.__exit__(None, None, None)


def keep(found: dict[str, Any]) -> None:
    """Write a case in the place of an earlier measurement."""
    header = {
        "date": datetime.date.today().isoformat(),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }

    def case(one: dict[str, Any]) -> list[Any]:
        return [value for key, value in one.items() if key not in ("parameters", "methods")]

    before = json.loads(RESULTS.read_text())["cases"] if RESULTS.exists() else []
    cases = [one for one in before if case(one) != case(found)] + [found]
    cases.sort(key=lambda one: CASES.index(tuple(case(one))))
    RESULTS.write_text(json.dumps(header | {"cases": cases}, indent=1) + "\n")


def show(found: dict[str, Any]) -> None:
    """A table of one network."""
    between = "all outputs" if found["full"] else "mean"
    print(
        f"\n{found['layers']} layers of {found['channels']} channels, {found['parameters']:,} "
        f"parameters, {found['images']} images of {found['side']} x {found['side']}, "
        f"{found['outputs']} outputs ({between})"
    )
    for name, m in found["methods"].items():
        apart = f"{m['apart']:9.1e}" if "apart" in m else ""
        print(f"  {name:42}{m['seconds']:9.3f} s{m['bytes'] / 1e6:9.0f} MB{apart}", flush=True)


if __name__ == "__main__":
    main()
