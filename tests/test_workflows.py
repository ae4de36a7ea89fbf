"""The workflows run what everybody can run, with few rights, and end."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".github" / "workflows"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yml"))
TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)


def workflow(name):
    found = yaml.safe_load((FOLDER / f"{name}.yml").read_text())
    # YAML 1.1 reads the key `on` as a truth value.
    return found | {"on": found.pop(True)}


def steps(name):
    return [step for job in workflow(name)["jobs"].values() for step in job["steps"]]


def targets():
    return set(TARGET.findall((ROOT / "Makefile").read_text()))


def test_there_is_one_for_each_purpose():
    assert NAMES == ["benchmarks", "docs", "tests", "wheels"]


@pytest.mark.parametrize("name", NAMES)
def test_commands_are_make_targets_that_exist_or_ci(name):
    commands = [step["run"] for step in steps(name) if "run" in step]
    assert commands
    for command in commands:
        if command == ".ci/run":
            assert (ROOT / command).stat().st_mode & 0o100
            continue
        program, target, *_ = command.split()
        assert program == "make"
        assert target in targets(), f"make {target} does not exist"


def test_targets_are_read_from_the_makefile():
    assert {"test", "wheel", "wheel-test", "gate", "clean"} <= targets()
    assert not {"nothing", "PYTHON"} & targets()


@pytest.mark.parametrize("name", NAMES)
def test_actions_have_a_major_version(name):
    used = [step["uses"] for step in steps(name) if "uses" in step]
    assert used
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", action) for action in used)


@pytest.mark.parametrize("name", NAMES)
def test_rights_time_and_runs_at_once_are_limited(name):
    found = workflow(name)
    assert found["permissions"] == {"contents": "read"}
    assert "cancel-in-progress" in found["concurrency"]
    assert all(0 < job["timeout-minutes"] <= 90 for job in found["jobs"].values())
    checkouts = [s for s in steps(name) if s.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_benchmarks_run_weekly():
    (entry,) = workflow("benchmarks")["on"]["schedule"]
    minute, hour, day, month, weekday = entry["cron"].split()
    assert (day, month) == ("*", "*")
    assert all(part.isdigit() for part in (minute, hour, weekday))


def test_every_supported_python_is_tested_and_gets_a_wheel():
    jobs = workflow("tests")["jobs"]
    setup = next(s for s in jobs["everything"]["steps"] if "setup-python" in s.get("uses", ""))
    matrix = jobs["other-versions"]["strategy"]["matrix"]
    tested = {setup["with"]["python-version"], *matrix["python"]}
    command = next(s["run"] for s in steps("wheels") if s.get("run", "").startswith("make wheel "))
    built = set(re.findall(r"python(3\.\d+)", command))
    assert tested == built
    oldest = re.search(r'requires-python = ">=(3\.\d+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert oldest in tested
