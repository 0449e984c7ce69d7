"""Graded exercises: what a learner's notebook imports. Works with this package alone.

    from vaelearn.exercises import Grader
    grader = Grader(5)        # the exercises of chapter 5
    grader.check("q1")        # says what is right, or what went wrong and why
    grader.hint("q1")         # a hint, and at the next call the next
    grader.check()            # the whole set: passed, tried, left
    grader.solution("q1")     # a worked solution, once you have tried

The checks of chapter 5 are the functions of `vaelearn.exercises.ch05`.
"""

import html
import inspect
import json
import pkgutil
import re
from importlib import import_module, resources
from pathlib import Path

from .answers import Wrong, examine, parts_of

__all__ = ["Grader", "Overview", "Verdict"]

CHAPTERS = [int(name[2:]) for _, name, _ in pkgutil.iter_modules(__path__) if re.fullmatch(r"ch\d+", name)]


def typeset(text: str) -> str:
    """Text of a check as HTML: nothing in it is markup but `code`."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", html.escape(text, quote=False))


class Verdict:
    """What a check said. A notebook shows it; `passed` tells it to a program."""

    def __init__(self, question: str, passed: bool, text: str):
        self.question, self.passed, self.text = question, passed, text

    def _repr_html_(self):
        return f"<p>{'✓' if self.passed else '✗'} <strong>{self.question}</strong>: {typeset(self.text)}</p>"

    def __repr__(self):
        return f"{self.question} {'passed' if self.passed else 'not yet'}: {self.text}"


class Grader:
    """Checks, hints and solutions of one chapter's exercises. Raises ValueError for a chapter that has none.

    That a question has passed, or else what its last check said, is kept in the folder, in MEMORY, for the
    next kernel.
    """

    def __init__(self, chapter: int):
        self.chapter = int(chapter)
        if self.chapter not in CHAPTERS:
            known = ", ".join(map(str, CHAPTERS))
            raise ValueError(f"Chapter {chapter} has no exercises. There are sets for {known}.")
        self.checks = import_module(f"{__name__}.ch{self.chapter:02d}")
        self.questions = [q for q in vars(self.checks) if re.fullmatch(r"q\d+", q)]
        self.state = {q: state for q, state in _recall(self.chapter).items() if q in self.questions}
        self.asked = {*self.state}  # solutions open after a check, also of nothing
        self.hints_given = dict.fromkeys(self.questions, 0)

    def check(self, question: str | None = None, namespace: dict | None = None):
        """Try the caller's answer to `question` ("q1") on fresh problems; without one, the whole set.

        `namespace`: where the answer is defined; the caller's globals where it is None.
        """
        if namespace is None:
            namespace = inspect.currentframe().f_back.f_globals
        if question is None:
            for each in self.questions:
                self._verdict(each, namespace)
            points = dict(re.findall(r"^## (q\d+) \((\d+) points?\)", self._text("solutions"), re.M))
            return Overview({q: (self.state.get(q, "left"), int(points[q])) for q in self.questions})
        self._known(question)
        self.asked.add(question)
        return self._verdict(question, namespace)

    def _verdict(self, question, namespace):
        try:
            examine(getattr(self.checks, question), namespace)
        except Wrong as wrong:
            parts = len(parts_of(getattr(self.checks, question)))
            right = parts - len(wrong.failed)
            # An answer that is not there now, after a restart, say, was not lost; nor is one that has passed.
            if not wrong.blank and self.state.get(question) != "passed":
                self._note(question, f"tried, {right} of {parts} parts" if right else "tried")
            return Verdict(question, False, f"{wrong}{f' ({right} of {parts} parts hold.)' if right else ''}")
        self._note(question, "passed")
        return Verdict(question, True, "the public checks passed. A teacher may run more.")

    def after(self, question: str) -> bool:
        """For `if grader.after("q1"):` over code that shows the answer: until it passes, a line says so."""
        self._known(question)
        passed = self.state.get(question) == "passed"
        if not passed:
            print(f"This cell runs once the check of {question} has passed.")
        return passed

    def hint(self, question: str):
        """The hints of `question`, one more at each call."""
        self._known(question)
        hints = re.findall(r"^- (.*)", self._section("hints", question), re.M)
        self.hints_given[question] = given = min(self.hints_given[question] + 1, len(hints))
        lines = [f"{n}. {hint}" for n, hint in enumerate(hints[:given], 1)]
        more = (
            f'`grader.hint("{question}")` once more gives the next.' if given < len(hints) else "That is all."
        )
        return _Page("\n".join([*lines, "", more]))

    def solution(self, question: str, untried: bool = False):
        """The worked solution of `question`, once it has been checked (or with untried=True)."""
        self._known(question)
        if question not in self.asked and not untried:
            return Verdict(
                question,
                False,
                f'first try: run `grader.check("{question}")` on an answer of yours, even a wrong one. '
                f'`grader.hint("{question}")` gives a hint. '
                f'To see the solution all the same: `grader.solution("{question}", untried=True)`.',
            )
        return _Page(self._section("solutions", question))

    def _text(self, kind):
        return resources.files(__name__).joinpath(kind, f"{self.chapter:02d}.md").read_text("utf-8")

    def _section(self, kind, question):
        found = re.search(rf"^## {question}\b[^\n]*\n(.*?)(?=^## q|\Z)", self._text(kind), re.M | re.S)
        return found[1].strip()

    def _note(self, question, state):
        if self.state.get(question) != state:
            self.state[question] = state
            _remember(self.chapter, self.state)

    def _known(self, question):
        if question not in self.questions:
            known = ", ".join(self.questions)
            raise ValueError(f"No question {question!r}; chapter {self.chapter} has {known}.")


class Overview:
    """The whole set: of each question whether it passed, was tried or is left, and its points."""

    def __init__(self, rows: dict[str, tuple[str, int]]):
        self.rows = rows

    def __repr__(self):
        lines = [f"{q}  {state:21}  {points} points" for q, (state, points) in self.rows.items()]
        return "\n".join([*lines, self.total])

    @property
    def total(self) -> str:
        count = dict.fromkeys(("passed", "tried", "left"), 0)
        for state, _ in self.rows.values():
            count[state.split(",")[0]] += 1
        got = sum(points for state, points in self.rows.values() if state == "passed")
        parts = ", ".join(f"{n} {state}" for state, n in count.items())
        points = sum(points for _, points in self.rows.values())
        return f"{parts}; {got} of {points} points, as far as the public checks tell."

    def _repr_html_(self):
        marks = {"passed": "✓", "tried": "✗", "left": "–"}
        rows = "".join(
            f"<tr><td>{marks[state.split(',')[0]]}</td><td>{q}</td><td>{state}</td><td>{points}</td></tr>"
            for q, (state, points) in self.rows.items()
        )
        head = "<tr><th></th><th>question</th><th>state</th><th>points</th></tr>"
        return f"<table>{head}{rows}</table><p>{self.total}</p>"


MEMORY = Path(".vaelearn_progress.json")


def _memory() -> dict:
    """What all sets remember; nothing where that cannot be read."""
    try:
        known = json.loads(MEMORY.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _recall(chapter: int) -> dict[str, str]:
    states = _memory().get(str(chapter))
    known = states.items() if isinstance(states, dict) else ()
    return {q: state for q, state in known if re.match("passed$|tried", str(state))}


def _remember(chapter: int, state: dict[str, str]) -> None:
    """Beside what other sets remember. Where a folder cannot be written to, this kernel alone knows."""
    try:
        MEMORY.write_text(json.dumps(_memory() | {str(chapter): state}), "utf-8")
    except OSError:
        pass


class _Page(str):
    """Markdown that a notebook typesets."""

    def _repr_markdown_(self):
        return str(self)
