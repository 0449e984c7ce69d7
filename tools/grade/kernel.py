"""A learner's side: the kernel that a notebook runs in. It is told nothing that marks hang on.

`python kernel.py -f CONNECTION`. Beside what every kernel does, its shell has `answer(request)`: what a
learner's name stands for, asked by a probe, as plain data.
"""

import base64
import io
import pickle
import signal
import sys
from functools import partial
from importlib import import_module

import torch
from ipykernel.kernelapp import IPKernelApp

from vaelearn.exercises import Grader, Verdict
from vaelearn.exercises.answers import Answer, Wrong

# Package managers change nothing here; and there is nothing to draw on.
SILENT = "pip", "conda", "mamba", "micromamba", "uv", "matplotlib"


def answer(namespace, request):
    name, (module, probe), args, kwargs, closed, seed = pickle.loads(base64.b64decode(request))
    asked = Answer(name, namespace)
    asked.closed, asked.seed = closed, seed
    try:
        reply = {"value": asked.run(getattr(import_module(module), probe), *args, **kwargs)}
    except Wrong as wrong:
        reply = {"wrong": str(wrong), "raised": wrong.raised}
    buffer = io.BytesIO()
    torch.save(reply, buffer)
    return base64.b64encode(buffer.getvalue()).decode()


def main():
    sys.path[0] = ""  # what lies beside the notebook, not what lies beside this file
    # A shell starts its background jobs deaf to it, and their children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Checks come when the notebook has run; a learner's own would only take time.
    Grader.check = lambda self, question="all", *_, **__: Verdict(question, True, "asked later.")
    # Compiled or not, an answer is the same; the compiler alone may take longer to load than a cell has.
    torch.compile = lambda function=None, **_: function or (lambda function: function)
    app = IPKernelApp.instance()
    app.initialize()
    app.shell.answer = partial(answer, app.shell.user_ns)
    for name in SILENT:
        app.shell.register_magic_function(lambda line: None, "line", name)
    app.start()


if __name__ == "__main__":
    main()
