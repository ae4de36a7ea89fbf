"""Which interpreters get wheels, and what the environments that try them see."""

import json
import sys
import zipfile
from pathlib import Path

import pytest

from tools import interpreters, wheel_test, wheels
from tools.interpreters import Interpreter, chosen, look_at

PYTHONS = [
    Interpreter("python3.11", (3, 11, 9)),
    Interpreter("python3.12", (3, 12, 4)),
]


def program(path, **answers):
    """One that says this of itself, whatever it is asked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    all_well = {"version": [3, 12, 4], "cpython": True, "headers": True, "venv": True}
    path.write_text(f"#!/bin/sh\necho '{json.dumps(all_well | answers)}'\n")
    path.chmod(0o755)
    return str(path)


def test_the_interpreter_that_runs_this():
    seen = look_at(sys.executable)
    assert seen.version == sys.version_info[:3]
    assert (seen.tag, seen.name) == (
        "cp{}{}".format(*sys.version_info),
        ".".join(map(str, sys.version_info[:3])),
    )


@pytest.mark.parametrize(
    ("answers", "lacks"),
    [
        ({}, ""),
        ({"version": [3, 10, 1]}, "a version that kernreg supports"),
        ({"cpython": False}, "the ABI that wheels are built for"),
        ({"headers": False, "venv": False}, "Python.h and venv and ensurepip"),
    ],
)
def test_what_an_interpreter_lacks(answers, lacks, tmp_path):
    path = program(tmp_path / "python", **answers)
    assert look_at(path).lacks == lacks
    if lacks:
        with pytest.raises(SystemExit, match=f"{path} lacks {lacks}"):
            chosen([path])
    else:
        assert chosen([path]) == [Interpreter(path, (3, 12, 4))]


def test_one_that_does_not_run(tmp_path):
    assert look_at(str(tmp_path / "nothing")) is None
    with pytest.raises(SystemExit, match="nothing does not run"):
        chosen([str(tmp_path / "nothing")])


def test_stand_ins_and_incomplete_ones_give_way_to_the_newest_of_a_folder(tmp_path, monkeypatch):
    path, versions = tmp_path / "path", tmp_path / "pyenv" / "versions"
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    program(path / "python3.11", version=[3, 11, 2], headers=False)
    first = program(versions / "3.11.7" / "bin" / "python3.11", version=[3, 11, 7])
    (path / "python3.12").write_text("#!/bin/sh\nexit 127\n")
    (path / "python3.12").chmod(0o755)
    program(versions / "3.12.1" / "bin" / "python3.12", version=[3, 12, 1])
    newest = program(versions / "3.12.4" / "bin" / "python3.12", version=[3, 12, 4])
    third = program(path / "python3.13", version=[3, 13, 0])
    assert [(one.path, one.tag) for one in interpreters.found()] == [
        (first, "cp311"),
        (newest, "cp312"),
        (third, "cp313"),
    ]


def test_none_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    with pytest.raises(SystemExit, match=r"no CPython from 3\.11 on"):
        chosen([])


def test_each_wheel_is_tried_by_the_python_it_is_for():
    def tag(name):
        return wheel_test.fitting(Path(f"kernreg-0.1.0-{name}.whl"), PYTHONS).tag

    assert tag("cp311-cp311-manylinux_2_34_x86_64") == "cp311"
    assert tag("cp312-cp312-manylinux_2_34_x86_64") == "cp312"
    assert tag("py3-none-any") == "cp312"
    with pytest.raises(SystemExit, match=r"no Python here for kernreg-0\.1\.0-cp313"):
        tag("cp313-cp313-manylinux_2_34_x86_64")


def test_an_environment_sees_no_compiler_and_nothing_of_this_one(tmp_path, monkeypatch):
    folder = tmp_path / "environment"
    (folder / "bin").mkdir(parents=True)
    (folder / "lib" / "python3.12" / "site-packages").mkdir(parents=True)
    for name in ("CC", "PYTHONPATH", "KERNREG_BACKEND", "PIP_TARGET"):
        monkeypatch.setenv(name, "something")
    made = wheel_test.Environment(folder, PYTHONS[1]).environ
    assert made["PATH"] == str(folder / "bin")
    assert not {"CC", "PYTHONPATH", "KERNREG_BACKEND", "PIP_TARGET"} & set(made)
    assert "HOME" in made


def test_compiled_modules_of_a_wheel(tmp_path):
    wheel = tmp_path / "one.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("kernreg/__init__.py", "kernreg/_core.so", "kernreg.libs/libgomp.so.1.0"):
            archive.writestr(name, "")
    assert wheels.extensions(wheel) == ["kernreg/_core.so", "kernreg.libs/libgomp.so.1.0"]
