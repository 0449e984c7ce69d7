"""Objectives: every way of training in the book is a pair of losses.

Training a latent-variable model is a generalised EM. The E-step improves the inference
parameters φ, the M-step the generative parameters θ. An objective maps (model, x) to a `Step`
that holds one loss for each.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn
from torch import distributions as D

from . import bounds
from .gradients import MovingAverage, leave_one_out, path_derivative, score_function
from .models import Draw, LatentVariableModel, check_choice, check_count


@dataclass(frozen=True)
class Step:
    """One evaluation of an objective on a batch.

    e_step and m_step: scalar losses, to be *minimised* (so minus a bound, averaged over the
    batch), for φ and θ; bound: (B,) the value to report, in nats, detached. An objective with
    parameters of its own (a learned baseline) also gives that module, its critic, and the critic's loss.
    """

    model: LatentVariableModel
    e_step: Tensor
    m_step: Tensor
    bound: Tensor
    critic: nn.Module | None = None
    critic_loss: Tensor | None = None

    def backward(self) -> None:
        """Add e_step's gradient to φ's .grad, m_step's to θ's, the critic's to its own: no leaks."""
        phi, theta = self.model.inference_parameters(), self.model.generative_parameters()
        if self.e_step is self.m_step:
            _add_gradient(self.e_step, phi + theta)
        else:
            _add_gradient(self.e_step, phi, retain_graph=True)
            _add_gradient(self.m_step, theta)
        if self.critic is not None:
            _add_gradient(self.critic_loss, self.critic.parameters())

    @classmethod
    def joint(cls, model: LatentVariableModel, bound: Tensor) -> "Step":
        """Both steps ascend one bound, (B,) in nats."""
        loss = -bound.mean()
        return cls(model, e_step=loss, m_step=loss, bound=bound.detach())


def _add_gradient(loss: Tensor, parameters: Iterable[nn.Parameter], retain_graph: bool = False) -> None:
    """Add loss's gradient to these parameters' .grad and to no others'; frozen ones stay as they are."""
    free = [p for p in parameters if p.requires_grad]
    if free:
        loss.backward(inputs=free, retain_graph=retain_graph)


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
        check_choice("kl", self.kl, ("sampled", "analytic"))

    def __call__(self, model: LatentVariableModel, x: Tensor) -> Step:
        draw = reparameterized(model.draw(x, (self.K, 1)))
        if self.kl == "sampled":
            bound = bounds.elbo(draw.log_w)[0]
        else:
            bound = draw.log_likelihood.mean((0, 1)) - D.kl_divergence(draw.q, model.prior())
        return Step.joint(model, bound)


@dataclass(frozen=True)
class STL:
    """The ELBO with K samples, φ by the path derivative only: "sticking the landing".

    Unbiased, and without any noise in φ's gradient where q is the posterior. Roeder et al. 2017.
    Raises ValueError for K < 1.
    """

    K: int = 1

    def __post_init__(self):
        check_count("K", self.K)

    def __call__(self, model: LatentVariableModel, x: Tensor) -> Step:
        draw = reparameterized(model.draw(x, (self.K, 1)))
        return Step.joint(model, bounds.elbo(path_derivative(draw))[0])


class ScoreFunction(nn.Module):
    """The ELBO with K samples, φ by the score function (REINFORCE): z may be discrete.

    baseline: None; "moving-average"; "leave-one-out" over the K samples (K >= 2); or a module with
    forward(x) -> (B,) and loss(x, log_w) -> scalar, such as `gradients.LearnedBaseline`, which
    `fit` then trains along; it keeps what it learned from one `fit` to the next.
    Williams 1992; Mnih & Gregor 2014; Kool et al. 2019.
    Raises ValueError for K < 1, or K < 2 with leave-one-out, or an unknown baseline.
    """

    def __init__(self, K: int = 1, baseline: str | nn.Module | None = None):
        super().__init__()
        check_count("K", K)
        if not (baseline is None or isinstance(baseline, nn.Module)):
            check_choice("baseline, where it is no module,", baseline, ("moving-average", "leave-one-out"))
        if baseline == "leave-one-out" and K < 2:
            raise ValueError(f"baseline='leave-one-out' needs K >= 2 samples; got K = {K}")
        self.K = K
        self.baseline = MovingAverage() if baseline == "moving-average" else baseline

    def __repr__(self):
        return f"ScoreFunction(K={self.K}, baseline={self.baseline!r})"

    def forward(self, model: LatentVariableModel, x: Tensor) -> Step:
        draw = model.draw(x, (self.K, 1), pathwise=False)
        bound = bounds.elbo(draw.log_w)[0]
        critic = critic_loss = None
        if self.baseline is None:
            baseline = 0.0
        elif self.baseline == "leave-one-out":
            baseline = leave_one_out(draw.log_w)
        else:
            critic, baseline = self.baseline, self.baseline(x)
            critic_loss = critic.loss(x, bound.detach())
        e_step = -score_function(draw, draw.log_w - baseline).mean()
        return Step(model, e_step, -bound.mean(), bound.detach(), critic, critic_loss)


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


def reparameterized(draw: Draw) -> Draw:
    """The draw itself. Raises ValueError where q's samples carry no gradient: a part of φ's
    gradient would be missing, and training would go on without a word."""
    if not draw.q.has_rsample:
        raise ValueError(
            f"{type(draw.q).__name__} gives no reparameterized samples, and this objective needs them "
            "for φ's gradient; use ScoreFunction or WakeSleep"
        )
    return draw
