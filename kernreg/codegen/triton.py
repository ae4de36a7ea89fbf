"""Triton text of the duals and of the elementary functions that they need."""

from __future__ import annotations

from kernreg.codegen.polynomials import POLYNOMIALS
from kernreg.ir.graph import Value
from kernreg.ir.trace import DualCode

__all__ = ["dual_function", "prelude", "statement", "whole"]

_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "gt": ">", "ge": ">="}
_CALL = {
    "sqrt": "tl.sqrt",
    "exp": "tl.exp",
    "expm1": "expm1",
    "abs": "tl.abs",
    "min": "tl.minimum",
    "max": "tl.maximum",
    "where": "tl.where",
    "arc": "arc",
    "lune": "lune",
    "asin": "asin",
}

_PRELUDE = '''\
@triton.jit
def arc(gap):
    """Angle whose cosine is 1 - gap, for gap in [0, 1]."""
    z = 0.5 * gap
    return tl.sqrt(z) * ({arc})


@triton.jit
def lune(gap):
    """(sin a - a cos a) / pi with a = arc(gap)."""
    z = 0.5 * gap
    return z * tl.sqrt(z) * ({lune})


@triton.jit
def asin(x):
    """Angle whose sine is x, for x in [0, sqrt(1/2)]."""
    z = x * x
    return 0.5 * x * ({arc})


@triton.jit
def expm1(x):
    """exp(x) - 1 without cancellation."""
    z = tl.minimum(tl.maximum(x, -0.34375), 0.34375)
    return tl.where(tl.abs(x) < 0.34375, z + z * z * ({exp}), tl.exp(x) - 1.0)
'''


def prelude(dtype: str) -> str:
    """The elementary functions at the precision of ``dtype``.

    Examples
    --------
    >>> prelude("float32").splitlines()[1]
    'def arc(gap):'
    """
    texts = {name: _horner(choices[dtype]) for name, choices in POLYNOMIALS.items()}
    return _PRELUDE.format(**texts)


def _horner(coefficients: tuple[float, ...]) -> str:
    text = repr(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        text = f"{c!r} + z * ({text})"
    return text


def dual_function(name: str, title: str, code: DualCode) -> str:
    """One dual as a Triton function ``(rho, gap, c, x0, ..., y0, ...) -> (rho, gap, dot)``.

    Parameters
    ----------
    name : str
        Of the function.
    title : str
        Its docstring.
    code : DualCode
        What :func:`kernreg.ir.trace.trace_dual` recorded.

    Returns
    -------
    str

    Examples
    --------
    >>> from kernreg import nn
    >>> from kernreg.ir.trace import trace_dual
    >>> print(dual_function("dual0", "Relu", trace_dual(nn.Relu())).splitlines()[1])
    def dual0(rho, gap, c):
    """
    names = code.names()
    rows = [f"x{k}" for k in range(len(code.rows1))] + [f"y{k}" for k in range(len(code.rows2))]
    lines = [
        "@triton.jit",
        f"def {name}({', '.join(['rho', 'gap', 'c', *rows])}):",
        f'    """{title}."""',
        *(f"    c{k} = tl.load(c + {k})" for k in range(len(code.scalars))),
        *(statement(v, names) for v in code.pairs),
        f"    rho_out = {whole(names[id(code.rho)])}",
        f"    gap_out = {whole(names[id(code.gap)])}",
        f"    return rho_out, gap_out, {whole(names[id(code.dot)])}",
    ]
    return "\n".join(lines) + "\n"


def _is_number(name: str) -> bool:
    return name[0].isdigit() or name[0] == "-"


def whole(name: str) -> str:
    """An output; a literal must become a tile."""
    return f"tl.full(rho.shape, {name}, rho.dtype)" if _is_number(name) else name


def statement(v: Value, names: dict[int, str]) -> str:
    """The line that works a value out."""
    args = [names[id(a)] for a in v.args]
    if v.op in _INFIX:
        text = f"{args[0]} {_INFIX[v.op]} {args[1]}"
    else:
        # A literal that is an argument would be rounded to float32.
        args = [f"tl.full((), {a}, rho.dtype)" if _is_number(a) else a for a in args]
        text = f"{_CALL[v.op]}({', '.join(args)})"
    return f"    {names[id(v)]} = {text}"
