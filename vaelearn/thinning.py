"""Thinning: back-propagate through a few of many samples, and be right on average.

    ∇ bound = Σ_k a_k ∇ log w_k,   a_k = ∂ bound / ∂ log w_k >= 0

A sample that is kept with probability π_k and then counts a_k / π_k counts a_k on average.
"""

import math

import torch
from torch import Tensor


def keep(shares: Tensor, c: float) -> tuple[Tensor, Tensor]:
    """c of N samples for each data point: shares (N, B) >= 0 -> index and weight, (⌈c⌉, B) each.

    Sample k is kept with probability π_k = min(1, a_k / κ) and has the weight a_k / π_k = max(a_k, κ):
    a large share keeps its own, the small ones draw lots for a weight of κ, the number that makes
    Σ π = c. Of all ways to keep c samples without bias this moves the weights least, in squared
    error. Fearnhead & Clifford 2003. Whether the lots are drawn one coin a sample or, as here, all
    by one point for each data point, decides how much their *number* varies: here not at all for a
    whole c (systematic sampling; Madow 1949). A place that is not filled, where c is no whole
    number, has weight 0. Needs 0 < c < N.
    """
    n = math.ceil(c)
    place = torch.arange(n, device=shares.device)[:, None]
    # With the r largest kept for certain, the rest shares c − r places; κ is the least of these offers.
    # Summed from the smallest up: one share may leave all others a rounding error.
    rest = shares.sort(0).values.cumsum(0).flip(0)[:n]
    kappa = (rest / (c - place)).amin(0).clamp(min=torch.finfo(shares.dtype).tiny)
    edges = (shares / kappa).clamp(max=1).cumsum(0)
    # The points u, u + 1, u + 2, … choose: no interval is longer than 1, so none is hit twice.
    below = (edges - torch.rand_like(kappa)).ceil().clamp(min=0)
    kept = below.diff(dim=0, prepend=torch.zeros_like(below[:1]))
    hit, index = kept.topk(n, dim=0)
    return index, hit * torch.maximum(shares.take_along_dim(index, 0), kappa)
