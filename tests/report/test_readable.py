"""The report in a real browser is readable at 1200 pixels."""

import pytest

from tests.report.pages_of_tables import page_of

WIDTH = 1200

# Text nodes with the size of their letters on the screen, in SVG scaled with the drawing.
SIZES = """
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
while (walker.nextNode()) {
  const text = walker.currentNode.data.trim(), element = walker.currentNode.parentElement;
  if (!text || element.closest("style, script, defs")) continue;
  const matrix = element.getScreenCTM ? element.getScreenCTM() : null;
  const scale = matrix ? Math.sqrt(Math.abs(matrix.a * matrix.d - matrix.b * matrix.c)) : 1;
  const outer = element.closest("text") || element;
  const parts = [...outer.querySelectorAll("tspan")];
  const holders = parts.length ? parts : [outer];
  const largest = Math.max(...holders.map(e => parseFloat(getComputedStyle(e).fontSize)));
  const own = parseFloat(getComputedStyle(element).fontSize);
  found.push([outer.textContent.trim().slice(0, 40), scale * own, scale * largest]);
}
return found;
"""

# Elements that stick out of the window or hide a part of themselves to the right.
OVERFLOW = """
const width = document.documentElement.clientWidth, found = [];
for (const element of document.body.querySelectorAll("*")) {
  if (element.closest("defs, clipPath")) continue;
  const box = element.getBoundingClientRect();
  const name = element.tagName + ": " + element.textContent.trim().slice(0, 40);
  if (box.width && (box.right > width + 0.5 || box.left < -0.5)) found.push(name);
  if (!element.ownerSVGElement && element.clientWidth && element.scrollWidth > element.clientWidth)
    found.push(name);
}
return found;
"""

# Labels of a figure that are cut off at its edge. Boxes are taller than their letters.
CUT = """
const found = [];
for (const svg of document.querySelectorAll("svg")) {
  const frame = svg.getBoundingClientRect();
  for (const text of svg.querySelectorAll("text")) {
    const box = text.getBoundingClientRect(), space = 0.2 * Math.min(box.width, box.height);
    if (box.left < frame.left - 1 || box.right > frame.right + 1 ||
        box.top < frame.top - space || box.bottom > frame.bottom + space)
      found.push(text.textContent.trim());
  }
}
return found;
"""

# Pairs of labels along an axis that run into each other.
COLLISIONS = """
const found = [];
for (const svg of document.querySelectorAll("svg")) {
  const texts = [...svg.querySelectorAll('[id*="tick"] text, g[id*="tick"] text')]
    .filter(t => !(t.getAttribute("transform") || "").match(/rotate\\((?!-?0\\b)/));
  const boxes = texts.map(t => [t.textContent, t.getBoundingClientRect()]);
  for (let i = 0; i < boxes.length; i++) for (let j = 0; j < i; j++) {
    const [a, b] = [boxes[i][1], boxes[j][1]];
    const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    // The boxes include the space above and below the letters.
    if (width > 1 && height > 0.4 * Math.min(a.height, b.height))
      found.push(boxes[i][0].trim() + " / " + boxes[j][0].trim());
  }
}
return [found, document.querySelectorAll('[id*="tick"] text').length];
"""


@pytest.fixture(params=["regression", "classification", "long names", "many classes"])
def page(request, look):
    """The browser with a report of each task, and of names and classes that need room."""
    return look(page_of(request.param), WIDTH)


def test_the_console_is_listened_to(look):
    """So that tests without messages can fail."""
    seen = look("<script>console.error('heard')</script><img src='file:///no.png'>")
    assert any("heard" in entry["message"] for entry in seen.get_log("browser"))


def test_fits_the_window(page):
    assert page.execute_script("return window.innerWidth") == WIDTH
    page_width = page.execute_script("return document.documentElement.scrollWidth")
    assert page_width <= page.execute_script("return document.documentElement.clientWidth")
    assert page.execute_script(OVERFLOW) == []


def test_text_is_large_enough(page):
    sizes = page.execute_script(SIZES)
    assert len(sizes) > 100
    assert {text: round(size, 1) for text, _, size in sizes if size < 12} == {}


def test_exponents_are_legible(page):
    """matplotlib sets them at 70 % of their base."""
    sizes = page.execute_script(SIZES)
    assert {text: round(size, 1) for text, size, _ in sizes if size < 0.7 * 12 - 0.05} == {}


def test_figures_are_seen(page):
    boxes = page.execute_script(
        "return [...document.querySelectorAll('svg')].map(svg => svg.getBoundingClientRect())"
    )
    assert len(boxes) == 4
    for box in boxes:
        assert box["width"] > 400
        assert box["height"] > 250
    # Two columns, and nothing on top of anything else.
    assert boxes[0]["right"] < boxes[1]["left"]
    assert max(boxes[0]["bottom"], boxes[1]["bottom"]) < min(boxes[2]["top"], boxes[3]["top"])
    images = "return [...document.images].filter(i => !i.complete || !i.naturalWidth).length"
    assert page.execute_script(images) == 0


def test_figures_have_lines(page):
    """Every figure draws something within its frame besides axes and text."""
    drawn = page.execute_script(
        "return [...document.querySelectorAll('svg')].map(svg => [...svg.querySelectorAll("
        "'[clip-path] , image')].filter(e => e.getBoundingClientRect().width > 5).length)"
    )
    assert min(drawn) >= 1


def test_no_label_is_cut_off(page):
    assert page.execute_script(CUT) == []


def test_tick_labels_are_apart(page):
    collisions, count = page.execute_script(COLLISIONS)
    assert count > 20
    assert collisions == []


def test_tables_are_wide_enough_to_read(page):
    """No cell with a number is broken into lines."""
    heights = page.execute_script(
        "return [...document.querySelectorAll('td.n')].map(cell => {"
        "const range = document.createRange(); range.selectNodeContents(cell);"
        "return [cell.textContent, range.getClientRects().length]})"
    )
    assert len(heights) > 20
    assert [text for text, lines in heights if lines > 1] == []
