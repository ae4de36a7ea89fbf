"""The instructions of a kernel program as CUDA C++ text."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from pathlib import Path

from kernreg.backends.statements import CUDA, Writer, used_duals
from kernreg.backends.tiles import TileProgram
from kernreg.codegen.cpp import dual_struct, polynomials
from kernreg.codegen.instructions import CODES
from kernreg.ir.trace import DualCode

__all__ = ["CudaWriter", "csrc", "module_text"]

_SIGNATURE = """\
// State of a pair at the output of the network, from that at its input.
KR_INLINE State<double> program(State<double> s0, const Slots &t, const double *consts) {
"""


@functools.cache
def csrc(name: str) -> str:
    """A file of ``csrc``, which is beside the package in a checkout and inside it when installed.

    Examples
    --------
    >>> csrc("pair.inl").startswith("//")
    True
    """
    package = Path(__file__).parents[2]
    inside = package / "csrc" / name
    return (inside if inside.exists() else package.parent / "csrc" / name).read_text()


def module_text(
    tiles: TileProgram,
    duals: Mapping[int, tuple[str, DualCode]],
    kernels: Collection[str],
    out: str,
) -> str:
    """One translation unit that needs no other file: the kernel ``gram`` for a program.

    Parameters
    ----------
    tiles : TileProgram
        What to run; its instructions matter, its numbers do not.
    duals : mapping
        Title and code of every dual by its number.
    kernels : collection of {"nngp", "ntk"}
        Which it writes.
    out : {"float64", "float32"}
        Type of the matrix; the arithmetic is float64.

    Returns
    -------
    str
        CUDA C++, equal for programs that differ in run-time parameters only.
    """
    wanted = [str(name in kernels).lower() for name in ("nngp", "ntk")]
    parts = [
        csrc("cuda/device.cuh"),
        polynomials(),
        csrc("vmath.inl"),
        csrc("pair.inl"),
        csrc("cuda/steps.cuh"),
        *(dual_struct(k, *duals[k]) for k in used_duals(tiles)),
        _SIGNATURE + CudaWriter(duals).body(tiles),
        f"constexpr bool kNngp = {wanted[0]}, kNtk = {wanted[1]};\n"
        f"using Out = {'double' if out == 'float64' else 'float'};\n",
        csrc("cuda/product.cuh"),
        csrc("cuda/gram.cuh"),
    ]
    return "\n".join(parts)


class CudaWriter(Writer):
    """Statements of a CUDA function."""

    indent = "  "
    statements = CUDA

    def body(self, tiles: TileProgram) -> str:
        """The lines of the function."""
        states = sorted({_written(row) for row in tiles.code.tolist()} - {0})
        if states:
            self.line(f"State<double> {', '.join(f's{k}' for k in states)};")
        self.write(tiles)
        self.line("return s0;")
        return "\n".join([*self.lines, "}", ""])

    def copy(self, dst: int, source: int) -> None:
        self.line(f"{_register(dst)} = {_register(source)};")

    def call(self, dst: int, function: str, *args: str) -> None:
        self.line(f"{self.state(dst)} = {function}({', '.join(args)});")

    def state(self, number: int) -> str:
        return f"s{number}"

    def tables(self, x: int, y: int) -> str:
        return f"t.at({self.slot(x, 0)}, {self.slot(y, 1)})"


def _written(instruction: list[int]) -> int:
    """The state that an instruction writes."""
    op, dst = instruction[:2]
    return dst // 3 if op == CODES["copy"] else dst


def _register(number: int) -> str:
    return f"s{number // 3}." + ("rho", "gap", "tau")[number % 3]
