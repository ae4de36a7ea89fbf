"""``--max-memory``: a clear error before any work, and nothing written."""

import pytest

from kernreg.baseline import TableModel


@pytest.fixture
def no_work(monkeypatch):
    def fail(*args, **kwargs):
        pytest.fail("a kernel was computed")

    monkeypatch.setattr("kernreg.backends.registry.bind", fail)
    monkeypatch.setattr("kernreg.solvers.all_ridges.AllRidges.init", fail)
    monkeypatch.setattr("kernreg.solvers.cholesky.in_memory.Cholesky.init", fail)


@pytest.mark.parametrize("max_memory", ["1B", "1kB", "20kB", "0.00004GB"])
@pytest.mark.parametrize("command", [["baseline", "--quick"], ["fit"], ["fit", "--alpha", "0.1"]])
def test_too_little(command, max_memory, refused, no_work, tables, empty):
    arguments = [command[0], tables.prices, *command[1:], "--max-memory", max_memory]
    message = refused(*arguments, "--out", empty / "out")
    assert "needs" in message
    assert "Remedies: allow " in message


@pytest.mark.parametrize("max_memory", ["0", "-1GB", "lots", "", "4XB", "nan", "inf", "4 G i"])
@pytest.mark.parametrize(
    "command",
    [
        ["baseline", "DATA"],
        ["fit", "DATA"],
        ["explain", "DATA"],
        ["explain", "mlp()", "--data", "DATA"],
    ],
    ids=" ".join,
)
def test_no_size(command, max_memory, refused, no_work, tables, empty):
    out = [] if command[0] == "explain" else ["--out", empty / "out"]
    filled = [tables.prices if word == "DATA" else word for word in command]
    message = refused(*filled, "--max-memory", max_memory, *out)
    assert "Expected --max-memory" in message
    assert repr(max_memory) in message


@pytest.mark.parametrize(
    ("size", "meant"), [("4", "4GB"), ("0.5", "0.5GB"), ("4096", "4096MB"), (" 16 ", "16GB")]
)
def test_a_unit_that_was_forgotten(size, meant, refused, no_work, tables, empty):
    for command in (["fit"], ["baseline"]):
        message = refused(*command, tables.prices, "--max-memory", size, "--out", empty / "out")
        assert f"--max-memory is {size!r}" in message
        assert f"did you mean {meant!r}?" in message


@pytest.mark.parametrize(
    "command", [["baseline", "--quick"], ["fit", "--alpha", "0.1"], ["fit"]], ids=" ".join
)
def test_the_remedy_works(command, run, refused, tables, tmp_path):
    arguments = [command[0], tables.prices, *command[1:], "--out", tmp_path / "out"]
    message = refused(*arguments, "--max-memory", "20kB")
    enough = message.split("Remedies: allow ")[1].split(" by --max-memory")[0]
    assert run(*arguments, "--max-memory", enough).exit_code == 0
    model = tmp_path / "out" / ("model.safetensors" if command[0] == "baseline" else "")
    assert TableModel.load(model).task == "regression"


def test_solver_and_type_of_a_remedy_are_options(run, refused, tmp_path):
    arguments = ["fit", "digits", "--max-memory", "20MB", "--out", tmp_path / "model"]
    assert "or use --solver cholesky, --dtype float32 (" in refused(*arguments)
    found = run(*arguments, "--solver", "cholesky", "--dtype", "float32", "--alpha", "1e-3")
    assert found.exit_code == 0


def test_units(run, tables, tmp_path):
    for size in ("1000000", "1MB", "1 mb", "0.001GB", "1MiB"):
        arguments = ["fit", tables.prices, "--max-memory", size, "--out", tmp_path / size]
        assert run(*arguments).exit_code == 0
