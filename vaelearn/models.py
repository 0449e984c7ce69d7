"""Latent-variable models: what they are, and the neural VAE with one or two stochastic layers.

A model is three conditional distributions and their parameters: a prior p(z), a likelihood
p_θ(x | z), and an approximate posterior q_φ(z | x). Everything else is `draw`.
"""

import math
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor, nn
from torch import distributions as D
from torch.distributions import constraints

from .checks import check_count, check_widths
from .distributions import Chain, standard_normal
from .networks import GaussianNet, pixel_decoder


@dataclass(frozen=True)
class Draw:
    """Samples from q_φ(z | x) and the three log-densities at them.

    z (K, M, B, L); log_likelihood log p(x | z), log_prior log p(z) and log_q log q(z | x), each
    (K, M, B), in nats; q is the distribution the samples came from (batch shape (B,)); pathwise says
    whether z is a differentiable function of φ.
    """

    q: D.Distribution
    z: Tensor
    log_likelihood: Tensor
    log_prior: Tensor
    log_q: Tensor
    pathwise: bool

    @property
    def log_w(self) -> Tensor:
        """log w = log p(x, z) − log q(z | x), (K, M, B): the tensor every bound reduces."""
        return self.log_likelihood + self.log_prior - self.log_q


class LatentVariableModel(nn.Module):
    """The protocol every objective, metric and `fit` relies on.

    A subclass sets `data_dim`, the size of a vector x or the shape of an image (C, H, W), and `support`
    (what values x may take). It gives `prior()`, `likelihood(z)`, `posterior(x)` as `torch.distributions`
    objects, and the two parameter sets. Where docstrings say x (B, D), images are (B, C, H, W).
    """

    data_dim: int | tuple[int, ...]
    support: constraints.Constraint = constraints.real
    values_known = False

    @property
    def data_shape(self) -> tuple[int, ...]:
        """The shape of one x, which is the likelihood's event shape: (D,), or (C, H, W)."""
        return (self.data_dim,) if isinstance(self.data_dim, Integral) else tuple(self.data_dim)

    def prior(self) -> D.Distribution:
        """p(z), batch shape ()."""
        raise NotImplementedError

    def likelihood(self, z: Tensor) -> D.Distribution:
        """p_θ(x | z): z (..., L) -> batch shape (...), event shape `data_shape`."""
        raise NotImplementedError

    def posterior(self, x: Tensor) -> D.Distribution:
        """q_φ(z | x): x (B, D) -> batch shape (B,), event shape (L,)."""
        raise NotImplementedError

    def inference_parameters(self) -> list[nn.Parameter]:
        """φ, which the E-step improves."""
        raise NotImplementedError

    def generative_parameters(self) -> list[nn.Parameter]:
        """θ, which the M-step improves."""
        raise NotImplementedError

    def draw(
        self,
        x: Tensor,
        sample_shape: Sequence[int] = (1, 1),
        q: D.Distribution | None = None,
        pathwise: bool = True,
    ) -> Draw:
        """K·M samples of z for each row of x (B, D), in one pass; sample_shape is (K, M).

        x is encoded once and z decoded K·M times. The samples are reparameterized where q allows
        it, so that gradients reach φ through z; with pathwise=False they never are. Pass `q` to
        use a posterior already at hand instead of encoding.
        Raises ValueError for a wrong shape, K or M < 1, NaN, or x outside the likelihood's support.
        """
        self.check_data(x)
        if len(sample_shape) != 2:
            raise ValueError(f"sample_shape must be (K, M); got {tuple(sample_shape)}")
        for name, count in zip("KM", sample_shape, strict=True):
            check_count(name, count)
        q = self.posterior(x) if q is None else q
        pathwise = pathwise and q.has_rsample
        # In the networks' dtype: where that is bfloat16, q keeps its own numbers in float32.
        z = (q.rsample if pathwise else q.sample)(torch.Size(sample_shape)).to(x.dtype)
        return self.at(x, z, q, pathwise)

    def at(self, x: Tensor, z: Tensor, q: D.Distribution, pathwise: bool = True) -> Draw:
        """The draw of samples of q that are at hand, z (K, M, B, L): its three log-densities."""
        log_likelihood, log_prior = self.likelihood(z).log_prob(x), self.prior().log_prob(z)
        return Draw(q, z, log_likelihood, log_prior, q.log_prob(z), pathwise)

    @torch.no_grad()
    def log_weights(self, x: Tensor, z: Tensor, q: D.Distribution) -> Tensor:
        """log w of samples of q that are at hand, z (N, B, L) -> (N, B): no graph, a few at a time."""
        parts = z[:, None].split(max(1, rows_at_once(x) // len(x)))
        return torch.cat([self.at(x, part, q).log_w[:, 0] for part in parts])

    @torch.no_grad()
    def sample(self, n: int) -> tuple[Tensor, Tensor]:
        """n ancestral samples: z (n, L) from the prior, then x (n, D) from p(x | z). Returns (x, z)."""
        dtype = next(self.parameters()).dtype
        z = self.prior().sample((n,)).to(dtype)
        return self.likelihood(z).sample().to(dtype), z

    def check_data(self, x: Tensor) -> None:
        """Raise TypeError or ValueError, saying what was expected and what came, unless x is usable data."""
        own = next(self.parameters())
        if not isinstance(x, Tensor) or x.dtype != own.dtype:
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"x must be a tensor of the model's dtype, {own.dtype}; got {got}")
        if x.device != own.device:
            raise ValueError(f"x is on {x.device}, the model on {own.device}: move one with .to(...)")
        if x.shape[1:] != self.data_shape or x.ndim == 0 or len(x) == 0:
            shape = ", ".join(map(str, self.data_shape))
            reshape = "flatten(1)" if len(self.data_shape) == 1 else f"unflatten(1, {self.data_shape})"
            fits = x.ndim > 1 and len(x) and x[0].numel() == math.prod(self.data_shape)
            hint = f": this model wants x.{reshape}" if fits else ""
            raise ValueError(f"x must have shape (B, {shape}) with B >= 1; got {tuple(x.shape)}{hint}")
        if self.values_known:
            return
        usable = x.isfinite() & self.support.check(x)
        if not usable.all():
            low, high = x.aminmax()
            raise ValueError(
                f"x must be finite, without NaN, and in the likelihood's support, {self.support}; "
                f"got values from {low:.4g} to {high:.4g}, the first to refuse {x[~usable][0]:.9g}. "
                "Scale or clamp the data, or choose another likelihood"
            )


@contextmanager
def modes_kept(module: nn.Module):
    """Afterwards each part is in the mode, training or evaluation, in which it was before."""
    modes = {part: part.training for part in module.modules()}
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


@contextmanager
def values_known(model: LatentVariableModel):
    """Inside, the values of x are not looked at: they were, all at once, and a look at each batch makes a GPU
    wait."""
    model.values_known = True
    try:
        yield
    finally:
        model.values_known = False


def rows_at_once(x: Tensor) -> int:
    """How many rows like x's to decode together where no graph is kept: what they decode to, 4 MB of
    float32, then stays in a processor's cache; a GPU wants more to do at a time."""
    return max(1, (2**20 if x.device.type == "cpu" else 2**23) // x[0].numel())


class VAE(LatentVariableModel):
    """The variational autoencoder: standard normal prior, two networks for the conditionals.

    `encoder` maps x (B, D) to q(z | x) and `decoder` z (..., L) to p(x | z): modules that return
    distributions, such as `GaussianNet` and `BernoulliNet`. For convolutional ones data_dim is an image's
    shape (C, H, W), and p(x | z) has three event dimensions. Kingma & Welling 2014.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, data_dim: int | tuple[int, ...], latent_dim: int
    ):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.data_dim, self.latent_dim = data_dim, latent_dim
        self.support = decoder.support

    @classmethod
    def mlp(
        cls,
        data_dim: int,
        latent_dim: int,
        hidden: Iterable[int] = (200, 200),
        likelihood: str = "bernoulli",
        sigma: float | str = "shared",
        activation: type[nn.Module] = nn.Tanh,
    ) -> "VAE":
        """Encoder and decoder as mirrored multilayer perceptrons.

        likelihood: "bernoulli" (x in [0, 1]) or "gaussian", whose standard deviation is `sigma`:
        a number (fixed), "shared" (one learned number) or "predicted" (Σ_θ(z), one per pixel).
        Raises ValueError for an unknown likelihood or sigma, or a width < 1.
        """
        hidden = check_widths("hidden", hidden)
        encoder = GaussianNet(data_dim, hidden, latent_dim, activation=activation)
        decoder = pixel_decoder(latent_dim, hidden[::-1], data_dim, likelihood, sigma, activation)
        return cls(encoder, decoder, data_dim, latent_dim)

    def prior(self):
        return standard_normal(self.latent_dim, like=next(self.parameters()))

    def likelihood(self, z):
        return self.decoder(z)

    def posterior(self, x):
        return self.encoder(x)

    def inference_parameters(self):
        return list(self.encoder.parameters())

    def generative_parameters(self):
        return list(self.decoder.parameters())


class TwoLayerVAE(LatentVariableModel):
    """Two stochastic layers: p(z₂) p(z₁ | z₂) p(x | z₁) and q(z₁ | x) q(z₂ | z₁). Burda et al. 2016.

    z is one tensor, (..., L₁ + L₂), with z₁ first, so that every objective and metric of a VAE
    holds as it stands; `z.split(model.latent_dims, -1)` takes it, or a mask of units, apart. The
    encoders and `z_decoder` map to normal distributions, `decoder` maps z₁ to p(x | z₁).
    """

    def __init__(
        self,
        encoder: nn.Module,
        z_encoder: nn.Module,
        z_decoder: nn.Module,
        decoder: nn.Module,
        data_dim: int,
        latent_dims: tuple[int, int],
    ):
        super().__init__()
        self.encoder, self.z_encoder = encoder, z_encoder
        self.z_decoder, self.decoder = z_decoder, decoder
        self.latent_dims = tuple(check_count("a latent dimension", dim) for dim in latent_dims)
        self.data_dim, self.latent_dim = data_dim, sum(self.latent_dims)
        self.support = decoder.support

    @classmethod
    def mlp(
        cls,
        data_dim: int,
        latent_dims: tuple[int, int] = (100, 50),
        hidden: tuple[Iterable[int], Iterable[int]] = ((200, 200), (100, 100)),
        likelihood: str = "bernoulli",
        sigma: float | str = "shared",
        activation: type[nn.Module] = nn.Tanh,
    ) -> "TwoLayerVAE":
        """Mirrored perceptrons; hidden gives the widths between x and z₁, then between z₁ and z₂.

        The defaults are Burda et al.'s. Raises ValueError as `VAE.mlp`, or unless latent_dims and
        hidden have two entries.
        """
        try:
            (L1, L2), (below, above) = latent_dims, hidden
        except (TypeError, ValueError):
            raise ValueError(
                "two stochastic layers need latent_dims=(L1, L2) and hidden=(x to z1, z1 to z2); "
                f"got {latent_dims} and {hidden}"
            ) from None
        below, above = check_widths("hidden[0]", below), check_widths("hidden[1]", above)
        return cls(
            encoder=GaussianNet(data_dim, below, L1, activation=activation),
            z_encoder=GaussianNet(L1, above, L2, activation=activation),
            z_decoder=GaussianNet(L2, above[::-1], L1, activation=activation),
            decoder=pixel_decoder(L1, below[::-1], data_dim, likelihood, sigma, activation),
            data_dim=data_dim,
            latent_dims=latent_dims,
        )

    def prior(self):
        top = standard_normal(self.latent_dims[1], like=next(self.parameters()))
        return Chain(top, self.z_decoder, self.latent_dims, top_down=True)

    def likelihood(self, z):
        return self.decoder(z[..., : self.latent_dims[0]])

    def posterior(self, x):
        return Chain(self.encoder(x), self.z_encoder, self.latent_dims)

    def inference_parameters(self):
        return [*self.encoder.parameters(), *self.z_encoder.parameters()]

    def generative_parameters(self):
        return [*self.z_decoder.parameters(), *self.decoder.parameters()]
