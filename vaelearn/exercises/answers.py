"""A learner's answer, asked from outside: its failures are explained, its results are plain data.

A check never touches what the learner wrote. It asks an `Answer`, which may live in the same process
(in the learner's notebook) or in another one (when a teacher grades): the check cannot tell.
"""

import copy
import inspect
import random
import sysconfig
import traceback
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import reduce
from importlib import import_module
from numbers import Real
from pathlib import Path

import numpy as np
import torch

from .fresh import Fresh

_NOT_THE_LEARNERS = tuple(
    str(Path(p)) for p in {*map(sysconfig.get_path, ("stdlib", "platlib")), Path(__file__).parents[1]}
)


class Wrong(AssertionError):
    """An answer failed a check. The text says what was expected, what came, and what that suggests."""

    raised: tuple[str, ...] = ()  # by the learner's code: the names of the error's class and its bases
    failed: tuple[str, ...] = ()  # the parts of the question that do not hold

    def __init__(self, text: str, blank: bool = False, costs: tuple[str, ...] = ()):
        super().__init__(text)
        self.blank = blank  # there is no answer yet
        self.costs = costs  # the parts that this is about


def examine(check, namespace: dict, seed: int | None = None, part: str = "", public=None) -> None:
    """Run `check` on the answers in `namespace`; Wrong says why an answer does not pass.

    A check's parameters name what the learner defines; its last one, `fresh`, makes problem instances
    from `seed` (None: new ones at each call). A namespace with a method `answer(name)` is asked for
    its answers and has its own `seed`; in a plain one, such as a notebook's globals, they are looked up.
    part: that one of the question's parts alone has to hold.
    public: where `check` is a teacher's, the notebook's own check, which it begins with and has the parts of.
    """
    known = getattr(namespace, "examined", {})  # a marker asks for one part after the other
    key = check.__name__, public is None
    if public and {*known.get((public.__name__, True), ())} == {*parts_of(public)}:
        key = public.__name__, True  # a teacher's would begin with the same, of the same instances
    if key not in known:
        known[key] = _failures(check, namespace, seed, public)
    failed = known[key]
    if part:
        if part in failed:
            raise failed[part]
    elif failed:
        first = next(iter(failed.values()))
        more = len({str(wrong) for wrong in failed.values() if not wrong.blank} - {str(first)})
        tail = {0: "", 1: " One more thing is wrong."}.get(more, f" {more} more things are wrong.")
        wrong = Wrong(f"{first}{tail}", blank=all(wrong.blank for wrong in failed.values()))
        wrong.failed = tuple(failed)
        raise wrong


def _failures(check, namespace, seed, public) -> dict[str, Wrong]:
    """What is wrong with the answers, by the parts of the question."""
    find = getattr(namespace, "answer", lambda name: Answer(name, namespace))
    fresh = Fresh(getattr(namespace, "seed", seed))
    *names, _ = inspect.signature(check).parameters
    answers = [find(name) for name in names]
    for answer in answers:
        answer.closed, answer.seed = getattr(check, "closed", ()), fresh.integer(0, 2**31)
    token = _failed.set({})
    try:
        # What a teacher's check finds beyond is put down to what the notebook's own found.
        with part(*parts_of(public or check), else_failed=bool(public)):
            check(*answers, fresh)
        return _failed.get()
    finally:
        _failed.reset(token)


_failed = ContextVar("failed")  # in the check that is running: Wrong by part


def parts(*names: str) -> Callable:
    """Mark a check: the parts of its question, each of which is worth something without the others."""

    def mark(check):
        check.parts = names
        return check

    return mark


def parts_of(check: Callable) -> tuple[str, ...]:
    """The parts that a check was marked with; one without a name where it was not."""
    return getattr(check, "parts", ("",))


@contextmanager
def part(*names: str, else_failed: bool = False):
    """What goes wrong in this block of a check costs these parts, or those of them that the mistake names.

    else_failed: where it names none, and some of them have failed already, it is put down to those.
    """
    try:
        yield
    except Exception as error:
        wrong = error if isinstance(error, Wrong) else _no_work(error)
        failed = _failed.get()
        costs = [name for name in names if name in wrong.costs]
        costs = costs or [name for name in names if else_failed and name in failed] or names
        for name in costs:
            failed.setdefault(name, wrong)


def _no_work(error: Exception) -> Wrong:
    return Wrong(
        f"the check could not work with what your answer gave back "
        f"({type(error).__name__}: {error}). Look at its type and shape."
    )


def closes(*names: str) -> Callable:
    """Mark a check: while the answer runs, these functions of vaelearn (as "bounds.iwae") refuse to."""

    def mark(check):
        check.closed = names
        return check

    return mark


def call(function, *args, **kwargs):
    """The plainest probe: what the learner's function returns."""
    if not callable(function):
        raise Wrong(f"a function was expected here, and it is {describe(function)}.")
    result = function(*args, **kwargs)
    if result is None or result is ...:
        raise Wrong("it returned nothing. Is the `...` still there, or a `return` missing?", blank=True)
    return result


def gradient_of(function, *args):
    """Probe: gradients of the sum of function(*args), or of its first result, in each tensor of `args`."""
    leaves = [a.clone().requires_grad_() if isinstance(a, torch.Tensor) else a for a in args]
    # What the answer gets are no leaves, so that it may work in place.
    result = call(function, *(a.clone() if isinstance(a, torch.Tensor) else a for a in leaves))
    result = result[0] if isinstance(result, (tuple, list)) else result
    must_carry_gradient(result, "its result")
    leaves = [a for a in leaves if isinstance(a, torch.Tensor)]
    return list(torch.autograd.grad(result.sum(), leaves, materialize_grads=True))


def must_carry_gradient(result, what: str) -> None:
    """For probes: Wrong unless `result` is a tensor with a graph behind it."""
    if not (isinstance(result, torch.Tensor) and result.requires_grad):
        raise Wrong(
            f"{what} has no gradient: stay with tensors from the first line to the last, "
            "and detach only what is meant to be a constant."
        )


def itself(value):
    """The probe for an answer that is a value."""
    return value


class Answer:
    """What the learner defined as `name`. Calling it calls the learner's function."""

    closed: tuple[str, ...] = ()
    answered = False  # at an earlier call
    seed = 0  # of the next call; each has its own, so that repeated calls draw new samples

    def __init__(self, name: str, namespace: dict):
        self.name, self.namespace = name, namespace

    def run(self, probe: Callable, *args, **kwargs):
        """probe(what the learner defined, *args), as plain data; any failure becomes a Wrong.

        A probe is a function of this package, for what a bare call cannot tell, such as a gradient.
        """
        self.seed += 1
        with _seeded(self.seed), _shut(self.closed):
            try:
                if self.name not in self.namespace:
                    raise Wrong("it is not defined. Run the cell that defines it.", blank=True)
                return plain(probe(self.namespace[self.name], *copy.deepcopy(args), **kwargs))
            except Wrong as wrong:
                raise Wrong(f"`{self.name}`: {wrong}", wrong.blank) from None
            except (Exception, SystemExit) as error:
                wrong = Wrong(f"`{self.name}` {_explain(error)}")
                wrong.raised = tuple(kind.__name__ for kind in type(error).__mro__)
                raise wrong from None

    def __call__(self, *args, **kwargs):
        try:
            result = self.run(call, *args, **kwargs)
        except Wrong as wrong:
            if wrong.blank and self.answered:
                given = ", ".join(map(_shown, args))
                raise Wrong(
                    f"`{self.name}` returned nothing for the arguments {given}. With others it did not."
                ) from None
            raise
        self.answered = True
        return result

    @property
    def value(self):
        """The answer where it is a value and no function."""
        return self.run(itself)


def plain(value):
    """`value` without graph or code: tensors, numbers, text, and lists and dicts of them."""
    if isinstance(value, torch.Tensor):
        return value.detach().as_subclass(torch.Tensor).cpu().clone()
    if isinstance(value, (np.ndarray, np.generic)):
        return torch.as_tensor(np.array(value))
    if value is ...:
        raise Wrong("there is still a `...` to replace.", blank=True)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Real):  # a Fraction, say
        return float(value)
    # A part that is still to be answered leaves the others as they are.
    if isinstance(value, (list, tuple)):
        return [None if item is ... else plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): None if item is ... else plain(item) for key, item in value.items()}
    raise Wrong(f"a tensor or a number was expected, and it gave {describe(value)}.")


def describe(value) -> str:
    """What kind of thing this is, in a few words."""
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"


def _shown(value) -> str:
    """An argument, short."""
    if isinstance(value, torch.Tensor) and (value.dim() != 1 or len(value) > 10):
        return describe(value)
    if isinstance(value, torch.Tensor):
        return f"[{', '.join(map(_shown, value.tolist()))}]"
    return f"{value:.4g}" if isinstance(value, float) else f"{value!r:.40}"


def _explain(error: BaseException) -> str:
    """What was raised, and by which of the learner's own lines."""
    text = f"raised {type(error).__name__}: {str(error) or 'no message'}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(_NOT_THE_LEARNERS):
            return f"{text.rstrip('.')}. That was in your line `{frame.line or frame.lineno}`."
    return text


@contextmanager
def _seeded(seed: int):
    """Seed what draws random numbers, and leave it as it was."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (a learner may draw from it)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed), random.seed(seed), np.random.seed(seed)  # noqa: NPY002
            yield
    finally:
        random.setstate(python), np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def _shut(names: tuple[str, ...]):
    """Exchange the code of functions of vaelearn, so that whoever holds them finds them closed."""
    with ExitStack() as stack:
        for name in names:
            function = inspect.unwrap(reduce(getattr, name.split("."), import_module("vaelearn")))
            stack.callback(setattr, function, "__code__", function.__code__)
            function.__code__ = _refuse.__code__
        yield


def _refuse(*_, **__):
    # Imported here: this code runs among the globals of the function whose place it takes.
    from vaelearn.exercises.answers import Wrong

    raise Wrong("vaelearn's own version is closed while yours is checked: here you write it out.")
