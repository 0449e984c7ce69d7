"""All objectives: each one's two gradients against the exact ones, and that neither leaks into the other."""

import copy
import dataclasses
import inspect
import math
from functools import partial

import pytest
import torch
from common import (
    OBJECTIVES,
    assert_means,
    elbo,
    exact_mean,
    gradient_of,
    phi,
    rows,
    scrambled,
    theta,
    z_scores,
)

import vaelearn as vl
from vaelearn import metrics, objectives
from vaelearn.divergences import MMD, Adversarial
from vaelearn.objectives import ELBO, Step, WakeSleep

PHI, THETA = ("A", "c", "log_s"), ("W", "b", "log_sigma")


@pytest.fixture
def truth():
    return scrambled(vl.exact.LinearGaussian(data_dim=3, latent_dim=2))


@pytest.fixture
def x(truth):
    torch.manual_seed(1)
    return truth.sample(4)[0]


def gradients(truth, objective, x):
    truth.zero_grad()
    objective(truth, x).backward()
    return {name: p.grad.clone() for name, p in truth.named_parameters()}


def assert_unbiased(draws, exact):
    worst = z_scores(draws, exact).abs().max()
    assert worst < 4, f"off by {worst:.1f} standard errors"


# ------------------------------------------------------------------ the whole list


def test_every_objective_is_in_the_list(truth):
    """What the tests here and of training try is in it: what is forgotten there is tested nowhere."""
    public = {
        value
        for name, value in vars(objectives).items()
        if isinstance(value, type) and value.__module__ == objectives.__name__ and name[0] != "_"
    }
    assert {type(row(truth)) for row in OBJECTIVES.values()} == public - {Step, objectives.PathwiseBound}


def assert_unbiased_row(row, model, K, M):
    torch.manual_seed(1)
    x = model.sample(4)[0]
    torch.manual_seed(7)
    draws = metrics.gradient_draws(model, row(model, K, M), x, 30_000)
    of_theta = K * M if row.pooled else K
    for bound, names, samples in ((row.phi, phi(model), K), (row.theta, theta(model), of_theta)):
        if bound:
            assert_means(draws, gradient_of(model, exact_mean(model, x, bound, samples)), names)


@pytest.mark.parametrize("name", rows(lambda row: row.theta))
def test_gradients_are_unbiased_for_a_gaussian_latent(name):
    row = OBJECTIVES[name]
    model = scrambled(vl.exact.LinearGaussian(data_dim=3, latent_dim=2 if row.theta is elbo else 1))
    assert_unbiased_row(row, model, *(1, 2) if row.pooled else (2, 3))


@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("name", rows(lambda row: row.theta and row.discrete))
def test_gradients_are_unbiased_for_a_discrete_latent(name, K):
    assert_unbiased_row(OBJECTIVES[name], scrambled(vl.exact.GaussianMixture(2, 3)), K, 1)


@pytest.mark.parametrize("name", rows(lambda row: row.theta and row.reduction))
def test_the_bound_is_the_reduction_of_one_draw(truth, x, name, monkeypatch):
    row, drawn, draw = OBJECTIVES[name], [], truth.draw
    monkeypatch.setattr(truth, "draw", lambda *a, **k: drawn.append(draw(*a, **k)) or drawn[-1])
    step = row(truth, 3, 2)(truth, x)
    log_w = drawn[0].log_w.flatten(0, 1)[:, None] if row.pooled else drawn[0].log_w
    expected = row.theta(log_w).mean(0)
    assert step.bound.shape == (4,) and not step.bound.requires_grad
    torch.testing.assert_close(step.bound, expected.detach())
    torch.testing.assert_close(step.m_step, -expected.mean())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_discrete_latent_is_taken_or_refused_with_the_list_of_those_that_take_it(name):
    row, mixture = OBJECTIVES[name], scrambled(vl.exact.GaussianMixture(2, 3))
    torch.manual_seed(1)
    x = mixture.sample(50)[0]
    objective = row(mixture, 2, 3)
    if row.discrete:
        objective(mixture, x).backward()
        assert all(p.grad.isfinite().all() and p.grad.abs().max() > 0 for p in mixture.inference_parameters())
        return
    with pytest.raises(ValueError, match="no reparameterized samples") as error:
        objective(mixture, x)
    for other in OBJECTIVES.values():
        named = type(other(mixture)).__name__ in str(error.value).split("use ")[1].replace(",", "").split()
        assert named == other.discrete


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_batch_of_one_is_enough_unless_the_batch_stands_for_q(truth, x, name):
    row = OBJECTIVES[name]
    assert row(truth)(truth, x[: row.least]).bound.isfinite().all()
    if row.least > 1:
        with pytest.raises(ValueError, match=f"N >= {row.least}"):
            row(truth)(truth, x[: row.least - 1])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_one_draw_of_gradient_draws_is_one_backward_pass(truth, x, name):
    objective = OBJECTIVES[name](truth)
    copied = copy.deepcopy(objective)  # a baseline may learn from what it sees
    torch.manual_seed(8)
    draw = metrics.gradient_draws(truth, copied, x, 1)
    torch.manual_seed(8)
    for name, gradient in gradients(truth, objective, x).items():
        torch.testing.assert_close(-gradient, draw[name][0])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_critics_loss_reaches_the_critic_alone(truth, x, name):
    step = OBJECTIVES[name](truth)(truth, x)
    assert (step.critic is None) == (step.critic_loss is None)
    if step.critic_loss is not None and step.critic_loss.requires_grad:
        found = torch.autograd.grad(step.critic_loss, list(truth.parameters()), allow_unused=True)
        assert all(gradient is None for gradient in found)


def maker(objective):
    """Its class; what has no default is given."""
    needs = {
        objectives.AAE: {"divergence": Adversarial(2)},
        objectives.Thinned: {"objective": ELBO(5)},
        objectives.Schedule: {"at": lambda epoch: ELBO(), "report": ELBO()},
    }
    return partial(type(objective), **needs.get(type(objective), {}))


OTHER = {
    "K": [9],
    "M": [9],
    "alpha": [0.7],
    "beta": [0.9],
    "lam": [3.0],
    "kl": ["analytic", "sampled"],
    "baseline": ["moving-average", "left-out"],
    "divergence": [MMD("rbf", 2.0)],
    "objective": [ELBO(6)],
    "c": [2.0],
    "report": [ELBO(6)],
}
NO_REPR = {"at"}  # a function: what it gave is in the history


@pytest.mark.parametrize("name", OBJECTIVES)
def test_its_repr_is_the_same_in_every_process_and_holds_each_setting(truth, name):
    """A checkpoint knows its objective by it."""
    one, other = OBJECTIVES[name](truth), OBJECTIVES[name](truth)
    assert repr(one) == repr(other) and " at 0x" not in repr(one)
    make = maker(one)
    for setting, parameter in inspect.signature(make).parameters.items():
        if setting in NO_REPR:
            continue
        differing = 0
        for value in OTHER[setting]:
            try:
                changed = make(**{setting: value})
            except ValueError:  # another objective's choice
                continue
            differing += value != parameter.default
            assert (repr(changed) == repr(make())) == (value == parameter.default), setting
        assert differing


BAD = {
    "K": [0, 1.5, True],
    "M": [0, 1.5],
    "alpha": [math.nan],
    "beta": [-0.1, math.nan],
    "lam": [math.nan],
    "kl": ["closed"],
    "baseline": ["rloo"],
    "divergence": [],
    "objective": [objectives.VIMCO(3)],
    "c": [0, math.nan],
    "at": [ELBO],
    "report": [ELBO],
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_setting_is_checked_at_once_and_then_stays(truth, name):
    objective = OBJECTIVES[name](truth)
    make = maker(objective)
    for setting in inspect.signature(make).parameters:
        for value in BAD[setting]:
            with pytest.raises(ValueError, match=rf"\b{setting}\b"):
                make(**{setting: value})
    if dataclasses.is_dataclass(objective):
        with pytest.raises(dataclasses.FrozenInstanceError):
            objective.K = 3


# ------------------------------------------------------------------ their values


@pytest.mark.parametrize("kl", ["sampled", "analytic"])
def test_vae_bound_is_the_elbo_per_data_point(truth, x, kl):
    torch.manual_seed(3)
    steps = [ELBO(K=100, kl=kl)(truth, x) for _ in range(100)]
    assert steps[0].bound.shape == (4,) and not steps[0].bound.requires_grad
    torch.testing.assert_close(steps[0].e_step, -steps[0].bound.mean())
    assert_unbiased(torch.stack([step.bound for step in steps]), truth.elbo(x))


def test_at_the_posterior_the_sampled_kl_has_no_noise_and_the_analytic_kl_has():
    """There log w = log p(x) for every sample; the analytic form still samples log p(x | z) alone."""
    truth = vl.exact.LinearGaussian(data_dim=3, latent_dim=1).double()
    truth.perfect_e_step()
    torch.manual_seed(4)
    x, _ = truth.sample(4)
    values = {
        kl: torch.stack([ELBO(kl=kl)(truth, x).bound for _ in range(50)]) for kl in ("sampled", "analytic")
    }
    torch.testing.assert_close(values["sampled"], truth.log_prob(x).expand(50, 4))
    assert values["analytic"].std(0).min() > 0.1


def test_wake_sleep_m_step_is_the_elbos_and_never_reaches_phi(truth, x):
    torch.manual_seed(5)
    draws = [gradients(truth, WakeSleep(), x.repeat(50, 1)) for _ in range(200)]
    for name in THETA:
        assert_unbiased(torch.stack([-d[name] for d in draws]), truth.gradient(x)[name])


def expected_sleep_loss(truth):
    """E_p(x,z)[−log q(z | x)]: the residual z − Ax − c is Gaussian, with moments in closed form."""
    mean = -(truth.A @ truth.b + truth.c)
    of_z = torch.eye(2).double() - truth.A @ truth.W
    variance = (of_z @ of_z.T + (2 * truth.log_sigma).exp() * truth.A @ truth.A.T).diagonal()
    return (0.5 * (mean**2 + variance) * (-2 * truth.log_s).exp() + truth.log_s).sum()


def test_sleep_gradient_is_unbiased_and_comes_from_dreams_alone(truth, x):
    torch.manual_seed(5)
    draws = [gradients(truth, WakeSleep(), x.repeat(50, 1)) for _ in range(200)]
    exact = torch.autograd.grad(expected_sleep_loss(truth), truth.inference_parameters())
    for name, value in zip(PHI, exact, strict=True):
        assert value.abs().max() > 0.1
        assert_unbiased(torch.stack([d[name] for d in draws]), value)


def test_sleep_gradient_is_zero_at_the_moments_of_the_posterior(truth, x):
    """E_p(x,z)[−log q(z|x)] is least where q has the posterior's mean and *marginal* variances."""
    with torch.no_grad():
        truth.perfect_e_step()
        truth.log_s.copy_(0.5 * truth.posterior_precision().inverse().diagonal().log())
    torch.manual_seed(6)
    draws = [gradients(truth, WakeSleep(), x.repeat(50, 1)) for _ in range(200)]
    for name in PHI:
        assert_unbiased(torch.stack([d[name] for d in draws]), torch.zeros_like(getattr(truth, name)))
    # ... and the ELBO's best q is another one, so the ELBO's gradient is not zero here.
    assert truth.gradient(x)["log_s"].abs().max() > 0.1


def test_wake_sleep_works_for_a_discrete_latent():
    torch.manual_seed(7)
    mixture = vl.exact.GaussianMixture(2, 3).double()
    x, _ = mixture.sample(50)
    before = mixture.elbo(x).mean().item()
    vl.fit(mixture, WakeSleep(), x, epochs=30, lr=0.05, batch_size=50, progress=False, device="cpu")
    assert mixture.elbo(x).mean().item() > before


def test_each_parameter_set_gets_the_gradient_of_its_own_loss(truth, x):
    """Both losses depend on both sets and share a graph; backward must still keep them apart."""
    draw = truth.draw(x, (5, 3))
    e, m = -vl.bounds.miwae(draw.log_w).mean(), -vl.bounds.elbo(draw.log_w).mean()
    expected = dict(
        zip(PHI, torch.autograd.grad(e, truth.inference_parameters(), retain_graph=True), strict=True)
    )
    expected |= dict(
        zip(THETA, torch.autograd.grad(m, truth.generative_parameters(), retain_graph=True), strict=True)
    )
    Step(truth, e, m, -e.detach()).backward()
    for name, p in truth.named_parameters():
        reference = expected[name]
        torch.testing.assert_close(p.grad, reference)


def test_backward_accumulates_as_torch_does(truth, x):
    torch.manual_seed(8)
    once = gradients(truth, ELBO(), x)
    torch.manual_seed(8)
    ELBO()(truth, x).backward()
    for name, p in truth.named_parameters():
        torch.testing.assert_close(p.grad, 2 * once[name])


def test_frozen_parameters_stay_as_they_are(truth, x):
    """An E-step alone, or an M-step alone: the natural way is to freeze the other set."""
    for frozen, free in ((PHI, THETA), (THETA, PHI)):
        truth.zero_grad()
        for name, p in truth.named_parameters():
            p.requires_grad_(name in free)
        ELBO()(truth, x).backward()
        WakeSleep()(truth, x).backward()
        assert all(getattr(truth, name).grad is None for name in frozen)
        assert all(getattr(truth, name).grad.abs().max() > 0 for name in free)


@pytest.mark.parametrize("K", [True, 0, -1, 1.5, "5"])
def test_k_is_a_whole_number(K):
    with pytest.raises(ValueError, match="K must be a whole number >= 1"):
        ELBO(K=K)


def test_unknown_kl_is_an_error():
    with pytest.raises(ValueError, match=r"'sampled', 'analytic'; got 'analytical'.*mean 'analytic'"):
        ELBO(kl="analytical")
