"""How the gallery runs a script of ``examples``: with which options, and which picture it takes."""

from __future__ import annotations

import os
import shutil
import textwrap
from pathlib import Path
from typing import Any

from sphinx_gallery.scrapers import figure_rst

PICTURE = "picture.png"
# Those that would take a minute or more on one core run in their short form.
SHORT = {"deep_convolutions", "depth_to_width", "distillation", "images", "width"}


def arguments(gallery_conf: dict[str, Any], script: dict[str, Any]) -> list[str]:
    """Options of a script."""
    short = Path(script["src_file"]).stem in SHORT
    return [*(["--quick"] if short else []), "--out", PICTURE]


def picture(block: Any, script: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """The picture that a script has written, as it is in its own style and size."""
    import matplotlib.pyplot as plt

    plt.close("all")
    drawn = Path(script["src_file"]).parent / PICTURE
    if not drawn.is_file():
        return ""
    place = next(script["image_path_iterator"])
    shutil.move(drawn, place)
    title = Path(script["src_file"]).stem.replace("_", " ")
    shown = figure_rst([place], gallery_conf["src_dir"], f"picture of the example: {title}")
    # A container of its own can move sideways on a telephone.
    return f"\n.. container:: picture\n\n{textwrap.indent(shown, '   ')}\n"


class Order:
    """From simple to special, new scripts at the end."""

    FIRST = (
        "learning_curve.py",
        "intervals.py",
        "columns.py",
        "images.py",
        "ensemble.py",
        "criticality.py",
    )

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, file: str) -> tuple[int, str]:
        name = os.path.basename(file)
        return (self.FIRST.index(name) if name in self.FIRST else len(self.FIRST), name)
