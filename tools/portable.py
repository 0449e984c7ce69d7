"""A notebook of each chapter that any front end shows as it should, made while the book is built.

The page that Sphinx has just made knows every number, name and link, so the notebook's texts are
that page again, as plain Markdown; its code cells and outputs are the chapter's own. It stands where
the download button points. A first cell fetches `vaelearn` where it is not installed: from the
book's own site, for the built book carries the wheel. The graded sets get that cell as well.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from bs4 import BeautifulSoup, NavigableString
from markdownify import MarkdownConverter

ROOT = Path(__file__).resolve().parents[1]
BREAK = "\ue000"  # between cells, in the text that becomes Markdown
FETCH = """\
# Gets the book's library where it is not installed yet, and what the chapter reads: from the book's own site.
BOOK = "{address}"  # its address, without a page's name
TABLES = {tables}
from importlib.util import find_spec
from pathlib import Path
from urllib.request import urlretrieve

missing = [table for table in TABLES if not Path(table).exists()]
if missing or not find_spec("vaelearn"):
    assert BOOK, "write the book's address between the quotation marks above, and run this cell again"
for table in missing:
    Path(table).parent.mkdir(exist_ok=True)
    urlretrieve(f"{{BOOK}}/{{table}}", table)
if not find_spec("vaelearn"):
    get_ipython().run_line_magic("pip", f'install --quiet "vaelearn[data,plots] @ {{BOOK}}/{wheel}"')"""


class Plain(MarkdownConverter):
    """HTML of a page as Markdown: mathematics as TeX, titled boxes as quotations, solutions folded."""

    def __init__(self, address):
        super().__init__(heading_style="ATX", bullets="-", strip_document=None)
        self.page = address  # of the online page, or "": then a link within the book is words

    def escape(self, text, parent_tags):
        text = super().escape(text, parent_tags)
        return re.sub(r"[$<]", lambda m: {"$": r"\$", "<": "&lt;"}[m[0]], text)

    def convert_a(self, el, text, parent_tags):
        href = el.get("href", "")
        if "headerlink" in el.get("class", ()):
            return ""
        if re.match(r"[a-z]+:", href):
            return f"[{text}]({href})"
        if not self.page or not text.strip():
            return text
        page, folder = self.page, self.page.rsplit("/", 1)[0]
        return f"[{text}]({page if href.startswith('#') else folder + '/'}{href})"

    def convert_span(self, el, text, parent_tags):
        if "math" not in el.get("class", ()):
            return text
        return f"${tex(el, parent_tags)}$"

    def convert_div(self, el, text, parent_tags):
        kinds = el.get("class", ())
        if "math" in kinds:
            number = el.select_one(".eqno")
            tag = ""
            if number:
                tag = rf" \tag{{{number.extract().get_text().strip('()#¶ ' + chr(10))}}}"
            # On one line, for in a quotation or a list the next one would begin with the mark of these.
            return f"\n\n$${tex(el, parent_tags)}{tag}$$\n\n"
        if (language := [k for k in kinds if k.startswith("highlight-")]) and el.pre:
            name = "python" if language[0] == "highlight-python" else ""
            return f"\n\n```{name}\n{el.pre.get_text().rstrip()}\n```\n\n"
        if "solution" in kinds:
            title, _, body = text.strip().partition("\n")
            title = el.select_one(".admonition-title").get_text(" ", strip=True)
            return f"\n\n<details>\n<summary><b>{title}</b></summary>\n\n{body.strip()}\n\n</details>\n\n"
        if "admonition" in kinds:
            text = re.sub(r"^Proof\.", "**Proof.**", text.strip())
            return "\n\n" + re.sub(r"^", "> ", text.strip(), flags=re.M).replace("> \n", ">\n") + "\n\n"
        return f"\n\n{text.strip()}\n\n"

    convert_section = convert_div

    def convert_p(self, el, text, parent_tags):
        if "admonition-title" in el.get("class", ()):
            number = el.select_one(".caption-number")
            head = number.get_text().strip() if number else None
            text = text.strip()
            text = f"**{head}**{text.removeprefix(head)}" if head else f"**{text}**"
        return super().convert_p(el, text, parent_tags)


def tex(el, parent_tags):
    """The TeX between MathJax's delimiters, on one line."""
    source = " ".join(el.get_text().split())
    source = re.sub(r"^\\[(\[]|\\[)\]]$", "", source).strip()
    if "td" in parent_tags or "th" in parent_tags:  # a bar would end the cell
        source = source.replace(r"\|", r"\Vert ").replace("|", r"\vert ")
    return source


def bare(body):
    """The page without what a chapter's own cells hold, figures and coloured code: it parses in a tenth."""
    body = re.sub(r"<(svg|style|script)\b.*?</\1>", "", body, flags=re.DOTALL)
    return re.sub(
        r"<pre>.*?</pre>", lambda pre: f"<pre>{re.sub('<[^>]*>', '', pre[0])}</pre>", body, flags=re.DOTALL
    )


def notebook(chapter, body, address, wheel):
    """The portable notebook of a chapter: its notebook, and the HTML of its page."""
    page = BeautifulSoup(bare(body), "html.parser")
    code = iter([cell for cell in chapter.cells if cell.cell_type == "code"])
    cells, references = [], {}
    for link in page.select("a[title][href*='bibliography.html#']"):
        references[link["title"]] = link["href"]
    for cell in page.select("div.cell"):
        caption = cell.select_one("figcaption")
        after = ""
        if caption:
            for link in caption.select(".headerlink"):
                link.decompose()
            number = caption.select_one(".caption-number").extract().get_text().strip()
            after = f"<p><strong>{number}</strong> {caption.p.decode_contents()}</p>"
        cell.replace_with(BeautifulSoup(f"<p>{BREAK}code{BREAK}</p>{after}", "html.parser"))
    for heading in page.select("h1, h2, h3"):
        heading.insert_before(NavigableString(BREAK))
    if references:
        works = "".join(f"<li><p>{work}</p></li>" for work in sorted(references))
        page.append(BeautifulSoup(f"{BREAK}<h2>References</h2><ul>{works}</ul>", "html.parser"))
    for text in Plain(address).convert_soup(page).split(BREAK):
        if text.strip() == "code":
            cell = next(code)
            cell.metadata.pop("mystnb", None)
            if "hide-input" in cell.metadata.get("tags", ()):
                cell.metadata.setdefault("jupyter", {})["source_hidden"] = True
            cells.append(cell)
        elif text.strip():
            cells.append(nbformat.v4.new_markdown_cell(re.sub(r"\n{3,}", "\n\n", text.strip())))
    assert next(code, None) is None, "a code cell of the chapter is not on its page"
    tables = sorted(
        set(re.findall(r'"(results/[\w-]+\.(?:json|npz))"', "".join(c.source for c in chapter.cells)))
    )
    return with_library(cells, chapter.metadata, address.rsplit("/", 1)[0], wheel, tables)


def with_library(cells, metadata, address, wheel, tables=()):
    """A notebook of these cells that begins by fetching what they need."""
    source = FETCH.format(address=address, wheel=wheel, tables=json.dumps(list(tables)))
    cells = [nbformat.v4.new_code_cell(source), *cells]
    for number, cell in enumerate(cells):
        cell["id"] = f"c{number:03d}"  # byte for byte the same at each build
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def build_wheel(folder):
    """Build the wheel of this project into `folder`; its name."""
    with tempfile.TemporaryDirectory() as work:  # setuptools would build inside the tree
        shutil.copytree(
            ROOT / "vaelearn", Path(work, "vaelearn"), ignore=shutil.ignore_patterns("__pycache__")
        )
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, work)
        build = f"from setuptools import build_meta; build_meta.build_wheel({str(folder)!r})"
        subprocess.run([sys.executable, "-c", build], cwd=work, check=True, capture_output=True)
    return next(Path(folder).glob("vaelearn-*.whl")).name


# The Sphinx extension ------------------------------------------------------------------------------


def keep(app, name, template, context, doctree):
    """Keep the HTML of each chapter that is written."""
    if doctree is not None and app.env.doc2path(name).endswith(".ipynb"):
        app.portable_bodies[name] = context["body"]


def write(app, error):
    """Write the wheel, the tables and every portable notebook."""
    if error or app.builder.name != "html":
        return
    out, address = Path(app.outdir), app.config.html_baseurl.rstrip("/")
    downloads = out / "_downloads"
    downloads.mkdir(exist_ok=True)
    wheel = f"_downloads/{build_wheel(downloads)}"
    shutil.copytree(ROOT / "book" / "results", out / "results", dirs_exist_ok=True)
    for name, body in app.portable_bodies.items():
        chapter = nbformat.read(app.env.doc2path(name), as_version=4)
        page = f"{address}/{name}.html" if address else ""
        nbformat.write(notebook(chapter, body, page, wheel), out / "_sources" / f"{name}.ipynb")
    for copy in downloads.glob("*/*.ipynb"):
        graded = nbformat.read(ROOT / "exercises" / "student" / copy.name, as_version=4)
        nbformat.write(with_library(graded.cells, graded.metadata, address, wheel), copy)


def setup(app):
    app.portable_bodies = {}
    app.connect("html-page-context", keep)
    app.connect("build-finished", write)
    return {"parallel_read_safe": True}
