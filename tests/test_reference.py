"""The library's reference: every public name has an entry, says what it is, and is led to."""

import inspect

import pytest
from bs4 import BeautifulSoup
from conftest import ROOT

from tools import reference

NAMES = [(m, name, thing) for m in reference.modules() for name, thing in reference.public(m).items()]


@pytest.mark.parametrize(
    ("module", "name", "thing"), [pytest.param(*n, id=f"{n[0].__name__}.{n[1]}") for n in NAMES]
)
def test_every_public_name_is_documented(module, name, thing):
    assert len(inspect.getdoc(thing) or "") > 20


def test_every_public_name_has_an_entry(html):
    page = BeautifulSoup((html / "reference.html").read_text("utf8"), "html.parser")
    places = {tag["id"] for tag in page.select("[id]")}
    assert len(NAMES) > 80
    assert not {reference.anchor(module, name) for module, name, _ in NAMES} - places


def test_chapters_lead_to_the_names_they_use(html):
    page = BeautifulSoup((html / "05_importance_weighting.html").read_text("utf8"), "html.parser")
    links = {link.get_text(): link["href"] for link in page.select("a.vl-entry")}
    assert links["vl.bounds.iwae"] == "reference.html#vl-bounds-iwae"
    assert links["IWAE"] == "reference.html#vl-objectives-iwae-class"  # by the import at the chapter's head
    assert links["vl.fit"] == "reference.html#vl-training-fit"
    assert ROOT.joinpath("vaelearn/bounds.py").exists()


def test_a_name_that_is_not_the_librarys_leads_nowhere():
    dot, name = '<span class="o">.</span>', '<span class="n">{}</span>'.format
    body = f"{name('torch')}{dot}{name('IWAE')} {name('mine')} {name('fit')}"
    known = {"vaelearn.objectives.IWAE": "x", "vaelearn.fit": "y"}
    assert reference.linked(body, {"vl": "vaelearn"}, known) == body
    assert "#y" in reference.linked(body, {"fit": "vaelearn.fit"}, known)
