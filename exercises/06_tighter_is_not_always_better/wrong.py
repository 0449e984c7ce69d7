"""Natural wrong answers to chapter 6's questions, and words that the message must hold."""

import math

import torch

from exercises.wrong_answers import WrongAnswers

wrong = WrongAnswers()


@wrong("q1", says="divide by the standard deviation")
def snr(g):
    return g.mean(0).abs() / g.var(0)


@wrong("q1", says="before the mean")
def snr(g):
    return g.abs().mean(0) / g.std(0)


@wrong("q1", says="it is signed")
def snr(g):
    return g.mean(0) / g.std(0)


@wrong("q1", says="belongs to one draw")
def snr(g):
    return g.mean(0).abs() / (g.std(0, correction=0) / len(g) ** 0.5)


@wrong("q1", says="last axis")
def snr(g):
    return g.mean(-1).abs() / g.std(-1)


@wrong("q1", says="everything was averaged at once")
def snr(g):
    return g.mean().abs() / g.std()


@wrong("q1", says="root of the mean square")
def snr(g):
    return g.mean(0).abs() / g.square().mean(0).sqrt()


def say(**changes):
    def factors(a, b):
        right = {
            "theta": math.sqrt(a * b),
            "phi": math.sqrt(a / b),
            "phi_mean": 1 / b,
            "phi_noise": 1 / math.sqrt(a * b),
            "phi_draws": b / a,
        }
        return right | {name: change(a, b) for name, change in changes.items()}

    return factors


wrong(
    "q2",
    says="generative network's",
    factors=say(phi=lambda a, b: (a * b) ** 0.5),
)
wrong("q2", says="divides it by its noise", factors=say(phi=lambda a, b: 1 / b))
wrong("q2", says="M is missing", factors=say(theta=lambda a, b: b**0.5))
wrong(
    "q2",
    says="M does not move a mean",
    factors=say(phi_mean=lambda a, b: 1 / (a * b)),
)
wrong(
    "q2", says="rate of the noise", factors=say(phi_mean=lambda a, b: b**-0.5)
)
wrong(
    "q2", says="σ is its root", factors=say(phi_noise=lambda a, b: 1 / (a * b))
)
wrong(
    "q2",
    says="gains √n only",
    factors=say(phi_draws=lambda a, b: (b / a) ** 0.5),
)
wrong("q2", says="pays for K", factors=say(phi=lambda a, b: (b / a) ** 0.5))
wrong("q2", says="should return a dict", factors=lambda a, b: (a * b) ** 0.5)


@wrong("q3", says="M is held at T")
def largest_K(T, N, C):
    return min(max(C**2 * T * N / 4, 1), T)


@wrong("q3", says="looks at one step")
def largest_K(T, N, C):
    return min(max(C * math.sqrt(T) / 2, 1), T)


@wrong("q3", says="by √N, not by N")
def largest_K(T, N, C):
    return min(max(C * math.sqrt(T) * N / 2, 1), T)


@wrong("q3", says="not two")
def largest_K(T, N, C):
    return min(max(C * math.sqrt(T * N), 1), T)


@wrong("q3", says="larger than the budget")
def largest_K(T, N, C):
    return max(C * math.sqrt(T * N) / 2, 1)


@wrong("q3", says="less than one sample")
def largest_K(T, N, C):
    return min(C * math.sqrt(T * N) / 2, T)


@wrong("q3", says="no rounding")
def largest_K(T, N, C):
    return min(max(int(C * math.sqrt(T * N) / 2), 1), T)


@wrong("q3", says="rounded up")
def largest_K(T, N, C):
    return min(max(math.ceil(C * math.sqrt(T * N) / 2), 1), T)


@wrong(
    "q4", says="then looks like signal. (And not only that.)"
)  # the cell as found
def pooled_snr2(g):
    return g.abs().mean(0).square().sum() / g.var(1).sum()


@wrong("q4", says="over draws. (And not only that.)")
def pooled_snr2(g):
    return g.mean(0).square().sum() / g.var(1).sum()


@wrong("q4", says="(first and second draws) is unbiased, but noisier")
def pooled_snr2(g):
    first, second = g.chunk(2)
    return (first.mean(0) * second.mean(0)).sum() / g.var(0).sum()


@wrong("q4", says="(even and odd draws) is unbiased, but noisier")
def pooled_snr2(g):
    return (g[::2].mean(0) * g[1::2].mean(0)).sum() / g.var(0).sum()


@wrong("q4", says="noise floor is still in it")
def pooled_snr2(g):
    return g.mean(0).square().sum() / g.var(0).sum()


@wrong("q4", says="looks like signal")
def pooled_snr2(g):
    noise = g.var(0)
    return (g.abs().mean(0).square() - noise / len(g)).sum() / noise.sum()


@wrong("q4", says="across the parameters")
def pooled_snr2(g):
    noise = g.var(1).sum()
    return (g.mean(0).square().sum() - noise / len(g)) / noise


@wrong("q4", says="(And not only that.)")
def pooled_snr2(g):
    return g.abs().mean(0).square().sum() / g.var(0).sum()


@wrong("q4", says="2/πn")
def pooled_snr2(g):
    return g.mean(0).square().sum() / g.var(0).sum() - 2 / (math.pi * len(g))


@wrong("q4", says="n times less")
def pooled_snr2(g):
    noise = g.var(0)
    return (g.mean(0).square() - noise).sum() / noise.sum()


@wrong("q4", says="cut off at 0")
def pooled_snr2(g):
    noise = g.var(0)
    return ((g.mean(0).square() - noise / len(g)).sum() / noise.sum()).clamp(
        min=0
    )


@wrong("q4", says="divides by n, and is not unbiased")
def pooled_snr2(g):
    noise = g.var(0, correction=0)
    return (g.mean(0).square() - noise / len(g)).sum() / noise.sum()


def fitted(columns, y):
    return torch.linalg.lstsq(torch.stack(columns, 1), y.T).solution[0]


def slopes_of(K, snr):
    return fitted([K.log(), torch.ones_like(K), 1 / K], snr.log())


@wrong("q5", says="β/K is missing")
def slope_interval(K, snr, t):
    s = fitted([K.log(), torch.ones_like(K)], snr.log())
    return s.mean(), t * s.std() / len(s) ** 0.5


@wrong("q5", says="SNR went in without its logarithm")
def slope_interval(K, snr, t):
    s = fitted([K.log(), torch.ones_like(K), 1 / K], snr)
    return s.mean(), t * s.std() / len(s) ** 0.5


@wrong("q5", says="intercept")
def slope_interval(K, snr, t):
    s = fitted([K.log(), 1 / K], snr.log())
    return s.mean(), t * s.std() / len(s) ** 0.5


@wrong("q5", says="√S times less")
def slope_interval(K, snr, t):
    s = slopes_of(K, snr)
    return s.mean(), t * s.std()


@wrong("q5", says="wants S − 1")
def slope_interval(K, snr, t):
    s = slopes_of(K, snr)
    return s.mean().item(), t * s.numpy().std() / len(s) ** 0.5


@wrong("q5", says="whole width")
def slope_interval(K, snr, t):
    s = slopes_of(K, snr)
    return s.mean(), 2 * t * s.std() / len(s) ** 0.5


@wrong("q5", says="averaged before the logarithm")
def slope_interval(K, snr, t):
    s = slopes_of(K, snr)
    return slopes_of(K, snr.mean(0, keepdim=True))[0], t * s.std() / len(
        s
    ) ** 0.5


@wrong("q5", says="quantile t is missing")
def slope_interval(K, snr, t):
    s = slopes_of(K, snr)
    return s.mean(), s.std() / len(s) ** 0.5


@wrong("q5", says="scatter of the S slopes")
def slope_interval(K, snr, t):
    X = torch.stack([K.log(), torch.ones_like(K), 1 / K], 1).repeat(len(snr), 1)
    y = snr.log().flatten()
    beta = torch.linalg.pinv(X) @ y
    variance = (y - X @ beta).square().sum() / (len(y) - 3)
    return beta[0], t * (variance * torch.linalg.inv(X.T @ X)[0, 0]) ** 0.5


def moments(d, v, s2):
    u = 2 * s2 - v
    return u, s2 / (v * u).sqrt() * (d**2 / u).exp()


def pulls(second, d, v, s2, K):
    u = 2 * s2 - v
    return -second / K * d / u, second / K * (
        (v - s2) / u + 2 * s2 * d**2 / u**2
    )


@wrong("q6", says="downhill")
def pull(d, v, s2, K):
    c, log_s = pulls(moments(d, v, s2)[1].prod(), d, v, s2, K)
    return -c, -log_s


@wrong("q6", says="a factor 2 is off")
def pull(d, v, s2, K):
    c, log_s = pulls(moments(d, v, s2)[1].prod(), d, v, s2, K)
    return 2 * c, 2 * log_s


@wrong("q6", says="own factor alone")
def pull(d, v, s2, K):
    return pulls(moments(d, v, s2)[1], d, v, s2, K)


@wrong("q6", says="1 + Var[r]")
def pull(d, v, s2, K):
    return pulls(moments(d, v, s2)[1].prod() - 1, d, v, s2, K)


@wrong("q6", says="product is missing")
def pull(d, v, s2, K):
    return pulls(1, d, v, s2, K)


@wrong("q6", says="First comes the one for c")
def pull(d, v, s2, K):
    return pulls(moments(d, v, s2)[1].prod(), d, v, s2, K)[::-1]


@wrong("q6", says="ELBO's gradient")
def pull(d, v, s2, K):
    return -d / v, 1 - s2 / v


@wrong("q6", says="derivative for s.")
def pull(d, v, s2, K):
    c, log_s = pulls(moments(d, v, s2)[1].prod(), d, v, s2, K)
    return c, log_s / s2.sqrt()


@wrong("q6", says="term with d² is missing")
def pull(d, v, s2, K):
    u, each = moments(d, v, s2)
    return -each.prod() / K * d / u, each.prod() / K * (v - s2) / u


@wrong("q6", says="ELBO's answer")
def resting_variance(d, v):
    return v


@wrong("q6", says="other root")
def resting_variance(d, v):
    h = 3 * v + 2 * d**2
    return (h - (h**2 - 8 * v**2).sqrt()) / 4


@wrong("q6", says="KL(p‖q)")
def resting_variance(d, v):
    return v + d**2
