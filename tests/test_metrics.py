"""L_K in chunks against L_K at once and against the truth; active units."""

import math

import pytest
import torch
from common import z_scores

import vaelearn as vl
from vaelearn.metrics import (
    active_units,
    effective_sample_size,
    few_label_accuracy,
    gradient_draws,
    gradient_dsnr,
    gradient_moments,
    information,
    log_det_covariance,
    log_likelihood,
    mean_and_error,
    tightness,
)
from vaelearn.objectives import IWAE


@pytest.fixture
def truth():
    return vl.exact.LinearGaussian(data_dim=4, latent_dim=2).double()


@pytest.fixture
def x(truth):
    torch.manual_seed(0)
    return truth.sample(7)[0]


def test_it_closes_on_the_true_log_likelihood(truth, x):
    truth.perfect_e_step()
    torch.manual_seed(1)
    torch.testing.assert_close(log_likelihood(truth, x, K=20_000), truth.log_prob(x), atol=0.01, rtol=0)


@pytest.mark.parametrize("defensive", [False, True])
@pytest.mark.parametrize("rows", [1, 7, 20, 30, 10_000])
def test_exactly_k_samples_whatever_the_chunk(truth, x, rows, defensive):
    """With q equal to the prior and a flat likelihood every weight is 1, so L_K = 0 only if K is K."""
    with torch.no_grad():
        truth.W.zero_()
        truth.A.zero_()
    constant = truth.log_prob(x)
    torch.testing.assert_close(log_likelihood(truth, x, 11, rows, defensive), constant)


def test_chunks_change_only_the_noise(truth, x):
    torch.manual_seed(2)
    by_chunks = log_likelihood(truth, x, K=3000, rows=50)
    at_once = vl.bounds.iwae(truth.draw(x, (3000, 1)).log_w)[0]
    spread = truth.draw(x, (3000, 1)).log_w.exp().std(0)[0] / at_once.exp() / 3000**0.5
    assert ((by_chunks - at_once).abs() < 5 * 2**0.5 * spread).all()


def test_the_defensive_bound_is_unbiased_for_p_and_never_wild(truth, x, monkeypatch):
    with torch.no_grad():
        truth.log_s.fill_(-6)  # needles: the encoder alone cannot judge this model
    torch.manual_seed(6)
    log_p = truth.log_prob(x)
    ratios = (torch.stack([log_likelihood(truth, x, 50, defensive=True) for _ in range(2000)]) - log_p).exp()
    assert z_scores(ratios, 1).abs().max() < 4
    assert (log_likelihood(truth, x, 5000) < log_p - 1).all()
    best = log_likelihood(truth, x, 50_000, defensive=True)
    torch.testing.assert_close(best, log_p, atol=0.1, rtol=0)
    # Where q is the prior the coin decides nothing, and w = p(x | z).
    with torch.no_grad():
        for p in truth.inference_parameters():
            p.zero_()
    drawn = []
    likelihood = truth.likelihood
    monkeypatch.setattr(truth, "likelihood", lambda z: drawn.append(z) or likelihood(z))
    log_w = vl.metrics._defensive_log_w(truth, x, truth.posterior(x), 30)
    torch.testing.assert_close(log_w, likelihood(drawn[0]).log_prob(x))


def test_x_is_encoded_once_and_no_graph_is_kept(truth, x, monkeypatch):
    calls = []
    posterior = truth.posterior
    monkeypatch.setattr(truth, "posterior", lambda x: calls.append(len(x)) or posterior(x))
    assert not log_likelihood(truth, x, K=100, rows=14).requires_grad
    assert calls == [7]


def test_many_images_are_encoded_a_hundred_at_a_time(truth, monkeypatch):
    torch.manual_seed(3)
    x, _ = truth.sample(250)
    truth.perfect_e_step()
    calls = []
    posterior = truth.posterior
    monkeypatch.setattr(truth, "posterior", lambda x: calls.append(len(x)) or posterior(x))
    estimate = log_likelihood(truth, x, K=5000)
    assert calls == [100, 100, 50]
    torch.testing.assert_close(estimate, truth.log_prob(x), atol=0.05, rtol=0)


def test_one_image_gets_the_answer_it_gets_among_many():
    """With q the posterior every weight is p(x), so there is no noise to hide behind."""
    truth = vl.exact.LinearGaussian(data_dim=4, latent_dim=1).double()
    truth.perfect_e_step()
    x, _ = truth.sample(7)
    torch.testing.assert_close(log_likelihood(truth, x[3:4], K=3), log_likelihood(truth, x, K=3)[3:4])
    torch.testing.assert_close(truth.log_prob(x[3:4]), truth.log_prob(x)[3:4])
    torch.testing.assert_close(truth.elbo(x[3:4]), truth.elbo(x)[3:4])


def test_bad_input_is_an_error(truth, x):
    with pytest.raises(ValueError, match="K must be"):
        log_likelihood(truth, x, K=0)
    with pytest.raises(ValueError, match="rows must be"):
        log_likelihood(truth, x, rows=0)
    with pytest.raises(ValueError, match=r"shape \(B, 4\)"):
        log_likelihood(truth, x[:, :3])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model, x: information(model, x, rows=0), "^rows must be"),
        (lambda model, x: information(model, x[:, :3]), "shape"),
        (lambda model, x: active_units(model, x[:, :3]), "shape"),
        (lambda model, x: log_det_covariance(model, x[:, :3]), "shape"),
        (lambda model, x: tightness(model, x, K=0), "^K must be"),
        (lambda model, x: gradient_draws(model, IWAE(2), x, 0), "^draws must be"),
        (lambda model, x: gradient_moments(model, IWAE(2), x, draws=1), "^draws must be .* >= 2"),
        (lambda model, x: gradient_moments(model, IWAE(2), x, chunk=0), "^chunk must be"),
        (lambda model, x: few_label_accuracy(model, (x, x), (x, x), per_class=0), "^per_class must be"),
    ],
)
def test_bad_arguments_of_the_other_measures(truth, x, call, message):
    with pytest.raises(ValueError, match=message):
        call(truth, x)


def test_the_least_that_is_asked_for_is_enough(truth, x):
    assert active_units(truth, x[:2]).shape == (2,)
    assert information(truth, x[:1], rows=1)["kl"].shape == (1,)
    assert gradient_moments(truth, IWAE(2), x, draws=2, chunk=1)["c"][1].isfinite().all()


def test_a_unit_that_ignores_x_is_not_active(truth, x):
    with torch.no_grad():
        truth.A[1] = 0.0
    assert active_units(truth, x).tolist() == [True, False]
    means = truth.posterior(x).mean
    for threshold, active in ((0.99, True), (1.01, False)):  # the threshold is one on the variance
        assert active_units(truth, x, threshold * means[:, 0].var().item())[0] == active
    with pytest.raises(ValueError, match="2 rows or more; got 1"):
        active_units(truth, x[:1])


def test_tightness_is_the_two_bounds_and_their_gap(truth, x):
    torch.manual_seed(4)
    reach = tightness(truth, x, K=2, reference=20_000)
    assert reach["bound"].shape == (7,)
    torch.testing.assert_close(reach["gap"], reach["bound"] - reach["log_likelihood"])
    gap = torch.stack([tightness(truth, x, 1, 20_000)["gap"] for _ in range(200)])
    assert z_scores(gap, truth.elbo(x) - truth.log_prob(x)).abs().max() < 4


def test_effective_sample_size_runs_from_1_to_k():
    equal = torch.full((5, 2, 3), -700.0)
    torch.testing.assert_close(effective_sample_size(equal), torch.full((2, 3), 5.0))
    one = equal.clone()
    one[1] += 100
    torch.testing.assert_close(effective_sample_size(one), torch.ones(2, 3))
    w = torch.tensor([1.0, 2.0, 3.0, 6.0])
    expected = w.sum() ** 2 / w.square().sum()
    torch.testing.assert_close(effective_sample_size(w.log()[:, None, None])[0, 0], expected)


def test_mean_and_error_are_those_of_the_rows():
    draws = torch.tensor([[1.0, 10.0], [2.0, 10.0], [6.0, 10.0]])
    mean, error = mean_and_error(draws)
    torch.testing.assert_close(mean, torch.tensor([3.0, 10.0]))
    # Σ(r − 3)² = 14, over R − 1 and over R.
    torch.testing.assert_close(error, torch.tensor([(7 / 3) ** 0.5, 0.0]))
    with pytest.raises(ValueError, match="2 draws or more; got 1"):
        mean_and_error(draws[:1])


def test_dsnr_splits_each_draw_along_the_mean(truth, x, monkeypatch):
    """Against the definition spelled out: ‖G along u‖ / ‖the rest‖ with u the mean's direction."""
    made = []
    original = vl.metrics.gradient_draws

    def keep(*arguments):
        made.append(original(*arguments))
        return made[-1]

    monkeypatch.setattr(vl.metrics, "gradient_draws", keep)
    torch.manual_seed(5)
    found = gradient_dsnr(truth, IWAE(3), x, draws=60, chunk=25)
    first, second = ({n: torch.cat([m[n] for m in half]) for n in made[0]} for half in (made[:3], made[3:]))
    for which, names in (("inference", ("A", "c", "log_s")), ("generative", ("W", "b", "log_sigma"))):
        u = torch.cat([first[n].mean(0).flatten() for n in names])
        ratios = []
        for r in range(60):
            G = torch.cat([second[n][r].flatten() for n in names])
            along = (G @ u) / (u @ u) * u
            ratios.append(along.norm() / (G - along).norm())
        torch.testing.assert_close(found[which], torch.stack(ratios).mean())


def test_dsnr_counts_a_step_the_wrong_way_by_its_length(truth, x, monkeypatch):
    """Draws whose mean is (1, 0, 0) and which go backwards a third of the time."""
    draws = torch.tensor([[4.0, 1.0, 0.0], [-2.0, 0.0, 2.0], [1.0, -1.0, -2.0]], dtype=torch.float64)
    names = {"A": draws, "c": draws[:, :0], "log_s": draws[:, :0]}
    names |= {"W": draws, "b": draws[:, :0], "log_sigma": draws[:, :0]}
    monkeypatch.setattr(vl.metrics, "gradient_draws", lambda *_: names)
    found = gradient_dsnr(truth, IWAE(3), x, draws=3, chunk=3)
    expected = (4 / 1 + 2 / 2 + 1 / 5**0.5) / 3
    assert found["inference"].item() == pytest.approx(expected)
    assert found["generative"].item() == pytest.approx(expected)


@pytest.mark.parametrize("rows", [1, 20, 10_000])
def test_it_reads_log_weights_of_any_size(rows):
    """The sum starts from nothing: with q the posterior every weight is p(x), here exp(−10⁶) or exp(+200)."""
    truth = vl.exact.LinearGaussian(data_dim=40, latent_dim=1).double()
    for sigma, offset in ((1.0, 1e3), (1e-3, 0.0)):
        with torch.no_grad():
            truth.log_sigma.fill_(math.log(sigma))
        truth.perfect_e_step()
        x = truth.b.detach() + offset * torch.ones(3, 40).double()
        log_p = truth.log_prob(x)
        assert log_p.max() < -1e6 or log_p.min() > 200
        torch.testing.assert_close(log_likelihood(truth, x, K=30, rows=rows), log_p)
