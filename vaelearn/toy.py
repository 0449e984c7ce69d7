"""A toy of one dimension whose average ELBO splits exactly, by quadrature."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_choice


@dataclass(frozen=True)
class TwoClusters:
    """The toy on which the ELBO's two failures show exactly. After Zhao, Song & Ermon 2019, section 2.

    x ~ ½N(−1, τ²) + ½N(1, τ²), the whole population; τ = 0 is a data set of two points.
    z ~ N(0, 1), q(z | x) = N(μx, s²), both z and x one-dimensional. The decoder is not a parameter: it
    is the best one for this q. Raises ValueError unless μ is finite, s > 0 and τ >= 0.
    """

    mu: float
    s: float
    tau: float = 0.0

    def __post_init__(self):
        if not (math.isfinite(self.mu) and 0 < self.s < math.inf and 0 <= self.tau < math.inf):
            raise ValueError(f"TwoClusters needs a finite μ, s > 0 and τ >= 0; got {self}")

    def entropy(self) -> float:
        """H(p_D) of the data, in nats; −inf for two points, which have no density."""
        return _clusters_entropy(1.0, self.tau)

    def terms(self, decoder: str = "gaussian") -> dict[str, float]:
        """The average ELBO over p_D and what it is made of, in nats.

        elbo = reconstruction − kl, kl = mutual_information + marginal_kl, both under q(x, z).
        decoder: "gaussian" is p(x | z) = N(m(z), σ²) with the best function m and the best number σ;
        "any" is the best of all densities, q(x | z): reconstruction = −H(p_D) + mutual_information.
        Raises ValueError for another decoder, or "any" with τ = 0, where q(x | z) is no density.
        """
        check_choice("decoder", decoder, ("gaussian", "any"))
        if decoder == "any" and self.tau == 0:
            raise ValueError('decoder="any" needs τ > 0: two points have no density')
        variance = (self.mu * self.tau) ** 2 + self.s**2
        entropy = _clusters_entropy(self.mu, math.sqrt(variance))
        information = entropy - _normal_entropy(self.s)
        marginal = 0.5 * (math.log(2 * math.pi) + self.mu**2 + variance) - entropy
        if decoder == "any":
            reconstruction = information - self.entropy()
        else:
            # σ² = E Var(x | z): the spread inside a cluster, and not knowing which one z came from.
            shrink = self.s**2 / variance
            b = abs(self.mu) / math.sqrt(variance)
            doubt = 2 * math.log(shrink) - b**2 / 2 + math.log(_standard_mean(1 / torch.cosh(b * _T)))
            inside = 2 * math.log(self.tau) + math.log(shrink) if self.tau else -math.inf
            reconstruction = -0.5 * (math.log(2 * math.pi) + 1 + _log_sum(doubt, inside))
        return {
            "elbo": reconstruction - information - marginal,
            "reconstruction": reconstruction,
            "mutual_information": information,
            "marginal_kl": marginal,
            "kl": information + marginal,
        }


_T = torch.linspace(-12, 12, 40_001, dtype=torch.float64)


def _standard_mean(f: Tensor) -> float:
    """E f(t) over t ~ N(0, 1) by the trapezium rule; f given at the grid _T."""
    return torch.trapezoid(f * torch.exp(-(_T**2) / 2) / math.sqrt(2 * math.pi), _T).item()


def _log_sum(a: float, b: float) -> float:
    return max(a, b) + math.log1p(math.exp(-abs(a - b)))


def _normal_entropy(sigma: float) -> float:
    return 0.5 * math.log(2 * math.pi * math.e) + math.log(sigma) if sigma else -math.inf


def _clusters_entropy(mean: float, sigma: float) -> float:
    """Entropy of ½N(−mean, σ²) + ½N(mean, σ²): a normal's, and what z tells about the cluster."""
    if sigma == 0:
        return -math.inf
    b = abs(mean) / sigma
    return _normal_entropy(sigma) + math.log(2) - _standard_mean(F.softplus(-2 * b * (b + _T)))
