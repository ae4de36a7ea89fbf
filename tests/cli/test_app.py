"""Help, version, unknown commands, and what errors look like from outside."""

import re
import subprocess
import sys
import warnings
from importlib.metadata import entry_points

import pytest
from typer.testing import CliRunner

import kernreg
from kernreg.cli import app, fit, main

COMMANDS = ["baseline", "fit", "predict", "explain", "doctor"]


def plain(text):
    """Without the borders and line breaks of a box."""
    return " ".join(re.sub(r"[─╭╮│╰╯]", " ", text).split())


def test_help(run):
    result = run("--help")
    assert result.exit_code == 0
    text = plain(result.stdout)
    assert "Predictions from infinitely wide neural networks." in text
    assert all(f" {command} " in text for command in COMMANDS)
    assert run().output.strip() == result.output.strip()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command(command, run):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"Usage: kernreg {command}" in plain(result.stdout).replace("root", "kernreg")
    documented = {
        "baseline": ["DATA", "--target", "--task", "--out", "--max-memory", "--seed", "--folds"],
        "fit": ["DATA", "--network", "--kernel", "--alpha", "--out", "--max-memory"],
        "predict": ["MODEL", "DATA", "--out"],
        "explain": ["NETWORK", "--data", "--max-memory"],
        "doctor": [],
    }
    assert all(option in result.stdout for option in documented[command])


def test_version(run):
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"{kernreg.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["baseline"], "Missing argument 'DATA'"),
        (["fit", "iris"], "Missing option '--out'"),
        (["predict", "model"], "Missing argument 'DATA'"),
        (["baseline", "iris", "--bogus"], "No such option: --bogus"),
        (["baseline", "iris", "--seed", "-1"], "Invalid value for '--seed'"),
        (["baseline", "iris", "--seed", "x"], "Invalid value for '--seed'"),
        (["baseline", "iris", "--folds", "0"], "Invalid value for '--folds'"),
        (["baseline", "iris", "--max-rows", "1"], "Invalid value for '--max-rows'"),
        (["baseline", "iris", "--task", "ranking"], "Invalid value for '--task'"),
        (["baseline", "iris", "--scaling", "log"], "Invalid value for '--scaling'"),
    ],
)
def test_wrong_usage(arguments, words, run):
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in plain(result.stderr)
    assert result.stdout == ""


@pytest.mark.parametrize("place", [0, 1, 2])
def test_debug_shows_the_traceback(place):
    arguments = ["baseline", "nothing.csv"]
    arguments.insert(place, "--debug")
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, kernreg.exceptions.InvalidInputError)
    assert "error:" not in result.stderr


def test_out_of_memory_is_one_line(refused, tables, tmp_path, monkeypatch):
    """Of NumPy itself, which no plan foresaw."""

    def fail(text):
        raise MemoryError("Unable to allocate 7 [TiB]")

    monkeypatch.setattr(fit, "parse_alpha", fail)
    message = refused("fit", tables.prices, "--out", tmp_path / "m")
    assert message == "Out of memory: Unable to allocate 7 [TiB]"


def test_warnings_are_one_line(run, tables, tmp_path, monkeypatch):
    alpha = fit.parse_alpha

    def warn(text):
        warnings.warn("first [bold]line\nsecond line", stacklevel=1)
        return alpha(text)

    monkeypatch.setattr(fit, "parse_alpha", warn)
    result = run("fit", tables.prices, "--out", tmp_path / "m")
    assert result.exit_code == 0
    assert "warning: first [bold]line second line\n" in result.stderr


def test_as_a_program(tmp_path):
    command = [sys.executable, "-m", "kernreg", "predict", "nothing", "iris"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: There is no model file nothing.\n"


def test_the_installed_command():
    (script,) = entry_points(group="console_scripts", name="kernreg")
    assert script.load() is main
