"""The K-sample bounds and their gradients against expectations computed exactly, always at K ≠ M ≠ B.

Two oracles. For a discrete z: all C^K tuples, or all counts of each component, so K may be large. For a
one-dimensional Gaussian z and K = 2: a grid over both noises, on which every integrand is smooth.
"""

import math
from itertools import product

import pytest
import torch
from common import (
    OBJECTIVES,
    assert_means,
    elbo,
    gradient_of,
    log_weights,
    on_the_grid,
    over_tuples,
    phi,
    rows,
    scrambled,
    theta,
    z_scores,
)

import vaelearn as vl
from vaelearn import bounds, gradients, metrics
from vaelearn.objectives import (
    CIWAE,
    ELBO,
    IWAE,
    MIWAE,
    PIWAE,
    STL,
    VIMCO,
    VR,
    DReG,
    ReweightedWakeSleep,
    Step,
)

B = 4
K_SAMPLES = rows(lambda row: row.theta not in (None, elbo))  # the bounds of K > 1 samples


@pytest.fixture
def mixture():
    return scrambled(vl.exact.GaussianMixture(data_dim=2, components=3))


@pytest.fixture
def line():
    """One latent dimension, for the grid."""
    return scrambled(vl.exact.LinearGaussian(data_dim=3, latent_dim=1))


@pytest.fixture
def plane():
    return scrambled(vl.exact.LinearGaussian(data_dim=3, latent_dim=2))


def data(model, n=B):
    torch.manual_seed(1)
    return model.sample(n)[0]


def over_counts(mixture, x, K, function):
    """E over K samples of a function of log p̂ alone, (B,) -> (B,): one term for each way to count to K."""
    log_w, log_q = log_weights(mixture, x)
    counts = torch.tensor([(a, b, K - a - b) for a in range(K + 1) for b in range(K + 1 - a)]).double()
    ways = math.lgamma(K + 1) - torch.lgamma(counts + 1).sum(1, keepdim=True)
    probability = (ways + counts @ log_q.T).exp()
    log_p_hat = (counts.log()[:, None] + log_w).logsumexp(-1) - math.log(K)
    return (probability * function(log_p_hat)).sum(0)


def gradients_with(model, objective, x, seed=5):
    torch.manual_seed(seed)
    model.zero_grad()
    step = objective(model, x)
    step.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}, step


# ------------------------------------------------------------------ the bounds


def test_the_grid_knows_the_elbo(line):
    x = data(line)
    torch.testing.assert_close(on_the_grid(line, x, bounds.elbo), line.elbo(x))


def test_the_two_ways_to_enumerate_agree(mixture):
    x = data(mixture)
    by_tuples = over_tuples(mixture, x, 3, lambda log_w, _: bounds.iwae(log_w)[0])
    torch.testing.assert_close(over_counts(mixture, x, 3, lambda value: value), by_tuples)
    torch.testing.assert_close(over_counts(mixture, x, 1, lambda value: value), mixture.elbo(x))


def test_l_k_climbs_from_the_elbo_to_log_p(mixture):
    x = data(mixture)
    ladder = torch.stack([over_counts(mixture, x, K, lambda value: value) for K in (1, 2, 3, 4, 8, 40, 160)])
    torch.testing.assert_close(ladder[0], mixture.elbo(x))
    assert (ladder.diff(dim=0) > 0).all() and (ladder < mixture.log_prob(x)).all()


def test_p_hat_is_unbiased(mixture):
    x = data(mixture)
    torch.testing.assert_close(over_counts(mixture, x, 7, torch.exp), mixture.log_prob(x).exp())


def test_the_bias_falls_as_the_delta_method_says(mixture):
    """log p − L_K = μ₂/2K − μ₃/3K² + 3μ₂²/4K² + O(K⁻³), μ the central moments of w/p."""
    x = data(mixture)
    log_p = mixture.log_prob(x)
    log_w, log_q = log_weights(mixture, x)
    moment = [(log_q.exp() * ((log_w - log_p[:, None]).exp() - 1) ** n).sum(1) for n in range(4)]
    first, second = moment[2] / 2, 3 * moment[2] ** 2 / 4 - moment[3] / 3
    left = {}
    for K in (64, 128):
        gap = log_p - over_counts(mixture, x, K, lambda value: value)
        torch.testing.assert_close(K * gap, first, rtol=0.25, atol=0)
        left[K] = gap - first / K
        torch.testing.assert_close(K**2 * left[K], second, rtol=0.25, atol=0)
        left[K] = left[K] - second / K**2
    torch.testing.assert_close(left[64] / left[128], torch.full_like(first, 8.0), rtol=0.2, atol=0)


def test_the_gap_is_a_kl_on_the_extended_space_and_not_on_z(mixture):
    """KL(Q ‖ P), Q = ∏ q(z_k) and P = (1/K) Σ_k p(z_k | x) ∏_{j≠k} q(z_j). Cremer et al. 2017; Domke 2018."""
    x, K = data(mixture), 3
    log_p = mixture.log_prob(x)

    def log_q_over_p(log_w, log_q):
        log_posterior = log_w + log_q - log_p
        others = log_q.sum(0) - log_q
        mixture_of_k = (log_posterior + others).logsumexp(0) - math.log(K)
        return (log_q.sum(0) - mixture_of_k)[0]

    gap = log_p - over_tuples(mixture, x, K, lambda log_w, _: bounds.iwae(log_w)[0])
    torch.testing.assert_close(over_tuples(mixture, x, K, log_q_over_p), gap)
    assert (gap < 0.8 * (log_p - mixture.elbo(x))).all()


@pytest.mark.parametrize("K", [1, 2, 8, 40])
def test_log_p_hat_strays_by_no_more_than_twice_the_gap_and_2(mixture, K):
    """E|log p̂ − E log p̂| <= 2 + 2δ, δ the gap. Burda et al. 2016, appendix. Also for a q far off."""
    x = data(mixture)
    with torch.no_grad():
        for scale in (1.0, 6.0):
            mixture.A.mul_(scale)
            mean = over_counts(mixture, x, K, lambda value: value)
            deviation = over_counts(mixture, x, K, lambda value, mean=mean: (value - mean).abs())
            assert (deviation <= 2 + 2 * (mixture.log_prob(x) - mean)).all()


@pytest.mark.parametrize("alpha", [0.0, 0.4, 0.9, 1.0, 2.0])
def test_the_renyi_bound_lies_between_the_elbo_and_l_k(line, alpha):
    x = data(line)
    value = on_the_grid(line, x, lambda log_w: bounds.vr(log_w, alpha))
    one, two = line.elbo(x), on_the_grid(line, x, bounds.iwae)
    if alpha <= 1:
        assert (value >= one - 1e-9).all() and (value <= two + 1e-9).all()
    else:
        assert (value < one).all()


# ------------------------------------------------------------------ the objectives' values


def same_losses(model, one, other, x):
    (left, step), (right, step_too) = (gradients_with(model, o, x) for o in (one, other))
    torch.testing.assert_close(left, right)
    torch.testing.assert_close(step.bound, step_too.bound)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (IWAE(1), ELBO(1)),
        (MIWAE(5, 1), IWAE(5)),
        (MIWAE(1, 5), ELBO(5)),
        (CIWAE(5, 0.0), IWAE(5)),
        (CIWAE(5, 1.0), ELBO(5)),
        (VR(5, 0.0), IWAE(5)),
        (VR(5, 1.0), ELBO(5)),
        (PIWAE(5, 1), IWAE(5)),
        (DReG(1), STL(1)),
    ],
    ids=repr,
)
def test_special_cases_are_equal_sample_by_sample(plane, one, other):
    same_losses(plane, one, other, data(plane))


def test_piwae_is_miwae_for_phi_and_iwae_of_all_samples_for_theta(plane):
    x = data(plane)
    (ours, step), (miwae, _), (iwae, whole) = (
        gradients_with(plane, o, x) for o in (PIWAE(3, 5), MIWAE(3, 5), IWAE(15))
    )
    torch.testing.assert_close({n: ours[n] for n in phi(plane)}, {n: miwae[n] for n in phi(plane)})
    torch.testing.assert_close({n: ours[n] for n in theta(plane)}, {n: iwae[n] for n in theta(plane)})
    assert all((ours[n] - iwae[n]).norm() > 0.01 for n in phi(plane))
    assert all((ours[n] - miwae[n]).norm() > 0.01 for n in theta(plane))
    torch.testing.assert_close(step.bound, whole.bound)


def test_k_and_m_are_not_interchangeable(plane):
    x = data(plane)
    (one, _), (other, _) = (gradients_with(plane, MIWAE(K, M), x) for K, M in ((2, 16), (16, 2)))
    assert all((one[name] - other[name]).norm() > 1e-3 for name in one)


# ------------------------------------------------------------------ their gradients


def directional(model, x, objective, which, direction, draws):
    parts = metrics.gradient_draws(model, objective, x, draws)
    return sum(parts[name].reshape(draws, -1) @ direction[name].flatten() for name in which)


@pytest.mark.parametrize("name", rows(lambda row: row.phi not in (None, elbo)))
def test_gradients_match_finite_differences_of_a_high_sample_bound(plane, name):
    """Along one random direction of φ and one of θ, at K = 3, the same noise at both ends."""
    x, row = data(plane), OBJECTIVES[name]
    objective = row(plane, 3, 2)
    of = {"phi": row.phi, "theta": row.theta}
    K = {"phi": 3, "theta": 6 if row.pooled else 3}
    torch.manual_seed(9)
    direction = {n: torch.randn_like(p) for n, p in plane.named_parameters()}
    start = {n: p.detach().clone() for n, p in plane.named_parameters()}

    @torch.no_grad()
    def slopes(which, members, step=1e-4):
        ends = []
        for sign in (1, -1):
            for n, p in plane.named_parameters():
                p.copy_(start[n] + sign * step * direction[n] if n in members else start[n])
            torch.manual_seed(10)
            ends.append(of[which](plane.draw(x, (K[which], 20_000)).log_w).mean(1))
        for n, p in plane.named_parameters():
            p.copy_(start[n])
        return (ends[0] - ends[1]) / (2 * step)

    for which, members in (("phi", phi(plane)), ("theta", theta(plane))):
        reference = slopes(which, members)
        torch.manual_seed(11)
        ours = directional(plane, x, objective, members, direction, 20_000)
        error = (ours.var() / len(ours) + reference.var() / len(reference)).sqrt()
        assert (ours.mean() - reference.mean()).abs() < 4 * error
        assert error < 0.1 * reference.mean().abs()


def test_dreg_leaves_theta_alone(plane):
    x = data(plane)
    (ours, step), (iwae, other) = (gradients_with(plane, o, x) for o in (DReG(5), IWAE(5)))
    torch.testing.assert_close({n: ours[n] for n in theta(plane)}, {n: iwae[n] for n in theta(plane)})
    torch.testing.assert_close(step.bound, other.bound)
    assert all((ours[n] - iwae[n]).norm() > 1e-3 for n in phi(plane))


def test_dreg_by_hand(plane):
    """Σ_k w̃_k² (∂ log w_k / ∂z_k) (∂z_k / ∂φ), term by term. Tucker et al. 2019, eq. 8."""
    x, K = data(plane), 3
    ours, _ = gradients_with(plane, DReG(K), x)
    torch.manual_seed(5)
    draw = plane.draw(x, (K, 1))
    z = draw.z.detach().requires_grad_()
    still = plane.posterior(x)
    still = type(still)(still.mean.detach(), still.stddev.detach())
    log_w = plane.likelihood(z).log_prob(x) + plane.prior().log_prob(z) - still.log_prob(z)
    (pull,) = torch.autograd.grad(log_w.sum(), z)
    weights = log_w.detach().softmax(0)
    parameters = plane.inference_parameters()
    by_hand = torch.autograd.grad(draw.z, parameters, -(weights[..., None] ** 2) * pull / B)
    torch.testing.assert_close([ours[n] for n in phi(plane)], list(by_hand))


def without_the_score(K):
    def objective(model, x):
        draw = model.draw(x, (K, 1))
        return Step.joint(model, bounds.iwae(gradients.path_derivative(draw))[0])

    return objective


def test_dropping_the_score_is_biased_for_k_above_1(line):
    x = data(line)
    exact = gradient_of(line, on_the_grid(line, x, bounds.iwae))
    torch.manual_seed(12)
    draws = metrics.gradient_draws(line, without_the_score(2), x, 40_000)
    assert z_scores(draws["log_s"], exact["log_s"]).abs().max() > 10


def test_dreg_has_no_noise_where_q_is_the_posterior():
    model = vl.exact.LinearGaussian(3, 1).double()
    model.perfect_e_step()
    x = data(model)
    draws = metrics.gradient_draws(model, DReG(5), x, 50)
    assert all(draws[name].abs().max() < 1e-12 for name in phi(model))
    noisy = metrics.gradient_draws(model, IWAE(5), x, 50)
    assert all(noisy[name].std(0).min() > 1e-3 for name in phi(model))


def test_dregs_snr_grows_with_k_and_iwaes_falls():
    model = vl.exact.LinearGaussian(3, 1).double()
    model.perfect_e_step()
    x = data(model)
    scrambled(model, scale=0.05)  # near the optimum the asymptotic regime begins at small K
    torch.manual_seed(13)
    snr = {
        (type(o).__name__, o.K): metrics.gradient_snr(model, o, x, 2000)["inference"].mean().item()
        for o in (IWAE(4), IWAE(64), DReG(4), DReG(64))
    }
    assert 3 < snr["DReG", 64] / snr["DReG", 4] < 5  # √16
    assert snr["IWAE", 64] < 0.5 * snr["IWAE", 4]


def test_vimcos_baseline_is_what_the_others_promise():
    """Against a double loop, and blind to its own sample. Mnih & Rezende 2016, eqs. 8 and 9."""
    torch.manual_seed(14)
    log_w = 3 * torch.randn(4, 3, 2, dtype=torch.float64)
    baseline = gradients.geometric_mean_bound(log_w)
    for k, m, b in product(range(4), range(3), range(2)):
        others = [log_w[j, m, b].item() for j in range(4) if j != k]
        terms = [math.exp(value) for value in (*others, sum(others) / 3)]
        assert baseline[k, m, b].item() == pytest.approx(math.log(sum(terms) / 4))
    log_w[2] += 5
    torch.testing.assert_close(gradients.geometric_mean_bound(log_w)[2], baseline[2])


def test_vimcos_baseline_survives_one_weight_that_holds_nearly_all():
    log_w = torch.tensor([-600.0, -90.0, -700.0])[:, None, None]
    baseline = gradients.geometric_mean_bound(log_w)[:, 0, 0]
    torch.testing.assert_close(baseline[1].item(), -600 - math.log(3), atol=0.01, rtol=0)
    torch.testing.assert_close(baseline[0].item(), -90 - math.log(3), atol=0.01, rtol=0)


def test_left_out_bound_leaves_one_out():
    """Against a double loop, blind to its own sample, and −log(1 − w̃) below L_K. Liévin et al. 2020."""
    torch.manual_seed(14)
    log_w = 3 * torch.randn(4, 3, 2, dtype=torch.float64)
    baseline = gradients.left_out_bound(log_w)
    for k, m, b in product(range(4), range(3), range(2)):
        others = [math.exp(log_w[j, m, b]) for j in range(4) if j != k]
        assert baseline[k, m, b].item() == pytest.approx(math.log(sum(others) / 4))
    torch.testing.assert_close(bounds.iwae(log_w) - baseline, -torch.log1p(-log_w.softmax(0)))
    log_w[2] += 5
    torch.testing.assert_close(gradients.left_out_bound(log_w)[2], baseline[2])


def test_left_out_bound_survives_one_weight_that_holds_nearly_all():
    log_w = torch.tensor([-600.0, -90.0, -700.0])[:, None, None]
    baseline = gradients.left_out_bound(log_w)[:, 0, 0]
    expected = torch.tensor([-90.0, -600.0, -90.0]) - math.log(3)
    torch.testing.assert_close(baseline, expected)


def test_left_out_bound_has_less_noise_than_vimco_where_q_is_good(mixture):
    """χ²(p ‖ q) is 2.5 at most here: at K = 64 its variance is 1/K² of VIMCO's, give or take."""
    torch.manual_seed(15)
    x, noise = data(mixture), {}
    for baseline in ("geometric", "left-out"):
        draws = metrics.gradient_draws(mixture, VIMCO(64, baseline), x, 500)
        noise[baseline] = sum(draws[name].var(0).sum() for name in phi(mixture))
    assert noise["left-out"] < noise["geometric"] / 100


def test_vimco_has_less_noise_than_the_score_alone(mixture):
    def plain(model, x):
        draw = model.draw(x, (3, 1), pathwise=False)
        bound = bounds.iwae(draw.log_w)
        signal = gradients.score_function(draw, bound).sum(0)
        return Step(model, -(signal + bound).mean(), -bound.mean(), bound[0].detach())

    x = data(mixture)
    torch.manual_seed(15)
    noise = {
        name: sum(metrics.gradient_draws(mixture, o, x, 4000)[n].var(0).sum() for n in phi(mixture))
        for name, o in (("plain", plain), ("VIMCO", VIMCO(3)))
    }
    assert noise["VIMCO"] < 0.5 * noise["plain"]


def test_reweighted_wake_sleep_by_enumeration_and_its_bias_fades(mixture):
    x = data(mixture)
    names = phi(mixture)

    def mean_signal(K):
        def surrogate(log_w, log_q):
            return (log_w.softmax(0).detach() * log_q).sum(0)[0]

        # The tuples' probabilities are weights here, not a route to φ.
        log_w, log_q = log_weights(mixture, x)
        total = 0
        for tuple_ in product(range(3), repeat=K):
            picked_w, picked_q = (c[:, list(tuple_)].T[:, None] for c in (log_w, log_q))
            total = total + picked_q.detach().sum((0, 1)).exp() * surrogate(picked_w, picked_q)
        return gradient_of(mixture, total)

    target = (mixture.true_posterior(x).probs.detach() * log_weights(mixture, x)[1]).sum(1)
    target = gradient_of(mixture, target)
    torch.manual_seed(16)
    assert_means(metrics.gradient_draws(mixture, ReweightedWakeSleep(3), x, 20_000), mean_signal(3), names)
    miss = [sum((mean_signal(K)[n] - target[n]).square().sum() for n in names).sqrt() for K in (2, 4, 7)]
    assert miss[0] > 1.5 * miss[1] > 2 * miss[2]


def test_reweighted_wake_sleeps_theta_ascends_l_k(mixture):
    x = data(mixture)
    (ours, _), (vimco, _) = (gradients_with(mixture, o, x) for o in (ReweightedWakeSleep(3), VIMCO(3)))
    torch.testing.assert_close({n: ours[n] for n in theta(mixture)}, {n: vimco[n] for n in theta(mixture)})


# ------------------------------------------------------------------ in use


@pytest.mark.parametrize("name", K_SAMPLES)
def test_float32_at_the_scale_of_images(name):
    """log w near −544: every weight is 0 in float32 until the maximum is taken out."""
    torch.manual_seed(17)
    model = vl.models.VAE.mlp(784, 10, (20,))
    x = torch.rand(B, 784).round()
    found, step = gradients_with(model, OBJECTIVES[name](model, 10, 5), x)
    assert step.bound.max() < -300
    assert all(g.isfinite().all() and g.abs().max() > 0 for g in found.values())


@pytest.mark.parametrize("name", K_SAMPLES)
def test_fit_brings_l_k_near_the_truth(name):
    torch.manual_seed(18)
    source = scrambled(vl.exact.LinearGaussian(4, 2)).float()
    x, _ = source.sample(400)
    model = vl.exact.LinearGaussian(4, 2, seed=3)
    before = model.log_prob(x).mean()
    vl.fit(model, OBJECTIVES[name](model, 5, 2), x, epochs=100, lr=0.02, progress=False)
    best = vl.exact.LinearGaussian.maximum_likelihood(x, 2).log_prob(x).mean()
    assert before < best - 0.5 and model.log_prob(x).mean() > best - 0.12


@pytest.mark.parametrize("objective", [VIMCO(5), ReweightedWakeSleep(5)], ids=repr)
def test_fit_trains_a_discrete_latent(objective):
    torch.manual_seed(19)
    mixture = scrambled(vl.exact.GaussianMixture(2, 3)).float()
    x, _ = mixture.sample(300)
    mixture.A.data.zero_()
    before = (mixture.log_prob(x) - mixture.elbo(x)).mean().item()
    vl.fit(mixture, objective, x, epochs=40, lr=0.02, progress=False)
    assert (mixture.log_prob(x) - mixture.elbo(x)).mean().item() < 0.4 * before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        *[(lambda o=o: o(0), "K must be a whole number >= 1; got 0") for o in (IWAE, VR, MIWAE, CIWAE, DReG)],
        (lambda: MIWAE(3, 0), "M must be a whole number >= 1; got 0"),
        (lambda: PIWAE(0, 3), "K must be"),
        (lambda: PIWAE(3, -1), "M must be"),
        (lambda: CIWAE(3, 1.5), r"beta must lie in \[0, 1\].*got 1.5"),
        (lambda: VR(3, -1.0), "alpha must be a finite number >= 0"),
        (lambda: VIMCO(1), "K must be a whole number >= 2; got 1"),
        (lambda: ReweightedWakeSleep(1), "K must be a whole number >= 2"),
        (lambda: gradients.geometric_mean_bound(torch.zeros(1, 1, 2)), "needs K >= 2"),
        (lambda: gradients.left_out_bound(torch.zeros(1, 1, 2)), "needs K >= 2"),
        (lambda: VIMCO(5, "mean"), "baseline must be one of 'geometric', 'left-out'; got 'mean'"),
    ],
)
def test_bad_settings_are_an_error(make, message):
    with pytest.raises(ValueError, match=message):
        make()
