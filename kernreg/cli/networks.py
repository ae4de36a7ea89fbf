"""Networks typed on the command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from kernreg import nn
from kernreg.exceptions import NetworkError
from kernreg.nn import parse
from kernreg.nn.parse import NAMES

if TYPE_CHECKING:
    from kernreg.datasets import Dataset

__all__ = ["NAMES", "for_data", "looks_like_network", "parse_network"]


def looks_like_network(text: str) -> bool:
    """Whether an argument is a network and not the name of a file or a set.

    Examples
    --------
    >>> looks_like_network("mlp(depth=2)"), looks_like_network("table.csv")
    (True, False)
    """
    return ("(" in text and not os.path.exists(text)) or text.lstrip().startswith("{")


def for_data(
    network: nn.Layer, loaded: Dataset, scaling: str
) -> tuple[nn.Layer, Literal["standard", "common", "channel"]]:
    """A network on the data of a file, and their scaling: that of images is by channel.

    Raises
    ------
    InvalidInputError
        If a spatial network meets rows that are no images.
    """
    from kernreg.operators.images import check_shapes, on_images

    axes = network.program().axes
    if axes == 0:
        return network, cast(Literal["standard"], scaling)
    if network.program().shape is None:
        network = on_images(network, loaded.shape, loaded.name)
    check_shapes(network, loaded.X.shape[1], loaded.name)
    return network, "channel" if scaling == "standard" else "common"


def parse_network(text: str, *, part: bool = False) -> nn.Layer:
    """As :func:`kernreg.nn.parse.parse_network`, or from the name of a file with JSON text.

    Raises
    ------
    NetworkError
        If it is not a network, with the part that is wrong.

    Examples
    --------
    >>> parse_network("mlp(depth=2)").depth
    2
    """
    if not (text.endswith(".json") and Path(text).is_file()):
        if os.path.isfile(text):
            raise NetworkError(
                f"{text} is a file, but no JSON of a network. Write a network as code, for example "
                "mlp(depth=3, activation=Erf(), W_std=1.5); data have an argument of their own."
            )
        return parse.parse_network(text, part=part)
    try:
        return nn.from_json(Path(text).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise NetworkError(f"{text} is not UTF-8 text: {error}.") from error
