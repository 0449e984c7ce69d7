"""TwoClusters: every term against brute-force integration, and the two failures themselves."""

import math

import pytest
import torch
from torch import distributions as D

from vaelearn.toy import TwoClusters

PLACES = [(0.0, 1.0, 0.3), (0.8, 0.6, 0.4), (-1.5, 0.5, 0.2), (3.0, 1.7, 0.5)]


def normal(mean, sigma):
    return D.Normal(torch.as_tensor(mean, dtype=torch.float64), sigma)


def brute_force(mu, s, tau):
    """The same terms from a grid over (x, z), with nothing known but the densities."""
    x = torch.linspace(-1 - 9 * tau, 1 + 9 * tau, 1501, dtype=torch.float64)
    wide = abs(mu) * (1 + 9 * tau) + 9 * s
    z = torch.linspace(-wide, wide, 1501, dtype=torch.float64)
    dx, dz = x[1] - x[0], z[1] - z[0]
    log_data = torch.logaddexp(normal(-1.0, tau).log_prob(x), normal(1.0, tau).log_prob(x)) - math.log(2)
    log_q = normal(mu * x[:, None], s).log_prob(z)
    joint = (log_data[:, None] + log_q).exp() * dx * dz
    log_marginal = (joint.sum(0) / dz).log()
    mean = (joint * x[:, None]).sum(0) / joint.sum(0)
    sigma = (joint * (x[:, None] - mean) ** 2).sum().sqrt()
    log_prior = normal(0.0, 1.0).log_prob(z)
    return {
        "mutual_information": (joint * (log_q - log_marginal)).sum(),
        "marginal_kl": (joint * (log_marginal - log_prior)).sum(),
        "kl": (joint * (log_q - log_prior)).sum(),
        "gaussian": (joint * normal(mean, sigma).log_prob(x[:, None])).sum(),
        "any": (joint * (log_data[:, None] + log_q - log_marginal)).sum(),
        "entropy": -(joint * log_data[:, None]).sum(),
    }


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("decoder", ["gaussian", "any"])
def test_terms_agree_with_brute_force(place, decoder):
    toy, truth = TwoClusters(*place), brute_force(*place)
    terms = toy.terms(decoder)
    for name in ("mutual_information", "marginal_kl", "kl"):
        assert terms[name] == pytest.approx(truth[name].item(), abs=1e-8)
    assert terms["reconstruction"] == pytest.approx(truth[decoder].item(), abs=1e-8)
    assert terms["elbo"] == pytest.approx(truth[decoder].item() - truth["kl"].item(), abs=1e-8)
    assert toy.entropy() == pytest.approx(truth["entropy"].item(), abs=1e-8)


@pytest.mark.parametrize(("mu", "s"), [(0.7, 0.9), (2.0, 0.3), (30.0, 0.5)])
def test_two_points_have_the_closed_form_kl_and_at_most_log_2_of_information(mu, s):
    terms = TwoClusters(mu, s).terms()
    assert terms["kl"] == pytest.approx(0.5 * (mu**2 + s**2 - 1) - math.log(s), rel=1e-12)
    assert 0 < terms["mutual_information"] <= math.log(2) + 1e-12


def test_two_points_are_the_limit_of_narrow_clusters():
    narrow, points = TwoClusters(1.2, 0.6, 1e-5).terms(), TwoClusters(1.2, 0.6).terms()
    assert narrow == pytest.approx(points, abs=1e-7)


def test_inference_explodes_on_two_points_exactly_where_s_squared_is_at_most_a_half():
    def climb(s, low=20.0, high=40.0):
        return TwoClusters(high, s).terms()["elbo"] - TwoClusters(low, s).terms()["elbo"]

    assert climb(0.70) > 10
    assert climb(math.sqrt(0.5)) == pytest.approx(0.5 * math.log(2), abs=1e-3)
    assert climb(0.72) < -10


@pytest.mark.parametrize("place", PLACES)
def test_no_elbo_exceeds_minus_the_data_entropy_and_any_decoder_misses_it_by_the_marginal_kl(place):
    toy = TwoClusters(*place)
    gaussian, free = toy.terms(), toy.terms("any")
    assert gaussian["elbo"] <= free["elbo"] + 1e-12
    assert free["elbo"] == pytest.approx(-toy.entropy() - free["marginal_kl"], abs=1e-12)


def test_the_best_elbo_of_all_has_learned_nothing():
    toy = TwoClusters(0.0, 1.0, 0.3)
    terms = toy.terms("any")
    assert terms["mutual_information"] == pytest.approx(0, abs=1e-12)
    assert terms["elbo"] == pytest.approx(-toy.entropy(), abs=1e-12)


@pytest.mark.parametrize("bad", [(math.nan, 1, 0), (0, 0, 0), (0, -1, 0), (0, 1, -0.1), (0, math.inf, 0)])
def test_bad_places_are_refused(bad):
    with pytest.raises(ValueError, match="s > 0"):
        TwoClusters(*bad)


def test_bad_decoders_are_refused():
    with pytest.raises(ValueError, match="Did you mean 'gaussian'"):
        TwoClusters(0, 1, 1).terms("gausian")
    with pytest.raises(ValueError, match="no density"):
        TwoClusters(0, 1).terms("any")
