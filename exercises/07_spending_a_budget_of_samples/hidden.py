"""The teacher's further checks of chapter 7's exercises."""

import math

import torch

from vaelearn import bounds
from vaelearn.exercises import ch07, expect
from vaelearn.exercises.answers import closes, gradient_of


@closes("bounds.miwae", "bounds.ciwae")
def q1(miwae, ciwae, fresh):
    ch07.q1(miwae, ciwae, fresh)
    K, M, B = fresh.sizes(3, 3, 9)
    log_w = (100 * fresh.normal(K, M, B)).float()
    expect.close(
        miwae(log_w),
        bounds.miwae(log_w),
        "miwae of float32 log-weights hundreds of nats apart",
    )
    log_w = log_w.double() / 50
    expect.close(miwae(log_w[:1]), log_w[0].mean(0), "miwae at K = 1")
    expect.close(miwae(log_w[:, :1]), bounds.iwae(log_w)[0], "miwae at M = 1")
    shares = torch.softmax(log_w, 0) / M
    expect.close(
        miwae.run(gradient_of, log_w)[0],
        shares,
        "the gradient of miwae, its table of shares",
    )
    flat, beta = log_w[:, 0], float(fresh.uniform(0.1, 0.9))
    expect.close(ciwae(flat, 0.0), bounds.iwae(flat), "ciwae at β = 0")
    expect.close(ciwae(flat, 1.0), flat.mean(0), "ciwae at β = 1")
    shares = beta / K + (1 - beta) * torch.softmax(flat, 0)
    expect.close(
        ciwae.run(gradient_of, flat, beta)[0],
        shares,
        "the gradient of ciwae, its table of shares",
    )


def q2(factors, fresh):
    ch07.q2(factors, fresh)
    a, b, K, M = 4, 3, 16, 5
    expect.that(
        all(abs(float(v) - 1) < 1e-6 for v in factors(1, 1).values()),
        "factors(1, 1): where nothing changes, all factors are 1.",
    )
    # Simulated: log w ~ N(-s²/2, s²), for which log p(x) = 0. Control: the mean of r - 1.
    s = 0.4
    found = []
    for k, m in ((K, M), (a * K, b * M)):
        log_w = s * fresh.normal(k, m * 400) - s**2 / 2
        groups = bounds.iwae(log_w)
        gap = log_w.exp().mean(0) - 1 - groups
        spread = groups.view(m, 400).mean(0).std()
        found.append((float(gap.mean()), float(spread)))
    said = factors(a, b)
    for i, name in enumerate(("gap", "spread")):
        ratio = found[1][i] / found[0][i]
        expect.that(
            abs(math.log(float(said[name]) / ratio)) < 0.35,
            f'factors({a}, {b})["{name}"] does not match a simulation.',
        )


def q3(matching_beta, fresh):
    ch07.q3(matching_beta, fresh)
    s, K, M = float(fresh.uniform(0.3, 0.5)), 16, 4
    log_w = s * fresh.normal(K, M, 20_000) - s**2 / 2
    beta = float(matching_beta(s, K, M))
    apart = bounds.ciwae(log_w.flatten(0, 1), beta) - bounds.miwae(log_w)
    second = 3 * (math.exp(s**2) - 1) ** 2 / K**2
    expect.that(
        abs(float(apart.mean()))
        < 5 * float(apart.std()) / len(apart) ** 0.5 + second,
        "at the β of matching_beta, a simulated CIWAE and a simulated MIWAE differ.",
    )
    expect.close(
        matching_beta(s, K, 1),
        0.0,
        "matching_beta with M = 1, where the two budgets are one group",
    )


def q4(piwae_backward, fresh):
    ch07.q4(piwae_backward, fresh)
    K, B, D, L = fresh.sizes(4, 2, 7)
    model, x = fresh.linear_gaussian(D, L), 20 * fresh.normal(B, D)
    for shape in ((K, 1), (1, K)):
        log_w = ch07.drawn(model, x, shape, 7).log_w
        bound, phi, theta = piwae_backward.run(
            ch07.backward, model, x, shape, 7
        )
        joint = bounds.iwae(log_w.flatten(0, 1))
        what = f"with K, M = {shape[0]}, {shape[1]} and x far out"
        expect.close(bound, joint.detach(), f"the bound {what}")
        e_phi = ch07._gradients(model, -bounds.miwae(log_w).mean())[0]
        m_theta = ch07._gradients(model, -joint.mean())[1]
        expect.close(phi, e_phi, f"the gradient in φ {what}")
        expect.close(theta, m_theta, f"the gradient in θ {what}")


def q5(every_group, shuffled, fresh):
    ch07.q5(every_group, shuffled, fresh)
    N, B = fresh.sizes(2, 5, 9)
    log_w = 2 * fresh.normal(N, B) - 900
    expect.close(every_group(log_w, 1), log_w.mean(0), "every_group at K = 1")
    expect.close(
        every_group(log_w, N), bounds.iwae(log_w), "every_group at K = N"
    )
    order = torch.randperm(N, generator=fresh.generator)
    expect.close(
        every_group(log_w[order], 3),
        every_group(log_w, 3),
        "every_group of samples in another order",
    )
    rough = log_w.float()
    expect.close(
        every_group(rough, 2),
        ch07.every(rough, 2),
        "every_group of float32 log-weights",
    )
    expect.close(shuffled(log_w, 1, 2), log_w.mean(0), "shuffled at K = 1")
    expect.close(shuffled(log_w, N, 2), bounds.iwae(log_w), "shuffled at K = N")
    log_w = 2 * fresh.normal(6, B)
    values, mean = ch07.every_split(log_w, 3), ch07.every(log_w, 3)
    R = 2500
    off = (
        (torch.as_tensor(shuffled(log_w, 3, R)).double() - mean)
        / values.std(0, correction=0)
        * R**0.5
    )
    expect.that(
        float(off.abs().max()) < 5,
        "shuffled with many splits is not near the mean over all groups.",
    )


@closes("thinning.keep")
def q6(thin, added_noise, fresh):
    ch07.q6(thin, added_noise, fresh)
    shares = fresh.normal(20, 2).softmax(0)
    for c in (0.8, 6.0):
        draws = torch.as_tensor(thin(shares.repeat(1, 4000), c)).double()
        expect.mean(
            draws.view(20, 4000, 2).transpose(0, 1),
            shares,
            f"the mean of thin with c = {c}",
        )
        found = (draws.view(20, 4000, 2) - shares[:, None]).sum(0)
        expect.mean(
            found.square(),
            added_noise(shares, torch.ones(20, 2), c),
            f"added_noise against draws of your own thin, c = {c},",
        )
    expect.close(
        thin(shares.float(), 1e9), shares.float(), "thin of float32 shares"
    )
    expect.close(
        added_noise(shares, torch.ones(20, 2), 1e9),
        torch.zeros(2),
        "added_noise where all are kept",
    )
