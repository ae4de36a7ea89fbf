"""neural-tangents as a process beside this one, so that both can be timed in turns."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

__all__ = ["NeuralTangents"]

WORKER = Path(__file__).with_name("peers_worker.py")


class NeuralTangents:
    """A worker in the environment that has neural-tangents; use it as a context manager.

    Parameters
    ----------
    python : str
        Interpreter of that environment.
    folder : Path
        Where arrays are exchanged and the worker's log is kept.
    threads : int
        Cores the worker may use.
    """

    def __init__(self, python: str, folder: Path, threads: int = 2) -> None:
        self._folder = folder
        # Bytes by which the worker's peak has grown since it loaded the last kernel.
        self.grown = 0
        self._log = (folder / "worker.log").open("w")
        cores = sorted(os.sched_getaffinity(0))[:threads]
        self._process = subprocess.Popen(
            [python, str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._log.close()

    def _ask(self, **request: Any) -> float:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(
                "neural-tangents stopped: " + (self._folder / "worker.log").read_text()
            )
        found = json.loads(answer)
        self.grown = int(found["bytes"])
        return float(found["seconds"])

    def load(
        self,
        X: np.ndarray,
        kernel: str | tuple[str, ...],
        gradient: bool = False,
        **network: Any,
    ) -> float:
        """Compile and run once, the kernel or its gradient by the rows; the seconds that took."""
        path = self._folder / "X.npy"
        np.save(path, X)
        request = {"X": str(path), "kernel": kernel, "gradient": gradient, "network": network}
        return self._ask(do="load", **request)

    def time(self) -> float:
        """Seconds of one more run."""
        return self._ask(do="time")

    def head(self, rows: int) -> np.ndarray:
        """The first rows and columns of the kernel matrix."""
        path = self._folder / "K.npy"
        self._ask(do="head", rows=rows, path=str(path))
        return np.load(path)
