"""fit: it learns, it resumes bit for bit, it survives a kill, and it says what went wrong."""

import dataclasses
import inspect
import math
import os
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
import torch
from common import OBJECTIVES
from torch.utils._python_dispatch import TorchDispatchMode

import vaelearn as vl
from vaelearn.objectives import ELBO, IWAE, DReG, Thinned, WakeSleep
from vaelearn.training import choose_device, fit


class Data:
    """Grey 'images' with a valid set."""

    train = torch.rand(64, 6, generator=torch.Generator().manual_seed(0))
    valid = torch.rand(20, 6, generator=torch.Generator().manual_seed(1))


def new_model():
    torch.manual_seed(3)
    return vl.models.VAE.mlp(6, 2, (8,))


quick = partial(fit, batch_size=10, progress=False, device="cpu")


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_it_finds_the_maximum_of_the_likelihood():
    """A linear VAE trained by noisy gradients ends at Tipping and Bishop's closed form."""
    torch.manual_seed(0)
    source = vl.exact.LinearGaussian(5, 2, seed=1).double()
    x, _ = source.sample(500)
    best = vl.exact.LinearGaussian.maximum_likelihood(x, 2).log_prob(x).mean()
    model = vl.exact.LinearGaussian(5, 2, seed=2).double()
    start = model.log_prob(x).mean()
    quick(model, ELBO(K=4), x, epochs=100, batch_size=50, lr=lambda e: 0.05 * 0.95**e)
    reached = model.log_prob(x).mean()
    assert best - start > 0.5
    assert 0 <= best - reached < 0.001


def test_history_is_plain_numbers():
    run = quick(new_model(), ELBO(), Data, epochs=3, lr=lambda epoch: 0.01 / (epoch + 1))
    assert run.finished and run.device == "cpu"
    assert run.history["epoch"] == [1, 2, 3]
    assert run.history["lr"] == [0.01, 0.005, 0.01 / 3]
    for name in ("train", "valid"):
        assert [type(v) for v in run.history[name]] == [float] * 3


def test_the_learning_rate_is_used():
    before = weights(new_model())
    model = new_model()
    quick(model, ELBO(), Data, epochs=1, lr=lambda epoch: 0.0)
    assert torch.equal(weights(model), before)


def test_a_schedules_rate_is_used_in_its_own_epoch(tmp_path):
    """All epochs but the second have rate 0; so too where a run resumes before it."""
    schedule = {0: 0.0, 1: 0.01, 2: 0.0}.__getitem__
    ends = []
    for epochs in (1, 2, 3):
        ends.append(weights(quick(new_model(), ELBO(), Data, epochs=epochs, lr=schedule).model))
    assert torch.equal(ends[0], weights(new_model())) and not torch.equal(ends[0], ends[1])
    assert torch.equal(ends[1], ends[2])
    for epochs in (1, 3):
        run = quick(new_model(), ELBO(), Data, epochs=epochs, lr=schedule, checkpoint=tmp_path / "run.pt")
    assert torch.equal(weights(run.model), ends[2])


def exact_elbo(model, x):
    return vl.objectives.Step.joint(model, model.elbo(x))


def test_the_history_holds_means_over_images_whatever_the_batches():
    """64 and 20 images in batches of 10 and 7, nothing learned, no noise: the means must come out."""
    truth = vl.exact.LinearGaussian(6, 2)
    for batch_size in (7, 10):
        run = quick(truth, exact_elbo, Data, epochs=1, lr=0.0, batch_size=batch_size)
        for name, x in (("train", Data.train), ("valid", Data.valid)):
            assert run.history[name][0] == pytest.approx(truth.elbo(x).mean().item(), rel=1e-5)


def test_batches_come_in_random_order_and_leave_nothing_out():
    seen = []

    def spy(model, x):
        seen.append(x)
        return ELBO()(model, x)

    quick(new_model(), spy, Data.train, epochs=2)
    first, second = torch.cat(seen[:7]), torch.cat(seen[7:])
    assert not torch.equal(first, Data.train) and not torch.equal(first, second)
    for epoch in (first, second):
        assert torch.equal(epoch[epoch[:, 0].argsort()], Data.train[Data.train[:, 0].argsort()])


def test_validation_noise_is_the_same_every_epoch():
    run = quick(new_model(), ELBO(), Data, epochs=3, lr=0.0)
    assert len(set(run.history["valid"])) == 1 and len(set(run.history["train"])) == 3


def test_the_model_goes_back_to_its_device_and_the_modes_are_set():
    modes = []

    def spy(model, x):
        modes.append((model.training, torch.is_grad_enabled()))
        return ELBO()(model, x)

    model = new_model().eval()
    quick(model, spy, Data, epochs=1, batch_size=64)
    assert modes == [(True, True), (False, False)]
    assert {p.device.type for p in model.parameters()} == {"cpu"}


def test_an_objectives_own_parts_are_in_the_mode_that_the_model_is_in():
    modes = []

    class Critic(torch.nn.Module):
        def forward(self, model, x):
            modes.append((self.training, model.training))
            return ELBO()(model, x)

    quick(new_model(), Critic(), Data, epochs=2, batch_size=64)
    assert modes == [(True, True), (False, False)] * 2


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_objective_trains_validates_and_resumes(tmp_path, name, dtype):
    class Typed:
        train, valid = Data.train.to(dtype), Data.valid.to(dtype)

    def train(epochs, **options):
        model = new_model().to(dtype)
        objective = OBJECTIVES[name](model)
        return weights(quick(model, objective, Typed, epochs=epochs, **options).model)

    train(1, checkpoint=tmp_path / "run.pt")
    assert torch.equal(train(3, checkpoint=tmp_path / "run.pt"), train(3))


def test_a_tensor_is_training_data_alone():
    assert "valid" not in quick(new_model(), ELBO(), Data.train, epochs=1).history


def test_the_same_seed_gives_the_same_run_and_the_callers_random_state_stays():
    state = torch.get_rng_state()
    a, b, c = (new_model() for _ in range(3))
    torch.set_rng_state(state)
    for model, seed in ((a, 5), (b, 5), (c, 6)):
        quick(model, ELBO(), Data, epochs=2, seed=seed)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(weights(a), weights(b)) and not torch.equal(weights(a), weights(c))


@pytest.mark.parametrize("binarize", [False, True])
def test_validation_does_not_change_training(binarize):
    a, b = new_model(), new_model()
    quick(a, ELBO(), Data, epochs=2, binarize=binarize)
    quick(b, ELBO(), Data.train, epochs=2, binarize=binarize)
    assert torch.equal(weights(a), weights(b))


def test_binarize_draws_training_images_anew_and_validation_images_once():
    seen = {"train": [], "valid": []}

    def spy(model, x):
        seen["train" if torch.is_grad_enabled() else "valid"].append(x)
        return ELBO()(model, x)

    quick(new_model(), spy, Data, epochs=2, batch_size=64, binarize=True)
    assert all(((x == 0) | (x == 1)).all() for part in seen.values() for x in part)
    assert seen["train"][0].sum() != seen["train"][1].sum()
    assert torch.equal(*seen["valid"])


def test_the_seed_decides_the_validation_images_and_their_noise():
    seen = []

    def spy(model, x):
        step = ELBO()(model, x)
        if not torch.is_grad_enabled():
            seen.append((x, step.bound))
        return step

    for seed in (5, 5, 6):
        quick(new_model(), spy, Data, epochs=1, batch_size=64, lr=0.0, binarize=True, seed=seed)
        quick(new_model(), spy, Data, epochs=1, batch_size=64, lr=0.0, seed=seed)
    (five, five_grey), (again, again_grey), (six, six_grey) = zip(seen[::2], seen[1::2], strict=True)
    assert torch.equal(five[0], again[0]) and not torch.equal(five[0], six[0])
    assert torch.equal(five_grey[1], again_grey[1]) and not torch.equal(five_grey[1], six_grey[1])


def test_the_bar_says_the_device_and_the_binarization(capsys):
    quick(new_model(), ELBO(K=2), Data, epochs=1, binarize=True, progress=True)
    printed = capsys.readouterr().err
    assert "ELBO(K=2, kl='sampled') on cpu, binarized anew each epoch" in printed


@pytest.mark.parametrize("objective", [ELBO(K=2), WakeSleep()])
def test_a_resumed_run_ends_at_the_same_numbers_bit_for_bit(tmp_path, objective):
    through, stopped = new_model(), new_model()
    whole = quick(through, objective, Data, epochs=5, binarize=True)
    quick(stopped, objective, Data, epochs=2, binarize=True, checkpoint=tmp_path / "run.pt")
    torch.manual_seed(99)  # a new process would be in another random state
    fresh = new_model()
    resumed = quick(fresh, objective, Data, epochs=5, binarize=True, checkpoint=tmp_path / "run.pt")
    assert torch.equal(weights(fresh), weights(through))
    assert resumed.history == whole.history


def test_an_interrupted_run_keeps_its_history_and_resumes(tmp_path):
    calls = 0

    def interrupting(model, x):
        nonlocal calls
        calls += 1
        if calls == 20:
            raise KeyboardInterrupt
        return ELBO()(model, x)

    model, path = new_model(), tmp_path / "run.pt"
    with pytest.warns(
        UserWarning, match="interrupted in epoch 3; the history holds 2 full epochs; call fit again"
    ):
        run = quick(model, interrupting, Data.train, epochs=5, checkpoint=path)
    assert not run.finished and run.history["epoch"] == [1, 2]

    resumed = quick(new_model(), interrupting, Data.train, epochs=5, checkpoint=path)
    through = new_model()
    whole = quick(through, ELBO(), Data.train, epochs=5)
    assert resumed.history == whole.history
    assert torch.equal(weights(resumed.model), weights(through))


def test_a_failure_while_writing_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path, write = tmp_path / "run.pt", torch.save
    quick(new_model(), ELBO(), Data.train, epochs=2, checkpoint=path)
    before = path.read_bytes()

    def torn(state, file):
        file.write(before[:100])
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(OSError, match="no space left"):
        quick(new_model(), ELBO(), Data.train, epochs=4, checkpoint=path)
    assert path.read_bytes() == before
    monkeypatch.setattr(torch, "save", write)
    resumed = quick(new_model(), ELBO(), Data.train, epochs=4, checkpoint=path)
    through = quick(new_model(), ELBO(), Data.train, epochs=4)
    assert torch.equal(weights(resumed.model), weights(through.model))


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_a_killed_process_leaves_a_usable_checkpoint(tmp_path):
    path = tmp_path / "run.pt"
    script = (
        "import torch, vaelearn as vl; torch.manual_seed(3)\n"
        "vl.fit(vl.models.VAE.mlp(6, 2, (8,)), vl.objectives.ELBO(), torch.rand(64, 6, "
        "generator=torch.Generator().manual_seed(0)), epochs=100_000, batch_size=10, progress=False, "
        f"device='cpu', checkpoint={str(path)!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    while not path.exists() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    done = len(torch.load(path, weights_only=True)["history"]["epoch"])
    resumed = quick(new_model(), ELBO(), Data.train, epochs=done + 2, checkpoint=path)
    through = quick(new_model(), ELBO(), Data.train, epochs=done + 2)
    assert torch.equal(weights(resumed.model), weights(through.model))


def test_a_schedule_may_return_numpy_numbers(tmp_path):
    schedule = lambda epoch: np.float64(0.01) / (epoch + 1)  # noqa: E731
    quick(new_model(), ELBO(), Data, epochs=2, lr=schedule, checkpoint=tmp_path / "run.pt")
    run = quick(new_model(), ELBO(), Data, epochs=3, lr=schedule, checkpoint=tmp_path / "run.pt")
    assert [type(rate) for rate in run.history["lr"]] == [float] * 3


class Plain:
    """An objective of a reader's own, with the repr that Python gives it: its address."""

    def __call__(self, model, x):
        return ELBO()(model, x)


def test_an_objective_is_known_by_more_than_its_address(tmp_path):
    one, other = Plain(), Plain()
    assert repr(one) != repr(other)
    quick(new_model(), one, Data, epochs=1, checkpoint=tmp_path / "run.pt")
    run = quick(new_model(), other, Data, epochs=2, checkpoint=tmp_path / "run.pt")
    assert run.history["epoch"] == [1, 2]


# What a run may change from one call to the next; all else decides its numbers and is compared.
MAY_CHANGE = {"epochs", "device", "checkpoint", "progress"}


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    quick(new_model(), ELBO(), Data, epochs=2, checkpoint=path)

    class OtherValid:
        train, valid = Data.train, Data.valid.flip(0)

    changes = (
        {"objective": ELBO(K=7)},
        {"seed": 1},
        {"lr": 0.5},
        {"binarize": True},
        {"data": Data.valid},
        {"data": Data.train},
        {"data": Data.train.flip(0)},
        {"data": OtherValid},
        {"optimizer": torch.optim.SGD},
        {"optimizer": partial(torch.optim.Adam, fused=True, betas=(0.5, 0.999))},
        {"batch_size": 20},
        {"critic_lr": 0.5},
        {"keep": "best"},
        {"autocast": torch.bfloat16},
        {"lr": lambda epoch: 1e-3 if epoch == 0 else 2e-3},
        {"lr": lambda epoch: 1e-3 if epoch == 1 else 2e-3},
        {"model": vl.models.VAE.mlp(6, 2, (9,))},
        {"model": vl.models.VAE.mlp(6, 2, (8,), activation=torch.nn.ReLU)},
        {"model": vl.models.VAE.mlp(6, 2, (8,), "gaussian")},
    )
    for change in changes:
        usual = {"model": new_model(), "objective": ELBO(), "data": Data, "epochs": 3, "checkpoint": path}
        with pytest.raises(ValueError, match="belongs to another run"):
            quick(**(usual | change))
    compared = {name for change in changes for name in change}
    assert compared | MAY_CHANGE == {*inspect.signature(fit).parameters} and not compared & MAY_CHANGE


def test_a_checkpoint_of_the_same_shapes_and_another_sigma_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    for sigma in (0.5, 0.1):
        model = vl.models.VAE.mlp(6, 2, (8,), "gaussian", sigma=sigma)
        if sigma == 0.5:
            quick(model, ELBO(), Data, epochs=1, checkpoint=path)
        else:
            with pytest.raises(ValueError, match=r"sigma=0\.5.*there.*sigma=0\.1"):
                quick(model, ELBO(), Data, epochs=2, checkpoint=path)


def test_a_file_that_is_no_checkpoint_is_refused_and_kept(tmp_path):
    path = tmp_path / "run.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="is not a checkpoint"):
        quick(new_model(), ELBO(), Data, epochs=1, checkpoint=path)
    assert path.read_bytes() == b"not a checkpoint"


def test_a_checkpoint_runs_no_code(tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    torch.save({"settings": Trap(), "history": {}}, tmp_path / "run.pt")
    with pytest.raises(ValueError, match="is not a checkpoint"):
        quick(new_model(), ELBO(), Data, epochs=1, checkpoint=tmp_path / "run.pt")
    assert not (tmp_path / "sprung").exists()


def test_a_loss_that_is_not_finite_stops_at_once_and_says_where():
    calls = 0

    def breaking(model, x):
        nonlocal calls
        calls += 1
        step = ELBO()(model, x)
        return (
            step if calls < 10 else vl.objectives.Step(model, step.e_step * math.nan, step.m_step, step.bound)
        )

    model = new_model()
    with pytest.raises(FloatingPointError, match=r"nan in epoch 2, batch 3\. Usual causes"):
        quick(model, breaking, Data.train, epochs=5)
    assert weights(model).isfinite().all()


class Looks(TorchDispatchMode):
    """Counts how often Python asks what stands in a tensor: each time a GPU has to finish all before it."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_look_at_the_device_in_a_batch(name, monkeypatch):
    monkeypatch.setattr(vl.training, "READ_EVERY", {})  # as on a GPU
    looks = []
    for rows in (20, 60):  # two batches, and six
        model = new_model()
        objective = OBJECTIVES[name](model)
        x = torch.rand(rows, 6, generator=torch.Generator().manual_seed(0))
        quick(model, objective, x, epochs=1)
        with Looks() as mode:
            quick(model, objective, x, epochs=1, binarize=True)
        looks.append(mode.count)
    assert looks[0] == looks[1]


def test_where_looks_are_rare_a_bad_loss_is_still_told_by_its_batch(monkeypatch):
    monkeypatch.setattr(vl.training, "READ_EVERY", {})
    calls = []

    def breaking(model, x):
        step = ELBO()(model, x)
        calls.append(1)
        return dataclasses.replace(step, e_step=step.e_step * math.nan) if len(calls) == 3 else step

    with pytest.raises(FloatingPointError, match="the loss became nan in epoch 1, batch 3"):
        quick(new_model(), breaking, Data.train, epochs=5)
    assert len(calls) == 7  # the epoch's last look


def test_a_critic_or_a_validation_bound_that_is_not_finite_stops_at_once():
    def broken_critic(model, x):
        step = ELBO()(model, x)
        return dataclasses.replace(step, critic=torch.nn.Linear(1, 1), critic_loss=step.e_step * math.nan)

    def broken_valid(model, x):
        step = ELBO()(model, x)
        return step if model.training else dataclasses.replace(step, bound=step.bound * math.nan)

    with pytest.raises(FloatingPointError, match="epoch 1, batch 1"):
        quick(new_model(), broken_critic, Data, epochs=1)
    with pytest.raises(FloatingPointError, match="epoch 1, on the validation data"):
        quick(new_model(), broken_valid, Data, epochs=1)


def test_bad_input_is_an_error():
    with pytest.raises(ValueError, match="epochs must be"):
        quick(new_model(), ELBO(), Data, epochs=0)
    with pytest.raises(ValueError, match="batch_size must be"):
        fit(new_model(), ELBO(), Data, batch_size=0, progress=False)
    with pytest.raises(ValueError, match=r"shape \(B, 6\)"):
        quick(new_model(), ELBO(), torch.rand(5, 7), epochs=1)
    with pytest.raises(ValueError, match="B >= 1"):
        quick(new_model(), ELBO(), torch.rand(0, 6), epochs=1)
    with pytest.raises(ValueError, match="without NaN"):
        quick(new_model(), ELBO(), torch.full((5, 6), math.nan), epochs=1)
    with pytest.raises(ValueError, match="Dataset or a tensor"):
        quick(new_model(), ELBO(), [1, 2], epochs=1)
    with pytest.raises(ValueError, match=r"such as ELBO\(\); got the class"):
        quick(new_model(), ELBO, Data, epochs=1)
    with pytest.raises(ValueError, match="device 'abacus' cannot be used"):
        fit(new_model(), ELBO(), Data, device="abacus", progress=False)
    with pytest.raises(ValueError, match=r"x must lie in \[0, 1\]"):
        quick(vl.models.VAE.mlp(6, 2, (8,), "gaussian"), ELBO(), 5 * Data.train, epochs=1, binarize=True)


def test_auto_takes_what_is_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device() == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device() == "mps"
    assert choose_device(dtype=torch.float64) == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device() == "cuda"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_it_trains_on_cuda():
    run = fit(new_model(), ELBO(), Data, epochs=2, progress=False)
    assert run.device == "cuda" and run.history["train"][1] > -100
    assert vl.metrics.log_likelihood(run.model, Data.valid, K=10).isfinite().all()


def test_float64_models_train_too():
    class Double:
        train, valid = Data.train.double(), Data.valid.double()

    assert quick(new_model().double(), ELBO(), Double, epochs=1).history["valid"][0] < 0


# What others' reports tell of -------------------------------------------------------------


@pytest.mark.parametrize("rate", [math.nan, math.inf, -math.inf, -0.001, "fast", None, True, 1j])
@pytest.mark.parametrize("argument", ["lr", "critic_lr", "schedule"])
def test_a_rate_that_is_none_is_refused_before_the_first_epoch(argument, rate):
    if argument == "critic_lr" and rate is None:
        return  # it means lr
    model = new_model()
    name, value = (argument, rate) if argument != "schedule" else ("lr", lambda e: 0.1 if e < 2 else rate)
    where = "lr in epoch 3" if argument == "schedule" else argument
    with pytest.raises(ValueError, match=rf"{where}.* must be a finite number >= 0; got"):
        quick(model, ELBO(), Data, epochs=3, **{name: value})
    assert torch.equal(weights(model), weights(new_model()))


@pytest.mark.parametrize("part", ["model", "critic"])
def test_a_weight_that_is_not_finite_never_ends_a_finished_run(part):
    """The last step of the last epoch: no loss comes after it to notice."""

    class Steep(vl.objectives.ScoreFunction):
        def forward(self, model, x):
            step = super().forward(model, x)
            return dataclasses.replace(step, m_step=1e6 * step.m_step, critic_loss=1e6 * step.critic_loss)

    rates = {"lr": 1e38, "critic_lr": 0.0} if part == "model" else {"lr": 0.0, "critic_lr": 1e38}
    objective = Steep(1, vl.gradients.LearnedBaseline(6))
    with pytest.raises(FloatingPointError, match=r"a weight became (nan|-?inf) in epoch 1, batch 1\. Usual"):
        quick(new_model(), objective, Data.train, epochs=1, batch_size=64, optimizer=torch.optim.SGD, **rates)


def test_unscaled_data_are_named_among_the_causes():
    torch.manual_seed(0)
    model = vl.models.VAE.mlp(64, 2, likelihood="gaussian", sigma="predicted", activation=torch.nn.ReLU)
    with pytest.raises(
        FloatingPointError, match=r"data far from unit scale \(here \|x\| reaches [\d.e+]+: divide"
    ):
        quick(model, ELBO(), 1e4 * torch.randn(500, 64), epochs=5, lr=0.1)


def test_the_modes_are_left_as_they_were_found():
    for data in (Data, Data.train):
        for trained in (True, False):
            model = new_model().train(trained)
            model.decoder.features.train(not trained)
            judge = vl.divergences.Adversarial(2, (4,)).eval()
            quick(model, vl.objectives.AAE(judge), data, epochs=1)
            assert model.training == model.encoder.training == trained and not judge.training
            assert model.decoder.features.training != trained


def test_a_step_that_is_none_is_refused_in_training_and_validation():
    def mean(model, x):
        step = ELBO()(model, x)
        return dataclasses.replace(step, bound=step.bound.mean())

    def wide(model, x):
        step = ELBO()(model, x)
        return dataclasses.replace(step, terms={"kl": step.bound[None]})

    def vector(model, x):
        step = ELBO()(model, x)
        return dataclasses.replace(step, e_step=-model.draw(x).log_w[0, 0])

    def loss(model, x):
        return ELBO()(model, x).e_step

    def late(bad):
        return lambda model, x: (ELBO() if model.training else bad)(model, x)

    for objective, error, sentence in (
        (mean, ValueError, r"bound must have one number a row, \(10,\); got shape \(\)"),
        (wide, ValueError, r"bound kl must have one number a row, \(10,\); got shape \(1, 10\)"),
        (vector, ValueError, r"e_step must be one number; got shape \(10,\)"),
        (loss, TypeError, r"must return a Step, such as Step\.joint\(model, bound\).*got a Tensor"),
        (lambda model, x: None, TypeError, "must return a Step.*got a NoneType"),
    ):
        for wrong in (objective, late(objective)):
            with pytest.raises(error, match=sentence):
                quick(new_model(), wrong, Data, epochs=1)


PAIRS = {
    "mmd": lambda: vl.objectives.InfoVAE(),
    "mmd, V-statistic": lambda: vl.objectives.InfoVAE(divergence=vl.divergences.MMD(unbiased=False)),
    "stein": lambda: vl.objectives.InfoVAE(divergence=vl.divergences.Stein()),
    "adversarial": lambda: vl.objectives.AAE(vl.divergences.Adversarial(2, (4,))),
    "wae": lambda: vl.objectives.WAE(),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_last_row_left_alone_joins_the_batch_before_it(name):
    class Odd:
        train, valid = Data.train[:61], Data.valid[:11]

    assert quick(new_model(), PAIRS[name](), Odd, epochs=1).finished


def test_left_alone_or_not_every_row_comes_once():
    for rows, batch_size in ((61, 10), (60, 10), (11, 10), (10, 10), (2, 1), (1, 10), (3, 2)):
        pieces = vl.training.batches(torch.arange(rows), batch_size)
        assert torch.equal(torch.cat(pieces), torch.arange(rows))
        assert batch_size == 1 or rows == 1 or min(map(len, pieces)) > 1


@pytest.mark.parametrize("name", PAIRS)
def test_batches_of_one_are_refused_before_training_where_two_are_needed(name):
    class One:
        train, valid = Data.train, Data.valid[:1]

    for data, options, where in (
        (Data, {"batch_size": 1}, "batch_size=1"),
        (Data.train[:1], {}, "data of 1 rows"),
        (One, {}, "valid of 1 rows"),
    ):
        with pytest.raises(
            ValueError, match=rf"compares the rows of a batch with each other and needs 2.*{where}"
        ):
            quick(new_model(), PAIRS[name](), data, epochs=1, **options)
    assert quick(new_model(), ELBO(), One, epochs=1).finished
    assert quick(new_model(), vl.objectives.BetaVAE(), Data, epochs=1, batch_size=1).finished


@pytest.mark.parametrize("device", ["cpu", "cpu:0", torch.device("cpu"), torch.device("cpu", 0)])
def test_a_device_by_any_name(device):
    run = fit(new_model(), ELBO(), Data, epochs=1, device=device, progress=False)
    assert run.device == str(device) and run.finished


@pytest.mark.parametrize("device", [None, 3.5, "cuda:99", torch.device("meta"), ["cpu"]])
def test_a_device_that_cannot_be_used_is_named(device):
    with pytest.raises(ValueError, match="cannot be used here; try 'auto' or 'cpu'"):
        fit(new_model(), ELBO(), Data, epochs=1, device=device, progress=False)


def test_only_the_generators_that_training_draws_from_are_seeded(monkeypatch):
    """torch.manual_seed would reseed every device's, and what is not saved cannot be put back."""
    monkeypatch.setattr(torch, "manual_seed", lambda seed: pytest.fail("it seeds every device there is"))
    model = vl.exact.LinearGaussian(6, 2)
    assert quick(model, ELBO(), Data, epochs=1).finished


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:0"])
def test_cudas_random_state_is_the_callers_own_again(device):
    torch.cuda.manual_seed(5)
    expected = torch.rand(3, device="cuda")
    torch.cuda.manual_seed(5)
    fit(new_model(), ELBO(), Data, epochs=1, device=device, progress=False)
    assert torch.equal(torch.rand(3, device="cuda"), expected)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_half_a_model_may_be_frozen_a_whole_one_is_nothing_to_train(part):
    model = new_model()
    getattr(model, part).requires_grad_(False)
    assert quick(model, ELBO(), Data, epochs=1).finished
    with pytest.raises(ValueError, match="all parameters of the model are frozen: there is nothing to train"):
        quick(model.requires_grad_(False), ELBO(), Data, epochs=1)


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        ({"model": vl.models.VAE}, ValueError, r"model must be an instance, such as VAE\(\); got the class"),
        ({"model": torch.nn.Linear(6, 2)}, TypeError, "model must be a LatentVariableModel, .*got Linear"),
        ({"model": "vae"}, TypeError, "model must be a LatentVariableModel, .*got 'vae'"),
        (
            {"objective": "elbo"},
            TypeError,
            r"objective must be a function \(model, x\) -> Step, .*got 'elbo'",
        ),
        ({"objective": None}, TypeError, "objective must be .*got None"),
        (
            {"optimizer": "adam"},
            TypeError,
            r"optimizer must be a function .*such as torch\.optim\.Adam; got 'adam'",
        ),
        ({"optimizer": None}, TypeError, r"optimizer must be a function .*got None"),
        ({"seed": None}, ValueError, "seed must be a whole number >= 0; got None"),
        ({"seed": 1.5}, ValueError, "seed must be a whole number >= 0; got 1.5"),
        ({"seed": -1}, ValueError, "seed must be a whole number >= 0; got -1"),
        ({"epochs": 2.0}, ValueError, "epochs must be a whole number >= 1; got 2.0"),
        ({"epochs": True}, ValueError, "epochs must be a whole number >= 1; got True"),
        ({"batch_size": "all"}, ValueError, "batch_size must be a whole number >= 1; got 'all'"),
        ({"data": torch.full((4, 6), 1 + 1e-6)}, ValueError, r"the first to refuse 1\.00000\d"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_was_expected_what_came_what_to_do(change, error, sentence):
    usual = {"model": new_model(), "objective": ELBO(), "data": Data, "epochs": 1}
    with pytest.raises(error, match=sentence):
        quick(**(usual | change))


@pytest.mark.parametrize("objective", [IWAE(5), DReG(5), Thinned(IWAE(20), 2)], ids=repr)
def test_half_precision_trains_as_well(objective):
    """The same bound within the noise between two seeds, from networks that did run in bfloat16."""
    torch.manual_seed(0)
    x, valid, found = (torch.rand(400, 6) < 0.2).float(), (torch.rand(100, 6) < 0.2).float(), {}
    data = vl.data.Dataset("dots", x, valid, valid, (2, 3))
    for autocast in (None, torch.bfloat16):
        model, seen = new_model(), set()
        model.decoder.logits.register_forward_hook(lambda _, __, out, seen=seen: seen.add(out.dtype))
        run = fit(model, objective, data, 15, 50, 0.01, autocast=autocast, progress=False, device="cpu")
        assert (torch.bfloat16 in seen) == (autocast is not None)
        assert run.history["valid"][-1] > run.history["valid"][0] + 0.5
        found[autocast] = run.history["valid"][-1]
    assert found[torch.bfloat16] == pytest.approx(found[None], abs=0.05)


def test_under_half_precision_every_weight_gets_its_gradient():
    """What `no_grad` casts must not stand in for the weights in the step that follows it."""
    model, before = new_model(), new_model()
    x, objective = Data.train.round(), Thinned(IWAE(20), 2)
    fit(model, objective, x, 1, autocast=torch.bfloat16, progress=False, device="cpu")
    for one, other in zip(model.parameters(), before.parameters(), strict=True):
        assert not torch.equal(one, other)


def test_bounds_are_reduced_in_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        draw = new_model().draw(Data.train.round(), (3, 2))
    assert draw.log_w.dtype == draw.z.dtype == torch.float32


def test_fit_inside_autocast_is_refused():
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match=r"autocast=\.\.\."):
        fit(new_model(), ELBO(), Data.train.round(), 1, progress=False, device="cpu")
    with pytest.raises(ValueError, match="float16 would need a loss scale"):
        fit(new_model(), ELBO(), Data.train.round(), 1, autocast=torch.float16, progress=False)
