"""Natural wrong answers to chapter 5's questions, and words that the message must hold."""

import itertools
import math

import torch

from exercises.wrong_answers import WrongAnswers

wrong = WrongAnswers()


@wrong("q1", says="log K")
def iwae(log_w):
    return torch.logsumexp(log_w, 0)


@wrong("q1", says="ELBO")
def iwae(log_w):
    return log_w.mean(0)


@wrong("q1", says="second axis")
def iwae(log_w):
    return torch.logsumexp(log_w, 1) - math.log(log_w.shape[1])


@wrong("q1", says="underflowed")
def iwae(log_w):
    return log_w.exp().mean(0).log()


@wrong("q1", says="closed while yours is checked")
def iwae(log_w):
    import vaelearn as vl

    return vl.bounds.iwae(log_w)


@wrong("q1", says="raised IndexError")
def iwae(log_w):
    return torch.logsumexp(log_w, 5)


@wrong("q2", says="factor 2")
def first_order_gap(m, s, K):
    return (math.exp(s**2) - 1) / K


@wrong("q2", says="takes 1 off")
def first_order_gap(m, s, K):
    return math.exp(s**2) / (2 * K)


@wrong("q2", says="variance of log w")
def first_order_gap(m, s, K):
    return s**2 / (2 * K)


@wrong("q2", says="divide by p(x)²")
def first_order_gap(m, s, K):
    return (math.exp(s**2) - 1) * math.exp(2 * m + s**2) / (2 * K)


RIGHT = dict(
    bound="up", elbo="same", evidence="same", copies="same", divergence="same"
)
wrong("q3", says="unbiased", prediction=RIGHT | {"evidence": "up"})
wrong("q3", says="no better q", prediction=RIGHT | {"divergence": "down"})
wrong("q3", says="does not know K", prediction=RIGHT | {"elbo": "up"})
wrong("q3", says="should be one of", prediction=RIGHT | {"bound": "rises"})


@wrong("q4", says="worst sample")
def loss_and_bound(log_w):
    weights = torch.softmax(-log_w, 0).detach()
    return -(weights * log_w).sum(0).mean(), torch.logsumexp(
        log_w, 0
    ) - math.log(len(log_w))


@wrong("q4", says="detach")
def loss_and_bound(log_w):
    weights = torch.softmax(log_w, 0)
    return -(weights * log_w).sum(0).mean(), torch.logsumexp(
        log_w, 0
    ) - math.log(len(log_w))


@wrong("q4", says="not L_K")
def loss_and_bound(log_w):
    weights = torch.softmax(log_w, 0).detach()
    bound = (weights * log_w).sum(0)
    return -bound.mean(), bound


@wrong("q5", says="equally often")
def resample(z, log_w):
    k = torch.randint(len(z), (z.shape[1],))
    return z[k, torch.arange(z.shape[1])]


@wrong("q5", says="largest weight always wins")
def resample(z, log_w):
    return z[log_w.argmax(0), torch.arange(z.shape[1])]


@wrong("q5", says="mixed samples")
def resample(z, log_w):
    return (torch.softmax(log_w, 0).unsqueeze(-1) * z).sum(0)


@wrong("q5", says="minus sign")
def resample(z, log_w):
    k = torch.distributions.Categorical(logits=-log_w.T).sample()
    return z[k, torch.arange(z.shape[1])]


@wrong("q5", says="all data points keep the same k")
def resample(z, log_w):
    return z[torch.distributions.Categorical(logits=log_w[:, 0]).sample()]


@wrong("q1", says="its own for each column")
def iwae(log_w):
    return log_w.max() + (log_w - log_w.max()).exp().mean(0).log()


@wrong("q6", says="log p(x)")
def exact_bound(values, probabilities, K):
    return (probabilities * values).sum().log()


@wrong("q6", says="In how many orders")
def exact_bound(values, probabilities, K):
    total = 0.0
    for kinds in itertools.combinations_with_replacement(range(len(values)), K):
        kinds = list(kinds)
        total += probabilities[kinds].prod() * values[kinds].mean().log()
    return total


@wrong("q6", says="not their sum")
def exact_bound(values, probabilities, K):
    draws = torch.tensor(list(itertools.product(range(len(values)), repeat=K)))
    return (probabilities[draws].prod(1) * values[draws].sum(1).log()).sum()


@wrong("q6", says="all draws were taken")
def exact_bound(values, probabilities, K):
    draws = torch.tensor(list(itertools.product(range(len(values)), repeat=K)))
    return values[draws].mean(1).log().mean()


@wrong("q6", says="What of a draw does w̄ depend on?")
def exact_bound(values, probabilities, K):
    draws = torch.tensor(list(itertools.product(range(len(values)), repeat=K)))
    return (probabilities[draws].prod(1) * values[draws].mean(1).log()).sum()
