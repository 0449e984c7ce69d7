"""A zip that Gradescope's autograder runs: `python -m tools.gradescope CHAPTER`.

Otter makes it of a set's test files. Its image gets the package, as a wheel, and the versions that this
project pins. There, learner's code and checks share a process: see book/teaching.md.
"""

import contextlib
import re
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path

from otter.generate import main as otter_generate

from tools.portable import build_wheel

ROOT = Path(__file__).resolve().parents[1]
UNPACKED = "/autograder/source/files"  # where the zip's files lie in Gradescope's image
EXTRAS = "data", "plots", "flows"


def requirements(wheel: str) -> str:
    """What the image installs beside Otter: the package, and what it needs, as the project pins it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needed = sum((project["optional-dependencies"][extra] for extra in EXTRAS), project["dependencies"])
    names = {re.match(r"[\w-]+", line)[0] for line in needed}
    pinned = [
        line
        for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines()
        if line.partition("==")[0] in names
    ]
    return "\n".join([f"-c {UNPACKED}/constraints.txt", *pinned, f"vaelearn @ file://{UNPACKED}/{wheel}"])


def build(tests: Path, path: Path) -> None:
    """Write the zip of the test files in `tests` to `path`."""
    tests, path = tests.resolve(), path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work, contextlib.chdir(work):
        wheel = build_wheel(work)
        shutil.copy(ROOT / "constraints.txt", work)
        Path("requirements.txt").write_text(requirements(wheel), "utf-8")
        options = {"no_config": True, "no_environment": True, "python_version": "3.11"}
        otter_generate(
            tests_dir=str(tests), output_path=str(path), files=[wheel, "constraints.txt"], **options
        )


if __name__ == "__main__":
    chapter = f"{int(sys.argv[1]):02d}"
    zipped = ROOT / "_build" / "gradescope" / f"{chapter}.zip"
    build(ROOT / "_build" / "exercises" / chapter / "autograder" / "tests", zipped)
    print(f"{zipped.relative_to(ROOT)}: upload it to Gradescope, where Configure Autograder asks for a zip.")
