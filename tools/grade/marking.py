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
from threading import Timer

import torch
from otter.execute import Checker
from otter.nbmeta_config import NBMetadataConfig

from .apart import end_children, keep_private, remove, somebody
from .report import Report
from .session import GRACE, Limits, NoKernel
from .submission import TEXT, Submission

MARGIN = 60.0  # seconds after a submission's own, then the process that marks it is ended
REPORT_BYTES = 2**24


def learner(path: Path) -> str:
    """The name that a submission stands for."""
    return path.stem if path.suffix == ".ipynb" else path.name


def mark(path: Path, home: Path, number: int, tests: list[Path], limits: Limits, seed: str) -> Report:
    """Mark one submission by Otter's test files. Raises NoKernel."""
    begin, report = time.monotonic(), Report(learner(path))
    submission = Submission(path, home, number, limits)
    for test in tests:
        # Who knows a question's instances knows neither the seed nor another question's.
        digest = hashlib.sha256(f"{seed} {test.stem}".encode()).digest()
        submission.seed = int.from_bytes(digest[:6])
        result = Checker.check(str(test), NBMetadataConfig(), global_env=submission)
        if submission.failure:
            raise submission.failure
        report.questions[result.name] = result.score, result.possible, _said(result)
    report.remarks = submission.remarks
    report.seconds = time.monotonic() - begin
    return report


def _said(result) -> list[str]:
    """What the checks of a question said; further checks begin with the notebook's own."""
    said = {}
    for case in result.test_case_results:
        asked = "Further checks" if case.test_case.hidden else "As in the notebook"
        text = "✓" if case.passed else f"✗ {case.message.partition('Wrong: ')[2]}"
        said[asked] = "✗ the same." if not case.passed and text in said.values() else text
    return [f"{asked}: {text}" for asked, text in said.items()]


def mark_all(paths: list[Path], jobs: int, tests: list[Path], limits: Limits, seed: str):
    """Yield a Report for each path as it comes, `jobs` at a time. Raises NoKernel."""
    context, waiting, running = multiprocessing.get_context("fork"), list(enumerate(paths)), {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                number, path = waiting.pop(0)
                home, (pipe, child) = Path(tempfile.mkdtemp(prefix="vaelearn-")), context.Pipe(duplex=False)
                how = child, path, home, number, tests, limits, seed
                process = context.Process(target=_mark_into, args=how)
                process.start()
                child.close()
                running[pipe] = path, home, number, time.monotonic() + limits.submission + MARGIN, process
            for *_, end_by, process in running.values():
                if time.monotonic() > end_by:
                    process.kill()  # one that was stopped answers to nothing else
            for pipe in wait(list(running), timeout=1):
                path, home, number, _, process = running.pop(pipe)
                patience = Timer(GRACE, process.kill)  # it may be stopped halfway through its report
                patience.start()
                try:
                    said = json.loads(pipe.recv_bytes(REPORT_BYTES))
                except (EOFError, OSError):
                    said = {"remarks": ["its marking was ended from outside: look at this one by hand"]}
                process.join()
                patience.cancel()
                end_children(but=[process.pid for *_, process in running.values()])
                remove(home, somebody(number)[1])
                if "no kernel" in said:
                    raise NoKernel(f"{learner(path)}: {said['no kernel']}")
                yield Report(**{"learner": learner(path)} | said)
    finally:
        end_children()
        for _, home, number, *_ in running.values():
            remove(home, somebody(number)[1])


def _mark_into(pipe, path, home, number, tests, limits, seed):
    # A process for each learner: should a submission find and kill it, the others go on.
    keep_private()
    resource.setrlimit(resource.RLIMIT_DATA, (limits.memory, limits.memory))
    # A forked process may not start the threads of its parent's pool.
    torch.set_num_threads(1)
    try:
        said = asdict(mark(path, home, number, tests, limits, seed))
    except NoKernel as error:
        said = {"no kernel": str(error)}
    except Exception as error:
        said = {"remarks": [f"marking failed on this one ({type(error).__name__}: {error})"[:TEXT]]}
    pipe.send_bytes(json.dumps(said).encode())
