"""A kernel for one submission, seen from the marker's side: run cells, ask for plain data."""

import base64
import io
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from jupyter_client import BlockingKernelClient

from .apart import somebody

GRACE = 5.0  # seconds to react to an interrupt, as Ctrl-C would give, before the process is ended
START = 120.0  # seconds for a kernel to begin: its imports are not the learner's time
UNREADABLE = "answered with something unreadable"
MANAGERS = "pip pip3 pipx uv uvx conda mamba micromamba pixi poetry apt apt-get brew sudo".split()


@dataclass
class Limits:
    """Seconds for one cell or one call, seconds for a whole submission, bytes of memory."""

    call: float = 20.0
    submission: float = 180.0
    memory: int = 6 * 2**30


class Stopped(Exception):
    """A submission's process did not answer: why."""


class NoKernel(BaseException):
    """A kernel would not start: the marker's failure, which no check may take for a learner's."""


class Kernel:
    """A Jupyter kernel as the user `somebody(number)`, in a new folder in `home`.

    beside: a function that makes its working directory, with what the notebook may read there.
    """

    alive = False

    def __init__(self, home: Path, number: int, limits: Limits, beside=Path.mkdir):
        """Start it. Raises Stopped and OSError."""
        self.folder = Path(tempfile.mkdtemp(dir=home))
        beside(self.folder / "work")
        file, (command, user) = f"{self.folder}/kernel.json", somebody(number)
        self.client = BlockingKernelClient(connection_file=file, transport="ipc")
        self.client.write_connection_file()
        environment = self._environment()
        if user is not None:
            os.chmod(home, 0o711)  # to be passed through; it stays ours, so that nothing in it is exchanged
            subprocess.run(["chown", "-R", f"{user}:{user}", self.folder], check=True)
        command += [sys.executable, Path(__file__).with_name("kernel.py"), "-f", file]
        where = {"cwd": self.folder / "work", "env": environment, "start_new_session": True}
        quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        self.process = subprocess.Popen(command, **where, **quiet)
        self.client.start_channels(iopub=False, stdin=False, hb=False, control=False)
        self.alive = True
        self.run("", START)

    def _environment(self) -> dict[str, str]:
        """What the kernel knows of this machine: package managers that do nothing, for one."""
        bin, tmp, nothing = self.folder / "bin", self.folder / "tmp", Path(__file__).with_name("nothing")
        bin.mkdir(), tmp.mkdir()
        for name in MANAGERS:
            (bin / name).symlink_to(nothing)
        return {
            "PATH": f"{bin}:{os.environ.get('PATH', os.defpath)}",
            "PIP_PYTHON": str(nothing),  # whichever pip it is, it hands its work to this
            "TMPDIR": str(tmp),
            **dict.fromkeys(("HOME", "IPYTHONDIR", "MPLCONFIGDIR"), str(self.folder)),
            "JPY_PARENT_PID": str(os.getpid()),
            "MPLBACKEND": "agg",
            **dict.fromkeys(("OMP_NUM_THREADS", "TORCH_COMPILE_DISABLE"), "1"),
        }

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
        if reply := self._reply(number, seconds):
            return reply
        self.process.send_signal(signal.SIGINT)
        late = f"ran longer than {seconds:.0f} s and"
        if self._reply(number, GRACE):
            raise Stopped(f"{late} was interrupted")
        self.end()
        raise Stopped(f"{late} had to be ended")

    def _reply(self, number: str, seconds: float) -> dict | None:
        """The reply to this request, or None; a late one to an earlier request is thrown away."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                message = self.client.get_shell_msg(timeout=min(left, 0.2))
                if message["parent_header"]["msg_id"] == number:
                    return message["content"]
            except queue.Empty:
                if (code := self.process.poll()) is not None:
                    self.end()
                    raise Stopped(_ended(code)) from None
            except Exception:  # whatever a message that is none makes the reader say
                self.end()
                raise Stopped(UNREADABLE) from None

    def end(self) -> None:
        self.alive = False
        self.client.stop_channels()
        self.process.kill()
        self.process.wait()


def _ended(code: int) -> str:
    if code == -signal.SIGKILL:
        return "was killed, as the system does when memory runs out"
    return f"ended the process ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"
