"""JupyterLab as `make lab` and `make exercises` open it: a chapter and a graded set, in a browser."""

import os
import re
import shutil
import subprocess
import time

import nbformat
import pytest
from conftest import ROOT

from tools import names

CHAPTER = ROOT / "book" / "01_latent_variables_and_em.ipynb"
SET = ROOT / "exercises" / "student" / "05_importance_weighting.ipynb"
RAW = re.compile(r":::|\{[a-z]+(:[a-z]+)?\}`|^\([\w:-]+\)=$|\$\$|\]\(|\?\?\?", re.M)
PATIENCE = 300  # seconds, for each wait: on a quiet machine none takes twenty


def beginning(path):
    """The chapter up to its first slider, and its exercises: a little of all it has, run in seconds."""
    chapter = nbformat.read(path, as_version=4)
    slider = next(i for i, cell in enumerate(chapter.cells) if 'type="range"' in str(cell.get("outputs")))
    exercises = next(i for i, cell in enumerate(chapter.cells) if "{exercise}" in cell.source)
    texts = [cell for cell in chapter.cells[exercises:] if cell.cell_type == "markdown"]
    chapter.cells = chapter.cells[: slider + 1] + texts
    return chapter


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """`make lab` beside a chapter and a set, as at the very first start; its address."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "book").mkdir()
    nbformat.write(beginning(CHAPTER), folder / "book" / CHAPTER.name)
    shutil.copy(SET, folder)
    flags = f"--no-browser --allow-root --port=0 --IdentityProvider.token= --ServerApp.root_dir={folder}"
    settings = [
        f"STATE={folder}/state",
        f"CHAPTER={folder}/book/{CHAPTER.name}",
        f"LAB_FLAGS={flags}",
        f"MPLCONFIGDIR={ROOT}/.venv/state/matplotlib",
    ]
    command = ["make", "-o", ".venv/.ready", "lab", *settings]
    log = folder / "log"
    with log.open("w") as out:
        server = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, start_new_session=True)
    try:
        until = time.monotonic() + PATIENCE
        while not (address := re.search(r"http://127\.0\.0\.1:\d+/", log.read_text("utf8"))):
            assert server.poll() is None and time.monotonic() < until, log.read_text("utf8")
            time.sleep(0.1)
        yield address[0]
    finally:
        if server.poll() is None:
            os.killpg(server.pid, 15)
        server.wait(60)


@pytest.fixture
def open_notebook(browser, lab):
    """Open a notebook in a fresh JupyterLab, shown whole and with its kernel: the page, and its problems."""
    with browser.new_context(viewport={"width": 1400, "height": 1000}, reduced_motion="reduce") as context:
        page, problems = context.new_page(), []
        page.set_default_timeout(1000 * PATIENCE)
        page.on("pageerror", lambda error: problems.append(f"script: {error}"))
        page.on("request", lambda r: r.url.startswith((lab, lab.replace("http", "ws"), "data:", "blob:"))
                or problems.append(f"request outside: {r.url}"))  # fmt: skip

        def on_console(message):
            # That a chapter names places in other chapters is what names.json is for.
            lost = [line for line in message.text.splitlines() if "Cross reference target" not in line]
            if message.type == "error" and lost:
                problems.append(f"console: {lost}")

        page.on("console", on_console)

        def open_notebook(path, cells):
            page.goto(f"{lab}lab/tree/{path}?reset")
            page.get_by_text("| Idle").first.wait_for()  # what is run before the kernel is there is lost
            page.wait_for_function(ALL_RENDERED, arg=len(cells), polling=500)
            return page, problems

        yield open_notebook


ALL_RENDERED = """count => document.querySelectorAll(".jp-Notebook .jp-Cell").length === count
  && [...document.querySelectorAll(".jp-MarkdownCell")].every(cell => cell.querySelector(".myst")?.textContent
    && !cell.querySelector(".jp-InputArea-editor")?.checkVisibility())"""
# What a reader sees of the texts: without code and mathematics; and what is marked, by a title or a colour.
TEXTS = """() => [...document.querySelectorAll(".jp-MarkdownCell .myst")].map(cell => {
  cell = cell.cloneNode(true);
  cell.querySelectorAll(".katex, code, pre").forEach(part => part.remove());
  return cell.textContent;
})"""
MARKED = """() => [...document.querySelectorAll(".jp-MarkdownCell .myst *")].filter(e => {
  if (![...e.childNodes].some(node => node.nodeType === 3 && node.data.trim())) return false;
  const [red, , blue] = getComputedStyle(e).color.match(/[\\d.]+/g).map(Number);
  return red - blue > 80 || e.getAttribute("title")?.endsWith("Not Found") || e.closest(".katex-error");
}).map(e => e.outerHTML.slice(0, 200))"""
# By cell of code: is it folded, does it show a picture, and what is written under that?
CODE = """() => [...document.querySelectorAll(".jp-CodeCell")].map(cell => [
  !!cell.querySelector(".jp-InputPlaceholder"),
  !!cell.querySelector(".jp-OutputArea-output :is(img, svg)"),
  cell.querySelector(".vl-caption b")?.textContent ?? null,
])"""


def moves(picture):
    """Whether a figure changes when its slider goes to the other end."""
    slider = picture.locator("input[type=range]").first
    before = picture.locator(".vl-picture").inner_html()
    slider.press("Home" if slider.input_value() == slider.get_attribute("max") else "End")
    return picture.locator(".vl-picture").inner_html() != before


def test_a_chapter_is_shown_as_the_book_shows_it_and_runs(open_notebook):
    cells = beginning(CHAPTER).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    page, problems = open_notebook(f"book/{CHAPTER.name}", cells)
    assert page.locator("#table-of-contents").get_by_text("What is a latent variable?").is_visible()
    assert page.locator(".jp-toast, .Toastify__toast").count() == 0, "a question at the first start"

    texts = page.evaluate(TEXTS)
    assert len(texts) == len(cells) - len(code)
    raw = [text[found.start() - 30 : found.end() + 30] for text in texts for found in RAW.finditer(text)]
    assert not raw
    assert page.evaluate(MARKED) == []
    whole, known = " ".join(texts), names.names()
    source = "".join(cell.source for cell in cells if cell.cell_type == "markdown")
    references = re.findall(r"\{(eq|prf:ref|numref|doc|cite:t|cite:p)\}`([^`<]+)`", source)
    assert {role for role, _ in references} == {"eq", "prf:ref", "numref", "doc", "cite:t", "cite:p"}
    for role, keys in references:
        for key in keys.split(","):
            if role.startswith("cite"):
                name = known["citations"][key].split(" [")[0]
            else:
                name = (
                    known["documents"][f"{key}.md"]
                    if role == "doc"
                    else known["labels"][key.replace(":", "-")]
                )
            assert name in whole, key
    assert "Proof" in whole and "Proof 1" not in whole
    solutions = page.locator(".jp-MarkdownCell details:not(:has(details))")
    written = sum(cell.source.count("{solution}") for cell in cells)
    assert solutions.count() == written and not page.locator(".jp-MarkdownCell details[open]").count()

    waiting = page.locator(".jp-CodeCell .jp-OutputPlaceholder:visible")
    waits = [c for c in code if c.outputs and c.metadata.get("jupyter", {}).get("outputs_hidden")]
    assert waits and waiting.count() == len(waits), "an answer waits for the guess"
    for _ in waits:
        waiting.first.click()
    shown = page.evaluate(CODE)
    assert [folded for folded, _, _ in shown] == ["hide-input" in c.metadata.get("tags", ()) for c in code]
    figures = sum("figure" in cell.metadata.get("mystnb", {}) for cell in code)
    assert [number for _, _, number in shown if number] == [f"Fig. 1.{n}" for n in range(1, 1 + figures)]
    assert all(picture for _, picture, number in shown if number), "no figures before the first run"
    sliders = page.locator(".vl-figure:has(input[type=range])")
    assert moves(sliders.first)

    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.get_by_text(f"[{len(code)}]:", exact=True).wait_for()
    assert page.locator("[data-mime-type*=error], [data-mime-type*=stderr]").count() == 0
    assert moves(sliders.first)
    assert not problems


def test_a_graded_set_answers_a_wrong_and_a_right_answer(open_notebook):
    page, problems = open_notebook(SET.name, nbformat.read(SET, as_version=4).cells)

    def run(cell):
        page.locator(".jp-CodeCell", has_text=cell).locator(".cm-content").click()
        page.keyboard.press("Control+Enter")

    def answer(text):
        editor = page.locator(".jp-CodeCell", has_text="def iwae").locator(".cm-content")
        editor.click()
        page.keyboard.press("Control+a")
        page.keyboard.insert_text(text)
        page.keyboard.press("Control+Enter")
        run('check("q1")')

    verdict = page.locator(".jp-CodeCell", has_text='check("q1")').locator(".jp-OutputArea-output")
    run("grader = Grader")
    answer("def iwae(log_w):\n    return torch.logsumexp(log_w, 0)")
    verdict.get_by_text("✗").wait_for()
    assert "log K" in verdict.inner_text()
    answer("def iwae(log_w):\n    return torch.logsumexp(log_w, 0) - math.log(len(log_w))")
    verdict.get_by_text("✓").wait_for()
    assert "public checks passed" in verdict.inner_text()
    assert not problems
