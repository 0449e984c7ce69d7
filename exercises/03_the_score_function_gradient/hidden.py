"""The teacher's further checks of chapter 3's exercises."""

import torch

from vaelearn import exact
from vaelearn.exercises import ch03, expect
from vaelearn.exercises.answers import closes


@closes("gradients.score_function")
def q1(surrogate, fresh):
    ch03.q1(surrogate, fresh)
    K, B = fresh.sizes(2)
    log_p, log_q, b = (
        50 * fresh.normal(K, B) - 2000,
        10 * fresh.normal(K, B) - 900,
        fresh.normal(B) - 500,
    )
    truth = (log_p - log_q - b) / (K * B)
    where = "the slope in log q, far below zero"
    expect.close(surrogate.run(ch03.slopes, log_p, log_q, b)[0], truth, where)
    single = [t.float() for t in (log_p, log_q, b)]
    expect.close(
        surrogate.run(ch03.slopes, *single)[0], truth, f"{where}, in float32"
    )
    one = surrogate.run(ch03.slopes, log_p[:1], log_q[:1], b)[0]
    expect.close(one, K * truth[:1], "the slope in log q with a single sample")
    one = surrogate.run(ch03.slopes, log_p[:, :1], log_q[:, :1], b[:1])[0]
    expect.close(
        one, B * truth[:, :1], "the slope in log q with a single data point"
    )


def q2(shares, fresh):
    ch03.q2(shares, fresh)
    for K in (2, fresh.integer(20, 900)):
        few = {
            "first": (K - 1) / K,
            "half": 0.5,
            "twice": (K - 1) / (K + 1),
            "largest": 1,
            "sum": 1,
        }
        ch03.compare_shares(shares, K, few)


def q3(loss_and_bound, fresh):
    ch03.q3(loss_and_bound, fresh)
    B = fresh.integer(3, 7)
    for K, level in ((2, -900), (fresh.integer(20, 50), 0)):
        log_p, log_q = 3 * fresh.normal(K, B) + level, fresh.normal(K, B) - 4
        log_w = log_p - log_q
        truth = -(log_w - log_w.mean(0)) / ((K - 1) * B)
        given = f"with K = {K} and log-weights near {level}"
        expect.close(
            loss_and_bound.run(ch03.slopes, log_p, log_q)[0],
            truth,
            f"the slope {given}",
        )
        ch03.compare_bound(
            loss_and_bound(log_w, log_q)[1], log_w, f"the bound {given}"
        )
    log_p, log_q = log_p.float(), log_q.float()
    expect.close(
        loss_and_bound.run(ch03.slopes, log_p, log_q)[0],
        truth,
        "the slope in float32",
    )


def q4(noise_to_signal, fresh):
    ch03.q4(noise_to_signal, fresh)
    ch03.compare_ratios(noise_to_signal(1, 2, -4.0, 0.3), 1, 2, -4.0, 0.3)
    # And in a real model: q has the posterior's shape, and each coordinate is off by its own amount.
    L, K, R = fresh.integer(2, 4), fresh.integer(4, 8), 20_000
    model = exact.LinearGaussian(L, L).double()
    with torch.no_grad():
        model.W.copy_(float(fresh.uniform(0.5, 1.5)) * torch.eye(L))
        model.perfect_e_step()
        model.c += fresh.uniform(0.3, 0.6, L)
        x = fresh.normal(1, L)
        elbo, log_p, q = model.elbo(x), model.log_prob(x), model.posterior(x)
        eps = fresh.normal(K, R, 1, L)
        z = q.mean + q.stddev * eps
        f = (
            model.prior().log_prob(z)
            + model.likelihood(z).log_prob(x)
            - q.log_prob(z)
        )
    g, score = model.gradient(x)["c"], eps / q.stddev.detach()
    pair = noise_to_signal(L, K, elbo.item(), (log_p - elbo).item())
    for ratio, b, name in zip(
        pair,
        (0, (f.sum(0) - f) / (K - 1)),
        ("no", "leave-one-out"),
        strict=True,
    ):
        error = (((f - b)[..., None] * score).mean(0) - g).square().sum(
            -1
        ) / g.square().sum()
        expect.mean(
            error,
            [float(ratio)],
            f"a simulation's noise-to-signal ratio, with {name} baseline,",
            error.std(0),
        )


def q5(local_gradient, fresh):
    ch03.q5(local_gradient, fresh)
    # Unbiased: over all z, weighted by q(z), it is the gradient of the enumerated expectation.
    B, L = fresh.sizes(2, 2, 5)
    table, logits = fresh.normal(B, 2**L), fresh.normal(B, L).requires_grad_()
    z = ch03.states(L)[:, None].repeat(1, B, 1)
    q = torch.distributions.Bernoulli(logits=logits).log_prob(z).sum(-1).exp()
    exact_gradient = torch.autograd.grad((q * table.T).sum(), logits)[0]
    q, logits = q.detach()[..., None], logits.detach()
    values = torch.as_tensor(
        local_gradient.run(ch03.with_table, table, z, logits)
    )
    expect.close(
        (q * values).sum(0),
        exact_gradient,
        "the mean of local_gradient over all z",
    )
    level = local_gradient.run(ch03.with_table, table + 100, z, logits)
    expect.close(
        level,
        ch03.local_truth(table, z, logits)[0],
        "local_gradient with f 100 nats higher",
    )

    for K, B, L in ((1, 3, 4), (3, 1, 2), (2, 3, 1)):
        table, logits = fresh.normal(B, 2**L), 3 * fresh.normal(B, L)
        z = (fresh.uniform(0, 1, K, B, L) < 0.5).double()
        values = local_gradient.run(ch03.with_table, table, z, logits)
        truth, mistakes = ch03.local_truth(table, z, logits)
        expect.close(
            values,
            truth,
            f"local_gradient with K, B, L = {K}, {B}, {L}",
            mistakes,
        )
    values = local_gradient.run(
        ch03.with_table, table.float(), z.float(), logits.float()
    )
    expect.close(
        torch.as_tensor(values).float(), truth, "local_gradient in float32"
    )
