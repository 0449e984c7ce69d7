"""A submission: its notebook's code, and its answers, which a kernel gives as plain data."""

import json
import shutil
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import nbformat

from vaelearn.exercises.answers import Answer, Wrong

from .handed_in import HandedIn
from .report import TEXT
from .session import UNREADABLE, Kernel, Limits, NoKernel, Stopped


class Submission(dict):
    """A learner's notebook as the namespace of `examine`: its answers are asked of a kernel.

    A cell that ends its kernel is left out, and the rest is run again in a new one.
    """

    kernel, broken, seed, calls = None, "", 0, 0

    def __init__(self, handed: HandedIn, home: Path, number: int, limits: Limits):
        super().__init__()
        self.limits, self.end_by = limits, time.monotonic() + limits.submission
        self.examined = {}  # what `examine` has found
        self.cells, self.remarks = [], [handed.note] * bool(handed.note)
        try:
            self.cells = _code(handed)
            beside = partial(_copy, handed.path.parent) if handed.beside else Path.mkdir
            self.new_kernel = partial(Kernel, home, number, limits, beside)
        except ValueError as error:
            self.broken = str(error)
            self.remarks.append(self.broken)

    def answer(self, name: str) -> "RemoteAnswer":
        if self.broken:
            raise Wrong(self.broken)
        return RemoteAnswer(name, self)

    def ask(self, *request) -> dict:
        """The reply of the submission's kernel. Raises Stopped, NoKernel."""
        self.calls += 1
        self._seconds()
        while self.kernel is None or not self.kernel.alive:
            self._run()
        return self.kernel.ask((*request, self.calls), self._seconds())

    def _seconds(self) -> float:
        left = self.end_by - time.monotonic()
        if left <= 0:
            raise Stopped(f"came after the {self.limits.submission:.0f} s that a submission has")
        return min(left, self.limits.call)

    def _run(self) -> None:
        """Run the cells in a new kernel, up to one that ends it."""
        try:
            self.kernel = self.new_kernel()
        except Exception as error:  # whatever kept it from starting is not the learner's
            raise NoKernel(f"a kernel that was to run nothing yet failed: {error}") from error
        for n, source in enumerate(self.cells):
            seconds = self._seconds()
            try:
                error = self.kernel.run(source, seconds)
            except Stopped as stopped:
                error = str(stopped)
            if not self.kernel.alive:
                error += "; it was left out"
                del self.cells[n]
            if error and (remark := f"`{_first_line(source)}`: {error}") not in self.remarks:
                self.remarks.append(remark)
            if not self.kernel.alive:
                return


class RemoteAnswer(Answer):
    """An `Answer` in the submission's kernel."""

    def run(self, probe, *args, **kwargs):
        where = (probe.__module__, probe.__qualname__)
        try:
            reply = self.namespace.ask(self.name, where, args, kwargs, self.closed)
        except Stopped as stopped:
            raise Wrong(f"`{self.name}` {stopped}.") from None
        if "value" in reply:
            return reply["value"]
        wrong = Wrong(str(reply.get("wrong", f"`{self.name}` {UNREADABLE}."))[:TEXT])
        wrong.raised = reply.get("raised", ())
        raise wrong


def _code(handed: HandedIn) -> list[str]:
    """The notebook's code cells. Raises ValueError: why there are none."""
    path = handed.path
    if handed.refused:
        raise ValueError(handed.refused)
    if handed.beside == path:
        raise ValueError("a folder with a notebook was expected; this one holds none")
    if path.is_symlink() or not path.is_file():
        raise ValueError("this is a link, or nothing to read, where a notebook's own file was expected")
    try:
        # Saved outputs may be many times what a learner wrote.
        text = path.read_text("utf-8-sig")
        bare = json.loads(text, object_hook=lambda part: part | {key: [] for key in part if key == "outputs"})
        notebook = nbformat.reads(json.dumps(bare), as_version=4)
        cells = [str(cell.source) for cell in notebook.cells if cell.cell_type == "code"]
    except Exception as error:  # whatever a file that is no notebook makes the reader say
        raise ValueError(f"this is not a notebook that can be read ({type(error).__name__})") from None
    if not any(source.strip() for source in cells):
        raise ValueError("this notebook has no code")
    return cells


def _first_line(source: str) -> str:
    """What a learner knows a cell by."""
    line = next((line.strip() for line in source.splitlines() if line.strip()), "")
    return line if len(line) <= 60 else f"{line[:60]}…"


def _copy(folder: Path, to: Path) -> None:
    with suppress(shutil.Error):  # of what is neither file nor folder nor link, when all else is copied
        shutil.copytree(folder, to, symlinks=True, ignore=shutil.ignore_patterns(".*", "__MACOSX"))
