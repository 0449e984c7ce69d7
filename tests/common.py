"""What several tests share: the list of all objectives, and two ways to know an expectation exactly."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from torch import nn

from vaelearn import bounds
from vaelearn.divergences import MMD, Adversarial, Stein
from vaelearn.gradients import LearnedBaseline
from vaelearn.metrics import mean_and_error
from vaelearn.objectives import (
    AAE,
    CIWAE,
    ELBO,
    IWAE,
    MIWAE,
    PIWAE,
    STL,
    VIMCO,
    VR,
    WAE,
    BetaVAE,
    DReG,
    InfoVAE,
    ReweightedWakeSleep,
    Schedule,
    ScoreFunction,
    Thinned,
    WakeSleep,
)

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Row:
    """An objective, and what its two gradients must be on average.

    make(model, K, M) gives it, with K samples in M repetitions where it has so many. phi and theta are
    the bounds, log_w (K, M, B) -> (M, B), whose exact gradients its own estimate; None is for those
    that estimate no bound's, which tests of their own must know. pooled: θ's bound takes all M·K samples.
    discrete: z may be. least: the smallest batch. reduction: its value is the bound of one `model.draw`.
    """

    make: Callable
    phi: Callable | None = None
    theta: Callable | None = None
    pooled: bool = False
    discrete: bool = False
    least: int = 1
    reduction: bool = True

    def __call__(self, model, K=2, M=3):
        torch.manual_seed(2)
        objective = self.make(model, K, M)
        return objective.to(next(model.parameters()).dtype) if isinstance(objective, nn.Module) else objective


def moving_average(K):
    """One that has already seen something, so that its baseline is not zero."""
    objective = ScoreFunction(K, "moving-average")
    objective.baseline.loss(None, torch.full((1,), -6.0))
    return objective


def renyi(log_w):
    return bounds.vr(log_w, 0.4)


def mixed(log_w):
    return bounds.ciwae(log_w, 0.3)


elbo, iwae = bounds.elbo, bounds.iwae
# Every way to train that the library has, each with the settings that change its gradients.
OBJECTIVES = {
    "ELBO": Row(lambda model, K, M: ELBO(K), elbo, elbo),
    "ELBO, analytic KL": Row(lambda model, K, M: ELBO(K, "analytic"), elbo, elbo, reduction=False),
    "STL": Row(lambda model, K, M: STL(K), elbo, elbo),
    "ScoreFunction": Row(lambda model, K, M: ScoreFunction(K), elbo, elbo, discrete=True),
    "ScoreFunction, moving average": Row(lambda model, K, M: moving_average(K), elbo, elbo, discrete=True),
    "ScoreFunction, learned": Row(
        lambda model, K, M: ScoreFunction(K, LearnedBaseline(model.data_dim, (6,))), elbo, elbo, discrete=True
    ),
    "ScoreFunction, leave-one-out": Row(
        lambda model, K, M: ScoreFunction(K, "leave-one-out"), elbo, elbo, discrete=True
    ),
    "Schedule": Row(lambda model, K, M: Schedule(lambda epoch: ELBO(K), report=ELBO(K)), elbo, elbo),
    "WakeSleep": Row(lambda model, K, M: WakeSleep(), None, elbo, discrete=True),
    "IWAE": Row(lambda model, K, M: IWAE(K), iwae, iwae),
    "VR": Row(lambda model, K, M: VR(K, 0.4), renyi, renyi),
    "MIWAE": Row(lambda model, K, M: MIWAE(K, M), iwae, iwae),
    "CIWAE": Row(lambda model, K, M: CIWAE(K, 0.3), mixed, mixed),
    "PIWAE": Row(lambda model, K, M: PIWAE(K, M), iwae, iwae, pooled=True),
    "DReG": Row(lambda model, K, M: DReG(K), iwae, iwae),
    "Thinned IWAE": Row(lambda model, K, M: Thinned(IWAE(K), 1.5), iwae, iwae, reduction=False),
    "Thinned PIWAE": Row(lambda model, K, M: Thinned(PIWAE(K, M), 1.5), iwae, iwae, True, reduction=False),
    "VIMCO": Row(lambda model, K, M: VIMCO(K), iwae, iwae, discrete=True),
    "VIMCO, left-out": Row(lambda model, K, M: VIMCO(K, "left-out"), iwae, iwae, discrete=True),
    "ReweightedWakeSleep": Row(lambda model, K, M: ReweightedWakeSleep(K), None, iwae, discrete=True),
    "BetaVAE": Row(lambda model, K, M: BetaVAE(2.0)),
    "BetaVAE, sampled KL": Row(lambda model, K, M: BetaVAE(2.0, "sampled")),
    "InfoVAE": Row(lambda model, K, M: InfoVAE(0.2, 4.0, MMD()), least=2),
    "InfoVAE, Stein": Row(lambda model, K, M: InfoVAE(0.2, 4.0, Stein()), least=2),
    "WAE": Row(lambda model, K, M: WAE(), least=2),
    "AAE": Row(lambda model, K, M: AAE(Adversarial(*model.prior().event_shape, (8,))), least=2),
}


def rows(condition):
    """The names of the rows of which it holds, for parametrize."""
    return [name for name, row in OBJECTIVES.items() if condition(row)]


def scrambled(model, seed=1, scale=0.3):
    """The model in float64 with every parameter moved off its default, so that no term is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.double().parameters():
            p.add_(scale * torch.randn(p.shape, generator=generator, dtype=p.dtype))
        if hasattr(model, "W") and model.latent_dim > 1:
            # Correlated columns correlate the posterior, so that no diagonal q is exact.
            model.W[:, 1] += model.W[:, 0]
    return model


def names_of(model, parameters):
    return [name for name, p in model.named_parameters() if any(p is other for other in parameters)]


def phi(model):
    return names_of(model, model.inference_parameters())


def theta(model):
    return names_of(model, model.generative_parameters())


def z_scores(draws, value):
    """How many standard errors the mean of draws (R, ...) lies from value, entry by entry."""
    mean, error = mean_and_error(draws.detach())
    return (mean - value) / error


def assert_means(draws, exact, names, limit=4.0):
    worst = max(z_scores(draws[name], exact[name]).abs().max().item() for name in names)
    assert worst < limit, f"off by {worst:.1f} standard errors"


def gradient_of(model, value):
    """∇ of the mean of value, by parameter name; None where it does not depend on one."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(value.mean(), parameters, allow_unused=True)
    return dict(zip(names, found, strict=True))


# Two oracles. For a discrete z: all C^K tuples. For a one-dimensional Gaussian z and K <= 2: a grid over
# both noises, on which every integrand is smooth.


def log_weights(mixture, x):
    """log w and log q of every component: (B, C) each."""
    log_q = mixture.posterior(x).logits.log_softmax(-1)
    return mixture.log_joint(x) - log_q, log_q


def over_tuples(mixture, x, K, function):
    """E over K samples of function(log_w (K, 1, B), log_q (K, 1, B)), by enumeration."""
    log_w, log_q = log_weights(mixture, x)
    total = 0
    for tuple_ in product(range(mixture.components), repeat=K):
        picked = [column[:, list(tuple_)].T[:, None] for column in (log_w, log_q)]
        total = total + picked[1].sum((0, 1)).exp() * function(*picked)
    return total


def on_the_grid(model, x, function, K=2):
    """E over K <= 2 samples of function(log_w (K, M, B)) -> (M, B), by the trapezium rule in each noise."""
    noise = torch.linspace(-9, 9, 181, dtype=x.dtype)
    q = model.posterior(x)
    z = q.mean + q.stddev * noise[:, None, None]
    log_w = model.likelihood(z).log_prob(x) + model.prior().log_prob(z) - q.log_prob(z)
    one, two = torch.cartesian_prod(torch.arange(181), torch.arange(181)).T
    weight = torch.exp(-(noise[one] ** 2 + noise[two] ** 2) / 2) * (noise[1] - noise[0]) ** 2 / (2 * math.pi)
    return weight @ function(torch.stack((log_w[one], log_w[two]))[:K])


def exact_mean(model, x, bound, K):
    """E[bound] over K samples, (B,), by whichever oracle knows it."""
    if bound is elbo:
        return model.elbo(x)
    if hasattr(model, "components"):
        return over_tuples(model, x, K, lambda log_w, _: bound(log_w)[0])
    return on_the_grid(model, x, bound, K)
