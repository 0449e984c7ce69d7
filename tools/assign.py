"""Sources to student notebooks, worked solutions and autograders: `python tools/assign.py [CHAPTER ...]`.

A set is a folder NN_name with source.py (Otter Assign's format as a percent script: texts, stubs,
solutions) and hidden.py (the teacher's checks). From it come
    exercises/student/NN_name.ipynb        what a learner opens        } committed, never edited by hand:
    vaelearn/exercises/solutions/NN.md     what `grader.solution` shows } tests notice when they are stale
    _build/exercises/NN/                   Otter's output: solved notebook and test files
"""

import importlib.util
import re
import shutil
import sys
import tempfile
import textwrap
from pathlib import Path
from unittest.mock import patch

import jupytext
import nbformat
from otter.assign import main as otter_assign

from vaelearn.exercises import Grader
from vaelearn.exercises.answers import parts_of

ROOT = Path(__file__).resolve().parents[1]
EXERCISES = ROOT / "exercises"
KERNEL = {
    "name": "python3",
    "display_name": "Python 3 (ipykernel)",
    "language": "python",
}
CONFIG = """# ASSIGNMENT CONFIG
init_cell: false
export_cell: false
generate: false
run_tests: false
tests: {files: true, ok_format: false}"""
# A part of a question is a test case, so that Otter gives points for each.
CASE = '''""" # BEGIN TEST CONFIG
hidden: {hidden}
{about}""" # END TEST CONFIG
def case_{number}(env):
    from vaelearn.exercises import ch{chapter:02d}, examine
{checks}    examine({asked})'''
ABOUT = """

If `import vaelearn` fails below, the package is missing. The copy of this notebook on the book's page fetches
it by itself; otherwise run `%pip install /path/to/the/book` (the folder with `pyproject.toml`) or
`%pip install vaelearn-0.1.0-py3-none-any.whl`. `grader.hint("q1")` gives a hint, one at a time, and
`grader.check()` shows the whole set. This folder remembers what has passed."""
WHOLE = "## The whole set\n\nWhat has passed, what is left, and the points."


def sets() -> list[Path]:
    """The folders of the sets, in the order of the chapters."""
    return sorted(path.parent for path in EXERCISES.glob("[0-9][0-9]_*/source.py"))


def module(folder: Path, part: str):
    """What a set's `part`.py defines: its hidden checks, or its wrong answers."""
    spec = importlib.util.spec_from_file_location(f"{part}_{folder.name}", folder / f"{part}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_cases(chapter: int, question: str, hidden: str) -> list[str]:
    """Of each part of a question a public and a hidden test, in Otter's format."""
    public, cases = f"ch{chapter:02d}.{question}", []
    teachers = f"{question}, env, public={public}", textwrap.indent(hidden, "    ")
    for asked, checks in (f"{public}, env", ""), teachers:
        for part in parts_of(getattr(Grader(chapter).checks, question)):
            about = "".join(f"{kind}_message: {part}\n" for kind in ("success", "failure") if part)
            said = {"hidden": str(bool(checks)).lower(), "about": about, "number": len(cases) + 1}
            said |= {"chapter": chapter, "checks": checks, "asked": f"{asked}, part={part!r}"}
            cases.append(CASE.format(**said))
    return cases


def with_tests(notebook, chapter: int, hidden: str):
    """The source with Otter's markers for its configuration and for two test cells a question."""
    raw, code = nbformat.v4.new_raw_cell, nbformat.v4.new_code_cell
    cells, question = [raw(CONFIG)], None
    for cell in notebook.cells:
        if cell.cell_type == "raw" and (begin := re.search(r"BEGIN QUESTION.*\nname: (q\d+)", cell.source)):
            question = begin[1]
        if cell.cell_type == "raw" and "END QUESTION" in cell.source:
            cases = test_cases(chapter, question, hidden)
            cells += [raw("# BEGIN TESTS"), *map(code, cases), raw("# END TESTS")]
        cells.append(cell)
    cells[1].source += ABOUT
    cells += [nbformat.v4.new_markdown_cell(WHOLE), code("grader.check()")]
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})


def learner_notebook(path: Path):
    """Otter's student notebook, byte for byte the same at each build."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = {
        "kernelspec": KERNEL,
        "language_info": {"name": "python"},
    }
    # Where a prompt stands, a solution leaves an empty cell behind.
    notebook.cells = [cell for cell in notebook.cells if cell.source.strip()]
    for number, cell in enumerate(notebook.cells, 1):
        cell.id = f"c{number:03d}"
        cell.source = cell.source.strip("\n")
        cell.metadata.pop("lines_to_next_cell", None)
    return notebook


def solutions(path: Path, points: dict[str, str]) -> str:
    """The solution cells of Otter's solved notebook, question by question, as Markdown."""
    page, cells = [], []
    for cell in nbformat.read(path, as_version=4).cells:
        if "otter_assign_solution_cell" in cell.metadata.get("tags", ()):
            marks = r"[ \t]*# (BEGIN|END) SOLUTION.*\n?|[ \t]*# SOLUTION.*"
            text = re.sub(marks, "", cell.source).strip()
            cells.append(f"```python\n{text}\n```" if cell.cell_type == "code" else text)
        elif check := re.match(r'grader\.check\("(q\d+)"\)', cell.source):
            worth = f"{points[check[1]]} point{'s' * (points[check[1]] != '1')}"
            page.append("\n\n".join([f"## {check[1]} ({worth})", *cells]))
            cells = []
    return "\n\n".join(page) + "\n"


def build(folder: Path, otter: Path, student: Path, solved: Path) -> None:
    """Build one set: Otter's output into `otter`, the other two into the folders `student` and `solved`."""
    chapter = int(folder.name[:2])
    script = jupytext.read(folder / "source.py", fmt="py:percent")
    source = with_tests(script, chapter, (folder / "hidden.py").read_text("utf-8"))
    work = otter / "source"
    shutil.rmtree(otter, ignore_errors=True)
    work.mkdir(parents=True)
    master = work / f"{folder.name}.ipynb"
    nbformat.write(source, master)
    # Otter forgets a folder with every test, hidden ones too, where temporary files go.
    with tempfile.TemporaryDirectory() as temporary, patch.object(tempfile, "tempdir", temporary):
        otter_assign(str(master), str(otter))
    for path in student, solved:
        path.mkdir(parents=True, exist_ok=True)
    nbformat.write(learner_notebook(otter / "student" / master.name), student / master.name)
    points = dict(re.findall(r"name: (q\d+)\n.*?points: (\d+)", "\n".join(c.source for c in script.cells)))
    page = solutions(otter / "autograder" / master.name, points)
    (solved / f"{chapter:02d}.md").write_text(page, encoding="utf-8")


def main() -> None:
    wanted = {int(chapter) for chapter in sys.argv[1:]}
    for folder in sets():
        if wanted and int(folder.name[:2]) not in wanted:
            continue
        otter = ROOT / "_build" / "exercises" / folder.name[:2]
        build(
            folder,
            otter,
            EXERCISES / "student",
            ROOT / "vaelearn" / "exercises" / "solutions",
        )
        print(f"{folder.name}: built")


if __name__ == "__main__":
    main()
