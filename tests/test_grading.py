"""Grading a folder: twelve submissions, honest and not, in one command; and the tricks that must not pay."""

import copy
import csv
import io
import os
import pickle
import signal
import struct
import subprocess
import sys
import time

import nbformat
import pytest
import torch
from conftest import ROOT

from tools import assign, grade

SET = ROOT / "exercises" / "05_importance_weighting"
FULL = [2, 2, 2, 3, 3, 3]
NONE = [0] * 6

# Each is a cell put in after the imports of an otherwise perfect notebook.
CELLS = {
    "endless": "while True:\n    pass",
    "stubborn": "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True:\n    pass",
    "hungry": "import torch\nhoard = [torch.empty(2**28) for _ in range(100)]",
    "crashes": "import os\nos.abort()",
    "kills": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)",
}

# Each is put in before the check of question 1 of an untouched notebook.
TRICKS = {
    "overwrites the checker": """
        from vaelearn import exercises
        from vaelearn.exercises import answers, expect
        exercises.examine = answers.examine = lambda *a, **k: None
        expect.close = expect.mean = expect.that = expect.option = lambda *a, **k: None
        answers.Answer.run = answers.Answer.__call__ = lambda *a, **k: 0.0
        grader.check = lambda q: "passed"
        """,
    "prints a pass": "print('q1 passed! all test cases passed')\nprediction = 'q3 passed'",
    "equals everything": """
        class Yes(float):
            __eq__ = __lt__ = __le__ = __gt__ = __ge__ = lambda self, other: True
            __sub__ = __rsub__ = __abs__ = lambda self, *other: 0.0
        iwae = first_order_gap = loss_and_bound = resample = lambda *a: Yes()
        prediction = {k: Yes() for k in ("bound", "elbo", "evidence", "copies", "divergence")}
        """,
    "patches the oracle": """
        import torch, vaelearn
        zero = lambda log_w: 0 * log_w[0]
        vaelearn.bounds.iwae = vaelearn.bounds.log_mean_exp = iwae = zero
        torch.allclose = torch.Tensor.isfinite = lambda *a, **k: True
        """,
    "catches everything": """
        def iwae(log_w):
            try:
                return something_unknown
            except BaseException:
                return log_w[0]
        """,
    "looks for the expected values": """
        import gc, inspect, sys, torch
        def iwae(log_w):
            frame, found = sys._getframe(), []
            while frame:
                found += [v for v in frame.f_locals.values() if isinstance(v, torch.Tensor)]
                frame = frame.f_back
            found += [o for o in gc.get_objects() if isinstance(o, torch.Tensor)]
            fits = [t for t in found if t.shape == log_w.shape[1:]]
            return fits[-1] if fits else log_w[0]
        """,
    "drowns the check in noise": """
        import torch
        iwae = lambda log_w: 1e9 * torch.randn(log_w.shape[1:])
        resample = lambda z, log_w: 1e9 * torch.randn(z.shape[1:])
        first_order_gap = lambda m, s, K: 1e9 * torch.randn(())
        """,
    "floods the grader": """
        import torch
        from vaelearn.exercises import answers
        answers.plain = lambda value: torch.zeros(1).expand(2**36)
        iwae = lambda log_w: log_w
        """,
    "forges replies": """
        import io, os, struct, torch
        for fd in range(3, 64):
            buffer = io.BytesIO()
            torch.save((2, {"value": "passed", "error": ""}), buffer)
            try:
                os.write(fd, struct.pack(">Q", buffer.tell()) + buffer.getvalue())
            except OSError:
                pass
        """,
}


def with_cell(notebook, before, source):
    notebook = copy.deepcopy(notebook)
    place = next(n for n, cell in enumerate(notebook.cells) if before in cell.source)
    lines = source.strip("\n").split("\n")
    margin = len(lines[0]) - len(lines[0].lstrip())
    cell = nbformat.v4.new_code_cell("\n".join(line[margin:] for line in lines))
    notebook.cells.insert(place, cell)
    return notebook


@pytest.fixture(scope="module")
def autograder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("otter")
    assign.build(SET, folder / "05", folder / "student", folder / "solved")
    return folder


@pytest.fixture(scope="module")
def notebooks(autograder):
    name = f"{SET.name}.ipynb"
    solved, student = autograder / "05" / "autograder" / name, autograder / "student" / name
    return nbformat.read(solved, as_version=4), nbformat.read(student, as_version=4)


def deaf():
    """As a background job of a shell starts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def grade_folder(autograder, folder, *flags):
    command = [sys.executable, "tools/grade.py", "5", str(folder), "--autograders", str(autograder)]
    done = subprocess.run(
        [*command, *flags], cwd=ROOT, capture_output=True, text=True, timeout=300, preexec_fn=deaf
    )
    assert done.returncode == 0, done.stderr
    out = folder.with_name(f"{folder.name}-marks")
    with (out / "marks.csv").open(encoding="utf-8") as file:
        return {row["learner"]: row for row in csv.DictReader(file)}, out


def marks(row):
    return [float(row[f"q{n}"]) for n in range(1, 7)]


@pytest.fixture(scope="module")
def twelve(autograder, notebooks, tmp_path_factory):
    solved, student = notebooks
    folder = tmp_path_factory.mktemp("submissions") / "class"
    (folder / "in-a-folder").mkdir(parents=True)
    slow = copy.deepcopy(solved)
    for cell in slow.cells:
        if cell.source.startswith("def resample"):
            cell.source = "def resample(z, log_w):\n    while True:\n        pass"
    whole = {"perfect": solved, "untouched": student, "slow": slow}
    whole |= {name: with_cell(solved, "def iwae", source) for name, source in CELLS.items()}
    for name, notebook in whole.items():
        nbformat.write(notebook, folder / f"{name}.ipynb")
    nbformat.write(solved, folder / "in-a-folder" / "mine.ipynb")
    (folder / "corrupt.ipynb").write_text('{"cells": [')
    (folder / "empty.ipynb").touch()
    (folder / "essay.pdf").write_bytes(b"%PDF-1.4")
    return grade_folder(autograder, folder, "--seed", "3", "--seconds", "4")


@pytest.mark.parametrize(
    ("learner", "expected", "remark"),
    [
        ("perfect", FULL, ""),
        ("in-a-folder", FULL, ""),
        ("untouched", NONE, "TypeError"),
        ("slow", [2, 2, 2, 3, 0, 3], ""),
        ("endless", FULL, "ran longer than 4 s and was interrupted"),
        ("stubborn", FULL, "had to be ended; it was left out"),
        ("hungry", FULL, "memory"),
        ("crashes", FULL, "ended the process (SIGABRT); it was left out"),
        ("kills", NONE, "look at this one by hand"),
        ("corrupt", NONE, "not a notebook"),
        ("empty", NONE, "not a notebook"),
        ("essay.pdf", NONE, "not a notebook"),
    ],
)
def test_twelve_submissions_get_their_marks_and_reasons(twelve, learner, expected, remark):
    sheet, out = twelve
    row = sheet[learner]
    assert marks(row) == expected
    assert float(row["total"]) == sum(expected) and float(row["out of"]) == sum(FULL)
    assert remark in row["remarks"] and (remark or not row["remarks"])
    assert len(sheet) == 12
    report = (out / f"{learner}.html").read_text("utf-8")
    assert f"{sum(expected):g} of" in report


def test_a_report_holds_what_the_checks_said(twelve):
    report = (twelve[1] / "slow.html").read_text("utf-8")
    assert "As in the notebook: <code>resample</code> ran longer than 4 s and was interrupted" in report
    assert "Is the <code>...</code> still there" in (twelve[1] / "untouched.html").read_text("utf-8")


HONEST = """
%matplotlib inline
import matplotlib.pyplot as plt, tqdm
plt.plot([1, 2]); plt.show()
for _ in tqdm.tqdm(range(3)):
    pass
!echo from the shell
await __import__("asyncio").sleep(0)
grader.check("q1"); kept = 1
assert kept == 1
print("x" * 10**7)
torch.set_default_dtype(torch.float32)
"""


def test_what_honest_notebooks_do_costs_nothing(autograder, notebooks, tmp_path):
    folder = tmp_path / "honest"
    (folder / "mac" / "__MACOSX").mkdir(parents=True)
    (folder / "__MACOSX").mkdir()
    solved, _ = notebooks
    nbformat.write(with_cell(solved, "def iwae", HONEST), folder / "odd.ipynb")
    nbformat.write(solved, folder / "mac" / "mine.ipynb")
    (folder / "mac" / "__MACOSX" / "._mine.ipynb").touch()
    written = with_cell(solved, "def first_order", "%%writefile helper.py\nnumber = 2")
    written = with_cell(written, "def loss_and_bound", "from helper import number\nassert number == 2")
    (folder / "bom.ipynb").write_text(nbformat.writes(written), "utf-8-sig")
    sheet, _ = grade_folder(autograder, folder)
    assert set(sheet) == {"odd", "mac", "bom"}
    for row in sheet.values():
        assert (marks(row), row["remarks"]) == (FULL, "")


def test_odd_files_and_texts_do_not_stop_the_others(autograder, notebooks, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    solved, student = notebooks
    os.mkfifo(folder / "pipe")
    (folder / "nowhere.ipynb").symlink_to(folder / "missing")
    (folder / ("long" * 62)).mkdir()
    (folder / "=1+<b>").touch()
    nbformat.write(with_cell(student, "def iwae", 'raise ValueError("\\udcff")'), folder / "text.ipynb")
    nbformat.write(solved, folder / "whole.ipynb")
    sheet, out = grade_folder(autograder, folder, "--jobs", "0")
    assert len(sheet) == len(list(out.glob("*.html"))) == 6
    assert "'=1+<b>" in sheet and "<b>" not in (out / "=1+<b>.html").read_text("utf-8")
    assert marks(sheet["whole"]) == FULL
    assert "not a file" in sheet["pipe"]["remarks"] and "udcff" in sheet["text"]["remarks"]


def test_a_grader_that_was_stopped_is_ended(autograder, notebooks, tmp_path):
    stop = "import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)"
    nbformat.write(with_cell(notebooks[0], "def iwae", stop), tmp_path / "a.ipynb")
    program = """
import sys
from pathlib import Path
from exercises import grade
grade.MARGIN = 2
tests = sorted(Path(sys.argv[2]).glob("05/autograder/tests/q*.py"))
(report,) = grade.grade_all([Path(sys.argv[1])], tests, grade.Limits(submission=4), 1, 1)
print(report.remarks)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "a.ipynb"), str(autograder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "ended from outside" in done.stdout, done.stderr


def test_two_submissions_of_one_name_are_refused(autograder, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a.ipynb").touch()
    command = [sys.executable, "tools/grade.py", "5", str(tmp_path), "--autograders", str(autograder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "two submissions each: a" in done.stderr


def test_tricks_earn_nothing(autograder, notebooks, tmp_path):
    folder = tmp_path / "tricks"
    folder.mkdir()
    for name, source in TRICKS.items():
        nbformat.write(with_cell(notebooks[1], 'check("q1")', source), folder / f"{name}.ipynb")
    sheet, _ = grade_folder(autograder, folder, "--seconds", "5")
    assert {name: marks(row) for name, row in sheet.items()} == {name: NONE for name in TRICKS}


WRITE_EVERYWHERE = """
import os
for fd in range(3, 64):
    try:
        os.write(fd, {reply!r})
    except OSError:
        pass
"""


def test_a_reply_is_never_unpickled_as_code(tmp_path):
    mark = tmp_path / "executed"

    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {mark}",)

    process = grade.Process(str(tmp_path), grade.Limits())
    try:
        process.ask("cell", "", seconds=60)
        buffer = io.BytesIO()
        torch.save((process.number + 1, Bomb()), buffer)
        reply = struct.pack(">Q", buffer.tell()) + buffer.getvalue()
        with pytest.raises(grade.Stopped, match="unreadable"):
            process.ask("cell", WRITE_EVERYWHERE.format(reply=reply), seconds=10)
    finally:
        process.end()
    assert not mark.exists()


def test_a_late_reply_is_not_taken_for_the_next(tmp_path):
    process = grade.Process(str(tmp_path), grade.Limits())
    try:
        process._send(pickle.dumps((-1, "cell", "raise ValueError('late')")), time.monotonic() + 60)
        assert process.ask("cell", "", seconds=60) == {"error": ""}
    finally:
        process.end()


def test_the_worker_is_told_nothing_it_could_use(tmp_path):
    process = grade.Process(str(tmp_path), grade.Limits())
    try:
        process.ask("cell", "import os; known = dict(os.environ)", seconds=60)
        reply = process.ask(
            "ask", "known", ("vaelearn.exercises.answers", "itself"), (), {}, (), 0, seconds=10
        )
    finally:
        process.end()
    ours = {"PATH", "HOME", "MPLBACKEND", "OMP_NUM_THREADS", "IPYTHONDIR", "MPLCONFIGDIR"}
    ours |= {"PIP_NO_INDEX", "PIP_DRY_RUN"}
    assert ours <= set(reply["value"]) <= ours | {"LC_CTYPE", "PWD", "SHLVL", "_"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["13", "{here}"], "no autograder for chapter 13"),
        (["5", "{here}/nowhere"], "is not a folder"),
        (["5", "{here}"], "is empty"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(autograder, tmp_path, arguments, says):
    arguments = [argument.format(here=tmp_path) for argument in arguments]
    command = [sys.executable, "tools/grade.py", *arguments, "--autograders", str(autograder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and says in done.stderr


def test_nobody_is_marked_where_no_submission_could_run(autograder, tmp_path):
    (tmp_path / "a.ipynb").touch()
    command = [sys.executable, "tools/grade.py", "5", str(tmp_path), "--autograders", str(autograder)]
    flags = ["--gigabytes", "0.1", "--out", str(tmp_path / "marks")]
    done = subprocess.run([*command, *flags], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "with 0.1 GiB, ended the process" in done.stderr
    assert not (tmp_path / "marks" / "marks.csv").exists()


def test_half_the_points_are_for_the_hidden_checks(autograder, notebooks, tmp_path):
    no_gradient = "import math\ndef iwae(w): return (torch.logsumexp(w, 0) - math.log(len(w))).detach()"
    folder = tmp_path / "one"
    folder.mkdir()
    nbformat.write(with_cell(notebooks[1], 'check("q1")', no_gradient), folder / "a.ipynb")
    sheet, out = grade_folder(autograder, folder)
    assert marks(sheet["a"]) == [1, 0, 0, 0, 0, 0]
    assert "Further checks: <code>iwae</code>: its result has no gradient" in (out / "a.html").read_text(
        "utf-8"
    )


def test_the_same_seed_gives_the_same_report(autograder, notebooks, tmp_path):
    folder = tmp_path / "one"
    folder.mkdir()
    wrong = "def iwae(w): return 1.1 * w.logsumexp(0)"  # a mistake without a name is told in numbers
    nbformat.write(with_cell(notebooks[1], 'check("q1")', wrong), folder / "a.ipynb")
    one, again, other = (
        (grade_folder(autograder, folder, "--seed", seed)[1] / "a.html").read_text("utf-8")
        for seed in ("7", "7", "8")
    )
    assert one == again != other
