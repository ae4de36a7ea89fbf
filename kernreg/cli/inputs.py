"""Arguments that belong elsewhere: a network, a model or a store where data are expected."""

from __future__ import annotations

import os

from kernreg.exceptions import InvalidInputError

__all__ = ["check_data"]


def check_data(data: str, command: str) -> None:
    """Raise InvalidInputError if ``data`` is something else that kernreg knows, or not there.

    Parameters
    ----------
    data : str
        The argument.
    command : str
        How the command is called, DATA included.
    """
    from pathlib import Path

    from kernreg.cli.networks import looks_like_network
    from kernreg.cli.outputs import is_model
    from kernreg.datasets.names import BUILTIN, file_of

    if looks_like_network(data):
        raise InvalidInputError(f"DATA is {data!r}, a network; expected `kernreg {command}`.")
    path = Path(data)
    if os.path.isfile(path / "zarr.json"):
        raise InvalidInputError(
            f"{data} is a tile store: `kernreg fit DATA --store {data}` solves with it."
        )
    if os.path.exists(path) and is_model(path):
        raise InvalidInputError(
            f"{data} is a model, not data: `kernreg predict {data} DATA` predicts with it."
        )
    if data.endswith(".json") and os.path.isfile(path):
        raise InvalidInputError(f"{data} is no table; if it is a network, write --network {data}.")
    if data not in BUILTIN:
        file_of(data)
