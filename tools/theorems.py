"""The page that lists every theorem and every figure of the chapters, made while the book is built."""

import re

import nbformat
from names import BLOCK, BOOK, LABEL, chapters, title


def theorems(cells) -> list[tuple[str, str]]:
    """How a page refers to each, and its title."""
    texts = (cell.source for cell in cells if cell.cell_type == "markdown")
    found = (block for text in texts for block in re.finditer(BLOCK + LABEL, text, re.M))
    return [
        (f"{{prf:ref}}`{block['label']}`", block["title"]) for block in found if block["kind"] != "exercise"
    ]


def figures(cells) -> list[tuple[str, str]]:
    """How a page refers to each, and its caption."""
    found = (
        cell.metadata["mystnb"]["figure"] for cell in cells if "figure" in cell.metadata.get("mystnb", {})
    )
    return [(f"{{numref}}`{figure['name']}`", figure["caption"]) for figure in found]


def listed(found_in) -> str:
    """A list under the title of each chapter."""
    lines = []
    for number, name in enumerate(chapters(), 1):
        path = BOOK / f"{name}.ipynb"
        lines += [f"### {number} {title(path)}", ""]
        lines += [f"- {link}: {words}" for link, words in found_in(nbformat.read(path, 4).cells)]
        lines += [""]
    return "\n".join(lines)


def fill(app, name, content):
    if name == "theorems":
        page = content[0].replace("<!-- the theorems -->", listed(theorems))
        content[0] = page.replace("<!-- the figures -->", listed(figures))


def setup(app):
    app.connect("source-read", fill)
    app.connect("env-get-outdated", lambda app, *_: ["theorems"])  # made of what lies outside the page
    return {"parallel_read_safe": True}
