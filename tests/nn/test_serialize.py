"""JSON text that is not a network, and functions inside networks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from kernreg import nn
from kernreg.exceptions import NetworkError
from kernreg.nn.base import LAYERS


def sixth(x: torch.Tensor) -> torch.Tensor:
    return torch.sin(x) / 6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Not the JSON text of a network"),
        ("not json", "Not the JSON text of a network"),
        (nn.to_json(nn.mlp(depth=2))[:-5], "Not the JSON text of a network"),
        ("[" * 100_000, "Not the JSON text of a network"),
        ("[]", r"holds \(\), not a network"),
        ("3", "holds 3, not a network"),
        ("null", "holds None, not a network"),
        ("{}", "names its class in the entry 'layer', as in .*; found no entries"),
        ('{"W_std": 1, "a": 2}', r"as in \{\"layer\": \"Mlp\", \"depth\": 2\}; found W_std, a\."),
        ('{"layer": "Convolution"}', "Unknown layer 'Convolution'; known are .*Dense, Dropout"),
        ('{"layer": "Dens"}', r"Unknown layer 'Dens'; .*\. Did you mean 'Dense'\?$"),
        ('{"layer": ["Dense"]}', "Unknown layer \\['Dense'\\]"),
        ('{"layer": "Layer"}', "Unknown layer 'Layer'"),
        ('{"layer": "Nonlinearity"}', "Unknown layer 'Nonlinearity'"),
        ('{"layer": "Dropout"}', "Not the JSON text of a network: .*keep_prob"),
        ('{"layer": "Dense", "width": 3}', "Dense: got an unexpected keyword argument 'width'"),
        ('{"layer": "Dense", "W_std": -1.0}', "Dense: W_std must be a finite number > 0"),
        ('{"layer": "Dense", "W_std": NaN}', "Dense: W_std must be a finite number > 0"),
        ('{"layer": "Serial", "layers": 3}', "Not the JSON text of a network"),
        ('{"layer": "Serial", "layers": [3]}', "serial: argument 0 must be a layer, found 3"),
        ('{"callable": 3}', "Not the JSON text of a network"),
        ('{"callable": "no_such_module:f"}', "import the module 'no_such_module' before"),
    ],
)
def test_broken_text(text: str, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        nn.from_json(text, trusted=True)


@pytest.mark.parametrize(
    "fn", ["builtins:print", "no_such_module:f", f"{__name__}:sixth", 3], ids=str
)
def test_functions_are_refused_unless_the_text_is_trusted(fn: Any) -> None:
    inner = {"layer": "Elementwise", "fn": {"callable": fn}}
    layer = {"layer": "Serial", "layers": [{"layer": "Dense"}, inner, {"layer": "Dense"}]}
    with pytest.raises(NetworkError, match=r"uses the Python function .*trusted=True"):
        nn.from_json(json.dumps(layer))


def test_a_function_that_ends_the_process_is_refused() -> None:
    """Functions are called when a layer is checked, also those that a file names."""
    layer = {"layer": "Elementwise", "fn": {"callable": "sys:exit"}, "smooth": True}
    with pytest.raises(NetworkError, match="Elementwise"):
        nn.from_json(json.dumps(layer), trusted=True)


def test_a_class_of_the_same_name_does_not_take_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's ``Relu`` must not change what files of the library's ``Relu`` mean."""
    monkeypatch.setitem(LAYERS, "Relu", nn.Relu)  # undone after the test

    @dataclass(frozen=True)
    class Relu(nn.Nonlinearity):
        def phi(self, xp: Any, x: Any) -> Any:
            return 6 * x

    assert Relu() != nn.Relu()
    assert nn.from_json(nn.to_json(nn.Relu())) == nn.Relu()


def test_text_is_plain_json() -> None:
    """Field names are constructor arguments, so that other programs can read and write them."""
    net = nn.serial(nn.Dense(1.5, None), nn.Sin(), nn.Dense())
    dense = {"layer": "Dense", "b_std": None, "parameterization": "ntk", "fan_in": None}
    dense["trainable"] = True
    assert json.loads(nn.to_json(net)) == {
        "layer": "Serial",
        "layers": [
            dense | {"W_std": 1.5},
            {"layer": "Sin", "a": 1.0, "b": 1.0, "c": 0.0},
            dense | {"W_std": 1.0, "b_std": 0.0},
        ],
    }
    assert nn.from_json('{"layer": "Dense", "W_std": 2.0}') == nn.Dense(2.0)


def test_functions_are_stored_by_name() -> None:
    net = nn.mlp(depth=1, activation=nn.Elementwise(sixth))
    assert f"{__name__}:sixth" in nn.to_json(net)
    assert nn.from_json(nn.to_json(net), trusted=True) == net


def test_functions_without_a_name_are_refused() -> None:
    with pytest.raises(NetworkError, match="only functions that can be imported by name"):
        nn.to_json(nn.Elementwise(lambda x: x * torch.sigmoid(x)))


def test_a_function_that_is_gone() -> None:
    text = nn.to_json(nn.Elementwise(sixth)).replace("sixth", "seventh")
    with pytest.raises(NetworkError, match="seventh"):
        nn.from_json(text, trusted=True)


def nested(depth: int, wrap: Any, inner: Any = None) -> Any:
    value = inner or {"layer": "Dense"}
    for _ in range(depth):
        value = wrap(value)
    return value


WRAPS = {
    "serial": lambda x: {"layer": "Serial", "layers": [x]},
    "repeat": lambda x: {"layer": "Repeat", "block": x, "n": 1},
    "residual": lambda x: {"layer": "Residual", "block": x, "shortcut": {"layer": "Dense"}},
    "branches": lambda x: {
        "layer": "Parallel",
        "merge": "concat",
        "layers": [x, {"layer": "Dense"}],
    },
}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize("depth", [101, 450, 20_000])
def test_deep_nesting_is_refused(wrap: Any, depth: int) -> None:
    """Long before Python's stack ends, which is not the same everywhere."""
    text = json.dumps(nested(min(depth, 400), wrap)) if depth < 20_000 else '{"layer":[' * depth
    with pytest.raises(NetworkError, match=r"nested|Not the JSON text"):
        nn.from_json(text)


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
def test_nesting_that_is_allowed_takes_no_exponential_time(wrap: Any) -> None:
    """Each level used to check its branches twice: 2^60 times at the bottom."""
    network = nn.from_json(json.dumps(nested(60, wrap)))
    assert nn.from_json(nn.to_json(network)) == network


HUGE: dict[str, Any] = {
    "depth": {"layer": "Mlp", "depth": 10**6},
    "depth as a float": {"layer": "Mlp", "depth": 1e9},
    "count": {"layer": "Repeat", "n": 10**12, "block": {"layer": "Dense"}},
    "counts inside counts": nested(5, lambda x: {"layer": "Repeat", "n": 100, "block": x}),
    "a depth inside a count": {
        "layer": "Repeat",
        "n": 1000,
        "block": {"layer": "Mlp", "depth": 1000},
    },
    "layers": {"layer": "Serial", "layers": 60_000 * [{"layer": "Dense"}]},
    "entries": {"layer": "Polynomial", "coef": 200_000 * [1.0]},
    "wide and deep": nested(
        90, lambda x: {"layer": "Serial", "layers": [x, *100 * [{"layer": "Dense"}]]}
    ),
    "degree": {"layer": "Monomial", "degree": 10**6},
    "rectified degree": {"layer": "RectifiedMonomial", "degree": 151},
    "coefficients": {"layer": "Polynomial", "coef": 200 * [1.0]},
    "terms": {"layer": "Hermite", "coef": 300 * [1.0]},
    "digits": {"layer": "Dense", "W_std": 10**400},
    "lists": nested(300, lambda x: [x]),
}


def test_a_text_without_end_is_refused() -> None:
    with pytest.raises(NetworkError, match="16777216"):
        nn.from_json("[" + 2**23 * "1," + "1]")


@pytest.mark.parametrize("value", HUGE.values(), ids=HUGE)
def test_huge_descriptions_are_refused(value: Any) -> None:
    with pytest.raises(NetworkError, match=r"^.{,200}$"):
        nn.from_json(json.dumps(value))


def test_what_is_promised_can_be_read() -> None:
    for net in (
        nn.mlp(depth=10_000),
        nn.repeat(nn.serial(nn.Relu(), nn.Dense(), nn.LayerNorm()), 10_000),
        nn.serial(nn.Dense(), nn.Monomial(150), nn.Dense()),
        nn.serial(nn.Dense(), nn.Hermite(tuple(256 * [1.0])), nn.Dense()),
    ):
        assert nn.from_json(nn.to_json(net)) == net
