"""Choice of a backend."""

from __future__ import annotations

import logging
import re
import warnings

import numpy as np
import pytest
import torch

import kernreg
from kernreg import nn
from kernreg.backends import BACKENDS, bind, cpu, explain, registry
from kernreg.backends.base import Request
from kernreg.exceptions import BackendError, BackendWarning, InvalidInputError
from tests.backends.compare import needs_cpu, rows

net = nn.mlp(depth=2)
NO_GPU = [(name, BACKENDS[name].supports(net.program())) for name in ("triton", "cuda")]


def request_for(net: nn.Layer) -> Request:
    return Request(net.program(), torch.from_numpy(rows()), None, np.dtype(np.float64))


@pytest.fixture
def no_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_core", None)
    monkeypatch.setattr(cpu, "_MISSING", "the C++ extension is not there")


def test_names() -> None:
    """The fast one comes first; the reference runs everything."""
    assert (next(iter(BACKENDS)), list(BACKENDS)[-1]) == ("cpu", "reference")
    assert all(backend.name == name for name, backend in BACKENDS.items())
    assert BACKENDS["reference"].supports(net.program()) is None


@pytest.mark.parametrize("name", ["abacus", "CPU", ""])
def test_unknown_name(name: str) -> None:
    with pytest.raises(InvalidInputError, match=r"must be 'auto' or one of .*reference, found"):
        kernreg.gram(net, rows(), backend=name)


@needs_cpu
def test_auto_takes_the_first_that_can() -> None:
    assert bind(request_for(net))[0] == "cpu"
    assert explain(net.program()) == [("cpu", None), *NO_GPU, ("reference", None)]


@pytest.mark.usefixtures("no_extension")
def test_without_extension() -> None:
    """Never an error by itself, unless it was asked for by name."""
    reason = "the C++ extension is not there"
    assert explain(net.program()) == [("cpu", reason), *NO_GPU, ("reference", None)]
    registry._warn_of_slow_work.cache_clear()
    with pytest.warns(BackendWarning, match="slow reference.*not there.*pip install --editable"):
        assert bind(request_for(net))[0] == "reference"
    with warnings.catch_warnings():  # it is said once, and not where the reference was asked for
        warnings.simplefilter("error")
        bind(request_for(net))
        registry._warn_of_slow_work.cache_clear()
        bind(request_for(net), "reference")
    with pytest.raises(BackendError, match=r"backend='cpu' cannot run this: the C\+\+ extension"):
        bind(request_for(net), "cpu")
    with pytest.raises(BackendError, match=re.escape(reason)):
        BACKENDS["cpu"].bind(request_for(net))
    np.testing.assert_array_equal(
        kernreg.gram(net, rows()), kernreg.gram(net, rows(), backend="reference")
    )


@needs_cpu
def test_the_data_may_rule_a_backend_out(caplog: pytest.LogCaptureFixture) -> None:
    """At large variances a series would be too long, which shows once there are rows."""
    steep = nn.mlp(depth=1, activation=nn.Tanh(), W_std=1000.0)
    assert explain(steep.program())[0] == ("cpu", None)
    with pytest.raises(BackendError, match=r"cannot run this: Tanh\(\) at standard deviations"):
        bind(request_for(steep), "cpu")
    with caplog.at_level(logging.INFO, logger="kernreg.backends"):
        assert bind(request_for(steep))[0] == "reference"
    assert "backend cpu not taken: Tanh() at standard deviations" in caplog.text


def test_errors_are_also_builtins() -> None:
    assert issubclass(BackendError, NotImplementedError)
    assert issubclass(InvalidInputError, ValueError)


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("fn", [nn.Exp(), nn.Relu()])
def test_overflow_is_an_error_on_every_backend(fn: nn.Nonlinearity, backend: str) -> None:
    """Before work starts, and not as entries that are inf or NaN."""
    deep = nn.mlp(depth=200, activation=fn, W_std=60.0)
    with pytest.raises(InvalidInputError, match=r"overflows.*float64"):
        kernreg.gram(deep, rows(), backend=backend)
