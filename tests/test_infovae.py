"""InfoVAE against its special cases, written out by hand, and against its other form in closed form."""

import itertools
import math

import pytest
import torch
from common import scrambled, z_scores
from torch import distributions as D

import vaelearn as vl
from vaelearn import metrics
from vaelearn.autoregressive import Autoregressive
from vaelearn.divergences import MMD, Adversarial, Stein, mmd
from vaelearn.networks import GaussianNet
from vaelearn.objectives import AAE, ELBO, WAE, BetaVAE, InfoVAE


@pytest.fixture
def truth():
    return scrambled(vl.exact.LinearGaussian(data_dim=3, latent_dim=2))


@pytest.fixture
def x(truth):
    torch.manual_seed(1)
    return truth.sample(6)[0]


def loss_and_gradients(truth, objective, x):
    torch.manual_seed(2)
    truth.zero_grad()
    step = objective(truth, x)
    step.backward()
    return step.e_step.detach(), *(p.grad.clone() for p in truth.parameters())


def by_hand(weight_of_kl, weight_of_mmd, kernel="rbf"):
    """The plain loss of each special case, from the model's own distributions."""

    def objective(model, x):
        q = model.posterior(x)
        z = q.rsample((1, 1))
        reconstruction = model.likelihood(z).log_prob(x)[0, 0]
        # KL(N(m, s²) ‖ N(0, 1)), summed over latents.
        kl = 0.5 * (q.mean**2 + q.variance - 1 - q.variance.log()).sum(1)
        loss = -(reconstruction - weight_of_kl * kl).mean()
        if weight_of_mmd:
            loss = loss + weight_of_mmd * mmd(z[0, 0], torch.randn(len(x), 2).to(z), kernel)
        return vl.objectives.Step(model, loss, loss, -loss.detach())

    return objective


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (InfoVAE(0.0, 1.0), ELBO(kl="analytic")),
        (InfoVAE(0.0, 1.0, kl="sampled"), ELBO(kl="sampled")),
        (BetaVAE(1.0), ELBO(kl="analytic")),
        (BetaVAE(0.7), by_hand(0.7, 0.0)),
        (BetaVAE(4.0), by_hand(4.0, 0.0)),
        (WAE(10.0), by_hand(0.0, 10.0, "imq")),
        (InfoVAE(0.0, 7.0), by_hand(1.0, 6.0)),
        (InfoVAE(0.3, 5.0, MMD("imq")), by_hand(0.7, 4.3, "imq")),
        (InfoVAE(-1.0, 5.0), by_hand(2.0, 3.0)),
    ],
    ids=lambda value: repr(value) if hasattr(value, "kl") else "by hand",  # no address: it differs by worker
)
def test_special_cases_are_the_plain_losses_and_have_their_gradients(truth, x, objective, expected):
    torch.testing.assert_close(
        loss_and_gradients(truth, objective, x), loss_and_gradients(truth, expected, x)
    )


def test_aae_is_reconstruction_less_the_discriminators_divergence(truth, x):
    torch.manual_seed(3)
    adversary = Adversarial(2).double()
    step = AAE(adversary, lam=2.5)(truth, x)
    terms = step.terms
    torch.testing.assert_close(step.bound, terms["reconstruction"] - 2.5 * terms["divergence"])
    assert step.critic is adversary


@pytest.mark.parametrize("alpha", [0.0, 0.6, -2.0])
def test_both_forms_of_the_objective_agree_where_all_is_gaussian(truth, alpha):
    """−λ KL(q(z)‖p) − E KL(q(x|z)‖p(x|z)) + α I(x;z) − H(p_D), every term from the joint q(x, z)."""
    lam = 3.0
    # The data are another Gaussian than the model's: p_D = N(m, S).
    m = torch.tensor([0.5, -1.0, 0.3]).double()
    root = torch.tensor([[1.0, 0, 0], [0.5, 0.8, 0], [-0.3, 0.2, 0.6]]).double()
    S, A, s2 = root @ root.T, truth.A.detach(), (2 * truth.log_s.detach()).exp()
    data = D.MultivariateNormal(m, S)
    aggregate = D.MultivariateNormal(A @ m + truth.c.detach(), A @ S @ A.T + s2.diag())
    noise = D.MultivariateNormal(torch.zeros(2).double(), s2.diag())
    prior = D.MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double())
    marginal_kl = D.kl_divergence(aggregate, prior)
    information = aggregate.entropy() - noise.entropy()
    # E_q(z) KL(q(x|z) ‖ p(x|z)) = −H_q(x|z) − E_q[log p(x|z)], with H_q(x|z) = H(x) + H(z|x) − H(z).
    conditional_entropy = data.entropy() - information
    W, b, v = truth.W.detach(), truth.b.detach(), (2 * truth.log_sigma.detach()).exp()
    residual = torch.eye(3).double() - W @ A
    offset = residual @ m - W @ truth.c.detach() - b
    squares = offset.square().sum() + (residual @ S @ residual.T + W @ s2.diag() @ W.T).trace()
    log_likelihood = -0.5 * (3 * math.log(2 * math.pi) + 3 * v.log() + squares / v)
    other_form = -lam * marginal_kl - (-conditional_entropy - log_likelihood) + alpha * information
    other_form -= data.entropy()

    def exact(z, prior):
        return marginal_kl

    torch.manual_seed(4)
    with torch.no_grad():
        draws = InfoVAE(alpha, lam, exact)(truth, data.sample((200_000,))).bound
    assert z_scores(draws, other_form).abs() < 4
    # ... and the information and the marginal KL are the two parts of the averaged KL.
    rows = data.sample((4000,))
    kl = D.kl_divergence(truth.posterior(rows), truth.prior())
    assert z_scores(kl, information + marginal_kl).abs() < 4


@pytest.mark.parametrize("divergence", [MMD(), Stein(), None], ids=repr)
def test_the_terms_add_up_and_are_detached(truth, x, divergence):
    step = InfoVAE(0.2, 4.0, divergence)(truth, x)
    t = step.terms
    assert list(t) == ["reconstruction", "kl", "divergence"]
    assert all(value.shape == (6,) and not value.requires_grad for value in [*t.values(), step.bound])
    torch.testing.assert_close(step.bound, t["reconstruction"] - 0.8 * t["kl"] - 3.2 * t["divergence"])
    torch.testing.assert_close(step.e_step, -step.bound.mean())
    assert list(BetaVAE(2.0)(truth, x).terms) == ["reconstruction", "kl"]


def test_fit_reports_the_terms(truth, x):
    data = vl.data.Dataset("toy", x, x, x, (3,))
    run = vl.fit(truth, InfoVAE(0.0, 3.0), data, epochs=2, batch_size=3, progress=False, device="cpu")
    for which in ("train", "valid"):
        history = {
            name: run.history[f"{which}{name}"][1] for name in ("", " reconstruction", " kl", " divergence")
        }
        total = history[" reconstruction"] - history[" kl"] - 2 * history[" divergence"]
        assert history[""] == pytest.approx(total)


def train_adversarially(truth, x, **settings):
    torch.manual_seed(5)
    objective = AAE(Adversarial(2, (8,)).double())
    before = [p.clone() for p in objective.parameters()]
    vl.fit(truth, objective, x, batch_size=3, progress=False, device="cpu", **settings)
    return [
        (p - b).abs().max().item() for p, b in zip(objective.parameters(), before, strict=True)
    ], objective


def test_the_discriminator_learns_at_its_own_rate(truth, x):
    moved, _ = train_adversarially(truth, x, epochs=1, critic_lr=0.0)
    assert max(moved) == 0
    # Adam's first steps are as long as the learning rate: two batches of them.
    moved, _ = train_adversarially(truth, x, epochs=1, critic_lr=1e-5)
    assert 1e-5 < max(moved) < 2.5e-5
    moved, _ = train_adversarially(truth, x, epochs=2, lr=lambda epoch: 1e-5 if epoch else 0.0)
    assert 1e-5 < max(moved) < 2.5e-5  # the model's own rate, schedule and all, where none is given


def test_an_adversarial_run_resumes_bit_for_bit_and_knows_its_critics_rate(truth, x, tmp_path):
    start = {name: value.clone() for name, value in truth.state_dict().items()}
    _, whole = train_adversarially(truth, x, epochs=4, critic_lr=1e-2)
    end = {name: value.clone() for name, value in truth.state_dict().items()}
    truth.load_state_dict(start)
    settings = {"critic_lr": 1e-2, "checkpoint": tmp_path / "run.pt"}
    train_adversarially(truth, x, epochs=2, **settings)
    _, resumed = train_adversarially(truth, x, epochs=4, **settings)
    torch.testing.assert_close(dict(truth.state_dict()), end, rtol=0, atol=0)
    torch.testing.assert_close(dict(resumed.state_dict()), dict(whole.state_dict()), rtol=0, atol=0)
    with pytest.raises(ValueError, match="critic_lr"):
        train_adversarially(truth, x, epochs=4, **(settings | {"critic_lr": 1e-3}))


def test_no_gradient_leaks_between_model_and_discriminator(truth, x):
    torch.manual_seed(6)
    objective = AAE(Adversarial(2, (8,)).double())
    loss_and_gradients(truth, objective, x)
    torch.manual_seed(2)
    draw = truth.draw(x)
    with torch.no_grad():
        truth.prior().sample((len(x),))  # the divergence's own samples come first
    expected = torch.autograd.grad(
        objective.divergence.loss(draw.z[0, 0], truth.prior()), list(objective.parameters())
    )
    for p, value in zip(objective.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, value)


def test_bad_settings_are_errors():
    with pytest.raises(ValueError, match=r"got -0\.999.*\*reward\*.*raise lam to 1 or more"):
        InfoVAE(alpha=0.0, lam=1e-3)
    with pytest.raises(ValueError, match="alpha must be <= 1"):
        InfoVAE(alpha=1.5)
    with pytest.raises(ValueError, match="beta must be >= 0"):
        BetaVAE(-0.1)
    with pytest.raises(ValueError, match="alpha must be <= 1"):
        InfoVAE(alpha=math.nan)
    with pytest.raises(ValueError, match="kl must be one of"):
        InfoVAE(kl="closed")


def test_a_batch_of_one_and_a_discrete_code_are_refused(truth, x):
    with pytest.raises(ValueError, match="N >= 2 codes"):
        InfoVAE()(truth, x[:1])
    mixture = vl.exact.GaussianMixture(3, 4).double()
    with pytest.raises(ValueError, match="no reparameterized samples"):
        InfoVAE()(mixture, x)


# The autoregressive decoder --------------------------------------------------------------


@pytest.fixture
def decoder():
    torch.manual_seed(7)
    decoder = Autoregressive(2, (9, 6), 5).double()
    for p in decoder.parameters():
        p.data.add_(0.5 * torch.randn_like(p))
    return decoder


def every_image(dim=5):
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=dim))).double()


def test_autoregressive_probabilities_sum_to_one(decoder):
    z = torch.randn(3, 2).double()
    log_p = decoder(z[:, None]).log_prob(every_image())
    assert log_p.shape == (3, 32)
    torch.testing.assert_close(log_p.logsumexp(1), torch.zeros(3).double())
    assert (log_p[0] - log_p[1]).abs().max() > 0.1


def test_each_pixel_sees_all_before_it_and_none_after(decoder):
    z = torch.randn(2).double()
    seen = torch.autograd.functional.jacobian(lambda x: decoder.network(x, z), every_image()[13]) != 0
    assert (seen == torch.ones(5, 5).tril(-1).bool()).all()


@pytest.mark.parametrize("hidden", [(1,), (2,), (6,), (7,), (40,), (3, 40), (40, 3), (5, 2, 9), (6, 6, 6)])
@pytest.mark.parametrize("dim", [2, 3, 7, 30])
def test_each_pixel_sees_all_before_it_and_none_after_at_every_width_and_depth(hidden, dim):
    torch.manual_seed(1)
    decoder = Autoregressive(2, hidden, dim).double()
    x, z = torch.rand(dim).double(), torch.randn(2).double()
    seen = torch.autograd.functional.jacobian(lambda x: decoder.network(x, z), x) != 0
    assert (seen == torch.ones(dim, dim).tril(-1).bool()).all()


def test_hidden_units_are_spread_over_the_pixels():
    """Beyond the direct, linear connection: a layer of 4 hears pixels from all over an image of 41."""
    decoder = Autoregressive(2, (4,), 41)
    assert decoder.layers[0].mask.sum(1).tolist() == [1, 11, 21, 31]
    assert decoder.logits.mask[-1].all() and not decoder.logits.mask[0].any()


def test_a_pixel_that_copies_the_first_is_learned_by_a_narrow_network():
    """Every pixel but the last is a coin, the last copies the first: the truth is −7 log 2 exactly."""
    coins = torch.randint(2, (400, 7), generator=torch.Generator().manual_seed(0)).float()
    x = torch.cat((coins, coins[:, :1]), 1)
    torch.manual_seed(0)
    model = vl.models.VAE(GaussianNet(8, (8,), 1), Autoregressive(1, (2,), 8), 8, 1)
    run = vl.fit(model, ELBO(), x, epochs=25, lr=0.05, progress=False, device="cpu")
    assert abs(run.history["train"][-1] + 7 * math.log(2)) < 0.2


def test_every_pixel_sees_z_the_first_directly_and_the_others_through_hidden_units_too(decoder):
    x, z = every_image()[13], torch.randn(2).double()

    def seen():
        return (torch.autograd.functional.jacobian(lambda z: decoder.network(x, z), z) != 0).any(1).tolist()

    assert seen() == [True] * 5
    torch.nn.init.zeros_(decoder.of_z_at_once.weight)
    assert seen() == [False] + [True] * 4  # before the first pixel there is nothing for a hidden unit to see


def test_autoregressive_samples_have_the_probabilities(decoder):
    z = torch.randn(2).double()
    torch.manual_seed(8)
    x = decoder(z).sample((40_000,))
    is_image = (x[:, None] == every_image()).all(2).double()
    assert z_scores(is_image, decoder(z).log_prob(every_image()).exp()).abs().max() < 4
    assert decoder(torch.randn(4, 2).double()).sample().shape == (4, 5)


def test_sampling_shows_a_bar_if_asked(decoder, capsys):
    decoder(torch.randn(2).double()).sample()
    assert capsys.readouterr().err == ""
    decoder(torch.randn(2).double()).sample(progress=True)
    assert "5/5" in capsys.readouterr().err


def test_an_autoregressive_vae_draws_trains_and_dreams(decoder):
    model = vl.models.VAE(GaussianNet(5, (8,), 2), decoder, 5, 2).double()
    x = every_image()
    assert model.draw(x, (4, 3)).log_w.shape == (4, 3, 32)
    before = metrics.log_likelihood(model, x, 200).mean()
    vl.fit(model, ELBO(), x, epochs=20, lr=0.01, progress=False, device="cpu")
    # The images are uniform: nothing does better than −5 log 2.
    assert before < metrics.log_likelihood(model, x, 200).mean() < -5 * math.log(2) + 0.05
    assert model.sample(7)[0].shape == (7, 5)
    assert metrics.gradient_draws(model, BetaVAE(2.0), x, 3)["decoder.of_z.weight"].shape == (3, 9, 2)


def test_bad_decoders_are_errors():
    for arguments in ((0, (4,), 5), (2, (4,), 1), (2, (), 5), (2, (0,), 5)):
        with pytest.raises(ValueError, match=r"whole number|one hidden layer"):
            Autoregressive(*arguments)


# What the code knows ---------------------------------------------------------------------


def gaussian_truth(truth):
    """(I(x; z), KL(q(z) ‖ p(z)), log det Cov[z]) when x comes from the model's own marginal."""
    S = truth.marginal().covariance_matrix
    cov = truth.A @ S @ truth.A.T + (2 * truth.log_s).exp().diag()
    aggregate = D.MultivariateNormal(truth.A @ truth.b + truth.c, cov)
    prior = D.MultivariateNormal(torch.zeros(2).double(), torch.eye(2).double())
    information = 0.5 * (cov.logdet() - 2 * truth.log_s.sum())
    return information, D.kl_divergence(aggregate, prior), cov.logdet()


def test_information_closes_on_the_truth_from_the_side_it_says(truth):
    with torch.no_grad():
        truth.log_s.sub_(1.0)  # a code that knows enough for 20 rows to miss a part of it
    information, marginal_kl, _ = (value.detach() for value in gaussian_truth(truth))
    torch.manual_seed(9)
    biases = []
    for N, repeats in ((20, 400), (2000, 8)):
        found = [metrics.information(truth, truth.sample(N)[0]) for _ in range(repeats)]
        means = {name: torch.stack([f[name].mean() for f in found]) for name in found[0]}
        torch.testing.assert_close(means["kl"], means["mutual_information"] + means["marginal_kl"])
        assert torch.stack([f["mutual_information"] for f in found]).max() <= math.log(N) + 1e-9
        assert z_scores(means["kl"], information + marginal_kl).abs() < 4
        biases.append((means["mutual_information"].mean() - information).item())
        if N == 20:
            assert z_scores(means["mutual_information"], information) < -8
            assert z_scores(means["marginal_kl"], marginal_kl) > 4
    assert abs(biases[1]) < 0.1 * abs(biases[0])


def test_information_is_unbiased_for_the_rows_as_population(truth):
    """Two rows: the entropy of which row a code came from, by quadrature over a 1-D code."""
    truth = scrambled(vl.exact.LinearGaussian(3, 1), scale=0.6)
    torch.manual_seed(9)
    x = truth.sample(2)[0]
    q = truth.posterior(x)
    grid = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    log_q = q.log_prob(grid[:, None, None])
    log_mean = log_q.logsumexp(1) - math.log(2)
    expected = torch.trapezoid((log_q.exp() * (log_q - log_mean[:, None])).mean(1), grid).detach()
    torch.manual_seed(10)
    draws = torch.stack([metrics.information(truth, x)["mutual_information"].mean() for _ in range(4000)])
    assert 0.01 < expected < math.log(2)
    assert z_scores(draws, expected).abs() < 4


@pytest.mark.parametrize("rows", [1, 30, 10_000])
def test_information_in_chunks_is_the_same(truth, x, rows):
    torch.manual_seed(11)
    expected = metrics.information(truth, x)
    torch.manual_seed(11)
    torch.testing.assert_close(metrics.information(truth, x, rows=rows), expected)


def test_information_knows_two_layers():
    torch.manual_seed(12)
    model = vl.models.TwoLayerVAE.mlp(4, (3, 2), ((6,), (5,))).double()
    found = metrics.information(model, torch.rand(8, 4).double())
    assert found["kl"].shape == (8,) and found["mutual_information"].mean() < math.log(8)


def test_log_det_covariance_closes_on_the_truth(truth):
    torch.manual_seed(13)
    found = metrics.log_det_covariance(truth, truth.sample(200_000)[0])
    torch.testing.assert_close(found, gaussian_truth(truth)[2].detach(), atol=0.02, rtol=0)
    with pytest.raises(ValueError, match="2 rows of x or more; got 1"):
        metrics.log_det_covariance(truth, truth.sample(1)[0])
    two = vl.models.TwoLayerVAE.mlp(4, (3, 2), ((6,), (5,)))
    with pytest.raises(ValueError, match="a Chain does not"):
        metrics.log_det_covariance(two, torch.rand(8, 4))


@pytest.mark.parametrize("N", [2, 3])
def test_log_det_covariance_is_that_of_an_even_mixture_of_the_rows_codes(truth, N):
    """E[zzᵀ] − E[z] E[z]ᵀ with N components of weight 1/N, not 1/(N − 1)."""
    x = truth.sample(N)[0]
    q = truth.posterior(x)
    second = (q.mean[:, :, None] * q.mean[:, None] + torch.diag_embed(q.variance)).mean(0)
    expected = torch.logdet(second - torch.outer(q.mean.mean(0), q.mean.mean(0)))
    torch.testing.assert_close(metrics.log_det_covariance(truth, x), expected.detach())


def test_few_labels_suffice_where_codes_separate_and_not_where_labels_are_noise():
    torch.manual_seed(14)
    truth = vl.exact.LinearGaussian(2, 2).double()
    with torch.no_grad():
        truth.A.copy_(torch.eye(2))
    labels = torch.arange(400) % 4
    corners = torch.tensor([[3.0, 3], [3, -3], [-3, 3], [-3, -3]]).double()
    x = corners[labels] + 0.3 * torch.randn(400, 2).double()
    accuracy = metrics.few_label_accuracy(truth, (x, labels), (x, labels), per_class=2)
    assert accuracy == 1.0
    noise = labels[torch.randperm(400)]
    assert metrics.few_label_accuracy(truth, (x, noise), (x, noise), per_class=5) < 0.45
    # The labels shown depend on the seed alone.
    one, other = (metrics.few_label_accuracy(truth, (x, noise), (x, noise), 5, seed) for seed in (0, 0))
    assert one == other
    with pytest.raises(ValueError, match="a class has 100 labelled rows; 101"):
        metrics.few_label_accuracy(truth, (x, labels), (x, labels), per_class=101)
