"""The printed book: a short one, of a chapter and the pages around it."""

import shutil
import subprocess
import sys

import pytest
from bs4 import BeautifulSoup
from conftest import ROOT
from pypdf import PdfReader

CHAPTER = "09_what_the_elbo_does_not_want"
PAGES = ["intro", CHAPTER, "glossary", "bibliography"]


@pytest.fixture(scope="module")
def printed(html, browser, tmp_path_factory):
    """These pages as a book, printed beside them: (their folder, its reader, the text of each page)."""
    folder = tmp_path_factory.mktemp("paper") / "html"
    shutil.copytree(html, folder)
    code = f"""
import sys
from tools import pdf
pdf.order = lambda: [("", ["intro"]), ("A part", {PAGES[1:]})]
pdf.main(*sys.argv[1:])
"""
    command = [sys.executable, "-c", code, folder, folder / "book.pdf"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    reader = PdfReader(folder / "book.pdf")
    return folder, reader, [page.extract_text() for page in reader.pages]


def flat(outline):
    for entry in outline:
        yield from flat(entry) if isinstance(entry, list) else [entry]


def test_contents_and_bookmarks_lead_to_their_pages(printed):
    folder, reader, texts = printed
    page = BeautifulSoup((folder / f"{CHAPTER}.html").read_text("utf8"), "html.parser")
    for heading in page.select("article :is(h1, h2, h3)"):
        heading.select_one(".headerlink").decompose()
    headings = [heading.get_text() for heading in page.select("article :is(h1, h2, h3)")]
    marks = {}
    for mark in flat(reader.outline):  # the solutions say once more of which chapter they are
        marks.setdefault(mark.title, reader.get_destination_page_number(mark))
    assert len(headings) > 10 and not set(headings) - set(marks)
    contents = next(text for text in texts if text.lstrip().startswith("Contents"))
    for title in (headings[0], "Glossary", "Bibliography", "Solutions"):
        assert f"{title} {marks[title] + 1}" in " ".join(contents.split()), title
        assert title in texts[marks[title]]


def test_every_link_inside_it_leads_somewhere(printed):
    _, reader, _ = printed
    links = [note.get_object() for page in reader.pages for note in page.get("/Annots") or ()]
    inside = [str(link["/Dest"]) for link in links if "/Dest" in link]
    assert len(inside) > 100
    known = {name.lstrip("/") for name in reader.named_destinations}
    elsewhere = {name for name in inside if name.lstrip("/") not in known}
    pages = {name.lstrip("/").split("--")[0] for name in elsewhere}
    assert not pages & set(PAGES), elsewhere


def test_what_paper_cannot_do_is_said_and_what_is_folded_stands_at_the_end(printed):
    folder, _, texts = printed
    whole, (body, end) = "\n".join(texts), "\n".join(texts).rsplit("\nSolutions", 1)
    assert "This is the figure's starting frame" in " ".join(whole.split())
    page = BeautifulSoup((folder / f"{CHAPTER}.html").read_text("utf8"), "html.parser")
    solutions = len(page.select(".solution"))
    assert solutions and end.count("Solution to") == solutions and "Solution to" not in body
    assert body.count("Its solution is at the end.") == solutions
    assert "book.pdf" in (folder / "intro.html").read_text("utf8")
    assert not (folder / "whole-book.html").exists()
