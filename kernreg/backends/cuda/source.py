"""The instructions of a kernel program as CUDA C++ text."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from pathlib import Path

from kernreg.backends.generated import OPS, ProgramWriter, used_duals
from kernreg.backends.tiles import NONNEGATIVE, POSITIVE, TileProgram
from kernreg.codegen.cpp import dual_struct, polynomials
from kernreg.ir.trace import DualCode

__all__ = ["csrc", "module_text"]

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
        _SIGNATURE + _Writer(duals).body(tiles),
        f"constexpr bool kNngp = {wanted[0]}, kNtk = {wanted[1]};\n"
        f"using Out = {'double' if out == 'float64' else 'float'};\n",
        csrc("cuda/product.cuh"),
        csrc("cuda/gram.cuh"),
    ]
    return "\n".join(parts)


class _Writer(ProgramWriter):
    indent = "  "

    def body(self, tiles: TileProgram) -> str:
        states = sorted({_written(row) for row in tiles.code.tolist()} - {0})
        if states:
            self.line(f"State<double> {', '.join(f's{k}' for k in states)};")
        self.write(tiles)
        self.line("return s0;")
        return "\n".join([*self.lines, "}", ""])

    def slots(self, x: int, y: int) -> str:
        """Tables from the given slots on, which in a loop depend on the turn."""
        return f"t.at({self.slot(x, 0)}, {self.slot(y, 1)})"

    def step(self, op: str, dst: int, a: int, b: int, c: int, x: int, y: int, n: int) -> None:
        match op:
            case "loop":
                turn = f"turn{len(self.steps)}"
                self.line("#pragma unroll 1")
                self.line(f"for (int64_t {turn} = 0; {turn} < {n}; ++{turn}) {{")
                self.steps.append((x, y))
            case "next":
                self.steps.pop()
                self.line("}")
            case "dense":
                flags = f"{str(bool(b)).lower()}, {str(bool(n)).lower()}"
                self.line(f"s{dst} = dense_step<{flags}>(s{a}, {self.slots(x, y)});")
            case "sum":
                self.line(f"s{dst} = sum_step(s{a}, s{b}, {self.slots(x, y)});")
            case "product":
                self.line(f"s{dst} = product_pair(s{a}, s{b});")
            case "dropout":
                self.line(f"s{dst} = dropout_pair(s{a}, consts[{c}]);")
            case "series":
                args = f"s{a}, {self.slots(x, y)}, consts[{c}], {n}"
                self.line(f"s{dst} = series_step({args});")
            case "angles":
                args = f"s{a}, {self.slots(x, y)}, consts + {c}, {n}, {b}"
                self.line(f"s{dst} = angles_step({args});")
            case "profile":
                self.line(f"s{dst} = profile_step(s{a}, consts + {c}, {n});")
            case "copy":
                self.line(f"{_register(dst)} = {_register(a)};")
            case _:
                raise TypeError(f"unexpected instruction {op!r}")

    def dual(self, k: int, dst: int, a: int, b: int, c: int, x: int, y: int, n: int) -> None:
        title, _ = self.duals[k]
        nonnegative = str(b == 2 and bool(n & NONNEGATIVE)).lower()
        positive = str(bool(n & POSITIVE)).lower()
        self.line(f"// {title}" + (", Dense" if b else ""))
        self.line(
            f"s{dst} = dual_step<Dual{k}<double>, {b}, {nonnegative}, {positive}>"
            f"(s{a}, {self.slots(x, y)}, consts + {c});"
        )


def _written(instruction: list[int]) -> int:
    """The state that an instruction writes."""
    op, dst = instruction[:2]
    return dst // 3 if op == OPS["copy"] else dst


def _register(number: int) -> str:
    return f"s{number // 3}." + ("rho", "gap", "tau")[number % 3]
