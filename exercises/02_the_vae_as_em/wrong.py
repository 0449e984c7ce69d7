"""Natural wrong answers to chapter 2's questions, and words that the message must hold."""

import math

import torch
import torch.nn.functional as F

from exercises.wrong_answers import WrongAnswers

wrong = WrongAnswers()
LOG_2PI = math.log(2 * math.pi)


@wrong("q1", says="averaged over the latents")
def rate(mean, log_s):
    return 0.5 * (mean**2 + (2 * log_s).exp() - 1 - 2 * log_s).mean(1)


@wrong("q1", says="log-variance")
def rate(mean, log_s):
    return 0.5 * (mean**2 + log_s.exp() - 1 - log_s).sum(1)


@wrong("q1", says="never negative")
def rate(mean, log_s):
    return 0.5 * (1 + 2 * log_s - mean**2 - (2 * log_s).exp()).sum(1)


@wrong("q1", says="prior first")
def rate(mean, log_s):
    q = torch.distributions.Normal(mean, log_s.exp())
    return torch.distributions.kl_divergence(
        torch.distributions.Normal(0.0, 1.0), q
    ).sum(1)


@wrong("q1", says="L/2")
def rate(mean, log_s):
    return (0.5 * (mean**2 + (2 * log_s).exp()) - log_s).sum(1)


@wrong("q1", says="Each data point keeps")
def rate(mean, log_s):
    return 0.5 * (mean**2 + (2 * log_s).exp() - 1 - 2 * log_s).sum()


@wrong("q2", says="averaged over the pixels")
def log_likelihood(logits, x):
    return (x * logits - F.softplus(logits)).mean(-1)


@wrong("q2", says="minus the log-likelihood")
def log_likelihood(logits, x):
    x = x.expand_as(logits)
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(
        -1
    )


@wrong("q2", says="the logarithm comes too late")
def log_likelihood(logits, x):
    p = torch.sigmoid(logits)
    return (x * p.log() + (1 - x) * (1 - p).log()).sum(-1)


@wrong("q2", says="hides that cost")
def log_likelihood(logits, x):
    p = torch.sigmoid(logits)
    return -F.binary_cross_entropy(p, x.expand_as(p), reduction="none").sum(-1)


@wrong("q2", says="a floor")
def log_likelihood(logits, x):
    p = torch.sigmoid(logits).clamp(1e-6, 1 - 1e-6)
    return (x * p.log() + (1 - x) * (1 - p).log()).sum(-1)


@wrong("q2", says="a floor")
def log_likelihood(logits, x):
    p = torch.sigmoid(logits)
    return (x * (p + 1e-8).log() + (1 - x) * (1 - p + 1e-8).log()).sum(-1)


@wrong("q2", says="the gradient with respect to logits beyond ±300 holds nan")
def log_likelihood(logits, x):
    on = torch.where(
        logits > 0,
        -torch.log1p((-logits).exp()),
        logits - torch.log1p(logits.exp()),
    )
    return (on - (1 - x) * logits).sum(-1)


@wrong("q2", says="swapped")
def log_likelihood(logits, x):
    return ((1 - x) * logits - F.softplus(logits)).sum(-1)


@wrong("q2", says="closed while yours is checked")
def log_likelihood(logits, x):
    import vaelearn as vl

    return vl.distributions.bernoulli_log_prob(logits, x)


def _log_weight(x, decoded, z, mu, log_var, sigma, eps, pixels, latents):
    log_likelihood = pixels(
        -0.5 * (((x - decoded) / sigma) ** 2 + math.log(2 * math.pi * sigma**2))
    )
    return log_likelihood + latents(-0.5 * (z**2 - eps**2 - log_var))


def _sum(t):
    return t.sum(1)


def _mean(t):
    return t.mean(1)


@wrong("q3", says="ε divides by the log-variance")
def log_weight(x, decoded, z, mu, log_var, sigma):
    return _log_weight(
        x, decoded, z, mu, log_var, sigma, (z - mu) / log_var, _sum, _sum
    )


@wrong("q3", says="ε divides by the variance")
def log_weight(x, decoded, z, mu, log_var, sigma):
    return _log_weight(
        x, decoded, z, mu, log_var, sigma, (z - mu) / log_var.exp(), _sum, _sum
    )


@wrong("q3", says="averaged over the pixels")
def log_weight(x, decoded, z, mu, log_var, sigma):
    eps = (z - mu) / (0.5 * log_var).exp()
    return _log_weight(x, decoded, z, mu, log_var, sigma, eps, _mean, _sum)


@wrong("q3", says="averaged over the latents")
def log_weight(x, decoded, z, mu, log_var, sigma):
    eps = (z - mu) / (0.5 * log_var).exp()
    return _log_weight(x, decoded, z, mu, log_var, sigma, eps, _sum, _mean)


@wrong("q3", says="solve for ε. And that is the first of three")
def log_weight(x, decoded, z, mu, log_var, sigma):
    return _log_weight(
        x, decoded, z, mu, log_var, sigma, (z - mu) / log_var, _mean, _mean
    )


def _encoder(W, noise2, prior=1.0):
    weighted = W.T / noise2
    P = prior * torch.eye(W.shape[1]) + weighted @ W
    return torch.linalg.solve(P, weighted), P


@wrong("q3", says="solve for ε. And that is not all: look further down")
def log_weight(x, decoded, z, mu, log_var, sigma):
    return _log_weight(
        x, decoded, z, mu, log_var, sigma, (z - mu) / log_var, _sum, _mean
    )


@wrong("q4", says="where sleep leads")
def encoder(W, b, noise):
    A, P = _encoder(W, noise**2)
    return A, -A @ b, P.inverse().diagonal().sqrt()


@wrong("q4", says="that is a variance")
def encoder(W, b, noise):
    A, P = _encoder(W, noise**2)
    return A, -A @ b, 1 / P.diagonal()


@wrong("q4", says="the prior is forgotten")
def encoder(W, b, noise):
    A, P = _encoder(W, noise**2, prior=0.0)
    return A, -A @ b, P.diagonal() ** -0.5


@wrong("q4", says="`noise` holds standard deviations")
def encoder(W, b, noise):
    A, P = _encoder(W, noise)
    return A, -A @ b, P.diagonal() ** -0.5


@wrong("q4", says="wants x in units of the noise")
def encoder(W, b, noise):
    A, P = _encoder(W / noise[:, None], 1.0)
    return A, -A @ b, P.diagonal() ** -0.5


@wrong("q4", says="knows neither noise nor prior")
def encoder(W, b, noise):
    A, P = torch.linalg.pinv(W), _encoder(W, noise**2)[1]
    return A, -A @ b, P.diagonal() ** -0.5


@wrong("q4", says="its sign is turned")
def encoder(W, b, noise):
    A, P = _encoder(W, noise**2)
    return A, A @ b, P.diagonal() ** -0.5


@wrong("q4", says="needs all of it")
def encoder(W, b, noise):
    P = _encoder(W, noise**2)[1].diagonal()
    A = W.T / noise**2 / P[:, None]
    return A, -A @ b, P**-0.5


@wrong("q5", says="the answer at β = 1")
def survivors(eigenvalues, latent_dim, sigma, beta):
    return int((eigenvalues[:latent_dim] > sigma**2).sum())


@wrong("q5", says="works the other way")
def survivors(eigenvalues, latent_dim, sigma, beta):
    return int((eigenvalues[:latent_dim] > sigma**2 / beta).sum())


@wrong("q5", says="σ is a standard deviation")
def survivors(eigenvalues, latent_dim, sigma, beta):
    return (eigenvalues[:latent_dim] > beta * sigma).sum()


@wrong("q5", says="than the model has")
def survivors(eigenvalues, latent_dim, sigma, beta):
    return int((eigenvalues > beta * sigma**2).sum())


@wrong("q5", says="nothing to gain")
def survivors(eigenvalues, latent_dim, sigma, beta):
    return latent_dim


def _alive(eigenvalues, latent_dim, beta):
    """The right number of latents alive, by trying."""
    D = len(eigenvalues)
    for k in range(latent_dim, 0, -1):
        variance = eigenvalues[k:].sum() / (D - beta * k)
        if 0 < beta * variance < eigenvalues[k - 1]:
            return k
    return 0


@wrong("q6", says="that is pPCA's σ², the answer at β = 1")
def best_sigma2(eigenvalues, latent_dim, beta):
    return eigenvalues[latent_dim:].mean()


@wrong("q6", says="does not only rescale")
def best_sigma2(eigenvalues, latent_dim, beta):
    return eigenvalues[latent_dim:].mean() / beta


@wrong("q6", says="all latents are taken to be alive")
def best_sigma2(eigenvalues, latent_dim, beta):
    return eigenvalues[latent_dim:].sum() / (
        len(eigenvalues) - beta * latent_dim
    )


@wrong("q6", says="β is missing where σ² is set")
def best_sigma2(eigenvalues, latent_dim, beta):
    k = _alive(eigenvalues, latent_dim, beta)
    return eigenvalues[k:].mean()


@wrong("q6", says="noise of the equivalent model")
def best_sigma2(eigenvalues, latent_dim, beta):
    k = _alive(eigenvalues, latent_dim, beta)
    return beta * eigenvalues[k:].sum() / (len(eigenvalues) - beta * k)


@wrong("q6", says="latents are noisy too")
def best_sigma2(eigenvalues, latent_dim, beta):
    k = _alive(eigenvalues, latent_dim, beta)
    return eigenvalues[k:].sum() / len(eigenvalues)


@wrong("q6", says="taken to be alive")
def best_sigma2(eigenvalues, latent_dim, beta):
    D = len(eigenvalues)
    for k in range(latent_dim, 0, -1):
        variance = eigenvalues[k:].sum() / (D - beta * k)
        if (
            0 < variance < eigenvalues[k - 1]
        ):  # alive above σ², where βσ² belongs
            return variance
    return eigenvalues.mean()


@wrong("q6", says="taken to be alive")
def best_sigma2(eigenvalues, latent_dim, beta):
    D = len(eigenvalues)
    k = int(
        (
            eigenvalues[:latent_dim] > beta * eigenvalues[latent_dim:].mean()
        ).sum()
    )
    return eigenvalues[k:].sum() / (D - beta * k)


@wrong("q6", says="and so would be the variance")
def best_sigma2(eigenvalues, latent_dim, beta):
    D = len(eigenvalues)
    return min(
        float(eigenvalues[k:].sum()) / (D - beta * k)
        for k in range(latent_dim + 1)
    )


@wrong("q6", says="returned nothing for the arguments [")
def best_sigma2(eigenvalues, latent_dim, beta):
    if beta == 1:
        return eigenvalues[latent_dim:].mean()


@wrong("q1", says="but for its shape: (")
def rate(mean, log_s):
    each = 0.5 * (mean**2 + (2 * log_s).exp() - 1 - 2 * log_s)
    return each.sum(1, keepdim=True)


@wrong("q4", says="c is right, but for its shape")
def encoder(W, b, noise):
    A, P = _encoder(W, noise**2)
    return A, -A @ b[:, None], P.diagonal() ** -0.5
