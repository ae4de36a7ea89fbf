"""``kernreg doctor``: what can be used, and why not the rest."""

import builtins
import importlib
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest
import torch

from kernreg import backends, nn
from kernreg.backends.base import CPU
from kernreg.backends.cuda import compile
from kernreg.cli import doctor


def found():
    return dict(doctor.report())


def test_prints_what_it_found(run):
    result = run("doctor")
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    assert f"python {platform.python_version()} on {platform.system()}" in text
    for name in ("numpy", "torch", "scikit-learn"):
        assert f"{name} {version(name)}" in text
    assert "backend reference available" in text


def listed():
    return {k.removeprefix("backend "): v for k, v in found().items() if "backend" in k}


@pytest.mark.parametrize("lacks", [None, "NVRTC is not installed"])
def test_every_backend_is_listed_with_what_it_lacks(lacks, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(compile, "missing", lambda: lacks)
    reasons = dict(backends.explain(nn.mlp(depth=2).program()))
    expected = {name: reason or "available" for name, reason in reasons.items()}
    if lacks is not None:
        expected["cuda"] += f"; {lacks}"
    assert listed() == expected


def test_backends_of_a_gpu_are_asked_about_it(monkeypatch):
    asked = []

    def supports(self, program, device=CPU):
        asked.append((self.name, device.type))

    for backend in backends.BACKENDS.values():
        monkeypatch.setattr(type(backend), "supports", supports)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda k: "Some GPU")
    assert set(listed().values()) == {"available"}
    assert {("triton", "cuda"), ("cuda", "cuda")} <= set(asked)
    assert ("reference", "cuda") not in asked
    assert found()["gpu"].startswith("Some GPU; CUDA")


@pytest.mark.parametrize(("built", "text"), [(None, "built without CUDA"), ("12.8", "none found")])
def test_no_gpu(built, text, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built)
    assert text in found()["gpu"]


def test_threads(monkeypatch):
    monkeypatch.setenv("KERNREG_NUM_THREADS", "3")
    assert found()["threads"].startswith("3 of ")


def test_without_the_extension(monkeypatch):
    """A missing extension is a line with its reason, not an error."""
    real = importlib.import_module

    def missing(name, *args):
        if name == "kernreg._core":
            raise ImportError("no module named kernreg._core")
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", missing)
    line = found()["extension"]
    assert line.startswith("not available: no module named kernreg._core; build it with")


def test_extension_is_the_one_that_is_loaded():
    line = found()["extension"]
    if line.startswith("available"):
        assert line == f"available: {sys.modules['kernreg._core'].__file__}"
    else:
        with pytest.raises(ImportError):
            importlib.import_module("kernreg._core")


def test_missing_package(monkeypatch):
    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "version", absent)
    assert "pandas missing" in found()["versions"]


def test_no_cpuinfo(monkeypatch):
    real = builtins.open

    def refuse(path, *args, **kwargs):
        if path == "/proc/cpuinfo":
            raise OSError
        return real(path, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", refuse)
    assert found()["cpu"].endswith("(no AVX2)")
