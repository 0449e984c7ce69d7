"""What signatures and docstrings promise beside results: the defaults, every seed, and bounds on memory."""

import importlib
import inspect

import pytest
import torch
from common import scrambled

import vaelearn as vl
from vaelearn import metrics
from vaelearn.objectives import IWAE

# Of training, users call `fit` alone.
MODULES = [name for name in vl.__all__ if name not in ("fit", "training")]


def public():
    """Everything with a signature that users call: dotted name -> callable."""
    yield "fit", vl.fit
    for module in MODULES:
        home = importlib.import_module(f"vaelearn.{module}")
        for name, value in vars(home).items():
            if name[0] == "_" or not callable(value) or getattr(value, "__module__", "") != home.__name__:
                continue
            yield f"{module}.{name}", value
            if inspect.isclass(value):
                methods = [n for n in vars(value) if n[0] != "_" and callable(getattr(value, n))]
                yield from ((f"{module}.{name}.{n}", getattr(value, n)) for n in methods)


def arguments(function):
    try:
        return inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a plain type, or an alias of one
        return ()


# The defaults that readers rely on when they leave an argument out. A number here is a paper's, or the
# book's own; to change one is to change every result that was made without naming it.
TANH = torch.nn.Tanh
DEFAULTS = {
    "bounds.log_mean_exp": {"dim": 0},
    "autoregressive.Autoregressive": {"activation": TANH},
    "autoregressive.MaskedLinear": {"bias": True},
    "autoregressive.PixelByPixel.sample": {"progress": False},
    "data.Rows": {"name": "data"},
    "data.Rows.check": {"binarize": False},
    "data.Scaled": {"maximum": 255},
    # Rows of numbers; an image's event has three dimensions.
    "distributions.BernoulliPixels": {"event_dims": 1},
    "distributions.DiagonalNormal": {"event_dims": 1},
    "distributions.bernoulli_log_prob": {"event_dims": 1},
    "distributions.Chain": {"top_down": False},
    # The kernel of Zhao et al.'s tables; the U-statistic, because a bias would be trained on.
    "divergences.rbf": {"order": 0},
    "divergences.imq": {"order": 0},
    "divergences.mmd": {"kernel": "rbf", "bandwidth": None, "unbiased": True},
    "divergences.stein_discrepancy": {"kernel": "rbf", "bandwidth": None, "unbiased": True},
    "divergences.MMD": {"kernel": "rbf", "bandwidth": None, "unbiased": True},
    "divergences.Stein": {"kernel": "rbf", "bandwidth": None},
    "divergences.Adversarial": {"hidden": (100, 100), "of": "js"},
    "exact.LinearGaussian": {"seed": 0},
    "exact.GaussianMixture": {"seed": 0},
    "exact.GaussianMixture.em": {"steps": 100},
    "gradients.MovingAverage": {"decay": 0.9},
    "gradients.LearnedBaseline": {"hidden": (100,)},
    # L_5000 is what Burda et al. report as NLL.
    "metrics.log_likelihood": {"K": 5000, "defensive": False},
    "metrics.tightness": {"K": 64, "reference": 5000},
    "metrics.gradient_draws": {"draws": 1000},
    "metrics.gradient_moments": {"draws": 1000, "chunk": 100},
    "metrics.gradient_snr": {"draws": 1000, "chunk": 100},
    "metrics.gradient_dsnr": {"draws": 1000, "chunk": 100},
    # Burda et al.'s line between active and not.
    "metrics.active_units": {"threshold": 0.01},
    "metrics.information": {"rows": 10_000},
    "metrics.few_label_accuracy": {"per_class": 10, "seed": 0},
    "models.LatentVariableModel.draw": {"sample_shape": (1, 1), "pathwise": True},
    "models.LatentVariableModel.at": {"pathwise": True},
    "models.VAE.mlp": {
        "hidden": (200, 200),
        "likelihood": "bernoulli",
        "sigma": "shared",
        "activation": TANH,
    },
    # Burda et al.'s two layers.
    "models.TwoLayerVAE.mlp": {
        "latent_dims": (100, 50),
        "hidden": ((200, 200), (100, 100)),
        "likelihood": "bernoulli",
        "sigma": "shared",
        "activation": TANH,
    },
    "networks.GaussianNet": {"sigma": "predicted", "activation": TANH},
    "networks.BernoulliNet": {"activation": TANH},
    # A bare ELBO() is the VAE as published: one sample.
    "objectives.ELBO": {"K": 1, "kl": "sampled"},
    "objectives.STL": {"K": 1},
    "objectives.ScoreFunction": {"K": 1},
    "objectives.IWAE": {"K": 5},
    "objectives.VR": {"K": 5, "alpha": 0.5},
    # Rainforth et al.'s budget of M·K = 64.
    "objectives.MIWAE": {"K": 8, "M": 8},
    "objectives.CIWAE": {"K": 64, "beta": 0.5},
    "objectives.PIWAE": {"K": 8, "M": 8},
    "objectives.DReG": {"K": 5},
    "objectives.Thinned": {"c": 4.0},
    "objectives.VIMCO": {"K": 5, "baseline": "geometric"},
    "objectives.ReweightedWakeSleep": {"K": 5},
    # Zhao et al.'s MNIST setting; Higgins et al.'s β.
    "objectives.InfoVAE": {"alpha": 0.0, "lam": 1000.0, "kl": "analytic"},
    "objectives.BetaVAE": {"beta": 4.0, "kl": "analytic"},
    "objectives.AAE": {"lam": 1.0},
    "objectives.WAE": {"lam": 10.0},
    "plots.images": {"columns": 10},
    "plots.ellipse": {"n_std": 2},
    "toy.TwoClusters": {"tau": 0.0},
    "toy.TwoClusters.terms": {"decoder": "gaussian"},
    "fit": {
        "epochs": 50,
        "batch_size": 100,
        "lr": 1e-3,
        "binarize": False,
        "seed": 0,
        "device": "auto",
        "keep": "last",
        "progress": True,
    },
}


def test_the_defaults_are_those_that_results_were_made_with():
    """All but those that mean "not given": None, an empty shape, an empty text, a function."""
    found = {}
    for name, function in public():
        for parameter in arguments(function):
            default = parameter.default
            stated = isinstance(default, (bool, int, float, str, tuple, type, torch.dtype))
            if (stated and default not in ((), "", inspect.Parameter.empty)) or parameter.name == "bandwidth":
                found.setdefault(name, {})[parameter.name] = default
    changed = {name for name in found.keys() | DEFAULTS.keys() if found.get(name) != DEFAULTS.get(name)}
    assert not changed, "pinned above, with the reason, or changed unawares"


def test_fit_trains_with_adam():
    assert vl.training.Adam.func is torch.optim.Adam


def test_a_divergence_that_is_not_given_is_each_papers_own():
    assert repr(vl.objectives.InfoVAE().divergence) == repr(vl.divergences.MMD())
    assert repr(vl.objectives.WAE().divergence) == repr(vl.divergences.MMD("imq"))


# ------------------------------------------------------------------ seeds


def parameters(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def trained(seed):
    torch.manual_seed(0)
    model, x = vl.models.VAE.mlp(3, 2, (4,)), torch.rand(8, 3)
    return parameters(vl.fit(model, IWAE(2), x, epochs=1, seed=seed, progress=False, device="cpu").model)


def shown(seed):
    """The rows whose labels the classifier is shown: the codes are the rows themselves."""
    model = vl.exact.LinearGaussian(2, 2).double()
    with torch.no_grad():
        model.A.copy_(torch.eye(2))
    x, labels = torch.randn(60, 2, generator=torch.Generator().manual_seed(0)).double(), torch.arange(60) % 3
    seen = []
    from sklearn.linear_model import LogisticRegression as Regression

    with pytest.MonkeyPatch.context() as patch:
        fit = Regression.fit
        patch.setattr(Regression, "fit", lambda self, X, y: seen.extend((X, y)) or fit(self, X, y))
        metrics.few_label_accuracy(model, (x, labels), (x, labels), per_class=4, seed=seed)
    codes, of = seen
    assert sorted(of) == [0] * 4 + [1] * 4 + [2] * 4
    return torch.tensor(codes).flatten()


SEEDED = {
    "exact.LinearGaussian": lambda seed: parameters(vl.exact.LinearGaussian(3, 2, seed)),
    "exact.GaussianMixture": lambda seed: parameters(vl.exact.GaussianMixture(3, 2, seed)),
    "metrics.few_label_accuracy": shown,
    "fit": trained,
}


def test_every_seed_is_tried():
    found = {name for name, function in public() for p in arguments(function) if p.name == "seed"}
    assert found == {*SEEDED}


@pytest.mark.parametrize("name", SEEDED)
def test_a_seed_repeats_and_another_does_not(name):
    torch.manual_seed(1)
    first = SEEDED[name](3)
    torch.manual_seed(2)  # the seed given decides alone
    assert torch.equal(first, SEEDED[name](3))
    assert not torch.equal(first, SEEDED[name](4))


# ------------------------------------------------------------------ memory


@pytest.fixture
def truth():
    return scrambled(vl.exact.LinearGaussian(3, 2))


@pytest.fixture
def decoded(truth, monkeypatch):
    """How many z's the model decodes, call by call."""
    counts, likelihood = [], truth.likelihood
    monkeypatch.setattr(truth, "likelihood", lambda z: counts.append(z[..., 0].numel()) or likelihood(z))
    return counts


@pytest.mark.parametrize("defensive", [False, True])
@pytest.mark.parametrize(("n", "K", "rows"), [(7, 50, 30), (7, 50, 3), (250, 20, 1000), (1, 1000, 64)])
def test_log_likelihood_decodes_no_more_than_rows_at_once(truth, decoded, n, K, rows, defensive):
    metrics.log_likelihood(truth, truth.sample(n)[0], K, rows, defensive)
    decoded = decoded[1:]  # the sample of x itself
    assert sum(decoded) == n * K and max(decoded) <= rows
    assert max(decoded) > rows / 2 or n > rows  # nor far fewer, which would be slow


def test_information_compares_no_more_than_rows_pairs_at_once(truth, monkeypatch):
    x, counts, posterior = truth.sample(40)[0], [], truth.posterior

    def counting(x):
        q = posterior(x)
        log_prob = q.log_prob
        q.log_prob = lambda z: (
            counts.append(torch.broadcast_shapes(z.shape[:-1], q.batch_shape)) or log_prob(z)
        )
        return q

    monkeypatch.setattr(truth, "posterior", counting)
    for rows, most in ((100, 100), (3, 40), (10_000, 1600)):
        counts.clear()
        metrics.information(truth, x, rows)
        pairs = [shape.numel() for shape in counts if len(shape) == 2]
        assert sum(pairs) == 1600 and max(pairs) <= most and max(pairs) > most / 2


MEASURES = {
    "log_likelihood": lambda model, x: metrics.log_likelihood(model, x, 5),
    "defensive": lambda model, x: metrics.log_likelihood(model, x, 5, defensive=True),
    "tightness": lambda model, x: metrics.tightness(model, x, 2, 5),
    "active_units": metrics.active_units,
    "information": metrics.information,
    "log_det_covariance": metrics.log_det_covariance,
    "few_label_accuracy": lambda model, x: metrics.few_label_accuracy(
        model, (x, torch.arange(4) % 2), (x, torch.arange(4) % 2), per_class=1
    ),
}


@pytest.mark.parametrize("name", MEASURES)
def test_what_measures_a_model_keeps_no_graph(truth, monkeypatch, name):
    graphs, posterior = [], truth.posterior
    monkeypatch.setattr(truth, "posterior", lambda x: graphs.append(torch.is_grad_enabled()) or posterior(x))
    MEASURES[name](truth, truth.sample(4)[0])
    assert graphs and not any(graphs)


@pytest.mark.parametrize(("measure", "passes"), [("moments", 1), ("snr", 1), ("dsnr", 2)])
def test_gradients_are_held_no_more_than_chunk_at_once(truth, monkeypatch, measure, passes):
    counts, draws_of = [], metrics.gradient_draws

    def counting(model, objective, x, draws):
        counts.append(draws)
        return draws_of(model, objective, x, draws)

    monkeypatch.setattr(metrics, "gradient_draws", counting)
    getattr(metrics, f"gradient_{measure}")(truth, IWAE(2), truth.sample(3)[0], draws=50, chunk=20)
    assert counts == [20, 20, 10] * passes


def test_active_units_encode_a_thousand_rows_at_once(truth, monkeypatch):
    counts, posterior, x = [], truth.posterior, truth.sample(2500)[0]
    monkeypatch.setattr(truth, "posterior", lambda x: counts.append(len(x)) or posterior(x))
    metrics.active_units(truth, x)
    assert counts == [1000, 1000, 500]


def test_fit_holds_no_more_than_a_batch_at_once_in_training_or_validation(truth, decoded):
    x = truth.sample(23)[0]
    data = vl.data.Dataset("toy", x, x[:17], x, (3,))
    decoded.clear()
    vl.fit(truth, IWAE(4), data, epochs=1, batch_size=5, progress=False, device="cpu")
    assert decoded == [20, 20, 20, 20, 12, 20, 20, 20, 8]
