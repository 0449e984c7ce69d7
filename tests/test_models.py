"""The model protocol: shapes, dtypes, batch independence, clear errors."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import vaelearn as vl
from vaelearn.distributions import bernoulli_log_prob
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


@pytest.mark.parametrize("scale", [0.1, 3.0, 300.0])
def test_the_log_density_of_pixels_is_torchs_and_so_are_its_derivatives(scale):
    """784 pixels: their product would underflow; and in float32 as near as torch's own."""
    torch.manual_seed(0)
    logits = (scale * torch.randn(2, 3, 784, dtype=torch.float64)).requires_grad_()
    x = torch.rand(3, 784, dtype=torch.float64).requires_grad_()
    own = bernoulli_log_prob(logits, x)
    theirs = -F.binary_cross_entropy_with_logits(logits, x.expand(2, 3, 784), reduction="none").sum(-1)
    torch.testing.assert_close(own, theirs)
    pairs = (
        torch.autograd.grad(value.square().sum(), (logits, x), create_graph=True) for value in (own, theirs)
    )
    for one, other in zip(*pairs, strict=True):
        torch.testing.assert_close(one, other)
    in_float32 = bernoulli_log_prob(logits.detach().float(), x.detach().float()).double()
    torch.testing.assert_close(in_float32, theirs, rtol=1e-6, atol=1e-3)
    small = logits[..., :5].detach().requires_grad_()
    assert torch.autograd.gradgradcheck(bernoulli_log_prob, (small, x[:, :5].detach().requires_grad_()))


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


def test_a_decoder_begins_at_the_means_that_it_is_given():
    decoder, mean = vl.networks.BernoulliNet(L, (7,), D), torch.linspace(0, 1, D)
    decoder.start_at(mean)
    torch.testing.assert_close(decoder(torch.zeros(L)).mean, mean.clamp(0.001, 0.999))  # where features are 0
    assert decoder.logits.bias.requires_grad


def test_any_module_that_returns_a_distribution_will_do_for_an_encoder():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = nn.Parameter(torch.zeros(L))

        def forward(self, x):
            return vl.distributions.DiagonalNormal(self.mean.expand(len(x), L), torch.ones(L))

    model = VAE(Constant(), vl.networks.BernoulliNet(L, (7,), D), D, L)
    assert model.draw(data(), (K, M)).log_w.shape == (K, M, B)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"hidden": 200}, r"hidden must be a sequence of widths, such as \(200, 200\) or \(200,\); got 200"),
        ({"hidden": "200"}, "hidden must be a sequence of widths.*got '200'"),
        ({"hidden": (7, 2.5)}, "hidden: the width of a layer must be a whole number >= 1; got 2.5"),
        ({"activation": "relu"}, "activation must be a class of module, such as nn.Tanh; got 'relu'"),
        ({"activation": nn.ReLU()}, r"activation must be a class of module, such as nn.Tanh; got ReLU\(\)"),
        ({"activation": None}, "activation must be a class of module"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_networks_that_cannot_be_built_say_what_is_wanted(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        VAE.mlp(D, L, **change)
    with pytest.raises(ValueError, match=sentence):
        vl.networks.GaussianNet(D, **({"hidden": (7,), "out_dim": L} | change))
    with pytest.raises(ValueError, match=sentence):
        vl.autoregressive.Autoregressive(L, **({"hidden": (7,), "out_dim": D} | change))
    two = {"hidden": ((7,), change.get("hidden", (7,)))} | {k: v for k, v in change.items() if k != "hidden"}
    with pytest.raises(ValueError, match=sentence.replace("hidden", r"hidden(\[1\])?")):
        vl.models.TwoLayerVAE.mlp(D, (L, L), **two)


def test_widths_may_be_any_whole_numbers_in_any_sequence():
    for hidden in ([7, 8], (np.int64(7), 8), iter((7, 8)), torch.Size((7, 8))):
        model = VAE.mlp(np.int64(D), L, hidden)
        assert model.draw(data(), (np.int64(K), M)).log_w.shape == (K, M, B)


@pytest.mark.parametrize("whole", [np.int64, np.uint8])
def test_measures_take_whole_numbers_of_any_type(whole):
    model, x = vl.models.TwoLayerVAE.mlp(D, (whole(3), whole(2)), ((whole(7),), (7,))), data()
    assert vl.metrics.log_likelihood(model, x, K=whole(9), rows=whole(8)).shape == (B,)
    assert vl.metrics.information(model, x, rows=whole(8))["kl"].shape == (B,)
    elbo = vl.objectives.ELBO(whole(2))
    assert vl.metrics.gradient_snr(model, elbo, x, whole(4), whole(3))["inference"].ndim == 1
    assert vl.metrics.tightness(model, x, whole(2), whole(9))["gap"].shape == (B,)
    labels = torch.arange(B) % 2
    one_layer = VAE.mlp(D, L, (7,))
    assert vl.metrics.few_label_accuracy(one_layer, (x, labels), (x, labels), whole(1), whole(3)) >= 0


def test_networks_of_another_width_name_both():
    judge, baseline = vl.divergences.Adversarial(L + 1, ()), vl.gradients.LearnedBaseline(D + 1)
    model = VAE.mlp(D, L, (7,))
    with pytest.raises(ValueError, match="this discriminator was made for rows of 3 numbers; got rows of 2"):
        vl.objectives.AAE(judge)(model, data())
    with pytest.raises(ValueError, match="this baseline was made for rows of 7 numbers; got rows of 6"):
        vl.objectives.ScoreFunction(1, baseline)(model, data())


def test_a_class_in_the_place_of_an_instance_is_named():
    model = VAE.mlp(D, L, (7,))
    with pytest.raises(ValueError, match=r"divergence must be an instance, such as MMD\(\); got the class"):
        vl.objectives.InfoVAE(divergence=vl.divergences.MMD)
    with pytest.raises(TypeError, match=r"divergence must be a function \(z, prior\) -> scalar.*got 'mmd'"):
        vl.objectives.InfoVAE(divergence="mmd")
    for measure in (vl.metrics.gradient_draws, vl.metrics.gradient_snr, vl.metrics.gradient_dsnr):
        with pytest.raises(
            ValueError, match=r"objective must be an instance, such as ELBO\(\); got the class"
        ):
            measure(model, vl.objectives.ELBO, data(), draws=2)


def test_labels_that_are_not_there_are_missed_by_name():
    model, labels = VAE.mlp(D, L, (7,)), torch.arange(B)
    for labelled, test in (((data(), None), (data(), labels)), ((data(), labels), (data(), None))):
        with pytest.raises(ValueError, match="few_label_accuracy needs labels; these data have none"):
            vl.metrics.few_label_accuracy(model, labelled, test)
