"""The library and the learner's side where POSIX is not: no POSIX modules, no UTF-8 locale."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
POSIX = ("fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty")


def test_learners_need_neither_posix_nor_utf8():
    code = f"""
import sys
import torch
for name in {POSIX!r}:
    sys.modules[name] = None
import vaelearn as vl
from vaelearn.exercises import Grader
for chapter in range(1, 12):
    grader = Grader(chapter)
    for question in grader.questions:
        print(ascii(repr(grader.check(question, {{}}))))
        print(ascii(repr(grader.solution(question))))
"""
    ascii_only = {
        "LC_ALL": "C",
        "LANG": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONPATH": str(ROOT),
    }
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **ascii_only}, capture_output=True, check=False
    )
    assert run.returncode == 0, run.stderr.decode()
    assert run.stdout.count(b"not yet") > 50


def test_serving_needs_no_fork():
    code = """
import os, sys
del os.fork
sys.argv = ["serve.py", "nowhere"]
import http.server
http.server.ThreadingHTTPServer.serve_forever = lambda self: (_ for _ in ()).throw(KeyboardInterrupt)
class Terminal:
    isatty = lambda self: True
sys.stdin = Terminal()
import runpy
runpy.run_path("tools/serve.py", run_name="__main__")
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "The book is closed" in run.stdout


def test_make_on_windows_says_what_to_do():
    run = subprocess.run(
        ["make", "book", "OS=Windows_NT"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode and "WSL" in run.stderr
    assert "WSL" in (ROOT / "README.md").read_text("utf8")
