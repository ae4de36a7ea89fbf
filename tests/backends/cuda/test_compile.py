"""Machine code for several GPUs, none of which need be there."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from kernreg import nn
from kernreg.backends.base import Request
from kernreg.backends.cuda import compile as compiler
from kernreg.backends.cuda.backend import CudaBackend
from kernreg.exceptions import BackendError
from tests.backends.compare import KERNELS, rows
from tests.backends.cuda.networks import NETWORKS, mlp

needs_nvrtc = pytest.mark.skipif(
    compiler.missing() is not None, reason=compiler.missing() or "NVRTC is there"
)
architectures = pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
NAMES = ["relu", "erf", "gelu", "residual", "hermite series"]


def text(net: nn.Layer, kernels: tuple[str, ...] = KERNELS, out: str = "float64") -> str:
    X = torch.from_numpy(rows())
    request = Request(net.program(), X, None, np.dtype("float64"), exact=True)
    return CudaBackend().bind(request).text(kernels, out)


def disassembler() -> str | None:
    """cuobjdump, of a CUDA toolkit or as Triton brings it."""
    spec = importlib.util.find_spec("triton")
    if spec is None or spec.origin is None:
        return shutil.which("cuobjdump")
    inside = Path(spec.origin).parent / "backends/nvidia/bin/cuobjdump"
    return str(inside) if inside.exists() else shutil.which("cuobjdump")


@needs_nvrtc
@architectures
@pytest.mark.parametrize("name", NAMES)
def test_no_register_is_spilled(name: str, arch: str) -> None:
    taken = compiler.compile_text(text(NETWORKS[name]), arch).resources()
    assert taken.spilled == 0
    assert taken.registers < 255
    # What every GPU grants a block without being asked.
    assert 0 < taken.shared <= 48 * 1024


@needs_nvrtc
@architectures
def test_branches_do_not_spill(arch: str) -> None:
    """Five branches give the compiler much that it could keep in registers at once."""
    block = nn.serial(nn.Gelu(), nn.Dense(1.0, 0.1), nn.Erf(), nn.Dense())
    net = nn.serial(nn.Dense(1.2, 0.1), nn.parallel(*[block] * 5), nn.Dense())
    assert compiler.compile_text(text(net), arch).resources().spilled == 0


@needs_nvrtc
@pytest.mark.parametrize("kernels", [("nngp",), ("ntk",)])
@pytest.mark.parametrize("out", ["float64", "float32"])
def test_every_output(kernels: tuple[str, ...], out: str) -> None:
    binary = compiler.compile_text(text(mlp(nn.Relu(), 1), kernels, out), "sm_90")
    assert binary.resources().spilled == 0


@needs_nvrtc
@pytest.mark.skipif(disassembler() is None, reason="there is no cuobjdump; it comes with triton")
@pytest.mark.parametrize(
    ("arch", "instruction"), [("sm_80", "DMMA.884"), ("sm_90", "DMMA.16x8x16"), ("sm_100", "DMMA")]
)
def test_products_are_on_tensor_cores(tmp_path: Path, arch: str, instruction: str) -> None:
    path = tmp_path / "gram.cubin"
    path.write_bytes(compiler.compile_text(text(NETWORKS["relu"]), arch).code)
    command = [str(disassembler()), "-sass", str(path)]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert instruction in listing
    for local in ("LDL", "STL"):
        assert local not in listing


@needs_nvrtc
def test_errors_say_what_the_compiler_said() -> None:
    with pytest.raises(BackendError, match=r"sm_90(.|\n)*no_such_type"):
        compiler.compile_text("no_such_type x;", "sm_90")


def test_text_does_not_depend_on_numbers() -> None:
    """So that other hyperparameters compile nothing."""
    first, second = (nn.mlp(2, nn.Erf(), W_std=w, b_std=0.1) for w in (1.0, 1.5))
    assert text(first) == text(second)
    assert text(first) != text(nn.mlp(3, nn.Erf(), W_std=1.0, b_std=0.1))
