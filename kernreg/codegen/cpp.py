"""C++ text of the duals, written when the extension is built (see ``setup.py``)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kernreg.codegen.instructions import instructions
from kernreg.codegen.polynomials import POLYNOMIALS
from kernreg.ir.derivative import SlopesCode, slopes
from kernreg.ir.graph import Value
from kernreg.ir.pair import Dual
from kernreg.ir.trace import Code, DualCode, trace_dual

__all__ = ["dual_struct", "polynomials", "slopes_struct", "write"]

_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "gt": ">", "ge": ">="}
_CALL = {
    "sqrt": "root",
    "exp": "exp_",
    "expm1": "expm1_",
    "abs": "abs_",
    "min": "min_",
    "max": "max_",
    "arc": "arc_",
    "lune": "lune_",
    "asin": "asin_",
}


def _operand(name: str) -> str:
    if name[0] in "xy" and name[1:].isdigit():
        return f"{name[0]}[{name[1:]}]"
    if name[0].isdigit() or name[0] == "-":
        return f"T({name})"
    return name


def _statement(v: Value, names: dict[int, str]) -> str:
    args = [_operand(names[id(a)]) for a in v.args]
    kind = "bool" if v.op in ("gt", "ge") else "T"
    if v.op == "gt" and args == ["rho", "T(0.0)"]:
        text = "POSITIVE || rho > T(0.0)"
    elif v.op == "max" and args == ["rho", "T(0.0)"]:
        text = "POSITIVE ? rho : max_(rho, T(0.0))"
    elif v.op in _INFIX:
        text = f"{args[0]} {_INFIX[v.op]} {args[1]}"
    elif v.op == "where":
        text = f"{args[0]} ? {args[1]} : {args[2]}"
    else:
        text = f"{_CALL[v.op]}({', '.join(args)})"
    return f"    const {kind} {names[id(v)]} = {text};"


def _head(name: str, title: str, code: Code) -> list[str]:
    """The first lines of a structure: what it is of, and how many slots it has."""
    counts = f"rows1 = {len(code.rows1)}, rows2 = {len(code.rows2)}"
    return [
        f"// {title}",
        f"template <class T> struct {name} {{",
        f"  static constexpr int scalars = {len(code.scalars)}, {counts};",
    ]


def dual_struct(number: int, title: str, code: DualCode) -> str:
    """One dual as a C++ structure.

    Parameters
    ----------
    number : int
        Its number in the virtual machine.
    title : str
        Comment above it.
    code : DualCode
        What :func:`kernreg.ir.trace.trace_dual` recorded.

    Returns
    -------
    str

    Examples
    --------
    >>> from kernreg import nn
    >>> print(dual_struct(0, "Relu", trace_dual(nn.Relu())).splitlines()[0])
    // Relu
    """
    names = code.names()
    rho, plain = _operand(names[id(code.rho)]), _operand(names[id(code.plain)])
    gap, rest = _operand(names[id(code.gap)]), "gap_of(rho_out)"
    if not code.two_ways:
        plain, rest = rho, gap
    return "\n".join(
        [
            *_head(f"Dual{number}", title, code),
            f"  static constexpr bool two_ways = {str(code.two_ways).lower()};",
            # POSITIVE: no correlation that comes in is negative. CLOSE: the gap without a
            # subtraction.
            "  template <bool POSITIVE, bool CLOSE>",
            "  KR_INLINE void eval(T rho, T gap, const T *c, const T *x, const T *y,",
            "                      T &rho_out, T &gap_out, T &dot_out) {",
            # Loaded here: a load behind a condition keeps the loop from being vectorised.
            *(f"    const T c{k} = c[{k}];" for k in range(len(code.scalars))),
            *(_statement(v, names) for v in code.pairs),
            f"    rho_out = CLOSE ? {rho} : {plain};",
            f"    gap_out = CLOSE ? {gap} : {rest};",
            f"    dot_out = {_operand(names[id(code.dot)])};",
            "  }",
            "};",
            "",
        ]
    )


def slopes_struct(number: int, title: str, code: SlopesCode) -> str:
    """A dual with its derivatives as a C++ structure.

    Parameters
    ----------
    number : int
        Its number in the virtual machine.
    title : str
        Comment above it.
    code : SlopesCode
        What :func:`kernreg.ir.derivative.slopes` made.

    Returns
    -------
    str

    Examples
    --------
    >>> from kernreg import nn
    >>> print(slopes_struct(0, "Relu", slopes(nn.Relu()).straight).splitlines()[0])
    // Relu
    """
    names = code.names()
    return "\n".join(
        [
            *_head(f"Slopes{number}", title, code),
            f"  static constexpr bool logs = {str(len(code.values) > 4).lower()};",
            "  KR_INLINE void eval(T rho, T gap, const T *c, const T *x, const T *y, T *out) {",
            "    constexpr bool POSITIVE = false;",
            *(f"    const T c{k} = c[{k}];" for k in range(len(code.scalars))),
            *(_statement(v, names) for v in code.pairs),
            *(f"    out[{k}] = {_operand(names[id(v)])};" for k, v in enumerate(code.values)),
            "  }",
            "};",
            "",
        ]
    )


def polynomials() -> str:
    """The polynomials of elementary functions, as C++ functions ``<name>_poly``.

    Examples
    --------
    >>> polynomials().splitlines()[0]
    'KR_INLINE float arc_poly(float z) {'
    """
    return "\n".join(
        f"KR_INLINE {kind} {name}_poly({kind} z) {{\n  return {_horner(choices[dtype], end)};\n}}\n"
        for name, choices in POLYNOMIALS.items()
        for dtype, kind, end in (("float32", "float", "f"), ("float64", "double", ""))
    )


def _horner(coefficients: tuple[float, ...], end: str) -> str:
    text = f"{coefficients[-1]!r}{end}"
    for c in reversed(coefficients[:-1]):
        text = f"({text}) * z + {c!r}{end}"
    return text


def write(folder: Path, duals: Iterable[Dual]) -> int:
    """Write duals and their signatures, instructions and polynomials, a file ``.inl`` each.

    Parameters
    ----------
    folder : Path
        Made if missing.
    duals : iterable of Dual
        Those without a closed form are left out; equal code is written once.

    Returns
    -------
    int
        Number of structures written.
    """
    codes: dict[str, tuple[str, DualCode]] = {}
    derived: dict[str, tuple[str, SlopesCode]] = {}
    for fn in duals:
        if fn.closed_form:
            code, straight = trace_dual(fn), slopes(fn).straight
            codes.setdefault(code.signature, (repr(fn), code))
            derived.setdefault(straight.signature, (repr(fn), straight))
    structs = [dual_struct(i, *named) for i, named in enumerate(codes.values())]
    derivatives = [slopes_struct(i, *named) for i, named in enumerate(derived.values())]
    folder.mkdir(parents=True, exist_ok=True)
    _update(folder / "duals.inl", "\n".join([*structs, _list("KR_DUAL", len(codes)), ""]))
    _update(folder / "slopes.inl", "\n".join([*derivatives, _list("KR_SLOPE", len(derived)), ""]))
    _update(folder / "instructions.inl", instructions())
    _update(folder / "polynomials.inl", polynomials())
    _update(
        folder / "signatures.inl",
        _strings("kSignatures", codes) + _strings("kSlopesSignatures", derived),
    )
    return len(codes)


def _list(macro: str, count: int) -> str:
    """A macro ``<macro>S`` that calls ``macro`` with each number."""
    return f"#define {macro}S " + " ".join(f"{macro}({i})" for i in range(count))


def _strings(name: str, signatures: Iterable[str]) -> str:
    strings = "".join(f'  "{signature}",\n' for signature in signatures)
    return f"static const char *const {name}[] = {{\n{strings}}};\n"


def _update(path: Path, text: str) -> None:
    """Write only what changed, so that a second build compiles nothing."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
