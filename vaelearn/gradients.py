"""Ways to differentiate E_q[...] when φ sits in q: surrogates whose autograd gradient *is* the estimator.

    E-step gradient = ∇_φ E_{q_φ(z|x)}[log w]

Each estimator is a tensor to average and backpropagate. Its value may mean nothing; its gradient
with respect to φ is the named estimator of the line above.
"""

import math

import torch
from torch import Tensor, nn

from .bounds import log_mean_exp
from .checks import check_width
from .models import Draw
from .networks import perceptron


def score_function(draw: Draw, reward: Tensor) -> Tensor:
    """reward · ∇ log q, sample by sample: (K, M, B). REINFORCE; Williams 1992.

    reward, broadcast to (K, M, B), in nats, is what the samples earned, less any baseline. For the
    ELBO it is log w − b: the term E_q[∇ log w] = −E_q[∇ log q] is zero and left out, and b changes
    nothing on average as long as it does not depend on its own sample.
    Raises ValueError where z carries a gradient: two routes at once would count φ's effect twice.
    """
    if draw.pathwise:
        raise ValueError("score_function needs samples without gradient: draw(x, shape, pathwise=False)")
    # No gradient may pass through the reward, though both log w and a baseline depend on φ.
    return reward.detach() * draw.log_q


def leave_one_out(log_w: Tensor) -> Tensor:
    """For each sample the mean of the K − 1 others: (K, M, B) -> (K, M, B), a baseline that costs nothing.

    Raises ValueError for K < 2. Salimans & Knowles 2014; Kool et al. 2019.
    """
    K = log_w.shape[0]
    if K < 2:
        raise ValueError(f"leave_one_out needs K >= 2 samples, so that there are others; got K = {K}")
    return (log_w.sum(0) - log_w) / (K - 1)


def geometric_mean_bound(log_w: Tensor) -> Tensor:
    """For each sample an L_K that has not seen it: (K, M, B) -> (K, M, B), VIMCO's baseline, in nats.

    log w_k is replaced by the mean of the other K − 1, that is w_k by their geometric mean.
    Raises ValueError for K < 2. Mnih & Rezende 2016, eqs. 8 and 9.
    """
    return _bound_of_others(log_w, leave_one_out(log_w))


def left_out_bound(log_w: Tensor) -> Tensor:
    """For each sample the bound without it, log (1/K) Σ_{j≠k} w_j: (K, M, B) -> (K, M, B), in nats.

    L_K exceeds it by −log(1 − w̃_k). Less the w̃_k of L_K's own gradient, that is ½ w̃_k² and higher
    powers: score_k's coefficient, which then dies as fast as DReG's. Liévin et al. 2020.
    Raises ValueError for K < 2.
    """
    if len(log_w) < 2:
        raise ValueError(
            f"left_out_bound needs K >= 2 samples, so that there are others; got K = {len(log_w)}"
        )
    return _bound_of_others(log_w, log_w.new_tensor(-math.inf))


def _bound_of_others(log_w: Tensor, instead: Tensor) -> Tensor:
    """L_K with each log w_k in turn replaced. K² numbers a data point, and no difference of
    exponentials, which would lose everything where one weight holds nearly all."""
    K = len(log_w)
    itself = torch.eye(K, dtype=torch.bool, device=log_w.device).reshape(K, K, *[1] * (log_w.ndim - 1))
    return log_mean_exp(torch.where(itself, instead, log_w), 1)


def score_bound(draw: Draw, bound: Tensor, baseline: Tensor | float) -> Tensor:
    """A bound (M, B) on samples without gradient, whose gradient in φ is the estimator: (M, B).

    ∇_φ E[bound] = E[Σ_k (bound − b_k) ∇ log q(z_k | x) + ∇ bound]. For K > 1 the last term,
    −Σ_k w̃_k ∇ log q(z_k | x), does not average to zero: forgotten, the mean is wrong.
    baseline: b_k, broadcast to (K, M, B), from what sample k has not seen. Mnih & Rezende 2016, eq. 5.
    """
    signal = score_function(draw, bound - baseline).sum(0)
    return signal - signal.detach() + bound


def path_derivative(draw: Draw) -> Tensor:
    """log w with φ held fixed inside log q: (K, M, B), "sticking the landing". Roeder et al. 2017.

    Its value is log w; its gradient reaches φ through z alone, whatever q is. What is dropped has mean
    zero for the ELBO, and the rest vanishes, sample by sample, where q is the posterior.
    Raises ValueError where z carries no gradient.
    """
    if not draw.pathwise:
        raise ValueError("path_derivative needs reparameterized samples, and this draw has none")
    # log w's gradient is the path less the score. The score again, at a z that stands still, leaves the path.
    score = draw.q.log_prob(draw.z.detach())
    return draw.log_w + score - score.detach()


class MovingAverage(nn.Module):
    """A baseline that is one number: an exponential moving average of past log-weights, in nats."""

    def __init__(self, decay: float = 0.9):
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1); got {decay}")
        self.decay = decay
        self.register_buffer("value", torch.zeros(()))
        self.register_buffer("steps", torch.zeros(()))

    def extra_repr(self) -> str:
        return f"decay={self.decay}"

    def forward(self, x: Tensor) -> Tensor:
        # Divided by the weight gathered so far, else the first steps would be biased towards 0.
        return self.value / (1 - self.decay**self.steps).clamp(min=1e-12)

    def loss(self, x: Tensor, log_w: Tensor) -> Tensor:
        """Folds log_w into the average, for the *next* step. Returns 0: there is nothing to descend."""
        if self.training and torch.is_grad_enabled():
            self.value.mul_(self.decay).add_((1 - self.decay) * log_w.mean())
            self.steps.add_(1)
        return log_w.new_zeros(())


class LearnedBaseline(nn.Module):
    """A baseline b(x) that a small network learns by least squares. Mnih & Gregor 2014."""

    def __init__(self, data_dim: int, hidden: tuple[int, ...] = (100,)):
        super().__init__()
        self.data_dim = data_dim
        features, width = perceptron(data_dim, hidden, nn.Tanh)
        self.net = nn.Sequential(features, nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        check_width("this baseline", self.data_dim, x.flatten(1))
        return self.net(x.flatten(1))[:, 0]

    def loss(self, x: Tensor, log_w: Tensor) -> Tensor:
        """Mean squared error of b(x) against log w, in nats²: the baseline's own scalar loss."""
        return (log_w - self(x)).square().mean()
