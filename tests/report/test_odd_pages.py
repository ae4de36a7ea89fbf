"""In a browser: names that are code or long, narrow windows, print, and the smallest baseline."""

import itertools

import pytest

from kernreg.report import render
from tests.baseline.problems import quick, regression_table, saved
from tests.report.pages_of_tables import HOSTILE, LONG, TABLES, page_of

# What the browser made of the page: children of an inline <svg> must be SVG to be drawn.
DRAWN = """
return [...document.querySelectorAll("svg")].map(svg => {
  const box = svg.getBoundingClientRect(), frame = svg.parentElement.getBoundingClientRect();
  const foreign = [...svg.querySelectorAll("*")].filter(e => e.namespaceURI !== svg.namespaceURI);
  const uses = [...svg.querySelectorAll("use")];
  return {
    inside: box.right <= frame.right,
    foreign: foreign.length, uses: uses.length,
    empty: uses.filter(u => !document.querySelector(u.getAttribute("xlink:href"))).length,
  };
});
"""


def page_width(browser):
    return browser.execute_script("return document.documentElement.scrollWidth")


@pytest.mark.parametrize("name", list(TABLES))
def test_drawn(name, look):
    seen = look(page_of(name))
    assert seen.get_log("browser") == []
    assert seen.execute_script("return performance.getEntriesByType('resource').length") == 0
    figures = seen.execute_script(DRAWN)
    assert len(figures) == 4
    for figure in figures:
        assert figure["inside"]
        assert figure["uses"] > 4  # ticks
        assert (figure["foreign"], figure["empty"]) == (0, 0)


@pytest.mark.parametrize("width", [800, 400])
@pytest.mark.parametrize("name", list(TABLES))
def test_no_sideways_scrolling(name, width, look):
    assert page_width(look(page_of(name), width)) <= width


def test_names_are_shown_and_not_run(look):
    seen = look(page_of("hostile"))
    assert seen.get_log("browser") == []
    assert seen.execute_script("return document.querySelectorAll('img, script').length") == 0
    assert seen.title == "a & <b>bold<: infinite-width baseline"
    text = seen.execute_script("return document.body.innerText")
    assert f"regression of {HOSTILE} from 4 features" in " ".join(text.split())


def test_the_long_name_is_there(look):
    """Shortened where there is no room perhaps, but readable in full once."""
    text = look(page_of("long names")).execute_script("return document.body.textContent")
    assert text.count(LONG) >= 2


def test_narrow_windows_have_one_column(look):
    """Figures stand below each other instead of shrinking beyond reading."""
    seen = look(page_of("regression"), 700)
    boxes = seen.execute_script(
        "return [...document.querySelectorAll('figure')].map(f => f.getBoundingClientRect())"
    )
    assert len({box["left"] for box in boxes}) == 1
    assert all(a["bottom"] < b["top"] for a, b in itertools.pairwise(boxes))
    assert min(box["width"] for box in boxes) > 600


def test_print(look):
    """Paper of A4 is about 794 pixels wide: nothing may be cut off there."""
    seen = look(page_of("regression"), 794)
    seen.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert page_width(seen) <= 794
    hidden = "return [...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > "
    assert seen.execute_script(hidden + "e.clientWidth).length") == 0


def test_smallest_baseline(look, tmp_path):
    """Ten rows, two of them for testing, two for training."""
    page = render(quick(saved(regression_table(10), tmp_path, "ten"), max_rows=2))
    seen = look(page)
    assert seen.get_log("browser") == []
    assert len(seen.execute_script(DRAWN)) == 4
    text = seen.execute_script("return document.body.innerText")
    assert "2 / 2" in text
    assert "nan" not in text.lower().split()
