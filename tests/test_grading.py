"""One class marked in one command, honest and not; and tricks, each at the check that it attacks.

What teaching.md says the marks rest on is tried here, sentence by sentence.
"""

import copy
import csv
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
from functools import partial
from importlib import resources
from pathlib import Path
from types import FunctionType
from zipfile import ZipFile

import nbformat
import psutil
import pytest
from conftest import ROOT

from tools import assign, gradescope
from tools.grade import __main__ as command
from tools.grade import apart, handed_in, report, session, submission
from vaelearn import bounds
from vaelearn.exercises import Wrong, ch05, ch10, examine

SET = ROOT / "exercises" / "05_importance_weighting"
FULL, NONE = [2, 2, 2, 3, 3, 3], [0] * 6
OWN_USER = apart.somebody(0)[1] is not None  # whether submissions run as another user here
SECONDS = "15"  # for one cell or call
LONG = "Uebungsblatt 5 Abgabe online " * 7  # as a learning platform names what it exports

# Cells of an otherwise perfect notebook, before the one that defines `iwae`: what it earns, what is remarked.
HABITS = """
%autosave 60
%clear
!touch notes
%less notes
%store -r
%connect_info
%matplotlib widget
import asyncio, os
assert get_ipython().kernel and os.environ["JPY_PARENT_PID"]
asyncio.create_task(asyncio.sleep(0))
await asyncio.sleep(0)
import matplotlib.pyplot as plt, tqdm
plt.plot([1, 2]); plt.show()
for _ in tqdm.tqdm(range(3)):
    pass
!echo from the shell
assert grader.check("q1").passed and grader.check("q1", globals()).passed
grader.check()
print("x" * 10**6)
torch.set_default_dtype(torch.float32)
"""
INSTALLS = """
%conda install -y tqdm
%mamba install -y tqdm
%uv pip install tqdm
%pip uninstall -y -q no-such-package
nothing = !pip --version; conda --version; mamba --version; uv --version; apt-get --version
assert list(nothing) == [], nothing
import os, subprocess, sys
pip = os.path.join(os.path.dirname(sys.executable), "pip")
for command in [sys.executable, "-Im", "pip"], [pip]:
    said = subprocess.run([*command, "uninstall", "-y", "no-such-package"], capture_output=True, text=True)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", ""), said
"""
OTHER_WAYS = """
import numpy as np
def iwae(log_w):
    return np.logaddexp.reduce(log_w.numpy(), 0) - np.log(len(log_w))

@torch.compile
def first_order_gap(m, s, K):
    return np.float32(math.expm1(s**2) / 2 / K)

def resample(z, log_w):
    z, log_w = z.float(), log_w.float()
    return z[torch.distributions.Categorical(logits=log_w.T).sample(), torch.arange(z.shape[1])]

exact_bound = torch.compile(torch.no_grad()(exact_bound))
"""
LEAVES = """
import os, subprocess, sys
loop = "import sys, time; time.sleep(3000)"
subprocess.Popen([sys.executable, "-c", loop, "{mark}"], start_new_session=True)
for _ in range(1500):
    os.mkdir("deep"); os.chdir("deep")
closed = os.environ["HOME"] + "/closed"
os.makedirs(closed + "/full"); os.chmod(closed, 0)
"""
KILLS = "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)"
# Cells of one notebook, perfect otherwise, and what is remarked of each. The first two end its kernel.
TROUBLES = {
    "import os\nos.abort()": "ended the process (SIGABRT), it was left out",
    "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True:\n    time.sleep(1)": (
        f"ran longer than {SECONDS} s and had to be ended, it was left out"
    ),
    "import time\nwhile True:\n    time.sleep(0.01)": f"ran longer than {SECONDS} s and was interrupted",
    "open('large', 'wb').truncate(2**30)": "File too large",
    "hoard = [torch.empty(2**28) for _ in range(100)]": "memory",
}
GAP = "first_order_gap = lambda m, s, K: 1.1 * s"  # a mistake without a name, which is told in numbers
# The last cell of another: an answer that is right for the public check alone, one that claims 2**36 numbers,
# and one that never comes.
LAST = """
import time
from vaelearn.exercises import answers
iwae = lambda w: w.logsumexp(0) - math.log(len(w)) if len(w) > 1 else 0 * w[0]
loss_and_bound = lambda log_w: torch.zeros(1, 1, 1, 1, 1).expand(2**36, 1, 1, 1, 1)
def plain(value, plain=answers.plain):
    return value if getattr(value, "ndim", 0) == 5 else plain(value)
answers.plain = plain
def resample(z, log_w):
    time.sleep(1000)
"""
# Right in part: four of five predictions, two of three bugs.
PARTIAL = """
prediction["elbo"] = "up"
def loss_and_bound(log_w):
    weights = torch.softmax(log_w, 0)
    return -(weights * log_w).sum(0).mean(), torch.logsumexp(log_w, 0) - math.log(len(log_w))
"""
ERROR = 'raise ValueError("\\udcff \\x00 \\x1b[31m;=1+1;+cmd|X;\\n=2+2\\t@SUM(1)\\u2028=3+3 <b>")'


# Of the marking process: writes into its report, which has no name, and ends it.
FORGE = """
import json, os, signal
said = {"questions": {f"q{n}": [3, 3, []] for n in range(1, 7)}}
found = [f"/proc/{os.getppid()}/fd/{fd}" for fd in range(3, 64)]
for file in [file for file in found if os.path.islink(file) and "(deleted)" in os.readlink(file)]:
    open(file, "w").write(json.dumps(said))
    os.kill(os.getppid(), signal.SIGKILL)
"""
# What root has more than others is taken from the marking process too, and then it starts kernels as it is.
ORDINARY = ["setpriv", *apart.NO_RIGHTS] if apart.somebody(0)[0] else []
MARK = """
import json, os, sys
from pathlib import Path
from tools.grade import apart, handed_in, marking, session
marking.somebody = session.somebody = lambda number: ([], None)
folder, tests, done = Path(sys.argv[1]), [Path(sys.argv[2])], {}
def mark(*names):
    handed = [handed_in.HandedIn(name, folder / f"{name}.ipynb") for name in names]
    return [[r.total, r.remarks] for _, r in marking.mark_all(handed, 1, tests, limits, "mnemosyne")]
limits, keep_private = session.Limits(), marking.keep_private
marking.keep_private = lambda: None
done["open"] = mark("forger", "spy")
marking.keep_private = keep_private
keep_private()
done["closed"] = mark("forger", "spy")
limits, marking.MARGIN = session.Limits(submission=12), 1
done["stopper"] = mark("stopper")
session.Kernel._environment = lambda kernel: {"PYTHONHOME": "/nowhere"}
try:
    done["no kernel"] = mark("spy")
except session.NoKernel as error:
    done["no kernel"] = str(error)
print(json.dumps(done))
"""
STOP = "import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)"
SPY = """
import os
import re
found, pid = [], os.getppid()
while pid > 1:
    try:
        found.append(open(f"/proc/{pid}/environ").read().partition("SEED")[2][:20])
    except OSError as error:
        found.append(error.strerror)
    pid = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
raise ValueError(found)
"""


def with_cell(notebook, before, source):
    notebook = copy.deepcopy(notebook)
    place = next((n for n, cell in enumerate(notebook.cells) if before in cell.source), len(notebook.cells))
    notebook.cells.insert(place, nbformat.v4.new_code_cell(textwrap.dedent(source).strip("\n")))
    return notebook


@pytest.fixture(scope="module")
def autograder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("otter")
    before = set(os.listdir(tempfile.gettempdir()))
    assign.build(SET, folder / "05", folder / "student", folder / "solved")
    left = set(os.listdir(tempfile.gettempdir())) - before
    assert not any(Path(tempfile.gettempdir(), name, "q1.py").exists() for name in left)
    return folder


@pytest.fixture(scope="module")
def notebooks(autograder):
    name = f"{SET.name}.ipynb"
    solved, student = autograder / "05" / "autograder" / name, autograder / "student" / name
    return nbformat.read(solved, as_version=4), nbformat.read(student, as_version=4)


def marks(row):
    return [float(row[f"q{n}"]) for n in range(1, 7)]


@pytest.fixture(scope="module")
def temporary():
    """A place for temporary files that another user can reach."""
    with tempfile.TemporaryDirectory(prefix="grading-") as folder:
        os.chmod(folder, 0o711)
        yield Path(folder)


@pytest.fixture(scope="module")
def klass(autograder, notebooks, temporary, tmp_path_factory):
    solved, student = notebooks
    folder = tmp_path_factory.mktemp("submissions") / "class"
    (folder / "mac" / "__MACOSX").mkdir(parents=True)
    (folder / "__MACOSX").mkdir()
    whole = {"troubles": solved}
    for cell in [*TROUBLES, SPY, LEAVES.format(mark=temporary.name)]:
        whole["troubles"] = with_cell(whole["troubles"], "def iwae", cell)
    whole["kills"] = with_cell(solved, "def iwae", KILLS)
    whole[LONG + "forger"] = with_cell(with_cell(student, "def iwae", FORGE), "the end", GAP)
    whole[LONG + "last"] = with_cell(with_cell(solved, "def iwae", ERROR), "the end", GAP + LAST)
    whole["partial"] = with_cell(solved, "the end", PARTIAL)
    for name, notebook in whole.items():
        nbformat.write(notebook, folder / f"{name}.ipynb")

    helped = with_cell(with_cell(solved, "def iwae", HABITS), "def iwae", INSTALLS)
    helped = with_cell(helped, "the end", OTHER_WAYS)
    helped = with_cell(helped, "def first_order", "from helper import number\nassert number == 2")
    helped = with_cell(helped, "def loss_and_bound", "%%writefile late.py\nnumber = 3")
    helped = with_cell(helped, "def resample", "from late import number\nassert number == 3")
    (folder / "mac" / "helper.py").write_text("number = 2")
    (folder / "mac" / "secret").symlink_to(folder / "troubles.ipynb")
    os.mkfifo(folder / "mac" / "pipe")
    (folder / "mac" / "__MACOSX" / "._mine.ipynb").touch()

    heavy = json.loads(nbformat.writes(helped))
    cell = next(cell for cell in heavy["cells"] if cell["cell_type"] == "code")
    heavy["cells"][-1] |= {"cell_type": "code", "execution_count": None, "outputs": None}  # not to be read
    cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["y" * 60 * 2**20]}]
    (folder / "mac" / "mine.ipynb").write_text(json.dumps(heavy), "utf-8-sig")

    (folder / "corrupt.ipynb").write_text('{"cells": [')
    (folder / "empty.ipynb").touch()
    (folder / "essay.pdf").write_bytes(b"%PDF-1.4")
    (folder / "Zoë Ångström_9_assignsubmission_file_").mkdir()
    for name in "hw.ipynb", "hw-1.ipynb":
        (folder / "Zoë Ångström_9_assignsubmission_file_" / name).touch()
    (folder / "bézierpierre_7_70_hw.ipynb").touch()
    (folder / "bézierpierre_LATE_7_71_hw-1.ipynb").touch()
    os.mkfifo(folder / "fifo.ipynb")
    (folder / "nowhere.ipynb").symlink_to(folder / "missing")
    (folder / "link.ipynb").symlink_to(folder / "troubles.ipynb")
    (folder / "linked").symlink_to(folder / "mac")
    (folder / "inside").mkdir()
    (folder / "inside" / "a.ipynb").symlink_to(folder / "troubles.ipynb")
    (folder / ("long" * 62)).mkdir()
    (folder / "=1+<b>").touch()
    (folder / "a;=1+1.txt").touch()
    (folder / "\n=1+1.txt").touch()
    flags = "--seconds", SECONDS, "--jobs", "2"
    # As a background job of a shell starts.
    deaf = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    done = subprocess.run(
        [sys.executable, "-m", "tools.grade", "5", folder, "--autograders", autograder, *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"SEED": "mnemosyne", "TMPDIR": str(temporary)},
        preexec_fn=deaf,
    )
    assert done.returncode == 0, done.stderr
    assert f"They ran as {'users of their own' if OWN_USER else 'you'}" in done.stdout
    out = folder.with_name(f"{folder.name}-marks")
    with (out / "marks.csv").open(encoding="utf-8-sig") as file:
        return {row["learner"]: row for row in csv.DictReader(file)}, out, folder


NOT_READ = "not a notebook that can be read"
LINK = "this is a link"


@pytest.mark.parametrize(
    ("learner", "expected", "remark"),
    [
        ("mac", FULL, ""),
        *(("troubles", FULL, remark) for remark in [*TROUBLES.values(), "Permission denied"]),
        ("kills", *((FULL, "PermissionError") if OWN_USER else (NONE, "look at this one by hand"))),
        (f"{LONG}last", [1, 0, 2, 0, 0, 3], "ValueError"),
        (f"{LONG}forger", NONE, "PermissionError"),
        ("partial", [2, 2, 1.6, 2, 3, 3], ""),
        ("corrupt", NONE, NOT_READ),
        ("empty", NONE, NOT_READ),
        ("essay.pdf", NONE, NOT_READ),
        ("Zoë Ångström", NONE, "the last of 2 submissions, hw-1.ipynb"),
        ("bézierpierre", NONE, "the last of 2 submissions, bézierpierre_LATE_7_71_hw-1.ipynb, late"),
        ("fifo", NONE, "nothing to read"),
        ("nowhere", NONE, LINK),
        ("link", NONE, LINK),
        ("linked", NONE, LINK),
        ("inside", NONE, LINK),
        ("long" * 62, NONE, "this one holds none"),
        ("'=1+<b>", NONE, NOT_READ),
    ],
)
def test_each_submission_gets_its_marks_and_reasons(klass, learner, expected, remark):
    row = klass[0][learner]
    assert expected is None or marks(row) == expected
    assert float(row["total"]) == sum(marks(row)) and float(row["out of"]) == sum(FULL)
    assert remark in row["remarks"] and (remark or not row["remarks"])


def test_each_submission_has_a_line_and_a_page_of_its_own(klass):
    sheet, out, folder = klass
    handed = [path for path in folder.iterdir() if path.name != "__MACOSX"]
    assert len(sheet) == len(handed) - 1 == len(list(out.glob("*.html")))  # two are of one learner
    assert "15 of" in (out / "mac.html").read_text("utf-8")
    assert f"<h1>{LONG}forger</h1>" in (out / f"{LONG}forger.html").read_text("utf-8")


def test_a_page_says_what_the_checks_said(klass):
    page = (klass[1] / f"{LONG}last.html").read_text("utf-8")
    assert f"notebook: ✗ <code>resample</code> ran longer than {SECONDS} s and was interrupted" in page
    assert "Further checks: ✗ the same." in page and "Further checks: ✓" in page
    assert "Is the <code>...</code> still there" in (klass[1] / f"{LONG}forger.html").read_text("utf-8")


def test_nothing_is_left_running_or_lying_about(klass, temporary):
    assert list(temporary.iterdir()) == []
    left = [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"]]
    assert not [process for process in left if temporary.name in process.info["cmdline"]]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_no_cell_of_the_sheet_is_a_formula_whatever_separates_cells(klass, separator):
    text = (klass[1] / "marks.csv").read_text("utf-8-sig")
    assert not [c for c in text if ord(c) < 32 and c not in "\r\n"] and "\u2028" not in text
    for row in csv.reader(text.splitlines(), delimiter=separator):
        assert not [cell for cell in row if cell.lstrip(" \"'")[:1] in tuple("=+@") and cell[0] != "'"]
    assert max(map(len, text.splitlines())) < 2500
    assert "<b>" not in "".join(page.read_text("utf-8") for page in klass[1].glob("*.html"))


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@A", "\t=1", " =1", "\r\n=1", "＝1", "\x00=1", ";=1"])
def test_a_cell_that_would_be_a_formula_is_quoted(text):
    cell = report.cell(text)
    assert cell.startswith(("'", ",")) and report.cell("x;" + text)[:2] == "x,"
    assert cell.isprintable()


def test_sheets_open_with_names_as_they_are_and_have_the_columns_of_their_platforms(klass):
    assert (klass[1] / "marks.csv").read_bytes().startswith(b"\xef\xbb\xbflearner,id,q1,")
    canvas = list(csv.reader((klass[1] / "canvas.csv").read_text("utf-8").splitlines()))
    assert canvas == [
        ["Student", "ID", "Section", "Exercises 5"],
        ["Points Possible", "", "", "15"],
        ["bézierpierre", "7", "", "0"],
    ]
    (moodle,) = csv.DictReader((klass[1] / "moodle.csv").read_text("utf-8").splitlines())
    assert (moodle["Identifier"], moodle["Full name"], moodle["Grade"]) == (
        "Participant 9",
        "Zoë Ångström",
        "0",
    )
    assert moodle["Last modified (grade)"] and moodle["Feedback comments"].startswith(
        "q1: 0 of 2, q2: 0 of 2"
    )


def test_points_by_part_stand_in_the_sheet_and_on_the_page(klass):
    row, page = klass[0]["partial"], (klass[1] / "partial.html").read_text("utf-8")
    assert [float(row[f"q3 {part}"]) for part in ch05.q3.parts] == [0.4, 0, 0.4, 0.4, 0.4]
    assert [float(row[f"q4 {part}"]) for part in ch05.q4.parts] == [1, 1, 0] and "q1 " not in row
    assert "<small>elbo 0 of 0.4</small>" in page and "1.6 of 2" in page
    assert "notebook, bound, evidence, copies, divergence: ✓" in page
    assert "notebook, elbo: ✗ prediction" in page and "Further checks, elbo: ✗ the same." in page


def test_gradescopes_zip_gives_the_same_marks_and_installs_what_the_project_pins(klass, autograder, tmp_path):
    zipped = tmp_path / "05.zip"
    gradescope.build(autograder / "05" / "autograder" / "tests", zipped)
    command = ["-m", "otter", "run", "--autograder", zipped, "--output-dir", tmp_path, "--no-logo"]
    how = {"cwd": tmp_path, "check": True, "capture_output": True, "timeout": 300}
    subprocess.run([sys.executable, *command, klass[2] / "partial.ipynb"], **how)
    said = json.loads((tmp_path / "results.json").read_text("utf-8"))["tests"]
    assert {test["name"]: test["score"] for test in said if "score" in test} == {
        f"q{n}": mark for n, mark in enumerate(marks(klass[0]["partial"]), 1)
    }
    with ZipFile(zipped) as archive:
        names, environment = archive.namelist(), archive.read("environment.yml").decode()
    (wheel,) = (name for name in names if name.endswith(".whl"))
    assert f"vaelearn @ file:///autograder/source/{wheel}" in environment
    pinned = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    for line in "torch", "numpy", "matplotlib", "scikit-learn":
        (pin,) = (pin for pin in pinned if pin.startswith(f"{line}=="))
        assert f"- {pin}\n" in environment
    assert "files/constraints.txt" in names and "-c /autograder/source/files/constraints.txt" in environment


def test_a_remark_quotes_the_first_line_of_its_cell(klass):
    assert "`import os`: ended the process (SIGABRT)" in klass[0]["troubles"]["remarks"]


def test_pages_of_names_alike_stay_apart():
    one, two = (report.page_name("ö" * 126 + end) for end in "ab")
    assert one != two and max(len(os.fsencode(name)) for name in (one, two)) <= 255
    assert report.page_name("anna") == "anna.html"


# Tricks. `pays` says at which public check each would earn its mark in the learner's own process.

TRICKS = {
    "equals everything": """
        class Number(float):
            __eq__ = __lt__ = __le__ = __gt__ = __ge__ = lambda self, other: True
        class Word(str):
            __hash__ = lambda self: hash("up")
            __eq__ = lambda self, other: True
            __ne__ = lambda self, other: False
            strip = lower = lambda self: self
        prediction = {k: Word("x") for k in ("bound", "elbo", "evidence", "copies", "divergence")}
        """,
    "exchanges the oracle": """
        from vaelearn import bounds
        bounds.iwae = lambda log_w: 0 * log_w[0]
        iwae = lambda log_w: 0 * log_w[0] + (log_w[0] < -500) * -900.0
        """,
    "exchanges torch": """
        torch.allclose = lambda *a, **k: True
        iwae = lambda log_w: 0 * log_w[0]
        first_order_gap = lambda *a: 0.0
        loss_and_bound = lambda log_w: (0 * log_w.sum(), log_w[0])
        exact_bound = lambda v, p, K: v[0]
        """,
    "looks for the expected value": """
        import inspect
        def iwae(log_w):
            for frame in inspect.stack():
                truth = frame.frame.f_locals.get("truth")
                if isinstance(truth, torch.Tensor):
                    return truth + frame.frame.f_locals.get("depth", 0)
            return log_w[0]
        """,
    "patches what is random": """
        from vaelearn.exercises import fresh
        fresh.Fresh.normal = lambda self, *shape: torch.zeros(shape)
        iwae = lambda log_w: log_w[0]
        """,
    "overwrites the checker": """
        from vaelearn import exercises
        from vaelearn.exercises import answers, expect
        exercises.examine = answers.examine = lambda *a, **k: None
        expect.close = expect.mean = expect.that = expect.option = lambda *a, **k: None
        answers.Answer.run = answers.Answer.__call__ = lambda *a, **k: torch.zeros(1)
        """,
}
PAYS = {
    "overwrites the checker": "123456",
    "equals everything": "3",
    "exchanges the oracle": "1",
    "exchanges torch": "1246",
    "looks for the expected value": "1",
    "patches what is random": "1",
}


def code(notebook):
    return [
        cell.source for cell in notebook.cells if cell.cell_type == "code" and "grader.c" not in cell.source
    ]


@pytest.fixture(scope="module")
def shared(notebooks):
    """Of each trick what the checks say where learner and checks share a process: one forks for each."""
    program = """
import contextlib, os, sys, textwrap
{cells}
for name, trick in {tricks!r}.items():
    if not os.fork():
        exec(trick, globals())
        said = [grader.check(f"q{{n}}", globals()) for n in {pays!r}[name]]
        print(name, all(verdict.passed for verdict in said), said, sep="|", flush=True)
        os._exit(0)
    os.wait()
"""
    cells = "\n".join(f"with contextlib.suppress(Exception):\n    exec({c!r})" for c in code(notebooks[1]))
    tricks = {name: textwrap.dedent(trick) for name, trick in TRICKS.items()}
    command = [sys.executable, "-c", program.format(cells=cells, tricks=tricks, pays=PAYS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    return {line.split("|")[0]: line.split("|")[1:] for line in done.stdout.splitlines() if "|" in line}


@pytest.mark.parametrize("name", TRICKS)
def test_a_trick_pays_where_learner_and_checks_share_a_process(name, shared):
    assert shared[name][0] == "True", shared[name]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """Of an untouched notebook, say."""
    with tempfile.TemporaryDirectory() as home:
        kernel = session.Kernel(Path(home), 1, session.Limits())
        yield kernel
        kernel.end()


def asked(kernel, cell, checks, setup="import math, torch\ntorch.set_default_dtype(torch.float64)"):
    """Whether an answer that the cell defines passes each of the checks, asked through a kernel."""

    class Asked(dict):
        seed = 1

        def answer(self, name):
            return submission.RemoteAnswer(name, self)

        def ask(self, *request):
            return kernel.ask((*request, 1), 20)

    assert kernel.run(f"%reset -f\n{setup}", 20) == "" and kernel.run(textwrap.dedent(cell), 20) == ""
    passed = []
    for check in checks:
        try:
            examine(check, Asked())
            passed.append(True)
        except Wrong:
            passed.append(False)
    return passed


def test_the_way_to_the_kernel_lets_right_answers_pass(kernel, notebooks):
    assert asked(kernel, "\n".join(code(notebooks[0])), [ch05.q1, ch05.q3, ch05.q6]) == [True] * 3


OVERWRITTEN = """
from vaelearn.exercises import ch10
ch10.refuses = lambda answer, *args: args[-1] < args[-2] or args[0] < 0
weights = lambda alpha, lam: (alpha, lam - alpha)
"""


def test_whether_an_answer_refuses_is_judged_on_the_markers_side(kernel):
    assert asked(kernel, OVERWRITTEN, [ch10.q2]) == [False]
    good = "def weights(a, b):\n    if a < 0 or b < a:\n        raise ValueError\n    return a, b - a"
    assert asked(kernel, good, [ch10.q2]) == [True]


# What nothing closes.


def test_a_cell_that_executes_the_solutions_earns_their_marks():
    namespace, page = {}, resources.files("vaelearn.exercises").joinpath("solutions", "05.md")
    exec("import math, torch\nfrom vaelearn import bounds", namespace)
    for cell in re.findall("```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        exec(cell, namespace)
    for check in ch05.q1, ch05.q3, ch05.q6:
        examine(check, namespace)


def test_a_function_that_is_closed_can_be_copied():
    library = dict(vars(bounds))
    for name in "log_mean_exp", "iwae":
        function = getattr(bounds, name)
        library[name] = FunctionType(function.__code__, library, name, function.__defaults__)
    examine(ch05.q1, {"iwae": library["iwae"]})
    with pytest.raises(Wrong, match="vaelearn's own version is closed"):
        examine(ch05.q1, {"iwae": bounds.iwae})


def test_words_can_be_tried_until_the_check_agrees():
    words = {name: ["up", "down", "same"] for name in ("bound", "elbo", "evidence", "copies", "divergence")}
    for _ in range(len(words) * 3):
        try:
            return examine(ch05.q3, {"prediction": {name: left[0] for name, left in words.items()}})
        except Wrong as wrong:
            words[re.search(r'prediction\["(\w+)"\]', str(wrong))[1]].pop(0)
    raise AssertionError(words)


def test_what_runs_as_you_may_do_what_you_may(kernel, tmp_path):
    """Without users of their own; with them, `test_a_user_of_its_own_reaches_neither_…` says otherwise."""
    mine = tmp_path / "mine"
    mine.write_text("read")
    tmp_path.chmod(0o700)
    act = f"file = open({str(mine)!r}, 'a+'); file.seek(0); said = file.read(); file.write(', changed')"
    error = kernel.run(f"{act}; file.close(); assert said == 'read'", 20)
    assert (mine.read_text(), error) == ("read, changed", "") or (OWN_USER and "PermissionError" in error)


# Messages.


def test_a_reply_is_never_executed(kernel, tmp_path):
    (tmp_path / "open").mkdir()
    os.chmod(tmp_path / "open", 0o777)
    mark = tmp_path / "open" / "executed"
    bomb = f"""
    import base64, io, os, torch
    class Bomb:
        def __reduce__(self):
            return os.system, ("touch {mark}",)
    buffer = io.BytesIO()
    torch.save({{"value": Bomb()}}, buffer)
    real, reply = get_ipython().answer, base64.b64encode(buffer.getvalue()).decode()
    get_ipython().answer = lambda request: reply
    """
    assert kernel.run(textwrap.dedent(bomb), 20) == ""
    try:
        with pytest.raises(session.Stopped, match="unreadable"):
            kernel.ask(("iwae", ("vaelearn.exercises.answers", "call"), (), {}, (), 1), 20)
    finally:
        kernel.run("get_ipython().answer = real", 20)
    assert kernel.alive and not mark.exists()


def test_a_late_reply_is_not_taken_for_the_next(kernel):
    kernel.client.execute("raise ValueError('late')", allow_stdin=False, stop_on_error=False)
    assert kernel.run("1", 20) == ""


def test_a_kernel_is_told_nothing_it_could_use(kernel):
    kernel.run("import os, sys; known = [dict(os.environ), sys.argv]", 20)
    reply = kernel.ask(("known", ("vaelearn.exercises.answers", "itself"), (), {}, (), 1), 20)
    names, argv = set(reply["value"][0]), reply["value"][1]
    ours = {"PATH", "PIP_PYTHON", "TMPDIR", "HOME", "IPYTHONDIR", "MPLCONFIGDIR", "JPY_PARENT_PID"}
    ours |= {"MPLBACKEND", "OMP_NUM_THREADS", "TORCH_COMPILE_DISABLE"}
    assert ours <= names
    # The rest is what Python, IPython and ipykernel set by themselves.
    extras = "CLICOLOR CLICOLOR_FORCE FORCE_COLOR GIT_PAGER PAGER TERM PYDEVD_USE_FRAME_EVAL"
    assert names - ours <= {*extras.split(), "LC_CTYPE", "PWD", "SHLVL", "_"}
    assert argv[1:] == ["-f", f"{kernel.folder}/kernel.json"]


def test_what_is_asked_too_late_is_told_so(notebooks, tmp_path):
    nbformat.write(notebooks[0], tmp_path / "a.ipynb")
    handed = handed_in.HandedIn("a", tmp_path / "a.ipynb")
    late = submission.Submission(handed, tmp_path, 1, session.Limits(submission=0))
    with pytest.raises(Wrong, match="`iwae` came after the 0 s that a submission has"):
        examine(ch05.q1, late)


# Other processes.


def test_the_seed_stays_unknown(klass):
    assert "mnemosyne" not in str(klass[0])
    assert "ValueError: ['Permission denied', " in klass[0]["troubles"]["remarks"]


@pytest.fixture(scope="module")
def ordinary(autograder, notebooks, temporary):
    """What an ordinary user's marking says, whose submissions have its own rights."""
    for name, cell in {"forger": FORGE, "spy": SPY, "stopper": STOP}.items():
        nbformat.write(with_cell(notebooks[1], "def iwae", cell), temporary / f"{name}.ipynb")
    test = autograder / "05" / "autograder" / "tests" / "q1.py"
    command = [*ORDINARY, sys.executable, "-c", MARK, str(temporary), str(test)]
    how = {"capture_output": True, "text": True, "timeout": 300, "env": os.environ | {"SEED": "mnemosyne"}}
    done = subprocess.run(command, cwd=ROOT, **how)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_report_is_forged_and_the_seed_read_only_where_marking_is_open(ordinary):
    (forged, _), (_, spied) = ordinary["open"]
    assert forged == 18 and "mnemosyne" in str(spied)
    (forged, _), (_, spied) = ordinary["closed"]
    assert forged == 0 and "['Permission denied', " in str(spied) and "mnemosyne" not in str(spied)


def test_a_marking_process_that_was_stopped_is_ended(ordinary):
    assert ordinary["stopper"] == [[0, ["its marking was ended from outside: look at this one by hand"]]]


def test_a_kernel_that_does_not_start_is_no_learners_failure(ordinary):
    assert ordinary["no kernel"].startswith(
        "spy: a kernel that was to run nothing yet failed: ended the proc"
    )


TRIES = """
import os, resource, sys
print(resource.getrlimit(resource.RLIMIT_NPROC)[1])
private, public, folder, pid = sys.argv[1:]
for act in (
    lambda: open(private),
    lambda: open(public, "a"),
    lambda: os.unlink(public),
    lambda: os.listdir(folder),
    lambda: os.listdir(f"/proc/{pid}/fd"),
    lambda: os.kill(int(pid), 9),
):
    try:
        act()
        print("done")
    except PermissionError:
        print("refused")
"""


@pytest.mark.skipif(not OWN_USER, reason="needs root, and a Python that all users may run")
def test_a_user_of_its_own_reaches_neither_our_files_nor_another_submission(kernel):
    with tempfile.TemporaryDirectory() as folder:
        private, public = Path(folder, "private"), Path(folder, "public")
        private.touch(0o600), public.touch(0o644), os.chmod(folder, 0o755)
        command = [*apart.somebody(2)[0], sys.executable, "-c", TRIES, private, public, kernel.folder]
        done = subprocess.run([*command, str(kernel.process.pid)], capture_output=True, text=True, cwd="/")
    assert done.stdout.split() == [str(apart.PROCESSES)] + ["refused"] * 6, done


# The command.


def refused(monkeypatch, capsys, *arguments):
    """What the command says where it ends before it marks anybody."""
    monkeypatch.setattr(sys, "argv", ["grade", *map(str, arguments)])
    with pytest.raises(SystemExit, match="2"):
        command.main()
    return capsys.readouterr().err


NAMES = """
    alba_1_10_hw.ipynb
    alba_1_11_hw-1.ipynb
    alba_LATE_1_9_hw.ipynb
    alba_2_12_hw.ipynb
    berg_LATE_3_13_hw.ipynb
    berg_LATE_3_14_notes.pdf
    LATE_anon_x7Yz_15_hw.ipynb
    Carl von Ossietzky_44_assignsubmission_file_hw.ipynb
    Dora_45_assignsubmission_file/hw (2).ipynb
    Dora_45_assignsubmission_file/hw.ipynb
    emil.ipynb
    hw_2026_27_finn.ipynb
    hw_2026_27_gina.ipynb
""".strip().split("\n")


@pytest.mark.parametrize("rule", handed_in.RULES)
def test_of_several_submissions_one_counts_by_the_rule_that_the_teacher_names(tmp_path, rule):
    for number, name in enumerate(map(str.strip, NAMES)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (number, number))
    handed = handed_in.counted(handed_in.handed_in(tmp_path), rule)
    found = {}
    for one in handed:
        found.setdefault((one.learner, one.id, one.platform), []).append(one.path.name)
    alba = ["alba_LATE_1_9_hw.ipynb", "alba_1_10_hw.ipynb", "alba_1_11_hw-1.ipynb"]
    dora = ["hw.ipynb", "hw (2).ipynb"]
    assert found == {
        ("alba", "1", "canvas"): alba if rule == "best" else alba[-1:],
        ("alba", "2", "canvas"): ["alba_2_12_hw.ipynb"],
        ("berg", "3", "canvas"): ["berg_LATE_3_13_hw.ipynb"],
        ("anon_x7Yz", "anon_x7Yz", "canvas"): ["LATE_anon_x7Yz_15_hw.ipynb"],
        ("Carl von Ossietzky", "44", "moodle"): ["Carl von Ossietzky_44_assignsubmission_file_hw.ipynb"],
        ("Dora", "45", "moodle"): dora if rule == "best" else dora[-1:],
        ("emil", "", ""): ["emil.ipynb"],
        ("hw_2026_27_finn", "", ""): ["hw_2026_27_finn.ipynb"],
        ("hw_2026_27_gina", "", ""): ["hw_2026_27_gina.ipynb"],
    }
    late = {one.learner: one.refused for one in handed if one.late and one.learner != "alba"}
    assert {*late} == {"berg", "anon_x7Yz"}
    assert all((rule == "ontime") == ("late ones do not count" in why) for why in late.values())


def test_where_the_best_counts_it_does_not_matter_which_came_last(autograder, tmp_path, monkeypatch):
    """And a run that was interrupted goes on: nothing is marked twice but what has changed."""
    marked, totals = [], {"alba_1_10_hw": 9, "alba_1_11_hw-1": 3, "berg_3_13_hw": 5}

    def mark_all(handed, *how):
        for one in handed:
            if one.learner == "interrupt":
                raise KeyboardInterrupt
            marked.append(one.path.stem)
            yield one, report.Report({"q1": (totals.get(one.path.stem, 15), 15, [], {})})

    monkeypatch.setattr(command, "mark_all", mark_all)
    monkeypatch.setattr(command, "keep_private", lambda: None)
    klass = tmp_path / "class"
    klass.mkdir()
    for name in [*totals, "interrupt_4_99_hw"]:
        (klass / f"{name}.ipynb").touch()

    def run(rule, code, *expected):
        marked.clear()
        flags = "--autograders", str(autograder), "--keep", rule
        monkeypatch.setattr(sys, "argv", ["grade", "5", str(klass), *flags])
        if code:
            with pytest.raises(SystemExit, match=str(code)):
                command.main()
        else:
            command.main()
        assert sorted(marked) == sorted(expected)

    seed = klass.with_name("class-marks") / ".marked" / "seed"
    run("best", 130, *totals)
    drawn = seed.read_text()
    (klass / "berg_3_13_hw.ipynb").write_text("{}")
    run("best", 130, "berg_3_13_hw")
    assert seed.read_text() == drawn and seed.parent.stat().st_mode & 0o77 == 0
    (klass / "interrupt_4_99_hw.ipynb").unlink()
    run("best", 0, SET.name)
    assert not seed.exists()
    with seed.parent.with_name("marks.csv").open(encoding="utf-8-sig") as file:
        rows = {row["learner"]: row for row in csv.DictReader(file)}
    assert {name: row["total"] for name, row in rows.items()} == {"alba": "9", "berg": "5"}
    monkeypatch.setenv("SEED", "another")
    run("best", 0, *totals, SET.name)
    monkeypatch.setenv("SEED", "another")
    run("best", 0, SET.name)
    monkeypatch.setenv("SEED", "another")
    run("last", 0, "alba_1_11_hw-1", SET.name)  # what a row says of it is another thing now


@pytest.mark.parametrize(
    ("chapter", "folder", "says"),
    [(13, "", "no autograder for chapter 13"), (5, "nowhere", "nothing lies in"), (5, "", "nothing lies in")],
)
def test_a_wrong_call_says_what_is_wrong(autograder, tmp_path, monkeypatch, capsys, chapter, folder, says):
    said = refused(monkeypatch, capsys, chapter, tmp_path / folder, "--autograders", autograder)
    assert says in said


@pytest.mark.parametrize("total", [14, None])
def test_nobody_is_marked_where_the_marker_fails(autograder, tmp_path, monkeypatch, capsys, total):
    def mark_all(handed, *how):
        for one in handed:
            if total is None:
                raise session.NoKernel(f"{one.learner}: why")
            yield one, report.Report({"q1": (total, 15, [], {})})

    monkeypatch.setattr(command, "mark_all", mark_all)
    monkeypatch.setattr(command, "keep_private", lambda: None)
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "a.ipynb").touch()
    said = refused(monkeypatch, capsys, 5, tmp_path / "class", "--autograders", autograder)
    assert (
        "nobody is marked" in said and ("a: why" if total is None else "the worked solutions do not") in said
    )
    assert not [*(tmp_path / "class-marks").iterdir()]  # and what was marked is not gone on from


def test_instances_come_from_the_seed_and_are_the_same_for_all(klass):
    seed = int(hashlib.sha256(b"mnemosyne q2").hexdigest()[:12], 16)
    with pytest.raises(Wrong) as wrong:
        examine(ch05.q2, {"first_order_gap": lambda m, s, K: 1.1 * s}, seed)
    for name in "forger", "last":
        page = (klass[1] / f"{LONG}{name}.html").read_text("utf-8")
        assert str(wrong.value).partition("is wrong.")[2] in page and "was expected" in str(wrong.value)


def test_half_the_points_are_for_the_hidden_checks(klass):
    page = (klass[1] / f"{LONG}last.html").read_text("utf-8")
    assert "As in the notebook: ✓" in page and "Further checks: ✗ iwae of a single sample" in page


# Last, as nothing in that kernel is what it was.


def test_the_same_tricks_earn_nothing_where_only_data_is_exchanged(kernel):
    for name, trick in TRICKS.items():
        checks = [getattr(ch05, f"q{n}") for n in PAYS[name]]
        assert asked(kernel, trick, checks) == [False] * len(checks), name
