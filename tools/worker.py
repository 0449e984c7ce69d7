"""The process that runs a learner's notebook. It is not trusted: it is told nothing that marks hang on.

Started by grade.py as `worker.py READ WRITE MEMORY SECONDS`: two pipes, limits of bytes and of CPU time.
It reads pickled requests, (number, "cell", source) or (number, "ask", name, probe, args, kwargs, closed,
seed), and writes back (number, reply), plain data, which the other side reads without unpickling code.
"""

import io
import os
import pickle
import resource
import signal
import struct
import sys
from importlib import import_module

import torch
from IPython.core.interactiveshell import InteractiveShell

from vaelearn.exercises.answers import Answer, Wrong

FILE_BYTES = 100 * 2**20  # no file of a submission may grow beyond this


def run_cell(shell, source):
    result = shell.run_cell(source, store_history=False)
    error = result.error_before_exec or result.error_in_exec
    return {"error": f"{type(error).__name__}: {error}"[:300] if error else ""}


def ask(shell, name, probe, args, kwargs, closed, seed):
    module, function = probe
    answer = Answer(name, shell.user_ns)
    answer.closed, answer.seed = closed, seed
    try:
        return {"value": answer.run(getattr(import_module(module), function), *args, **kwargs)}
    except Wrong as wrong:
        return {"wrong": str(wrong)}


def main():
    read, write, memory, seconds = map(int, sys.argv[1:])
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    # Should the grader be gone, this ends a loop all the same.
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A shell starts its background jobs deaf to it, and their children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    # As in a notebook: what %%writefile wrote can be imported.
    sys.path[0] = os.getcwd()
    shell = InteractiveShell.instance(colors="NoColor")
    # There is nothing to draw on, and %matplotlib would take the rest of its cell down with it.
    shell.register_magic_function(lambda line: None, "line", "matplotlib")
    requests, replies = os.fdopen(read, "rb"), os.fdopen(write, "wb")
    number = 0
    while True:
        try:
            number, kind, *rest = pickle.load(requests)
            reply = {"cell": run_cell, "ask": ask}[kind](shell, *rest)
        except EOFError:
            return
        except KeyboardInterrupt:
            reply = {"error": "was interrupted"}
        buffer = io.BytesIO()
        torch.save((number, reply), buffer)
        replies.write(struct.pack(">Q", buffer.tell()) + buffer.getvalue())
        replies.flush()


if __name__ == "__main__":
    main()
