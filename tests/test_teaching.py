"""What a teacher gets: the plan in hours, exam questions, whose numbers are computed here, and the pack."""

import math
import re
from itertools import product

import pytest
import torch
from bs4 import BeautifulSoup
from conftest import ROOT
from torch.distributions import Bernoulli, Normal, kl_divergence

import vaelearn
from tools import pack
from vaelearn import bounds, divergences, gradients
from vaelearn.exact import LinearGaussian

SETS = {int(folder.name[:2]): folder for folder in pack.sets()}
log, exp, root = math.log, math.exp, math.sqrt


def exam(chapter):
    """The questions of a chapter's exam by number: title, question, solution."""
    text = (SETS[chapter] / "teacher.md").read_text("utf-8").split("\n## Exam\n")[1]
    found = re.findall(r"^### (\d+\.\d) (.*)\n((?s:.*?))\*\*Solution\.\*\*((?s:.*?))(?=^### |\Z)", text, re.M)
    return {number: texts for number, *texts in found}


@pytest.mark.parametrize("chapter", SETS)
def test_every_chapter_has_goals_and_three_exam_questions_with_solutions(chapter):
    questions = exam(chapter)
    assert [*questions] == [f"{chapter}.{n}" for n in (1, 2, 3)]
    for title, question, solution in questions.values():
        assert re.search(r"\((5|10|15) minutes\)$", title) and len(question) > 100 and len(solution) > 100
    text = (SETS[chapter] / "teacher.md").read_text("utf-8")
    assert 4 <= text.split("## What may be skipped")[0].count("\n- ") <= 5
    assert re.findall(r"^#+ .*", text, re.M)[0].startswith(f"# Chapter {chapter}: ")


# The numbers of the solutions, in their order.


def split(p_data, encoder, prior):
    q_z = p_data @ encoder
    kl = [torch.xlogy(encoder, encoder / other).sum(1) for other in (prior, q_z)]
    return (
        float(p_data @ kl[0]),
        float(p_data @ kl[1]),
        float(torch.xlogy(q_z, q_z / prior).sum()),
        kl[0].tolist(),
    )


def jensen_shannon():
    z = torch.linspace(-12, 13, 100_001, dtype=torch.float64)
    q, p = Normal(1.0, 1.0).log_prob(z), Normal(0.0, 1.0).log_prob(z)
    m = torch.logaddexp(q, p) - log(2)
    return float(torch.trapezoid((q.exp() * (q - m) + p.exp() * (p - m)) / 2, z))


def line():
    """Chapter 2's and 5's example: x ~ N(2z, 1) is 1, and q is the prior."""
    model = LinearGaussian(1, 1).double()
    with torch.no_grad():
        for name, value in {"W": 2, "b": 0, "log_sigma": 0, "A": 0, "c": 0, "log_s": 0}.items():
            getattr(model, name).fill_(value)
    x = torch.ones(1, 1, dtype=torch.float64)
    posterior = model.true_posterior(x)
    found = model.elbo(x), model.log_prob(x), posterior.mean, posterior.variance
    return [number.item() for number in found]


def two_bits(f, baseline):
    """Mean and variance of an estimator with two fair bits: its values, enumerated."""
    values = torch.tensor(
        [sum((f[a] - b) * (a - 0.5) for a, b in baseline(i, j)) / 2 for i, j in product((0, 1), repeat=2)]
    )
    return float(values.mean()), float(values.var(correction=0))


def shares(bound, log_w):
    log_w = log_w.clone().requires_grad_()
    return torch.autograd.grad(bound(log_w).sum(), log_w)[0].flatten().tolist()


def numbers():
    """Of each question what its solution must say, computed."""
    f64 = torch.float64
    said = {}
    joint, q = torch.tensor([0.1, 0.15], dtype=f64), torch.tensor([0.5, 0.5], dtype=f64)
    posterior = joint / joint.sum()
    said["1.1"] = [
        f"{joint.sum().log():.4f}",
        f"({posterior[0]:.1f}, {posterior[1]:.1f})",
        f"{(q * (joint / q).log()).sum():.4f}",
        f"{(q * (q / posterior).log()).sum():.4f}",
    ]
    x, r = torch.tensor([0.0, 4.0], dtype=f64), torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=f64)
    pi, rate = r.mean(0).requires_grad_(), (r.T @ x / r.sum(0)).requires_grad_()
    energy = (r * (pi.log() + torch.distributions.Poisson(rate).log_prob(x[:, None]))).sum()
    slopes = torch.autograd.grad(energy, (pi, rate))
    assert slopes[1].abs().max() < 1e-9 and abs(slopes[0][0] - slopes[0][1]) < 1e-9  # the multiplier
    said["1.2"] = [f"({pi[0]:.2f}, {pi[1]:.2f})", f"{rate[0]:.3f}", f"{rate[1]:.3f}"]

    elbo, log_p, mean, variance = line()
    kl = kl_divergence(Normal(0.0, 1.0), Normal(mean, root(variance)))
    assert abs(kl - (log_p - elbo)) < 1e-6
    said["2.1"] = [f"{elbo:.4f}", f"{log_p:.4f}", f"({mean:.1f}, {variance:.1f})", f"{kl:.4f}"]
    sigma = torch.tensor([[1, 0.6], [0.6, 1]], dtype=f64)
    widths = 1 / sigma.inverse().diagonal()
    normal = torch.distributions.MultivariateNormal
    kl = kl_divergence(
        normal(torch.zeros(2, dtype=f64), widths.diag()), normal(torch.zeros(2, dtype=f64), sigma)
    )
    said["2.2"] = [f"{widths[0]:.2f}", f"{kl:.4f}"]
    said["2.3"] = [f"{784 / 20:.1f}", f"{784 / 40:.1f}", f"{root(784 / 40):.1f}"]

    f = {1: 11.0, 0: 10.0}
    one = torch.tensor([f[z] * (z - 0.5) for z in (0, 1)])
    said["3.1"] = [f"{one.mean():.2f}", f"{one.var(correction=0):.4f}", f"{(f[1] + f[0]) / 2:.1f}"]
    mean, variance = two_bits(f, lambda i, j: [(i, f[j]), (j, f[i])])
    said["3.2"] = [f"{mean:.2f}", f"{variance:.4f}"]
    said["3.3"] = [f"{100**2 * 8 / 0.5**2:,.0f}".replace(",", "{,}")]

    moment = [math.factorial(n) for n in range(7)]
    path = 4 * (moment[4] - moment[2] ** 2)
    score = moment[4] - 2 * moment[5] + moment[6] - (moment[2] - moment[3]) ** 2
    said["4.1"] = [f"{path}/", f"{score}/", f"{score / path:.1f} times"]
    said["4.2"] = [f"{1 / root(2 * math.pi):.4f}"]
    said["4.3"] = [f"= {1 / 0.5**2:.0f}$"]

    w, p = torch.tensor([4.0, 0.25], dtype=f64), torch.tensor([0.2, 0.8], dtype=f64)
    pairs = torch.cartesian_prod(torch.arange(2), torch.arange(2)).T
    L = [(p * w.log()).sum(), (p[pairs].prod(0) * bounds.iwae(w.log()[pairs])).sum()]
    spread = (p * w**2).sum() - 1
    said["5.1"] = [f"{L[0]:.4f}", f"{L[1]:.4f}", f"{spread / 4:.4f}", f"{spread / 2:.3f}", f"{-L[0]:.4f}"]
    log_w = torch.tensor([0.0, -1, -3], dtype=f64)
    weights = log_w.softmax(0)
    bound, logged = bounds.iwae(log_w), (weights * log_w).sum()
    listed = ", ".join(f"{weight:.4f}" for weight in weights)
    entropy = -(weights * weights.log()).sum()
    assert abs(logged - bound - (log(3) - entropy)) < 1e-9
    said["5.2"] = [f"{bound:.4f}", listed, f"{logged:.4f}", f"{logged - bound:.4f}", f"{entropy:.4f}"]
    elbo, log_p, d, v = line()
    z = torch.linspace(-9, 9, 20_001, dtype=f64)
    ratio = Normal(d, root(v)).log_prob(z) - Normal(0.0, 1.0).log_prob(z)
    second = float(torch.trapezoid((2 * ratio + Normal(0.0, 1.0).log_prob(z)).exp(), z))
    said["5.3"] = [f"{second:.4f}", f"{(second - 1) / 100:.4f}", f"{log_p - elbo:.4f}"]

    said["6.1"] = [f"{2 * root(64):.0f}", f"{2 / 8:.2f}", f"{(2 / 0.25) ** 2:.0f}$"]
    said["6.2"] = [f"{root(2 / (1000 * math.pi)):.4f}", f"{1 / 1000:.3f}"]

    s = 0.5
    variance, elbo = exp(s**2) - 1, s**2 / 2
    gaps = [elbo, variance / 128, variance / 32, 0.1 * elbo + 0.9 * variance / 128]
    assert gaps[0] > gaps[3] > gaps[2] > gaps[1] and 0.05 * elbo + 0.95 * variance / 128 < gaps[2]
    said["7.1"] = [f"{variance:.4f}", *(f"{gap:.4f}" for gap in gaps)]
    log_w = torch.tensor([[1.0, 1], [1, 3]], dtype=f64).log()  # samples by groups
    assert shares(bounds.miwae, log_w) == pytest.approx([1 / 4, 1 / 8, 1 / 4, 3 / 8])
    assert shares(bounds.iwae, log_w.reshape(4)) == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])
    ciwae = shares(lambda w: bounds.ciwae(w, 0.5), log_w.reshape(4))
    said["7.2"] = [f"({ciwae[0]:.4f}, {ciwae[1]:.4f})", f"({ciwae[2]:.4f}, {ciwae[3]:.4f})"]
    a = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=f64)
    pi = (2 * a).clamp(max=1)
    noise = a**2 * (1 / pi - 1)
    said["7.3"] = [", ".join(f"{n:g}" for n in pi), *(f"{n:g}" for n in noise[1:]), f"{noise.sum():.4f}"]

    weights = torch.tensor([0.7, 0.2, 0.1])
    squares = weights**2
    said["8.1"] = [", ".join(f"{n:.2f}" for n in squares), f"{squares.sum():.2f}", f"{1 / squares.sum():.2f}"]
    log_w = torch.tensor([[0.0], [-2]], dtype=f64)
    reward = bounds.iwae(log_w) - gradients.geometric_mean_bound(log_w)
    said["8.3"] = [f"{bounds.iwae(log_w).item():.4f}", f"{reward[0].item():.4f}", f"{reward[1].item():.4f}"]

    encoder = torch.tensor([[0.9, 0.1], [0.1, 0.9]], dtype=f64)
    average, information, marginal, each = split(q, encoder, torch.tensor([0.2, 0.8], dtype=f64))
    found = [information, marginal, *each, average]
    said["9.1"] = [*(f"{n:.4f}" for n in found), f"{Bernoulli(0.9).entropy():.4f}"]
    said["9.2"] = [f"{log(100):.4f}", f"{log(50_000):.4f}"]

    z, y = torch.tensor([[0.0], [2]], dtype=f64), torch.ones(2, 1, dtype=f64)
    u, v = (divergences.mmd(z, y, bandwidth=1.0, unbiased=unbiased).item() for unbiased in (True, False))
    said["10.2"] = [f"{exp(-2):.4f}", f"{exp(-0.5):.4f}", f"{u:.4f}", f"{v:.4f}"]
    said["10.3"] = [f"{3.0**-25 * 1e12:.1f} \\cdot 10^{{-12}}", f"{(1 + 2 / 50) ** -25:.4f}"]

    said["11.1"] = [f"{log(2):.4f}", f"{log(2) - jensen_shannon():.4f}"]
    gain = torch.tensor([82.6, 83.3, 82.2], dtype=f64) - torch.tensor([80.9, 81.4, 80.6], dtype=f64)
    apart = [torch.tensor(row, dtype=f64).std() for row in ([80.9, 81.4, 80.6], [82.6, 83.3, 82.2])]
    found = [gain.mean(), gain.std(), gain.std() / root(3), *apart, root((apart[0] ** 2 + apart[1] ** 2) / 3)]
    said["11.3"] = [f"{n:.4f}" for n in found]

    two = torch.tensor([[80.0, 95, 102, 83], [79, 93, 102, 82]], dtype=f64)
    off, (one, other) = two[0] - two[1], two.var(1)
    found = [off.var(), root(off.var() / 4), one, other, root((one + other) / 4)]
    said["12.1"] = [*(f"{n:.4f}" for n in found), f"{math.ceil(off.var() / 0.01)} images"]
    best = 0.2 * 3 / (2 * root(math.pi))
    said["12.2"] = [f"{best:.4f}", f"{85 - best:.4f}"]
    pair = log(2), (log(3) + log(1)) / 2
    said["12.3"] = [f"{n:.4f}" for n in (pair[0], log(3), 2 * pair[0], pair[1], 2 * pair[0] - pair[1])]
    return said


NUMBERS = numbers()


@pytest.mark.parametrize("number", NUMBERS)
def test_a_solution_says_what_is_computed(number):
    solution = exam(int(number.split(".")[0]))[number][2]
    assert [value for value in NUMBERS[number] if value not in solution] == []


def test_no_solution_with_decimals_goes_unchecked():
    decimals = {
        n for chapter in SETS for n, (*_, text) in exam(chapter).items() if re.search(r"\d\.\d{3,}", text)
    }
    assert decimals - {"10.1"} <= {*NUMBERS}  # α = 0, λ = 0.001: 0 + 0.001 − 1


def test_simulations_agree_with_what_solutions_take_from_theorems():
    """Questions 6.2, 7.1, 7.3 and 8.2."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1000, 2000, generator=generator)
    report = noise.mean(0).abs() / noise.std(0)
    assert abs(report.mean() - 0.0252) < 5 * report.std() / 2000**0.5 + 1e-4
    log_w = 0.5 * torch.randn(16, 4, 40_000, generator=generator, dtype=torch.float64) - 0.125
    flat = log_w.flatten(0, 1)
    for bound, gap in (
        (bounds.miwae(log_w), 0.0089),
        (bounds.ciwae(flat, 0.1), 0.0145),
        (bounds.iwae(flat), 0.0022),
    ):
        assert abs(-bound.mean() - gap) < 5 * bound.std() / 200 + 3e-4
    a = torch.tensor([0.5, 0.3, 0.15, 0.05])[:, None].expand(4, 40_000)
    pi = (2 * a).clamp(max=1)
    total = torch.where(torch.rand(a.shape, generator=generator) < pi, a / pi, 0).sum(0)
    assert abs(total.mean() - 1) < 5 * (0.135 / 40_000) ** 0.5 and abs(total.var() - 0.135) < 0.01
    z = torch.randn(50_000, generator=generator, dtype=torch.float64)  # q = N(0, 1), posterior N(½, ¾)
    weights = (Normal(0.5, 0.75**0.5).log_prob(z) - Normal(0.0, 1.0).log_prob(z)).softmax(0)
    assert abs((weights * z).sum() - 0.5) < 0.03


# The plan, and the pack.

PAGE = (ROOT / "book" / "teaching.md").read_text("utf-8")


def hours(text):
    """2½ as a number."""
    return float(text.replace("½", "") or 0) + 0.5 * ("½" in text)


@pytest.mark.parametrize("chapter", SETS)
def test_the_hours_of_a_chapter_are_those_of_its_words_and_questions(chapter):
    folder = SETS[chapter]
    (row,) = re.findall(rf"^\| {chapter} \| ([\d½]+) \| ([\d½]+) \| (\d+) \| (\d+) \|$", PAGE, re.M)
    found = pack.reading(folder), pack.reading(folder, pack.skipped(folder))
    assert [hours(said) for said in row[:2]] == pytest.approx(found, abs=0.5)
    assert [int(said) for said in row[2:]] == [pack.working(folder), pack.working(folder, 3)]


def test_no_week_of_the_short_course_takes_more_than_five_hours():
    rows = re.findall(r"^\| (\d) \| chapters? ([^|:]*)[^|]*\| sets? ([^|]*) \| ([\d½]+) \|$", PAGE, re.M)
    assert [row[0] for row in rows] == list("123456")
    for _, chapters, sets, said in rows:
        read = sum(
            pack.reading(SETS[n], pack.skipped(SETS[n])) for n in map(int, re.findall(r"\d+", chapters))
        )
        work = sum(pack.working(SETS[n], 3) for n in map(int, re.findall(r"\d+", sets))) / 60
        assert hours(said) == pytest.approx(read + work, abs=0.6) and hours(said) <= 5


def test_minutes_are_read_as_the_questions_say_them():
    assert pack.working(SETS[3]) == 5 + 10 + 15 + 40 + 60 and pack.working(SETS[10], 3) == 25


def test_a_section_that_is_not_there_cannot_be_skipped():
    with pytest.raises(AssertionError, match="has no section"):
        pack.reading(SETS[1], ["No such section"])


def test_the_line_that_installs_the_package_names_its_version():
    assert f"/_downloads/vaelearn-{vaelearn.__version__}-py3-none-any.whl" in PAGE


def test_notes_hold_goals_hours_mistakes_and_exam_with_folded_solutions():
    notes = BeautifulSoup(pack.notes(SETS[4]), "html.parser")
    heads = [head.get_text().rstrip("¶") for head in notes.select("h1, h2")]
    assert heads[1:] == ["Goals", "What may be skipped", "Hours", "Typical mistakes", "Exam"]
    text = notes.get_text()
    assert re.search(r"To read: [\d.]+ hours, or [\d.]+ without .* first three questions 45\.", text)
    titles = [head.get_text() for head in notes.select("h3")]
    assert titles[:2] == ["1. a sample that can be pulled", "2. who pays for what?"]
    assert "the power is k. When you solve u = F(z) for z, its inverse comes out, 1/k." in text
    folded = [part.get_text() for part in notes.select("details")]
    assert len(folded) == 3 and r"488/\lambda^6" in folded[0] and text.count(r"488/\lambda^6") == 1


def test_slides_hold_theorems_predictions_figures_and_pitfalls_of_a_page():
    page = """<article><h1>Title</h1><h2>One<a class="headerlink">#</a></h2><p>text</p>
    <div class="proof theorem">T <a href="#x">1</a><span class="eqno">(5.1)</span></div>
    <div class="proof">not this</div><div class="predict">P</div>
    <h2>Two</h2><figure>F<script>no</script></figure>
    <div class="dropdown"><div class="proof theorem">folded</div></div></article>"""
    slides = BeautifulSoup(pack.slides(page), "html.parser").select("section")
    assert [slide.get_text() for slide in slides] == ["Title", "OneT 1", "OneP", "TwoF"]
