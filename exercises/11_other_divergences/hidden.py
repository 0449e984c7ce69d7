"""The teacher's further checks of chapter 11's exercises."""

import math

import torch
import torch.nn.functional as F

from vaelearn import divergences
from vaelearn.exercises import ch11, expect
from vaelearn.exercises.answers import closes


@closes(
    "divergences.Adversarial.jensen_shannon", "divergences.Adversarial.loss"
)
def q1(js_estimate, fresh):
    ch11.q1(js_estimate, fresh)
    N, M = fresh.sizes(2, 3, 30)
    expect.that(
        abs(
            float(
                torch.as_tensor(
                    js_estimate(
                        torch.zeros(N).double(), torch.zeros(M).double()
                    )
                )
            )
        )
        < 1e-12,
        "js_estimate of a judge that says 0 everywhere should be 0.",
    )
    d_q, d_p = (60 * fresh.normal(n).float() for n in (N, M))
    truth = (
        math.log(2)
        + (
            F.logsigmoid(d_q.double()).mean()
            + F.logsigmoid(-d_p.double()).mean()
        )
        / 2
    )
    expect.close(js_estimate(d_q, d_p), truth, "js_estimate of float32 logits")


def q2(gain, fresh):
    ch11.q2(gain, fresh)
    ours, elbo = 90 + fresh.normal(2), 91 + fresh.normal(2)
    better = elbo - ours
    mean, error = gain(ours, elbo)
    expect.close(mean, better.mean(), "the mean gain over two seeds")
    expect.close(
        error, better.std() / 2**0.5, "its standard error over two seeds"
    )
    mean, error = gain(elbo + 5, elbo)
    expect.close(
        mean,
        -5.0,
        "the mean gain of a method that is 5 nats worse on each seed",
    )
    expect.that(
        abs(float(torch.as_tensor(error))) < 1e-9,
        "a gain that is the same on each seed has error 0.",
    )


def q3(missing_modes, fresh):
    ch11.q3(missing_modes, fresh)
    said = missing_modes(7, 7, 0.4)
    expect.that(
        all(
            abs(float(torch.as_tensor(said[name]))) < 1e-9
            for name in ("KL", "JS", "MMD", "Stein")
        ),
        "missing_modes: where every mode is in use, each divergence is 0.",
    )
    # Bumps of N(30 j, 1), on a grid.
    n = fresh.integer(3, 6)
    r = fresh.integer(1, n - 1)
    at = torch.linspace(-12, 30 * n - 18, 4000 * n, dtype=torch.float64)
    bumps = torch.exp(
        -((at - 30 * torch.arange(n)[:, None]) ** 2) / 2
    ) / math.sqrt(2 * math.pi)
    q, p = bumps[:r].mean(0) + 1e-300, bumps.mean(0) + 1e-300
    m = (q + p) / 2
    js = torch.trapezoid(q * (q / m).log() + p * (p / m).log(), at) / 2
    said = missing_modes(n, r, 0.5)
    expect.close(
        said["JS"], js, "JS against an integral on a grid", tolerance=1e-4
    )
    expect.close(
        said["KL"],
        torch.trapezoid(q * (q / p).log(), at),
        "KL against an integral on a grid",
        tolerance=1e-4,
    )


def q4(soft_logit, fresh):
    ch11.q4(soft_logit, fresh)
    # The loss at one point, and its slope in d, at the answer.
    r, a = 3 * fresh.normal(20), float(fresh.uniform(0.55, 0.99))
    d = torch.as_tensor(soft_logit(r, a)).double().clone().requires_grad_()
    soft = r.exp() * (
        -a * F.logsigmoid(d) - (1 - a) * F.logsigmoid(-d)
    ) - F.logsigmoid(-d)
    (slope,) = torch.autograd.grad((soft / (1 + r.exp())).sum(), d)
    expect.that(
        float(slope.abs().max()) < 1e-6,
        "the loss still has a slope at soft_logit(r, a).",
    )
    expect.close(
        soft_logit(r.float(), a), d.detach(), "soft_logit of float32 log-ratios"
    )
    expect.close(
        soft_logit(r[:1].squeeze(), a),
        d.detach()[0],
        "soft_logit of a single log-ratio",
    )


def q5(losses, fresh):
    ch11.q5(losses, fresh)
    N, M, L = fresh.sizes(3, 20, 60)
    z, y, weight = (
        fresh.normal(N, L),
        fresh.normal(M, L),
        3 * fresh.normal(L + 1),
    )
    ch11._game(losses, weight, z, y, " of a judge with large weights")


@closes(
    "divergences.stein_discrepancy",
    "divergences.Stein.__call__",
    "divergences._gram",
)
def q6(ksd, fresh):
    ch11.q6(ksd, fresh)
    N, L = 40, fresh.integer(3, 6)
    root = torch.eye(L).double() + 0.3 * fresh.normal(L, L)
    covariance, mean, h = (
        root @ root.T + 0.5 * torch.eye(L).double(),
        3 * fresh.normal(L),
        1.5,
    )
    z = mean + 2 + fresh.normal(N, L)
    prior = torch.distributions.MultivariateNormal(mean, covariance)
    truth = divergences.stein_discrepancy(z, prior, bandwidth=h)
    expect.close(ksd(z, mean, covariance, h), truth, "ksd of 40 codes")
    floats = (each.float() for each in (z, mean, covariance))
    expect.close(ksd(*floats, h), truth, "ksd in float32", tolerance=1e-3)
    z, mean, covariance = (
        fresh.normal(2, 1),
        fresh.normal(1),
        fresh.uniform(0.5, 2, 1, 1),
    )
    prior = torch.distributions.MultivariateNormal(mean, covariance)
    expect.close(
        ksd(z, mean, covariance, h),
        divergences.stein_discrepancy(z, prior, bandwidth=h),
        "ksd of two codes in one dimension",
    )
