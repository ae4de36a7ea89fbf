"""What the benchmark gate concludes from ratios; nothing is timed here."""

import json

import pytest

from benchmarks import gate
from benchmarks.gate_steps import STEPS, Step, limit

KNOWN = {
    "A, avx2": {"gram": 1.0, "fit": 4.0},
    "B, avx2": {"gram": 2.0, "fit": 3.0},
    "C, avx512": {"gram": 9.0, "fit": 9.0},
}


def step(name):
    return Step(name, "float64", 1.0, lambda: lambda: None)


def judged(tries, against):
    """What fails when measurements give these ratios in turn, and how often each step ran."""
    left = {name: list(ratios) for name, ratios in tries.items()}
    lines = []
    slow = gate.failed(
        [step(name) for name in tries], against, lambda s: left[s.name].pop(0), lines.append
    )
    return slow, {name: len(tries[name]) - len(left[name]) for name in tries}, lines


def test_a_step_may_be_half_as_slow_again_but_no_more():
    assert judged({"gram": [3.0]}, {"gram": 2.0})[0] == []
    (line,) = judged({"gram": [3.01] * 4}, {"gram": 2.0})[0]
    assert line.startswith("gram: 3.01 times the limit (float64), committed are 2.00")
    assert line.endswith("best of 4 tries")


def test_the_best_of_four_tries_counts_and_none_is_made_in_vain():
    slow, runs, lines = judged({"gram": [9, 9, 9, 1.1], "fit": [1.0, 9]}, {"gram": 1, "fit": 1})
    assert (slow, runs) == ([], {"gram": 4, "fit": 1})
    assert "best of 4 tries" in lines[0]
    assert "tries" not in lines[1]


def test_each_slow_step_is_named():
    slow, _, _ = judged({"gram": [9] * 4, "fit": [1], "solve": [7] * 4}, dict.fromkeys(KNOWN, 1))
    assert [line.partition(":")[0] for line in slow] == ["gram", "fit", "solve"]
    slow, _, _ = judged(
        {"gram": [9] * 4, "fit": [1], "solve": [7] * 4}, {"gram": 1, "fit": 1, "solve": 1}
    )
    assert [line.partition(":")[0] for line in slow] == ["gram", "solve"]


def test_a_step_that_nothing_is_known_of_fails_without_being_measured():
    slow, runs, _ = judged({"new": [1.0]}, {"gram": 1.0})
    assert "no ratio is committed" in slow[0]
    assert runs == {"new": 0}


@pytest.mark.parametrize(
    ("this", "ratios", "words"),
    [
        ("B, avx2", KNOWN["B, avx2"], "Compared with B, avx2."),
        ("D, avx2", {"gram": 2.0, "fit": 4.0}, "of A, avx2 and B, avx2"),
        ("D, avx512", KNOWN["C, avx512"], "of C, avx512"),
        ("D, baseline", {"gram": 9.0, "fit": 9.0}, "of any processor"),
    ],
)
def test_what_is_compared_with(this, ratios, words):
    found, where = gate.committed(this, KNOWN)
    assert found == ratios
    assert words in where
    assert this in where


def test_every_step_has_a_committed_ratio_for_every_processor():
    text = json.loads(gate.RESULTS.read_text())
    names = {step.name for step in STEPS}
    assert len(names) == len(STEPS)
    assert text["processors"]
    for record in text["processors"].values():
        assert set(record["ratios"]) == names
        assert min(record["ratios"].values()) > 0


def test_a_ratio_is_time_by_the_time_at_the_limit(monkeypatch):
    """A step of half the operations of its limit, that takes three times as long: six."""
    clock = iter([1.0, 3.0] * 5)
    monkeypatch.setattr(gate, "_LONG_ENOUGH", 0)
    monkeypatch.setattr(gate, "limit", lambda name: (lambda: None, 2.0))
    monkeypatch.setattr(gate, "seconds", lambda action: next(clock))
    assert gate.measured(step("gram")) == 6.0


@pytest.mark.parametrize("name", sorted({step.limit for step in STEPS}))
def test_limits_do_what_they_count(name):
    action, count = limit(name)
    assert count > 0
    action()


def test_the_command_fails_with_the_name_of_the_step(tmp_path, monkeypatch, capsys):
    record = {"ratios": {step.name: 1.0 for step in STEPS}}
    text = {"processors": {gate.kind(): record}}
    path = tmp_path / "gate.json"
    path.write_text(json.dumps(text))
    monkeypatch.setattr(gate, "RESULTS", path)
    monkeypatch.setattr("sys.argv", ["gate"])
    monkeypatch.setattr(gate.failed, "__defaults__", (lambda s: 1.0 + ("Erf" in s.name), print))
    with pytest.raises(SystemExit) as stop:
        gate.main()
    assert "Gram, Erf, depth 3: 2.00 times the limit" in str(stop.value)
    assert "Tanh" not in str(stop.value)
    assert f"Compared with {gate.kind()}." in capsys.readouterr().out
