"""What several tests of the mathematics share."""

import torch


def scrambled(model, seed=1, scale=0.3):
    """The model in float64 with every parameter moved off its default, so that no term is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.double().parameters():
            p.add_(scale * torch.randn(p.shape, generator=generator, dtype=p.dtype))
        if hasattr(model, "W") and model.latent_dim > 1:
            # Correlated columns correlate the posterior, so that no diagonal q is exact.
            model.W[:, 1] += model.W[:, 0]
    return model


def z_scores(draws, value):
    """How many standard errors the mean of draws (R, ...) lies from value, entry by entry."""
    draws = draws.detach()
    return (draws.mean(0) - value) / (draws.std(0) / len(draws) ** 0.5)
