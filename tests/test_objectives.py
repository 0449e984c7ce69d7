"""Each objective's two gradients against closed form, and that neither leaks into the other."""

import pytest
import torch
from common import scrambled, z_scores

import vaelearn as vl
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


@pytest.mark.parametrize("kl", ["sampled", "analytic"])
def test_vae_gradients_are_unbiased(truth, x, kl):
    torch.manual_seed(2)
    # 50 copies of the batch: as many samples in fewer calls.
    draws = [gradients(truth, ELBO(K=5, kl=kl), x.repeat(50, 1)) for _ in range(100)]
    for name, exact in truth.gradient(x).items():
        assert_unbiased(torch.stack([-d[name] for d in draws]), exact)


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
