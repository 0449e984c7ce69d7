"""The teacher's further checks of chapter 9's exercises."""

import math
from itertools import combinations

import torch

from vaelearn.exercises import ch09, expect
from vaelearn.toy import TwoClusters


def q1(log_aggregate, fresh):
    ch09.q1(log_aggregate, fresh)
    M, N, L = fresh.sizes(3)
    z, mean, std = (
        fresh.normal(M, L),
        fresh.normal(N, L),
        fresh.uniform(0.5, 1.5, N, L),
    )
    expect.close(
        log_aggregate(z.float(), mean.float(), std.float()),
        ch09.log_q(z, mean, std),
        "log_aggregate of float32 codes",
    )
    expect.close(
        log_aggregate(z, mean[:1], std[:1]),
        ch09.log_q(z, mean[:1], std[:1]),
        "log_aggregate with a single encoder",
    )
    many = fresh.normal(400, L)
    wide = fresh.uniform(0.01, 2, 400, L)
    expect.close(
        log_aggregate(z, many, wide),
        ch09.log_q(z, many, wide),
        "log_aggregate with 400 encoders",
    )


def q2(split, fresh):
    ch09.q2(split, fresh)
    N, S = fresh.sizes(2, 3, 7)
    p_data, encoder, prior = (
        ch09.table(fresh, N),
        ch09.table(fresh, N, S),
        ch09.table(fresh, S),
    )
    blind = encoder[:1].expand(N, S).clone()
    expect.that(
        abs(float(ch09.two(split(p_data, blind, prior), "split")[0])) < 1e-6,
        "a blind encoder has no information, and yours finds some.",
    )
    expect.that(
        abs(
            float(
                ch09.two(split(p_data, encoder, p_data @ encoder), "split")[1]
            )
        )
        < 1e-6,
        "where q(z) is the prior, the marginal KL is 0, and yours is not.",
    )
    one_code = torch.zeros(N, S)
    one_code[torch.arange(N), torch.arange(N) % (S - 1)] = (
        1  # the last code is never used
    )
    one_code = one_code.double()
    given = ch09.two(split(p_data, one_code, prior), "split")
    truth = ch09.exact_split(p_data, one_code, prior)
    expect.close(
        given[0], truth[0], "the information of an encoder without doubts"
    )
    expect.close(
        given[1], truth[1], "KL(q(z) ‖ p(z)) where a code is never used"
    )
    big = (
        ch09.table(fresh, 300),
        ch09.table(fresh, 300, 40),
        ch09.table(fresh, 40),
    )
    given = ch09.two(split(*(t.float() for t in big)), "split")
    for value, truth in zip(given, ch09.exact_split(*big), strict=True):
        expect.close(
            value, truth, "split of float32 tables of 300 rows", tolerance=1e-3
        )


def q3(prediction, fresh):
    ch09.q3(prediction, fresh)
    # Measured: codes on a circle, s far below their distance, and the average KL in closed form.
    c, v, s, N, L = (
        float(fresh.uniform(1.5, 5)),
        float(fresh.uniform(0.5, 3)),
        1e-4,
        60,
        2,
    )
    r = fresh.integer(2, 4)

    def ring(rows):
        angle = torch.arange(rows).double() * 2 * math.pi / rows
        return torch.stack((angle.cos(), angle.sin()), 1)

    def measure(mean, s):
        std = torch.full_like(mean, s)
        z = mean + s * fresh.normal(*mean.shape)
        own = torch.distributions.Normal(mean, std).log_prob(z).sum(-1)
        information = (own - ch09.log_q(z, mean, std)).mean()
        average = (
            mean.square().sum(-1).mean() + L * s**2 - L
        ) / 2 - L * math.log(s)
        return torch.stack((information, average - information))

    shift = v * torch.tensor([0.6, 0.8], dtype=torch.float64)
    before, said = measure(ring(N), s), prediction(c, r, L, v)
    for name, after in {
        "narrower": measure(ring(N), s / c),
        "copies": measure(ring(N).repeat(r, 1), s),
        "fresh": measure(ring(r * N), s),
        "shifted": measure(ring(N) + shift, s),
    }.items():
        off = (
            (torch.as_tensor(said[name]).double() - (after - before))
            .abs()
            .max()
        )
        expect.that(
            float(off) < 1e-3,
            f'"{name}" is not what happens on a circle of codes.',
        )


def q4(explosion_rate, fresh):
    ch09.q4(explosion_rate, fresh)
    # Against quadrature: the slope in μ² between two large μ, less the known (D/2) log b.
    c, beta, rho = (float(fresh.uniform(0.3, 4)) for _ in range(3))
    D = 784
    s = (D * rho**2 / (2 * beta)) ** 0.5 * float(fresh.uniform(0.7, 1.4))

    def objective(mu):
        terms = TwoClusters(mu, s).terms()
        kl = (mu**2 + s**2) / (2 * rho**2) - 0.5 - math.log(s / rho)
        return D * (terms["reconstruction"] - math.log(c)) - beta * kl

    low, high = 40 * s, 80 * s
    slope = (objective(high) - objective(low) - D / 2 * math.log(2)) / (
        high**2 - low**2
    )
    given = expect.number(explosion_rate(c, s, D, beta, rho), "explosion_rate")
    expect.that(
        abs(given - slope) < 1e-4 * D / (4 * s**2),
        "explosion_rate does not match the objective, computed by quadrature at 784 pixels.",
    )


def q5(split_estimate, fresh):
    ch09.q5(split_estimate, fresh)
    N, B, L = 6, 3, 2
    z, mean, std = (
        fresh.normal(N, L),
        fresh.normal(N, L),
        fresh.uniform(0.5, 1.5, N, L),
    )
    full = ch09.two(split_estimate(z, mean, std, N), "split_estimate")
    own = torch.distributions.Normal(mean, std).log_prob(z).sum(-1)
    truth = own - ch09.log_q(z, mean, std)
    expect.close(
        full[0], truth, "the information where the batch is the data set"
    )

    total, batches = 0.0, list(combinations(range(1, N), B - 1))
    for others in batches:
        rows = torch.tensor([0, *others])
        some = ch09.two(
            split_estimate(z[rows], mean[rows], std[rows], N), "split_estimate"
        )
        total += math.exp(
            float(own[0]) - float(torch.as_tensor(some[0])[0])
        ) / len(batches)
    expect.close(
        total,
        ch09.log_q(z, mean, std)[0].exp(),
        "the estimate of q(z), averaged over the batches",
    )

    data = (z[:2] + 80, mean[:2], std[:2], 10**6)
    given = ch09.two(split_estimate(*data), "split_estimate")
    for value, truth in zip(given, ch09.batch_estimate(*data), strict=True):
        expect.close(
            value,
            truth,
            "split_estimate of a batch of two, with codes far from every encoder",
        )


def q6(best_elbos, fresh):
    ch09.q6(best_elbos, fresh)
    # Data that are factorised given the code: there the two decoders meet.
    D, S = fresh.sizes(2, 2, 5)
    prior, pixels = ch09.table(fresh, S), fresh.uniform(0.1, 0.9, S, D)
    images = torch.cartesian_prod(
        *[torch.tensor([0.0, 1.0], dtype=torch.float64)] * D
    )
    joint = (
        prior
        * torch.distributions.Bernoulli(pixels)
        .log_prob(images.unsqueeze(1))
        .sum(-1)
        .exp()
    )
    p_data = joint.sum(1)
    encoder = joint / p_data.unsqueeze(1)
    given = ch09.two(best_elbos(p_data, images, encoder, prior), "best_elbos")
    for value, which in zip(given, ("any", "a factorised"), strict=True):
        expect.close(
            value,
            -ch09.entropy(p_data),
            f"the best ELBO with {which} decoder, where the encoder is a factorised model's posterior",
        )

    # A code for each image, one code to spare: both decoders know the image for certain.
    N = 4
    images, p_data, prior = (
        ch09.some_images(fresh, N, 5),
        ch09.table(fresh, N),
        ch09.table(fresh, N + 1),
    )
    encoder = torch.eye(N, N + 1, dtype=torch.float64)
    # Nothing is lost, and the code costs -log p(z).
    truth = p_data @ prior[:N].log()
    given = ch09.two(best_elbos(p_data, images, encoder, prior), "best_elbos")
    expect.close(
        given[0], truth, "any decoder, where each image has a code of its own"
    )
    expect.close(
        given[1],
        truth,
        "the factorised decoder, where each image has a code of its own",
    )
