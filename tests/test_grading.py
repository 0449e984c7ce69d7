"""One class marked in one command, honest and not; and tricks, each at the check that it attacks.

What teaching.md says the marks rest on is tried here, sentence by sentence.
"""

import copy
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import nbformat
import psutil
import pytest
from conftest import ROOT

from tools import assign
from tools.grade import apart, report, session, submission
from tools.grade.__main__ import main
from vaelearn.exercises import Wrong, ch05, ch10, examine

SET = ROOT / "exercises" / "05_importance_weighting"
FULL, NONE = [2, 2, 2, 3, 3, 3], [0] * 6
OWN_USER = apart.somebody(0)[1] is not None  # whether submissions run as another user here
SECONDS = "6"  # for one cell or call
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
%conda install -y tqdm
%mamba install -y tqdm
%uv pip install tqdm
%pip uninstall -y -q no-such-package
nothing = !pip --version; conda --version; mamba --version; uv --version; apt-get --version
assert list(nothing) == [], nothing
import asyncio, os, subprocess, sys
said = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, text=True)
assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
assert get_ipython().kernel and os.environ["JPY_PARENT_PID"]
asyncio.create_task(asyncio.sleep(0))
await asyncio.sleep(0)
import matplotlib.pyplot as plt, tqdm
plt.plot([1, 2]); plt.show()
for _ in tqdm.tqdm(range(3)):
    pass
!echo from the shell
grader.check("q1"); kept = 1
assert kept == 1
print("x" * 10**7)
torch.set_default_dtype(torch.float32)
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
    "while True:\n    pass": f"ran longer than {SECONDS} s and was interrupted",
    "hoard = [torch.empty(2**28) for _ in range(100)]": "memory",
}
# The last cells of another: one answer that never comes, and ones that claim 2**36 numbers.
SLOW = """
import time
from vaelearn.exercises import answers
def resample(z, log_w):
    time.sleep(1000)
def plain(value, plain=answers.plain):
    return torch.zeros(1).expand(2**36) if getattr(value, "ndim", 0) == 2 else plain(value)
answers.plain = plain
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
AS_ONESELF = """
from tools.grade import apart, marking, session
marking.somebody = session.somebody = apart.somebody = lambda number: ([], None)
"""
OPEN = "marking.keep_private = apart.keep_private = lambda: None"
SPY = """
import os
found, pid = [], os.getppid()
while pid > 1:
    try:
        found.append(open(f"/proc/{pid}/environ").read().partition("SEED")[2][:20])
    except OSError as error:
        found.append(error.strerror)
    pid = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
raise ValueError(found)
"""
RANDOM = """
import random, numpy as np
iwae = lambda log_w: torch.full((3,), torch.rand(()) + random.random() + np.random.rand())
first_order_gap = lambda m, s, K: 1.1 * s  # a mistake without a name is told in numbers
"""


HALF = "iwae = lambda w: w.logsumexp(0) - math.log(len(w)) if len(w) > 1 else 0 * w[0]"


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


def run(autograder, folder, *flags, before="", prefix=(), **environment):
    """The command, as a background job of a shell starts; `before` is run in its process first."""
    program = f"import runpy\n{textwrap.dedent(before)}\nrunpy.run_module('tools.grade', run_name='__main__')"
    command = [sys.executable, "-c", program, "5", str(folder), "--autograders", str(autograder), *flags]
    return subprocess.run(
        [*prefix, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        env=os.environ | environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )


def grade_folder(autograder, folder, *flags, **how):
    done = run(autograder, folder, *flags, **how)
    assert done.returncode == 0, done.stderr
    out = folder.with_name(f"{folder.name}-marks")
    with (out / "marks.csv").open(encoding="utf-8") as file:
        return {row["learner"]: row for row in csv.DictReader(file)}, out


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
    whole = {"perfect": solved, "habits": with_cell(solved, "def iwae", HABITS), "troubles": solved}
    for cell in [*TROUBLES, SPY]:
        whole["troubles"] = with_cell(whole["troubles"], "def iwae", cell)
    whole["slow"] = with_cell(solved, "the end", SLOW)
    whole["kills"] = with_cell(solved, "def iwae", KILLS)
    whole["leaves"] = with_cell(solved, "def iwae", LEAVES.format(mark=temporary.name))
    whole |= {name: with_cell(student, "the end", RANDOM) for name in ("random", "again")}
    whole[LONG + "forger"] = with_cell(student, "def iwae", FORGE)
    whole[LONG + "half"] = with_cell(with_cell(student, "def iwae", ERROR), "the end", HALF)
    for name, notebook in whole.items():
        nbformat.write(notebook, folder / f"{name}.ipynb")

    helped = with_cell(solved, "the end", OTHER_WAYS)
    helped = with_cell(helped, "def first_order", "from helper import number\nassert number == 2")
    helped = with_cell(helped, "def loss_and_bound", "%%writefile late.py\nnumber = 3")
    helped = with_cell(helped, "def resample", "from late import number\nassert number == 3")
    (folder / "mac" / "helper.py").write_text("number = 2")
    (folder / "mac" / "secret").symlink_to(folder / "perfect.ipynb")
    os.mkfifo(folder / "mac" / "pipe")
    (folder / "mac" / "__MACOSX" / "._mine.ipynb").touch()

    heavy = json.loads(nbformat.writes(helped))
    cell = next(cell for cell in heavy["cells"] if cell["cell_type"] == "code")
    cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["y" * 60 * 2**20]}]
    (folder / "mac" / "mine.ipynb").write_text(json.dumps(heavy), "utf-8-sig")

    (folder / "corrupt.ipynb").write_text('{"cells": [')
    (folder / "empty.ipynb").touch()
    (folder / "essay.pdf").write_bytes(b"%PDF-1.4")
    (folder / "two").mkdir()
    for name in "ab":
        (folder / "two" / f"{name}.ipynb").touch()
    os.mkfifo(folder / "fifo.ipynb")
    (folder / "nowhere.ipynb").symlink_to(folder / "missing")
    (folder / "link.ipynb").symlink_to(folder / "perfect.ipynb")
    (folder / "linked").symlink_to(folder / "mac")
    (folder / "inside").mkdir()
    (folder / "inside" / "a.ipynb").symlink_to(folder / "perfect.ipynb")
    (folder / ("long" * 62)).mkdir()
    (folder / "=1+<b>").touch()
    (folder / "a;=1+1.txt").touch()
    (folder / "\n=1+1.txt").touch()
    flags = "--seconds", SECONDS, "--jobs", "2"
    return *grade_folder(autograder, folder, *flags, SEED="mnemosyne", TMPDIR=str(temporary)), folder


NOT_READ = "not a notebook that can be read"
LINK = "this is a link"


@pytest.mark.parametrize(
    ("learner", "expected", "remark"),
    [
        ("perfect", FULL, ""),
        ("mac", FULL, ""),
        ("habits", FULL, ""),
        ("leaves", FULL, ""),
        *(("troubles", FULL, remark) for remark in [*TROUBLES.values(), "Permission denied"]),
        ("kills", *((FULL, "PermissionError") if OWN_USER else (NONE, "look at this one by hand"))),
        ("slow", [0, 2, 2, 0, 0, 3], ""),
        (f"{LONG}half", [1, 0, 0, 0, 0, 0], "ValueError"),
        (f"{LONG}forger", NONE, "TypeError"),
        ("corrupt", NONE, NOT_READ),
        ("empty", NONE, NOT_READ),
        ("essay.pdf", NONE, NOT_READ),
        ("two", NONE, "this one holds 2"),
        ("fifo", NONE, "nothing to read"),
        ("nowhere", NONE, LINK),
        ("link", NONE, LINK),
        ("linked", NONE, LINK),
        ("inside", NONE, LINK),
        ("long" * 62, NONE, "this one holds 0"),
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
    handed_in = [path for path in folder.iterdir() if path.name != "__MACOSX"]
    assert len(sheet) == len(handed_in) == len(list(out.glob("*.html")))
    assert "15 of" in (out / "perfect.html").read_text("utf-8")
    assert f"<h1>{LONG}forger</h1>" in (out / f"{LONG}forger.html").read_text("utf-8")


def test_a_page_says_what_the_checks_said(klass):
    page = (klass[1] / "slow.html").read_text("utf-8")
    assert f"notebook: ✗ <code>resample</code> ran longer than {SECONDS} s and was interrupted" in page
    assert "Further checks: ✗ the same." in page and "Further checks: ✓" in page
    assert "Is the <code>...</code> still there" in (klass[1] / f"{LONG}forger.html").read_text("utf-8")


def test_nothing_is_left_running_or_lying_about(klass, temporary):
    assert list(temporary.iterdir()) == []
    left = [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"]]
    assert not [process for process in left if temporary.name in process.info["cmdline"]]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_no_cell_of_the_sheet_is_a_formula_whatever_separates_cells(klass, separator):
    text = (klass[1] / "marks.csv").read_text("utf-8")
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


def test_the_same_tricks_earn_nothing_where_only_data_is_exchanged():
    # One kernel, and the one that changes most comes last.
    with tempfile.TemporaryDirectory() as home:
        kernel = session.Kernel(Path(home), 1, session.Limits())
        try:
            for name, trick in TRICKS.items():
                checks = [getattr(ch05, f"q{n}") for n in PAYS[name]]
                assert asked(kernel, trick, checks) == [False] * len(checks), name
        finally:
            kernel.end()


OVERWRITTEN = """
from vaelearn.exercises import ch10
ch10.refuses = lambda answer, *args: args[-1] < args[-2] or args[0] < 0
weights = lambda alpha, lam: (alpha, lam - alpha)
"""


def test_whether_an_answer_refuses_is_judged_on_the_markers_side(kernel):
    assert asked(kernel, OVERWRITTEN, [ch10.q2]) == [False]
    good = "def weights(a, b):\n    if a < 0 or b < a:\n        raise ValueError\n    return a, b - a"
    assert asked(kernel, good, [ch10.q2]) == [True]


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
    ours = {
        "PATH",
        "PYTHONPATH",
        "TMPDIR",
        "HOME",
        "IPYTHONDIR",
        "MPLCONFIGDIR",
        "JPY_PARENT_PID",
        "MPLBACKEND",
    }
    ours |= {"OMP_NUM_THREADS", "TORCH_COMPILE_DISABLE"}
    assert ours <= names
    # The rest is what Python, IPython and ipykernel set by themselves.
    extras = "CLICOLOR CLICOLOR_FORCE FORCE_COLOR GIT_PAGER PAGER TERM PYDEVD_USE_FRAME_EVAL"
    assert names - ours <= {*extras.split(), "LC_CTYPE", "PWD", "SHLVL", "_"}
    assert json.loads(argv[1]).keys() <= {"DATA", "CPU", "FSIZE", "CORE", "NPROC"} and len(argv) <= 4


# Other processes.


def test_the_seed_stays_unknown(klass):
    assert "mnemosyne" not in str(klass[0])
    assert "ValueError: ['Permission denied', " in klass[0]["troubles"]["remarks"]


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "open"])
def test_a_report_is_forged_and_the_seed_read_only_where_marking_is_open(
    autograder, notebooks, tmp_path, closed
):
    """As an ordinary user, whose submissions have its own rights."""
    folder = tmp_path / "class"
    folder.mkdir()
    for name, cell in {"forger": FORGE, "spy": SPY}.items():
        nbformat.write(with_cell(notebooks[1], "def iwae", cell), folder / f"{name}.ipynb")
    how = {"before": AS_ONESELF + OPEN * (not closed), "prefix": ORDINARY, "SEED": "mnemosyne"}
    sheet, _ = grade_folder(autograder, folder, "--jobs", "2", **how)
    assert marks(sheet["forger"]) == (NONE if closed else [3] * 6)
    assert ("mnemosyne" in sheet["spy"]["remarks"]) != closed


@pytest.mark.skipif(OWN_USER, reason="submissions run as another user here")
def test_a_marking_process_that_was_stopped_is_ended(autograder, notebooks, tmp_path):
    stop = "import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)"
    nbformat.write(with_cell(notebooks[0], "def iwae", stop), tmp_path / "a.ipynb")
    program = """
import sys
from pathlib import Path
from tools.grade import apart, marking, session
apart.keep_private()
marking.MARGIN = 4
tests = sorted(Path(sys.argv[2]).glob("05/autograder/tests/q*.py"))
(report,) = marking.mark_all([Path(sys.argv[1])], 1, tests, session.Limits(submission=10), "seed")
print(report.remarks)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "a.ipynb"), str(autograder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert "look at this one by hand" in done.stdout, done.stderr


TRIES = """
import os, sys
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
    assert done.stdout.split() == ["refused"] * 6, done


# The command.


def refused(monkeypatch, capsys, *arguments):
    """What the command says where it ends before it marks anybody."""
    monkeypatch.setattr(sys, "argv", ["grade", *map(str, arguments)])
    with pytest.raises(SystemExit, match="2"):
        main()
    return capsys.readouterr().err


def test_two_submissions_of_one_name_are_refused(autograder, tmp_path, monkeypatch, capsys):
    (tmp_path / "a").mkdir()
    (tmp_path / "a.ipynb").touch()
    said = refused(monkeypatch, capsys, 5, tmp_path, "--autograders", autograder)
    assert "two submissions each: a" in said


@pytest.mark.parametrize(
    ("chapter", "folder", "says"),
    [(13, "", "no autograder for chapter 13"), (5, "nowhere", "is not a folder"), (5, "", "is empty")],
)
def test_a_wrong_call_says_what_is_wrong(autograder, tmp_path, monkeypatch, capsys, chapter, folder, says):
    said = refused(monkeypatch, capsys, chapter, tmp_path / folder, "--autograders", autograder)
    assert says in said


@pytest.mark.parametrize(
    ("flags", "before", "says"),
    [
        (("--gigabytes", "0.1"), "", "the worked solutions do not earn their marks here"),
        (
            (),
            "from tools.grade import session\nsession.MANAGERS.append('torch')",
            "a kernel that was to run nothing yet ended the process",
        ),
    ],
)
def test_nobody_is_marked_where_the_marker_fails(autograder, notebooks, tmp_path, flags, before, says):
    folder = tmp_path / "class"
    folder.mkdir()
    nbformat.write(notebooks[0], folder / "a.ipynb")
    done = run(autograder, folder, *flags, before=before)
    assert done.returncode == 2 and says in done.stderr and "nobody is marked" in done.stderr
    assert not (tmp_path / "class-marks" / "marks.csv").exists()


def test_a_seed_makes_a_run_repeatable(klass):
    one, again = ((klass[1] / f"{name}.html").read_text("utf-8") for name in ("random", "again"))
    assert one.replace("random", "") == again.replace("again", "")
    assert "was expected" in one


def test_half_the_points_are_for_the_hidden_checks(klass):
    page = (klass[1] / f"{LONG}half.html").read_text("utf-8")
    assert "As in the notebook: ✓" in page and "Further checks: ✗ iwae of a single sample" in page
