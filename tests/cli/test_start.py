"""Help and errors of arguments come before torch is imported, which takes seconds."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kernreg.solvers.names import NAMES
from kernreg.solvers.registry import SOLVERS

SCRIPT = """
import sys
from kernreg.cli import main
sys.argv = ["kernreg", *sys.argv[1:]]
try:
    main()
except SystemExit as stop:
    print(stop.code, "torch" in sys.modules, "sklearn" in sys.modules)
"""


@pytest.mark.parametrize(
    ("code", "line"),
    [
        (0, "--help"),
        (0, "--version"),
        (2, "fit"),
        (2, "fit iris --out x.model --solver magic"),
        (2, "fit iris --out x.model --alpha much"),
        (2, "fit iris --out x.model --network mlp("),
        (2, "fit iris --out x.model --max-memory lots"),
        (2, "fit iris --out x.model --model gp --alpha 0.1,1"),
        (2, "fit missing.csv --out x.model"),
        (2, "baseline missing.csv"),
        (2, "gram iris --out x --network Nothing()"),
        (2, "explain mlp(2"),
        (2, "predict missing.model iris"),
        (2, "theory criticality Nothing()"),
        (2, "theory evolve missing.csv"),
    ],
)
def test_torch_is_not_imported(code: int, line: str, tmp_path) -> None:
    command = [sys.executable, "-c", SCRIPT, *line.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-3:] == [str(code), "False", "False"]


def test_names_are_those_of_the_registry() -> None:
    assert tuple(SOLVERS) == NAMES
