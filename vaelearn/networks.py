"""Networks that map a condition to a distribution: encoders q(z | x), decoders p(x | z)."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch import distributions as D
from torch.distributions import constraints

from .checks import check_choice, check_count, check_widths
from .distributions import BernoulliPixels, DiagonalNormal


class GaussianNet(nn.Module):
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
        return DiagonalNormal(self.mean(h), log_sigma.exp())


class BernoulliNet(nn.Module):
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

    @torch.no_grad()
    def start_at(self, mean: Tensor) -> None:
        """Let training begin near these pixel means (out_dim,): their logits become the output's bias.

        Burda et al. 2016 do so in their code, with the training images' mean and this clamp.
        """
        self.logits.bias.copy_(mean.clamp(0.001, 0.999).logit())

    def forward(self, condition: Tensor) -> D.Distribution:
        return BernoulliPixels(self.logits(self.features(condition)))


def pixel_decoder(
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
        return BernoulliNet(in_dim, hidden, data_dim, activation)
    return GaussianNet(in_dim, hidden, data_dim, sigma, activation)


def perceptron(in_dim: int, hidden: Sequence[int], activation: type[nn.Module]) -> tuple[nn.Module, int]:
    """Hidden layers, each a linear map *and a nonlinearity*; returns the module and its width."""
    activation, widths = check_activation(activation), [in_dim, *check_widths("hidden", hidden)]
    layers = [layer for a, b in pairwise(widths) for layer in (linear(a, b), activation())]
    return nn.Sequential(*layers), widths[-1]


def check_activation(activation: type[nn.Module]) -> type[nn.Module]:
    """activation itself. Raises ValueError unless it makes a module when called: each layer gets its own."""
    if not callable(activation) or isinstance(activation, nn.Module):
        raise ValueError(f"activation must be a class of module, such as nn.Tanh; got {activation!r}")
    return activation


def linear(in_dim: int, out_dim: int) -> nn.Linear:
    """A linear layer as the papers initialise it: Glorot & Bengio's uniform weights, zero bias."""
    check_count("the width of a layer", in_dim)
    check_count("the width of a layer", out_dim)
    layer = nn.Linear(in_dim, out_dim)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
