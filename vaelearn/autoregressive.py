"""A decoder so flexible that it needs no latent variable: each pixel from z and all pixels before it."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch import distributions as D
from torch.distributions import constraints

from .checks import check_count, check_widths
from .distributions import bernoulli_log_prob
from .networks import check_activation, linear


class Autoregressive(nn.Module):
    """condition (..., in_dim) -> p(x | z) = Π_i p(x_i | x_<i, z) over binary x, event shape (out_dim,).

    A masked network gives all the conditionals in one pass, so log p(x | z) is exact. Every hidden unit
    may look at all of z and at the pixels up to its own number; a direct connection shows every pixel all
    those before it, however narrow the layers. Germain et al. 2015 (MADE).
    """

    support = constraints.unit_interval

    def __init__(
        self, in_dim: int, hidden: Sequence[int], out_dim: int, activation: type[nn.Module] = nn.Tanh
    ):
        super().__init__()
        check_count("in_dim", in_dim)
        check_count("out_dim", out_dim, minimum=2)
        hidden, activation = check_widths("hidden", hidden), check_activation(activation)
        if not hidden:
            raise ValueError("Autoregressive needs one hidden layer or more; got none")
        # Pixel i has number i. A unit with number n sees pixels 1 … n; logit i listens to numbers below i.
        pixel = torch.arange(1, out_dim + 1)
        # Spread over all pixels: a narrow layer numbered 1, 2, … would hide the later ones from it.
        numbers = [pixel] + [1 + torch.arange(width) * (out_dim - 1) // width for width in hidden]
        self.layers = nn.ModuleList(MaskedLinear(b[:, None] >= a) for a, b in pairwise(numbers))
        self.logits = MaskedLinear(pixel[:, None] > numbers[-1])
        self.of_x_at_once = MaskedLinear(pixel[:, None] > pixel, bias=False)
        self.of_z = linear(in_dim, hidden[0])
        # The first pixel listens to no hidden unit, so z speaks to the logits directly as well.
        self.of_z_at_once = linear(in_dim, out_dim)
        self.activation = activation()

    def forward(self, condition: Tensor) -> "PixelByPixel":
        return PixelByPixel(self, condition)

    def network(self, x: Tensor, z: Tensor) -> Tensor:
        """The logit of every pixel given those before it: x (..., D) and z (..., L) broadcast."""
        # The first layer is a sum over x and z, so x passes it once however many z there are.
        h = self.activation(self.layers[0](x) + self.of_z(z))
        for layer in self.layers[1:]:
            h = self.activation(layer(h))
        return self.logits(h) + self.of_x_at_once(x) + self.of_z_at_once(z)


class MaskedLinear(nn.Module):
    """A linear layer whose weights outside the mask (out_dim, in_dim) are zero and stay zero."""

    def __init__(self, mask: Tensor, bias: bool = True):
        super().__init__()
        self.full = linear(mask.shape[1], mask.shape[0])
        if not bias:
            self.full.bias = None
        self.register_buffer("mask", mask)

    def forward(self, h: Tensor) -> Tensor:
        return F.linear(h, self.full.weight * self.mask, self.full.bias)


class PixelByPixel(D.Distribution):
    """What `Autoregressive` makes of a condition: batch shape (...), event shape (D,)."""

    def __init__(self, decoder: Autoregressive, condition: Tensor):
        self.decoder, self.condition = decoder, condition
        data_dim = len(decoder.logits.mask)
        super().__init__(condition.shape[:-1], torch.Size([data_dim]), validate_args=False)

    def log_prob(self, x: Tensor) -> Tensor:
        return bernoulli_log_prob(self.decoder.network(x, self.condition), x)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = (), progress: bool = False) -> Tensor:
        """One pixel after another, D passes through the network; progress=True shows a bar."""
        # Imported here because tqdm.auto pulls in ipywidgets where that is installed.
        from tqdm.auto import trange

        x = self.condition.new_zeros(self._extended_shape(torch.Size(sample_shape)))
        for i in trange(x.shape[-1], desc="sampling", unit="pixel", disable=not progress):
            logits = self.decoder.network(x, self.condition)[..., i]
            x[..., i] = (torch.rand_like(logits) < logits.sigmoid()).to(x)
        return x
