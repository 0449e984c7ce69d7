"""A submission: its notebook's code, the kernel that runs it, and its answers, which come as plain data."""

import base64
import io
import json
import os
import pickle
import queue
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nbformat
import torch
from jupyter_client import BlockingKernelClient, write_connection_file

from vaelearn.exercises.answers import Answer, Wrong

from .apart import end_descendants, somebody

GRACE = 5.0  # seconds to react to an interrupt, as Ctrl-C would give, before the process is ended
START = 60.0  # seconds for a kernel to begin: its imports are not the learner's time
FILE_BYTES = 512 * 2**20  # no file that a submission writes may grow beyond this
PROCESSES = 512  # of a user that is the submission's own, threads included
TEXT = 2000  # characters of a message
UNREADABLE = "answered with something unreadable"
_CHECK = re.compile(r"\s*(grader\.(check|solution)\([^()]*\)\s*)?")
MANAGERS = "pip pip3 pipx uv uvx conda mamba micromamba pixi poetry apt apt-get brew sudo".split()


@dataclass
class Limits:
    """Seconds for one cell or one call, seconds for a whole submission, bytes of memory."""

    call: float = 20.0
    submission: float = 180.0
    memory: int = 6 * 2**30


class Stopped(Exception):
    """A submission's process did not answer: why."""


class Interrupted(Stopped):
    """It took too long, and lives on."""


class NoKernel(Exception):
    """No kernel could be started: the marker's failure, never a learner's."""


class Kernel:
    """A Jupyter kernel, in a folder that is removed with it. `beside`: what lies in its working directory."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="vaelearn-"))
        self.client, self.process = BlockingKernelClient(), None

    def start(self, beside: Path | None, limits: Limits, number: int) -> None:
        """Raises NoKernel where none answers."""
        bin, work = self.folder / "bin", self.folder / "work"
        bin.mkdir(), (self.folder / "tmp").mkdir()
        shutil.copytree(beside, work, ignore=_not_beside) if beside else work.mkdir()
        for name in MANAGERS:
            (bin / name).symlink_to(shutil.which("true"))
            (bin / f"{name}.py").write_text("def main(*_):\n    return 0\n")
        file, connection = write_connection_file(
            f"{self.folder}/kernel.json",
            ip=f"{self.folder}/kernel",
            transport="ipc",
            key=secrets.token_hex().encode(),
        )
        environment = {
            "PATH": f"{bin}:{os.environ.get('PATH', os.defpath)}",
            "PYTHONPATH": str(bin),
            **dict.fromkeys(("HOME", "IPYTHONDIR", "MPLCONFIGDIR"), str(self.folder)),
            "TMPDIR": f"{self.folder}/tmp",
            "JPY_PARENT_PID": str(os.getpid()),
            "MPLBACKEND": "agg",
            "OMP_NUM_THREADS": "1",
            # Compiled or not, an answer is the same.
            "TORCH_COMPILE_DISABLE": "1",
        }
        most = {"DATA": limits.memory, "CPU": int(limits.submission), "FSIZE": FILE_BYTES, "CORE": 0}
        command, user = somebody(number)
        if user is not None:
            most["NPROC"] = PROCESSES
            subprocess.run(["chown", "-R", f"{user}:{user}", self.folder], check=True)
        kernel = Path(__file__).with_name("kernel.py")
        self.process = subprocess.Popen(
            [*command, sys.executable, kernel, json.dumps(most), "-f", file],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.client.load_connection_info(connection)
        self.client.start_channels(iopub=False, stdin=False, hb=False, control=False)
        try:
            self.run("", START)
        except Stopped as stopped:
            raise NoKernel(f"a kernel that was to run nothing yet {stopped}") from None

    def run(self, source: str, seconds: float) -> str:
        """Run a cell: "", or what it raised. Raises Stopped."""
        reply = self._execute(seconds, source, store_history=bool(source))
        return f"{reply['ename']}: {reply['evalue']}"[:300] if reply["status"] == "error" else ""

    def ask(self, request, seconds: float) -> dict:
        """The shell's `answer` to a request: plain data. Raises Stopped."""
        request = base64.b64encode(pickle.dumps(request)).decode()
        expressions = {"answer": f"get_ipython().answer({request!r})"}
        reply = self._execute(seconds, "", silent=True, user_expressions=expressions)
        try:
            text = reply["user_expressions"]["answer"]["data"]["text/plain"]
            return dict(torch.load(io.BytesIO(base64.b64decode(text)), weights_only=True))
        except Exception:  # whatever it takes to read what is no answer
            raise Stopped(UNREADABLE) from None

    def _execute(self, seconds: float, *args, **kwargs) -> dict:
        number = self.client.execute(*args, **kwargs, allow_stdin=False, stop_on_error=False)
        try:
            return self._reply(number, seconds)
        except TimeoutError:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGINT)
        try:
            self._reply(number, GRACE)
        except TimeoutError:
            raise Stopped(f"ran longer than {seconds:.0f} s and had to be ended") from None
        raise Interrupted(f"ran longer than {seconds:.0f} s and was interrupted")

    def _reply(self, number: str, seconds: float) -> dict:
        """The reply to this request; a late one to an earlier request is thrown away."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                message = self.client.get_shell_msg(timeout=min(left, 0.2))
                if message["parent_header"]["msg_id"] == number:
                    return message["content"]
            except queue.Empty:
                if self.process.poll() is not None:
                    raise Stopped(self._ended()) from None
            except Exception:  # whatever a message that is none makes the reader say
                raise Stopped(UNREADABLE) from None
        raise TimeoutError

    def _ended(self) -> str:
        code = self.process.returncode
        if code == -signal.SIGKILL:
            return "was killed, as the system does when memory runs out"
        return f"ended the process ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"

    def end(self) -> None:
        self.client.stop_channels()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        end_descendants()
        # Any depth, and what its owner has closed: more than shutil.rmtree can.
        subprocess.run(["chmod", "-R", "u+rwX", self.folder], capture_output=True)
        subprocess.run(["rm", "-rf", self.folder], capture_output=True)


class Submission(dict):
    """A learner's notebook as the namespace of `examine`: its answers are asked of a kernel.

    A cell that ends its kernel or will not be interrupted is left out, and the rest is run again.
    """

    def __init__(self, path: Path, limits: Limits, number: int):
        super().__init__()
        self.limits, self.number = limits, number
        self.end_by = time.monotonic() + limits.submission
        self.seed, self.calls, self.kernel, self.failure = 0, 0, None, None
        self.cells, self.remarks, self.broken, self.beside = {}, [], "", None
        try:
            notebook = _notebook(path)
            self.cells = _code(notebook)
            self.beside = notebook.parent if path.is_dir() else None
        except ValueError as error:
            self.broken = str(error)
            self.remarks.append(self.broken)

    def answer(self, name: str) -> "RemoteAnswer":
        if self.broken:
            raise Wrong(self.broken)
        return RemoteAnswer(name, self)

    def ask(self, *request) -> dict:
        """The reply of the submission's kernel. Raises Stopped; after one that ended, the next starts anew."""
        self._seconds()
        self.calls += 1
        try:
            if self.kernel is None:
                self._start()
            return self.kernel.ask((*request, self.calls), self._seconds())
        except Interrupted:
            raise
        except Stopped:
            self.close()
            raise
        except Exception as error:
            self.failure = error  # whoever called may take it for the learner's
            raise

    def _seconds(self) -> float:
        left = self.end_by - time.monotonic()
        if left <= 0:
            raise Stopped(f"came after the {self.limits.submission:.0f} s that a submission has")
        return min(left, self.limits.call)

    def _start(self) -> None:
        while self.kernel is None:
            self.kernel = Kernel()
            self.kernel.start(self.beside, self.limits, self.number)
            for number, source in self.cells.items():
                seconds = self._seconds()
                try:
                    error = self.kernel.run(source, seconds)
                except Interrupted as interrupted:
                    error = str(interrupted)
                except Stopped as stopped:
                    error = f"{stopped}; it was left out"
                    self.close()
                if error and (remark := f"code cell {number}: {error}") not in self.remarks:
                    self.remarks.append(remark)
                if self.kernel is None:
                    del self.cells[number]
                    break

    def close(self) -> None:
        if self.kernel is not None:
            self.kernel.end()
            self.kernel = None


class RemoteAnswer(Answer):
    """An `Answer` in the submission's kernel."""

    def __init__(self, name: str, submission: Submission):
        super().__init__(name, submission)

    def run(self, probe, *args, **kwargs):
        where = (probe.__module__, probe.__qualname__)
        try:
            reply = self.namespace.ask(self.name, where, args, kwargs, self.closed)
        except Stopped as stopped:
            raise Wrong(f"`{self.name}` {stopped}.") from None
        if "value" in reply:
            return reply["value"]
        wrong = Wrong(str(reply.get("wrong", f"`{self.name}` {UNREADABLE}."))[:TEXT])
        wrong.raised = reply.get("raised", ())
        raise wrong


def _notebook(path: Path) -> Path:
    """The notebook that is, or lies in, a submission. Raises ValueError: why there is none."""
    if path.is_dir() and not path.is_symlink():
        found = [p for p in path.rglob("*.ipynb") if not hidden(p.relative_to(path))]
        if len(found) != 1:
            raise ValueError(f"a folder with one notebook was expected; this one holds {len(found)}")
        (path,) = found
    if path.is_symlink() or not path.is_file():
        raise ValueError("this is a link, or nothing that can be read: hand in the file itself")
    return path


def _code(path: Path) -> dict[int, str]:
    """The notebook's code cells by number, without those that only ask for checks. Raises ValueError."""
    try:
        # Saved outputs may be many times what a learner wrote.
        bare = json.loads(path.read_text("utf-8-sig"), object_hook=_without_outputs)
        notebook = nbformat.reads(json.dumps(bare), as_version=4)
        cells = [str(cell.source) for cell in notebook.cells if cell.cell_type == "code"]
    except Exception as error:  # whatever a file that is no notebook makes the reader say
        raise ValueError(f"this is not a notebook that can be read ({type(error).__name__})") from None
    if not any(source.strip() for source in cells):
        raise ValueError("this notebook has no code")
    return {
        n: source
        for n, source in enumerate(cells, 1)
        if not all(_CHECK.fullmatch(line) for line in source.splitlines())
    }


def _without_outputs(part: dict) -> dict:
    return part | {"outputs": []} if "outputs" in part else part


def hidden(path: Path) -> bool:
    """Whether this is a checkpoint, or what macOS puts into its archives."""
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _not_beside(folder: str, names: list[str]) -> list[str]:
    """What is not copied: hidden files, links, and what is neither file nor folder."""
    paths = (Path(folder, name) for name in names)
    return [
        p.name for p in paths if hidden(Path(p.name)) or p.is_symlink() or not (p.is_dir() or p.is_file())
    ]
