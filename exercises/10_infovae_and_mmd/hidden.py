"""The teacher's further checks of chapter 10's exercises."""

import torch

from vaelearn import divergences
from vaelearn.exercises import ch10, expect
from vaelearn.exercises.answers import closes, gradient_of


@closes("divergences.imq", "divergences._gram")
def q1(imq, fresh):
    ch10.q1(imq, fresh)
    N, M, L = fresh.sizes(3)
    z, y = fresh.normal(N, L).float(), 10 * fresh.normal(M, L).float()
    s = (z.double()[:, None] - y.double()).square().sum(-1)
    expect.close(imq(z, y, 3.0), 9 / (9 + s), "imq of float32 codes")
    expect.close(
        imq(z[:1], y[:1], 0.5),
        0.25 / (0.25 + s[:1, :1]),
        "imq of one code and one draw",
    )
    z, y, C = z.double(), y.double(), 9.0
    apart = z[:, None] - y
    slope = (-2 * C / (C + s) ** 2)[..., None] * apart
    expect.close(
        imq.run(gradient_of, z, y, 3.0)[0],
        slope.sum(1),
        "the gradient of imq with respect to z",
    )


def q2(weights, fresh):
    ch10.q2(weights, fresh)
    expect.close(weights(1, 1000), (1, 999), "weights of whole numbers")
    expect.close(weights(0, 0), (0, 0), "weights where nothing costs anything")
    expect.that(
        ch10.refuses(weights, -2.0, -1.0),
        "weights(-2, -1) should raise a ValueError.",
    )
    expect.that(
        ch10.refuses(weights, 1.0, 1e-3),
        "weights(1, 0.001) should raise a ValueError.",
    )


def q3(factors, fresh):
    ch10.q3(factors, fresh)
    ch10._factors(factors, float(fresh.uniform(0.1, 0.6)))


def q4(infovae_loss, fresh):
    ch10.q4(infovae_loss, fresh)
    B, M, L = 40, 30, fresh.integer(20, 60)
    z, y = 0.3 + fresh.normal(B, L), fresh.normal(M, L)
    log_likelihood, kl = fresh.normal(B), fresh.normal(B).square()
    alpha, lam = float(fresh.uniform(-2, 1)), float(fresh.uniform(10, 1000))
    truth = (
        -log_likelihood.mean()
        + (1 - alpha) * kl.mean()
        + (alpha + lam - 1) * divergences.mmd(z, y)
    )
    loss = infovae_loss(log_likelihood, kl, z, y, alpha, lam)
    expect.close(loss, truth, f"the loss in {L} dimensions")
    half = infovae_loss(log_likelihood, kl, z, y, 0.5, 0.5)
    expect.close(
        half,
        0.5 * kl.mean() - log_likelihood.mean(),
        "the loss where the divergence's weight is 0",
    )
    slopes = infovae_loss.run(gradient_of, log_likelihood, kl, z, y, alpha, lam)
    even = torch.full((B,), 1 / B, dtype=torch.float64)
    expect.close(
        slopes[0], -even, "the loss's gradient with respect to log_likelihood"
    )
    expect.close(
        slopes[1], (1 - alpha) * even, "the loss's gradient with respect to kl"
    )


def q5(favourite_variance, fresh):
    ch10.q5(favourite_variance, fresh)
    # d (E V) / d s² = 0, by simulation: the means of k over all pairs at s = 1, and across.
    N, M, L = fresh.sizes(3, 3, 9)
    z, y = fresh.normal(20_000, N, L), fresh.normal(20_000, M, L)
    same, across = ((z @ other.mT).square().mean((1, 2)) for other in (z, y))
    s2 = float(torch.as_tensor(favourite_variance(N, L)))
    slope = s2 * same - across
    off = float(slope.mean() / slope.std()) * len(slope) ** 0.5
    expect.that(
        abs(off) < 5,
        f"favourite_variance({N}, {L}): a simulated V still has a slope there, of {off:.0f} standard errors.",
    )


@closes("divergences.mmd", "divergences._gram", "divergences.rbf")
def q6(mmd_to_prior, fresh):
    ch10.q6(mmd_to_prior, fresh)
    # The mean over prior draws of the two-sample statistic.
    N, L = 6, fresh.integer(1, 3)
    z, h = 0.5 + fresh.normal(N, L), float(fresh.uniform(0.7, 2))
    y = fresh.normal(2000, 8, L)
    sampled = torch.vmap(lambda y: divergences.mmd(z, y, bandwidth=h))(y)
    off = sampled - torch.as_tensor(mmd_to_prior(z, h))
    error = float(off.mean() / off.std()) * len(off) ** 0.5
    expect.that(
        abs(error) < 5,
        f"mmd_to_prior is {error:.0f} standard errors from the mean of the two-sample U-statistic.",
    )
    z = fresh.normal(2, 12)
    apart = float(
        torch.as_tensor(mmd_to_prior(z.float(), 3.0))
        - torch.as_tensor(mmd_to_prior(z, 3.0))
    )
    expect.that(
        abs(apart) < 1e-5,
        "mmd_to_prior of two float32 codes is not what it is in float64.",
    )
