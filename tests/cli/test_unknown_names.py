"""Names of sets and columns that do not exist: the message lists those that do."""

import pytest

from kernreg.datasets.names import BUILTIN

COMMANDS = [
    ["baseline", "DATA"],
    ["fit", "DATA"],
    ["explain", "DATA"],
    ["predict", "MODEL", "DATA"],
]
COMMANDS += [["explain", "mlp(depth=2)", "--data", "DATA"]]


@pytest.fixture(params=COMMANDS, ids=" ".join)
def arguments(request, baseline_folder, empty):
    """``arguments(data)`` is a command on these data whose output would lie in ``empty``."""
    out = [] if request.param[0] == "explain" else ["--out", empty / "out"]

    def filled(data):
        places = {"DATA": data, "MODEL": baseline_folder}
        return [*(places.get(a, a) for a in request.param), *out]

    return filled


def test_set(arguments, refused):
    command = arguments("iriss")
    sets = f"; the sets are {', '.join(BUILTIN)}. Did you mean 'iris'?"
    if command == ["explain", "iriss"]:
        expected = "'iriss' is no network such as mlp(depth=2), no file and no scikit-learn set"
    else:
        expected = "There is no file 'iriss' and no scikit-learn set of that name"
    assert refused(*command) == expected + sets


def test_file(arguments, refused, tmp_path):
    """No guess where nothing is near, and one line however long the path is."""
    path = tmp_path / "a folder that is not there" / ("long_" * 30 + ".csv")
    message = refused(*arguments(path))
    assert f"There is no file '{path}'" in message or f"'{path}' is no network" in message
    assert "Did you mean" not in message


@pytest.mark.parametrize("command", ["baseline", "fit", "explain"])
@pytest.mark.parametrize(
    ("target", "hint"), [("prize", " Did you mean 'price'?"), ("42", ""), ("", "")]
)
def test_target(command, target, hint, refused, tables, empty):
    out = [] if command == "explain" else ["--out", empty / "out"]
    message = refused(command, tables.prices, "--target", target, *out)
    assert message == (
        f"{tables.prices} has no target column {target!r}; its columns are size, weight, colour, "
        f"price.{hint}"
    )


@pytest.mark.parametrize(("table", "target"), [("npy", "3"), ("npy", "price"), ("npz", "z")])
def test_target_in_arrays(table, target, refused, tables, empty):
    message = refused("fit", getattr(tables, table), "--target", target, "--out", empty / "out")
    known = "0, 1, 2." if table == "npy" else "X, y."
    assert f"{target!r}" in message
    assert known in message


@pytest.mark.parametrize("command", ["baseline", "fit"])
def test_what_was_there_stays(command, run, refused, tables, tmp_path):
    """A mistake in the second call must not cost the result of the first."""
    out = tmp_path / "out"
    quick = ["--quick"] if command == "baseline" else []
    assert run(command, tables.rings, *quick, "--out", out).exit_code == 0
    files = [p for p in (out, *out.glob("*")) if p.is_file()]
    before = {p: p.read_bytes() for p in files}
    quick.append("--overwrite")
    refused(command, tables.rings, *quick, "--target", "none", "--out", out)
    refused(command, tables.rings, *quick, "--max-memory", "1kB", "--out", out)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
