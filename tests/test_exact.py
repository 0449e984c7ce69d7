"""The oracles themselves: against quadrature, finite differences and scikit-learn."""

import numpy as np
import pytest
import torch
from common import scrambled, z_scores
from torch import distributions as D

from vaelearn.exact import GaussianMixture, LinearGaussian

GRID = torch.linspace(-12, 12, 24_001, dtype=torch.float64)[:, None]


@pytest.fixture
def truth():
    return scrambled(LinearGaussian(data_dim=5, latent_dim=2))


@pytest.fixture
def x(truth):
    torch.manual_seed(2)
    return truth.sample(6)[0]


@pytest.fixture
def mixture():
    return scrambled(GaussianMixture(data_dim=2, components=3))


def test_what_the_models_start_from():
    """As their docstrings say: σ = s = 1, scales 1, equal weights; q near the prior, so that it is wrong."""
    linear, mixture = LinearGaussian(4, 2), GaussianMixture(4, 3)
    for p in (linear.log_sigma, linear.c, linear.log_s, mixture.logits, mixture.log_scales, mixture.a):
        assert (p == 0).all()
    assert 0 < linear.A.abs().max() < 0.5 < linear.W.std()


def integral(f):
    """∫ f over the grid: f (N,) or (N, B); the trapezium rule on a smooth, decaying function."""
    return torch.trapezoid(f, GRID[:, 0], dim=0)


# LinearGaussian ---------------------------------------------------------------------------------


def one_dimensional():
    model = scrambled(LinearGaussian(data_dim=3, latent_dim=1))
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    log_joint = model.likelihood(GRID[:, None]).log_prob(x) + model.prior().log_prob(GRID)[:, None]
    return model, x, log_joint


def test_log_prob_is_the_integral_of_the_joint():
    model, x, log_joint = one_dimensional()
    torch.testing.assert_close(model.log_prob(x), integral(log_joint.exp()).log())


def test_true_posterior_is_the_joint_normalised():
    model, x, log_joint = one_dimensional()
    expected = log_joint - integral(log_joint.exp()).log()
    posterior = model.true_posterior(x).log_prob(GRID[:, None])
    inside = expected > -200
    torch.testing.assert_close(posterior[inside], expected[inside])


def test_elbo_is_the_expected_log_weight():
    model, x, log_joint = one_dimensional()
    log_q = model.posterior(x).log_prob(GRID[:, None])
    torch.testing.assert_close(model.elbo(x), integral(log_q.exp() * (log_joint - log_q)))


def test_log_prob_is_elbo_plus_kl_to_the_posterior(truth, x):
    q = truth.posterior(x)
    q = D.MultivariateNormal(q.mean, torch.diag_embed(q.variance))
    gap = D.kl_divergence(q, truth.true_posterior(x))
    assert (gap > 0.01).all()
    torch.testing.assert_close(truth.log_prob(x), truth.elbo(x) + gap)


def test_monte_carlo_elbo_agrees_within_its_standard_error(truth, x):
    torch.manual_seed(0)
    log_w = truth.draw(x, (20_000, 1)).log_w[:, 0]
    assert z_scores(log_w, truth.elbo(x)).abs().max() < 4


def test_gradient_agrees_with_finite_differences(truth, x):
    gradient = truth.gradient(x)
    assert set(gradient) == {"W", "b", "log_sigma", "A", "c", "log_s"}
    h = 1e-6
    for name, parameter in truth.named_parameters():
        for i in range(parameter.numel()):
            values = []
            for sign in (1, -1):
                with torch.no_grad():
                    parameter.view(-1)[i] += sign * h
                    values.append(truth.elbo(x).mean().item())
                    parameter.view(-1)[i] -= sign * h
            difference = (values[0] - values[1]) / (2 * h)
            assert difference == pytest.approx(gradient[name].view(-1)[i].item(), rel=1e-6, abs=1e-7)


def test_perfect_e_step_is_the_best_diagonal_q(truth, x):
    truth.perfect_e_step()
    gradient = truth.gradient(x)
    for name in ("A", "c", "log_s"):
        torch.testing.assert_close(gradient[name], torch.zeros_like(gradient[name]), atol=1e-10, rtol=0)
    P = truth.posterior_precision()
    gap = 0.5 * (P.diagonal().log().sum() - P.logdet())
    assert gap > 0.1
    torch.testing.assert_close(truth.log_prob(x) - truth.elbo(x), gap.expand(6))


def test_maximum_likelihood_cannot_be_improved():
    torch.manual_seed(4)
    x = scrambled(LinearGaussian(6, 2), seed=5).sample(300)[0]
    best = LinearGaussian.maximum_likelihood(x, latent_dim=2)
    for p in torch.autograd.grad(best.log_prob(x).mean(), best.generative_parameters()):
        torch.testing.assert_close(p, torch.zeros_like(p), atol=1e-10, rtol=0)
    # Its posterior precision is diagonal, so a diagonal q leaves no gap.
    torch.testing.assert_close(best.elbo(x), best.log_prob(x))
    # sklearn finds the same maximum by its own route; its σ² uses N − 1.
    from sklearn.decomposition import PCA

    n = len(x)
    pca = PCA(n_components=2).fit(x.numpy() * ((n - 1) / n) ** 0.5)
    torch.testing.assert_close((2 * best.log_sigma).exp().item(), float(pca.noise_variance_))


def test_maximum_likelihood_says_what_it_needs():
    with pytest.raises(ValueError, match="latent_dim=3, D=3, N=10"):
        LinearGaussian.maximum_likelihood(torch.randn(10, 3), latent_dim=3)
    flat = torch.randn(10, 1, dtype=torch.float64) * torch.ones(3, dtype=torch.float64)
    with pytest.raises(ValueError, match="σ = 0"):
        LinearGaussian.maximum_likelihood(flat.round(decimals=2) * 0, latent_dim=1)


# GaussianMixture --------------------------------------------------------------------------------


def test_mixture_log_prob_agrees_with_torch(mixture):
    x = torch.randn(7, 2, dtype=torch.float64)
    components = D.Independent(D.Normal(mixture.means, mixture.log_scales.exp()), 1)
    theirs = D.MixtureSameFamily(D.Categorical(logits=mixture.logits), components)
    torch.testing.assert_close(mixture.log_prob(x), theirs.log_prob(x))


def test_mixture_elbo_gap_is_the_kl_to_the_posterior(mixture):
    x = torch.randn(7, 2, dtype=torch.float64)
    q, p = mixture.posterior(x), mixture.true_posterior(x)
    gap = (q.probs * (q.probs.log() - p.probs.log())).sum(-1)
    assert (gap > 1e-4).all()
    torch.testing.assert_close(mixture.log_prob(x) - mixture.elbo(x), gap)
    torch.testing.assert_close(mixture.elbo(x, p), mixture.log_prob(x))


def test_mixture_elbo_with_a_hard_q_is_the_joint(mixture):
    x = torch.randn(1, 2, dtype=torch.float64)
    hard = D.OneHotCategorical(probs=torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64))
    torch.testing.assert_close(mixture.elbo(x, hard), mixture.log_joint(x)[:, 1], atol=1e-6, rtol=1e-6)


def test_mixture_elbo_with_a_q_that_rules_components_out(mixture):
    """0 · log 0 is 0, in the value and in θ's gradient."""
    x = torch.randn(1, 2, dtype=torch.float64)
    logits = torch.tensor([[-torch.inf, 0.0, 0.0]], dtype=torch.float64)
    value = mixture.elbo(x, D.OneHotCategorical(logits=logits, validate_args=False))
    torch.testing.assert_close(value, mixture.log_joint(x)[:, 1:].mean(1) + np.log(2))
    gradients = torch.autograd.grad(value.sum(), mixture.generative_parameters())
    assert all(g.isfinite().all() for g in gradients)


def test_mixture_draw_agrees_with_enumeration(mixture):
    torch.manual_seed(0)
    x = torch.randn(3, 2, dtype=torch.float64)
    draw = mixture.draw(x, (4000, 5))
    assert draw.log_w.shape == (4000, 5, 3)
    assert z_scores(draw.log_w.flatten(0, 1), mixture.elbo(x)).abs().max() < 4


def test_em_agrees_with_scikit_learn():
    from sklearn.mixture import GaussianMixture as Theirs

    torch.manual_seed(6)
    x = scrambled(GaussianMixture(2, 3)).sample(400)[0]
    ours = GaussianMixture(2, 3, seed=7).double()
    means = ours.means.detach().numpy().copy()
    history = ours.em(x, steps=20)
    with pytest.warns(match="did not converge"):
        theirs = Theirs(
            3,
            covariance_type="diag",
            reg_covar=0,
            tol=0,
            max_iter=20,
            weights_init=np.full(3, 1 / 3),
            means_init=means,
            precisions_init=np.ones((3, 2)),
        ).fit(x.numpy())
    np.testing.assert_allclose(ours.means.detach(), theirs.means_, rtol=1e-9)
    np.testing.assert_allclose((2 * ours.log_scales).exp().detach(), theirs.covariances_, rtol=1e-9)
    np.testing.assert_allclose(ours.logits.softmax(-1).detach(), theirs.weights_, rtol=1e-9)
    assert history[-1] == pytest.approx(theirs.score(x.numpy()), rel=1e-10)


def test_em_never_lowers_the_likelihood():
    torch.manual_seed(8)
    x = scrambled(GaussianMixture(2, 3)).sample(200)[0]
    history = torch.tensor(GaussianMixture(2, 4, seed=9).double().em(x, steps=60), dtype=torch.float64)
    assert history.diff().min() > -1e-12 and history[-1] - history[0] > 0.1


def test_m_step_refuses_a_collapsed_component(mixture):
    x = torch.randn(5, 2, dtype=torch.float64)
    hard = torch.eye(3, dtype=torch.float64)[[0, 1, 1, 2, 2]]
    with pytest.raises(ValueError, match="component 0 has collapsed: its responsibilities sum to 1 "):
        mixture.m_step(x, hard)
    before = mixture.means.clone()
    with pytest.raises(ValueError, match="component 0 has collapsed: its responsibilities sum to 0 "):
        mixture.m_step(x, torch.eye(3, dtype=torch.float64)[[1, 1, 1, 2, 2]])
    torch.testing.assert_close(mixture.means, before)
