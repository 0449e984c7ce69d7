"""What keeps a submission from the marks: who it runs as, and what of it ends with it."""

import ctypes
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil

FIRST_USER, USERS = 61184, 4336  # systemd's range for users that exist while a service runs
PROCESSES = 512  # of all that one such user runs, threads among them
NO_RIGHTS = "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"


def keep_private() -> None:
    """Close this process to all but root, and let it inherit what its children leave running.

    On Linux, by prctl: PR_SET_DUMPABLE closes /proc/<pid>/fd and mem and a debugger's access;
    PR_SET_CHILD_SUBREAPER makes it the parent of processes that have cut themselves loose.
    """
    with suppress(AttributeError):  # there is no prctl elsewhere
        prctl = ctypes.CDLL(None).prctl
        prctl(4, 0, 0, 0, 0)
        prctl(36, 1, 0, 0, 0)


def end_children(but=()) -> None:
    """End what runs below this process, but for children with these ids; orphans become children."""
    while running := [child for child in psutil.Process().children() if child.pid not in but]:
        for child in running:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(running, timeout=1)


def remove(folder: Path, user: int | None) -> None:
    """Remove a folder, at any depth and where its owner has closed it, and what else its own user left."""
    for command in ["chmod", "-R", "u+rwX"], ["rm", "-rf"]:
        subprocess.run([*command, folder], capture_output=True)
    if user is not None:
        shared = [place for place in ("/tmp", "/var/tmp", "/dev/shm") if os.path.isdir(place)]
        subprocess.run(["find", *shared, "-user", str(user), "-delete"], capture_output=True)


def somebody(number: int) -> tuple[list[str], int | None]:
    """How to start a command as a user of its own, and that user: root can. Else as oneself, and None.

    Where another user cannot run this Python, root's submissions run as root without root's rights.
    """
    if os.geteuid() or not shutil.which("setpriv"):
        return [], None
    user = FIRST_USER + number % USERS
    return (_as(user), user) if _others_can_run_this() else (["setpriv", *NO_RIGHTS], None)


@cache
def _others_can_run_this() -> bool:
    tried = [*_as(FIRST_USER), sys.executable, "-c", f"import json; open({__file__!r})"]
    return subprocess.run(tried, capture_output=True, cwd="/").returncode == 0


def _as(user: int) -> list[str]:
    # Root's rights end where the next program begins: not with Python, which starts without them.
    user = f"--reuid={user}", f"--regid={user}", "--clear-groups"
    return ["setpriv", *user, *NO_RIGHTS, "prlimit", f"--nproc={PROCESSES}"]
