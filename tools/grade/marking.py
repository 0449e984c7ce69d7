"""Marks for submissions, each by a process of its own, of which only data comes back."""

import hashlib
import json
import multiprocessing
import resource
import tempfile
import time
from dataclasses import asdict
from multiprocessing.connection import wait
from pathlib import Path

import torch
from otter.execute import Checker
from otter.nbmeta_config import NBMetadataConfig

from .apart import end_children, keep_private, remove, somebody
from .handed_in import HandedIn
from .report import TEXT, Report
from .session import Limits, NoKernel
from .submission import Submission

MARGIN = 60.0  # seconds after a submission's own, then the process that marks it is ended
REPORT_BYTES = 2**24
FILE_BYTES = 512 * 2**20  # no file of a submission may grow beyond this


def mark(handed: HandedIn, home: Path, number: int, tests: list[Path], limits: Limits, seed: str) -> Report:
    """Mark one submission by Otter's test files. Raises NoKernel."""
    begin, submission = time.monotonic(), Submission(handed, home, number, limits)
    report = Report(remarks=submission.remarks)
    for test in tests:
        # Who knows a question's instances knows neither the seed nor another question's.
        submission.seed = int(hashlib.sha256(f"{seed} {test.stem}".encode()).hexdigest()[:12], 16)
        result = Checker.check(str(test), NBMetadataConfig(), global_env=submission)
        parts = _parts(result)
        score, possible = (sum(points[n] for points in parts.values()) for n in (0, 1))
        report.questions[result.name] = round(score, 4), round(possible, 4), _said(result), parts
    report.seconds = time.monotonic() - begin
    return report


def _parts(result) -> dict[str, tuple[float, float]]:
    """The points of each part of a question: those it got, those it could get."""
    parts = {}
    for case in result.test_case_results:
        part, points = case.test_case.success_message or "", case.test_case.points
        got, possible = parts.get(part, (0, 0))
        parts[part] = got + points * case.passed, possible + points
    return parts


def _said(result) -> list[str]:
    """What the checks of a question said; further checks begin with the notebook's own."""
    lines, known = [], set()
    for hidden, asked in (False, "As in the notebook"), (True, "Further checks"):
        said = {}
        for case in result.test_case_results:
            if case.test_case.hidden == hidden:
                text = "✓" if case.passed else f"✗ {case.message.partition('Wrong: ')[2]}"
                said.setdefault(text, []).append(case.test_case.success_message)
        for text, parts in said.items():
            about = f", {', '.join(parts)}" if len(said) > 1 else ""
            lines.append(f"{asked}{about}: {'✗ the same.' if text in known - {'✓'} else text}")
        known |= {*said}
    return lines


class Marking:
    """A process that marks one submission, and the file without a name that it writes its report into."""

    def __init__(self, number: int, handed: HandedIn, *how):
        self.handed, self.user = handed, somebody(number)[1]
        self.home, self.file = Path(tempfile.mkdtemp(prefix="vaelearn-")), tempfile.TemporaryFile(buffering=0)
        arguments = self.file, handed, self.home, number, *how
        self.process = multiprocessing.get_context("fork").Process(target=_mark_into, args=arguments)
        self.process.start()

    def report(self) -> Report:
        """What the process wrote before it ended. Raises NoKernel."""
        self.file.seek(0)
        try:
            said = json.loads(self.file.read(REPORT_BYTES))
        except ValueError:
            ended = "its marking was ended from outside: look at this one by hand"
            said = {"remarks": [*filter(None, [self.handed.note]), ended]}
        if "no kernel" in said:
            raise NoKernel(f"{self.handed.learner}: {said['no kernel']}")
        return Report(**said)


def mark_all(handed: list[HandedIn], jobs: int, tests: list[Path], limits: Limits, seed: str):
    """Yield each submission and its Report as it comes, `jobs` at a time. Raises NoKernel."""
    waiting, running = list(enumerate(handed)), {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                marking = Marking(*waiting.pop(0), tests, limits, seed)
                running[marking] = time.monotonic() + limits.submission + MARGIN
            wait([marking.process.sentinel for marking in running], timeout=1)
            for marking, end_by in list(running.items()):
                if time.monotonic() > end_by:
                    marking.process.kill()  # one that was stopped answers to nothing else
                if not marking.process.is_alive():
                    yield marking.handed, marking.report()
                    del running[marking]
                    end_children(but=[marking.process.pid for marking in running])
                    remove(marking.home, marking.user)
    finally:
        end_children()
        for marking in running:
            remove(marking.home, marking.user)


def _mark_into(file, handed, home, number, tests, limits, seed):
    # A process for each learner: should a submission find and kill it, the others go on.
    keep_private()
    for kind, most in {"DATA": limits.memory, "FSIZE": FILE_BYTES, "CORE": 0}.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{kind}"), (most, most))
    tempfile.tempdir = str(home)  # where torch.compile, for one, would leave a folder of its own
    # A forked process may not start the threads of its parent's pool.
    torch.set_num_threads(1)
    try:
        said = asdict(mark(handed, home, number, tests, limits, seed))
    except NoKernel as error:
        said = {"no kernel": str(error)}
    except Exception as error:
        said = {"remarks": [f"marking failed on this one ({type(error).__name__}: {error})"[:TEXT]]}
    file.write(json.dumps(said).encode())
