"""The teacher's further checks of chapter 6's exercises."""

import math

import torch

from vaelearn.exercises import ch06, expect


def q1(snr, fresh):
    ch06.q1(snr, fresh)
    n, P = fresh.integer(30, 50), fresh.integer(3, 9)
    for name, g in (
        ("float32 draws", ch06.gradients(fresh, n, P).float()),
        ("draws of a single number", ch06.gradients(fresh, n)),
        ("draws far from 0", 1000 + ch06.gradients(fresh, n, P)),
        ("four axes", ch06.gradients(fresh, n, 2, 4, 3)),
    ):
        truths = [ch06.ratio(g.double(), correction) for correction in (1, 0)]
        ch06.close_to_one(snr(g), truths, f"snr of {name}", tolerance=1e-4)
    g = ch06.gradients(fresh, n, P)
    scaled = (
        torch.as_tensor(snr(1e-6 * g)).double()
        / torch.as_tensor(snr(g)).double()
    )
    expect.close(
        scaled,
        torch.ones(P),
        "snr of a gradient in other units, over the one before",
    )


def q2(factors, fresh):
    ch06.q2(factors, fresh)
    budget = float(fresh.uniform(2, 30))
    ch06.check_factors(factors, 1 / budget, budget)
    ch06.check_factors(
        factors, float(fresh.uniform(0.1, 0.9)), float(fresh.uniform(0.1, 0.9))
    )


def q3(largest_K, fresh):
    ch06.q3(largest_K, fresh)
    # What it promises: at that K the average's SNR is 2, and a longer wait buys a larger K.
    T, N, C = (
        fresh.integer(1000, 5000),
        fresh.integer(10, 40),
        float(fresh.uniform(0.1, 0.3)),
    )
    K = float(torch.as_tensor(largest_K(T, N, C)))
    expect.close(
        C * math.sqrt(T / K / K) * math.sqrt(N),
        2.0,
        "the average's SNR at largest_K",
    )
    later = float(torch.as_tensor(largest_K(T, 4 * N, C)))
    expect.close(
        later / K,
        2.0,
        "largest_K after four times as many steps, over the one before",
    )
    expect.close(largest_K(1, 3, 7.0), 1, "largest_K of a budget of one sample")


def q4(pooled_snr2, fresh):
    ch06.q4(pooled_snr2, fresh)
    ch06.check_pooled(
        pooled_snr2,
        ch06.gradients(
            fresh, fresh.integer(40, 60), fresh.integer(70, 90), signal=1.0
        ),
    )
    n = fresh.integer(20, 40)
    g = ch06.gradients(fresh, n, 1, signal=1.0).float()
    truth = g.double().mean(0).square().sum() / g.double().var(0).sum() - 1 / n
    by_n = (truth + 1 / n) * n / (n - 1) - 1 / (n - 1)
    ch06.close_to_one(
        pooled_snr2(g),
        [truth, by_n],
        "pooled_snr2 of float32 draws of one parameter",
        tolerance=1e-4,
    )
    expect.close(
        pooled_snr2(7 * g.double()),
        pooled_snr2(g.double()),
        "pooled_snr2 in other units",
    )


def q5(slope_interval, fresh):
    ch06.q5(slope_interval, fresh)
    ch06.check_slope(slope_interval, *ch06.measured(fresh, 3, 2), 12.706)
    ch06.check_slope(
        slope_interval, *ch06.measured(fresh, 11, 30, first=2.0), 2.045
    )
    # Exact data: the slope to the last digit, and an interval without width.
    K = torch.tensor([16.0, 40.0, 100.0, 300.0, 1000.0], dtype=torch.float64)
    level = fresh.normal(4, 1)
    exact = (-0.5 * K.log() + level + fresh.uniform(1, 3) / K).exp()
    slope, half = slope_interval(K, exact, 3.182)
    expect.close(slope, -0.5, "the mean slope of exact data")
    expect.that(
        abs(float(torch.as_tensor(half))) < 1e-6,
        "the half-width of exact data should be 0.",
    )


def q6(pull, resting_variance, fresh):
    ch06.q6(pull, resting_variance, fresh)
    ch06.check_pull(
        pull, *ch06.posterior_and_q(fresh, 1), fresh.integer(50, 900)
    )
    ch06.check_pull(
        pull, *ch06.posterior_and_q(fresh, 9), fresh.integer(50, 900)
    )
    d, v, _ = ch06.posterior_and_q(fresh, 3)
    for got in pull(0 * d, v, v, 64):
        zero = float(torch.as_tensor(got).abs().max())
        expect.that(zero < 1e-9, "pull should vanish where q is the posterior.")
    ch06.check_pull(pull, d, v, 0.6 * v, 64)
    v = fresh.uniform(0.01, 100, 7)
    expect.close(resting_variance(0 * v, v), v, "resting_variance where d is 0")
    ch06.check_rest(resting_variance, 4 * fresh.normal(7), v)
    # The two answers agree: no pull at rest.
    v = fresh.uniform(0.4, 1.6, 2)
    d = fresh.uniform(0.3, 0.7, 2) * v.sqrt()
    rest = torch.as_tensor(resting_variance(d, v)).double()
    at_rest = torch.as_tensor(pull(d, v, rest, 2)[1]).double()
    expect.that(
        float(at_rest.abs().max()) < 1e-6,
        "the pull on log s does not vanish at resting_variance.",
    )
