"""JupyterLab as `make lab` and `make exercises` open it: a chapter and a graded set, in a browser."""

import os
import re
import shutil
import subprocess
import time

import nbformat
import pytest
from bs4 import BeautifulSoup
from conftest import ROOT

from tools import names

CHAPTER = "09_what_the_elbo_does_not_want.ipynb"  # the shortest
SET = "05_importance_weighting.ipynb"
RAW = re.compile(r":::|\{(eq|cite:[tp]|prf:ref|numref|term|doc|ref)\}`|^\$\$", re.M)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """`make lab` on copies of a chapter and a set; its address. Nothing is kept of an earlier start."""
    folder = tmp_path_factory.mktemp("lab")
    for part, name in (("book", CHAPTER), ("exercises/mine", SET)):
        (folder / part).mkdir(parents=True)
        shutil.copy(ROOT / part.replace("mine", "student") / name, folder / part)
    flags = f"--no-browser --allow-root --port=0 --IdentityProvider.token= --ServerApp.root_dir={folder}"
    command = ["make", "-o", ".venv/.ready", "lab", f"STATE={folder}/state", f"LAB_FLAGS={flags}"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    try:
        address = re.compile(r"http://127\.0\.0\.1:\d+/")
        until = time.monotonic() + 300  # ten seconds, on a quiet machine
        while not (found := address.search((folder / "log").read_text("utf8"))):
            assert server.poll() is None and time.monotonic() < until, (folder / "log").read_text("utf8")
            time.sleep(0.1)
        yield found[0]
    finally:
        if server.poll() is None:
            os.killpg(server.pid, 15)
        server.wait(20)


@pytest.fixture
def open_notebook(browser, lab):
    """Open a notebook in a fresh JupyterLab: the page, and what goes wrong on it."""
    contexts = []

    def open_notebook(path):
        context = browser.new_context(viewport={"width": 1400, "height": 1000})
        contexts.append(context)
        page, problems = context.new_page(), []
        page.set_default_timeout(120_000)
        page.on("pageerror", lambda error: problems.append(f"script: {error}"))
        page.on("request", lambda r: r.url.startswith((lab, lab.replace("http", "ws"), "data:", "blob:"))
                or problems.append(f"request outside: {r.url}"))  # fmt: skip

        def on_console(message):
            # That a chapter names places in other chapters is what names.json is for.
            if message.type == "error" and "Cross reference target was not found" not in message.text:
                problems.append(f"console: {message.text}")

        page.on("console", on_console)
        page.goto(f"{lab}lab/tree/{path}?reset")
        page.locator(".jp-Notebook .jp-Cell").first.wait_for()
        page.get_by_text("| Idle").first.wait_for()  # what is run before the kernel is there is lost
        return page, problems

    yield open_notebook
    for context in contexts:
        context.close()


# JupyterLab draws the cells in sight alone. Rolls on, waits until all is still, says if the end is there.
ROLL = """async ([step, last]) => {
  const panel = document.querySelector(".jp-WindowedPanel-outer");
  panel.scrollTop = step * panel.clientHeight * 0.8;
  await new Promise(still => {
    let timer = setTimeout(still, 500);
    new MutationObserver(() => { clearTimeout(timer); timer = setTimeout(still, 500); })
      .observe(panel, { childList: true, subtree: true, characterData: true });
  });
  return !!document.querySelector(`[data-windowed-list-index="${last}"]`);
}"""
IN_SIGHT = '() => [...document.querySelectorAll(".jp-MarkdownCell")].map(e => e.outerHTML)'


def test_a_chapter_is_shown_as_the_book_shows_it_and_runs(open_notebook):
    page, problems = open_notebook(f"book/{CHAPTER}")
    page.locator("#table-of-contents").wait_for()  # open, at the left
    assert page.locator(".jp-toast, .Toastify__toast").count() == 0, "a question at the first start"

    picture = page.locator(".vl-figure:has(input[type=range])").first
    cells, folded, moved, step = set(), 0, False, 0
    notebook = nbformat.read(ROOT / "book" / CHAPTER, as_version=4)
    at_end = False
    while not at_end:
        at_end = page.evaluate(ROLL, [step, len(notebook.cells) - 1])
        cells |= set(page.evaluate(IN_SIGHT))
        folded += page.locator(".jp-CodeCell .jp-InputPlaceholder").count()
        if not moved and picture.count() and picture.is_visible():
            moved = before_and_after(picture)
        step += 1
    assert moved, "no slider before the first run"
    assert folded, "the code of the figures is open"

    texts = BeautifulSoup("".join(cells), "html.parser")
    for hidden in texts.select(".jp-InputArea-editor, .katex-mathml"):
        hidden.decompose()
    assert len(cells) > 20
    assert not RAW.findall(texts.get_text()), RAW.search(texts.get_text())
    assert texts.select(".vl-name"), "nothing named by the book: was the extension loaded?"
    marks = texts.select('[title$="Not Found"], [class*="text-red"]')
    assert not marks, [mark.get_text() for mark in marks]
    solutions = texts.select("details")
    assert solutions and not [s for s in solutions if s.has_attr("open")]
    known = names.labels().values()
    assert all(link.get_text().strip() in known for link in texts.select('a[title="Link to this Equation"]'))

    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    code = sum(cell.cell_type == "code" for cell in notebook.cells)
    page.wait_for_function(f'() => document.body.innerText.includes("[{code}]:")', timeout=300_000)
    assert page.locator(".jp-RenderedText[data-mime-type*=error]").count() == 0
    assert not problems


def before_and_after(picture):
    """Whether a figure changes when its slider goes to the other end."""
    slider = picture.locator("input[type=range]").first
    before = picture.locator(".vl-picture").inner_html()
    slider.press("Home" if slider.input_value() == slider.get_attribute("max") else "End")
    return picture.locator(".vl-picture").inner_html() != before


def test_a_graded_set_answers_a_wrong_and_a_right_answer(open_notebook):
    page, problems = open_notebook(f"exercises/mine/{SET}")

    def answer(text):
        editor = page.locator(".jp-CodeCell", has_text="def iwae").locator(".cm-content")
        editor.click()
        page.keyboard.press("Control+a")
        page.keyboard.insert_text(text)
        page.keyboard.press("Shift+Enter")
        page.keyboard.press("Shift+Enter")

    page.locator(".jp-CodeCell", has_text="grader = Grader").locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    verdict = page.locator(".jp-CodeCell", has_text='check("q1")').locator(".jp-OutputArea-output")
    answer("def iwae(log_w):\n    return torch.logsumexp(log_w, 0)")
    verdict.get_by_text("✗").wait_for()
    assert "log K" in verdict.inner_text()
    answer("def iwae(log_w):\n    return torch.logsumexp(log_w, 0) - math.log(len(log_w))")
    verdict.get_by_text("✓").wait_for()
    assert "public checks passed" in verdict.inner_text()
    assert not problems


def test_names_are_those_of_the_built_pages(html):
    known = names.labels()
    seen = 0
    for chapter in names.chapters():
        page = BeautifulSoup((html / f"{chapter}.html").read_text("utf8"), "html.parser")
        for number in page.select(".eqno, .caption-number"):
            place = number.find_parent(id=re.compile(r"^(equation-)?[a-z]+[:-](?!content)"))
            label = place["id"].removeprefix("equation-").replace(":", "-")
            assert known[label] == number.get_text().strip("# \n¶")
            seen += 1
    assert seen == len(known)
