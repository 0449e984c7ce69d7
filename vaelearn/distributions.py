"""The distributions that models are made of: torch's where they serve, our own where speed, or a draw of
one's own for each repetition under torch.func.vmap, asks for it."""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch import distributions as D


def standard_normal(dim: int, like: Tensor) -> D.Distribution:
    """N(0, I) on R^dim, with the dtype and device of `like`."""
    return DiagonalNormal(like.new_zeros(dim), like.new_ones(dim))


class DiagonalNormal(D.Independent):
    """N(mean, diag sigma²) with the last dimension as the event; sigma broadcasts to mean's shape.

    Sampled with `randn`: torch.func.vmap then gives every draw its own noise, which it cannot do for
    the in-place sampling of torch's normal.
    """

    def __init__(self, mean: Tensor, sigma: Tensor):
        # Arguments are not validated here: it costs a pass over every pixel of every sample, and
        # `check_data` and `fit` already refuse bad data and non-finite losses.
        super().__init__(D.Normal(mean, sigma.expand_as(mean), validate_args=False), 1, validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance=None) -> "DiagonalNormal":
        shape = (*batch_shape, *self.event_shape)
        return DiagonalNormal(self.mean.expand(shape), self.stddev.expand(shape))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        mean, sigma = self.base_dist.loc, self.base_dist.scale
        shape = self._extended_shape(torch.Size(sample_shape))
        return mean + sigma * torch.randn(shape, dtype=mean.dtype, device=mean.device)

    def log_prob(self, value: Tensor) -> Tensor:
        # Scaled after the sum, and what no sample changes is summed apart: fewer passes over all K·M·B·L.
        mean, sigma = self.base_dist.loc, self.base_dist.scale
        square = ((value - mean) / sigma).square().sum(-1)
        return -0.5 * square - (sigma.log() + 0.5 * math.log(2 * math.pi)).sum(-1)


class BernoulliPixels(D.Independent):
    """Independent Bernoulli pixels with these logits, the last dimension as the event.

    Its log-density takes two passes fewer than torch's over all K·M·B·D of them.
    """

    def __init__(self, logits: Tensor):
        super().__init__(D.Bernoulli(logits=logits, validate_args=False), 1, validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance=None) -> "BernoulliPixels":
        return BernoulliPixels(self.base_dist.logits.expand(*batch_shape, *self.event_shape))

    def log_prob(self, x: Tensor) -> Tensor:
        return bernoulli_log_prob(self.base_dist.logits, x)


def bernoulli_log_prob(logits: Tensor, x: Tensor) -> Tensor:
    """Σ_i log Bernoulli(x_i; sigmoid(logits_i)): (..., D) and x (..., D) -> (...), in nats."""
    logits, x = torch.broadcast_tensors(logits, x)
    # Negated after the sum: before it, as torch's Bernoulli does, that is a pass each way over every pixel.
    return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)


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
