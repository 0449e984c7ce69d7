"""Natural wrong answers to chapter 4's questions, and words that the message must hold."""

import math

import torch

from exercises.wrong_answers import WrongAnswers

wrong = WrongAnswers()


@wrong("q1", says="its inverse comes out, 1/k")
def weibull(u, scale, shape):
    return scale * (-torch.log1p(-u)) ** shape


@wrong("q1", says="as by a rate")
def weibull(u, scale, shape):
    return (-torch.log(u)) ** (1 / shape) / scale


@wrong("q1", says="*inverse* of F")
def weibull(u, scale, shape):
    return 1 - torch.exp(-((u / scale) ** shape))


@wrong("q1", says="draw nothing new")
def weibull(u, scale, shape):
    return torch.distributions.Weibull(scale, shape).rsample(u.shape)


@wrong("q1", says="cut the path")
def weibull(u, scale, shape):
    return (scale * (-torch.log(u)) ** (1 / shape)).detach()


@wrong("q1", says="no gradient reaches `shape`")
def weibull(u, scale, shape):
    return scale * (-torch.log(u)) ** (1 / shape.detach())


@wrong("q1", says="negative number")
def weibull(u, scale, shape):
    return scale * torch.log(1 - u) ** (1 / shape)


def but(**entries):
    def factors(k):
        right = {
            "samples": (1 / k, 1 / k),
            "height": (k**2, k**2),
            "frequency": (k**2, 1),
            "width": (1, k**-2),
            "constant": (1, 1 + 2 * k**2),
        }
        return right | {name: f(k) for name, f in entries.items()}

    return factors


wrong(
    "q2",
    says="not standard deviations",
    factors=but(samples=lambda k: (k**-0.5, k**-0.5)),
)
wrong(
    "q2",
    says="the variance of a sum",
    factors=but(samples=lambda k: (k**-2, k**-2)),
)
wrong(
    "q2", says="a variance is quadratic", factors=but(height=lambda k: (k, k))
)
wrong(
    "q2",
    says="never sees a slope",
    factors=but(frequency=lambda k: (k**2, k**2)),
)
wrong("q2", says="σ is not in it", factors=but(width=lambda k: (k**-2, k**-2)))
wrong("q2", says="the other way round", factors=but(width=lambda k: (1, k**2)))
wrong(
    "q2", says="a constant is not free", factors=but(constant=lambda k: (1, 1))
)
wrong(
    "q2",
    says="mean square of cos is ½",
    factors=but(constant=lambda k: (1, 1 + k**2)),
)
wrong(
    "q2",
    says="means of cos² ωz",
    factors=but(constant=lambda k: (1, 1 + 4 * k**2)),
)
wrong(
    "q2",
    says="means of cos² ωz",
    factors=but(constant=lambda k: (1, 1 + 2 * k**2 / 3)),
)
wrong(
    "q2", says="a single estimate", factors=but(width=lambda k: (1, 1 / k**3))
)
wrong("q2", says="should be a pair", factors=but(constant=lambda k: 1))


def score(a, b, c):
    return 2 * (a + 4 * c) ** 2 + 10 * b**2 + 24 * c**2


@wrong("q3", says="takes the squared mean off")
def width_variances(a, b, c):
    return b**2 + 12 * c**2, score(a, b, c) + 4 * c**2


@wrong("q3", says="multiplied by σε first")
def width_variances(a, b, c):
    return 4 * c**2, (a + 2 * c) ** 2 + 2 * b**2 + 6 * c**2


@wrong("q3", says="even a constant slope has noise")
def width_variances(a, b, c):
    return 8 * c**2, score(a, b, c)


@wrong("q3", says="E[h³] = 8")
def width_variances(a, b, c):
    return b**2 + 8 * c**2, 2 * a**2 + 10 * b**2 + 56 * c**2


@wrong("q3", says="also holds −log σ")
def width_variances(a, b, c):
    return b**2 + 8 * c**2, 2 * a**2 + 20 * a * c + 15 * b**2 + 74 * c**2


@wrong("q3", says="Here there is none")
def width_variances(a, b, c):
    return b**2 + 8 * c**2, 10 * b**2 + 24 * c**2


@wrong("q3", says="standard deviation")
def width_variances(a, b, c):
    return (b**2 + 8 * c**2) ** 0.5, score(a, b, c) ** 0.5


def log_q(standard, log_var):
    return -0.5 * (standard**2 + log_var + math.log(2 * math.pi)).sum(-1)


def log_p(model, x, z):
    return model.prior().log_prob(z) + model.likelihood(z).log_prob(x)


@wrong("q4", says="spread by the variance")
def path_log_w(model, x, mu, log_var, eps):
    z = mu + log_var.exp() * eps
    mu, log_var = mu.detach(), log_var.detach()
    return log_p(model, x, z) - log_q((z - mu) / (0.5 * log_var).exp(), log_var)


@wrong("q4", says="dividing by σ")
def path_log_w(model, x, mu, log_var, eps):
    z = mu + (0.5 * log_var).exp() * eps
    mu, log_var = mu.detach(), log_var.detach()
    return log_p(model, x, z) - log_q((z - mu) / log_var, log_var)


@wrong("q4", says="before any gradient")
def path_log_w(model, x, mu, log_var, eps):
    z = (mu + log_var.exp() * eps).detach()
    return log_p(model, x, z) - log_q((z - mu) / log_var, log_var)


@wrong("q4", says="before any gradient")
def path_log_w(model, x, mu, log_var, eps):
    z = mu + log_var.exp() * eps
    q = torch.distributions.Normal(mu.detach(), log_var.detach().exp())
    return log_p(model, x, z) - q.log_prob(z).sum(-1)


@wrong("q4", says="score term alone")
def path_log_w(model, x, mu, log_var, eps):
    z = (mu + (0.5 * log_var).exp() * eps).detach()
    return log_p(model, x, z) - log_q((z - mu) / (0.5 * log_var).exp(), log_var)


@wrong("q4", says="nothing is cut")
def path_log_w(model, x, mu, log_var, eps):
    z = mu + (0.5 * log_var).exp() * eps
    return log_p(model, x, z) - log_q((z - mu) / (0.5 * log_var).exp(), log_var)


@wrong("q4", says="the path through log q is missing")
def path_log_w(model, x, mu, log_var, eps):
    z = mu + (0.5 * log_var).exp() * eps
    return log_p(model, x, z) - log_q(eps, log_var.detach())


@wrong("q4", says="it has no gradient")
def path_log_w(model, x, mu, log_var, eps):
    mu, log_var = mu.detach(), log_var.detach()
    z = mu + (0.5 * log_var).exp() * eps
    return (
        log_p(model, x, z) - log_q((z - mu) / (0.5 * log_var).exp(), log_var)
    ).detach()


def land(path, eps, columns, apart=True, transpose=False):
    total = 0
    for k in range(len(eps)):
        others = (
            torch.arange(len(eps)) != k
            if apart
            else torch.arange(len(eps)) >= 0
        )
        X, Y = columns[others].transpose(0, 1), path[others].transpose(0, 1)
        slope = torch.linalg.lstsq(X, Y).solution[:, -eps.shape[-1] :]
        total = (
            total
            + path[k]
            - torch.einsum(
                "bi,bji->bj" if transpose else "bi,bij->bj", eps[k], slope
            )
        )
    return total / len(eps)


def with_ones(eps):
    return torch.cat([torch.ones_like(eps[..., :1]), eps], -1)


def fit_all(path, eps):
    X, Y = with_ones(eps).transpose(0, 1), path.transpose(0, 1)
    return (X @ torch.linalg.lstsq(X, Y).solution).transpose(0, 1)


@wrong("q5", says="nothing was taken off")
def landed(path, eps):
    return path.mean(0)


@wrong("q5", says="column of ones")
def landed(path, eps):
    return land(path, eps, eps)


@wrong("q5", says="used transposed")
def landed(path, eps):
    return land(path, eps, with_ones(eps), transpose=True)


@wrong("q5", says="has seen the sample")
def landed(path, eps):
    return land(path, eps, with_ones(eps), apart=False)


@wrong("q5", says="has seen the sample")
def landed(path, eps):
    X, Y = with_ones(eps).transpose(0, 1), path.transpose(0, 1)
    return torch.linalg.lstsq(X, Y).solution[:, 0]


@wrong("q5", says="mean of the fitted constants")
def landed(path, eps):
    K, total = len(eps), 0
    for k in range(K):
        others = torch.arange(K) != k
        X, Y = (
            with_ones(eps)[others].transpose(0, 1),
            path[others].transpose(0, 1),
        )
        total = total + torch.linalg.lstsq(X, Y).solution[:, 0]
    return total / K


@wrong("q5", says="nothing of g is left")
def landed(path, eps):
    return (path - fit_all(path, eps)).mean(0)


@wrong("q5", says="but not a fit")
def landed(path, eps):
    K, each = len(eps), torch.einsum("kbi,kbj->kbij", path, eps)
    others = (each.sum(0) - each) / (K - 1)
    return (path - torch.einsum("kbij,kbj->kbi", others, eps)).mean(0)


@wrong("q5", says="latents may be coupled")
def landed(path, eps):
    total = 0
    K = len(eps)
    for k in range(K):
        e, h = eps[torch.arange(K) != k], path[torch.arange(K) != k]
        e, h = e - e.mean(0), h - h.mean(0)
        total = total + path[k] - (e * h).sum(0) / (e * e).sum(0) * eps[k]
    return total / K


@wrong("q5", says="one fit served all")
def landed(path, eps):
    L = eps.shape[-1]
    fit = torch.linalg.lstsq(
        with_ones(eps).reshape(-1, L + 1), path.reshape(-1, L)
    ).solution[1:]
    return (path - eps @ fit).mean(0)
