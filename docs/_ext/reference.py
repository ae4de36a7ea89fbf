"""Pages of the API reference, made from ``__all__`` of the public modules.

A name that is added to a module appears by itself; a new module gets a line in ``PUBLIC``.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# What each has, for the table of all modules. The order is that of the table.
PUBLIC = {
    "kernreg": "estimators, kernel matrices, files of models",
    "kernreg.nn": "networks: layers, nonlinearities, combinators",
    "kernreg.operators": "kernel matrices in memory, recomputed, on disk, streamed",
    "kernreg.solvers": "linear systems with them, and what solving returns",
    "kernreg.planning": "memory and time before anything runs",
    "kernreg.theory.criticality": "which initialisation lets signals pass any depth",
    "kernreg.theory.finite_width": "corrections of order 1/width",
    "kernreg.theory.eigenlearning": "learning curves from a spectrum",
    "kernreg.theory.inverse": "nonlinearities made for a kernel",
    "kernreg.theory.alignment": "kernels side by side on a data set",
    "kernreg.theory.averages": "functions as nonlinearities, as theory reads them",
    "kernreg.theory.training": "networks at any moment of their training",
    "kernreg.finite": "torch modules of finite width, kernels of any module",
    "kernreg.plotting": "displays and figures",
    "kernreg.stax": "the calls of neural-tangents",
    "kernreg.stax.predict": "its predictions",
    "kernreg.interop.sklearn": "a kernel object for scikit-learn",
    "kernreg.interop.gpytorch": "a kernel of GPyTorch",
    "kernreg.datasets": "tables from files",
    "kernreg.baseline": "the search behind the command baseline",
    "kernreg.report": "its report",
    "kernreg.distributed": "several processes as one job",
    "kernreg.backends": "ways to compute kernels",
    "kernreg.exceptions": "errors and warnings",
    "kernreg.config": "environment variables",
}

KINDS = ("Classes", "Functions", "Errors and warnings", "Values")
ELSEWHERE = "Also here"


def kind(value: Any) -> str:
    """Under which heading a value stands; an empty text for modules, which have their own page.

    Examples
    --------
    >>> kind(ValueError), kind(len), kind(3)
    ('Errors and warnings', 'Functions', 'Values')
    """
    if inspect.ismodule(value):
        return ""
    if inspect.isclass(value):
        return "Errors and warnings" if issubclass(value, BaseException) else "Classes"
    return "Functions" if callable(value) else "Values"


def homes() -> dict[tuple[str, str], str]:
    """For each public module and name in it, the full name under which it is described.

    What several modules hand out is described in the first of them.
    """
    found: dict[tuple[str, str], str] = {}
    first: dict[int, str] = {}
    for module in PUBLIC:
        imported = importlib.import_module(module)
        for name in imported.__all__:
            value = getattr(imported, name)
            full = f"{module}.{name}"
            # Equal numbers and texts may be one object; a class or a function is one thing.
            single = kind(value) not in ("", "Values")
            found[module, name] = first.setdefault(id(value), full) if single else full
    return found


def names(module: str) -> dict[str, list[str]]:
    """Public names of a module by kind; those that are described elsewhere by their full name.

    Parameters
    ----------
    module : str
        Its name.
    """
    imported = importlib.import_module(module)
    full = homes()
    found: dict[str, list[str]] = {heading: [] for heading in (*KINDS, ELSEWHERE)}
    for name in sorted(imported.__all__, key=str.lower):
        if heading := kind(getattr(imported, name)):
            home = full[module, name]
            own = home == f"{module}.{name}"
            found[heading if own else ELSEWHERE].append(name if own else home)
    return {heading: listed for heading, listed in found.items() if listed}


def described(module: str, name: str) -> str:
    """The text below a value where it is made, as values have no docstrings of their own."""
    from sphinx.pycode import ModuleAnalyzer

    value = getattr(importlib.import_module(module), name)
    for place in sorted(m for m in sys.modules if m.startswith(f"{module}.")):
        if getattr(sys.modules[place], name, None) is value:
            texts = ModuleAnalyzer.for_module(place).find_attr_docs()
            if ("", name) in texts:
                return " ".join(texts["", name])
    return "The version that is installed." if name == "__version__" else ""


def _heading(text: str, line: str) -> list[str]:
    return [text, line * len(text), ""]


def page(module: str) -> str:
    """The page of a module, as reStructuredText."""
    lines = _heading(module, "=")
    lines += [
        f".. automodule:: {module}",
        "   :no-members:",
        "",
        f".. currentmodule:: {module}",
        "",
    ]
    for heading, listed in names(module).items():
        lines += _heading(heading, "-")
        if heading == "Values":
            for name in listed:
                lines += [f".. py:data:: {name}", "", f"   {described(module, name)}", ""]
            continue
        if heading == ELSEWHERE:
            lines += [
                ".. autosummary::",
                "   :nosignatures:",
                "",
                *(f"   ~{name}" for name in listed),
                "",
            ]
            continue
        lines += [".. autosummary::", "   :nosignatures:", "   :toctree: names", ""]
        lines += [*(f"   {name}" for name in listed), ""]
    return "\n".join(lines)


def index() -> str:
    """The page that all module pages are reached from."""
    lines = _heading("API reference", "=")
    lines += [
        "Every public name, with its parameters and an example;",
        "by letter: :ref:`genindex`.",
        "",
    ]
    lines += [".. list-table::", "   :widths: 40 60", ""]
    for module, text in PUBLIC.items():
        lines += [f"   * - :doc:`{module} <{module}>`", f"     - {text}"]
    lines += ["", ".. toctree::", "   :hidden:", ""]
    lines += [*(f"   {module}" for module in PUBLIC), ""]
    return "\n".join(lines)


def pages() -> Iterator[tuple[str, str]]:
    """File names and texts of all pages."""
    yield "index.rst", index()
    for module in PUBLIC:
        yield f"{module}.rst", page(module)


def _write(app: Any, config: Any) -> None:
    folder = Path(app.srcdir) / "api"
    folder.mkdir(exist_ok=True)
    for name, text in pages():
        file = folder / name
        # Sphinx reads again what is newer.
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def _is_foreign(
    app: Any, what: str, name: str, value: Any, skip: bool, options: Any
) -> bool | None:
    """Whether a member is left out: methods that come from other libraries' classes."""
    value = getattr(value, "fget", value)
    value = getattr(value, "func", value)
    home = getattr(value, "__module__", None)
    foreign = isinstance(home, str) and home.split(".")[0] != "kernreg"
    return True if what == "class" and foreign else None


def setup(app: Any) -> dict[str, bool]:
    app.connect("config-inited", _write)
    app.connect("autodoc-skip-member", _is_foreign)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
