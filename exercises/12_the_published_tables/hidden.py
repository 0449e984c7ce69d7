"""The teacher's further checks of chapter 12's exercises."""

import math

import torch

from vaelearn import bounds
from vaelearn.exercises import ch12, expect
from vaelearn.exercises.answers import closes


def q1(compare, images_needed, fresh):
    ch12.q1(compare, images_needed, fresh)
    n = fresh.integer(200, 300)
    first, second = 85 + fresh.normal(n), 84 + fresh.normal(n)
    off = first - second
    said = expect.parts(
        compare(first.float(), second.float()), 2, "compare of float32 NLLs"
    )
    expect.close(said[0], off.mean(), "the difference of float32 NLLs")
    expect.close(said[1], off.std() / n**0.5, "the error of float32 NLLs")
    more = off.std() / (n + 0.5) ** 0.5
    expect.close(
        images_needed(first, second, float(more)),
        n + 1,
        "images_needed for an error just below the present one",
        tolerance=1e-9,
    )


def q2(reported, fresh):
    ch12.q2(reported, fresh)


def q3(flattery, chance, fresh):
    ch12.q3(flattery, chance, fresh)
    s = float(fresh.uniform(0.5, 2))
    expect.close(flattery(2, s), s / math.sqrt(math.pi), "flattery(2, s)")
    n, R = fresh.integer(4, 7), 200_000
    runs = s * fresh.normal(n + 1, R)
    lowest = runs[:n].min(0).values
    for what, seen, said in (
        ("flattery", -lowest, flattery(n, s)),
        ("chance", (lowest < runs[n]).double(), chance(n)),
    ):
        error = float(seen.std()) / R**0.5
        expect.that(
            abs(float(seen.mean()) - float(said)) < 5 * error,
            f"{what} does not match a simulation.",
        )


def q4(mean_nll, fresh):
    ch12.q4(mean_nll, fresh)
    K, B = fresh.integer(3, 6), fresh.integer(2, 5)
    log_w = (50 * fresh.normal(K, B) - 900).float()
    truth = -bounds.iwae(log_w).mean()
    expect.close(mean_nll([log_w]), truth, "mean_nll of a single chunk")
    expect.close(
        mean_nll(list(log_w.split(1))), truth, "mean_nll of chunks of one"
    )


@closes("gradients.left_out_bound")
def q5(leave_one_out, jackknife, fresh):
    ch12.q5(leave_one_out, jackknife, fresh)
    log_w = 2 * fresh.normal(2, 3)
    expect.close(leave_one_out(log_w), log_w.flip(0), "leave_one_out at K = 2")
    equal = (-85 + fresh.normal(1, 3)).expand(5, 3)
    expect.close(jackknife(equal), equal[0], "jackknife of equal weights")
    s, K = 0.5, 6
    log_w = s * fresh.normal(K, 100_000) - s**2 / 2  # log p(x) = 0
    left = torch.as_tensor(jackknife(log_w)).double()
    gap = -float(bounds.iwae(log_w).mean())
    expect.that(
        abs(float(left.mean())) < 0.25 * gap,
        "the jackknife of lognormal weights is not much nearer to log p(x) "
        "than the bound.",
    )


def q6(against_the_paper, fresh):
    ch12.q6(against_the_paper, fresh)
    ours = 85 + 0.1 * fresh.normal(4)
    one, two = (
        against_the_paper(85.0, sd, 4, ours) for sd in (1e-6, float(ours.std()))
    )
    from scipy import stats

    error = float(ours.std()) / 2
    expect.close(
        one["half width"],
        float(stats.t.ppf(0.975, 3)) * error,
        "the half width where their runs do not vary",
        tolerance=1e-4,
    )
    expect.close(
        two["half width"],
        float(stats.t.ppf(0.975, 6)) * error * 2**0.5,
        "the half width of two equal spreads",
    )
