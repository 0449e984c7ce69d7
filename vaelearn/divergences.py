"""D(q(z), p(z)): how far the aggregate posterior is from the prior, told from samples.

    z (N, L), one code a data point, from q(z);   prior, a distribution whose samples are (L,)

Each divergence is called as `divergence(z, prior)` and returns one number, differentiable in z.
The kernels are functions of the squared distance s = ‖z − z′‖², with a bandwidth h. Stein needs their
derivatives as well.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch import distributions as D

from .checks import check_choice, check_width
from .networks import linear, perceptron

Bandwidth = float | Sequence[float] | None


def rbf(s: Tensor, h: float, order: int = 0) -> Tensor:
    """exp(−s / 2h²), or its derivative in s of this order."""
    return (-1 / (2 * h**2)) ** order * torch.exp(-s / (2 * h**2))


def imq(s: Tensor, h: float, order: int = 0) -> Tensor:
    """C / (C + s) with C = h², the inverse multiquadric, or its derivative in s of this order."""
    C = h**2
    return (-1) ** order * math.factorial(order) * C / (C + s) ** (1 + order)


KERNELS = {"rbf": rbf, "imq": imq}


def mmd(
    z: Tensor,
    z_prior: Tensor,
    kernel: str = "rbf",
    bandwidth: Bandwidth = None,
    unbiased: bool = True,
) -> Tensor:
    """Squared maximum mean discrepancy between two samples, (N, L) and (M, L): a scalar.

    E k(z, z̃) + E k(y, ỹ) − 2 E k(z, y), with z, z̃ ~ q and y, ỹ ~ p. Gretton et al. 2012, lemma 6.
    unbiased=True is the U-statistic: no pair of a point with itself, mean zero where q = p, so
    negative half of the time there. False is the V-statistic, never negative, whose mean where q = p
    is (1 − E k(y, ỹ)) (1/N + 1/M), not zero.
    bandwidth: h, or several whose kernels are averaged; None is √L, for two points of N(0, I)
    lie √(2L) apart.
    Raises ValueError for shapes that do not match, an unknown kernel, h <= 0, or N or M < 2.
    """
    _check_codes(z, "z")
    _check_codes(z_prior, "z_prior")
    if z.shape[1] != z_prior.shape[1]:
        raise ValueError(f"codes and prior samples must have one L; got {z.shape[1]} and {z_prior.shape[1]}")
    qq, pp, qp = (_gram(a, b, kernel, bandwidth) for a, b in ((z, z), (z_prior, z_prior), (z, z_prior)))
    if not unbiased:
        return qq.mean() + pp.mean() - 2 * qp.mean()
    return _mean_of_pairs(qq) + _mean_of_pairs(pp) - 2 * qp.mean()


def stein_discrepancy(
    z: Tensor,
    prior: D.Distribution,
    kernel: str = "rbf",
    bandwidth: Bandwidth = None,
    unbiased: bool = True,
) -> Tensor:
    """Squared kernelised Stein discrepancy of a sample z (N, L) from `prior`: a scalar.

    E_{z,z̃~q}[u(z, z̃)] with u = (g·g̃) k + g·∇_z̃ k + g̃·∇_z k + tr ∇_z ∇_z̃ k and g = ∇ log p.
    It needs no samples of the prior. Liu, Lee & Jordan 2016, theorem 3.6; Chwialkowski et al. 2016.
    Arguments, statistics and errors as for `mmd`.
    """
    _check_codes(z, "z")
    L, g, s = z.shape[1], _score(prior, z), _square_distances(z, z)
    k, k1, k2 = (_gram(z, z, kernel, bandwidth, order) for order in range(3))
    # ∇_z k = 2 k′ (z − z̃), so g·∇_z̃ k + g̃·∇_z k = −2 k′ (g − g̃)·(z − z̃).
    along = (g * z).sum(1)
    cross = along[:, None] + along - g @ z.T - z @ g.T
    u = g @ g.T * k - 2 * k1 * cross - 2 * L * k1 - 4 * s * k2
    return _mean_of_pairs(u) if unbiased else u.mean()


@dataclass(frozen=True)
class MMD:
    """`mmd` against as many fresh samples of the prior as there are codes. Arguments as there."""

    kernel: str = "rbf"
    bandwidth: Bandwidth = None
    unbiased: bool = True

    def __post_init__(self):
        check_choice("kernel", self.kernel, tuple(KERNELS))
        _bandwidths(self.bandwidth, 1)

    def __call__(self, z: Tensor, prior: D.Distribution) -> Tensor:
        return mmd(z, prior.sample((len(z),)), self.kernel, self.bandwidth, self.unbiased)


@dataclass(frozen=True)
class Stein:
    """Steepest descent on KL(q(z) ‖ p(z)) in the kernel's function space, InfoVAE's Stein variant.

    The gradient moves each code along E_z̃[k(z, z̃) ∇ log p(z̃) + ∇_z̃ k(z, z̃)], Stein variational
    descent; Liu & Wang 2016; Zhao et al. 2019. The value is that direction's squared length, the Stein
    discrepancy as a V-statistic, the rate at which KL falls; the gradient is KL's, *not* the value's own.
    Arguments and errors as for `mmd`.
    """

    kernel: str = "rbf"
    bandwidth: Bandwidth = None

    def __post_init__(self):
        check_choice("kernel", self.kernel, tuple(KERNELS))
        _bandwidths(self.bandwidth, 1)

    def __call__(self, z: Tensor, prior: D.Distribution) -> Tensor:
        still = z.detach()
        value = stein_discrepancy(still, prior, self.kernel, self.bandwidth, unbiased=False)
        k, k1 = (_gram(still, still, self.kernel, self.bandwidth, order) for order in range(2))
        # ∇_z̃ k = 2 k′ (z̃ − z), summed over z̃.
        repulsion = 2 * (k1 @ still - k1.sum(1, keepdim=True) * still)
        direction = (k @ _score(prior, still) + repulsion) / len(z)
        descent = -(direction * z).sum(1).mean()
        return value + descent - descent.detach()


class Adversarial(nn.Module):
    """A discriminator that learns log q(z)/p(z) and from it tells a divergence, as in the AAE.

    of="js": log 2 + ½ E_q[log σ(d)] + ½ E_p[log σ(−d)], the Jensen–Shannon divergence where
    d(z) = log q(z)/p(z), and below it for any other d, up to sampling noise. Makhzani et al. 2015;
    Goodfellow et al. 2014, theorem 1. of="kl": E_q[d], which is KL(q(z) ‖ p(z)) at the same d and
    bounds nothing elsewhere; its gradient does not fade where q and p lie far apart.
    `loss` is the discriminator's own; `fit` trains it along. Raises ValueError for an unknown `of`.
    """

    def __init__(self, latent_dim: int, hidden: tuple[int, ...] = (100, 100), of: str = "js"):
        super().__init__()
        check_choice("of", of, ("js", "kl"))
        features, width = perceptron(latent_dim, hidden, nn.ReLU)
        self.net = nn.Sequential(features, linear(width, 1))
        self.latent_dim, self.of = latent_dim, of

    def extra_repr(self) -> str:
        return f"of={self.of!r}"

    def log_ratio(self, z: Tensor) -> Tensor:
        """d(z), the estimate of log q(z) − log p(z): (..., L) -> (...). Raises ValueError for another L."""
        check_width("this discriminator", self.latent_dim, z)
        return self.net(z)[..., 0]

    def forward(self, z: Tensor, prior: D.Distribution) -> Tensor:
        _check_codes(z, "z")
        return self.jensen_shannon(z, prior) if self.of == "js" else self.log_ratio(z).mean()

    def jensen_shannon(self, z: Tensor, prior: D.Distribution) -> Tensor:
        """The estimate of JS(q(z), p(z)), in nats: between 0 and log 2 for the best d."""
        # log σ(d) = −softplus(−d), which does not round to log 0 where the discriminator is sure.
        of_q = -F.softplus(-self.log_ratio(z)).mean()
        of_p = -F.softplus(self.log_ratio(prior.sample((len(z),)))).mean()
        return math.log(2) + (of_q + of_p) / 2

    def loss(self, z: Tensor, prior: D.Distribution) -> Tensor:
        """Mean logistic loss, in nats, of telling codes (N, L) from prior samples; z gets no gradient."""
        return math.log(2) - self.jensen_shannon(z.detach(), prior)


def _score(prior: D.Distribution, z: Tensor) -> Tensor:
    """∇_z log p(z), (N, L); with or without a graph around it."""
    return torch.func.grad(lambda z: prior.log_prob(z).sum())(z)


def _mean_of_pairs(k: Tensor) -> Tensor:
    """The mean over ordered pairs of *different* points."""
    return (k.sum() - k.diagonal().sum()) / (len(k) * (len(k) - 1))


def _gram(a: Tensor, b: Tensor, kernel: str, bandwidth: Bandwidth, order: int = 0) -> Tensor:
    """k, or its derivative of this order, between all pairs, (N, M), averaged over the bandwidths."""
    check_choice("kernel", kernel, tuple(KERNELS))
    s, hs = _square_distances(a, b), _bandwidths(bandwidth, a.shape[1])
    return sum(KERNELS[kernel](s, h, order) for h in hs) / len(hs)


def _square_distances(a: Tensor, b: Tensor) -> Tensor:
    """‖a_i − b_j‖², (N, M), by one matrix product."""
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp(min=0)


def _bandwidths(bandwidth: Bandwidth, latent_dim: int) -> list[float]:
    if bandwidth is None:
        return [math.sqrt(latent_dim)]
    hs = list(bandwidth) if isinstance(bandwidth, Sequence) else [bandwidth]
    if not hs or not all(0 < h < math.inf for h in hs):
        raise ValueError(f"bandwidth must be a positive number, or several of them; got {bandwidth!r}")
    return hs


def _check_codes(z: Tensor, name: str) -> None:
    if not (torch.is_tensor(z) and z.is_floating_point() and z.ndim == 2 and len(z) >= 2):
        got = tuple(z.shape) if torch.is_tensor(z) else type(z).__name__
        raise ValueError(f"{name} must be a floating tensor (N, L) with N >= 2 codes; got {got}")
