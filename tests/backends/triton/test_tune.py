"""The search for tiles, with made-up times; what is measured on a GPU runs interpreted here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gpu_checks, gpu_device, tune
from kernreg.backends.triton import tuning
from kernreg.backends.triton.tuning import PRECISIONS, Tile, tile
from tests.backends.compare import TRITON_DEVICE, needs_triton

pytestmark = needs_triton

PRESENT, *OTHERS = (Tile(size, 16, 16, 4, stages) for size in (32, 64, 128) for stages in (1, 2, 3))


class Gpu:
    """Times by tile, 1 s for all others; a clock that each attempt moves on by 1 s."""

    def __init__(self, times: dict[Tile, float], noise: float = 0.0) -> None:
        self.times, self.rng, self.noise = times, np.random.default_rng(0), noise
        self.now, self.order = 0.0, []

    def prepare(self, t: Tile) -> Callable[[], float]:
        self.now += 1.0

        def run() -> float:
            self.order.append(t)
            return self.times.get(t, 1.0) * (1 + self.noise * self.rng.standard_normal())

        return run

    def search(self, examine=lambda t: None, until=1e9):
        return tune.search(PRESENT, OTHERS, examine, self.prepare, until, lambda: self.now)


def test_the_fastest_is_chosen() -> None:
    best, trials = Gpu({OTHERS[3]: 0.5, OTHERS[5]: 0.4}, noise=0.05).search()
    assert best == OTHERS[5]
    assert [trial.tile for trial in trials] == [PRESENT, *OTHERS]
    finalists = [trial for trial in trials if len(trial.seconds) == tune.ROUNDS]
    assert {PRESENT, OTHERS[3], OTHERS[5]} <= {trial.tile for trial in finalists}
    assert len(finalists) == tune.FINALISTS + 1


def test_finalists_take_turns() -> None:
    """So that a GPU that slows down slows all of them."""
    found = Gpu({})
    found.search()
    rounds = np.array(found.order[len(OTHERS) + 1 :], dtype=object).reshape(tune.ROUNDS, -1, 5)
    assert (rounds == rounds[0]).all()


def test_spills_and_wrong_numbers_do_not_win() -> None:
    gpu_ = Gpu({OTHERS[0]: 0.1, OTHERS[1]: 0.2, OTHERS[2]: 0.5, OTHERS[4]: 0.3})
    right = gpu_.prepare

    def prepare(t: Tile) -> Callable[[], float]:
        if t == OTHERS[1]:
            raise ArithmeticError("error 0.1, allowed 1e-6")
        return right(t)

    gpu_.prepare = prepare
    best, trials = gpu_.search(lambda t: "8 bytes of stack" if t == OTHERS[0] else None)
    assert best == OTHERS[4]
    reasons = {trial.tile: trial.reason for trial in trials if trial.reason}
    assert reasons == {
        OTHERS[0]: "8 bytes of stack",
        OTHERS[1]: "ArithmeticError('error 0.1, allowed 1e-6')",
    }


def test_what_fails_in_the_final_does_not_win() -> None:
    gpu_ = Gpu({OTHERS[0]: 0.1, OTHERS[2]: 0.5})
    right = gpu_.prepare

    def prepare(t: Tile) -> Callable[[], float]:
        run, count = right(t), iter(range(99))

        def fragile() -> float:
            if t == OTHERS[0] and next(count) == 3:
                raise RuntimeError("launch failed")
            return run()

        return fragile

    gpu_.prepare = prepare
    assert gpu_.search()[0] == OTHERS[2]


@pytest.mark.parametrize("gain", [0.0, 0.015])
def test_no_change_within_the_least_gain(gain: float) -> None:
    assert Gpu({OTHERS[0]: 1.0 - gain}).search()[0] == PRESENT


def test_no_change_within_noise() -> None:
    """Times of the present tile spread by more than the other one is faster."""
    found = Gpu({OTHERS[0]: 0.9})
    spread = iter([1.0, *(1.0, 1.2, 0.8, 1.3, 0.7, 1.2, 0.9)])
    right = found.prepare
    found.prepare = lambda t: (lambda: next(spread)) if t == PRESENT else right(t)
    assert found.search()[0] == PRESENT


def test_a_present_tile_that_fails_is_replaced() -> None:
    failing = lambda t: "8 bytes of stack" if t == PRESENT else None  # noqa: E731
    assert Gpu({OTHERS[6]: 0.9}).search(failing)[0] == OTHERS[6]
    assert Gpu({}).search(lambda t: "8 bytes of stack")[0] == PRESENT


def test_time_is_bounded() -> None:
    _, trials = Gpu({}).search(until=3.0)
    assert [trial.tile for trial in trials] == [PRESENT, *OTHERS[:2]]
    _, trials = Gpu({}).search(until=0.0)
    assert [trial.tile for trial in trials] == [PRESENT]


@pytest.mark.parametrize(("template", "precision"), tune.CASES)
def test_candidates_are_legal(template: str, precision: str) -> None:
    present = tile(template, precision, 90)
    found = tune.candidates(template, present)
    assert len(found) > 20
    assert len(set(found)) == len(found)
    assert present not in found
    for t in found:
        assert min(t.BM, t.BN, t.BK) >= 16
        assert template != "gram" or t.BM % t.BN == 0
    changed = sum(
        a != b for a, b in zip(vars(found[0]).items(), vars(present).items(), strict=True)
    )
    assert changed == 1


TABLE = json.loads(tune.TABLE.read_text())


def test_an_entry_leaves_all_others_alone() -> None:
    new = Tile(16, 16, 16, 4, 1)
    table = tune.updated(TABLE, "gram", "tf32", 90, new)
    assert table["gram"]["tf32"].pop("90") == [16, 16, 16, 4, 1]
    assert table["gram"]["tf32"] == {"80": TABLE["gram"]["tf32"]["80"]}
    table["gram"]["tf32"] = TABLE["gram"]["tf32"]
    assert table == TABLE


def test_entries_of_new_devices() -> None:
    """Sorted by capability; none where an older one says the same."""
    new = Tile(16, 16, 16, 4, 1)
    table = tune.updated(TABLE, "multiply", "ieee", 86, new)
    assert list(table["multiply"]["ieee"]) == ["80", "86", "90"]
    table = tune.updated(table, "multiply", "ieee", 100, new)
    assert list(table["multiply"]["ieee"]) == ["80", "86", "90", "100"]
    assert tune.updated(TABLE, "gram", "ieee", 100, tile("gram", "ieee", 100)) == TABLE


def test_the_file_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tiles.json"
    path.write_text("before")
    tune.write(tune.text_of(TABLE), path)
    # The table in the repository has this layout, so that a change is one line.
    assert path.read_text() == tune.TABLE.read_text()
    with monkeypatch.context() as patch:
        patch.setattr(tune.os, "replace", lambda *args: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(OSError, match="full"):
            tune.write("half", path)
    assert path.read_text() == tune.TABLE.read_text()
    assert list(tmp_path.iterdir()) == [path]


def test_cases_are_those_of_the_table() -> None:
    assert {(t, p) for t, entries in TABLE.items() for p in entries} == set(tune.CASES)
    assert len(tune.CASES) == 3 * (len(PRECISIONS) + 1)


@pytest.mark.parametrize(
    ("template", "precision"),
    [("gram", "tf32x3"), ("multiply", "float64"), ("multiply_half", "ieee")],
)
def test_what_is_timed_is_checked(
    template: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_device, "DEVICE", TRITON_DEVICE)
    monkeypatch.setattr(gpu_device, "seconds", lambda run, repeat: run() is None or 3.0)
    t = Tile(64, 32, 16, 4, 1)
    assert tune.prepared(template, precision, t, n=70, d=5)() == 3.0
    monkeypatch.setattr(gpu_checks, "error_bound", lambda kind, precision: 1e-18)
    with pytest.raises(ArithmeticError, match="allowed 1e-18"):
        tune.prepared(template, precision, t, n=70, d=5)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[dict, dict]]:
    """The command on a GPU of capability 9.0 that likes tiles of 16 columns; table and report."""

    class Pool:
        def __init__(self, mp_context: object) -> None: ...
        def __enter__(self) -> Pool:
            return self

        def __exit__(self, *args: object) -> None: ...
        def map(self, work: object, batch: list) -> list[str | None]:
            return ["8 bytes of stack" if case[4].BK == 64 else None for case in batch]

    class Properties:
        name, major, minor, shared_memory_per_block_optin = "NVIDIA X", 9, 0, 232448

    table = tmp_path / "tiles.json"
    table.write_text(tune.TABLE.read_text())
    monkeypatch.setattr(tune, "TABLE", table)
    monkeypatch.setattr(tune.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(tune.torch.cuda, "get_device_properties", lambda number: Properties)
    monkeypatch.setattr(tune, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(
        tune, "prepared", lambda template, precision, t: lambda: 0.5 if t.BN == 16 else 1.0
    )
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)

    def command(*arguments: str) -> tuple[dict, dict]:
        monkeypatch.setattr("sys.argv", ["tune.py", "--out", str(tmp_path), *arguments])
        with pytest.raises(SystemExit) as left:
            tune.main()
        assert not left.value.code
        (report,) = tmp_path.glob("*-tune-nvidia-x.json")
        return json.loads(table.read_text()), json.loads(report.read_text())

    return command


def test_command(run: Callable[..., tuple[dict, dict]]) -> None:
    table, report = run("--minutes", "0.5")
    for template, precisions in table.items():
        for precision, entries in precisions.items():
            assert entries["80"] == TABLE[template][precision]["80"]
            assert entries["90"][1] == 16
    assert [(c["template"], c["precision"]) for c in report["cases"]] == tune.CASES
    for case in report["cases"]:
        assert case["chosen"] == table[case["template"]][case["precision"]]["90"]
        assert any(trial["seconds"] for trial in case["trials"])


def test_check_of_the_device(run: Callable[..., tuple[dict, dict]]) -> None:
    table, report = run("--device-check")
    assert table == TABLE
    assert all(len(case["trials"]) == 1 for case in report["cases"])


def test_every_template_is_given_the_tile() -> None:
    """For as long as it is used, and no longer."""
    t = Tile(16, 16, 16, 4, 1)
    with tune.using(t):
        assert tune.backend.tile("gram", "ieee", 90) == tune.backend.INTERPRETED == t
    assert tune.backend.tile is tuning.tile
    assert tune.backend.INTERPRETED is tuning.INTERPRETED
