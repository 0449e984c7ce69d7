"""The names that JupyterLab shows for references are the built pages' own."""

import re

from bs4 import BeautifulSoup

from tools import names
from tools.portable import bare  # parses in a tenth of the time


def test_names_are_those_of_the_built_pages(html):
    known = names.labels()
    seen = 0
    for chapter in names.chapters():
        page = BeautifulSoup(bare((html / f"{chapter}.html").read_text("utf8")), "html.parser")
        for number in page.select(".eqno, .caption-number"):
            place = number.find_parent(id=re.compile(r"^(equation-)?[a-z]+[:-](?!content)"))
            label = place["id"].removeprefix("equation-").replace(":", "-")
            assert known[label] == number.get_text().strip("# \n¶")
            seen += 1
    assert seen == len(known)
