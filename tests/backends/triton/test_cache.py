"""Generated code on disk: kept for readers, and never what is executed."""

from __future__ import annotations

import inspect
import os
import py_compile
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from kernreg.backends.triton import cache

FOREIGN = 54321


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("KERNREG_CACHE", str(tmp_path / "cache"))
    cache.load.cache_clear()
    yield tmp_path / "cache" / "triton"
    cache.load.cache_clear()


def again(text: str) -> object:
    """Load as another process would."""
    cache.load.cache_clear()
    return cache.load(text).value


def test_written_once_and_read_again(folder: Path) -> None:
    module = cache.load("value = 7")
    (path,) = folder.iterdir()
    assert (module.value, path.read_text(), module.__file__) == (7, "value = 7", str(path))
    before = path.stat().st_mtime_ns
    assert again("value = 7") == 7
    assert path.stat().st_mtime_ns == before


def test_source_is_found_by_those_who_read_it(folder: Path) -> None:
    """As Triton does; a file that changed or is gone is nothing to it."""
    text = "def kernel(x):\n    return x + 1\n\n\nvalue = kernel(1)\n"
    module = cache.load(text)
    (path,) = folder.iterdir()
    for change in (lambda: path.write_text("value = 0\n" * 9), path.unlink):
        change()
        assert inspect.getsource(module.kernel) == "def kernel(x):\n    return x + 1\n"
        assert inspect.getsourcelines(module.kernel)[1] == 1
    assert sys.modules[module.__name__] is module


def test_the_folder_is_private(folder: Path) -> None:
    cache.load("value = 1")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o755)  # as earlier versions made it
    assert again("value = 2") == 2
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_bytecode_beside_a_source_is_not_executed(folder: Path, tmp_path: Path) -> None:
    """Python would take it, as it has the size and time of the source."""
    text = "value = 'mine'"
    cache.load(text)
    (path,) = folder.iterdir()
    planted = tmp_path / "planted.py"
    planted.write_text("value = 'evil'")
    os.utime(planted, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    for target in (Path(cache_from_source(str(path))), path.with_suffix(".pyc")):
        target.parent.mkdir(exist_ok=True)
        py_compile.compile(str(planted), str(target))
    assert again(text) == "mine"


def test_no_bytecode_is_written(folder: Path) -> None:
    cache.load("value = 3")
    assert [path.suffix for path in folder.iterdir()] == [".py"]


@pytest.mark.parametrize("content", ["value = 'evil'", "raise SystemExit", "", "\0"])
def test_a_file_that_somebody_changed_is_replaced(content: str, folder: Path) -> None:
    cache.load("value = 'mine'")
    (path,) = folder.iterdir()
    path.write_text(content)
    assert again("value = 'mine'") == "mine"
    assert path.read_text() == "value = 'mine'"


def test_a_file_that_is_a_link_is_replaced(folder: Path, tmp_path: Path) -> None:
    cache.load("value = 'mine'")
    (path,) = folder.iterdir()
    other = tmp_path / "other.py"
    other.write_text("value = 'mine'")
    path.unlink()
    path.symlink_to(other)
    assert again("value = 'mine'") == "mine"
    assert not path.is_symlink()
    assert other.read_text() == "value = 'mine'"


def is_a_link(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir(parents=True)
    folder.symlink_to(folder.parent / "elsewhere")


def is_a_file(folder: Path) -> None:
    folder.parent.mkdir()
    folder.touch()


def is_open_to_a_group(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o770)


def is_open_to_all(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o1777)


def has_another_owner(folder: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a folder away")
    folder.mkdir(parents=True, mode=0o700)
    os.chown(folder, FOREIGN, FOREIGN)


@pytest.mark.parametrize(
    "prepare",
    [is_a_link, is_a_file, is_open_to_a_group, is_open_to_all, has_another_owner],
    ids=lambda prepare: prepare.__name__,
)
def test_a_folder_of_others_is_not_used(
    prepare: Callable[[Path], None], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepare(folder)
    module = cache.load("value = 5")
    assert module.value == 5
    assert "is not kept in" in caplog.text
    if folder.is_dir():
        assert list(folder.iterdir()) == []
    own = Path(module.__file__ or "").parent
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    assert own.parent == Path(tempfile.gettempdir())


def test_the_temporary_folder_has_no_name_that_others_know(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_a_file(folder)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names = set()
    for _ in range(3):
        cache._temporary.cache_clear()
        cache.load.cache_clear()
        names.add(Path(cache.load("value = 6").__file__ or "").parent.name)
    assert len(names) == 3
    assert f"kernreg-{os.getuid()}" not in names
    cache._temporary.cache_clear()


def test_nothing_can_be_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_a_file(folder)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    cache._temporary.cache_clear()
    with pytest.raises(OSError, match="name a writable folder by KERNREG_CACHE"):
        cache.load("value = 9")
