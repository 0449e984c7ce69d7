"""The notebooks behind the download buttons: whole, plain, and able to fetch the library from the book."""

import json
import re
import subprocess
import sys
import venv
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import nbformat
import pytest
from bs4 import BeautifulSoup
from conftest import ROOT, Quiet, build_book
from markdown_it import MarkdownIt

from tools import names

CHAPTERS = sorted(path.stem for path in (ROOT / "book").glob("[0-9]*.ipynb"))
MYST = re.compile(
    r"^\s*(?:>\s*)*(?::{3,}|`{3,}\{)|\{[a-z]+(?::[a-z]+)?\}`|^\([\w:-]+\)=$|\$\$ ?\([\w:-]+\)$", re.M
)

TEX = r"\$+.*?\$+|\\[(\[].*?\\[)\]]"


def words(soup):
    """The words of four letters and more that are not TeX."""
    return set(re.findall(r"[A-Za-z]{4,}", re.sub(TEX, "", soup.get_text(" "), flags=re.DOTALL)))


def portable(html, name):
    return nbformat.read(html / "_sources" / f"{name}.ipynb", as_version=4)


def graded(html, name):
    return nbformat.read(next((html / "_downloads").glob(f"*/{name}.ipynb")), as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("name", CHAPTERS)
def test_its_code_and_outputs_are_the_chapters(html, name):
    """So what the run of the chapters shows (nbval), it shows of these: they run."""
    mine, chapter = (
        code(portable(html, name))[1:],
        code(nbformat.read(ROOT / "book" / f"{name}.ipynb", as_version=4)),
    )
    assert [(cell.source, cell.outputs) for cell in mine] == [(cell.source, cell.outputs) for cell in chapter]
    for cell in mine:
        assert cell.metadata.get("jupyter", {}).get("source_hidden", False) == (
            "hide-input" in cell.metadata.get("tags", ())
        )
    set_ = nbformat.read(ROOT / "exercises" / "student" / f"{name}.ipynb", as_version=4)
    assert [c.source for c in graded(html, name).cells[1:]] == [c.source for c in set_.cells]


@pytest.mark.parametrize("name", CHAPTERS)
def test_its_text_is_plain_and_complete(html, name):
    notebook = portable(html, name)
    nbformat.validate(notebook)
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for other in (
        text,
        "\n\n".join(cell.source for cell in graded(html, name).cells if cell.cell_type == "markdown"),
    ):
        assert not MYST.search(other), MYST.search(other)

    # Every number of the chapter's own is there, as the book has it.
    number = int(name[:2])
    for label in names.labels().values():
        if re.search(rf"\b{number}\.\d+\b", label) and label.split()[-1].strip("()").startswith(f"{number}."):
            wanted = rf"\tag{{{label[1:-1]}}}" if label.startswith("(") else label
            assert wanted in text, label

    # Every word of the page's text, rendered again, is one of the page's: nothing lost, nothing added.
    page = BeautifulSoup((html / f"{name}.html").read_text("utf8"), "html.parser").select_one(
        "article.bd-article"
    )
    for apart in page.select("div.cell > :not(.cell_output), .cell_output, .headerlink, .eqno, script"):
        apart.decompose()
    shown = BeautifulSoup(
        MarkdownIt("commonmark").enable("table").render(text.split("## References")[0]), "html.parser"
    )
    assert not words(page) - words(shown), sorted(words(page) - words(shown))[:20]
    solutions = text.count("<details>")
    assert solutions == text.count("</details>") == len(page.select(".solution"))


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """A Python without vaelearn that has this one's torch, and pip."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    site = subprocess.run(
        [python, "-c", "import site; print(site.getsitepackages()[0])"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    # All that the package needs, but not the package: an editable install is a file that ends in .pth, and
    # such files are read in the first folder alone.
    Path(site, "others.pth").write_text(next(p for p in sys.path if p.endswith("site-packages")) + "\n")
    return python


def test_a_set_fetches_the_library_from_the_served_book_and_checks(html, bare_python, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=html))
    Thread(target=server.serve_forever, daemon=True).start()
    book = f"http://127.0.0.1:{server.server_port}"
    first, _, setup = (graded(html, "05_importance_weighting").cells)[:3]
    script = f"""
import importlib.util, shlex, subprocess, sys
assert importlib.util.find_spec("vaelearn") is None, importlib.util.find_spec("vaelearn")

class Shell:
    def run_line_magic(self, magic, line):
        assert magic == "pip"
        subprocess.run([sys.executable, "-m", "pip", *shlex.split(line), "--no-deps"], check=True)
        importlib.invalidate_caches()

get_ipython = Shell
{first.source.replace('BOOK = ""', f'BOOK = "{book}"')}
{setup.source}
iwae = lambda log_w: torch.logsumexp(log_w, 0) - math.log(len(log_w))
assert {str(bare_python.parents[1])!r} in vl.__file__, vl.__file__
print(repr(grader.check("q1")))
"""
    run = subprocess.run(
        [bare_python, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    server.shutdown()
    assert run.returncode == 0, run.stderr
    assert "q1 passed" in run.stdout


def test_without_an_address_it_says_what_is_missing(html):
    first = portable(html, "05_importance_weighting").cells[0].source
    hidden = first.replace('find_spec("vaelearn")', "None")
    with pytest.raises(AssertionError, match="the book's address"):
        exec(hidden, {})
    exec(first.replace("TABLES = [", "TABLES = [][:0] and ["), {})  # does nothing where the library is


# With an address --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(build, tmp_path_factory):
    """The book built with both addresses set, on top of what the first build has read."""
    import shutil

    out = tmp_path_factory.mktemp("published")
    shutil.copytree(build[2].parent, out / "_build")
    config = (ROOT / "_config.yml").read_text("utf8")
    config = config.replace('html_baseurl: ""', "html_baseurl: https://book.example/vae")
    config = config.replace('book_repository: ""', "book_repository: https://github.com/someone/vae")
    (out / "_config.yml").write_text(config.replace(": tools", f": {ROOT / 'tools'}"), "utf8")
    status, log, folder = build_book(out, "--config", out / "_config.yml")
    assert status == 0, log
    return folder


def test_with_two_addresses_a_chapter_opens_elsewhere(published, html):
    name = "05_importance_weighting"
    page = BeautifulSoup((published / f"{name}.html").read_text("utf8"), "html.parser")
    links = {
        link.get_text(strip=True): link["href"]
        for link in page.select(".article-header-buttons a[href^=http]")
    }
    notebook = f"_sources/{name}.ipynb"
    assert (published / notebook).exists()
    assert links == {
        "Run in Colab": f"https://colab.research.google.com/github/someone/vae/blob/gh-pages/{notebook}",
        "Run in Binder": f"https://mybinder.org/v2/gh/someone/vae/gh-pages?urlpath=lab/tree/{notebook}",
        "Suggest an edit": f"https://github.com/someone/vae/edit/main/book/{name}.ipynb",
    }
    assert (ROOT / "book" / f"{name}.ipynb").exists()
    assert page.select_one("link[rel=canonical]")["href"] == f"https://book.example/vae/{name}.html"
    sitemap = BeautifulSoup((published / "sitemap.xml").read_text("utf8"), "html.parser")
    listed = {place.get_text().removeprefix("https://book.example/vae/") for place in sitemap.select("loc")}
    assert listed == {p.name for p in published.glob("*.html")} - {
        "genindex.html",
        "index.html",
        "search.html",
    }

    text = "".join(cell.source for cell in portable(published, name).cells)
    assert 'BOOK = "https://book.example/vae"' in text
    places = set(re.findall(r"\]\(https://book\.example/vae/([\w.]+)(?:#([^)]+))?\)", text))
    for page in {page for page, _ in places}:
        ids = set(re.findall(r'\bid="([^"]+)"', (published / page).read_text("utf8")))
        missing = {place for other, place in places if other == page and place} - ids
        assert not missing, (page, missing)
    assert any(place for _, place in places)
    assert "book.example" not in (html / f"{name}.html").read_text("utf8")
    bare = BeautifulSoup((html / f"{name}.html").read_text("utf8"), "html.parser")
    assert not bare.select(".article-header-buttons a[href^=http]")
    assert not bare.select("link[rel=canonical]")


def test_workflows_are_what_the_forge_understands():
    check = Path(sys.executable).with_name("check-jsonschema")
    files = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert [f.stem for f in files] == ["publish", "test", "weekly"]
    run = subprocess.run(
        [check, "--builtin-schema", "vendor.github-workflows", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    text = "".join(file.read_text("utf8") for file in files)
    for path in re.findall(r"(?:tests|\.ci|tools)/[\w./]+", text):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"make ([\w ]+)$", text, re.M):
        assert all(f"\n{t}:" in (ROOT / "Makefile").read_text("utf8") for t in target.split()), target


def test_notebooks_of_two_builds_are_the_same_but_for_the_address(published, html):
    one, two = (
        json.loads((f / "_sources" / f"{CHAPTERS[0]}.ipynb").read_text("utf8")) for f in (html, published)
    )
    assert [c["id"] for c in one["cells"]] == [c["id"] for c in two["cells"]]
