"""The distributions that models are made of: torch's where they serve, our own where speed, or a draw of
one's own for each repetition under torch.func.vmap, asks for it."""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch import distributions as D


def standard_normal(dim: int, like: Tensor) -> D.Distribution:
    """N(0, I) on R^dim, with the dtype and device of `like`."""
    return DiagonalNormal(like.new_zeros(dim), like.new_ones(dim))


class DiagonalNormal(D.Independent):
    """N(mean, diag sigma²) with the last `event_dims` dimensions, three for images (C, H, W), as the event.

    sigma broadcasts to mean's shape.

    Sampled with `randn`: torch.func.vmap then gives every draw its own noise, which it cannot do for
    the in-place sampling of torch's normal.
    """

    def __init__(self, mean: Tensor, sigma: Tensor, event_dims: int = 1):
        # Arguments are not validated here: it costs a pass over every pixel of every sample, and
        # `check_data` and `fit` already refuse bad data and non-finite losses.
        mean, sigma = full(mean), full(sigma).expand_as(mean)
        super().__init__(D.Normal(mean, sigma, validate_args=False), event_dims, validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance=None) -> "DiagonalNormal":
        shape = (*batch_shape, *self.event_shape)
        return DiagonalNormal(self.mean.expand(shape), self.stddev.expand(shape), len(self.event_shape))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        mean, sigma = self.base_dist.loc, self.base_dist.scale
        shape = self._extended_shape(torch.Size(sample_shape))
        return mean + sigma * torch.randn(shape, dtype=mean.dtype, device=mean.device)

    def log_prob(self, value: Tensor) -> Tensor:
        # Scaled after the sum, and what no sample changes is summed apart: fewer passes over all K·M·B·L.
        mean, sigma = self.base_dist.loc, self.base_dist.scale
        event = tuple(range(-len(self.event_shape), 0))
        square = ((value - mean) / sigma).square().sum(event)
        return -0.5 * square - (sigma.log() + 0.5 * math.log(2 * math.pi)).sum(event)


class BernoulliPixels(D.Independent):
    """Independent Bernoulli pixels with these logits, the last `event_dims` dimensions as the event."""

    def __init__(self, logits: Tensor, event_dims: int = 1):
        pixels = D.Bernoulli(logits=full(logits), validate_args=False)
        super().__init__(pixels, event_dims, validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance=None) -> "BernoulliPixels":
        logits = self.base_dist.logits.expand(*batch_shape, *self.event_shape)
        return BernoulliPixels(logits, len(self.event_shape))

    def log_prob(self, x: Tensor) -> Tensor:
        return bernoulli_log_prob(self.base_dist.logits, x, len(self.event_shape))


def bernoulli_log_prob(logits: Tensor, x: Tensor, event_dims: int = 1) -> Tensor:
    """Σ_i log Bernoulli(x_i; sigmoid(logits_i)): (..., D) and x (..., D) -> (...), in nats."""
    return _BernoulliLogProb.apply(logits.flatten(-event_dims), x.flatten(-event_dims))


class _BernoulliLogProb(torch.autograd.Function):
    """Over all K·M·B·D pixels every pass counts, and a logarithm most: torch's own takes one a pixel."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits, x):
        # x·l − log(1 + eˡ) = x·l − max(l, 0) + log σ(|l|), and σ(|l|) >= ½: the product of a hundred of
        # these is 2⁻¹⁰⁰ or more, which float32 holds, so a hundred pixels share one logarithm.
        certain = (x * logits).sub_(logits.clamp(min=0)).sum(-1)
        doubt = logits.abs().sigmoid_().split(100, -1)
        return certain + sum(part.prod(-1).log() for part in doubt)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient):
        logits, x = ctx.saved_tensors
        of_x = gradient[..., None] * logits if ctx.needs_input_grad[1] else None
        return gradient[..., None] * (x - logits.sigmoid()), of_x


def full(x: Tensor) -> Tensor:
    """x in float32 or more: log-densities sum over hundreds of dimensions, too many for 8 bits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class OneHotCategorical(D.OneHotCategorical):
    """torch's one-hot categorical, sampled as argmax(logits + Gumbel noise): torch.func.vmap can
    then give every draw its own noise."""

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            exponential = -torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device).log()
            winner = (self.logits - exponential.log()).argmax(-1, keepdim=True)
            return (winner == torch.arange(shape[-1], device=winner.device)).to(self.logits)


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
