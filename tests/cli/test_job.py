"""The command of ``docs/distributed.md``, by ``torchrun`` with two processes."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kernreg.baseline import TableModel
from kernreg.datasets import load

ROOT = Path(__file__).parents[2]

# What ``-m kernreg`` does, but that the second process is killed in its first life.
KILLED_ONCE = """
import os, signal
from kernreg import KernelOperator
from kernreg.cli import main

def killed(*arguments):
    open("killed", "x").close()
    os.kill(os.getpid(), signal.SIGKILL)

if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    KernelOperator.lower_panel = killed
main()
"""


def documented(data):
    """The arguments of the command, for two processes, other data, and an uncommon network."""
    text = (ROOT / "docs" / "distributed.md").read_text()
    (command,) = re.findall(r"^torchrun .* -m kernreg fit (?:.*\\\n)*.*$", text, re.MULTILINE)
    words = shlex.split(command.replace("\\\n", " "))
    assert words[0] == "torchrun"
    replaced = {"--nproc-per-node=4": "--nproc-per-node=2", "data.parquet": str(data)}
    return [replaced.get(word, word) for word in words[1:]]


@pytest.mark.parametrize("killed", [False, True], ids=["whole", "killed"])
def test_documented_command(killed, run, tables, tmp_path):
    arguments = documented(tables.parquet)
    if killed:
        (tmp_path / "script.py").write_text(KILLED_ONCE)
        place = arguments.index("-m")
        arguments[place : place + 2] = ["script.py"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Fitted 40 rows of prices; the model is in model.kernreg.") == 1
    assert (tmp_path / "killed").exists() == killed
    assert (tmp_path / "fit.checkpoint").is_file()
    options = ["--alpha", "1e-3", "--solver", "cholesky", "--out", tmp_path / "alone"]
    assert run("fit", tables.parquet, *options).exit_code == 0
    X = load(tables.prices).X
    found, expected = (
        TableModel.load(tmp_path / name).predict(X) for name in ("model.kernreg", "alone")
    )
    # A residual of 1e-8.
    np.testing.assert_allclose(found, expected, rtol=1e-6)
