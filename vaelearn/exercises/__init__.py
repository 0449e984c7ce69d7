"""Graded exercises: what a learner's notebook imports. Works with this package alone.

    from vaelearn.exercises import Grader
    grader = Grader(5)        # the exercises of chapter 5
    grader.check("q1")        # says what is right, or what went wrong and why
    grader.solution("q1")     # a worked solution, once you have tried

The checks of chapter 5 are the functions of `vaelearn.exercises.ch05`.
"""

import html
import inspect
import pkgutil
import re
from importlib import import_module, resources

from .answers import Wrong, examine

__all__ = ["Grader", "Verdict"]

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
    """Checks and solutions of one chapter's exercises. Raises ValueError for a chapter that has none."""

    def __init__(self, chapter: int):
        self.chapter = int(chapter)
        if self.chapter not in CHAPTERS:
            known = ", ".join(map(str, CHAPTERS))
            raise ValueError(f"Chapter {chapter} has no exercises. There are sets for {known}.")
        self.checks = import_module(f"{__name__}.ch{self.chapter:02d}")
        self.questions = [q for q in vars(self.checks) if re.fullmatch(r"q\d+", q)]
        self.tried = set()

    def check(self, question: str, namespace: dict | None = None) -> Verdict:
        """Try the caller's answer to `question` ("q1") on fresh problem instances.

        `namespace`: where the answer is defined; the caller's globals where it is None.
        """
        self._known(question)
        if namespace is None:
            namespace = inspect.currentframe().f_back.f_globals
        self.tried.add(question)
        try:
            examine(getattr(self.checks, question), namespace)
        except Wrong as wrong:
            return Verdict(question, False, str(wrong))
        return Verdict(question, True, "the public checks passed. A teacher may run more.")

    def solution(self, question: str, untried: bool = False):
        """The worked solution of `question`, once it has been checked (or with untried=True)."""
        self._known(question)
        if question not in self.tried and not untried:
            return Verdict(
                question,
                False,
                f'first try: run `grader.check("{question}")` on an answer of yours, even a wrong one. '
                f'To see the solution all the same: `grader.solution("{question}", untried=True)`.',
            )
        page = resources.files(__name__).joinpath("solutions", f"{self.chapter:02d}.md").read_text("utf-8")
        return _Page(re.search(rf"^## {question}\n(.*?)(?=^## q|\Z)", page, re.M | re.S)[1].strip())

    def _known(self, question):
        if question not in self.questions:
            known = ", ".join(self.questions)
            raise ValueError(f"No question {question!r}; chapter {self.chapter} has {known}.")


class _Page(str):
    """Markdown that a notebook typesets."""

    def _repr_markdown_(self):
        return str(self)
