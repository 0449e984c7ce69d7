"""Divergences against double loops, closed forms for Gaussians, and what they promise under the null."""

import dataclasses
import math
from functools import partial

import pytest
import torch
from common import z_scores

import vaelearn as vl
from vaelearn.distributions import DiagonalNormal, standard_normal
from vaelearn.divergences import KERNELS, MMD, Adversarial, Stein, mmd, stein_discrepancy

L = 3
one_kernel = pytest.mark.parametrize("kernel", KERNELS)


@pytest.fixture
def prior():
    return standard_normal(L, torch.zeros((), dtype=torch.float64))


def codes(n, shift=0.0, seed=0, dim=L):
    generator = torch.Generator().manual_seed(seed)
    return shift + torch.randn(n, dim, generator=generator, dtype=torch.float64)


def k(kernel, a, b, h):
    s = (a - b).square().sum()
    return torch.exp(-s / (2 * h**2)) if kernel == "rbf" else h**2 / (h**2 + s)


@one_kernel
@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("bandwidth", [None, 0.7, (0.5, 1.0, 4.0)])
def test_mmd_is_the_double_loop(kernel, unbiased, bandwidth):
    z, y = codes(5, 0.4), codes(4, seed=1)
    hs = [math.sqrt(L)] if bandwidth is None else bandwidth if isinstance(bandwidth, tuple) else [bandwidth]
    total = 0.0
    for h in hs:
        for a, sign in ((z, 1), (y, 1)):
            pairs = [(i, j) for i in range(len(a)) for j in range(len(a)) if i != j or not unbiased]
            total += sign * sum(k(kernel, a[i], a[j], h) for i, j in pairs) / len(pairs)
        total -= 2 * sum(k(kernel, a, b, h) for a in z for b in y) / (len(z) * len(y))
    torch.testing.assert_close(mmd(z, y, kernel, bandwidth, unbiased), total / len(hs))


def expected_rbf(mean, variance, h):
    """E exp(−s / 2h²) for a difference N(mean, variance I) in L dimensions."""
    return (1 + variance / h**2) ** (-L / 2) * math.exp(-L * mean**2 / (2 * (h**2 + variance)))


@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (0.5, 1.0), (0.0, 0.3)])
@pytest.mark.parametrize(("N", "M"), [(4, 7), (30, 20)])
def test_the_u_statistic_has_the_true_mmd_as_its_mean_at_every_batch_size(mean, variance, N, M):
    h = 1.2
    truth = expected_rbf(0, 2 * variance, h) + expected_rbf(0, 2, h)
    truth -= 2 * expected_rbf(mean, variance + 1, h)
    torch.manual_seed(2)
    z = mean + math.sqrt(variance) * torch.randn(4000, N, L, dtype=torch.float64)
    y = torch.randn(4000, M, L, dtype=torch.float64)
    draws = torch.vmap(lambda z, y: mmd(z, y, bandwidth=h))(z, y)
    assert z_scores(draws, truth).abs() < 4
    assert (truth == 0) == (mean == 0 and variance == 1)


def test_under_the_null_u_has_its_spread_and_v_its_floor():
    """E k̃² of the doubly centred kernel gives U's variance; the diagonal alone gives V's mean."""
    h, N, M = math.sqrt(L), 12, 9
    c = expected_rbf(0, 2, h)
    square = (1 + 4 / h**2) ** (-L / 2)
    of_means = (1 + 1 / h**2) ** -L * (1 + 2 / (h**2 + 1)) ** (-L / 2)
    centred = square - 2 * of_means + c**2
    variance = (2 / (N * (N - 1)) + 2 / (M * (M - 1)) + 4 / (N * M)) * centred
    torch.manual_seed(3)
    z, y = (torch.randn(20_000, n, L, dtype=torch.float64) for n in (N, M))
    u = torch.vmap(mmd)(z, y)
    v = torch.vmap(lambda z, y: mmd(z, y, unbiased=False))(z, y)
    assert z_scores(u, 0.0).abs() < 4
    assert z_scores(u.square(), variance).abs() < 4
    assert z_scores(v, (1 - c) * (1 / N + 1 / M)).abs() < 4
    assert v.min() >= 0 > u.min()


def test_the_default_bandwidth_sees_a_shift_in_any_dimension():
    for dim in (2, 20, 100):
        near, far = (mmd(codes(400, shift, 1, dim), codes(400, 0, 2, dim)) for shift in (0.0, 0.3))
        assert far > 0.01 > 5 * near.abs()


def test_mmd_has_a_gradient_even_where_points_coincide():
    z = codes(4).requires_grad_()
    mmd(z, z.detach(), unbiased=False).backward()
    assert z.grad.isfinite().all()


@one_kernel
@pytest.mark.parametrize("unbiased", [True, False])
def test_stein_discrepancy_is_its_definition_by_autograd(kernel, unbiased):
    """u from the derivatives of k, for a prior that is not standard."""
    prior = DiagonalNormal(torch.tensor([0.5, 0.0, -1.0]).double(), torch.tensor([1.0, 0.5, 2.0]).double())
    z, h = codes(4, 0.2), 1.1

    def u(a, b):
        ga, gb = (torch.func.grad(prior.log_prob)(point) for point in (a, b))
        of = partial(k, kernel, h=h)
        da, db = torch.func.grad(of, 0)(a, b), torch.func.grad(of, 1)(a, b)
        both = torch.func.jacfwd(torch.func.grad(of, 0), 1)(a, b)
        return ga @ gb * of(a, b) + ga @ db + gb @ da + both.trace()

    pairs = [(i, j) for i in range(4) for j in range(4) if i != j or not unbiased]
    expected = sum(u(z[i], z[j]) for i, j in pairs) / len(pairs)
    torch.testing.assert_close(stein_discrepancy(z, prior, kernel, h, unbiased), expected)


@one_kernel
def test_stein_discrepancy_is_zero_under_the_prior_and_positive_elsewhere(kernel, prior):
    torch.manual_seed(4)
    z = torch.randn(3000, 10, L, dtype=torch.float64)
    draws = torch.vmap(lambda z: stein_discrepancy(z, prior, kernel))
    assert z_scores(draws(z), 0.0).abs() < 4
    assert z_scores(draws(z + 0.5), 0.0) > 20
    assert z_scores(draws(z * 0.5), 0.0) > 20


@one_kernel
def test_steins_gradient_is_steepest_descent_and_its_value_the_squared_length(kernel, prior):
    h = 1.3
    z = codes(5, 0.7).requires_grad_()
    value = Stein(kernel, h)(z, prior)
    (gradient,) = torch.autograd.grad(value, z)
    for i, a in enumerate(z.detach()):
        direction = sum(
            k(kernel, b, a, h) * torch.func.grad(prior.log_prob)(b)
            + torch.func.grad(lambda b, a=a: k(kernel, b, a, h))(b)
            for b in z.detach()
        )
        torch.testing.assert_close(gradient[i], -direction / 5 / 5)
    squared_length = stein_discrepancy(z.detach(), prior, kernel, h, unbiased=False)
    torch.testing.assert_close(value.detach(), squared_length)


def test_following_steins_gradient_brings_the_moments_of_the_prior(prior):
    z = codes(200, 2.0) * 0.3
    start = mmd(z, codes(1000, seed=5)).item()
    for _ in range(300):
        z.requires_grad_()
        (gradient,) = torch.autograd.grad(Stein()(z, prior), z)
        z = (z - 0.5 * len(z) * gradient).detach()
    assert mmd(z, codes(1000, seed=5)) < 0.02 * start
    assert z.mean(0).abs().max() < 0.05
    assert (z.std(0) - 1).abs().max() < 0.15


def shifted_by(m):
    """The discriminator that knows log q/p = mz − m²/2 for q = N(m, 1), p = N(0, 1)."""
    adversary = Adversarial(1, hidden=()).double()
    with torch.no_grad():
        adversary.net[1].weight.fill_(m)
        adversary.net[1].bias.fill_(-(m**2) / 2)
    return adversary


def test_a_discriminator_that_knows_the_ratio_tells_js_and_kl(prior):
    m, grid = 1.5, torch.linspace(-12, 14, 20_001, dtype=torch.float64)
    q, p = (torch.distributions.Normal(mean, 1.0).log_prob(grid) for mean in (m, 0.0))
    middle = torch.logaddexp(q, p) - math.log(2)
    js = torch.trapezoid((q.exp() * (q - middle) + p.exp() * (p - middle)) / 2, grid)
    prior = standard_normal(1, grid)
    torch.manual_seed(6)
    adversary = shifted_by(m)
    with torch.no_grad():
        draws = torch.stack([adversary(codes(500, m, seed, 1), prior) for seed in range(200)])
        assert z_scores(draws, js).abs() < 4
        wrong = shifted_by(m / 3)
        draws = torch.stack([wrong(codes(500, m, seed, 1), prior) for seed in range(200)])
        assert z_scores(draws, js) < -8
        adversary.of = "kl"
        draws = torch.stack([adversary(codes(500, m, seed, 1), prior) for seed in range(200)])
        assert z_scores(draws, m**2 / 2).abs() < 4


def test_the_discriminators_loss_is_logistic_and_leaves_the_codes_alone(prior):
    torch.manual_seed(7)
    adversary = Adversarial(L).double()
    z = codes(50, 0.5).requires_grad_()
    loss = adversary.loss(z, prior)
    loss.backward()
    assert z.grad is None and all(p.grad is not None for p in adversary.parameters())
    torch.manual_seed(8)
    y = prior.sample((50,))
    logits = adversary.log_ratio(torch.cat((z, y)))
    labels = torch.cat((torch.ones(50), torch.zeros(50))).double()
    torch.manual_seed(8)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    torch.testing.assert_close(adversary.loss(z, prior), expected)


@one_kernel
@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("bandwidth", [None, 0.7, (0.5, 4.0)])
def test_the_objectives_divergence_is_the_function_with_the_same_settings(kernel, unbiased, bandwidth, prior):
    z = codes(6, 0.4)
    torch.manual_seed(9)
    y = prior.sample((6,))
    torch.manual_seed(9)
    torch.testing.assert_close(
        MMD(kernel, bandwidth, unbiased)(z, prior), mmd(z, y, kernel, bandwidth, unbiased)
    )
    of_stein = stein_discrepancy(z, prior, kernel, bandwidth, unbiased=False)
    torch.testing.assert_close(Stein(kernel, bandwidth)(z, prior), of_stein)


@pytest.mark.parametrize(
    "make", [MMD, lambda: MMD("imq", (1.0, 2.0)), Stein, lambda: Adversarial(L).double()]
)
def test_one_interface(make, prior):
    divergence = make()
    z = codes(20, 0.5).requires_grad_()
    value = divergence(z, prior)
    assert value.shape == ()
    (gradient,) = torch.autograd.grad(value, z)
    assert gradient.abs().sum() > 0
    with torch.no_grad():
        assert divergence(z, prior).isfinite()


@pytest.mark.parametrize("make", [MMD, Stein])
def test_bad_settings_are_errors_at_once(make):
    with pytest.raises(ValueError, match="kernel must be one of 'rbf', 'imq'"):
        make("gauss")
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().kernel = "gauss"  # settings are checked once
    for bandwidth in (0, -1.0, (1.0, 0.0), (), math.nan, math.inf):
        with pytest.raises(ValueError, match="bandwidth must be"):
            make(bandwidth=bandwidth)


def test_bad_codes_are_errors(prior):
    for z in (codes(1), codes(4)[0], [1.0, 2.0], codes(4).long()):
        with pytest.raises(ValueError, match=r"\(N, L\) with N >= 2"):
            mmd(z, codes(4))
        with pytest.raises(ValueError, match=r"\(N, L\) with N >= 2"):
            stein_discrepancy(z, prior)
    with pytest.raises(ValueError, match="kernel must be one of 'rbf', 'imq'; got 'gauss'"):
        mmd(codes(4), codes(4), "gauss")
    with pytest.raises(ValueError, match="kernel must be one of 'rbf', 'imq'; got 'gauss'"):
        stein_discrepancy(codes(4), prior, "gauss")
    with pytest.raises(ValueError, match="one L; got 3 and 2"):
        mmd(codes(4), codes(4, dim=2))
    with pytest.raises(ValueError, match="of must be one of 'js', 'kl'"):
        Adversarial(2, of="gan")
    with pytest.raises(ValueError, match="whole number"):
        vl.divergences.Adversarial(0)
