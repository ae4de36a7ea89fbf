"""C++ text of the duals."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kernreg import nn
from kernreg.codegen.cpp import dual_struct, slopes_struct, write
from kernreg.ir.derivative import slopes
from kernreg.ir.trace import trace_dual

LIBRARY = [nn.Relu(), nn.Abs(), nn.Sin(), nn.Cos(), nn.Erf(), nn.Gelu(), nn.Gabor(), nn.Tanh()]
SCRIPT = """
from pathlib import Path
from kernreg import nn
from kernreg.codegen.cpp import write
write(Path({folder!r}), [nn.Relu(), nn.Erf(), nn.Gelu(), nn.Gabor(), nn.Sin()])
"""


def files(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in folder.iterdir()}


def test_text() -> None:
    code = trace_dual(nn.Rbf())
    assert dual_struct(7, "Rbf()", code) == dual_struct(7, "Rbf()", trace_dual(nn.Rbf(3.0)))
    lines = dual_struct(7, "Rbf()", code).splitlines()
    assert lines[0] == "// Rbf()"
    assert lines[1] == "template <class T> struct Dual7 {"
    assert f"rows1 = {len(code.rows1)}, rows2 = {len(code.rows2)};" in lines[2]


@pytest.mark.parametrize("derived", [False, True])
@pytest.mark.parametrize("fn", [f for f in LIBRARY if f.closed_form], ids=repr)
def test_names_are_defined_before_use(fn: nn.Nonlinearity, derived: bool) -> None:
    text = dual_struct(0, repr(fn), trace_dual(fn))
    if derived:
        text = slopes_struct(0, repr(fn), slopes(fn).straight)
    lines, known = text.splitlines(), {"rho", "gap"}
    outputs = [k for k, line in enumerate(lines) if re.match(r"    (\w+_out|out\[\d\]) = ", line)]
    first = next(k for k, line in enumerate(lines) if "eval(" in line)
    inside = [line for line in lines[first : outputs[0]] if line.startswith("    const ")]
    for line in inside:
        match = re.fullmatch(r"    const (T|bool) (\w+) = (.*);", line)
        assert match is not None
        kind, name, expression = match.groups()
        assert (kind == "bool") == bool(re.search(" >=? ", expression))
        assert set(re.findall(r"\b[vc]\d+\b", expression)) <= known
        assert name not in known
        known.add(name)
    for k in outputs:
        line = lines[k]
        assert set(re.findall(r"\b[vc]\d+\b", line)) <= known


def test_comparisons_of_the_correlation_with_zero_can_be_left_out() -> None:
    text = dual_struct(0, "", trace_dual(nn.Relu()))
    assert "POSITIVE ? rho : max_(rho, T(0.0))" in text
    assert "POSITIVE || rho > T(0.0)" in text


def test_literals_are_of_the_type_of_the_arithmetic() -> None:
    """A bare double literal would turn float32 arithmetic into float64."""
    for fn in LIBRARY:
        if fn.closed_form:
            text = dual_struct(0, "", trace_dual(fn))
            text += slopes_struct(0, "", slopes(fn).straight)
            bare = re.findall(r"(?<![\w(.-])-?\d+\.\d*(?:e-?\d+)?(?!\w)", text)
            assert bare == []


def test_written_files_are_the_same_each_time(tmp_path: Path) -> None:
    """Also in another process with other hashes."""
    for seed in ("1", "2"):
        script = SCRIPT.format(folder=str(tmp_path / seed))
        env = os.environ | {"PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", script], check=True, env=env)
    assert files(tmp_path / "1") == files(tmp_path / "2")
    names = ("duals", "instructions", "polynomials", "signatures", "slopes")
    assert set(files(tmp_path / "1")) == {f"{name}.inl" for name in names}


def test_equal_code_is_written_once(tmp_path: Path) -> None:
    duals = [nn.Relu(), nn.Sin(), nn.Sin(2.0), nn.Tanh(), nn.Relu()]
    assert write(tmp_path, duals) == 2
    text = files(tmp_path)
    assert text["duals.inl"].rstrip().endswith("#define KR_DUALS KR_DUAL(0) KR_DUAL(1)")
    assert text["slopes.inl"].rstrip().endswith("#define KR_SLOPES KR_SLOPE(0) KR_SLOPE(1)")
    signatures = re.findall(r'^  "(.*)",$', text["signatures.inl"], flags=re.MULTILINE)
    fns = (nn.Relu(), nn.Sin())
    assert signatures[:2] == [trace_dual(fn).signature for fn in fns]
    assert signatures[2:] == [slopes(fn).straight.signature for fn in fns]


def test_a_second_build_touches_nothing(tmp_path: Path) -> None:
    write(tmp_path, LIBRARY)
    for path in tmp_path.iterdir():
        os.utime(path, (0, 0))
    write(tmp_path, LIBRARY)
    assert {p.stat().st_mtime for p in tmp_path.iterdir()} == {0.0}
    write(tmp_path, [nn.Relu()])
    written = {p.name for p in tmp_path.iterdir() if p.stat().st_mtime > 0}
    assert written == {"duals.inl", "signatures.inl", "slopes.inl"}


def test_the_extension_holds_the_library() -> None:
    """Every closed form without structural arguments runs compiled, not interpreted."""
    core = pytest.importorskip("kernreg._core", reason="built with KERNREG_BUILD_EXT=0")
    compiled, derived = set(core.signatures()), set(core.slopes())
    for fn in [*LIBRARY, nn.Rbf(), nn.Gaussian(), nn.Exp(), nn.Sign(), nn.LeakyRelu(0.3)]:
        if fn.closed_form:
            assert trace_dual(fn).signature in compiled, fn
            assert slopes(fn).straight.signature in derived, fn
