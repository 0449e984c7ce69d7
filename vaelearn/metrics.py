"""What a trained model is worth: its likelihood, and how much of its latent space it uses."""

import math

import torch
from torch import Tensor

from .models import LatentVariableModel, check_count


@torch.no_grad()
def log_likelihood(model: LatentVariableModel, x: Tensor, K: int = 5000, rows: int = 10_000) -> Tensor:
    """L_K for each row of x (N, D): a lower bound on log p(x) that closes as K grows. (N,) nats.

    Exactly K samples a data point, whatever the chunk. Memory is bounded by `rows`, the number of
    z's decoded at once: x is encoded once, then the weights stream through a running logaddexp.
    Burda et al. 2016 report −L_5000 as NLL. Raises ValueError for K < 1, rows < 1 or bad data.
    """
    check_count("K", K)
    check_count("rows", rows)
    model.check_data(x)
    return torch.cat([_log_likelihood(model, batch, K, rows) for batch in x.split(min(rows, 100))])


def _log_likelihood(model, x, K, rows):
    q = model.posterior(x)
    total = x.new_full((len(x),), -math.inf)
    chunk = max(1, rows // len(x))
    for start in range(0, K, chunk):
        log_w = model.draw(x, (min(chunk, K - start), 1), q=q).log_w
        total = torch.logaddexp(total, log_w.logsumexp(0)[0])
    return total - math.log(K)


@torch.no_grad()
def active_units(model: LatentVariableModel, x: Tensor, threshold: float = 0.01) -> Tensor:
    """Which latent dimensions carry information about x: a mask (L,); its sum is the count.

    Unit u is active where Var_x(E_q[u | x]) > threshold. Burda et al. 2016, section 5.
    Raises ValueError for fewer than two rows of x (N, D), or bad data.
    """
    model.check_data(x)
    if len(x) < 2:
        raise ValueError(f"active_units measures a variance over x: it needs 2 rows or more; got {len(x)}")
    means = torch.cat([model.posterior(batch).mean for batch in x.split(1000)])
    return means.var(0) > threshold
