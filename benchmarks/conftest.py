"""Benchmarks: every figure is a ratio to something that ran in between, against its target."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import pytest
import threadpoolctl
import torch
from rich.console import Console
from rich.table import Table

import kernreg
from benchmarks.peers import NeuralTangents
from benchmarks.timing import ratio

PACKAGES = ("kernreg", "numpy", "scipy", "scikit-learn", "torch")
_rows: list[dict[str, Any]] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("kernreg")
    group.addoption(
        "--short", action="store_true", help="small sizes: does it run, roughly how fast"
    )
    group.addoption("--peers-python", help="Python of the environment with neural-tangents")


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict) -> None:
    machine_info["versions"] = {name: importlib.metadata.version(name) for name in PACKAGES}
    # Without the paths of this machine, as results are published.
    machine_info["blas"] = [
        {key: value for key, value in library.items() if key != "filepath"}
        for library in threadpoolctl.threadpool_info()
    ]
    machine_info["torch_threads"] = torch.get_num_threads()


@pytest.fixture
def short(request: pytest.FixtureRequest) -> bool:
    """Whether to keep to small sizes."""
    return bool(request.config.getoption("--short"))


@pytest.fixture(scope="session")
def neural_tangents(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NeuralTangents]:
    python = request.config.getoption("--peers-python")
    if python is None:
        pytest.skip("needs --peers-python; `make bench-peers` gives it")
    with NeuralTangents(python, tmp_path_factory.mktemp("peers")) as worker:
        yield worker


class Compare(Protocol):
    """See :func:`compare`."""

    def __call__(
        self,
        name: str,
        candidate: Callable[[], Any],
        peer: Callable[[], float],
        *,
        target: float | None = None,
        rounds: int = 7,
        **info: Any,
    ) -> None: ...


@pytest.fixture
def compare(benchmark: Any, short: bool) -> Compare:
    """Time ``candidate`` and ``peer`` in turns and report how many times faster ``candidate`` is.

    ``peer`` runs once and returns its seconds; ``target`` is the ratio to reach at full size.
    """

    def run(
        name: str,
        candidate: Callable[[], Any],
        peer: Callable[[], float],
        *,
        target: float | None = None,
        rounds: int = 7,
        **info: Any,
    ) -> None:
        peer_seconds: list[float] = []
        benchmark.pedantic(
            candidate,
            setup=lambda: peer_seconds.append(peer()),
            rounds=3 if short else rounds,
            warmup_rounds=1,
        )
        candidate_seconds = benchmark.stats.stats.data
        peer_seconds = peer_seconds[-len(candidate_seconds) :]
        measured = ratio(peer_seconds, candidate_seconds)
        report(
            benchmark,
            name,
            measured.value,
            target=None if short else target,
            interval=(measured.low, measured.high),
            seconds=float(np.median(candidate_seconds)),
            peer_seconds=float(np.median(peer_seconds)),
            all_peer_seconds=peer_seconds,
            **info,
        )

    return run


def report(
    benchmark: Any,
    name: str,
    value: float,
    *,
    target: float | None = None,
    at_most: bool = False,
    **info: Any,
) -> None:
    """Put a figure into the table that closes the run, and into the JSON file."""
    met = None if target is None else (value <= target if at_most else value >= target)
    row = {"name": name, "value": value, "target": target, "at_most": at_most, "met": met, **info}
    benchmark.extra_info.update(row)
    _rows.append(row)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not _rows:
        return
    columns = ("what", "seconds", "peer's seconds", "figure", "95 % interval", "target", "")
    table = Table(
        *columns, title=f"kernreg {kernreg.__version__}, {torch.get_num_threads()} threads"
    )
    for row in _rows:
        sign = "<=" if row["at_most"] else ">="
        table.add_row(
            row["name"],
            *(f"{row[key]:.4f}" if key in row else "" for key in ("seconds", "peer_seconds")),
            f"{row['value']:.3g}",
            "{:.3g} to {:.3g}".format(*row["interval"]) if "interval" in row else "",
            "" if row["target"] is None else f"{sign} {row['target']:.3g}",
            {None: "", True: "met", False: "missed"}[row["met"]],
        )
    Console(width=150).print(table)
