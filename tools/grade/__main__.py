"""Grade a folder of submissions: `python -m tools.grade CHAPTER FOLDER`.

Writes marks.csv and a page for each learner. A notebook runs in a Jupyter kernel of its own, with limits.
Otter's test files ask it for its answers from another process: the expected values are computed there,
where no learner's code runs.
"""

import argparse
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

import vaelearn

from .apart import keep_private, somebody
from .handed_in import RULES, HandedIn, counted, handed_in
from .marking import mark_all
from .report import Report, Row, page_name, write_import, write_marks, write_page
from .session import Limits, NoKernel

BAR = "{desc}: {n_fmt} of {total_fmt} in {elapsed}, about {remaining} to go {bar}"


def main() -> None:
    parser = argparse.ArgumentParser("python -m tools.grade", description="Grade a folder of submissions.")
    parser.add_argument("chapter", type=int, help="the chapter whose exercises these are")
    parser.add_argument("folder", type=Path, help="notebooks, or folders with notebooks, of learners")
    parser.add_argument("--keep", choices=RULES, default="last", help="which one of several counts")
    parser.add_argument("--title", help="of the assignment on Canvas (default: Exercises CHAPTER)")
    parser.add_argument("--out", type=Path, help="where marks and reports go (default: FOLDER-marks)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at a time")
    parser.add_argument("--seconds", type=float, default=Limits.call, help="for one cell or call")
    parser.add_argument("--total-seconds", type=float, default=Limits.submission, help="for a submission")
    parser.add_argument("--gigabytes", type=float, default=Limits.memory / 2**30, help="of memory")
    parser.add_argument("--autograders", type=Path, default="_build/exercises", help="what assign.py made")
    args = parser.parse_args()

    autograder = args.autograders / f"{args.chapter:02d}" / "autograder"
    tests = sorted(autograder.glob("tests/q*.py"))
    if not tests:
        parser.error(f"no autograder for chapter {args.chapter}: `make assign` builds those of 1 to 12")
    folder = args.folder.resolve()
    handed = counted(handed_in(folder), args.keep)
    if not handed:
        parser.error(f"nothing lies in {args.folder}: put one notebook per learner into it")
    out = args.out or folder.with_name(f"{folder.name}-marks")
    out.mkdir(parents=True, exist_ok=True)
    known = out / ".marked"
    known.mkdir(mode=0o700, exist_ok=True)
    seed = _seed(known / "seed")
    limits = Limits(args.seconds, args.total_seconds, int(args.gigabytes * 2**30))

    keep_private()
    best = {}
    try:
        for one, report in marked(handed, known, max(1, args.jobs), tests, limits, seed):
            best[one.whose] = max(best.get(one.whose, (one, report)), (one, report), key=_worth)
        solved = [HandedIn("the worked solutions", path) for path in autograder.glob("*.ipynb")]
        ((_, control),) = mark_all(solved, 1, tests, limits, seed)
        if control.total < control.possible or not control.possible:
            raise NoKernel(f"the worked solutions do not earn their marks here: {control}")
    except NoKernel as error:
        shutil.rmtree(known)  # of these, too
        parser.error(f"nobody is marked, as marks would mean nothing. {error}")
    except KeyboardInterrupt:
        parser.exit(130, "\nStopped. The same command goes on from here: what is marked stays marked.\n")

    rows = sorted(best.values(), key=lambda row: row[0].whose)
    write_marks(rows, out / "marks.csv")
    for platform in {one.platform for one, _ in rows} - {""}:
        title = args.title or f"Exercises {args.chapter}"
        write_import(rows, platform, title, out / f"{platform}.csv")
    for one, report in rows:
        write_page(one, report, args.chapter, out / page_name(one.whose))
    (known / "seed").unlink()
    print(f"{len(rows)} learners, seed {seed}: {out / 'marks.csv'} and a report per learner beside it.")
    who = "users of their own" if somebody(0)[1] else "you"
    print(f"They ran as {who}: book/teaching.md says what that means.")


def _worth(row: Row) -> tuple:
    return row[1].total, row[0].order


def _seed(kept: Path) -> str:
    """That of the environment, or of a run that was interrupted, or a new one; kept until the run ends."""
    # No argument: those of a process are there for all to read.
    seed = os.environ.pop("SEED", "") or (kept.read_text() if kept.exists() else secrets.token_hex(8))
    kept.write_text(seed)
    return seed


def marked(handed: list[HandedIn], known: Path, jobs: int, *how) -> Iterator[Row]:
    """Each submission and its Report; `known` keeps them, so that none is marked twice alike."""
    tests, *rest = how
    sources = [*tests, *Path(vaelearn.__file__).parent.rglob("*.py"), *Path(__file__).parent.glob("*.py")]
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    files = {one: known / f"{one.fingerprint(code, *map(repr, rest))}.json" for one in handed}
    for stale in {*known.glob("*.json")} - {*files.values()}:
        stale.unlink()
    old = [one for one in handed if files[one].exists()]
    new = [one for one in handed if one not in old]
    yield from ((one, Report(**json.loads(files[one].read_text("utf-8")))) for one in old)
    for one, report in tqdm(mark_all(new, jobs, *how), "marked", len(new), bar_format=BAR, smoothing=0):
        if report.questions:  # else its marking failed, and may not another time
            files[one].write_text(json.dumps(asdict(report)), "utf-8")
        yield one, report


if __name__ == "__main__":
    main()
