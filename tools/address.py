"""What the pages can offer once the book has an address on the web: see `_config.yml`.

With `html_baseurl` (the book's) and `book_repository` set, each chapter opens in Colab and in Binder,
each page can be edited, and search engines find a map of the site. With either empty, nothing of
this shows. Colab and Binder read the portable notebooks from the branch of published pages.
"""

from pathlib import Path
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

PAGES = "gh-pages"  # the branch that .github/workflows/publish.yml writes


def buttons(repository, source):
    """The buttons of a page: what each says, where it leads, its icon."""
    owner_and_name = urlsplit(repository).path.strip("/")
    if source.endswith(".ipynb"):
        notebook = f"_sources/{source}"
        colab = f"https://colab.research.google.com/github/{owner_and_name}/blob/{PAGES}/{notebook}"
        binder = f"https://mybinder.org/v2/gh/{owner_and_name}/{PAGES}?urlpath=lab/tree/{notebook}"
        yield "Run in Colab", colab, "_static/images/logo_colab.png"
        yield "Run in Binder", binder, "_static/images/logo_binder.svg"
    yield "Suggest an edit", f"{repository}/edit/main/book/{source}", "fas fa-pencil-alt"


def offer(app, name, template, context, doctree):
    """Put the buttons beside the theme's own."""
    repository = app.config.book_repository.rstrip("/")
    if doctree is None or not (repository and app.config.html_baseurl):
        return
    source = Path(app.env.doc2path(name)).name
    links = [
        {"type": "link", "text": text, "tooltip": text, "url": url, "icon": icon}
        for text, url, icon in buttons(repository, source)
    ]
    group = {
        "type": "group",
        "label": "elsewhere-buttons",
        "tooltip": "Run or edit this page",
        "icon": "fas fa-rocket",
    }
    context["header_buttons"].insert(0, {**group, "buttons": links})


def map_of_the_site(app, error):
    """sitemap.xml."""
    address = app.config.html_baseurl.rstrip("/")
    if error or not address:
        return
    pages = "".join(
        f"<url><loc>{escape(f'{address}/{name}.html')}</loc></url>\n" for name in sorted(app.env.found_docs)
    )
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{pages}</urlset>\n'
    Path(app.outdir, "sitemap.xml").write_text(text, encoding="utf-8")


def setup(app):
    app.add_config_value("book_repository", "", "html")
    app.connect("html-page-context", offer, priority=900)  # after the theme has made its list
    app.connect("build-finished", map_of_the_site)
    return {"parallel_read_safe": True}
