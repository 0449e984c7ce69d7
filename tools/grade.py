"""Grade a folder of submissions: `python tools/grade.py CHAPTER FOLDER`.

Writes marks.csv and one report per learner. Each submission is run cell by cell in a process of its
own (worker.py) with limits of time and memory, and Otter's test files ask it for its answers through
a pipe: the expected values are computed here, where no learner's code runs.
"""

import argparse
import csv
import html
import io
import multiprocessing
import os
import pickle
import re
import resource
import secrets
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

import nbformat
import torch
from otter.execute import Checker
from otter.nbmeta_config import NBMetadataConfig
from tqdm import tqdm

from vaelearn.exercises import typeset
from vaelearn.exercises.answers import Answer, Wrong

HERE = Path(__file__).resolve().parent
AUTOGRADERS = HERE.parent / "_build" / "exercises"
GRACE = 5.0  # seconds to react to an interrupt, as Ctrl-C would give, before the process is ended
REPLY_BYTES = 200 * 2**20
NOTEBOOK_BYTES = 50 * 2**20
START = 60.0  # seconds for the process to begin: its imports are not the learner's time
TEXT = 2000  # characters of a message
UNREADABLE = "answered with something unreadable"
MARGIN = 60.0  # seconds after a submission's own, then its grader is ended
_CHECK = re.compile(r"\s*(grader\.(check|solution)\([^()]*\)\s*)?")


@dataclass
class Limits:
    """Seconds for one cell or one call, seconds for a whole submission, bytes of memory."""

    call: float = 20.0
    submission: float = 180.0
    memory: int = 6 * 2**30


class Stopped(Exception):
    """The submission's process did not answer: why."""


class Process:
    """A running worker: send a request, get plain data."""

    def __init__(self, folder: str, limits: Limits):
        # Of the request: a late reply to an earlier one is thrown away.
        self.number = 0
        (read, self.requests), (self.replies, write) = os.pipe(), os.pipe()
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": folder,
            "MPLBACKEND": "agg",
            "OMP_NUM_THREADS": "1",
            "IPYTHONDIR": folder,
            "MPLCONFIGDIR": folder,
            # A notebook's %pip changes nothing here.
            "PIP_NO_INDEX": "1",
            "PIP_DRY_RUN": "1",
        }
        settings = map(str, (read, write, limits.memory, int(limits.submission)))
        self.process = subprocess.Popen(
            [sys.executable, HERE / "worker.py", *settings],
            cwd=folder,
            env=environment,
            pass_fds=(read, write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(read), os.close(write)

    def ask(self, *request, seconds: float) -> dict:
        """The reply. Raises Stopped where none came in time, or none that can be read."""
        deadline = time.monotonic() + seconds
        self.number += 1
        try:
            self._send(pickle.dumps((self.number, *request)), deadline)
            return self._reply(deadline)
        except TimeoutError:
            os.kill(self.process.pid, signal.SIGINT)
        try:
            self._reply(time.monotonic() + GRACE)
        except TimeoutError:
            raise Stopped(f"ran longer than {seconds:.0f} s and had to be ended") from None
        return {"error": f"ran longer than {seconds:.0f} s and was interrupted"}

    def _send(self, message: bytes, deadline: float) -> None:
        os.set_blocking(self.requests, False)
        while message:
            _, ready, _ = select.select([], [self.requests], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            try:
                message = message[os.write(self.requests, message) :]
            except BrokenPipeError:
                raise self._ended() from None

    def _reply(self, deadline: float) -> dict:
        while True:
            (size,) = struct.unpack(">Q", self._read(8, deadline))
            if size > REPLY_BYTES:
                raise Stopped(UNREADABLE)
            try:
                number, reply = torch.load(io.BytesIO(self._read(size, deadline)), weights_only=True)
                if number == self.number:
                    return dict(reply)
            except (
                pickle.UnpicklingError,
                RuntimeError,
                ValueError,
                TypeError,
                KeyError,
                EOFError,
            ):
                raise Stopped(UNREADABLE) from None

    def _read(self, size: int, deadline: float) -> bytes:
        data = b""
        while len(data) < size:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.replies], [], [], max(0.0, left))
            if left < 0 or not ready:
                raise TimeoutError
            piece = os.read(self.replies, min(size - len(data), 2**20))
            if not piece:
                raise self._ended()
            data += piece
        return data

    def _ended(self) -> Stopped:
        try:
            code = self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            return Stopped("closed its line to the grader")
        if code == -signal.SIGKILL:
            return Stopped("was killed, as the system does when memory runs out")
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return Stopped(f"ended the process ({how})")

    def end(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        os.close(self.requests), os.close(self.replies)


class Submission(dict):
    """A learner's notebook as the namespace of `examine`: its answers are asked through a pipe.

    A cell that ends its process or will not be interrupted is left out, and the rest is run again.
    """

    def __init__(self, path: Path, folder: str, limits: Limits, seed: int):
        super().__init__()
        self.folder, self.limits, self.seed = folder, limits, seed
        self.end_by = time.monotonic() + limits.submission
        self.process = None
        self.cells, self.remarks, self.broken = {}, [], ""
        try:
            self.cells = _code(path)
        except ValueError as error:
            self.broken = str(error)
            self.remarks.append(self.broken)

    def answer(self, name: str) -> "RemoteAnswer":
        if self.broken:
            raise Wrong(self.broken)
        return RemoteAnswer(name, self)

    def request(self, *request) -> dict:
        """The reply of the submission's process. Raises Stopped; the next request starts a new process."""
        self._seconds()
        try:
            if self.process is None:
                self._start()
            return self.process.ask(*request, seconds=self._seconds())
        except Stopped:
            self.close()
            raise

    def _seconds(self) -> float:
        left = self.end_by - time.monotonic()
        if left <= 0:
            raise Stopped(f"came after the {self.limits.submission:.0f} s that a submission has")
        return min(left, self.limits.call)

    def _start(self) -> None:
        self.process = Process(self.folder, self.limits)
        self.process.ask("cell", "", seconds=START)
        for number, source in self.cells.items():
            seconds = self._seconds()
            try:
                reply = self.process.ask("cell", source, seconds=seconds)
                self._remark(number, str(reply.get("error", UNREADABLE))[:TEXT])
            except Stopped as stopped:
                self._remark(number, f"{stopped}; it was left out")
                self.close()
                del self.cells[number]
                return self._start()

    def _remark(self, number: int, text: str) -> None:
        if text and (remark := f"code cell {number}: {text}") not in self.remarks:
            self.remarks.append(remark)

    def close(self) -> None:
        if self.process is not None:
            self.process.end()
            self.process = None


class RemoteAnswer(Answer):
    """An `Answer` in the submission's process."""

    def __init__(self, name: str, submission: Submission):
        super().__init__(name, submission)

    def run(self, probe, *args, **kwargs):
        where = (probe.__module__, probe.__qualname__)
        try:
            reply = self.namespace.request("ask", self.name, where, args, kwargs, self.closed, self.seed)
        except Stopped as stopped:
            raise Wrong(f"`{self.name}` {stopped}.") from None
        finally:
            self.seed += 1
        if "value" in reply:
            return reply["value"]
        said = reply["wrong"] if "wrong" in reply else f"`{self.name}` {reply.get('error', UNREADABLE)}."
        raise Wrong(str(said)[:TEXT])


def _code(path: Path) -> dict[int, str]:
    """The notebook's code cells by number, without those that only ask for checks."""
    if path.is_dir():
        found = [p for p in path.rglob("*.ipynb") if not _hidden(p.relative_to(path))]
        if len(found) != 1:
            raise ValueError(f"a folder with one notebook was expected; this one holds {len(found)}")
        (path,) = found
    if not path.is_file():
        raise ValueError("this is not a file")
    if path.stat().st_size > NOTEBOOK_BYTES:
        raise ValueError(f"this file is larger than {NOTEBOOK_BYTES >> 20} MiB")
    try:
        notebook = nbformat.reads(path.read_text("utf-8-sig"), as_version=4)
        cells = [str(cell.source) for cell in notebook.cells if cell.cell_type == "code"]
    except Exception as error:
        # Whatever a file that is no notebook makes the reader say.
        raise ValueError(f"this is not a notebook that can be read ({type(error).__name__})") from None
    if not any(source.strip() for source in cells):
        raise ValueError("this notebook has no code")
    return {
        n: source
        for n, source in enumerate(cells, 1)
        if not all(_CHECK.fullmatch(line) for line in source.splitlines())
    }


def _hidden(path: Path) -> bool:
    # Checkpoints, and what macOS puts into its archives.
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


@dataclass
class Report:
    """Marks of one learner: per question its score, what was possible, and what the checks said."""

    learner: str
    questions: dict[str, tuple[float, float, list[str]]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def total(self) -> float:
        return sum(score for score, _, _ in self.questions.values())

    @property
    def possible(self) -> float:
        return sum(possible for _, possible, _ in self.questions.values())


def check_worker(limits: Limits) -> None:
    """Raise Stopped or OSError where no submission could run at all: then the marks would mean nothing."""
    with tempfile.TemporaryDirectory() as folder:
        process = Process(folder, limits)
        try:
            process.ask("cell", "", seconds=START)
        finally:
            process.end()


def grade(path: Path, tests: list[Path], limits: Limits, seed: int) -> Report:
    """Grade one submission by Otter's test files."""
    begin, report = time.monotonic(), Report(_learner(path))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        submission = Submission(path, folder, limits, seed)
        try:
            for test in tests:
                result = Checker.check(str(test), NBMetadataConfig(), global_env=submission)
                report.questions[result.name] = (
                    result.score,
                    result.possible,
                    _said(result),
                )
        finally:
            submission.close()
    report.remarks = submission.remarks
    report.seconds = time.monotonic() - begin
    return report


def _late(*_):
    raise TimeoutError("it took too long")


def _said(result) -> list[str]:
    """What the checks of a question said; further checks begin with the notebook's own."""
    said = {}
    for case in result.test_case_results:
        asked = "Further checks" if case.test_case.hidden else "As in the notebook"
        text = "passed." if case.passed else case.message.partition("Wrong: ")[2]
        said[asked] = "the same." if not case.passed and text in said.values() else text
    return [f"{asked}: {text}" for asked, text in said.items()]


def _learner(path: Path) -> str:
    return path.stem if path.suffix == ".ipynb" else path.name


def _grade_into(pipe, path, tests, limits, seed):
    # A grader of its own for each learner: should a submission find and kill it, the others go on.
    signal.signal(signal.SIGALRM, _late)
    signal.alarm(int(limits.submission + MARGIN / 2))
    resource.setrlimit(resource.RLIMIT_DATA, (limits.memory, limits.memory))
    # A forked process may not start the threads of its parent's pool.
    torch.set_num_threads(1)
    try:
        pipe.send(grade(path, tests, limits, seed))
    except Exception as error:
        failed = f"the grader failed on this one ({type(error).__name__}: {error})"
        pipe.send(Report(_learner(path), remarks=[failed[:TEXT]]))


def grade_all(paths: list[Path], tests: list[Path], limits: Limits, seed: int, jobs: int):
    """Yield a Report for each path as it comes, `jobs` at a time."""
    context = multiprocessing.get_context("fork")
    waiting, running = list(paths), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            path = waiting.pop(0)
            pipe, child = context.Pipe(duplex=False)
            process = context.Process(target=_grade_into, args=(child, path, tests, limits, seed))
            process.start()
            child.close()
            running[pipe] = (
                path,
                process,
                time.monotonic() + limits.submission + MARGIN,
            )
        for _, process, end_by in running.values():
            if time.monotonic() > end_by:
                process.kill()  # a process that was stopped answers to nothing else
        for pipe in wait(list(running), timeout=1):
            path, process, _ = running.pop(pipe)
            try:
                yield pipe.recv()
            except (EOFError, OSError):
                ended = "its grader was ended from outside: look at this one by hand"
                yield Report(_learner(path), remarks=[ended])
            process.join()


def write_marks(reports: list[Report], path: Path) -> None:
    """The mark sheet: a line per learner, a column per question."""
    questions = max((report.questions for report in reports), key=len)
    possible = sum(possible for _, possible, _ in questions.values())
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        sheet = csv.writer(file)
        sheet.writerow(["learner", *questions, "total", "out of", "seconds", "remarks"])
        for report in reports:
            scores = [report.questions.get(q, (0, 0, []))[0] for q in questions]
            name = _cell(report.learner)
            remarks = _cell("; ".join(report.remarks))
            seconds = f"{report.seconds:.1f}"
            total = sum(scores)
            sheet.writerow([name, *scores, total, possible, seconds, remarks])


def _cell(text: str) -> str:
    # A spreadsheet would run a text that begins so as a formula.
    risky = text.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{text}" if risky else text


def write_report(report: Report, chapter: int, path: Path) -> None:
    """One learner's page: marks, what the checks said, what went wrong while the notebook ran."""
    rows = "".join(
        f"<tr><th>{html.escape(q)}</th><td>{score:g} of {possible:g}</td>"
        f"<td>{'<hr>'.join(map(typeset, said))}</td></tr>"
        for q, (score, possible, said) in report.questions.items()
    )
    remarks = "".join(f"<li>{typeset(text)}</li>" for text in report.remarks)
    path.write_text(
        REPORT.format(
            learner=html.escape(report.learner),
            chapter=chapter,
            total=report.total,
            possible=report.possible,
            rows=rows,
            remarks=f"<h2>While the notebook ran</h2><ul>{remarks}</ul>" if remarks else "",
        ),
        encoding="utf-8",
        errors="backslashreplace",
    )


REPORT = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{learner}, exercises {chapter}</title>
<style>
  :root {{ color-scheme: light dark }}
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem }}
  table {{ border-collapse: collapse; width: 100% }}
  th, td {{ border-top: 1px solid #8888; padding: .5rem; text-align: left; vertical-align: top }}
  td:last-child, li {{ overflow-wrap: anywhere }}
  td:nth-child(2) {{ white-space: nowrap }}
  hr {{ border: 0; border-top: 1px dotted #8888 }}
</style>
<h1>{learner}</h1>
<p>Exercises of chapter {chapter}: <strong>{total:g} of {possible:g}</strong>.
Each question is checked as in the notebook, then on the teacher's own instances.</p>
<table>{rows}</table>
{remarks}
</html>
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Grade a folder of submissions.")
    parser.add_argument("chapter", type=int, help="the chapter whose exercises these are")
    parser.add_argument(
        "folder",
        type=Path,
        help="one notebook, or folder with a notebook, per learner",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="where marks and reports go (default: FOLDER-marks)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        help="of the problem instances (default: a new one, printed)",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=max(1, (os.cpu_count() or 2) // 2),
        help="at a time",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=Limits.call,
        help="for one cell or call",
    )
    parser.add_argument(
        "--total-seconds",
        type=float,
        default=Limits.submission,
        help="for a submission",
    )
    parser.add_argument(
        "--gigabytes",
        type=float,
        default=Limits.memory / 2**30,
        help="of memory",
    )
    parser.add_argument(
        "--autograders",
        type=Path,
        default=AUTOGRADERS,
        help="what assign.py made",
    )
    args = parser.parse_args()

    tests = sorted((args.autograders / f"{args.chapter:02d}" / "autograder" / "tests").glob("q*.py"))
    if not tests:
        parser.error(f"no autograder for chapter {args.chapter}: `make assign` builds those of 1 to 11")
    if not args.folder.is_dir():
        parser.error(f"{args.folder} is not a folder")
    folder = args.folder.resolve()
    paths = sorted(p for p in folder.iterdir() if not _hidden(p.relative_to(folder)))
    if not paths:
        parser.error(f"{args.folder} is empty: put one notebook per learner into it")
    twice = [name for name, times in Counter(map(_learner, paths)).items() if times > 1]
    if twice:
        parser.error(f"these names stand for two submissions each: {', '.join(twice)}")
    out = args.out or folder.with_name(f"{folder.name}-marks")
    out.mkdir(parents=True, exist_ok=True)
    seed = secrets.randbits(40) if args.seed is None else args.seed
    limits = Limits(args.seconds, args.total_seconds, int(args.gigabytes * 2**30))

    try:
        check_worker(limits)
    except (Stopped, OSError) as error:
        parser.error(f"no submission can run: an empty one, with {args.gigabytes:g} GiB, {error}")

    graded = grade_all(paths, tests, limits, seed, max(1, args.jobs))
    reports = sorted(
        tqdm(graded, total=len(paths), desc="graded"),
        key=lambda report: report.learner,
    )
    write_marks(reports, out / "marks.csv")
    for report in reports:
        # A file's name may have 255 bytes.
        write_report(report, args.chapter, out / f"{report.learner[:60]}.html")
    print(f"{len(reports)} submissions, seed {seed}: {out / 'marks.csv'} and a report per learner beside it.")


if __name__ == "__main__":
    main()
