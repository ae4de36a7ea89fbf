"""Which backend runs a program."""

from __future__ import annotations

import functools
import logging
import warnings

import torch

from kernreg import config
from kernreg.backends.base import CPU, Backend, Bound, Request
from kernreg.backends.cpu import CpuBackend, load_extension
from kernreg.backends.cuda.backend import CudaBackend
from kernreg.backends.flips import FlippedBound
from kernreg.backends.torch_backend import ReferenceBackend
from kernreg.backends.triton.backend import TritonBackend
from kernreg.exceptions import BackendError, BackendWarning, InvalidInputError
from kernreg.ir.program import Program

__all__ = ["BACKENDS", "bind", "explain"]

log = logging.getLogger("kernreg.backends")

_ALL: tuple[Backend, ...] = (
    CpuBackend(),
    TritonBackend(),
    CudaBackend(),
    ReferenceBackend(),
)

_SPARSE = ("cpu", "reference")

BACKENDS: dict[str, Backend] = {b.name: b for b in _ALL}
"""Backends by name, best first."""


def explain(program: Program, device: torch.device = CPU) -> list[tuple[str, str | None]]:
    """Every backend with the reason why it cannot run ``program`` on ``device``, or None.

    Examples
    --------
    >>> from kernreg import nn
    >>> explain(nn.mlp(depth=1).program())[-1]
    ('reference', None)
    """
    return [(name, backend.supports(program, device)) for name, backend in BACKENDS.items()]


def bind(request: Request, backend: str = "auto") -> tuple[str, Bound]:
    """Prepare a request on a backend.

    Parameters
    ----------
    request : Request
        What is wanted.
    backend : str
        A name, or "auto" for the first that can; ``KERNREG_BACKEND`` says otherwise.

    Returns
    -------
    tuple of str and Bound
        The backend's name and what it prepared.

    Raises
    ------
    InvalidInputError
        If the name is unknown.
    BackendError
        If the backend that was asked for cannot run the program.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import nn
    >>> rows = torch.eye(2, dtype=torch.float64)
    >>> request = Request(nn.mlp(depth=1, b_std=0.0).program(), rows, None, np.dtype("float64"))
    >>> name, bound = bind(request, "reference")
    >>> name, bound.diagonal("nngp").round(6).tolist()
    ('reference', [1.0, 1.0])
    """
    if backend == "auto":
        backend = config.backend()
    if backend != "auto" and backend not in BACKENDS:
        raise InvalidInputError(
            f"backend must be 'auto' or one of {', '.join(BACKENDS)}, found {backend!r}."
        )
    on_cpu = request.device == CPU
    for name, candidate in BACKENDS.items():
        # On the CPU Triton is an interpreter, for checks.
        if backend not in ("auto", name) or (backend == "auto" and name == "triton" and on_cpu):
            continue
        reason = candidate.supports(request.program, request.device)
        if reason is None and request.sparse and name not in _SPARSE:
            reason = f"sparse rows are for {' and '.join(_SPARSE)}: make them dense"
        if reason is None:
            try:
                if request.program.flips:
                    return name, FlippedBound(request, candidate.bind)
                return name, candidate.bind(request)
            except BackendError as error:
                reason = str(error)
        if backend == name:
            raise BackendError(f"backend={name!r} cannot run this: {reason}.")
        if name == "cpu" and on_cpu and load_extension()[0] is None:
            _warn_of_slow_work(str(reason))
        log.info("backend %s not taken: %s", name, reason)
    raise BackendError("no backend can run this program")


@functools.cache
def _warn_of_slow_work(reason: str) -> None:
    """Once in a process."""
    warnings.warn(
        f"The slow reference backend is used: {reason}. Inside a clone Python prefers the folder "
        "kernreg to an installed package: build there with `pip install --editable .`, or start "
        'Python elsewhere. backend="reference" is this without the warning.',
        BackendWarning,
        stacklevel=2,
    )
