"""What was handed in, by whom, and which of a learner's submissions counts: as platforms name files."""

import hashlib
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

# lib/content_zipper.rb in canvas-lms: name, LATE, the learner's number, the file's own, and its name.
CANVAS = re.compile(r"(?:(?!LATE_)(?P<name>\w+?)_)?(?P<late>LATE_)?(?P<id>\d+|anon_[^\W_]+)_(?P<file>\d+)_.+")
# mod/assign/classes/downloader.php in moodle: a folder a learner, or a file.
MOODLE = re.compile(r"(?P<name>[^_]+)_(?P<id>\d+)_assignsubmission_[a-z]+(?:_.*)?")
COPY = re.compile(r"(?:-| \()(\d+)\)?$")  # hw-2.ipynb, hw (2).ipynb
RULES = {"last": "the last", "best": "the best", "ontime": "the last on time"}


@dataclass(frozen=True)
class HandedIn:
    """A submission: its file, the folder that comes along, and what its name tells."""

    learner: str
    path: Path
    beside: Path | None = None
    platform: str = ""
    id: str = ""  # the learner's, on the platform
    late: bool = False
    order: tuple = ()
    note: str = ""  # which of several this is
    refused: str = ""  # why it is not marked

    @property
    def whose(self) -> str:
        """The learner, told from others of one name."""
        return f"{self.learner}_{self.id}" if self.id else self.learner

    def fingerprint(self, *more: str) -> str:
        """A hash of all that this is, of what comes along, and of `more`."""
        digest = hashlib.sha256(repr((replace(self, order=()), *more)).encode("utf-8", "surrogatepass"))
        for path in sorted(self.beside.rglob("*")) if self.beside else [self.path]:
            digest.update(repr(path).encode("utf-8", "surrogatepass"))
            if path.is_file() and not path.is_symlink():
                with suppress(OSError), path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()


def hidden(path: Path) -> bool:
    """Whether this is a checkpoint, or what macOS puts into its archives."""
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def handed_in(folder: Path) -> list[HandedIn]:
    """Every submission in a folder; a learner's folder with several notebooks holds as many."""
    paths = sorted(path for path in folder.glob("*") if not hidden(Path(path.name)))
    canvas = {path: match for path in paths if (match := CANVAS.fullmatch(path.name))}
    files = Counter(match["file"] for match in canvas.values())  # on Canvas no two have one number
    found = []
    for path in paths:
        name = path.stem if path.suffix == ".ipynb" else path.name
        one = HandedIn(name, path)
        if (match := canvas.get(path)) and files[match["file"]] == 1:
            whose = {"learner": match["name"] or match["id"], "id": match["id"]}
            one = HandedIn(path=path, platform="canvas", late=bool(match["late"]), **whose)
        elif match := MOODLE.fullmatch(path.name):
            one = HandedIn(match["name"], path, platform="moodle", id=match["id"])
        number = int(match["file"]) if one.platform == "canvas" else 0
        notebooks = [path]
        if path.is_dir() and not path.is_symlink():
            notebooks = [p for p in path.rglob("*.ipynb") if not hidden(p.relative_to(path))] or [path]
            one = replace(one, beside=path)
        for notebook in sorted(notebooks):
            copy = COPY.search(notebook.stem)
            order = number, int(copy[1]) if copy else 0, notebook.lstat().st_mtime, str(notebook)
            found.append(replace(one, path=notebook, order=order))
    return found


def counted(handed: list[HandedIn], rule: str) -> list[HandedIn]:
    """The submissions to be marked: one of each learner, or all where the best counts."""
    learners = {}
    for one in sorted(handed, key=lambda one: one.order):
        learners.setdefault(one.whose, []).append(one)
    return [one for all in learners.values() for one in _counted(all, rule)]


def _counted(all: list[HandedIn], rule: str) -> list[HandedIn]:
    all = [one for one in all if one.path.suffix == ".ipynb"] or all  # what else was uploaded with a notebook
    kept = [one for one in all if not (rule == "ontime" and one.late)]
    if not kept:
        return [replace(all[-1], refused="this was handed in late, and late ones do not count")]
    which = f"{RULES[rule]} of {len(all)} submissions, {{}}" if len(all) > 1 else ""
    kept = kept if rule == "best" else kept[-1:]
    notes = [", ".join(filter(None, [which.format(one.path.name), "late" * one.late])) for one in kept]
    return [replace(one, note=note) for one, note in zip(kept, notes, strict=True)]
