"""A run as one file: written whole, verified when read, and compared with what would go on from it."""

import dis
import io
import os
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn


@contextmanager
def held(path: str | os.PathLike) -> Iterator[Path]:
    """The file to use, for this run alone: its folder made, its lock held to the end or the process's death.

    Raises ValueError for a folder, a link to nothing or a file that another run holds; OSError where
    nothing can be written.
    """
    path = Path(path).expanduser()
    if path.is_symlink():
        if not path.exists():
            raise ValueError(
                f"{path} is a link to {path.readlink()}, which is not there: bring it back, or unlink"
            )
        path = path.resolve()
    if path.is_dir():
        raise ValueError(
            f"checkpoint must be a file; {path} is a folder: name a file in it, such as {path / 'run.pt'}"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.lock", timeout=0).acquire()
    except Timeout:
        raise ValueError(
            f"another fit is writing {path}: wait for it, or give each run a file of its own"
        ) from None
    except NotImplementedError:
        lock = nullcontext()  # a network disk that knows no locks
    except OSError as error:
        raise OSError(error.errno, f"no checkpoint can be written at {path}: {error.strerror}") from error
    with lock:
        try:
            yield path
        finally:
            # While it is still held, so that whoever comes next makes a new one; Windows will not have it.
            with suppress(OSError):
                Path(f"{path}.lock").unlink(missing_ok=True)


def save(path: Path, state: dict) -> None:
    """A kill at any moment leaves the old file or the new one, never a torn one; so does a full disk."""
    state = plain(state)
    file = io.BytesIO()
    torch.save(state | {"checksum": checksum(state)}, file)
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        with open(unfinished, "wb") as out:
            out.write(file.getbuffer())
            out.flush()
            os.fsync(out.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        before = "the checkpoint of the epoch before is still there" if path.exists() else "there is none yet"
        raise OSError(
            error.errno, f"the checkpoint {path} could not be written: {error.strerror or error}; {before}"
        ) from error


def load(path: Path) -> dict:
    """What `save` wrote, read without running code.

    Raises ValueError for a file that is no checkpoint or whose content has changed, OSError where it
    cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise OSError(error.errno, f"the checkpoint {path} cannot be read: {error.strerror}") from error
    try:
        state = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
        written = state.pop("checksum")
    except Exception as error:
        raise ValueError(
            f"{path} is not a checkpoint of fit's; move it away to start anew. ({error})"
        ) from error
    if checksum(state) != written:
        raise ValueError(
            f"{path} is not a checkpoint of fit's any more: what it holds has changed since it was written "
            "(its checksum says so). Bring back a copy, or move it away to start anew"
        )
    return state


def plain(state):
    """The same with Python's numbers for NumPy's, which could be written and never read back."""
    if isinstance(state, Mapping):
        return {plain(key): plain(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(map(plain, state))
    return state.item() if isinstance(state, np.generic) else state


def checksum(*values) -> str:
    """One number for all of it: tensors by shape, type and bytes, everything else by what it reads as."""
    return f"{zlib.crc32(repr([fingerprint(value, '') for value in values]).encode()):08x}"


def crc(x: Tensor, start: int = 0) -> int:
    return zlib.crc32(x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy(), start)


def fingerprint(value, name: str) -> dict[str, str]:
    """All that decides what `value` computes, as name -> text: the same in every process.

    Objects are their type and their attributes; functions their code and every value it refers to, so
    that two lambdas, two partials or two closures never pass for one another. Parameters count by their
    shapes: their values are in the file.
    """
    found, seen = {}, []

    def visit(value, name: str) -> None:
        if any(value is other for other in seen):
            return
        text, parts = describe(value)
        found[name] = text
        if parts:
            seen.append(value)
        for part, inner in parts.items():
            visit(inner, f"{name}.{part}".lstrip("."))

    visit(value, name)
    return found


def describe(value) -> tuple[str, dict]:
    """What value is on its own, and the parts that must be looked into."""
    if isinstance(value, bool | np.bool_):
        return str(bool(value)), {}
    if isinstance(value, Integral | Real):
        return repr(int(value) if isinstance(value, Integral) else float(value)), {}
    if isinstance(value, nn.Parameter):
        return f"{tuple(value.shape)} {value.dtype}{'' if value.requires_grad else ' frozen'}", {}
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {value.dtype} {crc(value):08x}", {}
    if isinstance(value, np.ndarray):
        return f"{value.shape} {value.dtype} {zlib.crc32(value.tobytes()):08x}", {}
    if isinstance(value, type | ModuleType | BuiltinFunctionType):
        return getattr(value, "__qualname__", value.__name__), {}
    if isinstance(value, Mapping):
        return f"{len(value)} entries", {str(key): inner for key, inner in value.items()}
    if isinstance(value, list | tuple):
        value = [plain(inner) for inner in value]
        if all(type(inner) in (int, float, str) for inner in value):
            return repr(value), {}
        return f"{len(value)} entries", dict(enumerate(value))
    if isinstance(value, set | frozenset):
        return str(sorted(map(repr, value))), {}
    if isinstance(value, partial):
        return "partial", {"func": value.func, "args": value.args, "keywords": value.keywords}
    if isinstance(value, MethodType):
        return value.__qualname__, {"self": value.__self__, "func": value.__func__}
    if isinstance(value, FunctionType):
        return value.__qualname__, {} if installed(value) else read_by(value)
    kind = type(value)
    if isinstance(value, nn.Module):
        torchs = vars(nn.Module()).keys()
        own = {key: inner for key, inner in vars(value).items() if key not in torchs}
        inner = dict(value.named_parameters(recurse=False)) | dict(value.named_children())
        return f"{kind.__qualname__}({', '.join(inner)})", own | inner | methods(kind)
    if hasattr(value, "__dict__"):
        return kind.__qualname__, vars(value) | methods(kind)
    return kind.__qualname__ if " at 0x" in repr(value) else repr(value), {}


def methods(kind: type) -> dict:
    """The functions of a class that is the reader's own; a library's class is known by its name."""
    return {} if installed(kind) else {k: f for k, f in vars(kind).items() if isinstance(f, FunctionType)}


def installed(value) -> bool:
    """Whether it comes from a package, and not from a notebook, a script or a module of the reader's own."""
    package = value.__module__.split(".")[0]
    home = getattr(sys.modules.get(value.__module__), "__file__", None) or ""
    known = package == __package__ or package in sys.stdlib_module_names or "site-packages" in home
    return known and package != "__main__"


def read_by(function: FunctionType) -> dict:
    """A function's code, its defaults, and the values of the outer variables that it reads."""
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    outer = {}
    for name, cell in cells.items():
        with suppress(ValueError):  # a variable that has no value yet
            outer[name] = cell.cell_contents
    codes = list(nested(function.__code__))
    for instruction in (i for code in codes for i in dis.get_instructions(code)):
        if instruction.opname == "LOAD_GLOBAL" and instruction.argval in function.__globals__:
            outer[instruction.argval] = function.__globals__[instruction.argval]
    text = [
        (code.co_code, code.co_names, [c for c in code.co_consts if not isinstance(c, CodeType | frozenset)])
        for code in codes
    ]
    defaults = {"defaults": function.__defaults__, "kwdefaults": function.__kwdefaults__}
    return {"code": f"{zlib.crc32(repr(text).encode()):08x}"} | defaults | outer


def nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from nested(constant)
