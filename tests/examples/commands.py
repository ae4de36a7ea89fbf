"""The commands of README and docs run as they are written; CI calls this, as it takes minutes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = ["README.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))]


def commands(page: str) -> list[str]:
    """Lines of ``sh`` blocks that call kernreg, in their order."""
    blocks = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    return [line for block in blocks for line in block.splitlines() if line.startswith("kernreg ")]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_page(page: str, tmp_path: Path) -> None:
    for line in commands(page):
        call = line.replace("kernreg", f"{sys.executable} -m kernreg", 1)
        run = subprocess.run(["bash", "-c", call], cwd=tmp_path, capture_output=True, text=True)
        assert run.returncode == 0, f"{line}\n{run.stdout}\n{run.stderr}"
        assert run.stdout, line
