"""The model protocol: shapes, dtypes, batch independence, clear errors."""

import math

import pytest
import torch
from torch import nn

import vaelearn as vl
from vaelearn.models import VAE

K, M, B, D, L = 5, 3, 4, 6, 2

MODELS = {
    "bernoulli": lambda: VAE.mlp(D, L, (7,)),
    "gaussian fixed": lambda: VAE.mlp(D, L, (7,), "gaussian", sigma=0.5),
    "gaussian shared": lambda: VAE.mlp(D, L, (7, 8), "gaussian", sigma="shared"),
    "gaussian predicted": lambda: VAE.mlp(D, L, (), "gaussian", sigma="predicted"),
    "linear gaussian": lambda: vl.exact.LinearGaussian(D, L),
    "mixture": lambda: vl.exact.GaussianMixture(D, L),
}


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(0)
    return MODELS[request.param]()


def data(n=B, dtype=torch.float32):
    return torch.rand(n, D, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draw_has_the_shapes_and_dtype_it_promises(model, dtype):
    draw = model.to(dtype).draw(data(dtype=dtype), (K, M))
    assert draw.z.shape == (K, M, B, L)
    for part in (draw.log_likelihood, draw.log_prior, draw.log_q, draw.log_w):
        assert part.shape == (K, M, B) and part.dtype == dtype and part.isfinite().all()
    torch.testing.assert_close(draw.log_w, draw.log_likelihood + draw.log_prior - draw.log_q)


def test_densities_are_those_of_the_models_own_distributions(model):
    x = data()
    draw = model.draw(x, (K, M))
    for k, m, b in [(0, 0, 0), (4, 2, 3), (2, 1, 1)]:
        z = draw.z[k, m, b]
        expected = (
            model.likelihood(z).log_prob(x[b]),
            model.prior().log_prob(z),
            model.posterior(x[b : b + 1]).log_prob(z)[0],
        )
        found = (draw.log_likelihood[k, m, b], draw.log_prior[k, m, b], draw.log_q[k, m, b])
        torch.testing.assert_close(found, expected)


def test_batch_of_one_and_batch_of_many_agree(model):
    x = data()
    whole, one = model.posterior(x), model.posterior(x[2:3])
    torch.testing.assert_close(whole.mean[2:3], one.mean)


def test_parameters_are_split_into_two_disjoint_sets(model):
    phi, theta = model.inference_parameters(), model.generative_parameters()
    assert {id(p) for p in phi}.isdisjoint({id(p) for p in theta})
    assert {id(p) for p in phi + theta} == {id(p) for p in model.parameters()}


def test_draw_reuses_a_posterior_already_at_hand(model):
    x = data()
    q = model.posterior(x)
    assert model.draw(x, (K, M), q=q).q is q


def test_samples_look_like_data(model):
    x, z = model.sample(9)
    assert x.shape == (9, D) and z.shape == (9, L)
    model.check_data(x)


def test_gaussian_sigma_options():
    z = torch.randn(B, L)
    fixed = VAE.mlp(D, L, (7,), "gaussian", sigma=0.5).likelihood(z)
    torch.testing.assert_close(fixed.variance, torch.full((B, D), 0.25))
    shared = VAE.mlp(D, L, (7,), "gaussian", sigma="shared")
    assert sum(p.numel() == 1 for p in shared.generative_parameters()) == 1
    assert shared.likelihood(z).variance.unique().numel() == 1
    predicted = VAE.mlp(D, L, (7,), "gaussian", sigma="predicted").likelihood(z)
    assert predicted.variance.unique().numel() == B * D


def test_log_prob_of_a_bernoulli_keeps_its_gradient_at_extreme_logits():
    model = VAE.mlp(D, L, ())
    with torch.no_grad():
        model.decoder.logits.bias.fill_(-120.0)
    model.likelihood(torch.zeros(1, L)).log_prob(torch.ones(1, D)).sum().backward()
    torch.testing.assert_close(model.decoder.logits.bias.grad, torch.ones(D))


def test_a_network_without_hidden_layers_is_linear_and_one_with_them_is_not():
    def bend(model):
        mean = lambda z: model.likelihood(z).mean  # noqa: E731
        a, b = torch.randn(2, L)
        return (mean(a + b) - mean(a) - mean(b) + mean(torch.zeros(L))).abs().max()

    torch.manual_seed(0)
    assert bend(VAE.mlp(D, L, (), "gaussian")) < 1e-5
    assert bend(VAE.mlp(D, L, (20,), "gaussian")) > 1e-2


@pytest.mark.parametrize(
    "x",
    [torch.rand(D), torch.rand(B, D + 1), torch.rand(0, D), torch.rand(2, B, D)],
    ids=lambda x: str(x.shape),
)
def test_wrong_shapes_are_an_error(model, x):
    with pytest.raises(ValueError, match=rf"shape \(B, {D}\) with B >= 1; got"):
        model.draw(x)


@pytest.mark.parametrize("shape", [(0, 1), (1, 0), (-1, 1), (1.5, 1)])
def test_no_samples_is_an_error(model, shape):
    with pytest.raises(ValueError, match="must be a whole number >= 1"):
        model.draw(data(), shape)


def test_sample_shape_has_two_dimensions(model):
    with pytest.raises(ValueError, match=r"must be \(K, M\)"):
        model.draw(data(), (5,))


def test_nan_is_an_error(model):
    x = data()
    x[1, 1] = math.nan
    with pytest.raises(ValueError, match="without NaN"):
        model.draw(x)


@pytest.mark.parametrize("value", [-0.01, 1.01, 255])
def test_bernoulli_data_lie_in_0_1(value):
    x = data()
    x[0, 0] = value
    expected = rf"from {x.min():.4g} to {x.max():.4g}"
    with pytest.raises(ValueError, match=expected):
        VAE.mlp(D, L, (7,)).draw(x)
    VAE.mlp(D, L, (7,), "gaussian").draw(x)


@pytest.mark.parametrize("sigma", ["learnt", 0, -1.0, math.inf, math.nan])
def test_unknown_sigma_is_an_error(sigma):
    with pytest.raises(ValueError, match="sigma must be"):
        VAE.mlp(D, L, (7,), "gaussian", sigma=sigma)


def test_unknown_likelihood_is_an_error():
    with pytest.raises(
        ValueError, match=r"'bernoulli', 'gaussian'; got 'bernouli'\. Did you mean 'bernoulli'"
    ):
        VAE.mlp(D, L, (7,), "bernouli")


@pytest.mark.parametrize("widths", [(0, 2, (7,)), (6, 0, (7,)), (6, 2, (0,)), (6, 2, (True,))])
def test_a_layer_without_width_is_an_error(widths):
    with pytest.raises(ValueError, match="width of a layer must be a whole number >= 1"):
        VAE.mlp(*widths)


def test_infinite_pixels_are_an_error():
    x = data()
    x[0, 0] = math.inf
    with pytest.raises(ValueError, match=r"must be finite.* to inf"):
        VAE.mlp(D, L, (7,), "gaussian").draw(x)


def test_other_types_than_the_models_are_an_error(model):
    for x in (data(dtype=torch.float64), data().bool(), data().numpy()):
        with pytest.raises(TypeError, match=r"the model's dtype, torch\.float32; got"):
            model.draw(x)


def test_data_on_another_device_are_an_error(model):
    with pytest.raises(ValueError, match="x is on meta, the model on cpu"):
        model.draw(data().to("meta"))


def test_the_networks_mirror_each_other_and_start_as_glorot_and_bengio_say():
    torch.manual_seed(0)
    model = VAE.mlp(300, L, (200, 100))
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    shapes = [(layer.in_features, layer.out_features) for layer in layers]
    assert shapes == [(300, 200), (200, 100), (100, L), (100, L), (L, 100), (100, 200), (200, 300)]
    for layer in layers:
        limit = (6 / (layer.in_features + layer.out_features)) ** 0.5
        assert 0.9 * limit < layer.weight.abs().max() <= limit
        assert (layer.bias == 0).all()


def test_any_module_that_returns_a_distribution_will_do_for_an_encoder():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = nn.Parameter(torch.zeros(L))

        def forward(self, x):
            return vl.distributions.DiagonalNormal(self.mean.expand(len(x), L), torch.ones(L))

    model = VAE(Constant(), vl.networks.BernoulliNet(L, (7,), D), D, L)
    assert model.draw(data(), (K, M)).log_w.shape == (K, M, B)
