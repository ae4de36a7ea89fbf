"""What ``kernreg gram`` notes in a tile store, so that ``kernreg fit --store`` can use it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from kernreg import nn
from kernreg.exceptions import StoreError
from kernreg.nn.bounds import functions_named

if TYPE_CHECKING:
    from kernreg.baseline.scaling import Scaler
    from kernreg.operators import TileStore

__all__ = ["kept_dtype", "read_note", "written_note"]


def written_note(network: nn.Layer, kernel: str, scaler: Scaler) -> dict[str, Any]:
    """The network, its kernel and the scaling, as what JSON can hold."""
    return {
        "network": json.loads(nn.to_json(network)),
        "kernel": kernel,
        "scaling": scaler.kind,
        "mean": scaler.mean.tolist(),
        "scale": scaler.scale.tolist(),
    }


def read_note(store: TileStore, n_features: int) -> tuple[nn.Layer, str, Scaler]:
    """Inverse of :func:`written_note`, for data with so many features.

    Raises
    ------
    StoreError
        If the store was not written by ``kernreg gram``, the note is damaged, or the data are
        others.
    """
    from kernreg.baseline.scaling import Kind, Scaler

    if not store.note:
        raise StoreError(
            f"{store.path} does not say how its data were scaled: write it by `kernreg gram`, or "
            "give it to KernelRegressor(store=...) in Python."
        )
    functions = functions_named(store.note)
    if functions:
        raise StoreError(
            f"The note in {store.path} names the Python function {functions[0]}, which the command "
            "line does not call: give the store and the network to KernelRegressor(store=...) in "
            "Python."
        )
    try:
        network = nn.from_json(json.dumps(store.note["network"]))
        kernel, kind = store.note["kernel"], store.note["scaling"]
        mean, scale = (np.array(store.note[name], dtype=np.float64) for name in ("mean", "scale"))
        if kernel not in ("ntk", "nngp") or kind not in get_args(Kind):
            raise ValueError(f"found kernel {kernel!r} and scaling {kind!r}")
        if not (np.isfinite(mean).all() and np.isfinite(scale).all() and (scale > 0).all()):
            raise ValueError("means or scales are not finite, or scales not positive")
        if mean.ndim != 1 or mean.shape != scale.shape:
            raise ValueError(f"found means of shape {mean.shape}, scales of {scale.shape}")
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{store.path} has a damaged note: {error!r}.") from error
    if len(mean) != n_features:
        raise StoreError(
            f"{store.path} is the store of other data: they have {len(mean)} features, these "
            f"{n_features}. Give the data that it was written for."
        )
    return network, kernel, Scaler(kind, mean, scale)


def kept_dtype(path: Path) -> str:
    """The type of a store that is there, or that of a new one."""
    from kernreg.operators import TileStore

    try:
        return TileStore.open(path).dtype
    except FileNotFoundError:
        return "float32"
