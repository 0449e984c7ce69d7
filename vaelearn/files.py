"""Files found in a folder, downloaded where they are missing, and verified each time they are read."""

import gzip
import hashlib
import importlib
import os
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path


class DataError(RuntimeError):
    """A data file is missing, corrupt or out of reach; the message says which, and what to do."""


def root(folder: str | os.PathLike | None) -> Path:
    """The folder itself, else the one that VAELEARN_DATA names, else pooch's cache."""
    folder = folder or os.environ.get("VAELEARN_DATA") or require("pooch").os_cache("vaelearn")
    return Path(folder).expanduser()


def read(path: Path, expected: str, mirrors: Sequence[str]) -> bytes:
    """The verified content of a file, plain or gzipped (.gz) on the disk, else from the network.

    expected: the checksum of the plain content, "md5 …" or "git-blob …" (the name git gives it: the
    SHA-1 of a short header and the file). mirrors: addresses, with {file} for the file's name.
    Raises DataError where it is corrupt, or missing and not to be had.
    """
    for place in (path, path.with_name(path.name + ".gz")):
        if place.exists():
            return verify(place, unpack(place, expected), expected)
    return download(path, expected, [mirror.format(file=path.name) for mirror in mirrors])


def download(path: Path, expected: str, urls: Sequence[str]) -> bytes:
    """Try each address; only a complete, verified file ever gets a name in the folder, packed as it came."""
    pooch, problems = require("pooch"), ""
    for url in urls:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
                part = Path(scratch) / (path.name + ".gz" * url.endswith(".gz"))
                pooch.HTTPDownloader(progressbar=True, chunk_size=2**16)(url, str(part), None)
                raw = verify(url, unpack(part, expected, url), expected)
                part.replace(path.with_name(part.name))
            return raw
        except (OSError, DataError) as problem:
            problems += f"\n  {url}: {problem}"
    raise DataError(
        f"{path} is missing and could not be downloaded:{problems}\nFetch it by other means "
        f"(expected {expected}, unpacked) and put it there, plain or as {path.name}.gz, or let the "
        f"environment variable VAELEARN_DATA name a folder that holds {path.parent.name}/{path.name}."
    )


def unpack(path: Path, expected: str, where: Path | str | None = None) -> bytes:
    """The file's plain content. `where` is what an error calls it."""
    raw = path.read_bytes()
    if path.suffix != ".gz":
        return raw
    try:
        return gzip.decompress(raw)
    except (gzip.BadGzipFile, EOFError, zlib.error) as problem:
        raise corrupt(where or path, expected, f"a broken gzip file ({problem})") from problem


def verify(where: Path | str, raw: bytes, expected: str) -> bytes:
    """`raw` itself, if its checksum is the expected one."""
    kind = expected.split()[0]
    if kind == "md5":
        found = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    else:
        found = hashlib.sha1(b"blob %d\0" % len(raw) + raw, usedforsecurity=False).hexdigest()
    if expected != f"{kind} {found}":
        raise corrupt(where, expected, f"{kind} {found}")
    return raw


def corrupt(where: Path | str, expected: str, found: str) -> DataError:
    advice = "Delete it and load again." if isinstance(where, Path) else ""
    return DataError(f"{where} is corrupt: expected {expected}, found {found}. {advice}".strip())


def require(module: str):
    """Import an optional package, only when a data set needs it."""
    try:
        return importlib.import_module(module)
    except ImportError as problem:
        raise ImportError(f'{module} is needed here: pip install "vaelearn[data]"') from problem
