"""The graded exercises: sources and what is built of them, every check, every natural wrong answer."""

import inspect
import itertools
import math
import re
from contextlib import nullcontext, suppress
from functools import cache, partial
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from tools import assign
from vaelearn import bounds
from vaelearn.exercises import CHAPTERS, Grader, Wrong, examine, expect
from vaelearn.exercises.answers import Answer, gradient_of, parts, parts_of

ROOT = Path(__file__).parents[1]
SETS = {folder.name: folder for folder in assign.sets()}
QUESTIONS = [(name, q) for name in SETS for q in Grader(int(name[:2])).questions]


@cache
def module(name: str, part: str):
    return assign.module(SETS[name], part)


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    for path in SETS.values():
        assign.build(path, folder / path.name[:2], folder / "student", folder / "solved")
    return folder


@pytest.fixture(scope="module")
def namespaces(built):
    """Of a set, what its student's and its solved notebook define."""
    known = {}

    def of(name, kind):
        if (name, kind) not in known:
            known[name, kind] = run(built / name[:2] / kind / f"{name}.ipynb", kind == "autograder")
        return known[name, kind]

    return of


def run(path, passed):
    """As "Run All" does: no cell may raise, nor in a notebook that nobody has touched, where none passed."""
    namespace = {"__name__": "notebook"}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code" and not cell.source.startswith("grader.check"):
            exec(compile(cell.source, path.name, "exec"), namespace)
        elif passed and (checked := re.match(r'grader.check\("(q\d+)"\)', cell.source)):
            namespace["grader"].state[checked[1]] = "passed"
    return namespace


@pytest.fixture(autouse=True)
def remembers(tmp_path, monkeypatch):
    """A grader writes what has passed into the folder it is in."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True, scope="module")
def double():
    """As the notebooks set it."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


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
def test_no_line_of_a_student_notebooks_code_has_to_be_scrolled(name, built):
    cells = nbformat.read(built / "student" / f"{name}.ipynb", as_version=4).cells
    lines = [line for cell in cells if cell.cell_type == "code" for line in cell.source.splitlines()]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("name", SETS)
def test_each_set_has_four_to_six_questions_of_several_kinds(name):
    text = (SETS[name] / "source.py").read_text("utf-8")
    kinds = re.findall(r"\*(Implement|Derive|Predict|Repair)[,.]", text)
    assert 4 <= len(Grader(int(name[:2])).questions) == len(kinds) <= 6
    assert len(set(kinds)) >= 3


def test_every_chapter_has_its_set_and_every_set_all_its_parts():
    chapters = {page.stem for page in (ROOT / "book").glob("[0-9][0-9]_*.ipynb")}
    assert {*SETS} == chapters == {page.stem for page in (ROOT / "exercises" / "student").glob("*.ipynb")}
    numbers = sorted(int(name[:2]) for name in SETS)
    assert numbers == CHAPTERS
    solutions = ROOT / "vaelearn" / "exercises" / "solutions"
    assert numbers == sorted(int(page.stem) for page in solutions.glob("*.md"))


def test_every_count_of_chapters_is_right():
    """ "Chapters 1 to 11 are here": on pages, in the README and in what the tools say."""
    pages = [*(ROOT / "book").glob("*.md"), *(ROOT / "tools").glob("*.py"), *ROOT.glob("*.md")]
    pages += (ROOT / "vaelearn").rglob("*.py")
    counts = re.compile(r"(?i)\b(?:chapters?|those of|sets?) 1 to (\d+)")
    found = {page: {*map(int, counts.findall(page.read_text("utf-8")))} for page in pages}
    assert {page: numbers for page, numbers in found.items() if numbers - {max(CHAPTERS)}} == {}
    assert any(found.values())


@pytest.mark.parametrize("name", SETS)
def test_every_count_of_questions_is_right(name):
    count = len(Grader(int(name[:2])).questions)
    page = (ROOT / "book" / "graded_exercises.md").read_text("utf-8")
    assert re.findall(rf"{name}\.ipynb\) \| (\d+) \|", page) == [str(count)]
    source = (SETS[name] / "source.py").read_text("utf-8")
    words = {4: "four", 5: "five", 6: "six"}
    for said in re.findall(r"(?i)\b(four|five|six|seven|eight) questions\b", source):
        assert said.lower() == words[count]


@pytest.mark.parametrize(("name", "question"), QUESTIONS)
@pytest.mark.parametrize("seed", [1, 2])
def test_reference_solutions_pass_every_check(name, question, seed, namespaces):
    answers, state = namespaces(name, "autograder"), torch.get_rng_state()
    examine(getattr(Grader(int(name[:2])).checks, question), answers, seed)
    examine(getattr(module(name, "hidden"), question), answers, seed)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("name", "question"), QUESTIONS)
def test_untouched_stubs_pass_no_check_and_earn_no_part(name, question, namespaces):
    answers, public = namespaces(name, "student"), getattr(Grader(int(name[:2])).checks, question)
    for check in (public, getattr(module(name, "hidden"), question)):
        with pytest.raises(Wrong) as wrong:
            examine(check, answers, 1, public=public)
        assert {*wrong.value.failed} == {*parts_of(public)}


PARTS = [(name, q) for name, q in QUESTIONS if len(parts_of(getattr(Grader(int(name[:2])).checks, q))) > 1]


def costs(check, answers, seed):
    """The parts that answers lose at a public check."""
    try:
        examine(check, answers, seed)
    except Wrong as wrong:
        return wrong.failed


def spoilt(value, k):
    """The value with its k-th item wrong."""
    if isinstance(value, dict):
        return value | {key: spoilt(item, None) for n, (key, item) in enumerate(value.items()) if n == k}
    if isinstance(value, (list, tuple)):
        return [spoilt(item, None) if k in (n, None) else item for n, item in enumerate(value)]
    return "up" if isinstance(value, str) else 1.37 * value + 0.11


@pytest.mark.parametrize(("name", "question"), PARTS)
def test_each_part_is_lost_alone(name, question, namespaces):
    """By one of the natural wrong answers, or where one of several results alone is wrong."""
    check, right = getattr(Grader(int(name[:2])).checks, question), namespaces(name, "autograder")
    wrong = [one for one in module(name, "wrong").wrong if one.question == question]
    lost = {costs(check, right | one.answers, 1 + n % 3) for n, one in enumerate(wrong)}
    for answer in inspect.signature(check).parameters:
        for k in range(8):
            if {(part,) for part in check.parts} <= lost:
                return
            if isinstance(right.get(answer), dict):
                lost.add(costs(check, right | {answer: spoilt(right[answer], k)}, 1))
            elif answer in right:
                lost.add(costs(check, right | {answer: lambda *a, f=right[answer], k=k: spoilt(f(*a), k)}, 1))
    raise AssertionError(f"not lost alone: {[part for part in check.parts if (part,) not in lost]}")


def test_two_of_three_bugs_found_and_four_of_five_predictions_are_worth_something(namespaces):
    wrong = {one.says: one.answers for one in module("05_importance_weighting", "wrong").wrong}
    grader = Grader(5)
    assert grader.check("q4", wrong["detach"]).text.endswith("(2 of 3 parts hold.)")
    assert grader.check("q3", wrong["no better q"]).text.endswith("(4 of 5 parts hold.)")
    blank = {"prediction": wrong["no better q"]["prediction"] | {"divergence": ..., "elbo": ...}}
    verdict = grader.check("q3", blank)
    assert "its entry 'elbo' is still empty" in verdict.text and "(3 of 5 parts hold.)" in verdict.text
    one = {"bound_and_gap": lambda log_joint, q: ((q * (log_joint - q.log())).sum(1), ...)}
    assert costs(Grader(1).checks.q2, one, 1)[0] == "gap"


def test_what_a_teachers_check_finds_beyond_is_put_down_to_what_had_failed():
    @parts("a", "b")
    def public(f, fresh):
        for part in "ab":
            with expect.part(part):
                expect.that(f()[part], part)

    def beyond(f, fresh):
        public(f, fresh)
        expect.that(all(f().values()), "beyond")

    def failed(check, a, **how):
        with pytest.raises(Wrong) as wrong:
            examine(check, {"f": lambda: {"a": a, "b": True}}, 1, **how)
        return wrong.value.failed

    assert failed(beyond, False, public=public) == ("a",)
    with pytest.raises(Wrong, match="could not work with"):  # what is no mistake of a part costs them all
        examine(public, {"f": lambda: {"a": True}}, 1, part="b")
    assert failed(public, "") == ("a",)
    examine(public, {"f": lambda: {"a": False, "b": True}}, 1, part="b")


@pytest.mark.parametrize(("good", "calls"), [("", 1), ("a", 2), ("ab", 2)])
def test_a_marker_asks_once_for_all_parts_and_for_no_more_where_nothing_held(good, calls):
    class Asked(dict):
        seed, asked = 1, 0

        def f(self):
            self.asked += 1
            return {part: part in good for part in "ab"}

    @parts("a", "b")
    def public(f, fresh):
        said = f()
        for part in "ab":
            with expect.part(part):
                expect.that(said[part], part)

    def beyond(f, fresh):
        public(f, fresh)

    asked = Asked()
    asked.examined, asked["f"] = {}, asked.f
    for check, of in (public, None), (beyond, public):
        for part in "ab":
            with suppress(Wrong) if part not in good else nullcontext():
                examine(check, asked, part=part, public=of)
    assert asked.asked == calls


def changed(answers, check, change):
    """The answers of `check`, with change(value, n) for each number or tensor of their n-th call."""
    calls = itertools.count(1)

    def each(value, n):
        if isinstance(value, dict):
            return {key: each(item, n) for key, item in value.items()}
        return [each(item, n) for item in value] if isinstance(value, (list, tuple)) else change(value, n)

    def function(answer):
        return lambda *args, **kwargs: each(answer(*args, **kwargs), next(calls))

    names = [name for name in inspect.signature(check).parameters if callable(answers.get(name))]
    return answers | {name: function(answers[name]) for name in names}


def numpy(value, _):
    return value.detach().numpy() if isinstance(value, torch.Tensor) else value


def without_gradient(value, _):
    return value.detach() if isinstance(value, torch.Tensor) else value


def float32(value, _):
    return value.float() if getattr(value, "dtype", None) == torch.float64 else value


# numpy has no gradient either: the weaker form is tried where the stronger is told at once.
@pytest.mark.parametrize("forms", [[numpy, without_gradient], [float32]], ids=["numpy", "float32"])
@pytest.mark.parametrize(("name", "question"), QUESTIONS)
def test_a_form_that_passes_the_public_check_passes_the_hidden_one(name, question, forms, namespaces):
    public = getattr(Grader(int(name[:2])).checks, question)
    for form in forms:
        answers = changed(namespaces(name, "autograder"), public, form)
        with suppress(Wrong):  # the learner is told
            examine(public, answers, 1)
            break
    else:
        return
    examine(getattr(module(name, "hidden"), question), answers, 1)


@pytest.mark.parametrize(("name", "question"), QUESTIONS)
def test_no_call_may_return_nan(name, question, namespaces):
    check, reference = getattr(module(name, "hidden"), question), namespaces(name, "autograder")
    calls = set()

    def spoil(value, n, spoiled=None):
        number = isinstance(value, float) or getattr(value, "dtype", None) in (torch.float32, torch.float64)
        calls.update([n] * number)
        return value * math.nan if number and n == spoiled else value

    examine(check, changed(reference, check, spoil), 1)
    for spoiled in sorted(calls)[:8]:
        with pytest.raises(Wrong):
            examine(check, changed(reference, check, partial(spoil, spoiled=spoiled)), 1)


@pytest.mark.parametrize("good", ["KL", "JS", "MMD", "Stein"])
def test_nan_beside_a_right_number_does_not_pass(good, namespaces):
    name = "11_other_divergences"
    answers, check = namespaces(name, "autograder"), module(name, "hidden").q3
    right = answers["missing_modes"]

    def missing_modes(n, r, *more):
        said = right(n, r, *more)
        return said if r < n else {key: said[key] if key == good else math.nan for key in said}

    with pytest.raises(Wrong, match="each divergence is 0"):
        examine(check, answers | {"missing_modes": missing_modes}, 1)


WRONG = [(name, n) for name in SETS for n in range(len(module(name, "wrong").wrong))]


@pytest.mark.parametrize(("name", "n"), WRONG)
def test_natural_wrong_answers_are_named(name, n, namespaces):
    wrong = module(name, "wrong").wrong[n]
    answers = namespaces(name, "autograder") | wrong.answers
    with pytest.raises(Wrong, match=re.escape(wrong.says)):
        examine(getattr(Grader(int(name[:2])).checks, wrong.question), answers, 1 + n % 3)


@pytest.mark.parametrize(("name", "question"), QUESTIONS)
def test_each_question_has_three_wrong_answers(name, question):
    assert sum(wrong.question == question for wrong in module(name, "wrong").wrong) >= 3


# What the learner's side promises, on chapter 5's set.


def say(question, **answers):
    return Grader(5).check(question, answers)


@pytest.mark.parametrize(
    "iwae",
    [
        lambda w: torch.logsumexp(w, 0) - torch.log(torch.tensor(len(w))),
        lambda w: (w - w.max(0).values).exp().mean(0).log().add_(w.max(0).values),  # partly in place
        lambda w: np.logaddexp.reduce(w.numpy(), 0) - np.log(len(w)),
        lambda w: torch.logsumexp(w.float(), 0) - math.log(len(w)),
        lambda w: torch.stack([torch.logsumexp(w[:, m], 0) for m in range(w.shape[1])]) - math.log(len(w)),
        lambda w: (torch.logsumexp(w, 0) - math.log(len(w))).tolist(),
    ],
    ids=["library", "in place", "numpy", "float32", "loop", "list"],
)
def test_any_correct_implementation_passes(iwae):
    assert say("q1", iwae=iwae).passed


def changes_its_input(log_w):
    log_w -= 1
    return torch.logsumexp(log_w, 0) - math.log(len(log_w)) + 1


def test_an_answer_may_change_what_it_is_given():
    assert say("q1", iwae=changes_its_input).passed


def exits(log_w):
    raise SystemExit


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({}, "is not defined. Run the cell"),
        ({"iwae": None}, "a function was expected here"),
        ({"iwae": 3.5}, "a function was expected here, and it is a float"),
        ({"iwae": lambda w: None}, "returned nothing"),
        ({"iwae": lambda w: "nine"}, "should be numbers; it is a str"),
        ({"iwae": lambda w: w}, "should have shape"),
        ({"iwae": lambda w: torch.logsumexp(w, 0, keepdim=True) - math.log(len(w))}, "but for its shape"),
        ({"iwae": lambda w: torch.distributions.Normal(0, 1)}, "it gave a Normal"),
        ({"iwae": lambda: 0}, "raised TypeError"),
        ({"iwae": lambda w: w[99]}, "That was in your line `"),
        ({"iwae": lambda w: w.nothing}, "raised AttributeError"),
        ({"iwae": lambda w: 0 * w[0] + float("nan")}, "holds nan"),
        ({"iwae": lambda w: -(torch.logsumexp(w, 0) - math.log(len(w)))}, "opposite sign"),
        ({"iwae": lambda w: 2 * (torch.logsumexp(w, 0) - math.log(len(w)))}, "is 2 times what it should be"),
        ({"iwae": exits}, "raised SystemExit"),
    ],
)
def test_what_cannot_be_right_is_explained_and_not_dumped(answer, says):
    verdict = say("q1", **answer)
    assert not verdict.passed and says in verdict.text
    assert "Traceback" not in verdict.text and len(verdict.text) < 400


def test_a_verdict_shows_text_as_text():
    verdict = say("q1", iwae=lambda w: {}["<script>"])
    assert "<script>" not in verdict._repr_html_() and "<code>iwae</code>" in verdict._repr_html_()
    assert repr(say("q2", first_order_gap=lambda m, s, K: math.expm1(s**2) / 2 / K)).startswith("q2 passed")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([1, 2], "should return a dict with the entries 'a', 'b'"),
        ({"a": 1}, "lost its entry 'b'"),
        ({"a": 1, "b": None}, "its entry 'b' is still empty"),
    ],
)
def test_a_dict_has_all_its_entries(value, says):
    with pytest.raises(Wrong, match=says):
        expect.entries(value, ("a", "b"), "`f` should return")["b"]
    assert expect.entries({"a": 0, "b": 0}, ("a", "b"), "`f` should return") == {"a": 0, "b": 0}


def test_one_number_is_one_number():
    assert expect.number(torch.tensor([3.0]), "it") == expect.number(3, "it") == 3
    with pytest.raises(Wrong, match="it should be one number; it has shape"):
        expect.number([1, 2], "it")
    with pytest.raises(Wrong, match="it should be numbers"):
        expect.number("three", "it")


def test_a_check_leaves_no_trace():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    say("q5", resample=lambda z, log_w: z[torch.randint(len(z), ())])
    assert torch.equal(torch.rand(3), expected)
    assert bounds.iwae(torch.zeros(2, 1)) == 0  # open again, also after an answer that asked for it


def test_solutions_open_after_a_try():
    grader = Grader(5)
    assert "first try" in grader.solution("q2").text
    grader.check("q2", {})
    assert grader.solution("q2").startswith("```python\ndef first_order_gap")


@pytest.mark.parametrize(("name", "question"), QUESTIONS)
def test_hints_come_one_by_one_before_the_solution(name, question):
    grader = Grader(int(name[:2]))
    first, second = grader.hint(question), grader.hint(question)
    assert first.startswith("1. ") and "2. " not in first and "once more" in first
    assert second.startswith(first.splitlines()[0] + "\n2. ") and second.endswith("That is all.")
    assert grader.hint(question) == second


def test_the_whole_set_is_shown_and_remembered_over_a_restart():
    right = {"first_order_gap": lambda m, s, K: (math.exp(s**2) - 1) / (2 * K)}
    grader = Grader(5)
    assert {state for state, _ in grader.check(namespace={}).rows.values()} == {"left"}
    seen = grader.check(namespace=right | {"iwae": lambda log_w: log_w.mean(0)})
    assert [seen.rows[q][0] for q in ("q1", "q2", "q3")] == ["tried", "passed", "left"]
    assert "1 passed, 1 tried, 4 left; 2 of 15 points" in repr(seen)
    assert "1 passed, 1 tried, 4 left" in seen._repr_html_()
    after = Grader(5).check(namespace={})  # another kernel, in the same folder
    assert after.rows == seen.rows
    assert {state for state, _ in Grader(6).check(namespace={}).rows.values()} == {"left"}
    assert Grader(5).check("q2", {"first_order_gap": lambda m, s, K: 0.0}).passed is False
    assert Grader(5).check(namespace={}).rows["q2"][0] == "passed"  # it did, and that is not lost


def test_a_grader_works_where_nothing_can_be_remembered(tmp_path):
    (tmp_path / ".vaelearn_progress.json").mkdir()
    assert Grader(5).check(namespace={}).rows["q1"] == ("left", 2)
    Grader(5).check("q2", {"first_order_gap": lambda m, s, K: 0.0})


def test_the_parts_that_hold_are_shown():
    prediction = module("05_importance_weighting", "wrong").wrong
    prediction = next(one.answers for one in prediction if one.says == "no better q")
    seen = Grader(5).check(namespace=prediction)
    assert seen.rows["q3"][0] == "tried, 4 of 5 parts" and "0 passed, 1 tried, 5 left" in seen.total
    assert "tried, 4 of 5 parts" in repr(seen) and "tried, 4 of 5 parts" in seen._repr_html_()


@pytest.mark.parametrize("text", ["{", "[]", '{"5": []}', '{"5": {"q1": 3, "q2": "nonsense"}}'])
def test_a_memory_that_cannot_be_read_is_written_anew(text, tmp_path):
    (tmp_path / ".vaelearn_progress.json").write_text(text)
    assert {state for state, _ in Grader(5).check(namespace={}).rows.values()} == {"left"}
    Grader(5).check("q2", {"first_order_gap": lambda m, s, K: 0.0})
    assert Grader(5).check(namespace={}).rows["q2"][0] == "tried"


def test_what_shows_an_answer_waits_until_it_has_passed(capsys):
    grader = Grader(5)
    grader.check("q2", {"first_order_gap": lambda m, s, K: 0.0})
    assert not grader.after("q2")
    assert capsys.readouterr().out == "This cell runs once the check of q2 has passed.\n"
    grader.check("q2", {"first_order_gap": lambda m, s, K: (math.exp(s**2) - 1) / (2 * K)})
    assert grader.after("q2") and Grader(5).after("q2") and not capsys.readouterr().out


def test_unknown_sets_and_questions_say_which_there_are():
    with pytest.raises(ValueError, match="There are sets for 1, 2, 3"):
        Grader(99)
    with pytest.raises(ValueError, match="q1, q2, q3, q4, q5"):
        Grader(5).check("q9")


# What checks are built of.


def draws(seed):
    answer = Answer("f", {"f": lambda: torch.rand(3)})
    answer.seed = seed
    return answer(), answer()


def test_each_call_draws_anew_and_a_seed_repeats_them():
    one, two = draws(7)
    assert not torch.equal(one, two)
    assert torch.equal(torch.stack([one, two]), torch.stack(draws(7)))


def test_float32_is_rounded_and_float64_is_not():
    expect.close(torch.tensor([1.00003], dtype=torch.float32), [1.0], "it")
    with pytest.raises(Wrong):
        expect.close(torch.tensor([1.00003]), [1.0], "it")


def test_means_are_judged_by_a_right_answers_standard_error(generator):
    noise, ones = torch.randn(2000, 2, generator=generator), torch.ones(2)
    expect.mean(1 + noise, ones, "it", ones)
    expect.mean(noise, 0 * ones, "it", ones)
    with pytest.raises(Wrong, match=r"it is off.*ratio to the exact one is 0\.[78]"):
        expect.mean(0.8 + noise, ones, "it", ones)
    with pytest.raises(Wrong, match=r"half\. \(It is \d+ standard errors"):
        expect.mean(0.5 + noise, ones, "it", ones, {"that is half.": 0.5 * ones})
    with pytest.raises(Wrong, match=r"standard errors from the exact one\.$"):
        expect.mean(0.5 + noise, 0 * ones, "it", ones)
    with pytest.raises(Wrong, match="holds nan"):
        expect.mean(noise + float("nan"), ones, "it", ones)


@pytest.mark.parametrize("noise", [1.0, 2.0, 4.0, 8.0, 16.0, 1000.0])
def test_noise_buys_no_tolerance(noise, generator):
    wrong = 0.75 + noise * torch.randn(2000, 20, generator=generator)
    with pytest.raises(Wrong, match="is off" if noise == 1 else "too noisy|is off"):
        expect.mean(wrong, torch.ones(20), "it", torch.ones(20))


def test_right_on_average_and_drowned_in_noise_is_told_so(generator):
    ones = torch.ones(2)
    with pytest.raises(Wrong, match=r"scatter (2\.9|3|3\.1) times as far as a right answer's"):
        expect.mean(1 + 3 * torch.randn(2000, 2, generator=generator), ones, "it", ones)


def test_gradients_are_found_in_each_tensor_and_in_place_is_allowed():
    def f(a, n, b, unused):
        a *= n
        return (a * b).sum(), "more"

    a, b = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    in_a, in_b, in_unused = gradient_of(f, a, 2, b, torch.ones(3))
    assert torch.equal(in_a, 2 * b) and torch.equal(in_b, 2 * a) and torch.equal(in_unused, torch.zeros(3))
    with pytest.raises(Wrong, match="no gradient"):
        gradient_of(lambda a: a.detach(), a)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
