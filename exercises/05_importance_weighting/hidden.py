"""The teacher's further checks of chapter 5's exercises."""

import math

import torch

from vaelearn import bounds
from vaelearn.exercises import ch05, expect
from vaelearn.exercises.answers import closes, gradient_of


@closes("bounds.iwae", "bounds.log_mean_exp")
def q1(iwae, fresh):
    ch05.q1(iwae, fresh)
    K, B = fresh.sizes(2)
    log_w = (200 * fresh.normal(K, B)).float()
    expect.close(
        iwae(log_w),
        bounds.iwae(log_w),
        "iwae of float32 log-weights hundreds of nats apart",
    )
    expect.close(iwae(log_w[:1]), log_w[0], "iwae of a single sample")


def q2(first_order_gap, fresh):
    ch05.q2(first_order_gap, fresh)
    s, K = float(fresh.uniform(0.2, 0.4)), 64
    log_w = s * fresh.normal(K, 200_000) - s**2 / 2
    second = 5 * (math.exp(s**2) - 1) ** 2 / K**2
    gap = -bounds.iwae(log_w)
    error = 5 * float(gap.std()) / len(gap) ** 0.5 + second
    expect.that(
        abs(float(first_order_gap(-(s**2) / 2, s, K)) - float(gap.mean()))
        < error,
        "first_order_gap does not match a simulated gap.",
    )


def q3(prediction, fresh):
    ch05.q3(prediction, fresh)


def q4(loss_and_bound, fresh):
    ch05.q4(loss_and_bound, fresh)
    K, B = fresh.sizes(2)
    deep = 3 * fresh.normal(K, B) - 900
    expect.close(
        loss_and_bound(deep)[1],
        bounds.iwae(deep),
        "the bound of log-weights near -900",
    )
    expect.close(
        loss_and_bound.run(gradient_of, deep)[0],
        -torch.softmax(deep, 0) / B,
        "the gradient near -900",
    )


def q5(resample, fresh):
    ch05.q5(resample, fresh)
    K, B = fresh.sizes(2, 3, 7)
    z, log_w = fresh.normal(K, B, 1), fresh.normal(K, B) - 900
    expect.that(
        bool(torch.as_tensor(resample(z, log_w)).isfinite().all()),
        "resample fails for log-weights of -900.",
    )
    log_w[0] = 0
    expect.close(
        resample(z, log_w), z[0], "resample where one sample has all the weight"
    )


def q6(exact_bound, fresh):
    ch05.q6(exact_bound, fresh)
    values = fresh.uniform(0.1, 4, 1)
    one = exact_bound(values, torch.ones(1).double(), 5)
    expect.close(one, values[0].log(), "exact_bound where w is a constant")
