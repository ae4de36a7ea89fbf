"""The reference of the site has every public name; pages say the same as the files beside them."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
import sys
from pathlib import Path

import pytest

import kernreg

ROOT = Path(__file__).parents[2]
# Packages with names for the rest of kernreg only.
INTERNAL = {
    "kernreg.cli",
    "kernreg.codegen",
    "kernreg.estimators",  # kernreg hands them out
    "kernreg.finite.empirical",
    "kernreg.nn.nonlinearities",
    "kernreg.operators.store",
    "kernreg.solvers.preconditioners",
}


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("site_reference", ROOT / "docs/_ext/reference.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_public_name_is_in_the_reference(reference):
    pytest.importorskip("gpytorch")
    for module in reference.PUBLIC:
        listed = {
            name.split(".")[-1] for names in reference.names(module).values() for name in names
        }
        for name in importlib.import_module(module).__all__:
            assert name in listed or f"{module}.{name}" in reference.PUBLIC, f"{module}.{name}"


def test_every_package_with_public_names_is_known(reference):
    for found in pkgutil.walk_packages(kernreg.__path__, "kernreg."):
        if not found.ispkg or found.name.startswith("kernreg.backends."):
            continue
        if getattr(importlib.import_module(found.name), "__all__", ()):
            assert found.name in {*reference.PUBLIC, *INTERNAL}


def test_pages_import_public_names_only(reference):
    pattern = re.compile(r"^from (kernreg[\w.]*) import", re.MULTILINE)
    guide = (ROOT / "docs").glob("*.md")
    for page in guide:
        if page.stem != "extending":  # which is about what is inside
            assert set(pattern.findall(page.read_text(encoding="utf-8"))) <= {*reference.PUBLIC}


def test_scripts_have_titles():
    for script in (ROOT / "examples").glob("*.py"):
        title, line, empty = script.read_text(encoding="utf-8").splitlines()[:3]
        assert line == "=" * len(title.removeprefix('"""'))
        assert not empty


def test_citations_agree():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    page = (ROOT / "docs/citing.md").read_text(encoding="utf-8")
    for pattern in (r"^version: (\S+)", r'^title: "(.+)"'):
        assert re.search(pattern, citation, re.MULTILINE)[1] in page
