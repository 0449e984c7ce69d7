"""A teacher's pack, from the built book: `python -m tools.pack`. Into _build/pack come, for each chapter,

    NN_name.html          goals, hours, what may be skipped, typical mistakes, exam questions with solutions
    NN_name_slides.html   a slide for each theorem, prediction, figure and pitfall of its page

The first is exercises/NN_name/teacher.md with what is known elsewhere: mistakes are the set's wrong answers,
as a learner is told of them. Learners get neither page with the package, nor with the book.
"""

import html
import re
import shutil
from pathlib import Path
from string import Template

import nbformat
from bs4 import BeautifulSoup
from nbconvert.filters import markdown2html

from tools.assign import EXERCISES, ROOT, module, sets
from vaelearn.exercises import Grader, Wrong, examine, typeset

OUT = ROOT / "_build" / "pack"
MATHJAX = ROOT / "book" / "static" / "vendor" / "tex-svg-full.js"
PAGE = Template(Path(__file__).with_suffix(".html").read_text("utf-8"))
WORDS_AN_HOUR = 2400  # of text with its formulas and cells
# As the questions say it: "*Derive, up to an hour.*"
MINUTES = {
    "five minutes": 5,
    "ten minutes": 10,
    "a quarter of an hour": 15,
    "twenty minutes": 20,
    "half an hour": 30,
    "half hour": 30,
    "forty minutes": 40,
    "three quarters of an hour": 45,
    "an hour": 60,
}
SLIDES = "h1, .proof.theorem, .predict, figure, .pitfall"


def titles(folder: Path) -> dict[str, str]:
    """The questions of a set, and what each is called."""
    source = (folder / "source.py").read_text("utf-8")
    return {f"q{n}": title for n, title in re.findall(r"^# ## Question (\d+): (.*)", source, re.M)}


def reading(folder: Path, but: list[str] = ()) -> float:
    """Hours to read a chapter, without its exercises and some sections: its words, to half an hour."""
    chapter = nbformat.read(ROOT / "book" / f"{folder.name}.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in chapter.cells if cell.cell_type == "markdown")
    parts = re.split(r"^## (.*)\n", text, flags=re.M)
    sections = dict(zip(["", *parts[1::2]], parts[0::2], strict=True))
    assert {*but} <= {*sections}, f"{folder.name} has no section {[*{*but} - {*sections}]}"
    words = sum(len(text.split()) for name, text in sections.items() if name not in {"Exercises", *but})
    return round(2 * words / WORDS_AN_HOUR) / 2


def working(folder: Path, questions: int = 9) -> int:
    """Minutes for the first questions of a set, as they say themselves."""
    source = (folder / "source.py").read_text("utf-8")
    said = re.findall(r"^# \*(?:Implement|Derive|Predict|Repair), ([^*]*)\*", source, re.M)
    length = re.compile("|".join(MINUTES))
    return sum(max(MINUTES[words] for words in length.findall(one)) for one in said[:questions])


def skipped(folder: Path) -> list[str]:
    """The sections that teacher.md lets a course leave out."""
    text = (folder / "teacher.md").read_text("utf-8")
    return re.findall(r"^- \*(.*?)\*", text.split("## What may be skipped")[1].split("\n## ")[0], re.M)


def mistakes(folder: Path) -> str:
    """What the set's wrong answers are told, by question, as HTML."""
    grader = Grader(int(folder.name[:2]))
    student = nbformat.read(EXERCISES / "student" / f"{folder.name}.ipynb", as_version=4)
    cells = [next(cell.source for cell in student.cells if cell.cell_type == "code")]
    pages = [str(grader.solution(question, untried=True)) for question in grader.questions]
    cells += re.findall("```python\n(.*?)```", "\n".join(pages), re.DOTALL)
    answers = {}
    exec("\n".join(cells), answers)
    said = {question: {} for question in grader.questions}
    for n, wrong in enumerate(module(folder, "wrong").wrong):
        try:
            examine(getattr(grader.checks, wrong.question), answers | wrong.answers, 1 + n % 3)
        except Wrong as told:
            said[wrong.question][f"<li>{typeset(str(told))}</li>"] = None  # once, in this order
    heads = titles(folder)
    return "\n".join(f"<h3>{q[1:]}. {heads[q]}</h3><ul>{''.join(lines)}</ul>" for q, lines in said.items())


def notes(folder: Path) -> str:
    """A chapter's page for its teacher."""
    head, exam = (folder / "teacher.md").read_text("utf-8").split("\n## Exam\n")
    whole, less = reading(folder), reading(folder, skipped(folder))
    hours = (
        f"To read: {whole:g} hours, or {less:g} without what may be skipped. "
        f"Exercises: {working(folder)} minutes, the first three questions {working(folder, 3)}."
    )
    parts = [head, f"## Hours\n\n{hours}", "## Typical mistakes\n\nAs the checks tell them.\n\nMISTAKES"]
    page = markdown2html("\n\n".join(parts)).replace("<p>MISTAKES</p>", mistakes(folder))
    # Printed, a solution stays folded.
    exam = re.sub(r"\*\*Solution\.\*\*(.*?)(?=^### |\Z)", _folded, exam, flags=re.M | re.S)
    return page + "<h2>Exam</h2>" + markdown2html(exam)


def _folded(solution) -> str:
    return f"<details><summary>Solution</summary>\n\n{solution[1].strip()}\n\n</details>\n\n"


def slides(page: str) -> str:
    """A slide for each theorem, prediction, figure and pitfall of a built page, under its section's name."""
    soup, found, section = BeautifulSoup(page, "html.parser"), [], ""
    for part in soup.article.select(f"h2, {SLIDES}"):
        for gone in part.select(".headerlink, .eqno, script, input, button, label"):
            gone.decompose()
        for link in part.select("a"):
            link.unwrap()  # to pages that do not lie here
        if part.name == "h2":
            section = part.get_text()
        elif not part.find_parent(class_="dropdown"):
            found.append(f"<section><h2>{html.escape(section)}</h2>{part}</section>")
    return "\n".join(found)


def write(name: str, title: str, body: str, kind: str = "notes") -> None:
    text = PAGE.substitute(title=html.escape(title), body=body, kind=kind, mathjax=MATHJAX.name)
    (OUT / f"{name}.html").write_text(text, "utf-8")


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    shutil.copy(MATHJAX, OUT)
    links = []
    for folder in sets():
        name, chapter = folder.name, int(folder.name[:2])
        write(name, f"Chapter {chapter}, for its teacher", notes(folder))
        page = (ROOT / "_build" / "html" / f"{name}.html").read_text("utf-8")
        write(f"{name}_slides", f"Chapter {chapter}, slides", slides(page), "slides")
        links.append(f'<li>Chapter {chapter}: <a href="{name}.html">notes and exam</a>, ')
        links.append(f'<a href="{name}_slides.html">slides</a></li>')
    write("index", "A teacher's pack", f"<h1>A teacher's pack</h1><ul>{''.join(links)}</ul>")
    print(f"{OUT.relative_to(ROOT)}/index.html, and two pages a chapter beside it.")


if __name__ == "__main__":
    main()
