"""The teacher's further checks of chapter 1's exercises."""

import math

import torch

from vaelearn.exercises import ch01, expect
from vaelearn.exercises.answers import closes


def q1(responsibilities, fresh):
    ch01.q1(responsibilities, fresh)
    N, C = fresh.sizes(2)
    log_weights, log_lik = (
        torch.log_softmax(fresh.normal(C), 0),
        200 * fresh.normal(N, C),
    )
    for shift, where in ((900, "near +900"), (-9000, "near -9000")):
        expect.close(
            responsibilities(log_weights, log_lik + shift),
            torch.softmax(log_weights + log_lik + shift, 1),
            f"the table of responsibilities of log-densities {where}, hundreds of nats apart",
        )
    float32 = responsibilities(log_weights.float(), log_lik.float())
    expect.close(
        float32,
        torch.softmax(log_weights.float() + log_lik.float(), 1),
        "the table of responsibilities in float32",
        tolerance=1e-4,
    )
    log_weights[0] = -math.inf
    expect.close(
        responsibilities(log_weights, log_lik),
        torch.softmax(log_weights + log_lik, 1),
        "the table of responsibilities where a component has weight 0",
    )
    one = responsibilities(torch.zeros(1).double(), log_lik[:, :1])
    expect.close(
        one,
        torch.ones(N, 1),
        "the table of responsibilities of a single component",
    )


def q2(bound_and_gap, fresh):
    ch01.q2(bound_and_gap, fresh)
    N, C = fresh.sizes(2, 3, 9)
    log_joint, q = (
        5 * fresh.normal(N, C) - 900,
        torch.softmax(4 * fresh.normal(N, C), 1),
    )
    log_p = log_joint.logsumexp(1)
    bound, gap = ch01.tensors(bound_and_gap(log_joint, q))
    truth = (q * (log_joint - q.log())).sum(1)
    expect.close(bound, truth, "the bound of log-joints near -900")
    expect.close(bound + gap, log_p, "bound + gap, which is log p(x),")
    _, gap = ch01.tensors(bound_and_gap(log_joint, torch.softmax(log_joint, 1)))
    expect.that(
        float(gap.abs().max()) < 1e-3,
        "The gap of the posterior itself should be zero.",
    )
    bound, _ = ch01.tensors(bound_and_gap(log_joint.float(), q.float()))
    expect.close(bound, truth, "the bound in float32", tolerance=1e-4)

    # A component that is impossible for the model and for q: 0 · (−∞) must count as 0.
    log_joint[:, 0], q[:, 0] = -math.inf, 0
    q = q / q.sum(1, keepdim=True)
    bound, gap = ch01.tensors(bound_and_gap(log_joint, q))
    expect.close(
        bound,
        (q[:, 1:] * (log_joint[:, 1:] - q[:, 1:].log())).sum(1),
        "the bound where q and p(x, z) are both 0",
    )
    expect.close(
        bound + gap,
        log_joint.logsumexp(1),
        "bound + gap where q and p(x, z) are both 0",
    )
    bound, gap = ch01.tensors(
        bound_and_gap(log_joint[:, 1:2], torch.ones(N, 1).double())
    )
    expect.close(bound, log_joint[:, 1], "the bound of a single component")
    expect.that(
        float(gap.abs().max()) < 1e-3, "A single component leaves no gap."
    )


def q3(ledger, fresh):
    ch01.q3(ledger, fresh)
    # Where EM stands still, nothing moves any more, whatever the numbers.
    here = -float(fresh.uniform(1, 400))
    rest = torch.as_tensor(
        ledger(here, here, 0.0, 0.0, 0.0), dtype=torch.float64
    )
    expect.close(
        rest,
        torch.full((4, 2), here),
        "ledger at a fixed point of EM, with sure responsibilities",
    )
    ch01.q3(ledger, fresh)


@closes(*ch01.CLOSED_EM)
def q4(em_step, fresh):
    ch01.q4(em_step, fresh)
    # Several iterations end where the library's do.
    C, D = fresh.sizes(2, 2, 5)
    model, x = ch01.mixture(fresh, D, C), 2 * fresh.normal(200, D)
    theta = [
        model.logits.softmax(0).detach(),
        model.means.detach(),
        (2 * model.log_scales).exp().detach(),
    ]
    for _ in range(4):
        theta = em_step(*theta, x)
    model.em(x, 4)
    expect.close(
        theta[0],
        model.logits.softmax(0).detach(),
        "your answer for the weights after four iterations",
    )
    expect.close(
        theta[1],
        model.means.detach(),
        "your answer for the means after four iterations",
    )
    expect.close(
        theta[2],
        (2 * model.log_scales).exp().detach(),
        "your answer for the variances after four iterations",
    )

    # Far from every component all densities underflow; float32; a single component.
    far = torch.cat([x, x[:5] + 60])
    theta = ch01.em_by_hand(*theta, x)
    for value, truth in zip(
        em_step(*theta, far), ch01.em_by_hand(*theta, far), strict=True
    ):
        expect.close(value, truth, "em_step on data with five points far away")
    single = em_step(*(t.float() for t in theta), x.float())
    for value, truth in zip(single, ch01.em_by_hand(*theta, x), strict=True):
        expect.close(value, truth, "em_step in float32", tolerance=2e-4)
    one = em_step(torch.ones(1).double(), theta[1][:1], theta[2][:1], x)
    expect.close(
        one[2],
        x.var(0, correction=0, keepdim=True),
        "your answer for the variances of a single component",
    )


@closes("exact.GaussianMixture.em", "exact.GaussianMixture.m_step")
def q5(shared_m_step, fresh):
    ch01.q5(shared_m_step, fresh)
    C, D = fresh.sizes(2, 2, 5)
    x, r = fresh.normal(300, D), torch.softmax(2 * fresh.normal(300, C), 1)
    _, means, covariance = ch01.tensors(shared_m_step(x + 100, r))
    _, centre, spread = ch01.pooled(x, r)
    expect.close(
        means,
        centre + 100,
        "your answer for the means of data far from the origin",
    )
    expect.close(
        covariance,
        spread,
        "the covariance of data far from the origin",
        tolerance=1e-4,
    )

    # At a maximum of the expected log-joint its gradient is zero.
    weights, means, covariance = ch01.tensors(shared_m_step(x, r))
    means, root = (
        means.requires_grad_(),
        torch.linalg.cholesky(covariance).requires_grad_(),
    )
    normal = torch.distributions.MultivariateNormal(
        means, scale_tril=root, validate_args=False
    )
    energy = (r * (normal.log_prob(x[:, None]) + weights.log())).sum() / len(x)
    slopes = torch.autograd.grad(energy, (means, root))
    expect.that(
        all(float(slope.abs().max()) < 1e-3 for slope in slopes),
        "The expected log-joint still has a slope where shared_m_step stops: that is no maximum.",
    )

    one = shared_m_step(x, torch.ones(300, 1).double())
    expect.close(
        one[2], x.T.cov(correction=0), "the covariance of a single component"
    )
    sure = torch.nn.functional.one_hot(torch.arange(300) % C, C)
    expect.close(
        shared_m_step(x, sure.double())[2],
        ch01.pooled(x, sure.double())[2],
        "the covariance for sure r",
    )
    float32 = shared_m_step(x.float(), r.float())[2]
    expect.close(float32, spread, "the covariance in float32", tolerance=2e-4)


def q6(em_rate, fresh):
    ch01.q6(em_rate, fresh)
    # The distance to the fixed point, followed for a few iterations of EM.
    r = torch.sigmoid(1 + fresh.normal(fresh.integer(400, 600)))
    end = r.mean()
    log_ratio = torch.logit(r) - torch.logit(end)
    path = [end + 1e-6]
    for _ in range(3):
        path.append(torch.sigmoid(torch.logit(path[-1]) + log_ratio).mean())
    measured = float((path[3] - end) / (path[2] - end))
    expect.close(
        em_rate(r),
        measured,
        "em_rate, compared with EM itself,",
        tolerance=1e-4,
    )
    expect.close(
        em_rate(1 - r),
        measured,
        "em_rate with the two components exchanged",
        tolerance=1e-4,
    )
    same = torch.full((9,), float(fresh.uniform(0.2, 0.8)), dtype=torch.float64)
    expect.close(em_rate(same), 1.0, "em_rate where x says nothing about z")
    sure = 1e-4 + (1 - 2e-4) * (torch.arange(20) % 3 == 0).double()
    expect.close(
        em_rate(sure),
        ch01.rate_at(sure),
        "em_rate where x says nearly all about z",
    )
