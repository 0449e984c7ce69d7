"""Natural wrong answers to chapter 3's questions, and words that the message must hold."""

import math

import torch

from exercises.wrong_answers import WrongAnswers

wrong = WrongAnswers()


@wrong("q1", says="flows through the reward too")
def surrogate(log_w, log_q, b):
    return ((log_w - b) * log_q).mean()


@wrong("q1", says="score term is missing")
def surrogate(log_w, log_q, b):
    return (log_w - b).mean()


@wrong("q1", says="sign is a loss's")
def surrogate(log_w, log_q, b):
    return -((log_w - b).detach() * log_q).mean()


@wrong("q1", says="b is not detached")
def surrogate(log_w, log_q, b):
    return ((log_w.detach() - b) * log_q).mean()


@wrong("q1", says="∇ log w was kept")
def surrogate(log_w, log_q, b):
    return ((log_w - b).detach() * log_q + log_w).mean()


@wrong("q1", says="log q is detached")
def surrogate(log_w, log_q, b):
    return ((log_w - b.detach()) * log_q.detach()).mean()


@wrong("q1", says="whole batch shares one reward")
def surrogate(log_w, log_q, b):
    return ((log_w - b).detach().sum(1, keepdim=True) * log_q).mean()


@wrong("q1", says="one number")
def surrogate(log_w, log_q, b):
    return (log_w - b).detach() * log_q


@wrong("q1", says="summed over the samples")
def surrogate(log_w, log_q, b):
    return ((log_w - b).detach() * log_q).sum(0).mean()


def right(K):
    return {
        "first": (K - 1) / K,
        "half": 0.5,
        "twice": (K - 1) / (K + 1),
        "largest": 1,
        "sum": 1,
    }


@wrong("q2", says="for k = 1")
def shares(K):
    return right(K) | {"first": 1}


@wrong("q2", says="counts twice")
def shares(K):
    return right(K) | {"twice": (K - 1) / K}


@wrong("q2", says="independent of z_k")
def shares(K):
    return right(K) | {"largest": (K - 1) / K}


@wrong("q2", says="noisy choice")
def shares(K):
    return right(K) | {"sum": 2 - K}


@wrong("q2", says="only half of f_k")
def shares(K):
    return right(K) | {"half": 0}


@wrong("q2", says="Where would K come in")
def shares(K):
    return right(K) | {"half": 1 / (2 * K)}


@wrong("q2", says="made up for")
def shares(K):
    return right(K) | {"sum": 1 / (K - 1)}


@wrong("q2", says="K − 1 times the others' mean")
def shares(K):
    return right(K) | {"sum": K - 1}


@wrong("q2", says="That is what is lost")
def shares(K):
    return right(K) | {"half": 0.25}


@wrong("q2", says="lost its entry 'sum'")
def shares(K):
    return {name: c for name, c in right(K).items() if name != "sum"}


def per_point(log_w):
    return (torch.logsumexp(log_w, 0) - math.log(len(log_w))).mean()


def others(log_w):
    return (log_w.sum(0) - log_w) / (len(log_w) - 1)


@wrong("q3", says="more than one way")
def loss_and_bound(log_w, log_q):
    K, B = log_w.shape
    reward = log_w - log_w.mean(0)
    return -(reward * log_q).mean(), (
        torch.logsumexp(log_w.sum(1), 0) - math.log(K)
    ) / B


@wrong("q3", says="sits in its own baseline")
def loss_and_bound(log_w, log_q):
    return -((log_w - log_w.mean(0)).detach() * log_q).mean(), per_point(log_w)


@wrong("q3", says="flows through the reward")
def loss_and_bound(log_w, log_q):
    return -((log_w - others(log_w)) * log_q).mean(), per_point(log_w)


@wrong("q3", says="flows through the baseline")
def loss_and_bound(log_w, log_q):
    return -((log_w.detach() - others(log_w)) * log_q).mean(), per_point(log_w)


@wrong("q3", says="one bound was taken for the whole batch")
def loss_and_bound(log_w, log_q):
    K, B = log_w.shape
    bound = torch.logsumexp(log_w.sum(1), 0) - math.log(K)
    return -((log_w - others(log_w)).detach() * log_q).mean(), bound / B


@wrong("q3", says="together")
def loss_and_bound(log_w, log_q):
    bound = torch.logsumexp(log_w.flatten(), 0) - math.log(log_w.numel())
    return -((log_w - others(log_w)).detach() * log_q).mean(), bound


@wrong("q3", says="once for the whole batch")
def loss_and_bound(log_w, log_q):
    K, B = log_w.shape
    bound = (torch.logsumexp(log_w, 0).sum() - math.log(K)) / B
    return -((log_w - others(log_w)).detach() * log_q).mean(), bound


@wrong("q3", says="summed over the data points")
def loss_and_bound(log_w, log_q):
    bound = (torch.logsumexp(log_w, 1) - math.log(len(log_w))).mean()
    return -((log_w - others(log_w)).detach() * log_q).mean(), bound


@wrong("q3", says="underflow to 0 before a log")
def loss_and_bound(log_w, log_q):
    return -((log_w - others(log_w)).detach() * log_q).mean(), log_w.exp().mean(
        0
    ).log().mean()


@wrong("q3", says="over the batch")
def loss_and_bound(log_w, log_q):
    reward = (log_w - log_w.mean(1, keepdim=True)).detach()
    return -(reward * log_q).mean(), per_point(log_w)


@wrong("q3", says="average over the data points is missing")
def loss_and_bound(log_w, log_q):
    bound = torch.logsumexp(log_w, 0) - math.log(len(log_w))
    return -((log_w - others(log_w)).detach() * log_q).mean(), bound


def none(L, K, elbo, kl):
    return (L + 1 + L * elbo**2 / (2 * kl)) / K


@wrong("q4", says="baseline is noisy itself")
def noise_to_signal(L, K, elbo, kl):
    return none(L, K, elbo, kl), (L + 1) / K


@wrong("q4", says="‖g‖² is missing in the second term")
def noise_to_signal(L, K, elbo, kl):
    return none(L, K, elbo, kl), (L + 1) / K + L / (K * (K - 1))


@wrong("q4", says="how far is b = 0")
def noise_to_signal(L, K, elbo, kl):
    return (L + 1) / K, (L + 1) / (K - 1)


@wrong("q4", says="not the KL")
def noise_to_signal(L, K, elbo, kl):
    return (L + 1 + L * elbo**2 / kl) / K, (L + 1) / (K - 1)


@wrong("q4", says="before the K")
def noise_to_signal(L, K, elbo, kl):
    return (L + 2 + L * elbo**2 / (2 * kl)) / K, (L + 1) / (K - 1)


@wrong("q4", says="then all is divided by K")
def noise_to_signal(L, K, elbo, kl):
    return (L + 2 + L * elbo**2 / (2 * kl)) / K - 1, (L + 1) / (K - 1)


@wrong("q4", says="mean square of the estimate")
def noise_to_signal(L, K, elbo, kl):
    return none(L, K, elbo, kl) + 1, (L + 1) / (K - 1) + 1


@wrong("q4", says="mean square of the estimate")
def noise_to_signal(L, K, elbo, kl):
    return none(L, K, elbo, kl), (L + 1) / (K - 1) + 1


@wrong("q4", says="‖g‖² was not taken off")
def noise_to_signal(L, K, elbo, kl):
    return none(L, K, elbo, kl), (L + 2) / (K - 1)


@wrong("q4", says="all L latents")
def noise_to_signal(L, K, elbo, kl):
    return (L + 1 + elbo**2 / (2 * kl)) / K, (L + 1) / (K - 1)


@wrong("q4", says="other order")
def noise_to_signal(L, K, elbo, kl):
    return (L + 1) / (K - 1), none(L, K, elbo, kl)


@wrong("q4", says="two numbers")
def noise_to_signal(L, K, elbo, kl):
    return none(L, K, elbo, kl)


@wrong("q5", says="plain estimator")
def local_gradient(f, z, logits):
    return f(z)[..., None] * (z - torch.sigmoid(logits))


def two(f, z):
    this = torch.eye(z.shape[-1], dtype=torch.bool)[:, None, None]
    return f(z.masked_fill(this, 1)).movedim(0, -1), f(
        z.masked_fill(this, 0)
    ).movedim(0, -1)


@wrong("q5", says="weights are missing")
def local_gradient(f, z, logits):
    on, off = two(f, z)
    return on - off


@wrong("q5", says="leave a factor")
def local_gradient(f, z, logits):
    on, off = two(f, z)
    return torch.sigmoid(logits) * (on - off)


@wrong("q5", says="score is missing")
def local_gradient(f, z, logits):
    p, (on, off) = torch.sigmoid(logits), two(f, z)
    return p * on + (1 - p) * off


@wrong("q5", says="all latents were set at once")
def local_gradient(f, z, logits):
    p = torch.sigmoid(logits)
    return (
        p
        * (1 - p)
        * (f(torch.ones_like(z)) - f(torch.zeros_like(z)))[..., None]
    )


@wrong("q5", says="stayed 0")
def local_gradient(f, z, logits):
    p, parts = torch.sigmoid(logits), []
    for i in range(z.shape[-1]):
        z[..., i] = 1
        on = f(z)
        z[..., i] = 0
        parts.append(on - f(z))
    return p * (1 - p) * torch.stack(parts, -1)


@wrong("q5", says="whichever way round")
def local_gradient(f, z, logits):
    p, (on, off) = torch.sigmoid(logits), two(f, z)
    return p * (1 - p) * (f(z)[..., None] - torch.where(z == 1, off, on))


@wrong("q5", says="latents' axis came first")
def local_gradient(f, z, logits):
    p = torch.sigmoid(logits)
    parts = []
    for i in range(z.shape[-1]):
        on, off = z.clone(), z.clone()
        on[..., i], off[..., i] = 1, 0
        parts.append((p * (1 - p))[:, i] * (f(on) - f(off)))
    return torch.stack(parts)
