"""Links that are written for readers of plain files, turned into links of the site."""

from __future__ import annotations

import re

from sphinx.application import Sphinx

# A script has a page in the gallery, with its output and its picture.
SCRIPT = re.compile(r"\]\((?:\.\./)?examples/(\w+)\.py\)")


def to_gallery(text: str, above: str = "") -> str:
    """The text of a page with links to scripts turned into links to their pages.

    Parameters
    ----------
    text : str
        Markdown.
    above : str
        The way from the page to the folder ``docs``.

    Examples
    --------
    >>> to_gallery("[a script](../examples/width.py)")
    '[a script](gallery/width.rst)'
    """
    return SCRIPT.sub(rf"]({above}gallery/\1.rst)", text)


def _read(app: Sphinx, docname: str, source: list[str]) -> None:
    if app.env.doc2path(docname).suffix == ".md":
        source[0] = to_gallery(source[0], "../" * docname.count("/"))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
