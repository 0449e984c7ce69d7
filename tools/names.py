"""What each label of the book is called, from the sources alone: `python tools/names.py`.

JupyterLab shows one chapter at a time and cannot know that `thm:iw-bound` is Theorem 5.1, or that
`burda2016` is Burda et al. [2016]. This writes both, and the titles of all pages, to where the
extension in tools/jupyter reads them. A test compares with the pages of the built book.
"""

import json
import re
from collections import Counter
from pathlib import Path

import nbformat
import yaml
from pybtex.database import Entry, parse_file

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
OUT = ROOT / "tools" / "jupyter" / "labextensions" / "vaelearn" / "static" / "names.json"

EQUATION = r"\$\$ ?\((?P<equation>[\w:-]+)\)$"
BLOCK = r"^:{3,}\{(?:prf:)?(?P<kind>theorem|proposition|lemma|corollary|definition|exercise)\}"
LABEL = r" *(?P<title>[^\n]*)\n(?::\w+:[^\n]*\n)*?:label: (?P<label>[\w:-]+)"
LABELLED = rf"{EQUATION}|{BLOCK}{LABEL}"


def chapters() -> list[str]:
    """The numbered pages, in the order of the table of contents."""
    parts = yaml.safe_load((BOOK / "_toc.yml").read_text("utf-8"))["parts"]
    return [page["file"] for part in parts if part.get("numbered") for page in part["chapters"]]


def labels() -> dict[str, str]:
    """{"thm-iw-bound": "Theorem 5.1"}, for each equation, theorem, exercise and figure."""
    names = {}
    for number, chapter in enumerate(chapters(), 1):
        path = BOOK / f"{chapter}.ipynb"
        if not path.exists():
            continue
        count = Counter()

        def name(kind, label, pattern, number=number, count=count):
            count[kind] += 1
            names[label.replace(":", "-")] = pattern.format(f"{number}.{count[kind]}")

        for cell in nbformat.read(path, as_version=4).cells:
            if figure := cell.metadata.get("mystnb", {}).get("figure"):
                name("figure", figure["name"], "Fig. {}")
            if cell.cell_type == "markdown":
                for found in re.finditer(LABELLED, cell.source, re.M):
                    if found["equation"]:
                        name("equation", found["equation"], "({})")
                    else:
                        name(found["kind"], found["label"], f"{found['kind'].capitalize()} {{}}")
    return names


def citation(entry: Entry) -> str:
    """How the book cites a work: Burda et al. [2016]."""
    people = [" ".join([*person.prelast_names, *person.last_names]) for person in entry.persons["author"]]
    who = f"{people[0]} et al." if len(people) > 2 else " and ".join(people)
    return re.sub(r"[{}]", "", f"{who} [{entry.fields['year']}]")


def title(path: Path) -> str:
    """The heading of a page."""
    text = path.read_text("utf-8") if path.suffix == ".md" else nbformat.read(path, 4).cells[0].source
    return re.search(r"^# (.*)", text, re.M)[1]


def names() -> dict[str, dict[str, str]]:
    """What the extension reads, with the titles of all pages: {"glossary.md": "Glossary"}."""
    citations = {key: citation(e) for key, e in parse_file(BOOK / "references.bib").entries.items()}
    pages = [path for path in sorted(BOOK.iterdir()) if path.suffix in (".md", ".ipynb")]
    return {
        "labels": labels(),
        "citations": citations,
        "documents": {path.name: title(path) for path in pages},
    }


if __name__ == "__main__":
    OUT.write_text(json.dumps(names(), ensure_ascii=False, indent=1) + "\n", "utf-8")
