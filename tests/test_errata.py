"""The appendix of errata: each pitfall box has its row, and each cost is what cells beside the box print."""

import re
from pathlib import Path

import nbformat
import yaml

BOOK = Path(__file__).parents[1] / "book"
BOX = re.compile(r"^:{3,}\{admonition\} *(?P<title>.*)\n(?P<options>(?::\w+:.*\n)*)", re.M)
NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?%?")


def numbers(text):
    return set(NUMBER.findall(text.replace("−", "-")))


def printed(cell):
    outputs = (output for output in cell.get("outputs", ()) if output.output_type == "stream")
    return numbers("\n".join(output.text for output in outputs))


def boxes(cells):
    """Name -> the numbers printed near it, of each pitfall box: from the heading before to the one after."""
    found, here, since = {}, [], set()
    for cell in cells:
        since |= printed(cell)
        if cell.cell_type != "markdown":
            continue
        for part in re.split(r"^(?=#+ )", cell.source, flags=re.M):
            if part.startswith("#"):
                found |= dict.fromkeys(here, since)
                here, since = [], set()
            for box in BOX.finditer(part):
                options = dict(re.findall(r":(\w+): *(.*)", box["options"]))
                if box["title"].startswith("Pitfall") or "pitfall" in options.get("class", ""):
                    assert box["title"].startswith("Pitfall: "), box["title"]
                    assert {"warning", "pitfall"} == set(options.get("class", "").split()), box["title"]
                    assert options.get("name", "").startswith("pitfall:"), f"no name: {box['title']}"
                    here.append(options["name"])
    return found | dict.fromkeys(here, since)


def pages():
    """(what the page is called, its boxes) of each chapter and appendix that is a notebook."""
    for part in yaml.safe_load((BOOK / "_toc.yml").read_text("utf8"))["parts"]:
        for page in part["chapters"]:
            path = BOOK / f"{page['file']}.ipynb"
            if path.exists():
                number = re.match(r"0*(\d+)_", path.name)
                called = f"Chapter {number[1]}" if number else "Your own data"
                yield called, boxes(nbformat.read(path, as_version=4).cells)


def rows():
    """[mistake, cost, right] of each row of the page's tables."""
    for line in (BOOK / "errata.md").read_text("utf8").splitlines():
        if line.startswith("|") and "](#" in line:
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]


def test_each_pitfall_has_its_row_and_each_cost_is_what_the_cells_beside_it_print():
    found = {name: (called, near) for called, page in pages() for name, near in page.items()}
    listed = []
    for mistake, cost, right in rows():
        called, name = re.fullmatch(r".+ \(\[(.+)\]\(#(.+)\)\)", mistake).groups()
        assert name in found, f"no box is called {name}: {mistake}"
        assert called == found[name][0], mistake
        assert right and numbers(cost), mistake
        missing = numbers(cost) - found[name][1]
        assert not missing, f"{name}: no cell near the box prints {sorted(missing)}"
        listed.append(name)
    assert not found.keys() - listed, f"no row for {sorted(found.keys() - listed)}"
    assert len(listed) == len(found), "two rows for one box"
