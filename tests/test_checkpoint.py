"""The file of a run: verified, compared with all that changes the numbers, held by one run at a time."""

import errno
import os
import random
import subprocess
import sys
import threading
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import vaelearn as vl
from vaelearn import checkpoint as files
from vaelearn.objectives import ELBO, IWAE, InfoVAE, ScoreFunction, Step
from vaelearn.training import fit

GREY = torch.rand(64, 6, generator=torch.Generator().manual_seed(0))
BOTH = SimpleNamespace(train=GREY, valid=GREY[:20])

quick = partial(fit, batch_size=32, progress=False, device="cpu")


def new_model(**options):
    torch.manual_seed(3)
    return vl.models.VAE.mlp(6, 2, (8,), **options)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.fixture
def file(tmp_path):
    return tmp_path / "run.pt"


# What is in the file


def test_a_flipped_bit_is_found_or_changes_nothing(file):
    """100 of them: either the file is refused, or what is read is what was written."""
    quick(new_model(), ELBO(), BOTH, epochs=1, checkpoint=file)
    whole, written = file.read_bytes(), files.load(file)
    draw, refused = random.Random(0), 0
    for _ in range(100):
        torn = bytearray(whole)
        torn[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        file.write_bytes(torn)
        try:
            found = files.load(file)
        except ValueError:
            refused += 1
        else:
            assert files.checksum(found) == files.checksum(written)
    assert refused > 25


def test_a_changed_number_is_named_as_such(file):
    quick(new_model(), ELBO(), BOTH, epochs=1, checkpoint=file)
    state = torch.load(file, weights_only=True)
    for change in (
        lambda: state["model"]["decoder.logits.bias"].add_(1e-3),
        lambda: state["history"]["train"].__setitem__(0, 0.0),
        lambda: state["optimizer"]["state"][0].update(exp_avg=torch.zeros(3)),
        lambda: state["random_state"]["cpu"].add_(1),
    ):
        change()
        torch.save(state, file)
        with pytest.raises(ValueError, match="has changed since it was written"):
            quick(new_model(), ELBO(), BOTH, epochs=2, checkpoint=file)


def test_a_refused_checkpoint_leaves_the_model_alone(file):
    quick(new_model(), ELBO(), BOTH, epochs=1, checkpoint=file)
    model = new_model()
    for options in ({"seed": 1}, {"lr": 0.5}, {"optimizer": torch.optim.SGD}):
        with pytest.raises(ValueError, match="belongs to another run"):
            quick(model, ELBO(), BOTH, epochs=2, checkpoint=file, **options)
    assert torch.equal(weights(model), weights(new_model()))


@pytest.mark.parametrize("integer", [int, np.int64, np.int32, np.uint8], ids=lambda t: t.__name__)
def test_whole_numbers_of_any_type_are_resumed_by_any_other(file, integer):
    def train(kind, epochs):
        counts = {"epochs": kind(epochs), "batch_size": kind(32), "seed": kind(7)}
        return quick(new_model(), IWAE(kind(3)), BOTH, checkpoint=file, **counts)

    train(integer, 1)
    assert train(int, 2).history["epoch"] == [1, 2]
    assert train(integer, 3).history["epoch"] == [1, 2, 3]


@pytest.mark.parametrize("real", [float, np.float64, np.float32, torch.tensor, lambda value: np.array(value)])
def test_rates_of_any_type_are_resumed(file, real):
    options = {"lr": real(0.25), "critic_lr": real(0.5), "binarize": np.bool_(True), "checkpoint": file}
    objective = ScoreFunction(1, "moving-average")
    for epochs, beta in ((1, np.float64(0.5)), (2, 0.5)):
        adam = partial(torch.optim.Adam, betas=(beta, 0.9))
        run = quick(new_model(), objective, BOTH, epochs=epochs, optimizer=adam, **options)
    assert run.history["lr"] == [0.25, 0.25]


def test_a_longer_run_than_asked_for_says_so(file):
    quick(new_model(), ELBO(), BOTH, epochs=3, checkpoint=file)
    with pytest.raises(
        ValueError, match=r"holds 3 epochs already, and epochs=2 asks for fewer: ask for 3 or more"
    ):
        quick(new_model(), ELBO(), BOTH, epochs=2, checkpoint=file)
    assert quick(new_model(), ELBO(), BOTH, epochs=3, checkpoint=file).history["epoch"] == [1, 2, 3]


def older_adam(parameters, lr):
    """Adam as in a version that lacks one of today's defaults."""
    optimizer = torch.optim.Adam(parameters, lr=lr)
    whole = optimizer.state_dict
    del optimizer.defaults["decoupled_weight_decay"]

    def state_dict():
        state = whole()
        for group in state["param_groups"]:
            del group["decoupled_weight_decay"]
        return state

    optimizer.state_dict = state_dict
    return optimizer


def test_a_default_that_came_with_another_version_is_no_difference(file):
    quick(new_model(), ELBO(), BOTH, epochs=1, checkpoint=file, optimizer=older_adam)
    resumed = quick(new_model(), ELBO(), BOTH, epochs=2, checkpoint=file, optimizer=torch.optim.Adam)
    through = quick(new_model(), ELBO(), BOTH, epochs=2, optimizer=torch.optim.Adam)
    assert torch.equal(weights(resumed.model), weights(through.model))


# What changes the numbers is compared


def scaled(model, x, factor=1.0):
    return Step.joint(model, factor * model.draw(x).log_w[0, 0])


def squared(z, prior):
    return z.square().mean()


def factory(K):
    def objective(model, x):
        return IWAE(K)(model, x)

    return objective


class Plain:
    """No __repr__: known by its attributes."""

    def __init__(self, K):
        self.K = K

    def __call__(self, model, x):
        return IWAE(int(self.K))(model, x)

    def method(self, model, x):
        return self(model, x)


SAME_NAMES = {
    "two lambdas": (lambda m, x: ELBO()(m, x), lambda m, x: IWAE(3)(m, x)),
    "two lambdas that differ in a number": (lambda m, x: IWAE(2)(m, x), lambda m, x: IWAE(3)(m, x)),
    "a lambda's default": (lambda m, x, K=2: IWAE(K)(m, x), lambda m, x, K=3: IWAE(K)(m, x)),
    "two closures": (factory(2), factory(3)),
    "two partials": (partial(scaled, factor=1.0), partial(scaled, factor=2.0)),
    "a partial of a closure": (partial(factory(2)), partial(factory(3))),
    "two weights of one function": (InfoVAE(0, 10, squared), InfoVAE(0, 1000, squared)),
    "two functions of one weight": (
        InfoVAE(0, 10, lambda z, p: z.mean()),
        InfoVAE(0, 10, lambda z, p: z.std()),
    ),
    "two objects": (Plain(2), Plain(3)),
    "a method of two objects": (Plain(2).method, Plain(3).method),
    "an array inside": (Plain(np.array(2)), Plain(np.array(3))),
}


@pytest.mark.parametrize("pair", SAME_NAMES)
def test_objectives_that_share_a_name_do_not_resume_each_other(file, pair):
    one, other = SAME_NAMES[pair]
    quick(new_model(), one, GREY, epochs=1, checkpoint=file)
    with pytest.raises(ValueError, match=r"belongs to another run .*objective"):
        quick(new_model(), other, GREY, epochs=2, checkpoint=file)
    assert quick(new_model(), one, GREY, epochs=2, checkpoint=file).finished


SCRIPT = """
import torch, vaelearn as vl
class Mine:
    def __call__(self, model, x): return vl.objectives.IWAE(K)(model, x)
for K, epochs in {runs}:
    model = (torch.manual_seed(3), vl.models.VAE.mlp(6, 2, (8,)))[1]
    objective = lambda m, x: (Mine(), vl.objectives.IWAE(K))[1](m, x)
    vl.fit(model, objective, torch.full((4, 6), 0.5), epochs, progress=False, checkpoint={file!r})
"""


def in_another_process(file, runs):
    script = SCRIPT.format(file=str(file), runs=runs)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False).stderr


def test_another_process_knows_the_same_objective_and_no_other(file):
    """A lambda that reads a global number, and a class of the script's own: both compared by what they do."""
    assert in_another_process(file, [(2, 1)]) == ""
    assert "belongs to another run (objective.K=2 there, objective.K=3 here)" in in_another_process(
        file, [(2, 2), (3, 3)]
    )
    assert len(files.load(file)["history"]["epoch"]) == 2


def test_a_counter_inside_an_objective_is_no_setting(file):
    calls, log = 0, []

    def counting(model, x):
        nonlocal calls
        calls += 1
        log.append(len(x))
        return ELBO()(model, x)

    quick(new_model(), counting, GREY, epochs=1, checkpoint=file)
    assert quick(new_model(), counting, GREY, epochs=2, checkpoint=file).history["epoch"] == [1, 2]
    assert len(log) == 4


def test_models_that_look_alike_and_compute_otherwise_do_not_resume_each_other(file):
    class Tempered(nn.Module):
        """Its repr does not tell the temperature."""

        def __init__(self, temperature):
            super().__init__()
            self.net, self.temperature, self.support = new_model().decoder, temperature, new_model().support

        def forward(self, z):
            return self.net(z / self.temperature)

    def model(temperature, extra=()):
        return vl.models.VAE(nn.Sequential(new_model().encoder, *extra), Tempered(temperature), 6, 2)

    frozen = model(1.0)
    frozen.encoder.requires_grad_(False)
    quick(model(1.0), ELBO(), GREY, epochs=1, checkpoint=file)
    for other in (model(2.0), model(1.0, [nn.Identity()]), frozen):
        with pytest.raises(ValueError, match=r"belongs to another run .*model"):
            quick(other, ELBO(), GREY, epochs=2, checkpoint=file)
    assert quick(model(1.0), ELBO(), GREY, epochs=2, checkpoint=file).finished


# The file's place


def test_home_is_where_the_tilde_says(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    quick(new_model(), ELBO(), GREY, epochs=1, checkpoint="~/deep/run.pt")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["deep", "run.pt"]


def test_a_folder_a_file_in_the_way_and_a_dangling_link_are_named_before_training(tmp_path):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "link").symlink_to(tmp_path / "gone" / "run.pt")
    model = new_model()
    for place, error, sentence in (
        (tmp_path, ValueError, r"is a folder: name a file in it, such as .*run\.pt"),
        (tmp_path / "file" / "run.pt", OSError, r"no checkpoint can be written at .*run\.pt"),
        (tmp_path / "link", ValueError, r"link is a link to .*gone/run\.pt, which is not there"),
    ):
        with pytest.raises(error, match=sentence):
            quick(model, ELBO(), GREY, epochs=1, checkpoint=place)
    assert torch.equal(weights(model), weights(new_model()))
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_text() == "in the way"


def test_a_link_is_followed_and_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "run.pt")
    quick(new_model(), ELBO(), GREY, epochs=1, checkpoint=tmp_path / "disk" / "run.pt")
    run = quick(new_model(), ELBO(), GREY, epochs=2, checkpoint=tmp_path / "link")
    assert run.history["epoch"] == [1, 2] and (tmp_path / "link").is_symlink()
    assert len(files.load(tmp_path / "disk" / "run.pt")["history"]["epoch"]) == 2


@pytest.mark.parametrize("epochs_before", [0, 1])
def test_a_full_disk_says_so_and_what_is_left(file, monkeypatch, epochs_before):
    if epochs_before:
        quick(new_model(), ELBO(), GREY, epochs=1, checkpoint=file)
    before = file.read_bytes() if epochs_before else None

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    left = "the checkpoint of the epoch before is still there" if epochs_before else "there is none yet"
    with pytest.raises(
        OSError, match=rf"run\.pt could not be written: No space left on device; {left}"
    ) as caught:
        quick(new_model(), ELBO(), GREY, epochs=2, checkpoint=file)
    assert caught.value.errno == errno.ENOSPC
    assert [p.name for p in file.parent.iterdir()] == ["run.pt"] * epochs_before
    assert not epochs_before or file.read_bytes() == before


def test_a_file_that_cannot_be_read_is_not_called_no_checkpoint(file, monkeypatch):
    quick(new_model(), ELBO(), GREY, epochs=1, checkpoint=file)

    def forbidden(self):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(type(file), "read_bytes", forbidden)
    with pytest.raises(OSError, match=r"run\.pt cannot be read: Permission denied"):
        quick(new_model(), ELBO(), GREY, epochs=2, checkpoint=file)


def test_two_runs_on_one_file_are_told_at_the_start(file):
    inside, go_on = threading.Event(), threading.Event()

    def waiting(model, x):
        inside.set()
        go_on.wait(30)
        return ELBO()(model, x)

    first = threading.Thread(
        target=quick, args=(new_model(), waiting, GREY), kwargs={"epochs": 1, "checkpoint": file}
    )
    first.start()
    inside.wait(30)
    model = new_model()
    try:
        with pytest.raises(
            ValueError, match=r"another fit is writing .*run\.pt: wait for it, or give each run a file"
        ):
            quick(model, ELBO(), GREY, epochs=1, checkpoint=file)
        assert "another fit is writing" in in_another_process(file, [(2, 1)])
    finally:
        go_on.set()
        first.join()
    assert torch.equal(weights(model), weights(new_model()))
    assert [p.name for p in file.parent.iterdir()] == ["run.pt"]


def test_a_lock_left_by_a_killed_process_holds_nobody_up(file):
    file.with_name("run.pt.lock").touch()
    assert quick(new_model(), ELBO(), GREY, epochs=1, checkpoint=file).finished
