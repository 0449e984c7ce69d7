"""Fresh problem instances: another one at each check, so that no constant can be remembered."""

import secrets

import torch
from torch import Tensor

from ..exact import LinearGaussian


class Fresh:
    """Sizes, numbers, tensors and models drawn from one seed (None: a new one). All float64."""

    def __init__(self, seed: int | None = None):
        self.generator = torch.Generator().manual_seed(secrets.randbits(48) if seed is None else seed)

    def integer(self, low: int, high: int) -> int:
        """One of low, …, high."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def sizes(self, n: int, low: int = 2, high: int = 7) -> list[int]:
        """n different sizes in low, …, high: an answer that swaps two of them cannot hide."""
        return (low + torch.randperm(high - low + 1, generator=self.generator)[:n]).tolist()

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform on (low, high); a number-like tensor () where no shape is given."""
        u = torch.rand(shape, generator=self.generator, dtype=torch.float64)
        return low + (high - low) * u

    def normal(self, *shape: int) -> Tensor:
        """Standard normal."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def choice(self, options):
        """One of a sequence."""
        return options[self.integer(0, len(options) - 1)]

    def linear_gaussian(self, data_dim: int, latent_dim: int, noise: float = 0.3) -> LinearGaussian:
        """A LinearGaussian with σ, and with q off its best by N(0, noise²) in each parameter."""
        model = LinearGaussian(data_dim, latent_dim, seed=self.integer(0, 2**31)).double()
        with torch.no_grad():
            model.log_sigma.copy_(self.uniform(-0.5, 0.5))
            model.perfect_e_step()
            for parameter in model.inference_parameters():
                parameter += noise * self.normal(*parameter.shape)
        return model


def drawn(model, x: Tensor, shape: tuple[int, int], seed: int):
    """model.draw(x, shape) from a seed of its own, so that two processes see the same samples."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model.draw(x, shape)
