"""Grade a folder of submissions: `python -m tools.grade CHAPTER FOLDER`.

Writes marks.csv and a page for each learner. A notebook runs in a Jupyter kernel of its own, with limits.
Otter's test files ask it for its answers from another process: the expected values are computed there,
where no learner's code runs.
"""

import argparse
import os
import secrets
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from .apart import keep_private, somebody
from .marking import learner, mark_all
from .report import page_name, write_marks, write_page
from .session import Limits, NoKernel
from .submission import hidden


def main() -> None:
    parser = argparse.ArgumentParser("python -m tools.grade", description="Grade a folder of submissions.")
    parser.add_argument("chapter", type=int, help="the chapter whose exercises these are")
    parser.add_argument("folder", type=Path, help="one notebook, or folder with a notebook, per learner")
    parser.add_argument("--out", type=Path, help="where marks and reports go (default: FOLDER-marks)")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) // 2), help="at a time")
    parser.add_argument("--seconds", type=float, default=Limits.call, help="for one cell or call")
    parser.add_argument("--total-seconds", type=float, default=Limits.submission, help="for a submission")
    parser.add_argument("--gigabytes", type=float, default=Limits.memory / 2**30, help="of memory")
    parser.add_argument("--autograders", type=Path, default="_build/exercises", help="what assign.py made")
    args = parser.parse_args()

    autograder = args.autograders / f"{args.chapter:02d}" / "autograder"
    tests = sorted(autograder.glob("tests/q*.py"))
    if not tests:
        parser.error(f"no autograder for chapter {args.chapter}: `make assign` builds those of 1 to 11")
    folder = args.folder.resolve()
    paths = sorted(path for path in folder.glob("*") if not hidden(Path(path.name)))
    if not paths:
        parser.error(f"nothing lies in {args.folder}: put one notebook per learner into it")
    twice = [name for name, times in Counter(map(learner, paths)).items() if times > 1]
    if twice:
        parser.error(f"these names stand for two submissions each: {', '.join(twice)}")
    out = args.out or folder.with_name(f"{folder.name}-marks")
    out.mkdir(parents=True, exist_ok=True)
    # No argument: those of a process are there for all to read.
    seed = os.environ.pop("SEED", "") or secrets.token_hex(8)
    how = tests, Limits(args.seconds, args.total_seconds, int(args.gigabytes * 2**30)), seed

    keep_private()
    try:
        reports = list(tqdm(mark_all(paths, max(1, args.jobs), *how), "graded", len(paths)))
        (control,) = mark_all(list(autograder.glob("*.ipynb")), 1, *how)
        if control.total < control.possible or not control.possible:
            raise NoKernel(f"the worked solutions do not earn their marks here: {control}")
    except NoKernel as error:
        parser.error(f"nobody is marked, as marks would mean nothing. {error}")

    reports.sort(key=lambda report: report.learner)
    write_marks(reports, out / "marks.csv")
    for report in reports:
        write_page(report, args.chapter, out / page_name(report.learner))
    print(f"{len(reports)} submissions, seed {seed}: {out / 'marks.csv'} and a report per learner beside it.")
    who = "users of their own" if somebody(0)[1] else "you"
    print(f"They ran as {who}: book/teaching.md says what that means.")


if __name__ == "__main__":
    main()
