"""Looks through the built site: links, clicks from the start page, public names.

python docs/_ext/check.py docs/_build/html
"""

from __future__ import annotations

import sys
from collections import deque
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import reference

CLICKS = 3
# The search has an entry of its own on every page, which is no link.
ALONE = {"search.html"}


class Links(HTMLParser):
    """Targets of links, sources of pictures and scripts, and what can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.files: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if found.get("id"):
            self.anchors.add(str(found["id"]))
        if tag == "a" and found.get("href"):
            self.links.append(str(found["href"]))
        if tag == "link" and "stylesheet" in (found.get("rel") or ""):
            self.files.append(str(found["href"]))
        if tag in ("img", "script") and found.get("src"):
            self.files.append(str(found["src"]))


def read(site: Path) -> dict[Path, Links]:
    """All pages."""
    # The theme keeps a template among its files.
    found = [page for page in sorted(site.rglob("*.html")) if "_static" not in page.parts]
    return {page.resolve(): Links(page.read_text(encoding="utf-8")) for page in found}


def target(page: Path, link: str) -> tuple[Path, str] | None:
    """File and anchor of a local link."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    place = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    return place, unquote(parts.fragment)


def dead(pages: dict[Path, Links]) -> list[str]:
    """Local links to nowhere, and files that come from elsewhere."""
    found = []
    for page, links in pages.items():
        for link in links.links + links.files:
            if (place := target(page, link)) is None:
                if link in links.files:
                    found.append(f"{page.name}: {link} is loaded from elsewhere")
                continue
            file, anchor = place
            if not file.exists():
                found.append(f"{page.name}: {link}")
            elif anchor and file in pages and anchor not in pages[file].anchors:
                found.append(f"{page.name}: {link} has no such place")
    return found


def far(pages: dict[Path, Links], start: Path) -> list[str]:
    """Pages that take more clicks from the start page than they should, or have no way."""
    clicks, queue = {start: 0}, deque([start])
    while queue:
        page = queue.popleft()
        for link in pages[page].links:
            place = target(page, link)
            if place is not None and place[0] in pages and place[0] not in clicks:
                clicks[place[0]] = clicks[page] + 1
                queue.append(place[0])
    wanted = [page for page in pages if page.name not in ALONE]
    return [
        f"{page.name}: {clicks.get(page, 'any number of')} clicks from the start page"
        for page in wanted
        if clicks.get(page, CLICKS + 1) > CLICKS
    ]


def nameless(pages: dict[Path, Links]) -> list[str]:
    """Public names that no page describes: a description is an anchor with the full name."""
    known = set().union(*(links.anchors for links in pages.values()))
    modules = {f"module-{name}" for name in reference.PUBLIC}
    wanted = {full for full in reference.homes().values() if full not in reference.PUBLIC}
    return [f"{name} has no entry" for name in sorted((wanted | modules) - known)]


def main(site: Path) -> int:
    """Print what is wrong; returns how much."""
    pages = read(site)
    problems = dead(pages) + far(pages, (site / "index.html").resolve()) + nameless(pages)
    print("\n".join(problems) or f"{len(pages)} pages: links, clicks and names are right.")
    return len(problems)


if __name__ == "__main__":
    sys.exit(min(main(Path(sys.argv[1])), 1))
