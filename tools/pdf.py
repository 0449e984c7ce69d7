"""The built book as one PDF, printed by the browser that tests it: python tools/pdf.py HTML PDF

All pages of the table of contents in one document, so that every number and reference is the online
book's. What paper cannot do is changed: a figure with sliders keeps its starting frame and says so,
folded solutions stand at the end, folded code is left out. Printed twice: the first print tells the
contents their page numbers.
"""

import os
import re
import shutil
import sys
from pathlib import Path

import yaml
from bs4 import BeautifulSoup
from playwright.sync_api import sync_playwright
from pypdf import PdfReader

ROOT = Path(__file__).resolve().parents[1]
STYLE = """
@page { size: A4; margin: 20mm 18mm 18mm; }
html { scroll-padding: 0; }
body { background: white; }
.bd-article { font-size: 10.5pt; padding: 0 !important; max-width: none; }
.bd-article h1 { font-size: 22pt; break-before: page; }
.bd-article h2 { font-size: 15pt; } .bd-article h3 { font-size: 12pt; }
h1, h2, h3, .admonition-title, caption { break-after: avoid; }
figure, tr, mjx-container[display=true], .vl-figure { break-inside: avoid; }
.bd-article pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 8.5pt; }
.bd-article .cell_output pre { font-size: 8pt; }
mjx-container svg g { stroke: none !important; }
mjx-container[display=true] { overflow: visible; }
.headerlink, button, .vl-controls, .vl-live { display: none !important; }
.moves { font-size: 9pt; font-style: italic; text-align: center; margin: 0; }
.title-page { text-align: center; padding-top: 30vh; }
.title-page h1 { break-before: auto; font-size: 24pt; white-space: nowrap; }
.vl-doors { break-inside: avoid; }
.contents { break-before: page; } .contents ol { list-style: none; padding: 0; }
.contents li { display: flex; gap: 0.5em; margin: 0.15em 0; }
.contents li span { flex: 1; border-bottom: 1px dotted #999; }
.contents .part { margin-top: 0.9em; font-weight: 600; }
"""
TELL = """pages => document.querySelectorAll("[data-page]").forEach(
  place => place.textContent = pages[place.dataset.page] ?? "")"""
LINK = "<!-- the whole book as one PDF -->"  # where the home page says that there is one
FOOT = '<div style="font-size:8pt;width:100%;text-align:center"><span class="pageNumber"></span></div>'


def order():
    """(caption, [pages]) of each part, in the order of the table of contents."""
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text("utf-8"))
    parts = [(part["caption"], [page["file"] for page in part["chapters"]]) for part in toc["parts"]]
    return [("", [toc["root"]]), *parts]


def chapter(html, name):
    """The article of a page, its places and links made unique in the whole."""
    page = BeautifulSoup((html / f"{name}.html").read_text("utf-8"), "html.parser")
    article = page.select_one("article.bd-article")
    article.name, article["id"] = "section", f"{name}--"
    for waste in article.select(
        "script, .headerlink, details.hide, .sd-dropdown, .dropdown:not(.solution, .needs), nav"
    ):
        waste.decompose()
    for place in article.select("[id]"):
        if not place.find_parent("svg") and place is not article:
            place["id"] = f"{name}--{place['id']}"
    for link in article.select("a[href]"):
        target, _, fragment = link["href"].partition("#")
        if re.match(r"[a-z]+:", link["href"]):
            continue
        if target.startswith("_downloads") or not (html / (target or f"{name}.html")).exists():
            link.unwrap()
            continue
        link["href"] = f"#{target.removesuffix('.html') or name}--{fragment}"
    for figure in article.select(".vl-figure[data-vl]"):
        note = page.new_tag("p", attrs={"class": "moves"})
        note.string = (
            "This is the figure's starting frame; its sliders move in the online book and in the notebook."
        )
        figure.insert_after(note)
    return article


def book(html):
    """The whole as one HTML document."""
    shell = BeautifulSoup((html / "intro.html").read_text("utf-8"), "html.parser")
    title = shell.select_one("h1").contents[0].get_text().strip()
    head = "".join(str(tag) for tag in shell.head.select('link[rel="stylesheet"]'))
    scripts = "".join(
        str(s) for s in shell.select("script") if re.search("mathjax|tex-svg|fit.js", str(s), re.IGNORECASE)
    )
    contents, body, solutions = [], [], []
    for caption, pages in order():
        if caption:
            contents.append(f'<li class="part">{caption}</li>')
        for name in pages:
            article = chapter(html, name)
            heading = article.h1.get_text().strip()
            if name != "intro":
                contents.append(
                    f'<li><a href="#{name}--">{heading}</a><span></span><b data-page="{name}--"></b></li>'
                )
            folded = article.select(".solution")
            if folded:
                solutions.append(f"<h2>{heading}</h2>")
            for number, solution in enumerate(folded):
                place = f"{name}--solution-{number}"
                solution["class"] = [kind for kind in solution["class"] if kind != "dropdown"]
                solution["id"] = place
                link = BeautifulSoup(
                    f'<p class="moves"><a href="#{place}">Its solution is at the end.</a></p>', "html.parser"
                )
                solution.replace_with(link)
                solutions.append(str(solution))
            body.append(str(article))
    contents.append(
        '<li><a href="#solutions--">Solutions</a><span></span><b data-page="solutions--"></b></li>'
    )
    motto = shell.select_one("article em").get_text()
    cover = f'<section class="title-page"><h1>{title}</h1><p>{motto}</p></section>'
    listed = f'<section class="contents"><h2>Contents</h2><ol>{"".join(contents)}</ol></section>'
    end = f'<section id="solutions--"><h1>Solutions</h1>{"".join(solutions)}</section>'
    return (
        f'<!doctype html><html lang="en" data-theme="light"><head><meta charset="utf-8">'
        f"<title>{title}</title>{head}<style>{STYLE}</style>{scripts}</head>"
        f'<body><article class="bd-article">{cover}{listed}{"".join(body)}{end}</article></body></html>'
    )


def chromium(playwright):
    """The path of a Chromium: the reader's choice, the system's, or Playwright's own; or None."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = [os.environ.get("CHROMIUM"), *map(shutil.which, names), playwright.chromium.executable_path]
    return next((path for path in found if path and Path(path).exists()), None)


def main(html, out):
    html, whole = Path(html).resolve(), Path(html).resolve() / "whole-book.html"
    whole.write_text(book(html), encoding="utf-8")
    with sync_playwright() as playwright:
        path = chromium(playwright)
        if path is None:
            sys.exit("No Chromium found: install it, or name one in the variable CHROMIUM.")
        browser = playwright.chromium.launch(executable_path=path, args=["--headless", "--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(600_000)
        page.goto(whole.as_uri())
        page.wait_for_function("document.documentElement.dataset.fitted !== undefined")
        how = {"path": out, "prefer_css_page_size": True, "outline": True, "tagged": True}
        how |= {"display_header_footer": True, "header_template": "<span></span>", "footer_template": FOOT}
        page.pdf(**how)
        reader = PdfReader(out)
        pages = {
            name.lstrip("/"): reader.get_destination_page_number(place) + 1
            for name, place in reader.named_destinations.items()
        }
        page.evaluate(TELL, pages)
        page.pdf(**how)
        browser.close()
    whole.unlink()
    size = f"{len(PdfReader(out).pages)} pages, {Path(out).stat().st_size / 1e6:.0f} MB"
    if Path(out).resolve().parent == html:
        home = html / "intro.html"
        link = f'<p class="vl-pdf"><a href="{Path(out).name}">The whole book as one PDF</a>: {size}.</p>'
        home.write_text(home.read_text("utf-8").replace(LINK, link), "utf-8")
    print(f"{out}: {size}")


if __name__ == "__main__":
    main(*sys.argv[1:])
