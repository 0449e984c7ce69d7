"""Data and networks of one's own: arrays, files, images in their shape, flows, schedules, best weights."""

import copy
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from common import scrambled
from torch import nn
from torch.distributions import constraints
from torch.utils.data import DataLoader, TensorDataset

import vaelearn as vl
from vaelearn.data import Scaled
from vaelearn.objectives import AAE, ELBO, IWAE, STL, BetaVAE, DReG, InfoVAE, Schedule
from vaelearn.training import fit

GREY = torch.rand(64, 6, generator=torch.Generator().manual_seed(0))
VALID = torch.rand(20, 6, generator=torch.Generator().manual_seed(1))
BOTH = SimpleNamespace(train=GREY, valid=VALID)

quick = partial(fit, batch_size=10, progress=False, device="cpu")


def new_model(data_dim=6):
    torch.manual_seed(3)
    return vl.models.VAE.mlp(data_dim, 2, (8,))


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# Data


class Mine:
    """Rows for an index tensor, and a note of how many were ever asked for at once."""

    def __init__(self, rows):
        self.rows, self.most = rows, 0

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        assert isinstance(index, torch.Tensor)
        self.most = max(self.most, len(index))
        return self.rows[index]


def on_disk(folder, rows):
    path = folder / f"{len(rows)}.npy"
    np.save(path, rows)
    return np.load(path, mmap_mode="r")


SOURCES = {
    "tensor that requires a gradient": lambda folder, x: x.clone().requires_grad_(),
    "array": lambda folder, x: x.numpy(),
    "array, columns first": lambda folder, x: np.asfortranarray(x.numpy()),
    "array of float64": lambda folder, x: x.double().numpy(),
    "memory-mapped": lambda folder, x: on_disk(folder, x.numpy()),
    "one's own": lambda folder, x: Mine(x),
    "one's own that gives arrays": lambda folder, x: Mine(x.double().numpy()),
    "scaled": lambda folder, x: Scaled(on_disk(folder, (255 * x).round().byte().numpy())),
    "scaled tensor": lambda folder, x: Scaled((16 * x).round().byte(), 16),
}


@pytest.mark.parametrize("binarize", [False, True])
@pytest.mark.parametrize("kind", SOURCES)
def test_rows_train_alike_wherever_they_lie_and_resume_bit_for_bit(tmp_path, kind, binarize):
    levels = {"scaled": 255, "scaled tensor": 16}.get(kind)
    same = SimpleNamespace(
        train=(GREY * levels).round() / levels if levels else GREY,
        valid=(VALID * levels).round() / levels if levels else VALID,
    )
    data = SimpleNamespace(
        **{part: SOURCES[kind](tmp_path, getattr(BOTH, part)) for part in ("train", "valid")}
    )
    options = {"binarize": binarize, "lr": 0.01}
    quick(new_model(), ELBO(), data, epochs=1, checkpoint=tmp_path / "run.pt", **options)
    resumed = quick(new_model(), ELBO(), data, epochs=3, checkpoint=tmp_path / "run.pt", **options)
    plain = quick(new_model(), ELBO(), same, epochs=3, **options)
    assert torch.equal(weights(resumed.model), weights(plain.model))
    assert resumed.history == plain.history


@pytest.mark.parametrize("kind", SOURCES)
def test_one_row_is_a_batch_of_one(tmp_path, kind):
    """NumPy takes an index tensor of one entry for a number, and gives a row without its batch."""
    run = quick(new_model(), ELBO(), SOURCES[kind](tmp_path, GREY[:3].round()), epochs=1, batch_size=1)
    plain = quick(new_model(), ELBO(), GREY[:3].round(), epochs=1, batch_size=1)
    assert torch.equal(weights(run.model), weights(plain.model))


def test_rows_are_never_asked_for_all_at_once():
    """A file larger than memory: batches, and pieces of 1,000 while it is checked."""
    rows = Mine(torch.rand(3000, 6))
    quick(new_model(), ELBO(), rows, epochs=1, batch_size=100)
    assert rows.most == 1000


def test_rows_drawn_anew_at_every_look_resume_bit_for_bit(tmp_path):
    """Augmented data: what is drawn follows the seed too."""

    class Noisy(Mine):
        def __getitem__(self, index):
            return (super().__getitem__(index) + 0.1 * torch.rand(len(index), 6)).clamp(max=1)

    quick(new_model(), ELBO(), Noisy(GREY), epochs=1, checkpoint=tmp_path / "run.pt")
    resumed = quick(new_model(), ELBO(), Noisy(GREY), epochs=3, checkpoint=tmp_path / "run.pt")
    through = quick(new_model(), ELBO(), Noisy(GREY), epochs=3, checkpoint=tmp_path / "other.pt")
    assert torch.equal(weights(resumed.model), weights(through.model))


@pytest.mark.parametrize("values", [np.arange(12, dtype=np.uint8), torch.arange(12), np.arange(12) > 5])
def test_integers_are_scaled_only_if_asked(values):
    with pytest.raises(
        TypeError, match=r"dtype, torch\.float32; got .*(int|bool).*pass vaelearn\.data\.Scaled\(x, 255\)"
    ):
        quick(new_model(), ELBO(), values.reshape(2, 6), epochs=1)


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (DataLoader(TensorDataset(GREY, torch.arange(64)), 8), r"torch\.cat\(\[x for x, \*_ in data\]\)"),
        (DataLoader(GREY, 8), r"torch\.cat\(\[x for x, \*_ in data\]\)"),
        (TensorDataset(GREY, torch.arange(64)), r"torch\.stack\(\[x for x, \*_ in data\]\)"),
        (TensorDataset(GREY), r"torch\.stack\(\[x for x, \*_ in data\]\)"),
        (torch.utils.data.Subset(TensorDataset(GREY), [1, 2]), r"torch\.stack\(\[x for x, \*_ in data\]\)"),
        ([[0.5] * 6], "got list"),
        ((GREY, VALID), "got tuple"),
        ("digits", "got str"),
        ({"train": GREY}, "got dict"),
        (None, "got NoneType"),
        (np.float32(3), "got float32"),
        (SimpleNamespace(train=GREY, valid="digits"), "got str"),
        (SimpleNamespace(train=None), "got NoneType"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_gives_no_rows_is_refused_with_the_line_that_helps(data, hint):
    with pytest.raises(ValueError, match=f"must be a Dataset or a tensor.*{hint}"):
        quick(new_model(), ELBO(), data, epochs=1)


def test_the_line_that_helps_helps():
    data = DataLoader(TensorDataset(GREY, torch.arange(64)), 8)
    assert torch.equal(torch.cat([x for x, *_ in data]), GREY)
    data = TensorDataset(GREY, torch.arange(64))
    assert torch.equal(torch.stack([x for x, *_ in data]), GREY)


def test_a_bad_row_far_down_is_found_before_training():
    x = np.random.default_rng(0).random((2500, 6), np.float32)
    x[2400, 3] = np.nan
    model = new_model()
    with pytest.raises(ValueError, match="without NaN"):
        quick(model, ELBO(), x, epochs=1)
    assert torch.equal(weights(model), weights(new_model()))


def test_bfloat16_trains_and_resumes(tmp_path):
    data = SimpleNamespace(train=GREY.bfloat16(), valid=VALID.bfloat16())

    def train(epochs, **options):
        return weights(quick(new_model().bfloat16(), ELBO(), data, epochs=epochs, **options).model)

    train(1, checkpoint=tmp_path / "run.pt")
    assert torch.equal(train(2, checkpoint=tmp_path / "run.pt"), train(2))
    with pytest.raises(TypeError, match=r"dtype, torch\.float32; got torch\.bfloat16"):
        quick(new_model(), ELBO(), data, epochs=1)


# Images that keep their shape


class ConvEncoder(nn.Module):
    def __init__(self, channels, latent_dim):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2 * latent_dim)
        )

    def forward(self, x):
        mean, log_sigma = self.net(x).chunk(2, -1)
        return vl.distributions.DiagonalNormal(mean, log_sigma.exp())


class ConvDecoder(nn.Module):
    def __init__(self, channels, latent_dim, likelihood):
        super().__init__()
        self.likelihood = likelihood
        self.support = constraints.real if likelihood == "gaussian" else constraints.unit_interval
        self.net = nn.Sequential(
            nn.Linear(latent_dim, 64),
            nn.ReLU(),
            nn.Unflatten(1, (4, 4, 4)),
            nn.ConvTranspose2d(4, 2 * channels, 4, 2, 1),
        )

    def forward(self, z):
        a, b = self.net(z.flatten(0, -2)).unflatten(0, z.shape[:-1]).chunk(2, -3)
        if self.likelihood == "gaussian":
            return vl.distributions.DiagonalNormal(a, b.exp(), event_dims=3)
        return vl.distributions.BernoulliPixels(a + b, event_dims=3)


def conv(likelihood="bernoulli", channels=3):
    torch.manual_seed(0)
    shape = (channels, 8, 8)
    return vl.models.VAE(ConvEncoder(channels, 2), ConvDecoder(channels, 2, likelihood), shape, 2)


IMAGES = torch.rand(32, 3, 8, 8, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_the_density_of_an_image_is_that_of_its_pixels(likelihood):
    model, z = conv(likelihood), torch.randn(5, 3, 4, 2)
    p = model.likelihood(z)
    assert (p.batch_shape, p.event_shape) == ((5, 3, 4), (3, 8, 8))
    if likelihood == "gaussian":
        apart = torch.distributions.Normal(p.mean, p.stddev).log_prob(IMAGES[:4])
    else:
        logits = p.base_dist.logits
        apart = -nn.functional.binary_cross_entropy_with_logits(
            logits, IMAGES[:4].expand_as(logits), reduction="none"
        )
    torch.testing.assert_close(p.log_prob(IMAGES[:4]), apart.sum((-3, -2, -1)))
    wide = model.likelihood(z[0, 0, 0:1]).expand((7, 1))
    assert wide.log_prob(IMAGES[:1]).shape == (7, 1) and wide.sample().shape == (7, 1, 3, 8, 8)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_images_are_drawn_trained_measured_and_sampled_in_their_shape(tmp_path, likelihood):
    model = conv(likelihood)
    draw = model.draw(IMAGES[:4], (5, 3))
    assert draw.z.shape == (5, 3, 4, 2) and draw.log_w.shape == (5, 3, 4)
    data = SimpleNamespace(train=IMAGES.numpy(), valid=IMAGES[:10])
    run = quick(model, IWAE(3), data, epochs=3, lr=0.01, checkpoint=tmp_path / "run.pt")
    assert run.history["valid"][2] > run.history["valid"][0]
    assert vl.metrics.log_likelihood(model, IMAGES[:4], K=10).shape == (4,)
    assert vl.metrics.active_units(model, IMAGES).shape == (2,)
    snr = vl.metrics.gradient_snr(model, DReG(2), IMAGES[:2], draws=5)
    assert snr["generative"].shape == weights(model.decoder).shape
    x, z = model.sample(9)
    assert x.shape == (9, 3, 8, 8) and z.shape == (9, 2)
    model.check_data(x)


@pytest.mark.parametrize(
    "objective",
    [vl.objectives.WakeSleep(), vl.objectives.ScoreFunction(1, vl.gradients.LearnedBaseline(192)), InfoVAE()],
    ids=lambda o: type(o).__name__,
)
def test_other_objectives_take_images_too(objective):
    assert quick(conv(), objective, IMAGES, epochs=1).history["train"][0] < 0


def test_a_model_of_the_other_shape_says_what_to_write():
    with pytest.raises(
        ValueError, match=r"\(B, 192\) with B >= 1; got \(32, 3, 8, 8\): this model wants x\.flatten\(1\)"
    ):
        quick(new_model(192), ELBO(), IMAGES, epochs=1)
    with pytest.raises(
        ValueError, match=r"\(B, 3, 8, 8\).*got \(32, 192\): .*x\.unflatten\(1, \(3, 8, 8\)\)"
    ):
        conv().draw(IMAGES.flatten(1))
    with pytest.raises(ValueError, match=r"got \(32, 8, 8, 3\)"):
        conv().draw(IMAGES.permute(0, 2, 3, 1))
    with pytest.raises(ValueError, match=r"got \(32, 3, 8, 8\)$"):
        new_model(191).draw(IMAGES)


# An objective that changes with the epoch


def warm(epoch):
    return BetaVAE(0.1 + 0.3 * epoch)


def test_a_schedule_trains_as_its_objectives_would_one_after_the_other():
    """SGD has no memory, and one batch without noise no seed: three runs of one epoch are a run of three."""

    one, other = vl.exact.LinearGaussian(6, 2), vl.exact.LinearGaussian(6, 2)
    options = {"batch_size": 64, "optimizer": torch.optim.SGD, "lr": 1e-3}
    quick(one, Schedule(lambda epoch: Exact(1 + epoch), report=Exact()), GREY, epochs=3, **options)
    for epoch in range(3):
        quick(other, Exact(1 + epoch), GREY, epochs=1, **options)
    torch.testing.assert_close(weights(one), weights(other))


def test_a_schedule_is_in_the_history_and_validation_reports_one_objective():
    run = quick(new_model(), Schedule(warm, report=ELBO(K=2)), BOTH, epochs=3, lr=0.0)
    assert [name.split(",")[1] for name in run.history["objective"]] == [" lam=0.1", " lam=0.4", " lam=0.7"]
    alone = quick(new_model(), ELBO(K=2), BOTH, epochs=1, lr=0.0)
    assert run.history["valid"] == 3 * alone.history["valid"]
    assert len(set(run.history["train"])) == 3
    assert "train kl" in run.history and "valid kl" not in run.history


def test_a_schedule_resumes_bit_for_bit_and_another_one_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    quick(new_model(), Schedule(warm, ELBO()), BOTH, epochs=2, checkpoint=path)
    later = Schedule(lambda epoch: warm(epoch) if epoch < 3 else IWAE(5), ELBO())
    resumed = quick(new_model(), later, BOTH, epochs=4, checkpoint=path)
    through = quick(new_model(), later, BOTH, epochs=4)
    assert torch.equal(weights(resumed.model), weights(through.model)) and resumed.history == through.history
    others = (
        Schedule(lambda epoch: BetaVAE(0.1 + 0.4 * epoch), ELBO()),
        Schedule(lambda epoch: lambda model, x: warm(epoch)(model, x), ELBO()),
        Schedule(warm, ELBO(K=2)),
        warm(0),
    )
    for other in others:
        with pytest.raises(ValueError, match="belongs to another run"):
            quick(new_model(), other, BOTH, epochs=5, checkpoint=path)


def test_a_schedule_shares_one_critic():
    def adversarial(judge):
        return AAE(judge)

    judge = vl.divergences.Adversarial(2, (8,))
    before = weights(judge)
    quick(new_model(), Schedule(lambda e: AAE(judge, lam=1 + e), AAE(judge)), BOTH, epochs=2)
    assert not torch.equal(weights(judge), before)
    with pytest.raises(ValueError, match="critic is not among the objective's parameters"):
        quick(new_model(), Schedule(lambda e: AAE(vl.divergences.Adversarial(2)), AAE(judge)), BOTH, epochs=1)


def test_a_schedule_that_cannot_be_followed_is_an_error_before_the_first_epoch():
    model = new_model()
    with pytest.raises(ValueError, match=r"in epoch 3 must be an instance, such as ELBO\(\)"):
        quick(model, Schedule(lambda epoch: ELBO() if epoch < 2 else ELBO, ELBO()), BOTH, epochs=3)
    with pytest.raises(ValueError, match="beta must be >= 0"):
        quick(model, Schedule(lambda epoch: BetaVAE(1 - epoch), ELBO()), BOTH, epochs=3)
    with pytest.raises(ValueError, match=r"report must be an instance, such as ELBO\(\)"):
        Schedule(warm, ELBO)
    with pytest.raises(TypeError, match="at must be a function epoch -> objective"):
        Schedule([ELBO()], ELBO())
    assert torch.equal(weights(model), weights(new_model()))


# The best weights


@dataclass(frozen=True)
class Exact:
    """The closed form of a bound, so that nothing but the objective moves it; times −1, it climbs down."""

    sign: int = 1

    def __call__(self, model, x):
        return vl.objectives.Step.joint(model, self.sign * model.elbo(x))


def up_and_down(epoch):
    return Exact(1 if epoch < 3 else -1)


CLIMB = Schedule(up_and_down, report=Exact())
climb = partial(quick, objective=CLIMB, data=BOTH, lr=0.003, optimizer=torch.optim.SGD)


def linear():
    return vl.exact.LinearGaussian(6, 2)


def test_the_best_weights_come_back_and_the_history_says_which():
    run = climb(best := linear(), epochs=6, keep="best")
    assert run.history["best"] == [1, 2, 3, 3, 3, 3]
    assert run.history["valid"].index(max(run.history["valid"])) == 2
    climb(three := linear(), epochs=3)
    assert torch.equal(weights(best), weights(three))
    last = climb(linear(), epochs=6)
    assert "best" not in last.history and not torch.equal(weights(last.model), weights(three))


@pytest.mark.parametrize("stop", [2, 5])
def test_training_goes_on_from_the_last_weights_and_the_best_come_back(tmp_path, stop):
    file = tmp_path / "run.pt"
    climb(linear(), epochs=stop, keep="best", checkpoint=file)
    resumed = climb(linear(), epochs=6, keep="best", checkpoint=file)
    through = climb(linear(), epochs=6, keep="best")
    again = climb(linear(), epochs=6, keep="best", checkpoint=file)
    for run in (resumed, again):
        assert run.history == through.history
        assert torch.equal(weights(run.model), weights(through.model))
    with pytest.raises(ValueError, match="keep=best there, keep=last here"):
        climb(linear(), epochs=6, checkpoint=file)


@pytest.mark.parametrize("trouble", [KeyboardInterrupt, FloatingPointError])
@pytest.mark.filterwarnings("ignore:interrupted")
def test_the_best_weights_come_back_after_an_interrupt_or_an_error_too(trouble):
    def stopping(model, x):
        raise trouble

    model, three = linear(), linear()
    schedule = Schedule(lambda epoch: up_and_down(epoch) if epoch < 5 else stopping, Exact())
    try:
        run = climb(model, objective=schedule, epochs=7, keep="best")
        assert run.history["best"] == [1, 2, 3, 3, 3] and not run.finished
    except FloatingPointError:
        assert trouble is FloatingPointError
    climb(three, epochs=3)
    assert torch.equal(weights(model), weights(three))


def test_best_needs_something_to_be_judged_by():
    with pytest.raises(ValueError, match="keep='best' needs validation data"):
        quick(new_model(), ELBO(), GREY, epochs=1, keep="best")
    with pytest.raises(ValueError, match=r"'last', 'best'; got 'bets'\. Did you mean 'best'"):
        quick(new_model(), ELBO(), BOTH, epochs=1, keep="bets")


# A flow of another library as q


class FlowEncoder(nn.Module):
    """x -> q(z | x), zuko's masked autoregressive flow with x as its context."""

    def __init__(self, data_dim, latent_dim):
        super().__init__()
        zuko = pytest.importorskip("zuko")
        self.flow = zuko.flows.MAF(latent_dim, context=data_dim, transforms=2, hidden_features=(8,))

    def forward(self, x):
        return self.flow(x)


def flow_model():
    torch.manual_seed(0)
    decoder = vl.networks.BernoulliNet(2, (8,), 6)
    return vl.models.VAE(FlowEncoder(6, 2), decoder, 6, 2).double()


def test_the_path_derivative_of_a_flow_is_that_of_a_frozen_copy():
    model, x = flow_model(), GREY[:4].double()
    still = copy.deepcopy(model.encoder).requires_grad_(False)
    torch.manual_seed(1)
    STL(K=3)(model, x).backward()
    found = [p.grad.clone() for p in model.inference_parameters()]
    torch.manual_seed(1)
    draw = model.draw(x, (3, 1))
    log_w = draw.log_likelihood + draw.log_prior - still(x).log_prob(draw.z)
    expected = torch.autograd.grad(-log_w.mean(), model.inference_parameters())
    torch.testing.assert_close(found, list(expected))


@pytest.mark.parametrize("objective", [STL(2), DReG(4)], ids=repr)
def test_a_flows_gradient_is_that_of_finite_differences_on_average(objective):
    """Both at the same 40 seeds, along the gradient's own direction: their difference has mean zero."""
    model, x = scrambled(flow_model()), GREY[:1].double().expand(500, 6)
    phi, bound, h = model.inference_parameters(), {2: ELBO(2), 4: IWAE(4)}[objective.K], 1e-5
    direction = torch.autograd.grad(-bound(model, x).e_step, phi)

    def value(seed, step):
        with torch.no_grad():
            for p, d in zip(phi, direction, strict=True):
                p += step * d
            torch.manual_seed(seed)
            found = bound(model, x).bound.mean()
            for p, d in zip(phi, direction, strict=True):
                p -= step * d
        return found

    differences, slopes = [], []
    for seed in range(40):
        slopes.append((value(seed, h) - value(seed, -h)) / (2 * h))
        torch.manual_seed(seed)
        gradient = torch.autograd.grad(-objective(model, x).e_step, phi)
        differences.append(sum((g * d).sum() for g, d in zip(gradient, direction, strict=True)) - slopes[-1])
    differences, slopes = torch.stack(differences), torch.stack(slopes)
    error = differences.std() / 40**0.5
    assert differences.mean().abs() < 4 * error
    assert error < 0.05 * slopes.mean().abs()


def test_a_flow_is_trained_and_measured_as_any_q(tmp_path):
    model, x = flow_model().float(), GREY
    run = quick(model, DReG(4), BOTH, epochs=3, lr=0.01, keep="best", checkpoint=tmp_path / "run.pt")
    assert run.history["valid"][-1] > run.history["valid"][0]
    tight = vl.metrics.log_likelihood(model, x[:5], K=2000)
    assert (tight > vl.metrics.log_likelihood(model, x[:5], K=1)).sum() >= 3
    torch.testing.assert_close(
        tight, vl.metrics.log_likelihood(model, x[:5], K=2000, defensive=True), atol=0.05, rtol=0
    )
    assert vl.metrics.active_units(model, x).shape == (2,)
    snr = vl.metrics.gradient_snr(model, DReG(4), x[:2], draws=20)
    assert snr["inference"].shape == weights(model.encoder).shape
    assert snr["generative"].shape == weights(model.decoder).shape


def test_every_draw_of_a_flows_gradient_has_noise_of_its_own():
    draws = vl.metrics.gradient_draws(flow_model(), IWAE(2), GREY[:2].double(), draws=3)
    bias = draws["decoder.logits.bias"]
    assert bias.shape == (3, 6) and len(bias.unique(dim=0)) == 3


def test_a_kl_without_a_closed_form_says_what_to_do():
    with pytest.raises(ValueError, match="has no closed form here; use kl='sampled'"):
        quick(flow_model(), InfoVAE(), GREY.double(), epochs=1)
    assert quick(flow_model(), InfoVAE(kl="sampled"), GREY.double(), epochs=1).finished
