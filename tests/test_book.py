"""The built book, page by page, as a reader meets it: in a browser, on a phone, in the dark."""

import ast
import json
import re
from functools import cache
from urllib.parse import unquote, urlsplit

import pytest
from conftest import FITTED, ROOT

from tools import names

bs4 = pytest.importorskip("bs4")

# Chapters first: so a page has one place in every list below, and pytest opens it once for all its tests.
CHAPTERS, TEXTS = (sorted(p.stem for p in (ROOT / "book").glob(f"*.{kind}")) for kind in ("ipynb", "md"))
PAGES = CHAPTERS + TEXTS
MADE_BY_SPHINX = ["genindex", "index", "search"]

every_page = pytest.mark.parametrize("name", PAGES)
every_chapter = pytest.mark.parametrize("name", CHAPTERS)
both_ways = pytest.mark.parametrize("by", ["http", "file"])


@cache
def parse(html, name):
    return bs4.BeautifulSoup((html / f"{name}.html").read_text(encoding="utf8"), "html.parser")


def cells_of(name):
    """The cells of a chapter, each one's source as one text."""
    cells = json.loads((ROOT / "book" / f"{name}.ipynb").read_text("utf-8"))["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in cells]


# Without a browser -----------------------------------------------------------------------


def test_book_builds_without_a_warning(build):
    status, log, _ = build
    assert status == 0, log


def test_every_source_is_a_page_and_every_page_is_tested(html):
    assert {page.stem for page in html.glob("*.html")} == {*PAGES, *MADE_BY_SPHINX}


def test_every_theorem_and_every_figure_is_listed(html):
    listed = {link.get_text() for link in parse(html, "theorems").select("article li a")}
    called = {name for name in names.labels().values() if not name.startswith(("(", "Exercise"))}
    assert len(called) > 100 and called <= listed, called - listed


@pytest.mark.parametrize("name", PAGES + MADE_BY_SPHINX)
def test_no_script_style_font_or_picture_from_outside(html, name):
    outside = re.compile(r"^\s*(https?:)?//")
    for tag in parse(html, name).find_all(["script", "link", "img", "iframe", "source", "use"]):
        address = tag.get("src") or tag.get("href") or ""
        assert not outside.match(address), f"{tag.name} from {address}"


def test_the_icon_that_browsers_ask_the_root_for_is_there(html):
    assert (html / "favicon.ico").exists()


def test_no_style_sheet_reaches_outside(html):
    for sheet in html.rglob("*.css"):
        text = sheet.read_text(encoding="utf8")
        found = re.search(r"""(url\(|@import)\s*["']?(https?:)?//[^)]*""", text)
        assert not found, f"{sheet.name}: {found[0]}"


@cache
def places(html, name):
    return {tag["id"] for tag in parse(html, name).select("[id]")}


@every_page
def test_every_link_inside_the_book_leads_somewhere(html, name):
    for link in parse(html, name).select("a[href]"):
        address = urlsplit(link["href"])
        if address.scheme or address.netloc:
            continue
        target = html / unquote(address.path or f"{name}.html")
        assert target.exists(), link["href"]
        if address.fragment and target.suffix == ".html":
            assert unquote(address.fragment) in places(html, target.stem), link["href"]


@pytest.mark.parametrize("name", [name for name in CHAPTERS if name[0].isdigit()])
def test_the_graded_set_of_a_chapter_can_be_downloaded_from_its_page(html, name):
    links = parse(html, name).select(f"article a.download[href$='{name}.ipynb']")
    assert len(links) == 1
    assert (html / unquote(links[0]["href"])).exists()  # what it holds: test_portable


@every_page
def test_every_figure_has_alt_text_and_every_output_figure_a_caption(html, name):
    page = parse(html, name)
    for image in page.find_all("img"):
        assert image.get("alt", "").strip(), f"img without alt text: {image.get('src')}"
    for svg in page.select(".bd-article svg:not([aria-hidden=true])"):
        named = [svg, *svg.find_parents(role="img")]
        assert any(t.get("role") == "img" and t.get("aria-label", "").strip() for t in named)
    for picture in page.select(".cell_output :is(img, svg, canvas, .vl-figure)"):
        figure = picture.find_parent("figure")
        caption = figure and figure.find("figcaption")
        assert caption and caption.get_text(strip=True), f"no caption: {str(picture)[:200]}"


@every_page
def test_a_double_bar_in_a_table_stays_double(name):
    # A backslash and a bar in a Markdown table are one bar, in a formula too: write \Vert.
    text = (ROOT / "book" / f"{name}.md").read_text("utf-8") if name not in CHAPTERS else ""
    for cell in cells_of(name) if name in CHAPTERS else ():
        text += cell["source"] + "\n" if cell["cell_type"] == "markdown" else ""
    assert not re.findall(r"^\|.*\\\|.*$", text, flags=re.MULTILINE)


@every_chapter
def test_cells_that_only_check_are_folded(name):
    def checks(node):
        inner = node.body if isinstance(node, ast.For | ast.With) else [node]
        return any(isinstance(statement, ast.Assert) for statement in inner)

    for cell in cells_of(name):
        if cell["cell_type"] == "markdown" or cell["outputs"]:
            continue
        lines = [(n.end_lineno - n.lineno + 1, checks(n)) for n in ast.parse(cell["source"]).body]
        if 2 * sum(n for n, check in lines if check) >= sum(n for n, _ in lines):
            tags = cell["metadata"].get("tags", [])
            assert any(tag.startswith("hide-") for tag in tags), f"cell {cell['id']} is open"


@every_chapter
def test_the_imports_are_folded(name):
    first = next(cell for cell in cells_of(name) if cell["cell_type"] == "code")
    assert "import vaelearn as vl" in first["source"]
    assert "hide-input" in first["metadata"].get("tags", []), (
        "the first thing a reader sees is no list of imports"
    )


# In a browser ----------------------------------------------------------------------------


@every_chapter
def test_an_answer_waits_for_the_guess_in_jupyter_too(name):
    waiting = answered = False
    for cell in cells_of(name):
        if cell["cell_type"] == "code" and waiting:
            answered = True
            hidden = cell["metadata"].get("jupyter", {}).get("outputs_hidden")
            assert hidden or not cell["outputs"], f"cell {cell['id']} answers at once"
        elif cell["cell_type"] == "markdown":
            asks, heading = ":class: predict" in cell["source"], cell["source"].startswith("#")
            waiting = asks or (waiting and not answered and not heading)
            answered = False


@pytest.fixture(scope="module")
def desktop(visit, request):
    """(page, problems): a page of the book over http, in the light, on a wide screen."""
    with visit(request.param, "http", color_scheme="light") as opened:
        yield opened


@pytest.fixture(scope="module")
def phone(visit, request):
    """(page, problems): a page of the book from its file, on a phone."""
    small = {"width": 390, "height": 844}
    with visit(request.param, "file", viewport=small, is_mobile=True, has_touch=True) as opened:
        yield opened


def on(fixture, names):
    return pytest.mark.parametrize(fixture, names, indirect=True)


def assert_whole(page, problems):
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
    unknown = page.locator("mjx-container [fill=red]")  # so MathJax shows an unknown macro
    assert unknown.count() == 0, unknown.first.evaluate("e => e.closest('.math').outerHTML")
    assert page.locator(".math:not(:has(mjx-container))").count() == 0, "maths not typeset"
    assert "???" not in page.locator("body").inner_text()
    assert not problems


@on("desktop", PAGES + MADE_BY_SPHINX)
def test_page_is_whole(desktop):
    assert_whole(*desktop)


@on("phone", PAGES + MADE_BY_SPHINX)
def test_page_is_whole_as_a_file_on_a_phone(phone):
    assert_whole(*phone)


# One question to the page: a locator by role or text walks a chapter's forty thousand elements each time.
ANSWERED_AT_ONCE = """() => [...document.querySelectorAll(".bd-article .predict")].filter(box => {
  const answer = box.nextElementSibling, output = answer?.querySelector(".cell_output");
  return !answer?.matches(".vl-answer") || !output || output.checkVisibility();
}).map(box => box.textContent)"""


@on("desktop", CHAPTERS)
def test_an_answer_waits_for_the_guess(desktop):
    page, problems = desktop
    assert page.evaluate(ANSWERED_AT_ONCE) == []
    button, output = page.locator(".vl-show").first, page.locator(".vl-answer .cell_output").first
    for says, shown in (("I wrote it down: show", True), ("Hide the answer", False)):
        assert button.inner_text() == says
        button.click()
        assert output.is_visible() == shown
    assert not problems


@on("desktop", CHAPTERS[:1])
def test_a_guess_is_remembered_and_stands_beside_the_answer(desktop):
    page, problems = desktop
    page.locator(".predict textarea").first.fill("About two.")
    page.reload(wait_until="load")
    page.wait_for_function(FITTED, timeout=0)
    page.locator(".vl-show").first.click()
    assert page.locator(".vl-guess").first.inner_text() == "You guessed: About two."
    assert not problems


WIDER_THAN_THE_SCREEN = """() => {
  const clips = e => /auto|scroll|hidden/.test(getComputedStyle(e).overflowX);
  const inside = e => e && (clips(e) || inside(e.parentElement));
  return [...document.querySelectorAll(".bd-main *")]
    .filter(e => e.getBoundingClientRect().right > 391 && !inside(e.parentElement))
    .map(e => e.outerHTML.slice(0, 120));
}"""

# What lies beyond the edge of a box that clips it, by how many pixels, where nothing shows that there
# is more: that box neither fades there nor is it gone past. On paper nothing can be scrolled to.
CUT = """async paper => {
  document.querySelectorAll("details").forEach(e => { e.open = true; });
  document.querySelectorAll(".toggle-hidden").forEach(e => e.classList.remove("toggle-hidden"));
  document.querySelectorAll(".vl-answer").forEach(e => e.removeAttribute("hidden"));
  if (paper) dispatchEvent(new Event("beforeprint"));
  for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
  const beyond = (e, width) => {
    const left = e.getBoundingClientRect().left;
    for (let box = e; box && !box.matches("article"); box = box.parentElement) {
      if (getComputedStyle(box).overflowX === "visible") continue;
      const over = left + width - box.getBoundingClientRect().left - box.clientLeft - box.clientWidth;
      if (over > 1) return box.matches(".vl-more") && !paper ? 0 : over;
    }
    return left + width > innerWidth + 1 ? left + width - innerWidth : 0;
  };
  const found = [], all = "mjx-container > svg, table, .vl-figure svg, img, pre";
  for (const e of document.querySelectorAll(`.bd-article :is(${all})`)) {
    if (!e.checkVisibility()) continue;
    const over = beyond(e, Math.max(e.scrollWidth, e.getBoundingClientRect().width));
    const words = e.closest(".math")?.tex ?? e.textContent;
    if (over) found.push(`${Math.round(over)} px of ${e.tagName}: ${words.slice(0, 100)}`);
  }
  return found;
}"""
# Formulas that have lost or changed a sign where they were broken into lines.
CHANGED = """() => {
  const sign = drawn => drawn.dataset.c ?? drawn.textContent;
  const signs = boxes => boxes.flatMap(box => [...box.querySelectorAll("use, text")].map(sign)).join();
  const changed = math => signs([math.whole]) !== signs([...math.querySelectorAll("mjx-container")]);
  return [...document.querySelectorAll(".bd-article .math")].filter(math => math.whole && changed(math))
    .map(math => math.tex);
}"""
# Buttons that fold a box, and lie on the words of its title or beyond the box's edge.
ON_ITS_TITLE = """() => [...document.querySelectorAll(".bd-article button.toggle-button")].filter(button => {
  const own = button.getBoundingClientRect(), box = button.closest(".admonition").getBoundingClientRect();
  const words = document.createRange();
  words.setStart(button.parentElement, 0), words.setEndBefore(button);
  const meets = r => r.left < own.right && own.left < r.right && r.top < own.bottom && own.top < r.bottom;
  return button.checkVisibility() && (own.bottom > box.bottom || [...words.getClientRects()].some(meets));
}).map(button => button.parentElement.textContent.trim())"""
SCROLLING_FORMULAS = "document.querySelectorAll('mjx-container.vl-more').length"


@on("phone", CHAPTERS)
def test_the_button_of_a_folded_box_names_it(phone):
    page, _ = phone
    names = page.evaluate(
        """() => [...document.querySelectorAll(".bd-article .admonition .toggle-button")]
        .map(button => [button.parentElement.innerText.trim(), button.ariaLabel])"""
    )
    assert names or "own_data" in page.url
    assert [title for title, label in names if title.split()[0] not in label] == []


@on("phone", PAGES)
def test_nothing_is_cut_on_a_phone(phone):
    page, problems = phone
    assert page.evaluate(ON_ITS_TITLE) == []
    assert page.evaluate(CUT, False) == []
    assert page.evaluate(SCROLLING_FORMULAS) == 0
    assert page.evaluate(CHANGED) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, page.evaluate(WIDER_THAN_THE_SCREEN)
    assert not problems


# Paints each text's background, layer upon layer, on one pixel, then the text's own colour.
FAINT_TEXT = """() => {
  const pen = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
  const luminance = () => [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3)
    .map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const paint = color => { pen.fillStyle = color; pen.fillRect(0, 0, 1, 1); };
  const contrastOf = (layers, color) => {
    ["white", ...layers].forEach(paint);
    const below = luminance();
    paint(color);
    const above = luminance();
    return (Math.max(above, below) + 0.05) / (Math.min(above, below) + 0.05);
  };
  const NO_TEXT = "script, style, mjx-container, .headerlink";
  const faint = [], known = {};  // contrast by colours: a page has few of them, and painting is slow
  for (const e of document.querySelectorAll(".bd-article *")) {
    const text = [...e.childNodes].filter(n => n.nodeType == 3).map(n => n.data).join("").trim();
    if (!text || !e.checkVisibility() || e.closest(NO_TEXT)) continue;
    const layers = [], svg = e.closest("svg"), color = getComputedStyle(e)[svg ? "fill" : "color"];
    for (let a = e; a; a = a.parentElement) layers.unshift(getComputedStyle(a).backgroundColor);
    const contrast = known[[...layers, color]] ??= contrastOf(layers, color);
    if (contrast < (svg ? 3 : 4.5)) faint.push(`${contrast.toFixed(2)}: ${text.slice(0, 60)}`);
  }
  return faint;
}"""


SHOW_ANSWERS = "document.querySelectorAll('.vl-answer').forEach(e => e.removeAttribute('hidden'))"


@on("desktop", PAGES)
def test_light_and_dark_can_be_switched_and_read(desktop):
    page, problems = desktop
    page.add_style_tag(content="* { transition: none !important }")  # colours fade
    page.evaluate(SHOW_ANSWERS)
    theme, seen = page.locator("html"), set()
    for _ in range(3):  # the button goes round: light, dark, the system's choice, which is light
        page.locator("button.theme-switch-button:visible").first.click()
        if (shown := theme.get_attribute("data-theme")) not in seen:
            assert page.evaluate(FAINT_TEXT) == [], shown
        seen.add(shown)
    assert seen == {"light", "dark"}
    assert not problems


@on("desktop", CHAPTERS)
def test_every_slider_moves_its_picture(desktop, request):
    page, problems = desktop
    picture_alone = "label, input, output { opacity: 0 }"
    page.evaluate(SHOW_ANSWERS)
    figures = page.locator(".vl-figure:has(input[type=range])")
    numbered = request.node.callspec.params["desktop"][0].isdigit()  # an appendix may do without
    assert figures.count() or not numbered, "a chapter has at least one figure to move"
    for figure in figures.all():
        for slider in figure.locator("input[type=range]").all():
            before = figure.screenshot(style=picture_alone)
            at_end = slider.input_value() == slider.get_attribute("max")
            slider.press("Home" if at_end else "End")
            assert figure.screenshot(style=picture_alone) != before
    assert not problems


@both_ways
def test_search_finds_a_word(visit, by):
    with visit("intro", by) as (page, problems):
        page.keyboard.press("Control+k")
        page.keyboard.type("responsibilities")
        page.keyboard.press("Enter")
        result = page.locator("#search-results a", has_text="Glossary").first
        result.wait_for()
        assert "glossary.html" in result.get_attribute("href")
        page.wait_for_load_state("networkidle")
    assert not problems


@on("desktop", CHAPTERS)
def test_a_downloaded_chapter_knows_where_the_book_is(desktop, html):
    page, problems = desktop
    page.locator("[aria-label='Download this page']").click()
    with page.expect_download() as download:
        page.locator("a.btn-download-source-button").click()
    saved = json.loads(download.value.path().read_text(encoding="utf8"))
    book, name = page.url.removesuffix(".html").rsplit("/", 1)
    assert download.value.suggested_filename == f"{name}.ipynb"
    first = "".join(saved["cells"][0]["source"])
    assert f'BOOK = "{book}"' in first
    built = json.loads((html / "_sources" / f"{name}.ipynb").read_text(encoding="utf8"))
    assert saved["cells"][1:] == built["cells"][1:]
    assert not problems


@on("desktop", PAGES)
def test_nothing_is_cut_on_a_laptop_or_paper(desktop):
    page, problems = desktop
    page.set_viewport_size({"width": 1280, "height": 800})
    assert page.evaluate(CUT, False) == []
    assert page.evaluate(SCROLLING_FORMULAS) == 0
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 680, "height": 900})  # A4 less two margins of 15 mm
    assert page.evaluate(CUT, True) == []
    assert page.locator("mjx-container[tabindex='0']").count() == 0, "a formula is a tab stop"
    assert not problems
