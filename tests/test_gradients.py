"""Every estimator's mean is the exact gradient; each variance claim holds; nothing leaks."""

import pytest
import torch
from common import (
    OBJECTIVES,
    assert_means,
    elbo,
    gradient_of,
    phi,
    rows,
    scrambled,
    theta,
    z_scores,
)
from torch import nn

import vaelearn as vl
from vaelearn import distributions, gradients, metrics, models
from vaelearn.objectives import ELBO, STL, ScoreFunction, WakeSleep

B, D = 3, 4


@pytest.fixture
def truth():
    return scrambled(vl.exact.LinearGaussian(D, 2))


@pytest.fixture
def mixture():
    return scrambled(vl.exact.GaussianMixture(D, 5))


def data(model):
    torch.manual_seed(1)
    return model.sample(B)[0]


def total_variance(draws, names):
    return sum(draws[name].var(0).sum() for name in names).item()


def learned(K=2):
    torch.manual_seed(2)
    return ScoreFunction(K, gradients.LearnedBaseline(D, (6,)).double())


def test_a_baseline_that_sees_its_own_sample_is_biased(truth):
    """Dividing by K, or leaving nothing out, shrinks the gradient to (K − 1)/K of itself."""
    x, K = data(truth), 2

    class KeepsItself(nn.Module):
        def __call__(self, model, x):
            draw = model.draw(x, (K, 1), pathwise=False)
            loss = -gradients.score_function(draw, draw.log_w - draw.log_w.mean(0)).mean()
            return vl.objectives.Step(model, loss, loss, loss)

    torch.manual_seed(5)
    draws = metrics.gradient_draws(truth, KeepsItself(), x, 20_000)
    value = truth.gradient(x)
    assert z_scores(draws["c"], value["c"]).abs().max() > 8
    assert z_scores(draws["c"], value["c"] * (K - 1) / K).abs().max() < 4


def test_leave_one_out_is_the_mean_of_the_others():
    log_w = torch.randn(5, 3, 4, dtype=torch.float64)
    by_hand = torch.stack([torch.cat([log_w[:k], log_w[k + 1 :]]).mean(0) for k in range(5)])
    torch.testing.assert_close(gradients.leave_one_out(log_w), by_hand)


def test_the_surrogates_gradient_is_reward_times_score_sample_by_sample(truth):
    """Nothing passes through log w or the baseline, though both depend on φ here."""
    x, phi = data(truth), truth.inference_parameters()
    draw = truth.draw(x, (5, 2), pathwise=False)
    baseline = draw.log_w.mean(0) + truth.c.sum()
    reward = draw.log_w - baseline
    by_hand = [torch.zeros_like(p) for p in phi]
    for k in range(5):
        for m in range(2):
            for b in range(B):
                score = torch.autograd.grad(draw.log_q[k, m, b], phi, retain_graph=True)
                by_hand = [h + reward[k, m, b].detach() * s for h, s in zip(by_hand, score, strict=True)]
    found = torch.autograd.grad(gradients.score_function(draw, reward).sum(), phi)
    torch.testing.assert_close(found, tuple(by_hand))


def test_a_learned_baseline_learns_what_it_is_shown(truth):
    x = data(truth)
    target = truth.elbo(x).detach() / 10
    torch.manual_seed(2)
    baseline = gradients.LearnedBaseline(D, (50,)).double()
    adam = torch.optim.Adam(baseline.parameters(), lr=0.02)
    for _ in range(500):
        adam.zero_grad()
        baseline.loss(x, target).backward()
        adam.step()
    torch.testing.assert_close(baseline(x), target, rtol=1e-3, atol=0)


def test_leave_one_out_has_less_variance_than_no_baseline(truth, mixture):
    for model, encoder in ((truth, ("A", "c", "log_s")), (mixture, ("A", "a"))):
        x = data(model)
        torch.manual_seed(6)
        plain, rloo = (
            total_variance(metrics.gradient_draws(model, ScoreFunction(5, b), x, 4000), encoder)
            for b in (None, "leave-one-out")
        )
        assert rloo < 0.7 * plain


def at_its_posterior():
    truth = vl.exact.LinearGaussian(D, 1).double()
    truth.perfect_e_step()
    return truth


def test_stl_has_no_variance_where_q_is_the_posterior():
    truth = at_its_posterior()
    x = data(truth)
    stl = metrics.gradient_draws(truth, STL(), x, 100)
    for name in ("A", "c", "log_s"):
        assert stl[name].abs().max() < 1e-12
    plain = metrics.gradient_draws(truth, ELBO(), x, 100)
    assert total_variance(plain, ("A", "c", "log_s")) > 0.1


def test_score_bound_has_the_value_of_the_bound(truth):
    draw = truth.draw(data(truth), (5, 3), pathwise=False)
    bound = vl.bounds.iwae(draw.log_w)
    torch.testing.assert_close(
        gradients.score_bound(draw, bound, gradients.left_out_bound(draw.log_w)), bound
    )


def test_path_derivative_has_the_value_of_log_w(truth):
    draw = truth.draw(data(truth), (5, 3))
    torch.testing.assert_close(gradients.path_derivative(draw), draw.log_w)


def test_the_score_has_mean_zero(truth):
    x = data(truth)
    torch.manual_seed(7)
    draws = []
    for _ in range(2000):
        draw = truth.draw(x, (5, 1), pathwise=False)
        draws.append(
            torch.cat(
                [g.flatten() for g in torch.autograd.grad(draw.log_q.mean(), truth.inference_parameters())]
            )
        )
    assert z_scores(torch.stack(draws), 0.0).abs().max() < 4


def test_a_step_never_leaks(truth):
    """Changing one player's loss leaves the other two players' gradients alone."""
    objective, x = learned(), data(truth)
    players = {
        "φ": truth.inference_parameters(),
        "θ": truth.generative_parameters(),
        "critic": list(objective.parameters()),
    }
    found = {}
    for scaled in (None, "e_step", "m_step", "critic_loss"):
        truth.zero_grad()
        objective.zero_grad()
        torch.manual_seed(9)
        step = objective(truth, x)
        if scaled:
            step = type(step)(**{**vars(step), scaled: 3 * getattr(step, scaled)})
        step.backward()
        found[scaled] = {p: torch.cat([q.grad.flatten() for q in members]) for p, members in players.items()}
    for player, own in (("φ", "e_step"), ("θ", "m_step"), ("critic", "critic_loss")):
        assert found[None][player].abs().max() > 0
        for scaled in ("e_step", "m_step", "critic_loss"):
            factor = 3 if scaled == own else 1
            torch.testing.assert_close(found[scaled][player], factor * found[None][player])


def test_moving_average_is_unbiased_from_the_first_step_and_still_in_evaluation():
    baseline = gradients.MovingAverage(decay=0.9)
    assert baseline(None) == 0
    for value in (-5.0, -5.0, -5.0):
        baseline.loss(None, torch.tensor([value, value]))
        torch.testing.assert_close(baseline(None), torch.tensor(-5.0))
    with torch.no_grad():
        baseline.loss(None, torch.tensor([100.0]))
    baseline.eval().loss(None, torch.tensor([100.0]))
    torch.testing.assert_close(baseline(None), torch.tensor(-5.0))


@pytest.mark.parametrize("name", ["ScoreFunction, moving average", "ScoreFunction, learned"])
def test_a_baseline_has_not_seen_the_sample_it_is_subtracted_from(truth, name):
    """In training, where each step teaches it: the step itself is still judged by what was known before."""
    x, objective = data(truth), OBJECTIVES[name](truth, 5).train()
    for seed in (21, 22, 23):
        before = objective.baseline(x).clone()
        torch.manual_seed(seed)
        step = objective(truth, x)
        torch.manual_seed(seed)
        draw = truth.draw(x, (5, 1), pathwise=False)
        expected = -gradients.score_function(draw, draw.log_w - before).mean()
        torch.testing.assert_close(step.e_step, expected)


@pytest.mark.parametrize("decay", [0.0, 0.99])
def test_a_moving_average_of_one_value_is_that_value_at_any_decay(decay):
    baseline = gradients.MovingAverage(decay)
    baseline.loss(None, torch.tensor([-5.0]))
    torch.testing.assert_close(baseline(None), torch.tensor(-5.0))
    with pytest.raises(ValueError, match=r"\[0, 1\); got -0.1"):
        gradients.MovingAverage(-0.1)


def test_fit_trains_a_learned_baseline_and_resumes_it(tmp_path):
    x = data(scrambled(vl.exact.LinearGaussian(D, 2))).repeat(20, 1)

    def train(epochs, checkpoint=None):
        model, objective = scrambled(vl.exact.LinearGaussian(D, 2), seed=5), learned()
        vl.fit(
            model,
            objective,
            x,
            epochs,
            batch_size=20,
            lr=0.02,
            checkpoint=checkpoint,
            progress=False,
            device="cpu",
        )
        return torch.cat([p.detach().flatten() for p in [*model.parameters(), *objective.parameters()]])

    before = torch.cat([p.detach().flatten() for p in learned().parameters()])
    whole = train(6)
    assert (whole[-len(before) :] - before).abs().max() > 0.01
    train(2, tmp_path / "run.pt")
    assert torch.equal(train(6, tmp_path / "run.pt"), whole)


def test_fit_by_score_function_raises_a_discrete_elbo(mixture):
    torch.manual_seed(10)
    x = mixture.sample(200)[0]
    model = vl.exact.GaussianMixture(D, 5, seed=3).double()
    before = model.elbo(x).mean().item()
    vl.fit(model, ScoreFunction(4, "leave-one-out"), x, epochs=60, lr=0.03, progress=False, device="cpu")
    assert model.elbo(x).mean().item() > before + 1


def test_snr_and_moments_agree_with_the_draws(truth):
    x = data(truth)
    torch.manual_seed(11)
    draws = metrics.gradient_draws(truth, ELBO(K=3), x, 400)
    torch.manual_seed(11)
    moments = metrics.gradient_moments(truth, ELBO(K=3), x, draws=400, chunk=400)
    for name, (mean, variance) in moments.items():
        torch.testing.assert_close(mean, draws[name].mean(0))
        torch.testing.assert_close(variance, draws[name].var(0))
    torch.manual_seed(11)
    snr = metrics.gradient_snr(truth, ELBO(K=3), x, draws=400, chunk=400)
    assert snr["inference"].shape == (2 * D + 2 + 2,)
    assert snr["generative"].shape == (2 * D + D + 1,)
    torch.testing.assert_close(
        snr["generative"][: 2 * D], (draws["W"].mean(0).abs() / draws["W"].std(0)).flatten()
    )


@pytest.mark.parametrize("chunk", [1, 7, 50, 1000])
def test_moments_are_the_same_in_any_chunks(truth, monkeypatch, chunk):
    draws = torch.randn(50, 2, dtype=torch.float64) + torch.linspace(0, 9, 50).double()[:, None]
    at = 0

    def slices(model, objective, x, n):
        nonlocal at
        at += n
        return {"A": draws[at - n : at]}

    monkeypatch.setattr(metrics, "gradient_draws", slices)
    mean, variance = metrics.gradient_moments(truth, ELBO(), data(truth), draws=50, chunk=chunk)["A"]
    torch.testing.assert_close((mean, variance), (draws.mean(0), draws.var(0)))


def test_without_the_score_term_a_discrete_q_would_get_a_gradient_of_mean_zero(mixture):
    """Why the refusal above: E_q[∇ log w] = −E_q[∇ log q] = 0, whatever q is."""
    x = data(mixture)

    class NoScoreTerm(nn.Module):
        def __call__(self, model, x):
            loss = -model.draw(x, (5, 1)).log_w.mean()
            return vl.objectives.Step(model, loss, loss, loss)

    torch.manual_seed(12)
    draws = metrics.gradient_draws(mixture, NoScoreTerm(), x, 20_000)
    assert z_scores(draws["A"], 0.0).abs().max() < 4
    assert mixture.gradient(x)["A"].abs().max() > 0.1


class BinaryLatents(vl.models.VAE):
    """Three Bernoulli latents, few enough to sum over."""

    def __init__(self):
        torch.manual_seed(14)
        super().__init__(vl.networks.BernoulliNet(D, (5,), 3), vl.networks.GaussianNet(3, (5,), D), D, 3)
        self.double()

    def prior(self):
        half = torch.zeros(3, dtype=torch.float64)
        return torch.distributions.Independent(torch.distributions.Bernoulli(logits=half), 1)

    def elbo(self, x):
        z = torch.cartesian_prod(*3 * [torch.tensor([0.0, 1.0], dtype=torch.float64)])[:, None]
        log_q = self.posterior(x).log_prob(z)
        log_joint = self.likelihood(z).log_prob(x) + self.prior().log_prob(z)
        return (log_q.exp() * (log_joint - log_q)).sum(0)


@pytest.mark.parametrize("name", rows(lambda row: row.discrete and row.phi is elbo))
def test_unbiased_for_bernoulli_latents_by_enumeration(name):
    model = BinaryLatents()
    x = torch.randn(B, D, dtype=torch.float64)
    torch.manual_seed(15)
    draws = metrics.gradient_draws(model, OBJECTIVES[name](model), x, 5000)
    # 160 numbers for each estimator.
    assert_means(draws, gradient_of(model, model.elbo(x)), phi(model) + theta(model), limit=4.5)


def log_normal(loc, log_scale):
    return torch.distributions.Independent(torch.distributions.LogNormal(loc, log_scale.exp()), 1)


def full_normal(loc, log_scale):
    lower = loc.new_ones(2, 2).tril() + log_scale.exp().diag()
    return torch.distributions.MultivariateNormal(loc, scale_tril=lower)


def squashed(loc, log_scale):
    base = distributions.standard_normal(2, like=loc)
    spread = torch.distributions.AffineTransform(loc, log_scale.exp(), event_dim=1)
    transforms = [spread, torch.distributions.TanhTransform(cache_size=1)]
    return torch.distributions.TransformedDistribution(base, transforms)


@pytest.mark.parametrize("family", [log_normal, full_normal, squashed])
def test_path_derivative_knows_any_reparameterized_q(family):
    """Against finite differences of log w along z's path, with φ held inside log q."""
    phi = torch.tensor([[0.1, -0.2], [0.3, -0.4]], dtype=torch.float64, requires_grad=True)
    held = family(*phi.detach())

    def drawn(phi):
        torch.manual_seed(0)
        return family(*phi).rsample((6, 1, 1))

    def log_target(z):
        return z.sin().sum(-1)

    z, q = drawn(phi), family(*phi)
    draw = models.Draw(q, z, log_target(z), z.new_zeros(()), q.log_prob(z), True)
    surrogate = gradients.path_derivative(draw)
    torch.testing.assert_close(surrogate, draw.log_w)
    (path,) = torch.autograd.grad(surrogate.sum(), phi)
    for entry in range(phi.numel()):
        step = 1e-5 * torch.eye(4, dtype=torch.float64)[entry].reshape(2, 2)
        up, down = (drawn((phi + sign * step).detach()) for sign in (1, -1))
        slope = (log_target(up) - held.log_prob(up) - log_target(down) + held.log_prob(down)).sum() / 2e-5
        assert path.flatten()[entry].item() == pytest.approx(slope.item(), rel=1e-6)


def test_gradient_draws_leave_the_modes_as_they_were(truth):
    objective, x = learned().eval(), data(truth)
    truth.train()
    metrics.gradient_draws(truth, objective, x, 3)
    assert truth.training and not objective.training


def test_bad_input_is_an_error(truth):
    x = data(truth)
    with pytest.raises(ValueError, match="pathwise=False"):
        gradients.score_function(truth.draw(x), torch.zeros(1))
    with pytest.raises(ValueError, match="reparameterized samples"):
        gradients.path_derivative(truth.draw(x, pathwise=False))
    with pytest.raises(ValueError, match="K >= 2"):
        gradients.leave_one_out(torch.zeros(1, 3, 4))
    with pytest.raises(ValueError, match="K >= 2"):
        ScoreFunction(1, "leave-one-out")
    with pytest.raises(ValueError, match=r"baseline.* one of.*moving-average"):
        ScoreFunction(1, "rloo")
    with pytest.raises(ValueError, match="K must be"):
        ScoreFunction(0)
    with pytest.raises(ValueError, match="K must be"):
        STL(0)
    with pytest.raises(ValueError, match="decay must lie"):
        gradients.MovingAverage(1.0)
    with pytest.raises(ValueError, match="draws must be"):
        metrics.gradient_draws(truth, ELBO(), x, 0)


def test_wake_sleep_has_gradient_draws_too(mixture):
    draws = metrics.gradient_draws(mixture, WakeSleep(), data(mixture), 50)
    assert draws["A"].shape == (50, 5, D) and draws["A"].std(0).min() > 0
