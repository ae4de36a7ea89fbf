"""Whether a module has a kernel: what is refused before work starts."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from kernreg.exceptions import InvalidInputError

__all__ = ["chosen", "frozen", "rows_of", "run_on"]

# Rows that are run twice, together and each alone.
_SAMPLE = 3


def frozen(module: Any) -> torch.nn.Module:
    """A copy of a module that further training does not change.

    Raises
    ------
    InvalidInputError
        If it is no module, cannot be copied, is on several devices, or has parameters of another
        type than float32 and float64.
    """
    if not isinstance(module, torch.nn.Module):
        raise InvalidInputError(
            f"expected a torch.nn.Module, found {type(module).__name__}: for the infinite kernel "
            "of a description use KernelOperator."
        )
    if isinstance(module, torch.jit.ScriptModule):
        raise InvalidInputError(
            "a scripted module has no derivatives by its parameters: pass the module that it was "
            "made from."
        )
    if any(is_lazy(p) for p in module.parameters()):
        raise InvalidInputError(
            f"{type(module).__name__} has parameters without a shape: run it once on some rows."
        )
    try:
        made = copy.deepcopy(module)
    except Exception as error:
        raise InvalidInputError(
            f"{type(module).__name__} cannot be copied ({error}): the kernel is that of a copy, "
            "which further training does not change."
        ) from error
    tensors = [*made.parameters(), *made.buffers()]
    places = {t.device for t in tensors}
    if len(places) > 1:
        raise InvalidInputError(
            f"the module has parameters on {', '.join(sorted(map(str, places)))}: move it to one "
            "device."
        )
    kinds = {p.dtype for p in made.parameters()}
    if not kinds:
        raise InvalidInputError(f"{type(module).__name__} has no parameters, so no kernel.")
    if len(kinds) > 1 or not kinds <= {torch.float32, torch.float64}:
        found = ", ".join(sorted(map(str, kinds)))
        raise InvalidInputError(
            f"the module has parameters of type {found}: expected float32 or float64 for all of "
            "them; module.float() makes them so."
        )
    for name, layer in made.named_modules():
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm) and (
            layer.training or not layer.track_running_stats
        ):
            raise InvalidInputError(
                f"{name or 'the module'} is {type(layer).__name__} in training mode: rows of a "
                "batch then depend on each other, and there is no kernel; call module.eval()."
            )
    return made


def rows_of(module: torch.nn.Module, X: Any, name: str) -> Tensor:
    """Rows as a tensor that a module takes.

    Raises
    ------
    InvalidInputError
        If they are on another device, empty, not finite, or no array.
    """
    first = next(module.parameters())
    if not isinstance(X, Tensor):
        try:
            X = torch.from_numpy(np.array(X))
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"{name} must be an array of numbers: {error}") from error
    elif X.device != first.device:
        raise InvalidInputError(
            f"{name} is on {X.device}, the module on {first.device}: move one of them."
        )
    X = X.detach().clone()  # what the caller does with it later is no business of the operator
    if X.ndim == 0 or X.is_complex():
        raise InvalidInputError(f"{name} must be an array of rows, found {X.dtype}.")
    if X.is_floating_point() or X.dtype in (torch.uint8, torch.bool):
        X = X if X.dtype == torch.float64 else X.to(first.dtype)
    X = X.to(first.device)
    if X.is_floating_point() and not bool(torch.isfinite(X).all()):
        raise InvalidInputError(f"{name} contains NaN or infinity.")
    return X


def chosen(module: torch.nn.Module, parameters: str | Sequence[str] | None) -> dict[str, Tensor]:
    """The parameters that take part, by name.

    Parameters
    ----------
    module : Module
        The module.
    parameters : str, sequence of str or None
        Names, or beginnings of names that end at a dot (``"layer1"``); None for all that require
        a gradient.

    Raises
    ------
    InvalidInputError
        If a name fits nothing, or there is no parameter with a gradient.
    """
    known: dict[str, Tensor] = dict(module.named_parameters())
    if parameters is None:
        found = {name: p for name, p in known.items() if p.requires_grad}
        if not found:
            raise InvalidInputError(
                "no parameter of the module requires a gradient, so its tangent kernel is 0: call "
                "module.requires_grad_(True), or use kernel='nngp'."
            )
        return found
    found = {}
    for wanted in [parameters] if isinstance(parameters, str) else parameters:
        fit = {n: p for n, p in known.items() if n == wanted or n.startswith(f"{wanted}.")}
        if not fit:
            raise InvalidInputError(
                f"the module has no parameter or group {wanted!r}; it has {', '.join(known)}."
            )
        still = [n for n, p in fit.items() if not p.requires_grad]
        if still:
            raise InvalidInputError(
                f"the parameter {still[0]!r} does not require a gradient: leave it out, or call "
                "requires_grad_(True)."
            )
        found |= fit
    return found


def run_on(module: torch.nn.Module, X: Tensor, name: str, differentiable: bool) -> int:
    """The numbers that leave a module for each row, after trying a few rows.

    Raises
    ------
    InvalidInputError
        If it cannot run, changes its buffers, is random, lets rows depend on each other, or has
        no outputs that can be differentiated.
    """
    sample = X[:_SAMPLE]
    if X.is_floating_point():
        sample = sample.to(next(module.parameters()).dtype)
    before = {n: b.detach().clone() for n, b in module.named_buffers()}
    try:
        with torch.enable_grad():
            first, second = module(sample.clone()), module(sample.clone())
            alone = module(sample[:1].clone())
    except Exception as error:
        raise InvalidInputError(
            f"the module cannot run on {name} of shape {tuple(X.shape)}: {error}"
        ) from error
    if not isinstance(first, Tensor) or first.ndim == 0 or len(first) != len(sample):
        raise InvalidInputError(
            f"expected one tensor with a row for each of {name}, found "
            f"{tuple(first.shape) if isinstance(first, Tensor) else type(first).__name__} for "
            f"{len(sample)} rows."
        )
    if not first.is_floating_point() or (differentiable and not first.requires_grad):
        raise InvalidInputError(
            f"the outputs of the module cannot be differentiated ({first.dtype}, "
            f"requires_grad={first.requires_grad}): expected real numbers made of its parameters, "
            "without detach, argmax or rounding on the way."
        )
    for buffer, value in module.named_buffers():
        if not torch.equal(value, before[buffer]):
            raise InvalidInputError(
                f"the module changes its buffer {buffer!r} when it runs: call module.eval()."
            )
    if not torch.equal(first, second):
        raise InvalidInputError(
            "the module is random, two runs on the same rows differ (dropout?): call module.eval()."
        )
    scale = float(first.detach().abs().max()) + 1e-30
    apart = float((first[:1] - alone).detach().abs().max())
    if not apart <= 1e3 * torch.finfo(first.dtype).eps * scale:
        raise InvalidInputError(
            f"the outputs for one row depend on the others (by {apart:.2g}): there is a kernel "
            "only for modules that treat rows alone."
        )
    return first[0].numel()
