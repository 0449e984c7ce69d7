"""The teacher's further checks of chapter 2's exercises."""

import math

import torch

from vaelearn.exact import LinearGaussian
from vaelearn.exercises import ch02, expect
from vaelearn.exercises.answers import closes, gradient_of


def q1(rate, fresh):
    ch02.q1(rate, fresh)
    B, L = fresh.sizes(2)
    mean, log_s = 3 * fresh.normal(B, L), fresh.normal(B, L)
    slopes = rate.run(gradient_of, mean.float(), log_s.float())
    expect.close(
        slopes[0], mean, "the gradient of rate with respect to mean, in float32"
    )
    expect.close(
        rate(mean, log_s - 40),
        0.5 * (mean**2 - 1).sum(1) - (log_s - 40).sum(1),
        "rate of a needle, log_s near -40",
    )
    one, wide = fresh.normal(1, 1).float(), fresh.normal(1, 1).float()
    truth = 0.5 * (one**2 + (2 * wide).exp() - 1 - 2 * wide)
    expect.close(
        rate(one, wide),
        truth[0],
        "rate of one data point with one latent, in float32",
    )


@closes("distributions.bernoulli_log_prob")
def q2(log_likelihood, fresh):
    ch02.q2(log_likelihood, fresh)
    K, B, pixels = fresh.sizes(3, 8, 15)
    x = (fresh.uniform(0, 1, B, pixels) < 0.3).float()
    logits = 40 * fresh.normal(K, B, pixels).float()
    truth = (
        torch.distributions.Bernoulli(logits=logits.double())
        .log_prob(x.double())
        .sum(-1)
    )
    expect.close(
        log_likelihood(logits, x), truth, "log_likelihood of float32 logits"
    )
    logit, on = fresh.normal(1, 1, 1), torch.ones(1, 1).double()
    expect.close(
        log_likelihood(logit, on),
        torch.sigmoid(logit).log()[..., 0],
        "log_likelihood of one pixel",
    )
    far = 90 * torch.sign(logits)
    slope, _ = log_likelihood.run(gradient_of, far, x)
    expect.close(
        slope,
        x - (far > 0).float(),
        "the gradient with respect to logits of ±90, in float32",
    )


def q3(log_weight, fresh):
    ch02.q3(log_weight, fresh)
    # The library's own log-weights, of another model; one latent and one data point among them.
    for data_dim, latent_dim, B in (fresh.sizes(3), (1, 1, 1)):
        model = fresh.linear_gaussian(data_dim, latent_dim)
        z, x = fresh.normal(B, latent_dim), fresh.normal(B, data_dim)
        q = model.posterior(x)
        truth = (
            model.likelihood(z).log_prob(x)
            + model.prior().log_prob(z)
            - q.log_prob(z)
        ).detach()
        arguments = (
            x,
            model.likelihood(z).mean.detach(),
            z,
            q.mean.detach(),
            2 * q.stddev.log().detach(),
        )
        sigma = float(model.log_sigma.detach().exp())
        expect.close(
            log_weight(*arguments, sigma),
            truth,
            "log_weight of a LinearGaussian",
        )
    B, L, data_dim = fresh.sizes(3)
    x, decoded, z, mu = (fresh.normal(B, n) for n in (data_dim, data_dim, L, L))
    unit = torch.zeros(B, L).double()
    value = log_weight(x, decoded, z, mu, unit, 1.0)
    pixels = -0.5 * ((x - decoded) ** 2 + math.log(2 * math.pi)).sum(1)
    expect.close(
        value,
        pixels + 0.5 * ((z - mu) ** 2 - z**2).sum(1),
        "log_weight where every log-variance is 0",
    )
    slopes = log_weight.run(gradient_of, x, decoded, z, mu, unit + 0.5, 2.0)
    variance = math.exp(0.5)
    truths = (
        (decoded - x) / 4,
        (x - decoded) / 4,
        (z - mu) / variance - z,
        (mu - z) / variance,
        0.5 * (1 - (z - mu) ** 2 / variance),
    )
    for slope, truth, name in zip(
        slopes, truths, ("x", "decoded", "z", "mu", "log_var"), strict=True
    ):
        expect.close(
            slope, truth, f"the gradient of log_weight with respect to {name}"
        )


@closes("exercises.ch02.best_encoder", "exact.LinearGaussian.perfect_e_step")
def q4(encoder, fresh):
    ch02.q4(encoder, fresh)
    # The library's best encoder, where all pixels have one noise; and no gradient is left.
    L, data_dim = sorted(fresh.sizes(2))
    model = fresh.linear_gaussian(data_dim, L)
    model.perfect_e_step()
    noise = model.log_sigma.exp().detach().expand(data_dim)
    said = encoder(model.W.detach(), model.b.detach(), noise)
    truth = model.A, model.c, model.log_s.exp()
    for value, wanted, name in zip(said, truth, ("A", "c", "s"), strict=True):
        expect.close(
            value,
            wanted.detach(),
            f"{name} where all pixels have the same noise",
        )
    # Pixels that see nothing leave the prior; more latents than pixels are allowed.
    W, b = fresh.normal(L, data_dim), fresh.normal(L)
    one = torch.ones(L).double()
    A, c, s, _ = ch02.best_encoder(W, b, one)
    for value, wanted, name in zip(
        encoder(W, b, one), (A, c, s), ("A", "c", "s"), strict=True
    ):
        expect.close(
            value, wanted, f"{name} where there are more latents than pixels"
        )
    blind = encoder(W, b, 1e9 * one)
    expect.close(
        blind[2],
        torch.ones(data_dim),
        "s where every pixel is nothing but noise",
    )
    expect.that(
        float(torch.as_tensor(blind[0]).abs().max()) < 1e-9,
        "A where every pixel is nothing but noise is not 0.",
    )


def q5(survivors, fresh):
    ch02.q5(survivors, fresh)
    eigenvalues = torch.tensor([4.0, 3.0, 2.0, 1.0]).double() * float(
        fresh.uniform(0.5, 2)
    )
    for beta, count in ((1e-6, 3), (1e6, 0)):
        said = survivors(eigenvalues, 3, 1.0, beta)
        expect.that(
            float(said) == count,
            f"survivors at β = {beta:g}: {said} came, and {count} are alive.",
        )


def _objective(model, x, beta):
    kl = torch.distributions.kl_divergence(model.posterior(x), model.prior())
    return (model.elbo(x) + (1 - beta) * kl).mean()


@closes("exercises.ch02.best_variance")
def q6(best_sigma2, fresh):
    ch02.q6(best_sigma2, fresh)
    # With the learner's σ² and the best of everything else, no gradient of the objective is left.
    L, data_dim = sorted(fresh.sizes(2, 2, 6))
    for beta in (
        float(fresh.uniform(0.2, 0.8)),
        float(fresh.uniform(1.2, 3.0)),
    ):
        x = fresh.normal(60, data_dim) * torch.exp(
            fresh.uniform(-1.0, 1.0, data_dim)
        ) + fresh.normal(data_dim)
        eigenvalues, U = torch.linalg.eigh(x.T.cov(correction=0))
        eigenvalues, U = eigenvalues.flip(0), U.flip(1)
        sigma2 = float(best_sigma2(eigenvalues, L, beta))
        expect.that(
            sigma2 > 0,
            f"best_sigma2 is {sigma2:.4g} at β = {beta:.2f}; a variance is positive.",
        )
        model = LinearGaussian(data_dim, L).double()
        with torch.no_grad():
            model.W.copy_(
                U[:, :L] * (eigenvalues[:L] - beta * sigma2).clamp(min=0).sqrt()
            )
            model.b.copy_(x.mean(0))
            model.log_sigma.fill_(0.5 * math.log(beta * sigma2))
            model.perfect_e_step()  # of the equivalent model, with noise variance βσ²
            model.log_sigma.fill_(0.5 * math.log(sigma2))
        left = torch.autograd.grad(
            _objective(model, x, beta), list(model.parameters())
        )
        largest = float(torch.cat([g.flatten() for g in left]).abs().max())
        expect.that(
            largest < 2e-4 * data_dim * max(1.0, beta),
            f"at your σ² and the best of the rest, β = {beta:.2f}, the objective still has a gradient "
            f"({largest:.2g}): it is no maximum.",
        )
    factor = float(fresh.uniform(2, 9))
    scaled = best_sigma2(factor * eigenvalues, L, beta)
    expect.close(
        scaled,
        factor * sigma2,
        f"σ² where the data are {factor**0.5:.2f} times as large",
        tolerance=1e-4,
    )
    expect.close(
        best_sigma2(eigenvalues, L, 20.0),
        eigenvalues.mean(),
        "σ² at a β that kills every latent",
        tolerance=1e-4,
    )
    small = eigenvalues[L:].sum() / (data_dim - 0.01 * L)
    expect.close(
        best_sigma2(eigenvalues, L, 0.01),
        small,
        "σ² at a β close to 0",
        tolerance=1e-4,
    )
