"""Two stochastic layers against a linear-Gaussian chain whose log p(x) and posterior are known."""

from itertools import pairwise

import pytest
import torch
from common import z_scores
from torch import distributions as D

import vaelearn as vl
from vaelearn import gradients, metrics
from vaelearn.models import TwoLayerVAE
from vaelearn.networks import GaussianNet
from vaelearn.objectives import CIWAE, ELBO, IWAE, MIWAE, PIWAE, STL, VIMCO, DReG, WakeSleep

B, DATA, DIMS = 4, 3, (1, 2)


def linear_map(in_dim, out_dim, sigma):
    """N(Az + a, σ²) with A and a at random."""
    conditional = GaussianNet(in_dim, (), out_dim, sigma)
    torch.nn.init.normal_(conditional.mean.bias)
    return conditional


@pytest.fixture
def chain():
    """z₂ -> z₁ -> x, all maps linear; q is not the posterior."""
    torch.manual_seed(0)
    (one, two), sigma = DIMS, 0.7
    model = TwoLayerVAE(
        encoder=linear_map(DATA, one, "predicted"),
        z_encoder=linear_map(one, two, 1.2),
        z_decoder=linear_map(two, one, 0.6),
        decoder=linear_map(one, DATA, sigma),
        data_dim=DATA,
        latent_dims=DIMS,
    ).double()
    with torch.no_grad():
        for head in (model.encoder.mean, model.encoder.log_sigma_head, model.z_encoder.mean):
            # A wide q: the weights keep a finite variance.
            head.weight.mul_(0.1)
            head.bias.mul_(0.1)
    return model


@pytest.fixture
def x(chain):
    torch.manual_seed(1)
    return chain.sample(B)[0]


def matrices(chain):
    """V, a, t of p(z₁ | z₂) = N(Vz₂ + a, t²) and W, b, σ of p(x | z₁) = N(Wz₁ + b, σ²)."""
    for conditional in (chain.z_decoder, chain.decoder):
        yield from (conditional.mean.weight, conditional.mean.bias, conditional.log_sigma.exp())


def log_prob(chain, x):
    V, a, t, W, b, sigma = matrices(chain)
    of_z1 = V @ V.T + t**2 * torch.eye(DIMS[0]).double()
    covariance = W @ of_z1 @ W.T + sigma**2 * torch.eye(DATA).double()
    return D.MultivariateNormal(W @ a + b, covariance).log_prob(x)


@torch.no_grad()
def perfect_e_step(chain):
    """q(z₁ | x) q(z₂ | z₁) set to the posterior: p(z₁ | x) is Gaussian, and z₂ sees x through z₁ alone.

    The chain here has one z₁ and one z₂, so that diagonal covariances suffice."""
    V, a, t, W, b, sigma = matrices(chain)
    for conditional, prior_mean, prior_variance, slope, shift, noise in (
        (chain.encoder, a, (V @ V.T).squeeze() + t**2, W, b, sigma),
        (chain.z_encoder, torch.zeros_like(V[0]), torch.ones(()).double(), V, a, t),
    ):
        precision = 1 / prior_variance + slope.square().sum() / noise**2
        conditional.mean.weight.copy_(slope.T / noise**2 / precision)
        conditional.mean.bias.copy_((prior_mean / prior_variance - (slope.T @ shift) / noise**2) / precision)
        conditional.log_sigma.fill_(-0.5 * precision.log())


@pytest.fixture
def known():
    """The chain with one unit a layer, q its exact posterior."""
    torch.manual_seed(2)
    model = TwoLayerVAE(
        encoder=linear_map(DATA, 1, "shared"),
        z_encoder=linear_map(1, 1, "shared"),
        z_decoder=linear_map(1, 1, 0.6),
        decoder=linear_map(1, DATA, 0.7),
        data_dim=DATA,
        latent_dims=(1, 1),
    ).double()
    perfect_e_step(model)
    return model


def test_at_the_posterior_every_weight_is_p_of_x(known):
    x, _ = known.sample(B)
    log_w = known.draw(x, (5, 3)).log_w
    torch.testing.assert_close(log_w, log_prob(known, x).expand(5, 3, B))


def test_l_k_closes_on_the_true_log_likelihood(chain, x):
    torch.manual_seed(3)
    truth = log_prob(chain, x)
    w = (chain.draw(x, (200_000, 1)).log_w[:, 0] - truth).exp()
    assert z_scores(w, 1).abs().max() < 4
    estimate = metrics.log_likelihood(chain, x, 200_000)
    torch.testing.assert_close(estimate, truth.detach(), atol=0.05, rtol=0)


def test_log_w_is_the_five_densities(chain, x):
    draw = chain.draw(x, (5, 3))
    assert draw.z.shape == (5, 3, B, sum(DIMS)) and draw.log_w.shape == (5, 3, B)
    z1, z2 = draw.z.split(DIMS, -1)
    V, a, t, W, b, sigma = matrices(chain)
    q1 = chain.encoder(x)
    q2 = chain.z_encoder
    log_p = (
        D.Normal(0, 1).log_prob(z2).sum(-1)
        + D.Normal(z2 @ V.T + a, t).log_prob(z1).sum(-1)
        + D.Normal(z1 @ W.T + b, sigma).log_prob(x).sum(-1)
    )
    log_q = (
        D.Normal(q1.mean, q1.stddev).log_prob(z1).sum(-1)
        + D.Normal(q2.mean(z1), q2.log_sigma.exp()).log_prob(z2).sum(-1)
    )  # fmt: skip
    torch.testing.assert_close(draw.log_w, log_p - log_q)


def test_samples_have_the_chains_moments(chain):
    torch.manual_seed(4)
    x, z = chain.sample(100_000)
    V, a, _, W, b, _ = matrices(chain)
    assert x.shape == (100_000, DATA) and z.shape == (100_000, sum(DIMS))
    assert z_scores(x, W @ a + b).abs().max() < 4
    assert z_scores(z, torch.cat((a, torch.zeros(2)))).abs().max() < 4
    z1, z2 = z.split(DIMS, -1)
    torch.testing.assert_close((z2 - z2.mean(0)).T @ z1 / len(z), V.T, atol=0.02, rtol=0)


def test_every_parameter_belongs_to_one_set(chain):
    phi, theta = chain.inference_parameters(), chain.generative_parameters()
    assert not {*map(id, phi)} & {*map(id, theta)}
    assert {*map(id, phi + theta)} == {*map(id, chain.parameters())}


@pytest.mark.parametrize("objective", [STL(3), DReG(3)], ids=repr)
def test_the_path_derivative_has_no_noise_at_the_posterior(known, objective):
    x, _ = known.sample(B)
    objective(known, x).backward()
    assert all(p.grad.abs().max() < 1e-12 for p in known.inference_parameters())
    assert all(p.grad.abs().max() > 1e-3 for p in [known.decoder.mean.weight, known.z_decoder.mean.weight])


@pytest.mark.parametrize(("objective", "plain"), [(STL(1), ELBO(1)), (DReG(3), IWAE(3)), (VIMCO(3), IWAE(3))])
def test_other_estimators_agree_with_the_plain_one_on_average(chain, x, objective, plain):
    torch.manual_seed(5)
    ours, theirs = (metrics.gradient_draws(chain, o, x, 30_000) for o in (objective, plain))
    for name in ours:
        error = ((ours[name].var(0) + theirs[name].var(0)) / 30_000).sqrt()
        assert ((ours[name].mean(0) - theirs[name].mean(0)).abs() < 4.5 * error + 1e-12).all()


def test_the_plain_gradient_is_that_of_the_elbo_in_closed_form(known, x):
    """KL(q(z₁, z₂ | x) ‖ posterior) for the chain of single units, by autograd through its moments."""
    with torch.no_grad():
        for p in known.inference_parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(6), dtype=p.dtype))
    q1, inner = known.encoder(x), known.z_encoder
    A, c, s = inner.mean.weight.squeeze(), inner.mean.bias.squeeze(), inner.log_sigma.exp()
    V, a, t, W, b, sigma = (value.squeeze() for value in matrices(known))
    m, v = q1.mean[:, 0], q1.variance[:, 0]

    def cross(mean, variance, sigma):
        """−E log N(·; 0, σ²) of something with that mean and variance."""
        return 0.5 * ((mean**2 + variance) / sigma**2 + (2 * torch.pi * sigma**2).log())

    log_p = -(
        cross(x - W * m[:, None] - b, W**2 * v[:, None], sigma).sum(1)
        + cross(A * m + c, A**2 * v + s**2, torch.ones_like(s))
        # z₁ − Vz₂ − a, with z₂ = A z₁ + c + s·noise
        + cross(m * (1 - V * A) - V * c - a, (1 - V * A) ** 2 * v + (V * s) ** 2, t)
    )
    entropy = 0.5 * (2 * torch.pi * torch.e * v).log() + 0.5 * (2 * torch.pi * torch.e * s**2).log()
    elbo = log_p + entropy
    torch.manual_seed(7)
    assert z_scores(known.draw(x, (50_000, 1)).log_w[:, 0], elbo).abs().max() < 4
    names, parameters = zip(*known.named_parameters(), strict=True)
    exact = dict(zip(names, torch.autograd.grad(elbo.mean(), parameters), strict=True))
    draws = metrics.gradient_draws(known, ELBO(2), x, 30_000)
    assert max(z_scores(draws[n], exact[n]).abs().max() for n in names) < 4


def test_path_derivative_keeps_the_path_through_z1_and_drops_the_score(chain, x):
    draw = chain.draw(x)
    weight, surrogate = chain.encoder.mean.weight, gradients.path_derivative(draw)
    torch.testing.assert_close(surrogate, draw.log_w)
    (path,) = torch.autograd.grad(surrogate.sum(), weight, retain_graph=True)
    (whole,) = torch.autograd.grad(draw.log_w.sum(), weight, retain_graph=True)
    (score,) = torch.autograd.grad(draw.q.log_prob(draw.z.detach()).sum(), weight)
    assert path.abs().max() > 1e-3 and score.abs().max() > 1e-3
    torch.testing.assert_close(path, whole + score)


def test_active_units_by_layer(chain):
    with torch.no_grad():
        chain.encoder.mean.weight.fill_(0.5)
        chain.z_encoder.mean.weight[0], chain.z_encoder.mean.weight[1] = 1, 0  # the last unit ignores x
    torch.manual_seed(8)
    x, _ = chain.sample(500)
    one, two = metrics.active_units(chain, x).split(chain.latent_dims)
    assert one.tolist() == [True] and two.tolist() == [True, False]


def test_noise_of_the_averages_does_not_make_a_unit_active(chain):
    """Var_x of an average of 100 unit-variance samples is 0.01 for a unit that knows nothing."""
    with torch.no_grad():
        chain.z_encoder.mean.weight.zero_()
        chain.z_encoder.log_sigma.zero_()
    torch.manual_seed(9)
    x, _ = chain.sample(2000)
    for _ in range(5):
        assert metrics.active_units(chain, x)[1:].tolist() == [False, False]


@pytest.mark.parametrize(
    "objective",
    [ELBO(), IWAE(5), MIWAE(3, 2), CIWAE(5), PIWAE(3, 2), DReG(5), VIMCO(5), WakeSleep()],
    ids=repr,
)
def test_fit_trains_two_layers_with_any_objective(objective):
    torch.manual_seed(10)
    x = (torch.rand(200, 1) < 0.5).float().repeat(1, 8)
    model = TwoLayerVAE.mlp(8, (3, 2), ((16,), (8,)))
    before = metrics.log_likelihood(model, x[:50], 200).mean()
    vl.fit(model, objective, x, epochs=20, batch_size=50, lr=0.01, progress=False)
    assert metrics.log_likelihood(model, x[:50], 200).mean() > before + 1


def test_the_defaults_are_burdas_model():
    model = TwoLayerVAE.mlp(784)
    assert model.latent_dims == (100, 50) and model.latent_dim == 150

    def count(*widths):
        return sum(a * b + b for a, b in pairwise(widths))

    encoders = count(784, 200, 200) + 2 * count(200, 100) + count(100, 100, 100) + 2 * count(100, 50)
    decoders = count(50, 100, 100) + 2 * count(100, 100) + count(100, 200, 200, 784)
    assert sum(p.numel() for p in model.inference_parameters()) == encoders
    assert sum(p.numel() for p in model.generative_parameters()) == decoders


def test_the_analytic_kl_and_the_moments_are_refused_with_a_reason(chain, x):
    with pytest.raises(ValueError, match=r"no closed form here; use kl='sampled'"):
        ELBO(kl="analytic")(chain, x)
    with pytest.raises(ValueError, match="needs a q that knows its moments"):
        metrics.log_det_covariance(chain, x)


@pytest.mark.parametrize("dims", [{"latent_dims": (3,)}, {"hidden": ((8,),)}, {"latent_dims": (3, 2, 1)}])
def test_two_layers_mean_two(dims):
    with pytest.raises(ValueError, match="two stochastic layers need"):
        TwoLayerVAE.mlp(8, **dims)
