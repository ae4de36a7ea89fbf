"""The Python of the documentation runs as it is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


PAGES = [page.stem for page in DOCS.glob("*.md") if BLOCK.search(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", ["../README", *sorted(PAGES)])
def test_page(page, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((DOCS / f"{page}.md").read_text(encoding="utf-8"))
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, f"{page}.md", "exec"), names)
        assert block.count("print(") <= len(capsys.readouterr().out.splitlines())
    assert blocks
