"""Natural wrong answers to chapter 9's questions, and words that the message must hold."""

import math

import numpy as np
import torch
from torch.distributions import Normal

from exercises.wrong_answers import WrongAnswers

wrong = WrongAnswers()


@wrong("q1", says="too high by log N")
def log_aggregate(z, mean, std):
    return Normal(mean, std).log_prob(z[:, None]).sum(-1).logsumexp(1)


@wrong("q1", says="mean of logarithms")
def log_aggregate(z, mean, std):
    return Normal(mean, std).log_prob(z[:, None]).sum(-1).mean(1)


@wrong("q1", says="product of L mixtures")
def log_aggregate(z, mean, std):
    each = Normal(mean, std).log_prob(z[:, None])
    return (each.logsumexp(1) - math.log(len(mean))).sum(-1)


@wrong("q1", says="coordinates are averaged")
def log_aggregate(z, mean, std):
    return Normal(mean, std).log_prob(z[:, None]).mean(-1).logsumexp(
        1
    ) - math.log(len(mean))


@wrong("q1", says="taken for a variance")
def log_aggregate(z, mean, std):
    each = -((z[:, None] - mean) ** 2) / (2 * std) - 0.5 * torch.log(
        2 * math.pi * std
    )
    return each.sum(-1).logsumexp(1) - math.log(len(mean))


@wrong("q1", says="run over the encoders")
def log_aggregate(z, mean, std):
    return Normal(mean, std).log_prob(z[:, None]).sum(-1).logsumexp(
        0
    ) - math.log(len(z))


@wrong("q1", says="underflowed")
def log_aggregate(z, mean, std):
    return Normal(mean, std).log_prob(z[:, None]).sum(-1).exp().mean(1).log()


@wrong("q1", says="no Gaussian")
def log_aggregate(z, mean, std):
    variance = (std**2).mean(0) + mean.var(0, correction=0)
    return Normal(mean.mean(0), variance.sqrt()).log_prob(z).sum(-1)


@wrong("q1", says="no gradient reaches `z`")
def log_aggregate(z, mean, std):
    each = Normal(mean, std).log_prob(z.detach()[:, None])
    return each.sum(-1).logsumexp(1) - math.log(len(mean))


@wrong("q1", says="stay with tensors")
def log_aggregate(z, mean, std):
    z, mean, std = (t.detach().numpy() for t in (z, mean, std))
    each = (
        -(((z[:, None] - mean) / std) ** 2) / 2
        - np.log(std)
        - math.log(2 * math.pi) / 2
    )
    return np.logaddexp.reduce(each.sum(-1), 1) - math.log(len(mean))


def kl(q, p):
    return (torch.xlogy(q, q) - torch.xlogy(q, p)).sum(-1)


@wrong("q2", says="average KL to the prior")
def split(p_data, encoder, prior):
    return p_data @ kl(encoder, prior), kl(p_data @ encoder, prior)


@wrong("q2", says="all rows count alike")
def split(p_data, encoder, prior):
    q_z = encoder.mean(0)
    return kl(encoder, q_z).mean(), kl(q_z, prior)


@wrong("q2", says="outer average counts all rows alike")
def split(p_data, encoder, prior):
    q_z = p_data @ encoder
    return kl(encoder, q_z).mean(), kl(q_z, prior)


@wrong("q2", says="the other way round")
def split(p_data, encoder, prior):
    q_z = p_data @ encoder
    return p_data @ kl(encoder, q_z), kl(prior, q_z)


@wrong("q2", says="in bits")
def split(p_data, encoder, prior):
    q_z = p_data @ encoder
    return p_data @ (encoder * (encoder / q_z).log2()).sum(1), (
        q_z * (q_z / prior).log2()
    ).sum()


@wrong("q2", says="never used adds 0")
def split(p_data, encoder, prior):
    q_z = p_data @ encoder
    return p_data @ (encoder * (encoder / q_z).log()).sum(1), (
        q_z * (q_z / prior).log()
    ).sum()


@wrong("q2", says="entropy of q(z)")
def split(p_data, encoder, prior):
    q_z = p_data @ encoder
    return -torch.xlogy(q_z, q_z).sum(), kl(q_z, prior)


@wrong("q2", says="information first")
def split(p_data, encoder, prior):
    q_z = p_data @ encoder
    return kl(q_z, prior), p_data @ kl(encoder, q_z)


def predict(**mistaken):
    """The right prediction but for one entry."""

    def prediction(c, r, L, v):
        right = {
            "narrower": (0.0, L * math.log(c)),
            "copies": (0.0, 0.0),
            "fresh": (math.log(r), -math.log(r)),
            "shifted": (0.0, v**2 / 2),
        }
        return right | {
            name: pair(c, r, L, v) for name, pair in mistaken.items()
        }

    return prediction


wrong(
    "q3",
    says="A density rises",
    prediction=predict(narrower=lambda c, r, L, v: (L * math.log(c), 0.0)),
)
wrong(
    "q3",
    says="further from the prior",
    prediction=predict(narrower=lambda c, r, L, v: (0.0, -L * math.log(c))),
)
wrong(
    "q3",
    says="Each of the L",
    prediction=predict(narrower=lambda c, r, L, v: (0.0, math.log(c))),
)
wrong(
    "q3",
    says="cannot tell copies apart",
    prediction=predict(copies=lambda c, r, L, v: (math.log(r), -math.log(r))),
)
wrong(
    "q3",
    says="at its ceiling",
    prediction=predict(fresh=lambda c, r, L, v: (0.0, 0.0)),
)
wrong(
    "q3",
    says="gains is lost here",
    prediction=predict(fresh=lambda c, r, L, v: (math.log(r), 0.0)),
)
wrong(
    "q3",
    says="all codes together",
    prediction=predict(shifted=lambda c, r, L, v: (v**2 / 2, 0.0)),
)
wrong(
    "q3",
    says="Half of that",
    prediction=predict(shifted=lambda c, r, L, v: (0.0, v**2)),
)
wrong(
    "q3",
    says="The prior stands still",
    prediction=predict(shifted=lambda c, r, L, v: (0.0, 0.0)),
)


@wrong("q4", says="every one of the D pixels")
def explosion_rate(c, s, D, beta, rho):
    return 1 / (4 * s**2) - beta / (2 * rho**2)


@wrong("q4", says="-½ log σ²")
def explosion_rate(c, s, D, beta, rho):
    return D / (2 * s**2) - beta / (2 * rho**2)


@wrong("q4", says="c does not come with μ")
def explosion_rate(c, s, D, beta, rho):
    return D * c**2 / (4 * s**2) - beta / (2 * rho**2)


@wrong("q4", says="paid once")
def explosion_rate(c, s, D, beta, rho):
    return D / (4 * s**2) - D * beta / (2 * rho**2)


@wrong("q4", says="standard deviation ρ")
def explosion_rate(c, s, D, beta, rho):
    return D / (4 * s**2) - beta / 2


@wrong("q4", says="the KL is subtracted")
def explosion_rate(c, s, D, beta, rho):
    return D / (4 * s**2) + beta / (2 * rho**2)


@wrong("q4", says="β is missing")
def explosion_rate(c, s, D, beta, rho):
    return D / (4 * s**2) - 1 / (2 * rho**2)


@wrong("q4", says="opposite sign")
def explosion_rate(c, s, D, beta, rho):
    return beta / (2 * rho**2) - D / (4 * s**2)


def estimate(latents="sum", axis=1, own="1/N"):
    """The repaired cell but for what is named."""

    def split_estimate(z, mean, std, N):
        B = len(z)
        pairs = getattr(Normal(mean, std).log_prob(z[:, None]), latents)(-1)
        first, rest = {
            "1/N": (1 / N, (1 - 1 / N) / (B - 1)),
            "1/B": (1 / B, 1 / B),
            "sum/N": (1 / N, 1 / N),
            "others/B": (1 / N, 1 / B),
            "sum/NB": (1 / (N * B), 1 / (N * B)),
            "0": (0.0, 1 / (B - 1)),
        }[own]
        weights = torch.full((B, B), rest, dtype=z.dtype).fill_diagonal_(first)
        log_q_z = (pairs + weights.log()).logsumexp(axis)
        return pairs.diagonal() - log_q_z, log_q_z - Normal(0.0, 1.0).log_prob(
            z
        ).sum(-1)

    return split_estimate


wrong(
    "q5", says="latents are averaged", split_estimate=estimate(latents="mean")
)
wrong("q5", says="runs over the codes", split_estimate=estimate(axis=0))
wrong("q5", says="same weight", split_estimate=estimate(own="1/B"))
wrong(
    "q5",
    says="Another of the three",
    split_estimate=estimate(own="1/B", axis=0),
)
wrong(
    "q5",
    says="other two bugs",
    split_estimate=estimate(own="1/B", axis=0, latents="mean"),
)
wrong("q5", says="divided by N", split_estimate=estimate(own="sum/N"))
wrong(
    "q5",
    says="the others share what is left",
    split_estimate=estimate(own="others/B"),
)
wrong("q5", says="and then 1/N of it", split_estimate=estimate(own="sum/NB"))
wrong("q5", says="left out", split_estimate=estimate(own="0"))


def tables(p_data, images, encoder, prior):
    """What right and wrong answers are made of."""
    q_z = p_data @ encoder
    pixels = ((encoder.T * p_data) @ images / q_z[:, None]).clamp(max=1)
    entropy = -torch.xlogy(p_data, p_data).sum()
    each = torch.xlogy(pixels, pixels) + torch.xlogy(1 - pixels, 1 - pixels)
    marginal = kl(q_z, prior)
    return {
        "any": -entropy - marginal,
        "marginal": marginal,
        "average": marginal + p_data @ kl(encoder, q_z),
        "each": each.sum(1),
        "q_z": q_z,
        "pixels": pixels,
    }


@wrong("q6", says="that is the ceiling")
def best_elbos(p_data, images, encoder, prior):
    t = tables(p_data, images, encoder, prior)
    return t["any"] + t["marginal"], t["q_z"] @ t["each"] - t["average"]


@wrong("q6", says="without a look at z")
def best_elbos(p_data, images, encoder, prior):
    t = tables(p_data, images, encoder, prior)
    return t["any"] + t["marginal"] - t["average"], t["q_z"] @ t["each"] - t[
        "average"
    ]


@wrong("q6", says="the whole average KL goes")
def best_elbos(p_data, images, encoder, prior):
    t = tables(p_data, images, encoder, prior)
    return t["any"], t["q_z"] @ t["each"] - t["marginal"]


@wrong("q6", says="do not know z")
def best_elbos(p_data, images, encoder, prior):
    t = tables(p_data, images, encoder, prior)
    m = p_data @ images
    blind = (torch.xlogy(m, m) + torch.xlogy(1 - m, 1 - m)).sum()
    return t["any"], blind - t["average"]


@wrong("q6", says="all codes count alike")
def best_elbos(p_data, images, encoder, prior):
    t = tables(p_data, images, encoder, prior)
    return t["any"], t["each"].mean() - t["average"]


@wrong("q6", says="pixels are averaged")
def best_elbos(p_data, images, encoder, prior):
    t = tables(p_data, images, encoder, prior)
    return t["any"], t["q_z"] @ t["each"] / images.shape[1] - t["average"]


@wrong("q6", says="black pixel")
def best_elbos(p_data, images, encoder, prior):
    t = tables(p_data, images, encoder, prior)
    m = t["pixels"]
    return t["any"], t["q_z"] @ torch.xlogy(m, m).sum(1) - t["average"]


@wrong("q6", says="equally likely")
def best_elbos(p_data, images, encoder, prior):
    t = tables(p_data, images, encoder, prior)
    m = (encoder / encoder.sum(0)).T @ images
    true = t["pixels"]
    loss = torch.xlogy(true, m) + torch.xlogy(1 - true, 1 - m)
    return t["any"], t["q_z"] @ loss.sum(1) - t["average"]


@wrong("q6", says="above 1")
def best_elbos(p_data, images, encoder, prior):
    t = tables(p_data, images, encoder, prior)
    posterior = torch.nan_to_num(p_data[:, None] * encoder / t["q_z"])
    m = posterior.T @ images
    each = torch.xlogy(m, m) + torch.xlogy(1 - m, 1 - m)
    return t["any"], t["q_z"] @ each.sum(1) - t["average"]
