"""Bounds on log p(x). Each one is a reduction of a single tensor of log-weights.

    log_w = log p(x, z) − log q(z | x),   shape (K, M, B)

K importance samples, M independent repetitions, B data points. All values are in nats.
Pure functions: no model in sight, gradients flow through, any floating dtype.
"""

import math

import torch
from torch import Tensor


def log_mean_exp(log_w: Tensor, dim: int = 0) -> Tensor:
    """log of the mean of exp(log_w) along `dim`.

    The maximum is taken out before exponentiating, so weights as small as exp(−500) survive float32.
    """
    return torch.logsumexp(log_w, dim) - math.log(log_w.shape[dim])


def elbo(log_w: Tensor) -> Tensor:
    """Monte Carlo ELBO: (K, M, B) -> (M, B), in nats. Kingma & Welling 2014, eq. 6.

    Raises TypeError or ValueError where log_w is not a floating tensor with K >= 1.
    """
    _check(log_w, "K")
    return log_w.mean(0)


def iwae(log_w: Tensor) -> Tensor:
    """Importance weighted bound L_K = log (1/K) Σ_k w_k: (K, M, B) -> (M, B), in nats.

    Burda et al. 2016, section 3. Raises as `elbo`.
    """
    _check(log_w, "K")
    return log_mean_exp(log_w)


def miwae(log_w: Tensor) -> Tensor:
    """Mean of M independent draws of L_K: (K, M, B) -> (B,), in nats.

    Rainforth et al. 2018, section 5. Raises as `elbo`; M >= 1 too.
    """
    _check(log_w, "K", "M")
    return iwae(log_w).mean(0)


def ciwae(log_w: Tensor, beta: float) -> Tensor:
    """β ELBO + (1 − β) L_K from the same samples: (K, M, B) -> (M, B), in nats.

    Rainforth et al. 2018, section 5. Raises ValueError where β lies outside [0, 1]; else as `elbo`.
    """
    check_beta(beta)
    return beta * elbo(log_w) + (1 - beta) * iwae(log_w)


def vr(log_w: Tensor, alpha: float) -> Tensor:
    """Variational Rényi bound 1/(1−α) log (1/K) Σ_k w_k^(1−α): (K, M, B) -> (M, B), in nats.

    Li & Turner 2016, section 4. α = 0 is L_K, α → 1 the ELBO. It is a lower bound on log p(x) in
    expectation for every α >= 0; with α < 0 it is not one. Raises ValueError for α < 0 or not
    finite; else as `elbo`.
    """
    check_alpha(alpha)
    if alpha == 1:
        return elbo(log_w)
    _check(log_w, "K")
    return log_mean_exp((1 - alpha) * log_w) / (1 - alpha)


def check_beta(beta: float) -> None:
    """Raise ValueError unless beta can mix the ELBO and L_K."""
    if not 0 <= beta <= 1:
        raise ValueError(f"ciwae: beta must lie in [0, 1] (0 is IWAE, 1 the ELBO); got {beta}")


def check_alpha(alpha: float) -> None:
    """Raise ValueError unless the Rényi bound of order alpha is a lower bound."""
    if not (math.isfinite(alpha) and alpha >= 0):
        raise ValueError(f"vr: alpha must be a finite number >= 0 (below 0 it bounds nothing); got {alpha}")


def _check(log_w: Tensor, *leading: str) -> None:
    """The leading dimensions named must be there and hold at least one sample each."""
    if not (torch.is_tensor(log_w) and log_w.is_floating_point()):
        got = log_w.dtype if torch.is_tensor(log_w) else type(log_w).__name__
        raise TypeError(f"log_w must be a floating-point torch.Tensor of shape (K, M, B); got {got}")
    for dim, name in enumerate(leading):
        if log_w.ndim <= dim or log_w.shape[dim] < 1:
            shape = tuple(log_w.shape)
            raise ValueError(f"log_w must have shape (K, M, B) with {name} >= 1; got {shape}")
