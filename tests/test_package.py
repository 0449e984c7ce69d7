"""Importing the package is cheap and honest."""

import re
import shutil
import subprocess
import sys
from pathlib import Path


def run(code, folder=None):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout


def test_import_brings_in_no_plotting_widget_or_data_library():
    heavy = ("matplotlib", "ipywidgets", "anywidget", "IPython", "sklearn", "scipy", "pooch")
    loaded = run(f"import sys, vaelearn; print([m for m in {heavy} if m in sys.modules])")
    assert loaded.strip() == "[]"


def test_public_names_are_there():
    import vaelearn as vl

    assert all(hasattr(vl, name) for name in vl.__all__)


def test_unknown_names_are_an_attribute_error():
    import pytest

    import vaelearn as vl

    with pytest.raises(AttributeError, match="no attribute 'magic'"):
        _ = vl.magic


def test_every_command_that_is_declared_or_told_has_its_rule_and_is_listed():
    root = Path(__file__).parents[1]
    makefile = (root / "Makefile").read_text(encoding="utf8")
    listed = {*re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE)}
    assert listed == {*re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()}
    pages = [*root.glob("*.md"), *(root / "book").glob("*.md"), *(root / "tools").glob("*.py")]
    told = {word for page in pages for word in re.findall(r"`make ([a-z]+)", page.read_text(encoding="utf8"))}
    assert told <= listed


def test_the_readmes_example_runs():
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf8")
    example = re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1]
    names = {}
    exec(example.replace("epochs=50", "epochs=1").replace("K=5000", "K=10"), names)
    assert names["draw"].log_w.shape == (8, 4, 250)


def test_exercises_need_the_package_and_the_notebook_alone(tmp_path):
    root, site = Path(__file__).parents[1], tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    # A copy, because setuptools builds inside the tree.
    shutil.copytree(root / "vaelearn", tmp_path / "tree" / "vaelearn")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, tmp_path / "tree")
    subprocess.run([*pip, "--target", site, tmp_path / "tree"], check=True, capture_output=True)
    run(
        f"""
import sys
sys.path.insert(0, {str(site)!r})
for name in ("otter", "IPython", "matplotlib", "sklearn", "scipy", "pooch", "nbformat"):
    sys.modules[name] = None
import torch, vaelearn
assert vaelearn.__file__.startswith({str(site)!r})
from vaelearn.exercises import Grader
iwae = lambda log_w: torch.logsumexp(log_w, 0) - torch.log(torch.tensor(float(len(log_w))))
grader = Grader(5)
assert grader.check("q1").passed
assert "log K" in grader.solution("q1") and not hasattr(grader.solution("q2"), "strip")
assert "def first_order_gap" in grader.solution("q2", untried=True)
""",
        tmp_path,  # a grader remembers, in the folder where it runs, what has passed
    )
