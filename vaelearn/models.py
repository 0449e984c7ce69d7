"""Latent-variable models: what they are, and the neural VAE with one or two stochastic layers.

A model is three conditional distributions and their parameters: a prior p(z), a likelihood
p_θ(x | z), and an approximate posterior q_φ(z | x). Everything else is `draw`.
"""

import difflib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch import distributions as D
from torch.distributions import constraints


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

    A subclass sets `data_dim` and `support` (what values x may take) and gives `prior()`,
    `likelihood(z)`, `posterior(x)` as `torch.distributions` objects, and the two parameter sets.
    """

    data_dim: int
    support: constraints.Constraint = constraints.real

    def prior(self) -> D.Distribution:
        """p(z), batch shape ()."""
        raise NotImplementedError

    def likelihood(self, z: Tensor) -> D.Distribution:
        """p_θ(x | z): z (..., L) -> batch shape (...), event shape (D,)."""
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
        z = (q.rsample if pathwise else q.sample)(torch.Size(sample_shape))
        log_likelihood, log_prior = self.likelihood(z).log_prob(x), self.prior().log_prob(z)
        return Draw(q, z, log_likelihood, log_prior, q.log_prob(z), pathwise)

    @torch.no_grad()
    def sample(self, n: int) -> tuple[Tensor, Tensor]:
        """n ancestral samples: z (n, L) from the prior, then x (n, D) from p(x | z). Returns (x, z)."""
        z = self.prior().sample((n,))
        return self.likelihood(z).sample(), z

    def check_data(self, x: Tensor) -> None:
        """Raise TypeError or ValueError, saying what was expected and what came, unless x is usable data."""
        own = next(self.parameters())
        if not isinstance(x, Tensor) or x.dtype != own.dtype:
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"x must be a tensor of the model's dtype, {own.dtype}; got {got}")
        if x.device != own.device:
            raise ValueError(f"x is on {x.device}, the model on {own.device}: move one with .to(...)")
        if x.ndim != 2 or x.shape[1] != self.data_dim or len(x) == 0:
            raise ValueError(f"x must have shape (B, {self.data_dim}) with B >= 1; got {tuple(x.shape)}")
        if not (x.isfinite() & self.support.check(x)).all():
            low, high = x.aminmax()
            raise ValueError(
                f"x must be finite, without NaN, and in the likelihood's support, {self.support}; "
                f"got values from {low:.4g} to {high:.4g}"
            )


class VAE(LatentVariableModel):
    """The variational autoencoder: standard normal prior, two networks for the conditionals.

    `encoder` maps x (B, D) to q(z | x) and `decoder` z (..., L) to p(x | z): modules that return
    distributions, such as `DiagonalGaussian` and `Bernoulli`. Kingma & Welling 2014.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, data_dim: int, latent_dim: int):
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
        hidden = tuple(hidden)
        encoder = DiagonalGaussian(data_dim, hidden, latent_dim, activation=activation)
        decoder = pixels(latent_dim, hidden[::-1], data_dim, likelihood, sigma, activation)
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
        self.data_dim, self.latent_dims, self.latent_dim = data_dim, tuple(latent_dims), sum(latent_dims)
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
        if len(latent_dims) != 2 or len(hidden) != 2:
            raise ValueError(
                "two stochastic layers need latent_dims=(L1, L2) and hidden=(x to z1, z1 to z2); "
                f"got {latent_dims} and {hidden}"
            )
        (L1, L2), (below, above) = latent_dims, map(tuple, hidden)
        return cls(
            encoder=DiagonalGaussian(data_dim, below, L1, activation=activation),
            z_encoder=DiagonalGaussian(L1, above, L2, activation=activation),
            z_decoder=DiagonalGaussian(L2, above[::-1], L1, activation=activation),
            decoder=pixels(L1, below[::-1], data_dim, likelihood, sigma, activation),
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


class Chain(D.Distribution):
    """Two latent layers as one distribution over z = (z₁, z₂), event shape (L₁ + L₂,).

    Bottom up: z₁ ~ first, z₂ ~ conditional(z₁), as q(z₁ | x) q(z₂ | z₁) is. Top down: z₂ ~ first,
    z₁ ~ conditional(z₂), as p(z₂) p(z₁ | z₂) is. It knows no mean: the second layer's has no closed form.
    """

    arg_constraints: ClassVar[dict] = {}

    def __init__(
        self,
        first: D.Distribution,
        conditional: Callable[[Tensor], D.Distribution],
        dims: tuple[int, int],
        top_down: bool = False,
    ):
        self.first, self.conditional, self.dims, self.top_down = first, conditional, dims, top_down
        super().__init__(first.batch_shape, torch.Size([sum(dims)]), validate_args=False)

    @property
    def has_rsample(self) -> bool:
        return self.first.has_rsample

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        one = self.first.rsample(sample_shape)
        return self._in_order(one, self.conditional(one).rsample())

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with torch.no_grad():
            one = self.first.sample(sample_shape)
            return self._in_order(one, self.conditional(one).sample())

    def log_prob(self, z: Tensor) -> Tensor:
        z1, z2 = z.split(self.dims, -1)
        one, two = (z2, z1) if self.top_down else (z1, z2)
        return self.first.log_prob(one) + self.conditional(one).log_prob(two)

    def _in_order(self, one: Tensor, two: Tensor) -> Tensor:
        return torch.cat((two, one) if self.top_down else (one, two), -1)


class DiagonalGaussian(nn.Module):
    """condition (..., in_dim) -> N(μ(condition), diag σ²), event shape (out_dim,).

    sigma: a positive number (fixed), "shared" (one learned number) or "predicted" (a second
    output of the network, one per dimension). Raises ValueError for anything else.
    """

    support = constraints.real

    def __init__(
        self,
        in_dim: int,
        hidden: Sequence[int],
        out_dim: int,
        sigma: float | str = "predicted",
        activation: type[nn.Module] = nn.Tanh,
    ):
        super().__init__()
        self.features, width = perceptron(in_dim, hidden, activation)
        self.mean = linear(width, out_dim)
        self.log_sigma_head = None
        if sigma == "predicted":
            self.log_sigma_head = linear(width, out_dim)
        elif sigma == "shared":
            self.log_sigma = nn.Parameter(torch.zeros(()))
        elif not isinstance(sigma, str) and 0 < sigma < math.inf:
            self.register_buffer("log_sigma", torch.tensor(math.log(sigma)))
        else:
            raise ValueError(f"sigma must be a positive number, 'shared' or 'predicted'; got {sigma!r}")
        self.sigma = sigma

    def extra_repr(self) -> str:
        return f"sigma={self.sigma!r}"

    def forward(self, condition: Tensor) -> D.Distribution:
        h = self.features(condition)
        log_sigma = self.log_sigma_head(h) if self.log_sigma_head else self.log_sigma
        return diagonal_normal(self.mean(h), log_sigma.exp())


class Bernoulli(nn.Module):
    """condition (..., in_dim) -> independent Bernoulli pixels, event shape (out_dim,).

    Works from logits throughout: a probability rounded to 0 or 1 would lose its gradient.
    """

    support = constraints.unit_interval

    def __init__(
        self, in_dim: int, hidden: Sequence[int], out_dim: int, activation: type[nn.Module] = nn.Tanh
    ):
        super().__init__()
        self.features, width = perceptron(in_dim, hidden, activation)
        self.logits = linear(width, out_dim)

    def forward(self, condition: Tensor) -> D.Distribution:
        logits = self.logits(self.features(condition))
        return Pixels(D.Bernoulli(logits=logits, validate_args=False), 1, validate_args=False)


class Pixels(D.Independent):
    """Independent Bernoulli pixels, whose log-density takes two passes fewer over all K·M·B·D of them."""

    def log_prob(self, x: Tensor) -> Tensor:
        return bernoulli_log_prob(self.base_dist.logits, x)


def bernoulli_log_prob(logits: Tensor, x: Tensor) -> Tensor:
    """Σ_i log Bernoulli(x_i; sigmoid(logits_i)): (..., D) and x (..., D) -> (...), in nats."""
    logits, x = torch.broadcast_tensors(logits, x)
    # Negated after the sum: before it, as torch's Bernoulli does, that is a pass each way over every pixel.
    return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)


def pixels(
    in_dim: int,
    hidden: Sequence[int],
    data_dim: int,
    likelihood: str,
    sigma: float | str,
    activation: type[nn.Module],
) -> nn.Module:
    """The decoder that `likelihood` names: z (..., in_dim) -> p(x | z)."""
    check_choice("likelihood", likelihood, ("bernoulli", "gaussian"))
    if likelihood == "bernoulli":
        return Bernoulli(in_dim, hidden, data_dim, activation)
    return DiagonalGaussian(in_dim, hidden, data_dim, sigma, activation)


def perceptron(in_dim: int, hidden: Sequence[int], activation: type[nn.Module]) -> tuple[nn.Module, int]:
    """Hidden layers, each a linear map *and a nonlinearity*; returns the module and its width."""
    widths = [in_dim, *hidden]
    layers = [layer for a, b in pairwise(widths) for layer in (linear(a, b), activation())]
    return nn.Sequential(*layers), widths[-1]


def linear(in_dim: int, out_dim: int) -> nn.Linear:
    """A linear layer as the papers initialise it: Glorot & Bengio's uniform weights, zero bias."""
    check_count("the width of a layer", in_dim)
    check_count("the width of a layer", out_dim)
    layer = nn.Linear(in_dim, out_dim)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def standard_normal(dim: int, like: Tensor) -> D.Distribution:
    """N(0, I) on R^dim, with the dtype and device of `like`."""
    return diagonal_normal(like.new_zeros(dim), like.new_ones(dim))


def diagonal_normal(mean: Tensor, sigma: Tensor) -> D.Distribution:
    """N(mean, diag sigma²) with the last dimension as the event; sigma broadcasts."""
    # Arguments are not validated here: it costs a pass over every pixel of every sample, and
    # `check_data` and `fit` already refuse bad data and non-finite losses.
    return DiagonalNormal(D.Normal(mean, sigma.expand_as(mean), validate_args=False), 1, validate_args=False)


class DiagonalNormal(D.Independent):
    """Independent normals, sampled with `randn`: torch.func.vmap then gives every draw its own noise,
    which it cannot do for the in-place sampling of torch's."""

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        mean, sigma = self.base_dist.loc, self.base_dist.scale
        shape = self._extended_shape(torch.Size(sample_shape))
        return mean + sigma * torch.randn(shape, dtype=mean.dtype, device=mean.device)

    def log_prob(self, value: Tensor) -> Tensor:
        # Scaled after the sum, and what no sample changes is summed apart: fewer passes over all K·M·B·L.
        mean, sigma = self.base_dist.loc, self.base_dist.scale
        square = ((value - mean) / sigma).square().sum(-1)
        return -0.5 * square - (sigma.log() + 0.5 * math.log(2 * math.pi)).sum(-1)


def check_count(name: str, value: int, minimum: int = 1) -> None:
    """Raise ValueError unless value is a whole number >= minimum."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"{name} must be a whole number >= {minimum}; got {value!r}")


def check_choice(name: str, value, choices: Sequence[str]) -> None:
    """Raise ValueError, with the nearest match, unless value is one of the choices."""
    if value not in choices:
        near = difflib.get_close_matches(str(value), choices, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}.{hint}")
