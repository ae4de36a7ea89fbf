"""What the command line says: progress off a terminal, Ctrl-C, advice that fits."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

from kernreg.cli import console
from kernreg.cli.console import Lines, progress
from kernreg.exceptions import JitterWarning
from kernreg.solvers import PCG, OutOfCoreCholesky, SketchAndProject
from tests.baseline.problems import regression_table

ONE = ["--network", "mlp(depth=1)", "--alpha", "0.01"]


def test_help_loads_neither_torch_nor_scipy():
    script = (
        "import sys\nfrom kernreg.cli import app\n"
        "for words in (['--help'], ['fit', '--help'], ['theory', '--help'], ['--version']):\n"
        "    app(words, standalone_mode=False)\n"
        "heavy = {'torch', 'scipy', 'sklearn', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class TestCtrlC:
    @pytest.fixture
    def stopped(self, run, tables, tmp_path, monkeypatch):
        """``stopped(solver class, options)``: what a fit says that ends in its iterations."""

        def fit(solver, method, *options):
            real = getattr(solver, method)

            def interrupted(self, *args, **kwargs):
                real(self, *args, **kwargs)
                raise KeyboardInterrupt

            monkeypatch.setattr(solver, method, interrupted)
            result = run("fit", tables.prices, *ONE, *options, "--out", tmp_path / "model")
            assert result.exit_code == 130
            assert not (tmp_path / "model").exists()
            assert result.stderr.splitlines()[-1].startswith("interrupted: ")
            return result.stderr

        return fit

    def test_checkpoint(self, stopped, tmp_path):
        place = tmp_path / "iterates"
        told = stopped(PCG, "solve", "--solver", "pcg", "--checkpoint", place)
        assert f"{place} keeps the iterates: the same command goes on." in told

    def test_factor(self, stopped, tmp_path):
        place = tmp_path / "factor"
        told = stopped(OutOfCoreCholesky, "init", "--solver", "out-of-core", "--folder", place)
        assert f"{place} keeps what is factored: the same command goes on." in told

    def test_nothing_is_kept(self, stopped):
        told = stopped(SketchAndProject, "solve", "--solver", "sketch")
        assert "nothing is kept" in told
        assert "--solver pcg --checkpoint FILE" in told

    def test_baseline_and_gram(self, run, tables, tmp_path, monkeypatch):
        pytest.importorskip("zarr")

        def interrupted(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr("kernreg.baseline.run", interrupted)
        monkeypatch.setattr("kernreg.operators.write_store", interrupted)
        told = run("baseline", tables.prices, "--out", tmp_path / "out")
        assert (told.exit_code, "nothing was written" in told.stderr) == (130, True)
        told = run("gram", tables.prices, "--out", tmp_path / "store")
        assert (told.exit_code, "the same command goes on there" in told.stderr) == (130, True)


class TestProgress:
    def test_lines_off_a_terminal(self, capsys, monkeypatch):
        said = []
        monkeypatch.setattr(Lines, "first", 0.01)
        monkeypatch.setattr(Lines, "every", 0.01)
        monkeypatch.setattr(console.stderr, "print", lambda text, **_: said.append(text))
        with progress() as move:
            move(1, 4, "kernels")
            for _ in range(1000):
                if len(said) > 1:
                    break
                time.sleep(0.01)
        assert said[0].startswith("note: kernels: 1 of 4, ")
        assert " so far, about " in said[0]

    def test_short_work_says_nothing(self, run, tables, tmp_path):
        result = run("fit", tables.prices, *ONE, "--out", tmp_path / "m")
        assert "so far" not in result.stderr

    def test_an_estimate_is_of_the_present_stage(self):
        """5 steps in 10 seconds after a stage of 100."""
        moments = iter([0.0, 100.0, 100.0, 110.0, 110.0])
        lines = Lines("", lambda: next(moments))
        lines.move(7, 7, "first")
        lines.move(0, 20, "second")
        lines.move(5, 20, "second")
        assert str(lines) == "second: 5 of 20, 1.8 min so far, about 30.0 s more"

    def test_an_estimate_leaves_out_what_was_there(self):
        """Three tiles were there before a kill; two more took 10 seconds each."""
        moments = iter([0.0, 1.0, 1.0, 1.01, 1.02, 1.03, 11.03, 21.03, 21.03])
        lines = Lines("", lambda: next(moments))
        for done in range(6):
            lines.move(done, 9, "tiles")
        lines.move(5, 9, "tiles")
        assert str(lines) == "tiles: 5 of 9, 21.0 s so far, about 40.0 s more"

    def test_a_fit_moves_it(self, run, tables, tmp_path, monkeypatch):
        seen = []
        monkeypatch.setattr(Lines, "move", lambda self, *step: seen.append(step))
        assert run("fit", tables.prices, *ONE, "--out", tmp_path / "m").exit_code == 0
        assert any(done == total > 0 for done, total, _ in seen)
        assert all("KernelRegressor" in text for _, _, text in seen)


class TestAdvice:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_jitter(self, dtype, run, tmp_path):
        frame = regression_table(30)[["size", "weight", "price"]].to_numpy()
        apart = 1e-6 if dtype == "float32" else 1e-15  # rows that are equal would become one
        np.save(tmp_path / "t.npy", np.vstack([frame, frame * (1 + apart)]))
        options = ["--alpha", "1e-30", "--solver", "cholesky", "--dtype", dtype]
        result = run("fit", tmp_path / "t.npy", *options, "--out", tmp_path / "m")
        assert "added a jitter" in result.stderr
        assert "raise --alpha or " in result.stderr
        assert ("--dtype float64" in result.stderr) == (dtype == "float32")

    def test_a_solver_that_gave_up(self, run, tmp_path):
        """The model is there, and the exit code says that it is not what was asked for."""
        options = ["--solver", "sketch", "--alpha", "1e-9", "--tol", "1e-15"]
        result = run("fit", "diabetes", *options, "--out", tmp_path / "m")
        assert result.exit_code == 1
        assert (tmp_path / "m").is_file()
        last = result.stderr.splitlines()[-1]
        assert last.startswith("not converged: the relative residual is still ")
        assert "use --solver pcg" in last
        assert "float64" not in last
        assert "max_passes" not in result.stderr

    def test_classes_that_look_like_numbers(self, refused, tmp_path, empty):
        np.save(tmp_path / "t.npy", np.array([[0.1, 1.0], [0.2, 0.0], [0.4, 1.0]]))
        message = refused("fit", tmp_path / "t.npy", "--out", empty / "m")
        assert "has 2 classes in 3 rows" in message
        assert "use --task regression" in message


@pytest.fixture
def things(run, tables, tmp_path, monkeypatch):
    """A table, a model and the JSON of a network in the working directory."""
    from kernreg import nn

    regression_table().to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "net.json").write_text(nn.to_json(nn.mlp(1)))
    monkeypatch.chdir(tmp_path)
    assert run("fit", "t.csv", *ONE, "--out", "m").exit_code == 0
    return tmp_path


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["fit", "mlp(depth=1)", "--out", "x"], "`kernreg fit DATA --network NETWORK`"),
        (["fit", "m", "--out", "x"], "`kernreg predict m DATA`"),
        (["fit", "net.json", "--out", "x"], "--network net.json"),
        (["fit", "t.csv", "--network", "t.csv", "--out", "x"], "no JSON of a network"),
        (["predict", "t.csv", "m"], "the model comes first"),
        (["predict", "m", "m"], "m is a model, not data"),
        (["predict", "m", "mlp(depth=1)"], "`kernreg predict MODEL DATA`"),
        (["baseline", "m", "--out", "x"], "m is a model, not data"),
        (["baseline", "Relu()", "--out", "x"], "`kernreg baseline DATA`"),
        (["gram", "m", "--out", "x"], "m is a model, not data"),
        (["gram", "mlp(depth=1)", "--out", "x"], "`kernreg gram DATA --network NETWORK`"),
        (["explain", "t.csv", "--data", "mlp(depth=1)"], "kernreg explain NETWORK --data t.csv"),
        (["explain", "mlp(depth=1)", "--data", "m"], "m is a model, not data"),
        (["explain", "m"], "m is a model, not data"),
        (["theory", "criticality", "t.csv"], "no JSON of a network"),
        (["theory", "learning-curve", "mlp(depth=1)"], "learning-curve DATA --network NETWORK"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_swapped_arguments(command, words, refused, things):
    before = sorted(os.listdir(things))
    assert words in refused(*command)
    assert sorted(os.listdir(things)) == before


def test_a_warning_names_options(run, tables, tmp_path, monkeypatch):
    from kernreg.cli import fit

    alpha = fit.parse_alpha

    def warn(text):
        warnings.warn("raise alpha, use dtype float64 or max_memory", JitterWarning, stacklevel=1)
        return alpha(text)

    monkeypatch.setattr(fit, "parse_alpha", warn)
    result = run("fit", tables.prices, *ONE, "--out", tmp_path / "m")
    assert "raise --alpha, use --dtype float64 or --max-memory" in result.stderr
