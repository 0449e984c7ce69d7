"""What a teacher reads: the mark sheet, and a page for each learner."""

import csv
import hashlib
import html
import os
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from vaelearn.exercises import typeset

from .handed_in import HandedIn

PAGE = Template(Path(__file__).with_name("page.html").read_text("utf-8"))
TEXT = 2000  # characters of a message, and of a cell of the sheet


@dataclass
class Report:
    """Marks of one submission: per question its score, the possible one, what the checks said, its parts.

    A part has a score, and what was possible; where there is only one, it has no name.
    """

    questions: dict[str, tuple[float, float, list[str], dict]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def total(self) -> float:
        return round(sum(score for score, *_ in self.questions.values()), 2)

    @property
    def possible(self) -> float:
        return round(sum(possible for _, possible, *_ in self.questions.values()), 2)

    @property
    def parts(self) -> dict[str, float]:
        """The points of each part of a question that has several."""
        named = (
            (q, part, points) for q, (*_, parts) in self.questions.items() for part, points in parts.items()
        )
        return {f"{q} {part}": round(points[0], 4) for q, part, points in named if part}


Row = tuple[HandedIn, Report]


def write_marks(rows: list[Row], path: Path) -> None:
    """The mark sheet: a line per learner, a column per question, and at the right one per part."""
    full = max((report for _, report in rows), key=lambda report: len(report.questions))
    with path.open("w", newline="", encoding="utf-8-sig") as file:  # the mark by which Excel knows UTF-8
        sheet = csv.writer(file)
        about = "total", "out of", "seconds", "remarks"
        sheet.writerow(["learner", "id", *full.questions, *about, *map(cell, full.parts)])
        for handed, report in rows:
            scores = [report.questions.get(q, [0])[0] for q in full.questions]
            sums = report.total, full.possible, f"{report.seconds:.1f}"
            parts = [report.parts.get(part, 0) for part in full.parts]
            who, remarks = (cell(handed.learner), handed.id), cell("; ".join(report.remarks))
            sheet.writerow([*who, *scores, *sums, remarks, *parts])


def write_import(rows: list[Row], platform: str, title: str, path: Path) -> None:
    """The totals in the columns that Canvas, or an assignment of Moodle, imports.

    canvas-lms: lib/gradebook_importer.rb; moodle: mod/assign/feedback/offline/importgradeslib.php.
    """
    possible = max(report.possible for _, report in rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        sheet = csv.writer(file)
        if platform == "canvas":
            sheet.writerow(["Student", "ID", "Section", title])
            sheet.writerow(["Points Possible", "", "", f"{possible:g}"])
        else:
            last = "Last modified (grade)", "Feedback comments"
            sheet.writerow(["Identifier", "Full name", "Grade", "Maximum grade", *last])
        for handed, report in rows:
            if handed.platform == platform:
                name, total = cell(handed.learner), f"{report.total:g}"
                said = ", ".join(f"{q}: {n:g} of {m:g}" for q, (n, m, *_) in report.questions.items())
                moodle = f"Participant {handed.id}", name, total, f"{possible:g}", "-", said
                sheet.writerow([name, handed.id, "", total] if platform == "canvas" else moodle)


def cell(text: str) -> str:
    """Text that a spreadsheet takes for one cell and no formula, whichever sign separates its cells."""
    text = printable(text).replace(";", ",")[:TEXT]
    return f"'{text}" if text.lstrip().startswith(tuple("=+-@＝＋－＠")) else text


def printable(text: str) -> str:
    """The text with a space for each character that does not print, ends of lines among them."""
    return "".join(c if c.isprintable() else " " for c in text)


def page_name(learner: str) -> str:
    """The name of a learner's page, which may have 255 bytes; two names that are cut stay apart."""
    name = os.fsencode(learner)
    if len(name) > 250:
        name = name[:200] + hashlib.sha256(name).hexdigest()[:16].encode()
    return os.fsdecode(name) + ".html"


def write_page(handed: HandedIn, report: Report, chapter: int, path: Path) -> None:
    """One learner's page: marks, what the checks said, what went wrong while the notebook ran."""
    rows = "".join(
        f"<tr><th>{html.escape(q)}</th><td>{score:g} of {possible:g}{_parts(parts)}</td>"
        f"<td>{'<hr>'.join(map(_typeset, said))}</td></tr>"
        for q, (score, possible, said, parts) in report.questions.items()
    )
    remarks = "".join(f"<li>{_typeset(text)}</li>" for text in report.remarks)
    path.write_text(
        PAGE.substitute(
            learner=html.escape(printable(handed.learner)),
            chapter=chapter,
            total=f"{report.total:g}",
            possible=f"{report.possible:g}",
            rows=rows,
            remarks=f"<h2>While the notebook ran</h2><ul>{remarks}</ul>" if remarks else "",
        ),
        encoding="utf-8",
    )


def _parts(parts: dict) -> str:
    named = [f"{html.escape(part)} {n:.3g} of {m:.3g}" for part, (n, m) in parts.items() if part]
    return "".join(f"<br><small>{line}</small>" for line in named)


def _typeset(text: str) -> str:
    return typeset(printable(text))
