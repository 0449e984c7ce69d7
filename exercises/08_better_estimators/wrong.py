"""Natural wrong answers to chapter 8's questions, and words that the message must hold."""

import math

import torch

from exercises.wrong_answers import WrongAnswers
from vaelearn.gradients import path_derivative

wrong = WrongAnswers()


def table(w):
    return {
        "iwae": (w, -w),
        "dreg": (w**2, 0.0),
        "stl": (w, 0.0),
        "rws": (0.0, w),
    }


@wrong("q1", says="another power")
def coefficients(log_w):
    w = torch.softmax(log_w, 0)
    return table(w) | {"dreg": (w, 0.0)}


@wrong("q1", says="as an ascent direction its sign is wrong")
def coefficients(log_w):
    w = torch.softmax(log_w, 0)
    return table(w) | {"rws": (0.0, -w)}


@wrong("q1", says="denominator of w")
def coefficients(log_w):
    w = torch.softmax(log_w, 0)
    return table(w) | {"iwae": (w, w)}


@wrong("q1", says="its sign is a loss's")
def coefficients(log_w):
    w = torch.softmax(log_w, 0)
    return {name: (-a, -b) for name, (a, b) in table(w).items()}


@wrong("q1", says="doubly reparameterized wake phase")
def coefficients(log_w):
    w = torch.softmax(log_w, 0)
    return table(w) | {"rws": (w - w**2, 0.0)}


@wrong("q1", says="what the score turns into")
def coefficients(log_w):
    w = torch.softmax(log_w, 0)
    return table(w) | {"dreg": (w - w**2, 0.0)}


@wrong("q1", says="worst sample")
def coefficients(log_w):
    return table(torch.softmax(-log_w, 0))


@wrong("q1", says="not normalised again")
def coefficients(log_w):
    w = torch.softmax(log_w, 0)
    return table(w) | {"dreg": (torch.softmax(2 * log_w, 0), 0.0)}


@wrong("q1", says="holds nan")
def coefficients(log_w):
    return table(log_w.exp() / log_w.exp().sum(0))


def right(c):
    return {
        "iwae_snr": c**-0.5,
        "dreg_noise": c**-1.5,
        "dreg_snr": c**0.5,
        "stl_error": c,
        "rws_bias": 1 / c,
        "rws_snr": c**0.5,
    }


@wrong("q2", says="the signal alone")
def factors(c):
    return right(c) | {"iwae_snr": 1 / c}


@wrong("q2", says="how IWAE's noise falls")
def factors(c):
    return right(c) | {"dreg_noise": c**-0.5}


@wrong("q2", says="the distance hardly changes")
def factors(c):
    return right(c) | {"stl_error": 1}


@wrong("q2", says="do not cure")
def factors(c):
    return right(c) | {"stl_error": 1 / c}


@wrong("q2", says="how noise falls")
def factors(c):
    return right(c) | {"rws_bias": c**-0.5}


@wrong("q2", says="does not sink with K")
def factors(c):
    return right(c) | {"rws_snr": c**-0.5}


def places(v, rho):
    return {
        "elbo": v * (1 - rho**2),
        "stl": v,
        "dreg": v * (3 + math.sqrt(1 + 8 * rho**2)) / 4,
    }


@wrong("q3", says="marginal variance")
def landing(v, rho):
    return places(v, rho) | {"elbo": v}


@wrong("q3", says="nothing else is left")
def landing(v, rho):
    return places(v, rho) | {"stl": v * (1 - rho**2)}


@wrong("q3", says="not the bound")
def landing(v, rho):
    return places(v, rho) | {"dreg": v}


@wrong("q3", says="is infinite")
def landing(v, rho):
    return places(v, rho) | {"dreg": v * (3 - math.sqrt(1 + 8 * rho**2)) / 4}


@wrong("q3", says="largest eigenvalue")
def landing(v, rho):
    return places(v, rho) | {"dreg": v * (1 + abs(rho))}


@wrong("q4", says="the squared weights reach θ")
def dreg_losses(draw):
    log_w = path_derivative(draw)
    weights = torch.softmax(log_w, 0).detach()
    loss = -(weights**2 * log_w).sum(0).mean()
    return loss, loss


@wrong("q4", says="not squared")
def dreg_losses(draw):
    log_w = path_derivative(draw)
    weights = torch.softmax(log_w, 0).detach()
    loss = -(weights * log_w).sum(0).mean()
    return loss, loss


@wrong(
    "q4",
    says="log q still holds φ: the score is in it, and DReG has none. One more is in this gradient.",
)
def dreg_losses(draw):
    weights = torch.softmax(draw.log_w, 0)
    loss = -(weights**2 * draw.log_w).sum(0).mean()
    return loss, loss


@wrong("q4", says="log q still holds φ")
def dreg_losses(draw):
    weights = torch.softmax(draw.log_w, 0).detach()
    return -(weights**2 * draw.log_w).sum(0).mean(), -(
        weights * draw.log_w
    ).sum(0).mean()


@wrong("q4", says="flows through the weights too")
def dreg_losses(draw):
    log_w = path_derivative(draw)
    weights = torch.softmax(log_w, 0)
    return -(weights**2 * log_w).sum(0).mean(), -(weights.detach() * log_w).sum(
        0
    ).mean()


@wrong("q4", says="flows through the weights too")
def dreg_losses(draw):
    log_w = path_derivative(draw)
    weights = torch.softmax(log_w, 0)
    return -(weights.detach() ** 2 * log_w).sum(0).mean(), -(
        weights * log_w
    ).sum(0).mean()


@wrong("q4", says="IWAE's own gradient")
def dreg_losses(draw):
    loss = -(torch.logsumexp(draw.log_w, 0) - math.log(len(draw.log_w))).mean()
    return loss, loss


@wrong("q4", says="it is 0: θ was detached away")
def dreg_losses(draw):
    log_w = path_derivative(draw)
    weights = torch.softmax(log_w, 0).detach()
    return -(weights**2 * log_w).sum(0).mean(), draw.log_q.mean()


def with_baseline(log_w, log_q, others, replaced):
    K = len(log_w)
    bound = torch.logsumexp(log_w, 0) - math.log(K)
    parts = torch.where(
        torch.eye(K, dtype=torch.bool)[:, :, None], replaced, log_w
    )
    baseline = torch.logsumexp(parts, 1) - math.log(K)
    return ((bound - baseline).detach() * log_q).sum(0) + others * bound


def of_the_others(log_w):
    return ((log_w.sum(0) - log_w) / (len(log_w) - 1)).unsqueeze(1)


@wrong("q5", says="the bound's own −Σ w̃ score is missing")
def vimco(log_w, log_q):
    return with_baseline(log_w, log_q, 0.0, of_the_others(log_w))


@wrong("q5", says="it is 0: θ gets nothing")
def vimco(log_w, log_q):
    log_w = (log_w + log_q).detach() - log_q
    return with_baseline(log_w, log_q, 1.0, of_the_others(log_w))


@wrong("q5", says="has seen its own sample")
def vimco(log_w, log_q):
    return with_baseline(log_w, log_q, 1.0, log_w.mean(0))


@wrong("q5", says="the arithmetic mean")
def vimco(log_w, log_q):
    K = len(log_w)
    others = log_w.expand(K, *log_w.shape).masked_fill(
        torch.eye(K, dtype=torch.bool)[:, :, None], -math.inf
    )
    return with_baseline(
        log_w,
        log_q,
        1.0,
        (torch.logsumexp(others, 1) - math.log(K - 1)).unsqueeze(1),
    )


@wrong("q5", says="there is no baseline")
def vimco(log_w, log_q):
    bound = torch.logsumexp(log_w, 0) - math.log(len(log_w))
    return (bound.detach() * log_q).sum(0) + bound


@wrong("q5", says="the reward carries a gradient")
def vimco(log_w, log_q):
    K = len(log_w)
    bound = torch.logsumexp(log_w, 0) - math.log(K)
    parts = torch.where(
        torch.eye(K, dtype=torch.bool)[:, :, None], of_the_others(log_w), log_w
    )
    return ((bound - torch.logsumexp(parts, 1) + math.log(K)) * log_q).sum(
        0
    ) + bound


@wrong("q5", says="is in it twice")
def vimco(log_w, log_q):
    whole = with_baseline(log_w, log_q, 1.0, of_the_others(log_w))
    return whole - (torch.softmax(log_w, 0).detach() * log_q).sum(0)


@wrong("q5", says="L̂ in the reward carries a gradient")
def vimco(log_w, log_q):
    score = with_baseline(log_w, log_q, 0.0, of_the_others(log_w))
    bound = torch.logsumexp(log_w, 0) - math.log(len(log_w))
    return score + ((bound - bound.detach()) * log_q).sum(0) + bound


@wrong("q5", says="a loss's")
def vimco(log_w, log_q):
    return -with_baseline(log_w, log_q, 1.0, of_the_others(log_w))


@wrong("q5", says="without a score term")
def vimco(log_w, log_q):
    return torch.logsumexp(log_w, 0) - math.log(len(log_w))


@wrong("q5", says="no difference of sums")
def vimco(log_w, log_q):
    K = len(log_w)
    top = log_w.max(0).values
    w = (log_w - top).exp()
    geometric = (of_the_others(log_w)[:, 0] - top).exp()
    bound = top + w.mean(0).log()
    baseline = top + ((w.sum(0) - w + geometric) / K).log()
    return ((bound - baseline).detach() * log_q).sum(0) + bound


@wrong("q5", says="closed while yours is checked")
def vimco(log_w, log_q):
    import vaelearn as vl

    bound = vl.bounds.iwae(log_w)
    reward = bound - vl.gradients.geometric_mean_bound(log_w)
    return (reward.detach() * log_q).sum(0) + bound
