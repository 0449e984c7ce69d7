"""Every bound against a plain double loop, at K ≠ M ≠ B, and its limits."""

import math

import pytest
import torch

from vaelearn import bounds

K, M, B = 5, 3, 4


@pytest.fixture
def log_w():
    return 3 * torch.randn(K, M, B, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def by_hand(log_w, reduce):
    """Apply reduce (list of K floats -> float) to each (m, b), with no tensor code at all."""
    return torch.tensor(
        [[reduce([log_w[k, m, b].item() for k in range(K)]) for b in range(B)] for m in range(M)],
        dtype=log_w.dtype,
    )


def l_k(values):
    return math.log(sum(math.exp(v) for v in values) / len(values))


def mean(values):
    return sum(values) / len(values)


def test_elbo_is_the_mean_over_k(log_w):
    torch.testing.assert_close(bounds.elbo(log_w), by_hand(log_w, mean))


def test_iwae_is_log_mean_exp_over_k(log_w):
    torch.testing.assert_close(bounds.iwae(log_w), by_hand(log_w, l_k))


def test_miwae_averages_l_k_over_m(log_w):
    torch.testing.assert_close(bounds.miwae(log_w), by_hand(log_w, l_k).mean(0))
    assert bounds.miwae(log_w).shape == (B,)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_ciwae_mixes_elbo_and_iwae(log_w, beta):
    expected = beta * by_hand(log_w, mean) + (1 - beta) * by_hand(log_w, l_k)
    torch.testing.assert_close(bounds.ciwae(log_w, beta), expected)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 2.0])
def test_vr_is_a_power_mean_of_weights(log_w, alpha):
    expected = by_hand(log_w, lambda v: l_k([(1 - alpha) * u for u in v]) / (1 - alpha))
    torch.testing.assert_close(bounds.vr(log_w, alpha), expected)


def test_vr_meets_iwae_at_0_and_the_elbo_at_1(log_w):
    torch.testing.assert_close(bounds.vr(log_w, 0), bounds.iwae(log_w))
    torch.testing.assert_close(bounds.vr(log_w, 1), bounds.elbo(log_w))
    torch.testing.assert_close(bounds.vr(log_w, 1 - 1e-7), bounds.elbo(log_w), atol=1e-5, rtol=0)


def test_vr_falls_as_alpha_grows(log_w):
    values = torch.stack([bounds.vr(log_w, a) for a in (0, 0.5, 1, 2, 5)])
    assert (values.diff(dim=0) < 0).all()


@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_log_mean_exp_divides_by_the_size_of_its_own_dimension(log_w, dim):
    torch.testing.assert_close(bounds.log_mean_exp(log_w, dim), log_w.exp().mean(dim).log())


def test_equal_weights_make_every_bound_that_weight():
    log_w = torch.full((K, M, B), -7.0)
    for bound in (bounds.elbo, bounds.iwae, lambda w: bounds.ciwae(w, 0.4), lambda w: bounds.vr(w, 3)):
        torch.testing.assert_close(bound(log_w), torch.full((M, B), -7.0))


@pytest.mark.parametrize("level", [-544.0, 544.0, -1e5])
def test_float32_survives_weights_that_do_not_fit_in_float32(level):
    log_w = torch.full((K, M, B), level)
    torch.testing.assert_close(bounds.iwae(log_w), torch.full((M, B), level))


def test_a_weight_of_zero_counts_as_zero():
    log_w = torch.tensor([[0.0], [-math.inf]])
    torch.testing.assert_close(bounds.iwae(log_w), torch.tensor([-math.log(2)]))


def test_batch_of_one_and_batch_of_many_agree(log_w):
    for bound in (bounds.elbo, bounds.iwae, bounds.miwae):
        torch.testing.assert_close(bound(log_w)[..., 1:2], bound(log_w[..., 1:2]))


def test_gradient_of_iwae_is_the_normalised_weights(log_w):
    log_w.requires_grad_()
    bounds.iwae(log_w).sum().backward()
    torch.testing.assert_close(log_w.grad, log_w.detach().softmax(0))


@pytest.mark.parametrize("bound", [bounds.elbo, bounds.iwae, bounds.miwae])
def test_no_samples_is_an_error(bound):
    with pytest.raises(ValueError, match=r"K >= 1; got \(0, 3, 4\)"):
        bound(torch.zeros(0, M, B))
    with pytest.raises(ValueError, match="K >= 1"):
        bound(torch.zeros(()))


def test_miwae_needs_m():
    with pytest.raises(ValueError, match=r"M >= 1; got \(5,\)"):
        bounds.miwae(torch.zeros(5))


def test_wrong_types_are_an_error():
    with pytest.raises(TypeError, match="got list"):
        bounds.iwae([1.0, 2.0])
    with pytest.raises(TypeError, match=r"torch\.int64"):
        bounds.iwae(torch.zeros(5, 3, 4, dtype=torch.long))


@pytest.mark.parametrize("beta", [-0.1, 1.1, math.nan])
def test_beta_outside_0_1_is_an_error(log_w, beta):
    with pytest.raises(ValueError, match="beta must lie in"):
        bounds.ciwae(log_w, beta)


@pytest.mark.parametrize("alpha", [-0.1, math.inf, math.nan])
def test_alpha_below_0_is_an_error(log_w, alpha):
    with pytest.raises(ValueError, match="alpha must be"):
        bounds.vr(log_w, alpha)
