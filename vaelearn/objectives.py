"""Objectives: every way of training in the book is a pair of losses.

Training a latent-variable model is a generalised EM. The E-step improves the inference
parameters φ, the M-step the generative parameters θ. An objective maps (model, x) to a `Step`
that holds one loss for each.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch import distributions as D

from . import bounds
from .checks import check_choice, check_count, check_instance
from .divergences import MMD, Adversarial
from .gradients import (
    MovingAverage,
    geometric_mean_bound,
    leave_one_out,
    left_out_bound,
    path_derivative,
    score_bound,
    score_function,
)
from .models import Draw, LatentVariableModel
from .thinning import keep


@dataclass(frozen=True)
class Step:
    """One evaluation of an objective on a batch.

    e_step and m_step: scalar losses, to be *minimised* (so minus a bound, averaged over the
    batch), for φ and θ; bound: (B,) the value to report, in nats, detached. An objective with
    parameters of its own (a learned baseline, a discriminator) also gives that module, its critic, and
    the critic's loss. terms: what the bound is made of where it is worth reporting, (B,) each, detached.
    """

    model: LatentVariableModel
    e_step: Tensor
    m_step: Tensor
    bound: Tensor
    critic: nn.Module | None = None
    critic_loss: Tensor | None = None
    terms: dict[str, Tensor] = field(default_factory=dict)

    def backward(self) -> None:
        """Add e_step's gradient to φ's .grad, m_step's to θ's, the critic's to its own: no leaks."""
        phi, theta = self.model.inference_parameters(), self.model.generative_parameters()
        if self.e_step is self.m_step:  # one tensor, one backward pass; two of one value would take two
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

    @classmethod
    def ascend(cls, model: LatentVariableModel, bounds: Sequence[Tensor]) -> "Step":
        """φ ascends the first of these bounds and θ the last, (B,) each in nats: one bound, both."""
        losses = [-bound.mean() for bound in bounds]
        return cls(model, e_step=losses[0], m_step=losses[-1], bound=bounds[-1].detach())


def _add_gradient(loss: Tensor, parameters: Iterable[nn.Parameter], retain_graph: bool = False) -> None:
    """Add loss's gradient to these parameters' .grad and to no others'; frozen ones stay as they are."""
    free = [p for p in parameters if p.requires_grad]
    if free:
        loss.backward(inputs=free, retain_graph=retain_graph)


class PathwiseBound:
    """An objective that is a function of log w, differentiated along the path through z.

    A subclass is a dataclass with K, and M where it has one, that gives `bounds`.
    Raises ValueError for K < 1 or M < 1, and for a q without reparameterized samples.
    """

    K: int
    M = 1

    def __post_init__(self):
        check_count("K", self.K)
        check_count("M", self.M)

    def bounds(self, log_w: Tensor) -> tuple[Tensor, ...]:
        """log_w (K, M, B) -> the bound, (B,) in nats, that φ and θ ascend; where they differ, φ's and θ's."""
        raise NotImplementedError

    def shares(self, log_w: Tensor) -> tuple[Tensor, ...]:
        """For each of the bounds ∂ bound / ∂ log w: how much each sample's gradient counts, (K, M, B)."""
        return tuple(
            torch.func.grad(lambda w, i=i: self.bounds(w)[i].sum())(log_w)
            for i in range(len(self.bounds(log_w)))
        )

    def log_w(self, draw: Draw) -> Tensor:
        """The log-weights to differentiate, (K, M, B)."""
        return draw.log_w

    def __call__(self, model: LatentVariableModel, x: Tensor) -> Step:
        draw = reparameterized(model.draw(x, (self.K, self.M)))
        return Step.ascend(model, self.bounds(self.log_w(draw)))


@dataclass(frozen=True)
class ELBO(PathwiseBound):
    """The ELBO with K samples: both steps ascend it. Kingma & Welling 2014, eqs. 6 and 7.

    kl="sampled" averages log w over K samples; kl="analytic" samples only the reconstruction
    and takes KL(q(z|x) ‖ p(z)) in closed form. Raises ValueError for K < 1, an unknown kl, or a
    model whose KL has no closed form.
    """

    K: int = 1
    kl: str = "sampled"

    def __post_init__(self):
        super().__post_init__()
        check_choice("kl", self.kl, ("sampled", "analytic"))

    def bounds(self, log_w):
        return (bounds.elbo(log_w)[0],)

    def __call__(self, model: LatentVariableModel, x: Tensor) -> Step:
        draw = reparameterized(model.draw(x, (self.K, 1)))
        if self.kl == "sampled":
            bound = bounds.elbo(draw.log_w)[0]
        else:
            bound = draw.log_likelihood.mean((0, 1)) - _closed_form_kl(draw.q, model.prior())
        return Step.joint(model, bound)


def _closed_form_kl(q: D.Distribution, p: D.Distribution) -> Tensor:
    try:
        return D.kl_divergence(q, p)
    except NotImplementedError:
        raise ValueError(
            f"KL({type(q).__name__} ‖ {type(p).__name__}) has no closed form here; use kl='sampled'"
        ) from None


@dataclass(frozen=True)
class STL(PathwiseBound):
    """The ELBO with K samples, φ by the path derivative only: "sticking the landing".

    Unbiased, and without any noise in φ's gradient where q is the posterior. Roeder et al. 2017.
    Raises ValueError for K < 1.
    """

    K: int = 1

    def bounds(self, log_w):
        return (bounds.elbo(log_w)[0],)

    def log_w(self, draw):
        return path_derivative(draw)


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


@dataclass(frozen=True)
class IWAE(PathwiseBound):
    """The importance weighted bound L_K: both steps ascend it. Burda et al. 2016.

    Raises ValueError for K < 1.
    """

    K: int = 5

    def bounds(self, log_w):
        return (bounds.iwae(log_w)[0],)


@dataclass(frozen=True)
class VR(PathwiseBound):
    """The variational Rényi bound of order α with K samples: both steps ascend it. Li & Turner 2016.

    α = 0 is IWAE, α = 1 the ELBO. Raises ValueError for K < 1, or α < 0 or not finite.
    """

    K: int = 5
    alpha: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        bounds.check_alpha(self.alpha)

    def bounds(self, log_w):
        return (bounds.vr(log_w, self.alpha)[0],)


@dataclass(frozen=True)
class MIWAE(PathwiseBound):
    """The mean of M independent draws of L_K: both steps ascend it. Rainforth et al. 2018, section 5.

    The *multiply* importance weighted autoencoder. Raises ValueError for K < 1 or M < 1.
    """

    K: int = 8
    M: int = 8

    def bounds(self, log_w):
        return (bounds.miwae(log_w),)


@dataclass(frozen=True)
class CIWAE(PathwiseBound):
    """β ELBO + (1 − β) L_K from the same K samples: both steps ascend it. Rainforth et al. 2018, section 5.

    Raises ValueError for K < 1, or β outside [0, 1].
    """

    K: int = 64
    beta: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        bounds.check_beta(self.beta)

    def bounds(self, log_w):
        return (bounds.ciwae(log_w, self.beta)[0],)


@dataclass(frozen=True)
class PIWAE(PathwiseBound):
    """φ ascends the mean of M draws of L_K, θ ascends L_MK, from the same M·K samples: each parameter
    set follows the bound that gives it the better gradient. Rainforth et al. 2018, section 5.

    The bound reported is L_MK, θ's. Raises ValueError for K < 1 or M < 1.
    """

    K: int = 8
    M: int = 8

    def bounds(self, log_w):
        return bounds.miwae(log_w), bounds.iwae(log_w.flatten(0, 1))


@dataclass(frozen=True)
class DReG(PathwiseBound):
    """L_K, with φ's gradient doubly reparameterized: Σ_k w̃_k² (∂log w_k / ∂z_k) ∂z_k/∂φ. Tucker et al. 2019.

    Unbiased, and without the score terms whose noise grows with K. θ ascends L_K as in IWAE.
    Raises ValueError for K < 1.
    """

    K: int = 5

    def bounds(self, log_w):
        return (bounds.iwae(log_w)[0],) * 2

    def shares(self, log_w):
        weights = log_w.softmax(0)
        return weights.square(), weights

    def log_w(self, draw):
        return path_derivative(draw)

    def __call__(self, model: LatentVariableModel, x: Tensor) -> Step:
        draw = reparameterized(model.draw(x, (self.K, 1)))
        log_w = path_derivative(draw)
        weights = log_w.detach().softmax(0)
        # L_K itself sends w̃ to θ and to z. The second w̃ meets the gradient at z, on its way to φ:
        # θ lies on no path from there, and one backward pass serves both steps.
        if draw.z.requires_grad:
            draw.z.register_hook(lambda gradient: weights[..., None] * gradient)
        return Step.joint(model, bounds.iwae(log_w)[0])


@dataclass(frozen=True)
class Thinned:
    """The same objective, for the price of its forward pass: back-propagates c samples of each data point.

    All K·M samples are drawn and weighed without a graph, so that memory hardly grows with them. `keep`
    chooses c by their shares of the gradient; what they count for makes θ's and φ's gradients right on
    average, for any c > 0. PIWAE and DReG have a table of shares for φ and one for θ, and choose twice.
    The bound reported is the objective's own. Where c >= K·M, so is the gradient.
    Burda et al. 2016 end on c = 1, one sample drawn by its weight.
    Raises ValueError for c <= 0 or an objective that is no function of log w.
    """

    objective: PathwiseBound
    c: float = 4.0

    def __post_init__(self):
        if not isinstance(self.objective, PathwiseBound) or getattr(self.objective, "kl", "") == "analytic":
            raise ValueError(
                "Thinned needs an objective that is a function of log w: ELBO (with kl='sampled'), STL, "
                f"IWAE, MIWAE, CIWAE, PIWAE, VR or DReG; got {self.objective!r}"
            )
        if not self.c > 0:
            raise ValueError(f"c, how many samples of each data point to keep, must be > 0; got {self.c!r}")

    def __call__(self, model: LatentVariableModel, x: Tensor) -> Step:
        objective, samples = self.objective, (self.objective.K, self.objective.M)
        if self.c >= objective.K * objective.M:
            return objective(model, x)
        model.check_data(x)
        check_reparameterized(q := model.posterior(x))
        z = q.rsample(samples).to(x.dtype).flatten(0, 1)
        log_w = model.log_weights(x, z, q).unflatten(0, samples)
        ascended = []
        for bound, shares in zip(objective.bounds(log_w), objective.shares(log_w), strict=True):
            index, weight = keep(shares.flatten(0, 1), self.c)
            kept = model.at(x, z.take_along_dim(index[..., None], 0)[:, None], q)
            gradient = (weight[:, None] * objective.log_w(kept)).sum((0, 1))
            # The bound's own value, this gradient.
            ascended.append(bound + gradient - gradient.detach())
        return Step.ascend(model, ascended)


@dataclass(frozen=True)
class VIMCO:
    """L_K, φ by the score function with leave-one-out control variates: z may be discrete.

    Each sample earns what it adds to L_K beyond what the other K − 1 promise. Unbiased. baseline:
    "geometric" puts the others' geometric mean in its place, Mnih & Rezende 2016; "left-out" leaves
    it out, Liévin et al. 2020. Raises ValueError for K < 2, or an unknown baseline.
    """

    K: int = 5
    baseline: str = "geometric"

    def __post_init__(self):
        check_count("K", self.K, minimum=2)
        check_choice("baseline", self.baseline, tuple(_BASELINES))

    def __call__(self, model: LatentVariableModel, x: Tensor) -> Step:
        draw = model.draw(x, (self.K, 1), pathwise=False)
        bound = bounds.iwae(draw.log_w)
        e_step = -score_bound(draw, bound, _BASELINES[self.baseline](draw.log_w)).mean()
        return Step(model, e_step, m_step=-bound.mean(), bound=bound[0].detach())


_BASELINES = {"geometric": geometric_mean_bound, "left-out": left_out_bound}


@dataclass(frozen=True)
class ReweightedWakeSleep:
    """Reweighted wake–sleep with K samples, the wake phase for both steps: z may be discrete.

    θ ascends L_K. φ ascends Σ_k w̃_k log q(z_k | x) for real x, which descends KL(p(z|x) ‖ q(z|x)),
    with a bias that vanishes as K grows. Bornschein & Bengio 2015, section 2.3; Le et al. 2019
    call it wake-wake. Raises ValueError for K < 2: one weight is always 1 and tells φ nothing.
    """

    K: int = 5

    def __post_init__(self):
        check_count("K", self.K, minimum=2)

    def __call__(self, model: LatentVariableModel, x: Tensor) -> Step:
        draw = model.draw(x, (self.K, 1), pathwise=False)
        bound = bounds.iwae(draw.log_w)[0]
        e_step = -score_function(draw, draw.log_w.softmax(0)).sum(0).mean()
        return Step(model, e_step, m_step=-bound.mean(), bound=bound.detach())


class InfoVAE(nn.Module):
    """log p(x | z) − (1 − α) KL(q(z | x) ‖ p(z)) − (α + λ − 1) D(q(z), p(z)): both steps ascend it.

    α rewards the mutual information of x and z, λ the match of the aggregate posterior q(z) to the
    prior; D is any of `vl.divergences`, MMD() unless given. α = 0, λ = 1 is the ELBO. One code a data
    point; the batch's codes stand for q(z). kl: "analytic" or "sampled", as in `ELBO`.
    The three terms are reported apart. Zhao, Song & Ermon 2019, eq. 6.
    Raises ValueError for α > 1, or α + λ − 1 < 0: a negative weight would reward what it should punish.
    """

    def __init__(self, alpha: float = 0.0, lam: float = 1000.0, divergence=None, kl: str = "analytic"):
        super().__init__()
        check_choice("kl", kl, ("analytic", "sampled"))
        if divergence is not None:
            check_instance("divergence", divergence, "a function (z, prior) -> scalar, such as MMD()")
        weight = alpha + lam - 1
        if not alpha <= 1:
            raise ValueError(f"alpha must be <= 1: the weight of KL is 1 − alpha, here {1 - alpha:.4g}")
        if not weight >= -1e-12:
            raise ValueError(
                f"the weight of the divergence, alpha + lam − 1, must be >= 0; got {weight:.4g} from "
                f"alpha={alpha}, lam={lam}. Training would *reward* a q(z) far from the prior: raise lam "
                f"to {1 - alpha:.4g} or more"
            )
        self.alpha, self.lam, self.kl = alpha, lam, kl
        self.weight = weight if weight > 1e-12 else 0.0
        self.divergence = divergence if divergence is not None or self.weight == 0 else MMD()
        # A divergence compares the codes of a batch with each other.
        self.fewest_rows = 2 if self.weight else 1

    def __repr__(self):
        settings = f"alpha={self.alpha}, lam={self.lam}, divergence={self.divergence!r}, kl={self.kl!r}"
        return f"{type(self).__name__}({settings})"

    def forward(self, model: LatentVariableModel, x: Tensor) -> Step:
        draw = reparameterized(model.draw(x))
        prior, z = model.prior(), draw.z[0, 0]
        if self.kl == "analytic":
            kl = _closed_form_kl(draw.q, prior)
        else:
            kl = (draw.log_q - draw.log_prior)[0, 0]
        terms = {"reconstruction": draw.log_likelihood[0, 0], "kl": kl}
        objective = terms["reconstruction"] - (1 - self.alpha) * kl
        critic = critic_loss = None
        if self.weight:
            divergence = self.divergence(z, prior)
            terms["divergence"] = divergence.expand_as(objective)
            objective = objective - self.weight * divergence
            if isinstance(self.divergence, nn.Module):
                critic, critic_loss = self.divergence, self.divergence.loss(z, prior)
        loss = -objective.mean()
        detached = {name: value.detach() for name, value in terms.items()}
        return Step(model, loss, loss, objective.detach(), critic, critic_loss, detached)


class BetaVAE(InfoVAE):
    """log p(x | z) − β KL(q(z | x) ‖ p(z)), InfoVAE(1 − β, β). Higgins et al. 2017.

    Raises ValueError for β < 0.
    """

    def __init__(self, beta: float = 4.0, kl: str = "analytic"):
        if not beta >= 0:
            raise ValueError(f"beta must be >= 0, or KL would be rewarded; got {beta}")
        super().__init__(alpha=1 - beta, lam=beta, kl=kl)


class AAE(InfoVAE):
    """The adversarial autoencoder, InfoVAE(1, λ, Adversarial(L)): no KL to the prior, data point by data
    point; a discriminator matches q(z) to it instead. Makhzani et al. 2015."""

    def __init__(self, divergence: Adversarial, lam: float = 1.0):
        super().__init__(alpha=1.0, lam=lam, divergence=divergence)


class WAE(InfoVAE):
    """The Wasserstein autoencoder with MMD, InfoVAE(1, λ, MMD("imq")), here with a random encoder and any
    likelihood. Tolstikhin et al. 2018, algorithm 2."""

    def __init__(self, lam: float = 10.0, divergence=None):
        super().__init__(alpha=1.0, lam=lam, divergence=MMD("imq") if divergence is None else divergence)


class Schedule(nn.Module):
    """An objective that changes with the epoch, as a learning rate may: KL warm-up, α, λ, K.

    at: a function epoch -> objective, from 0; `fit` trains with at(epoch). report: the one fixed
    objective that validation, and whoever else calls the schedule, sees. Where objectives have a critic
    (a discriminator, a baseline), all of them share that of `report`.

        Schedule(lambda epoch: BetaVAE(min(1, epoch / 10)), report=ELBO())
    """

    def __init__(self, at: Callable[[int], Callable], report: Callable):
        super().__init__()
        check_instance("at", at, "a function epoch -> objective")
        check_instance("report", report, "an objective, such as ELBO()")
        self.at, self.report = at, report

    def __repr__(self):
        return f"Schedule(report={self.report!r})"

    def forward(self, model: LatentVariableModel, x: Tensor) -> Step:
        return self.report(model, x)


def reparameterized(draw: Draw) -> Draw:
    """The draw itself, if its samples carry a gradient to φ."""
    check_reparameterized(draw.q)
    return draw


def check_reparameterized(q: D.Distribution) -> None:
    """Raises ValueError where q's samples carry no gradient: a part of φ's gradient would be missing,
    and training would go on without a word."""
    if not q.has_rsample:
        raise ValueError(
            f"{type(q).__name__} gives no reparameterized samples, and this objective needs them "
            "for φ's gradient; use ScoreFunction, VIMCO, WakeSleep or ReweightedWakeSleep"
        )
