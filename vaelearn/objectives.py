"""Objectives: every way of training in the book is a pair of losses.

Training a latent-variable model is a generalised EM. The E-step improves the inference
parameters φ, the M-step the generative parameters θ. An objective maps (model, x) to a `Step`
that holds one loss for each.
"""

from dataclasses import dataclass

from torch import Tensor
from torch import distributions as D

from . import bounds
from .models import LatentVariableModel, check_count


@dataclass(frozen=True)
class Step:
    """One evaluation of an objective on a batch.

    e_step and m_step: scalar losses, to be *minimised* (so minus a bound, averaged over the
    batch), for φ and θ; bound: (B,) the value to report, in nats, detached.
    """

    model: LatentVariableModel
    e_step: Tensor
    m_step: Tensor
    bound: Tensor

    def backward(self) -> None:
        """Add e_step's gradient to φ's .grad and m_step's to θ's; neither leaks into the other."""
        if self.e_step is self.m_step:
            self.e_step.backward()
            return
        phi, theta = self.model.inference_parameters(), self.model.generative_parameters()
        self.e_step.backward(inputs=phi, retain_graph=True)
        self.m_step.backward(inputs=theta)


@dataclass(frozen=True)
class VAE:
    """The ELBO with K samples: both steps ascend it. Kingma & Welling 2014, eqs. 6 and 7.

    kl="sampled" averages log w over K samples; kl="analytic" samples only the reconstruction
    and takes KL(q(z|x) ‖ p(z)) in closed form. Raises ValueError for K < 1 or an unknown kl.
    """

    K: int = 1
    kl: str = "sampled"

    def __post_init__(self):
        check_count("K", self.K)
        if self.kl not in ("sampled", "analytic"):
            raise ValueError(f"kl must be 'sampled' or 'analytic'; got {self.kl!r}")

    def __call__(self, model: LatentVariableModel, x: Tensor) -> Step:
        draw = model.draw(x, (self.K, 1))
        if self.kl == "sampled":
            bound = bounds.elbo(draw.log_w)[0]
        else:
            bound = draw.log_likelihood.mean((0, 1)) - D.kl_divergence(draw.q, model.prior())
        loss = -bound.mean()
        return Step(model, e_step=loss, m_step=loss, bound=bound.detach())


@dataclass(frozen=True)
class WakeSleep:
    """Wake–sleep: φ learns to invert the model's own dreams, θ ascends the ELBO.

    Hinton, Dayan, Frey & Neal 1995. Sleep (E-step): (x, z) are sampled from the model and φ
    maximises log q(z | x), which descends KL(p(z|x) ‖ q(z|x)), the other way round from the
    ELBO's. Wake (M-step): z ~ q(z | x) for real x, and θ maximises log p(x, z). No gradient
    passes through a sample, so z may be discrete.
    """

    def __call__(self, model: LatentVariableModel, x: Tensor) -> Step:
        dream_x, dream_z = model.sample(len(x))
        sleep = -model.posterior(dream_x).log_prob(dream_z).mean()
        bound = bounds.elbo(model.draw(x).log_w)[0]
        return Step(model, e_step=sleep, m_step=-bound.mean(), bound=bound.detach())
