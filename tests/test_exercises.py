"""The graded exercises: sources and what is built of them, every check, every natural wrong answer."""

import importlib.util
import re
from functools import cache
from pathlib import Path

import nbformat
import pytest
import torch

from exercises import build
from vaelearn.exercises import Grader, Wrong, examine

ROOT = Path(__file__).parents[1]
SETS = {folder.name: folder for folder in build.sets()}
QUESTIONS = [(name, q) for name in SETS for q in Grader(int(name[:2])).questions]


@cache
def module(name: str, part: str):
    spec = importlib.util.spec_from_file_location(f"{part}_{name}", SETS[name] / f"{part}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    for path in SETS.values():
        build.build(path, folder / path.name[:2], folder / "student", folder / "solved")
    return folder


@pytest.fixture(scope="module")
def namespaces(built):
    """Of a set, what its student's and its solved notebook define."""
    known = {}

    def of(name, kind):
        if (name, kind) not in known:
            known[name, kind] = run(built / name[:2] / kind / f"{name}.ipynb", strict=kind == "autograder")
        return known[name, kind]

    return of


def run(path, strict):
    dtype, namespace = torch.get_default_dtype(), {"__name__": "notebook"}
    try:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code" and not cell.source.startswith("grader.check"):
                try:
                    exec(compile(cell.source, path.name, "exec"), namespace)
                except Exception:
                    if strict:
                        raise
    finally:
        torch.set_default_dtype(dtype)
    return namespace


@pytest.mark.parametrize("name", SETS)
def test_what_is_committed_is_what_the_sources_build(name, built):
    solved = f"{name[:2]}.md"
    for fresh, committed in (
        (built / "student" / f"{name}.ipynb", ROOT / "exercises" / "student" / f"{name}.ipynb"),
        (built / "solved" / solved, ROOT / "vaelearn" / "exercises" / "solutions" / solved),
    ):
        stale = f"{committed.name} is stale: make assign"
        assert fresh.read_text("utf-8") == committed.read_text("utf-8"), stale


@pytest.mark.parametrize("name", SETS)
def test_no_student_notebook_gives_a_solution_away(name, built):
    text = (built / "student" / f"{name}.ipynb").read_text("utf-8")
    assert "SOLUTION" not in text and "otter_assign_solution_cell" not in text


@pytest.mark.parametrize("name", SETS)
def test_each_set_has_four_to_six_questions_of_several_kinds(name):
    text = (SETS[name] / "source.py").read_text("utf-8")
    kinds = re.findall(r"\*(Implement|Derive|Predict|Repair)[,.]", text)
    assert 4 <= len(Grader(int(name[:2])).questions) == len(kinds) <= 6
    assert len(set(kinds)) >= 3


@pytest.mark.parametrize(("name", "question"), QUESTIONS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_reference_solutions_pass_every_check(name, question, seed, namespaces):
    answers = namespaces(name, "autograder")
    examine(getattr(Grader(int(name[:2])).checks, question), answers, seed)
    examine(getattr(module(name, "hidden"), question), answers, seed)


@pytest.mark.parametrize(("name", "question"), QUESTIONS)
def test_untouched_stubs_pass_no_check(name, question, namespaces):
    answers = namespaces(name, "student")
    for checks in (Grader(int(name[:2])).checks, module(name, "hidden")):
        with pytest.raises(Wrong):
            examine(getattr(checks, question), answers, 1)


WRONG = [(name, n) for name in SETS for n in range(len(module(name, "wrong").wrong))]


@pytest.mark.parametrize(("name", "n"), WRONG)
def test_natural_wrong_answers_are_named(name, n, namespaces):
    wrong = module(name, "wrong").wrong[n]
    answers = namespaces(name, "autograder") | wrong.answers
    for seed in (1, 2, 3):
        with pytest.raises(Wrong, match=re.escape(wrong.says)):
            examine(getattr(Grader(int(name[:2])).checks, wrong.question), answers, seed)


@pytest.mark.parametrize(("name", "question"), QUESTIONS)
def test_each_question_has_three_wrong_answers(name, question):
    assert sum(wrong.question == question for wrong in module(name, "wrong").wrong) >= 3
