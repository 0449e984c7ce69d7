"""Models that know their own answers. The book scores every claim against them.

`LinearGaussian` (probabilistic PCA) and `GaussianMixture` speak the protocol of
`LatentVariableModel`, so whatever trains or measures a VAE trains and measures them. They also
know log p(x), the true posterior, the ELBO of any q in their family and the maximum of the
likelihood (the mixture by EM), all in closed form.
"""

import math

import torch
from torch import Tensor, nn
from torch import distributions as D

from .checks import check_count
from .distributions import DiagonalNormal, OneHotCategorical, standard_normal
from .models import LatentVariableModel


class ExactModel(LatentVariableModel):
    """A model whose `log_prob(x)` and `elbo(x)`, both (B,) in nats, are exact and differentiable."""

    def gradient(self, x: Tensor) -> dict[str, Tensor]:
        """Exact gradient of the mean ELBO over x (B, D), by parameter name: θ's and φ's."""
        names, parameters = zip(*self.named_parameters(), strict=True)
        return dict(zip(names, torch.autograd.grad(self.elbo(x).mean(), parameters), strict=True))


class LinearGaussian(ExactModel):
    """Probabilistic PCA with a linear Gaussian encoder. Tipping & Bishop 1999.

    z ~ N(0, I),  x | z ~ N(Wz + b, σ²I),  q(z | x) = N(Ax + c, diag s²).
    θ: W (D, L), b (D,), log_sigma ().  φ: A (L, D), c (L,), log_s (L,).
    W and b are drawn at random from `seed`, σ = 1; q starts near the prior, so it starts out wrong.
    """

    def __init__(self, data_dim: int, latent_dim: int, seed: int = 0):
        super().__init__()
        check_count("data_dim", data_dim)
        check_count("latent_dim", latent_dim)
        self.data_dim, self.latent_dim = data_dim, latent_dim

        generator = torch.Generator().manual_seed(check_count("seed", seed, minimum=0))
        self.W = nn.Parameter(torch.randn(data_dim, latent_dim, generator=generator))
        self.b = nn.Parameter(torch.randn(data_dim, generator=generator))
        self.log_sigma = nn.Parameter(torch.zeros(()))
        self.A = nn.Parameter(0.1 * torch.randn(latent_dim, data_dim, generator=generator))
        self.c = nn.Parameter(torch.zeros(latent_dim))
        self.log_s = nn.Parameter(torch.zeros(latent_dim))

    def prior(self):
        return standard_normal(self.latent_dim, like=self.W)

    def likelihood(self, z):
        return DiagonalNormal(z @ self.W.T + self.b, self.log_sigma.exp())

    def posterior(self, x):
        return DiagonalNormal(x @ self.A.T + self.c, self.log_s.exp())

    def inference_parameters(self):
        return [self.A, self.c, self.log_s]

    def generative_parameters(self):
        return [self.W, self.b, self.log_sigma]

    def marginal(self) -> D.MultivariateNormal:
        """p(x) = N(b, WWᵀ + σ²I). Tipping & Bishop 1999, section 3.1."""
        noise = (2 * self.log_sigma).exp() * torch.eye(self.data_dim).to(self.W)
        return D.MultivariateNormal(self.b, self.W @ self.W.T + noise)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x), exact: x (B, D) -> (B,) nats."""
        self.check_data(x)
        return self.marginal().log_prob(x)

    def posterior_precision(self) -> Tensor:
        """P = I + WᵀW / σ², (L, L): the precision of p(z | x), the same for every x."""
        return torch.eye(self.latent_dim).to(self.W) + self.W.T @ self.W / (2 * self.log_sigma).exp()

    def true_posterior(self, x: Tensor) -> D.MultivariateNormal:
        """p(z | x) = N(P⁻¹Wᵀ(x − b)/σ², P⁻¹): x (B, D) -> batch shape (B,), event shape (L,)."""
        self.check_data(x)
        P = self.posterior_precision()
        pull = (x - self.b) @ self.W / (2 * self.log_sigma).exp()
        return D.MultivariateNormal(torch.linalg.solve(P, pull.T).T, precision_matrix=P)

    def elbo(self, x: Tensor) -> Tensor:
        """E_q[log p(x, z) − log q(z | x)], exact: x (B, D) -> (B,) nats.

        The squared error is a quadratic in z, so its expectation is the one at q's mean plus
        tr(W diag(s²) Wᵀ). Autograd through this closed form is the ELBO's exact gradient.
        """
        self.check_data(x)
        q = self.posterior(x)
        variance = (2 * self.log_sigma).exp()
        error = (x - self.likelihood(q.mean).mean).square().sum(-1)
        spread = (q.variance @ self.W.square().T).sum(-1)
        constant = self.data_dim * (math.log(2 * math.pi) + 2 * self.log_sigma)
        reconstruction = -0.5 * (constant + (error + spread) / variance)
        return reconstruction - D.kl_divergence(q, self.prior())

    @torch.no_grad()
    def perfect_e_step(self) -> None:
        """Set φ to the q in the family nearest to the true posterior, in KL(q ‖ p(z|x)).

        The mean is the posterior's; each variance is one over a diagonal entry of the precision P.
        Where P is diagonal, q is then the posterior itself.
        """
        P = self.posterior_precision()
        self.A.copy_(torch.linalg.solve(P, self.W.T) / (2 * self.log_sigma).exp())
        self.c.copy_(-self.A @ self.b)
        self.log_s.copy_(-0.5 * P.diagonal().log())

    @classmethod
    @torch.no_grad()
    def maximum_likelihood(cls, x: Tensor, latent_dim: int) -> "LinearGaussian":
        """The model that maximises Σ log p(x) over x (N, D), and its best q. Closed form.

        W = U (Λ − σ²I)^½ with the L leading eigenpairs of the data covariance, σ² the mean of the
        eigenvalues left over. Tipping & Bishop 1999, eqs. 7 and 8, with rotation R = I, which
        makes the posterior precision diagonal. Raises ValueError unless latent_dim < D < N.
        """
        n, data_dim = x.shape
        if not 1 <= latent_dim < data_dim < n:
            raise ValueError(
                "maximum_likelihood needs 1 <= latent_dim < D < N; "
                f"got latent_dim={latent_dim}, D={data_dim}, N={n}"
            )
        model = cls(data_dim, latent_dim).to(x)
        eigenvalues, U = torch.linalg.eigh(x.T.cov(correction=0))
        rest, leading = eigenvalues[:-latent_dim], eigenvalues[-latent_dim:]
        if rest.mean() <= 0:
            raise ValueError(f"the data lie in a {latent_dim}-dimensional plane: σ = 0, no maximum exists")
        model.W.copy_(U[:, -latent_dim:] * (leading - rest.mean()).sqrt())
        model.b.copy_(x.mean(0))
        model.log_sigma.copy_(0.5 * rest.mean().log())
        model.perfect_e_step()
        return model


class GaussianMixture(ExactModel):
    """A mixture of C Gaussians with diagonal covariances: the model whose latent is discrete.

    z ~ one-hot Categorical(softmax(logits)),  x | z = c ~ N(mean_c, diag scale_c²),
    q(z | x) = Categorical(softmax(Ax + a)).
    θ: logits (C,), means (C, D), log_scales (C, D).  φ: A (C, D), a (C,).
    Means are drawn at random from `seed`; scales start at 1 and weights equal.
    """

    def __init__(self, data_dim: int, components: int, seed: int = 0):
        super().__init__()
        check_count("data_dim", data_dim)
        check_count("components", components)
        self.data_dim, self.components = data_dim, components

        generator = torch.Generator().manual_seed(check_count("seed", seed, minimum=0))
        self.logits = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(torch.randn(components, data_dim, generator=generator))
        self.log_scales = nn.Parameter(torch.zeros(components, data_dim))
        self.A = nn.Parameter(torch.randn(components, data_dim, generator=generator))
        self.a = nn.Parameter(torch.zeros(components))

    def prior(self):
        return OneHotCategorical(logits=self.logits, validate_args=False)

    def likelihood(self, z):
        return DiagonalNormal(z @ self.means, (z @ self.log_scales).exp())

    def posterior(self, x):
        return OneHotCategorical(logits=x @ self.A.T + self.a, validate_args=False)

    def inference_parameters(self):
        return [self.A, self.a]

    def generative_parameters(self):
        return [self.logits, self.means, self.log_scales]

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x, z = c) for every component: x (B, D) -> (B, C) nats."""
        self.check_data(x)
        components = DiagonalNormal(self.means, self.log_scales.exp())
        return self.logits.log_softmax(-1) + components.log_prob(x[:, None])

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) = log Σ_c p(x, c), exact: x (B, D) -> (B,) nats."""
        return self.log_joint(x).logsumexp(-1)

    def true_posterior(self, x: Tensor) -> D.OneHotCategorical:
        """p(z | x), whose probabilities are the responsibilities: batch shape (B,), event (C,)."""
        return OneHotCategorical(logits=self.log_joint(x), validate_args=False)

    def elbo(self, x: Tensor, q: D.OneHotCategorical | None = None) -> Tensor:
        """E_q[log p(x, z) − log q(z)] by enumerating z, exact: x (B, D) -> (B,) nats.

        q is any categorical with batch shape (B,); by default the model's own q(z | x).
        """
        q = self.posterior(x) if q is None else q
        log_q = q.logits.log_softmax(-1)
        # Where q(c) = 0 the term is 0 · log 0 = 0; xlogy's convention, spelled out.
        terms = torch.where(q.probs > 0, q.probs * (self.log_joint(x) - log_q), 0)
        return terms.sum(-1)

    @torch.no_grad()
    def m_step(self, x: Tensor, responsibilities: Tensor) -> None:
        """Set θ to the maximum of Σ_n E_q[log p(x_n, z)]: weighted counts, means and variances.

        x (N, D), responsibilities (N, C) with rows summing to 1. Bishop 2006, eqs. 9.24 to 9.26.
        Raises ValueError where a component has lost all its points or collapsed onto one.
        """
        counts = responsibilities.sum(0)
        means = responsibilities.T @ x / counts[:, None]
        squares = (x[:, None] - means).square()
        variances = torch.einsum("nc,ncd->cd", responsibilities, squares) / counts[:, None]
        if not (variances > torch.finfo(x.dtype).tiny).all():
            worst = variances.nan_to_num(0).amin(1).argmin().item()
            raise ValueError(
                f"component {worst} has collapsed: its responsibilities sum to {counts[worst]:.3g} and its "
                "variance is 0, so the likelihood has no maximum. Start from other means or use fewer "
                "components."
            )
        self.logits.copy_((counts / counts.sum()).log())
        self.means.copy_(means)
        self.log_scales.copy_(0.5 * variances.log())

    @torch.no_grad()
    def em(self, x: Tensor, steps: int = 100) -> list[float]:
        """Exact EM on x (N, D): the mean log-likelihood before each step and after the last, nats."""
        check_count("steps", steps)
        history = []
        for _ in range(steps):
            log_joint = self.log_joint(x)  # once a step: the E-step and log p(x) are both read off it
            history.append(log_joint.logsumexp(-1).mean().item())
            self.m_step(x, responsibilities=log_joint.softmax(-1))
        return [*history, self.log_prob(x).mean().item()]
