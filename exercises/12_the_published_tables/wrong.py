"""Natural wrong answers to chapter 12's questions, and words that the message must hold."""

import math

import torch
from scipy import stats

from exercises.wrong_answers import WrongAnswers

wrong = WrongAnswers()


@wrong("q1", says="two different sets of images")
def compare(first, second):
    n = len(first)
    error = (first.var() / n + second.var() / n).sqrt()
    return first.mean() - second.mean(), error


@wrong("q1", says="error of their *mean* is smaller")
def compare(first, second):
    return (first - second).mean(), (first - second).std()


@wrong("q1", says="divide by n − 1")
def compare(first, second):
    off = first - second
    return off.mean(), off.std(correction=0) / len(off) ** 0.5


@wrong("q1", says="the *first* above the second")
def compare(first, second):
    off = second - first
    return off.mean(), off.std() / len(off) ** 0.5


@wrong("q1", says="round up")
def images_needed(first, second, error):
    return math.floor((first - second).var() / error**2)


@wrong("q1", says="goes in squared")
def images_needed(first, second, error):
    return math.ceil((first - second).std() / error)


RIGHT = {
    "fewer samples": "higher",
    "fewer images": "neither",
    "best epoch": "lower",
    "best seed": "lower",
    "made binary once": "higher",
    "log of the mean": "lower",
}
wrong("q2", says="rises with K", reported=RIGHT | {"fewer samples": "lower"})
wrong(
    "q2", says="as hard on average", reported=RIGHT | {"fewer images": "higher"}
)
wrong("q2", says="did the picking", reported=RIGHT | {"best epoch": "neither"})
wrong("q2", says="other images", reported=RIGHT | {"made binary once": "lower"})
wrong("q2", says="convex", reported=RIGHT | {"log of the mean": "neither"})


@wrong("q3", says="limit for huge n")
def flattery(n, s):
    return s * math.sqrt(2 * math.log(n))


@wrong("q3", says="n − 1: one of the n")
def flattery(n, s):
    t = torch.linspace(-10, 10, 20_001)
    normal = torch.distributions.Normal(0.0, 1.0)
    density = n * normal.log_prob(t).exp() * normal.cdf(t) ** n
    return s * torch.trapezoid(t * density, t)


@wrong("q3", says="negative number")
def flattery(n, s):
    t = torch.linspace(-10, 10, 20_001)
    normal = torch.distributions.Normal(0.0, 1.0)
    density = n * normal.log_prob(t).exp() * normal.cdf(-t) ** (n - 1)
    return s * torch.trapezoid(t * density, t)


@wrong("q3", says="as likely to be the lowest")
def chance(n):
    return 1 - 0.5**n


@wrong("q3", says="of the single run")
def chance(n):
    return 1 / (n + 1)


@wrong("q4", says="Add up sums; divide once")
def mean_nll(chunks):
    total, K = None, 0
    for log_w in chunks:
        part = torch.logsumexp(log_w, 0) - math.log(len(log_w))
        total = part if total is None else torch.logaddexp(total, part)
        K += len(log_w)
    return -(total - math.log(K)).mean()


@wrong("q4", says="the last chunk")
def mean_nll(chunks):
    total = torch.stack([c.logsumexp(0) for c in chunks]).logsumexp(0)
    return -(total - math.log(len(chunks[-1]))).mean()


@wrong("q4", says="easiest image")
def mean_nll(chunks):
    log_w = torch.cat(chunks)
    log_p = log_w.logsumexp(0) - math.log(len(log_w))
    return -(log_p.logsumexp(0) - math.log(len(log_p)))


@wrong("q4", says="chunks' own bounds")
def mean_nll(chunks):
    each = [c.logsumexp(0) - math.log(len(c)) for c in chunks]
    return -torch.stack(each).mean()


@wrong("q5", says="divides by K − 1")
def leave_one_out(log_w):
    share = torch.softmax(log_w, 0)
    bound = torch.logsumexp(log_w, 0) - math.log(len(log_w))
    return bound + torch.log1p(-share)


@wrong("q5", says="no digits left")
def leave_one_out(log_w):
    share = torch.softmax(log_w, 0)
    rest = torch.logsumexp(log_w, 0) + torch.log1p(-share)
    return rest - math.log(len(log_w) - 1)


@wrong("q5", says="The mean of the *weights*")
def leave_one_out(log_w):
    return (log_w.sum(0) - log_w) / (len(log_w) - 1)


@wrong("q5", says="closed while yours is checked")
def leave_one_out(log_w):
    import vaelearn as vl

    K = len(log_w)
    out = vl.gradients.left_out_bound(log_w[:, None])[:, 0]
    return out + math.log(K / (K - 1))


def _rest(log_w):
    table = log_w.expand(len(log_w), *log_w.shape).clone()
    for k in range(len(log_w)):
        table[k, k] = -math.inf
    return torch.logsumexp(table, 1) - math.log(len(log_w) - 1)


@wrong("q5", says="have changed places")
def jackknife(log_w):
    K = len(log_w)
    bound = torch.logsumexp(log_w, 0) - math.log(K)
    return (K - 1) * bound - K * _rest(log_w).mean(0)


@wrong("q5", says="a mean of the K bounds")
def jackknife(log_w):
    K = len(log_w)
    bound = torch.logsumexp(log_w, 0) - math.log(K)
    return K * bound - (K - 1) * _rest(log_w).sum(0)


def _table(mean, sd, n, ours, quantile, v1, v2):
    difference, half = float(ours.mean()) - mean, quantile * (v1 + v2) ** 0.5
    return {
        "difference": difference,
        "half width": half,
        "comes out": abs(difference) <= half,
    }


@wrong("q6", says="normal quantile")
def against_the_paper(mean, sd, n, ours):
    v1, v2 = sd**2 / n, float(ours.var()) / len(ours)
    return _table(mean, sd, n, ours, 1.96, v1, v2)


@wrong("q6", says="two equal spreads")
def against_the_paper(mean, sd, n, ours):
    v1, v2 = sd**2 / n, float(ours.var()) / len(ours)
    quantile = stats.t.ppf(0.975, n + len(ours) - 2)
    return _table(mean, sd, n, ours, quantile, v1, v2)


@wrong("q6", says="varies by √n less")
def against_the_paper(mean, sd, n, ours):
    m = len(ours)
    v1, v2 = sd**2, float(ours.var()) / m
    nu = (v1 + v2) ** 2 / (v1**2 / (n - 1) + v2**2 / (m - 1))
    return _table(mean, sd, n, ours, stats.t.ppf(0.975, nu), v1, v2)


@wrong("q6", says="yours less theirs")
def against_the_paper(mean, sd, n, ours):
    m = len(ours)
    v1, v2 = sd**2 / n, float(ours.var()) / m
    nu = (v1 + v2) ** 2 / (v1**2 / (n - 1) + v2**2 / (m - 1))
    said = _table(mean, sd, n, ours, stats.t.ppf(0.975, nu), v1, v2)
    return said | {"difference": -said["difference"]}
