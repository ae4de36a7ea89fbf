"""The documentation site, built by ``make docs``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
# Pictures show the data that everyone has.
os.environ.pop("KERNREG_DATA", None)

import kernreg

project = "kernreg"
author = "kernreg contributors"
copyright = author
version = release = kernreg.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "links",
    "mathml",
    "reference",
]
exclude_patterns = ["_build", "_templates", "gallery/*.py.md5", "gallery/*.codeobj.json"]
templates_path = ["_templates"]
nitpicky = False  # types in docstrings are words, not names

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autosummary_generate = True
smartquotes = False  # names and code in docstrings stay as they are
toc_object_entries_show_parents = "hide"
autodoc_typehints = "none"  # docstrings say more: shapes and what is allowed
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # the page of a class has them in full
numpydoc_xref_param_type = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "backreferences_dir": "gallery/backreferences",  # pages of names show the scripts with them
    "doc_module": ("kernreg",),
    "reference_url": {"kernreg": None},
    "filename_pattern": r"\.py$",
    "image_scrapers": ("scripts.picture",),
    "reset_argv": "scripts.arguments",
    "within_subsection_order": "scripts.Order",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "write_computation_times": False,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 0,
    "thumbnail_size": (560, 350),
}

html_theme = "pydata_sphinx_theme"
html_title = "kernreg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_domain_indices = False  # the list of modules is a page of its own
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "header_links_before_dropdown": 6,
    "navbar_persistent": ["search-button"],
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {
    "index": [],
    "first_ten_minutes": [],
}
