"""Natural wrong answers to chapter 11's questions, and words that the message must hold."""

import math

import torch
import torch.nn.functional as F
from torch import distributions as D

import vaelearn as vl
from exercises.wrong_answers import WrongAnswers

wrong = WrongAnswers()


def sides(d_q, d_p):
    return F.logsigmoid(d_q).mean(), F.logsigmoid(-d_p).mean()


@wrong("q1", says="log 2 is missing")
def js_estimate(d_q, d_p):
    return sum(sides(d_q, d_p)) / 2


@wrong("q1", says="each side counts ½")
def js_estimate(d_q, d_p):
    return math.log(2) + sum(sides(d_q, d_p))


@wrong("q1", says="wrong sign: a draw from p")
def js_estimate(d_q, d_p):
    return math.log(2) + sum(sides(d_q, -d_p)) / 2


@wrong("q1", says="counts for more")
def js_estimate(d_q, d_p):
    return math.log(2) + F.logsigmoid(torch.cat([d_q, -d_p])).mean()


@wrong("q1", says="cut off at 0")
def js_estimate(d_q, d_p):
    return (math.log(2) + sum(sides(d_q, d_p)) / 2).clamp(min=0)


@wrong("q1", says="Work from the logit")
def js_estimate(d_q, d_p):
    return (
        math.log(2)
        + (d_q.sigmoid().log().mean() + (1 - d_p.sigmoid()).log().mean()) / 2
    )


@wrong("q1", says="a clamp before the logarithm")
def js_estimate(d_q, d_p):
    of_q, of_p = (d.sigmoid().clamp(1e-9, 1 - 1e-9) for d in (d_q, -d_p))
    return math.log(2) + (of_q.log().mean() + of_p.log().mean()) / 2


@wrong("q2", says="the smaller number wins")
def gain(ours, elbo):
    better = ours - elbo
    return better.mean(), better.std() / len(better) ** 0.5


@wrong("q2", says="lucky for both")
def gain(ours, elbo):
    return (elbo - ours).mean(), ((ours.var() + elbo.var()) / len(ours)) ** 0.5


@wrong("q2", says="The mean gain comes first")
def gain(ours, elbo):
    better = elbo - ours
    return better.std() / len(better) ** 0.5, better.mean()


@wrong("q2", says="√S times less")
def gain(ours, elbo):
    return (elbo - ours).mean(), (elbo - ours).std()


@wrong("q2", says="S − 1")
def gain(ours, elbo):
    better = elbo - ours
    return better.mean(), better.std(correction=0) / len(better) ** 0.5


def right_modes(n, r, g):
    f = r / n
    js = math.log(2) - ((1 + f) * math.log(1 + f) - f * math.log(f)) / 2
    return {
        "KL": math.log(n / r),
        "JS": js,
        "MMD": g * (1 / r - 1 / n),
        "Stein": 0.0,
    }


@wrong("q3", says="the other direction")
def missing_modes(n, r, g):
    return right_modes(n, r, g) | {"KL": math.inf}


@wrong("q3", says="a divergence is not negative")
def missing_modes(n, r, g):
    return right_modes(n, r, g) | {"KL": math.log(r / n)}


@wrong("q3", says="for disjoint q and p")
def missing_modes(n, r, g):
    return right_modes(n, r, g) | {"JS": math.log(2)}


@wrong("q3", says="the shared modes")
def missing_modes(n, r, g):
    return right_modes(n, r, g) | {"JS": (1 - r / n) * math.log(2)}


@wrong("q3", says="half of KL(p ‖ m) is missing")
def missing_modes(n, r, g):
    return right_modes(n, r, g) | {"JS": math.log(2 / (1 + r / n)) / 2}


@wrong("q3", says="over the modes in use only")
def missing_modes(n, r, g):
    f = r / n
    return right_modes(n, r, g) | {
        "JS": (math.log(2 / (1 + f)) + f * math.log(2 * f / (1 + f))) / 2
    }


@wrong("q3", says="its square was asked for")
def missing_modes(n, r, g):
    return right_modes(n, r, g) | {"MMD": (g * (1 / r - 1 / n)) ** 0.5}


@wrong("q3", says="the term across")
def missing_modes(n, r, g):
    return right_modes(n, r, g) | {"MMD": g / r + g / n}


@wrong("q3", says="it sees scores only")
def missing_modes(n, r, g):
    return right_modes(n, r, g) | {"Stein": math.log(n / r)}


@wrong("q4", says="votes for the prior's side")
def soft_logit(r, a):
    return math.log(a) + r


@wrong("q4", says="softens both labels")
def soft_logit(r, a):
    return torch.log(a * r.exp() + 1 - a) - torch.log((1 - a) * r.exp() + a)


@wrong("q4", says="best probability")
def soft_logit(r, a):
    return a * r.sigmoid()


@wrong("q4", says="hard labels")
def soft_logit(r, a):
    return r


@wrong("q4", says="as unequal batches would")
def soft_logit(r, a):
    return r + math.log(a / (1 - a))


@wrong("q4", says="does not run straight into it")
def soft_logit(r, a):
    return r.clamp(max=math.log(a / (1 - a)))


@wrong("q4", says="Did something overflow")
def soft_logit(r, a):
    return torch.log(a * r.exp() / (1 + (1 - a) * r.exp()))


def logistic(judge, z, y):
    return (F.softplus(-judge(z)).mean() + F.softplus(judge(y)).mean()) / 2


@wrong("q5", says="clamped before the logarithm")
def losses(judge, z, y):
    def loss(z):
        of_q, of_p = (
            torch.sigmoid(judge(at)).clamp(1e-7, 1 - 1e-7) for at in (z, y)
        )
        return -(of_q.log().mean() + (1 - of_p).log().mean()) / 2

    return loss(z.detach()), math.log(2) - loss(z)


@wrong("q5", says="Cut z off there")
def losses(judge, z, y):
    loss = logistic(judge, z, y)
    return loss, math.log(2) - loss


@wrong("q5", says="has the judge's sign")
def losses(judge, z, y):
    return logistic(judge, z.detach(), y), logistic(judge, z, y) - math.log(2)


@wrong("q5", says="one team")
def losses(judge, z, y):
    return logistic(judge, z.detach(), y), logistic(judge, z, y)


@wrong("q5", says="detached in the penalty too")
def losses(judge, z, y):
    loss = logistic(judge, z.detach(), y)
    return loss, math.log(2) - loss


@wrong("q5", says="has rounded to 0 or 1")
def losses(judge, z, y):
    def loss(z):
        return (
            -(
                judge(z).sigmoid().log().mean()
                + (1 - judge(y).sigmoid()).log().mean()
            )
            / 2
        )

    return loss(z.detach()), math.log(2) - loss(z)


def stein(z, score, h, middle=1.0, trace=1.0, diagonal=False):
    N, L = z.shape
    apart = z[:, None] - z
    s = apart.square().sum(-1)
    cross = ((score[:, None] - score) * apart).sum(-1) / h**2
    u = torch.exp(-s / (2 * h**2)) * (
        score @ score.T + middle * cross + trace * (L / h**2 - s / h**4)
    )
    return (
        u.mean() if diagonal else (u.sum() - u.diagonal().sum()) / (N * (N - 1))
    )


@wrong("q6", says="the covariance stands where its inverse belongs")
def ksd(z, mean, covariance, h):
    return stein(z, -(z - mean) @ covariance, h)


@wrong("q6", says="Is the score −Σ⁻¹(z − μ), with its minus")
def ksd(z, mean, covariance, h):
    return stein(z, (z - mean) @ covariance.inverse(), h)


@wrong("q6", says="the diagonal is still in")
def ksd(z, mean, covariance, h):
    return stein(z, -(z - mean) @ covariance.inverse(), h, diagonal=True)


@wrong("q6", says="count a pair as often as you add it")
def ksd(z, mean, covariance, h):
    return stein(z, -(z - mean) @ covariance.inverse(), h) / 2


@wrong("q6", says="Here it is 2h²")
def ksd(z, mean, covariance, h):
    return stein(z, -(z - mean) @ covariance.inverse(), h / 2**0.5)


@wrong("q6", says="not twice by z")
def ksd(z, mean, covariance, h):
    return stein(z, -(z - mean) @ covariance.inverse(), h, trace=-1.0)


@wrong("q6", says="they are opposite")
def ksd(z, mean, covariance, h):
    return stein(z, -(z - mean) @ covariance.inverse(), h, middle=0.0)


@wrong("q6", says="The mean is missing")
def ksd(z, mean, covariance, h):
    return stein(z, -z @ covariance.inverse(), h)


@wrong("q6", says="closed while yours is checked")
def ksd(z, mean, covariance, h):
    prior = D.MultivariateNormal(mean, covariance)
    return vl.divergences.stein_discrepancy(z, prior, bandwidth=h)
