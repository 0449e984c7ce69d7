"""Natural wrong answers to chapter 10's questions, and words that the message must hold."""

import torch

import vaelearn as vl
from exercises.wrong_answers import WrongAnswers

wrong = WrongAnswers()


@wrong("q1", says="C is h², and you used h")
def imq(z, y, h):
    return h / (h + (z[:, None] - y).square().sum(-1))


@wrong("q1", says="not squared")
def imq(z, y, h):
    return h**2 / (h**2 + torch.cdist(z, y))


@wrong("q1", says="not their mean")
def imq(z, y, h):
    return h**2 / (h**2 + (z[:, None] - y).square().mean(-1))


@wrong("q1", says="transposed")
def imq(z, y, h):
    return h**2 / (h**2 + (z - y[:, None]).square().sum(-1))


@wrong("q1", says="the RBF kernel")
def imq(z, y, h):
    return torch.exp(-(z[:, None] - y).square().sum(-1) / (2 * h**2))


@wrong("q1", says="where two points coincide")
def imq(z, y, h):
    return h**2 / (h**2 + (z[:, None] - y).square().sum(-1).sqrt() ** 2)


@wrong("q1", says="closed while yours is checked")
def imq(z, y, h):
    return vl.divergences.imq((z[:, None] - y).square().sum(-1), h)[0]


@wrong("q2", says="charged u + w, not w")
def weights(a, b):
    return a, b


@wrong("q2", says="those are α and λ")
def weights(a, b):
    return 1 - a, b


@wrong("q2", says="as in the ELBO")
def weights(a, b):
    return a, b - 1


@wrong("q2", says="is allowed: 0 is not negative, and equal prices")
def weights(a, b):
    if a < 0 or b <= a:
        raise ValueError("a weight is not positive")
    return a, b - a


@wrong(
    "q2", says="is allowed: 0 is not negative, and where information is free"
)
def weights(a, b):
    if a <= 0 or b < a:
        raise ValueError("a weight is not positive")
    return a, b - a


@wrong("q2", says="is allowed: both weights are positive")
def weights(a, b):
    if a + b > 1:
        raise ValueError("the prices are too high")
    return a, b - a


@wrong("q2", says="must raise a ValueError: the divergence's weight")
def weights(a, b):
    return a, b - a


@wrong("q2", says="must raise a ValueError: the KL's weight")
def weights(a, b):
    if b < a:
        raise ValueError("b < a")
    return a, b - a


@wrong("q2", says="w, of weights(")
def weights(a, b):
    return a, ...


@wrong("q2", says="a is the price 1 − α, not α")
def weights(a, b):
    return 1 - a, a + b - 1


@wrong("q2", says="swapped")
def weights(a, b):
    return b - a, a


RIGHT = {
    "mean of U": 0,
    "floor of V": -1,
    "spread of U, q = p": -1,
    "spread of U, q != p": -0.5,
    "divided twice": -2,
}


def with_power(**changes):
    powers = RIGHT | changes
    return lambda c: {name: c**power for name, power in powers.items()}


wrong(
    "q3",
    says="only pairs scatter",
    factors=with_power(**{"spread of U, q = p": -0.5}),
)
wrong(
    "q3",
    says="this holds where q = p",
    factors=with_power(**{"spread of U, q != p": -1}),
)
wrong(
    "q3",
    says="the further division by N(N − 1) does",
    factors=with_power(**{"divided twice": -1}),
)
wrong("q3", says="U is unbiased", factors=with_power(**{"mean of U": -1}))
wrong("q3", says="one pair in N", factors=with_power(**{"floor of V": 0}))
wrong(
    "q3",
    says="the variance's factor",
    factors=with_power(**{"spread of U, q = p": -2}),
)
wrong("q3", says="lost its entry", factors=lambda c: {"mean of U": 1})


def mmd_of(z, y, h, unbiased=True):
    return vl.divergences.mmd(z, y, bandwidth=h, unbiased=unbiased)


def check(alpha, lam):
    if alpha + lam < 1:
        raise ValueError("negative weight")


@wrong("q4", says="divided twice")
def infovae_loss(log_likelihood, kl, z, y, alpha, lam):
    check(alpha, lam)
    n, h = len(z), z.shape[1] ** 0.5
    mmd = mmd_of(z, y, h, unbiased=False) / (n * (n - 1))
    return (
        -log_likelihood.mean()
        + (1 - alpha) * kl.mean()
        + (alpha + lam - 1) * mmd
    )


@wrong("q4", says="ignores the latent dimension")
def infovae_loss(log_likelihood, kl, z, y, alpha, lam):
    check(alpha, lam)
    return (
        -log_likelihood.mean()
        + (1 - alpha) * kl.mean()
        + (alpha + lam - 1) * mmd_of(z, y, 1.0)
    )


@wrong("q4", says="α + λ − 1, not λ")
def infovae_loss(log_likelihood, kl, z, y, alpha, lam):
    check(alpha, lam)
    return (
        -log_likelihood.mean()
        + (1 - alpha) * kl.mean()
        + lam * mmd_of(z, y, z.shape[1] ** 0.5)
    )


@wrong("q4", says="diagonal is still in")
def infovae_loss(log_likelihood, kl, z, y, alpha, lam):
    check(alpha, lam)
    mmd = mmd_of(z, y, z.shape[1] ** 0.5, unbiased=False)
    return (
        -log_likelihood.mean()
        + (1 - alpha) * kl.mean()
        + (alpha + lam - 1) * mmd
    )


@wrong("q4", says="clamped")
def infovae_loss(log_likelihood, kl, z, y, alpha, lam):
    check(alpha, lam)
    mmd = mmd_of(z, y, z.shape[1] ** 0.5).clamp(min=0)
    return (
        -log_likelihood.mean()
        + (1 - alpha) * kl.mean()
        + (alpha + lam - 1) * mmd
    )


@wrong("q4", says="absolute value")
def infovae_loss(log_likelihood, kl, z, y, alpha, lam):
    check(alpha, lam)
    mmd = mmd_of(z, y, z.shape[1] ** 0.5).abs()
    return (
        -log_likelihood.mean()
        + (1 - alpha) * kl.mean()
        + (alpha + lam - 1) * mmd
    )


@wrong("q4", says="with the 2")
def infovae_loss(log_likelihood, kl, z, y, alpha, lam):
    check(alpha, lam)
    mmd = mmd_of(z, y, (z.shape[1] / 2) ** 0.5)
    return (
        -log_likelihood.mean()
        + (1 - alpha) * kl.mean()
        + (alpha + lam - 1) * mmd
    )


@wrong("q4", says="no gradient reaches the codes")
def infovae_loss(log_likelihood, kl, z, y, alpha, lam):
    check(alpha, lam)
    mmd = mmd_of(z.detach(), y, z.shape[1] ** 0.5)
    return (
        -log_likelihood.mean()
        + (1 - alpha) * kl.mean()
        + (alpha + lam - 1) * mmd
    )


@wrong("q4", says="that is the objective")
def infovae_loss(log_likelihood, kl, z, y, alpha, lam):
    check(alpha, lam)
    mmd = mmd_of(z, y, z.shape[1] ** 0.5)
    return (
        log_likelihood.mean()
        - (1 - alpha) * kl.mean()
        - (alpha + lam - 1) * mmd
    )


@wrong("q4", says="the KL is summed")
def infovae_loss(log_likelihood, kl, z, y, alpha, lam):
    check(alpha, lam)
    mmd = mmd_of(z, y, z.shape[1] ** 0.5)
    return (
        -log_likelihood.mean()
        + (1 - alpha) * kl.sum()
        + (alpha + lam - 1) * mmd
    )


@wrong("q4", says="could reward a mismatch")
def infovae_loss(log_likelihood, kl, z, y, alpha, lam):
    mmd = mmd_of(z, y, z.shape[1] ** 0.5)
    return (
        -log_likelihood.mean()
        + (1 - alpha) * kl.mean()
        + (alpha + lam - 1) * mmd
    )


def guarded(refused, weight=lambda alpha, lam: alpha + lam - 1):
    """The right loss where `refused` does not hold."""

    def infovae_loss(log_likelihood, kl, z, y, alpha, lam):
        if refused(alpha, lam):
            raise ValueError("negative weight")
        mmd = weight(alpha, lam) * mmd_of(z, y, z.shape[1] ** 0.5)
        return -log_likelihood.mean() + (1 - alpha) * kl.mean() + mmd

    return infovae_loss


for says, refused in (
    ("That is the plain ELBO", lambda alpha, lam: alpha + lam <= 1),
    ("α = 1.5", lambda alpha, lam: alpha + lam < 1 or alpha > 1),
    ("α = -0.5", lambda alpha, lam: alpha + lam < 1 or alpha < 0),
):
    wrong("q4", says, infovae_loss=guarded(refused))
for says, weight in (
    ("the 1 is missing", lambda alpha, lam: alpha + lam),
    ("α is missing", lambda alpha, lam: lam - 1),
    ("α has the wrong sign", lambda alpha, lam: lam - alpha),
):
    wrong("q4", says, infovae_loss=guarded(lambda a, lam: a + lam < 1, weight))


@wrong("q4", says="√(2L) apart. Two more are still there")
def infovae_loss(log_likelihood, kl, z, y, alpha, lam):
    def k(a, b):
        return torch.exp(-(a[:, None] - b).square().sum(-1) / 2)

    mmd = k(z, z).mean() + k(y, y).mean() - 2 * k(z, y).mean()
    mmd = mmd / (len(z) * (len(z) - 1))
    return -log_likelihood.mean() + (1 - alpha) * kl.mean() + lam * mmd


@wrong("q5", says="pairs of different codes")
def favourite_variance(N, L):
    return N / (N + L + 2)


@wrong("q5", says="Asked for is the variance")
def favourite_variance(N, L):
    return (N / (N + L + 1)) ** 0.5


@wrong("q5", says="a squared length scatters")
def favourite_variance(N, L):
    return N / (N + L - 1)


@wrong("q5", says="The diagonal of V moves it")
def favourite_variance(N, L):
    return 1


@wrong("q5", says="k(z, z) = ‖z‖⁴")
def favourite_variance(N, L):
    return N / (N - 1)


def terms(z, h, v_across=1, v_prior=2, diagonal=False):
    N, L = z.shape
    k = torch.exp(-(z[:, None] - z).square().sum(-1) / (2 * h**2))
    codes = (
        k.mean() if diagonal else (k.sum() - k.diagonal().sum()) / (N * (N - 1))
    )
    across = (h**2 / (h**2 + v_across)) ** (L / 2)
    across = across * torch.exp(-z.square().sum(1) / (2 * (h**2 + v_across)))
    return codes, across.mean(), (h**2 / (h**2 + v_prior)) ** (L / 2)


@wrong("q6", says="its variance is 1, not 2")
def mmd_to_prior(z, h):
    codes, across, prior = terms(z, h, v_across=2)
    return codes - 2 * across + prior


@wrong("q6", says="the diagonal is still in")
def mmd_to_prior(z, h):
    codes, across, prior = terms(z, h, diagonal=True)
    return codes - 2 * across + prior


@wrong("q6", says="the prior's own term")
def mmd_to_prior(z, h):
    codes, across, _ = terms(z, h)
    return codes - 2 * across


@wrong("q6", says="clamped")
def mmd_to_prior(z, h):
    codes, across, prior = terms(z, h)
    return (codes - 2 * across + prior).clamp(min=0)


@wrong("q6", says="absolute value")
def mmd_to_prior(z, h):
    codes, across, prior = terms(z, h)
    return (codes - 2 * across + prior).abs()


@wrong("q6", says="stay with tensors")
def mmd_to_prior(z, h):
    codes, across, prior = terms(z.detach(), h)
    return (codes - 2 * across + prior).numpy()


@wrong("q6", says="still draws from the prior")
def mmd_to_prior(z, h):
    def k(a, b):
        return torch.exp(-(a[:, None] - b).square().sum(-1) / (2 * h**2))

    y, N = torch.randn_like(z), len(z)
    off = 1 - torch.eye(N)
    return ((k(z, z) + k(y, y)) * off).sum() / (N * (N - 1)) - 2 * k(
        z, y
    ).mean()


@wrong("q6", says="prior's mean in the place of its draws")
def mmd_to_prior(z, h):
    codes, _, prior = terms(z, h)
    return codes - 2 * torch.exp(-z.square().sum(1) / (2 * h**2)).mean() + prior


@wrong("q6", says="closed while yours is checked")
def mmd_to_prior(z, h):
    return vl.divergences.mmd(z, torch.randn(1000, z.shape[1]), bandwidth=h)
