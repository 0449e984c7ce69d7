"""What the tests of the built book share: a build, a server and a browser, one of each a session."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from filelock import FileLock
from joblib import cpu_count

ROOT = Path(__file__).parents[1]
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-quic",
]  # fmt: skip
HOW_TO_GET_CHROMIUM = (
    "no Chromium found: install it (Debian: apt install chromium; anywhere: "
    ".venv/bin/python -m playwright install chromium) or name one in the variable CHROMIUM"
)

# Formulas typeset and fitted to their boxes. On a machine at its limit that takes longer than any timeout.
FITTED = '"fitted" in document.documentElement.dataset'


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """One process more than cores: many tests wait, for a browser, a kernel or a limit of time."""
    return cpu_count() + 1


@pytest.fixture(autouse=True)
def dtype_as_it_was():
    """A test may run a chapter's or a set's cells, and those choose a default dtype for all that follows."""
    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)


def build_book(out, *options):
    """Build the book into `out`: (exit status, log, folder of pages)."""
    command = [Path(sys.executable).with_name("jupyter-book"), "build", ROOT / "book", *options]
    strict = ["-W", "--keep-going", "-n", "--path-output", out]
    run = subprocess.run([*command, *strict], capture_output=True, text=True, check=False)
    return run.returncode, run.stdout + run.stderr, out / "_build" / "html"


@pytest.fixture(scope="session")
def build(tmp_path_factory, worker_id):
    """A build of the whole book with warnings as errors, one for all processes of this run."""
    base = tmp_path_factory.getbasetemp()
    out = (base if worker_id == "master" else base.parent) / "book"
    with FileLock(f"{out}.lock"):
        if not (done := out / "built.json").exists():
            out.mkdir(exist_ok=True)
            status, log, _ = build_book(out)
            done.write_text(json.dumps([status, log]), encoding="utf8")
    return *json.loads(done.read_text(encoding="utf8")), out / "_build" / "html"


@pytest.fixture(scope="session")
def html(build):
    """The folder of built pages."""
    status, _, folder = build
    if status:
        pytest.skip("the book does not build without warnings: see test_book_builds")
    return folder


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def site(html):
    """The built book by both ways to open it: {"http": address, "file": address}."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=html))
    Thread(target=server.serve_forever, daemon=True).start()
    yield {"http": f"http://127.0.0.1:{server.server_port}", "file": html.as_uri()}
    server.shutdown()


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    sync_api = pytest.importorskip("playwright.sync_api")
    from tools.pdf import chromium

    with sync_api.sync_playwright() as playwright:
        if (path := chromium(playwright)) is None:
            (pytest.fail if os.environ.get("REQUIRE_BROWSER") else pytest.skip)(HOW_TO_GET_CHROMIUM)
        home = {"HOME": str(tmp_path_factory.mktemp("home"))}  # what Chromium writes goes there
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS, env={**os.environ, **home})
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def visit(browser, site):
    """`with visit("intro", by="http") as (page, problems)`: a page, typeset, fitted and at rest.

    `problems` grows with each error in the console, each request that fails and
    each request that leaves the book. Options go to Playwright's `new_context`.
    """

    @contextmanager
    def visit(name, by="http", query="", **options):
        problems = []
        with browser.new_context(**options) as context:
            page = context.new_page()

            def on_request(request):
                if not request.url.startswith((site[by] + "/", "data:", "blob:")):
                    problems.append(f"request outside the book: {request.url}")

            def on_console(message):
                if message.type == "error":
                    problems.append(f"console: {message.text}")

            def on_response(response):
                if response.status >= 400:
                    problems.append(f"{response.status}: {response.url}")

            page.on("request", on_request)
            page.on("console", on_console)
            page.on("response", on_response)
            page.on("pageerror", lambda error: problems.append(f"script: {error}"))
            page.on("requestfailed", lambda request: problems.append(f"failed: {request.url}"))
            page.goto(f"{site[by]}/{name}.html{query}", wait_until="load")
            page.wait_for_function(FITTED, timeout=0)  # unlike evaluate, it outlives a page that leads on
            yield page, problems

    return visit
