"""Thinned gradients against the full ones on the same samples: averaged over the lots they are equal.

The lots of a data point hang on one number u in [0, 1). A batch that holds every data point R times, with the
same noise and an even grid of u, averages over it by a midpoint rule: no Monte Carlo, an error of order 1/R.
"""

import math

import pytest
import torch
from common import scrambled, z_scores

import vaelearn as vl
from vaelearn.metrics import gradient_draws
from vaelearn.objectives import CIWAE, ELBO, IWAE, MIWAE, PIWAE, STL, VIMCO, VR, DReG, Thinned
from vaelearn.thinning import keep

K, M, B, R = 5, 2, 3, 10_000
OBJECTIVES = [ELBO(K), STL(K), IWAE(K), VR(K, 0.4), MIWAE(K, M), CIWAE(K, 0.3), PIWAE(K, M), DReG(K)]
MODELS = {
    "linear": lambda: vl.exact.LinearGaussian(data_dim=3, latent_dim=2),
    "vae": lambda: vl.models.VAE.mlp(4, 2, (3,)),
    "two layers": lambda: vl.models.TwoLayerVAE.mlp(4, (2, 1), ((3,), (2,)), likelihood="gaussian"),
}


def take_every_lot(monkeypatch):
    """What `torch.randn` draws for B data points comes R times; `torch.rand_like` is the grid of u."""
    randn, grid = torch.randn, ((torch.arange(R) + 0.5) / R).double()

    def repeated(shape, **options):
        *samples, rows, L = shape
        return randn((*samples, B, L), **options).repeat(*[1] * len(samples), rows // B, 1)

    monkeypatch.setattr(torch, "randn", repeated)
    monkeypatch.setattr(torch, "rand_like", lambda _: grid.repeat_interleave(B))


def scrambled_model(name):
    torch.manual_seed(0)
    model = scrambled(MODELS[name]())
    if name == "linear":  # a q near the posterior: with one weight that holds all, w̃² is w̃
        with torch.no_grad():
            model.perfect_e_step()
            model.c.add_(0.3), model.log_s.add_(0.2)
    return model, model.sample(B)[0]


def gradients(model, objective, x, seed=2):
    torch.manual_seed(seed)
    model.zero_grad()
    step = objective(model, x)
    step.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()]), step


def assert_right_on_average(monkeypatch, name, objective, c):
    model, x = scrambled_model(name)
    full, one = gradients(model, objective, x)
    take_every_lot(monkeypatch)
    thinned, many = gradients(model, Thinned(objective, c), x.repeat(R, 1))
    assert full.abs().max() > 0.1
    torch.testing.assert_close(thinned, full, atol=20 * full.abs().max().item() / R, rtol=0)
    torch.testing.assert_close(many.bound[:B], one.bound)
    torch.testing.assert_close(many.e_step, one.e_step)
    torch.testing.assert_close(many.m_step, one.m_step)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)
def test_both_gradients_are_the_full_ones_on_average(monkeypatch, objective):
    assert_right_on_average(monkeypatch, "linear", objective, 2.5)


@pytest.mark.parametrize("c", [0.3, 1, 2, 4.9])
def test_for_any_c(monkeypatch, c):
    assert_right_on_average(monkeypatch, "linear", IWAE(K), c)


@pytest.mark.parametrize("name", ["vae", "two layers"])
def test_for_any_model(monkeypatch, name):
    assert_right_on_average(monkeypatch, name, MIWAE(K, M), 3)


def test_with_lots_of_its_own_for_every_draw_and_data_point():
    """Nothing patched: the ELBO's exact gradient, by way of torch.func.vmap."""
    model, x = scrambled_model("linear")
    torch.manual_seed(3)
    draws = gradient_draws(model, Thinned(ELBO(4), 1.5), x, 10_000)
    for name, exact in model.gradient(x).items():
        assert z_scores(draws[name], exact).abs().max() < 4


def test_data_points_do_not_share_their_lot():
    """Two data points with one table of shares: how often both keep sample 0 is what chance says."""
    shares = torch.full((4, 2), 0.25).double()
    torch.manual_seed(4)
    both = torch.stack([(keep(shares, 1)[0] == 0).all() for _ in range(2000)]).double()
    assert z_scores(both, 1 / 16).abs() < 4


def tables():
    torch.manual_seed(5)
    return (torch.randn(9, 40) * torch.linspace(0.1, 6, 40)).double().softmax(0)


def weights(shares, c, draws):
    """What every sample counts in each of many draws: (draws, N, B)."""
    index, weight = keep(shares.repeat(1, draws), c)
    found = torch.zeros(len(shares), weight.shape[1]).double().scatter_add_(0, index, weight)
    return found.unflatten(1, (draws, -1)).transpose(0, 1)


@pytest.mark.parametrize("c", [1, 2, 4.5, 8])
def test_c_are_kept_and_no_sample_twice(c):
    torch.manual_seed(6)
    index, weight = keep(tables(), c)
    count = (weight > 0).sum(0)
    assert index.shape == weight.shape == (math.ceil(c), 40)
    assert ((count == math.floor(c)) | (count == math.ceil(c))).all()
    assert all(len(set(column.tolist())) == len(column) for column in index.T)


@pytest.mark.parametrize("c", [0.5, 2, 4.5])
def test_the_weights_move_as_little_as_they_must(monkeypatch, c):
    """Σ Var = Σ (1/π − 1) a², and no other π of sum c has less: not min(1, c·a), not a draw with c tries."""
    shares, draws = tables(), 4000
    grid = (torch.arange(draws) + 0.5).double() / draws
    monkeypatch.setattr(torch, "rand_like", lambda _: grid.repeat_interleave(40))
    found = weights(shares, c, draws)
    torch.testing.assert_close(found.mean(0), shares, atol=3 / draws, rtol=0)
    pi = (found > 0).double().mean(0)
    variance = found.var(0, correction=0).sum(0)
    extra = torch.where(pi > 0, (1 / pi - 1) * shares**2, 0).sum(0)
    torch.testing.assert_close(variance, extra, atol=5e-3, rtol=0)
    # The least of Σ a²/π with Σ π = c and π <= 1: a/π is one number wherever π < 1 (Lagrange).
    free, kappa = (0 < pi) & (pi < 1 - 1 / draws), found.amax(0)
    highest = torch.where(free, kappa, 0).amax(0).expand_as(kappa)
    torch.testing.assert_close(kappa[free], highest[free])
    by_share = (c * shares).clamp(max=1)
    assert (variance <= ((1 / by_share - 1) * shares**2).sum(0) + 1e-3).all()


def test_one_sample_that_holds_all_is_kept_and_nothing_else_is_needed():
    shares = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1e-30]])
    for _ in range(20):
        index, weight = keep(shares, 2)
        total = torch.zeros(4, 2).scatter_add_(0, index, weight)
        torch.testing.assert_close(total, shares)


@pytest.mark.parametrize("objective", [IWAE(K), PIWAE(K, M), DReG(K)], ids=lambda o: type(o).__name__)
def test_where_all_are_kept_the_numbers_are_the_objectives_own(objective):
    model, x = scrambled_model("vae")
    full, one = gradients(model, objective, x)
    for c in (objective.K * objective.M, math.inf):
        thinned, other = gradients(model, Thinned(objective, c), x)
        assert torch.equal(thinned, full) and torch.equal(other.bound, one.bound)


def test_only_the_kept_are_decoded_with_a_graph_and_the_others_a_few_at_a_time(monkeypatch):
    model, x = scrambled_model("vae")
    decoded, likelihood = [], model.likelihood

    def spy(z):
        decoded.append((torch.is_grad_enabled(), z[..., 0].numel()))
        return likelihood(z)

    monkeypatch.setattr(model, "likelihood", spy)
    monkeypatch.setattr(vl.models, "rows_at_once", lambda x: 50)
    Thinned(IWAE(2000), 4)(model, x)
    with_graph = [rows for graph, rows in decoded if graph]
    without = [rows for graph, rows in decoded if not graph]
    assert with_graph == [4 * B]
    assert sum(without) == 2000 * B and max(without) <= 50


def test_it_trains_validates_and_resumes(tmp_path):
    torch.manual_seed(0)
    x = torch.rand(60, 4).round()
    data = vl.data.Dataset("dots", x[:40], x[40:], x[40:], (2, 2))
    bounds = {}
    for name, stops in {"whole": (6,), "resumed": (3, 6)}.items():
        torch.manual_seed(1)
        model = vl.models.VAE.mlp(4, 2, (5,))
        for epochs in stops:
            run = vl.fit(
                model, Thinned(IWAE(20), 2), data, epochs, 20, 0.01,
                checkpoint=tmp_path / name, progress=False, device="cpu",
            )  # fmt: skip
        bounds[name] = run.history["train"] + run.history["valid"]
    assert bounds["whole"] == bounds["resumed"]
    assert run.history["valid"][-1] > run.history["valid"][0]


@pytest.mark.parametrize("c", [0, -1, math.nan])
def test_c_must_be_positive(c):
    with pytest.raises(ValueError, match="must be > 0"):
        Thinned(IWAE(5), c)


@pytest.mark.parametrize("objective", [VIMCO(3), ELBO(3, kl="analytic"), vl.objectives.InfoVAE(), IWAE])
def test_objectives_without_shares_are_refused(objective):
    with pytest.raises(ValueError, match="function of log w"):
        Thinned(objective)


def test_a_discrete_q_is_refused():
    mixture = vl.exact.GaussianMixture(2, 3)
    with pytest.raises(ValueError, match="reparameterized"):
        Thinned(IWAE(5), 1)(mixture, mixture.sample(2)[0])
