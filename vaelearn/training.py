"""One training loop for every objective and every model."""

import os
import warnings
import zlib
from collections import defaultdict
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from .checks import check_count
from .data import binarize as draw_binary
from .models import LatentVariableModel
from .objectives import Step

Objective = Callable[[LatentVariableModel, Tensor], Step]
Rate = float | Callable[[int], float]
# Fused: one kernel for all parameters. At K = 1 the optimizer's overhead is a visible share of a step.
Adam = partial(torch.optim.Adam, fused=True)


@dataclass
class Run:
    """What `fit` did. history: plain lists of numbers, one entry an epoch, ready to plot:
    "epoch", "lr", "train" and (where there are validation data) "valid", bounds in nats. Terms that
    an objective reports apart come after them, as "train kl" and "valid kl" do."""

    model: LatentVariableModel
    objective: Objective
    device: str
    binarize: bool
    finished: bool = False
    history: dict[str, list] = field(default_factory=dict)


def fit(
    model: LatentVariableModel,
    objective: Objective,
    data,
    epochs: int = 50,
    batch_size: int = 100,
    lr: Rate = 1e-3,
    critic_lr: float | None = None,
    optimizer: Callable = Adam,
    binarize: bool = False,
    seed: int = 0,
    device: str = "auto",
    checkpoint: str | os.PathLike | None = None,
    progress: bool = True,
) -> Run:
    """Train `model` in place and return the `Run`.

    data: a Dataset with .train and .valid (which may be None), or one tensor (N, D) to train on.
    lr: a number, or a function epoch -> number (a schedule; epochs count from 0).
    critic_lr: a number for the objective's own parameters (a baseline, a discriminator); None is lr.
    binarize: draw every pixel anew, x ~ Bernoulli(grey), each time a training image is used.
        Validation images are drawn once, from the seed, so that the curve compares like with like.
    device: where to train. "auto" takes CUDA, then an Apple GPU, then the CPU; `Run.device` and the
        bar say which. Afterwards the model is back on the device where it was.
    checkpoint: a file, written whole after every epoch. Where it exists already, training goes on
        from it, and on a CPU ends at the same numbers, bit for bit, as if never interrupted.

    The caller's random state is left as it was. An interrupt (Ctrl-C) warns and returns the Run: its
    history holds the full epochs, the model its weights at that moment. Raises ValueError or
    TypeError for bad arguments or data or a checkpoint made with other settings, and
    FloatingPointError at the first loss that is not finite.
    """
    check_count("epochs", epochs)
    check_count("batch_size", batch_size)
    if isinstance(objective, type):
        raise ValueError(f"objective must be an instance, such as {objective.__name__}(); got the class")
    train, valid = split(data)
    for x in (train, valid):
        if x is not None:
            model.check_data(x)
    if valid is not None and binarize:
        valid = draw_binary(valid, torch.Generator(valid.device).manual_seed(seed + 1))

    home, device = train.device, choose_device(device, train.dtype)
    run = Run(model.to(device), objective, device, binarize)
    critic = objective.to(device, train.dtype) if isinstance(objective, nn.Module) else nn.Module()
    state = State(run, critic, optimizer, lr, critic_lr, batch_size)
    progress_bar = bar(epochs, run, progress)
    try:
        with progress_bar, random_state(seed, device):
            if checkpoint is not None:
                state.settings = {
                    "seed": seed,
                    "data": f"{checksum(train)} {checksum(valid)}",
                } | state.settings
                if Path(checkpoint).exists():
                    state.load(checkpoint)
            train, valid = train.to(device), None if valid is None else valid.to(device)
            progress_bar.update(state.epoch)
            while state.epoch < epochs:
                record = {"epoch": state.epoch + 1, "lr": state.rate(state.epoch)}
                record |= train_epoch(state, train)
                if valid is not None:
                    record |= evaluate(state, valid, seed)
                # One assignment, so that an interrupt finds every list of one length.
                run.history = {name: [*run.history.get(name, []), value] for name, value in record.items()}
                if checkpoint is not None:
                    state.save(checkpoint)
                progress_bar.update()
                shown = {name: f"{record[name]:.2f}" for name in ("train", "valid") if name in record}
                progress_bar.set_postfix(shown)
            run.finished = True
    except KeyboardInterrupt:
        how = "call fit again to go on" if checkpoint else "pass checkpoint=... to be able to go on"
        where = f"in epoch {state.epoch + 1}; the history holds {state.epoch} full epochs"
        warnings.warn(f"interrupted {where}; {how}", stacklevel=2)
    finally:
        model.to(home), critic.to(home)
    return run


def train_epoch(state: "State", train: Tensor) -> dict[str, float]:
    """One pass over the data in random order; the mean bound and its terms as the parameters moved."""
    run, optimizer = state.run, state.optimizer
    run.model.train(), state.critic.train()
    state.set_rates()
    totals = defaultdict(float)
    for batch, index in enumerate(torch.randperm(len(train)).split(state.batch_size)):
        x = train[index.to(train.device)]
        step = run.objective(run.model, draw_binary(x) if run.binarize else x)
        for loss in (step.e_step, step.m_step, step.critic_loss):
            if loss is not None and not loss.isfinite():
                raise not_finite(loss, f"epoch {state.epoch + 1}, batch {batch + 1}")
        optimizer.zero_grad()
        step.backward()
        optimizer.step()
        for name, values in named(step, "train").items():
            totals[name] += values.sum().item()
    return {name: total / len(train) for name, total in totals.items()}


@torch.no_grad()
def evaluate(state: "State", x: Tensor, seed: int) -> dict[str, float]:
    """The mean bound over x and its terms, in nats, with the same noise at every call: curves then move
    only because the model does, and training draws the same samples whether it is called or not."""
    run = state.run
    run.model.eval(), state.critic.eval()
    with random_state(seed, run.device):
        batches = [named(run.objective(run.model, batch), "valid") for batch in x.split(state.batch_size)]
    means = {name: torch.cat([batch[name] for batch in batches]).mean() for name in batches[0]}
    if not means["valid"].isfinite():
        raise not_finite(-means["valid"], f"epoch {state.epoch + 1}, on the validation data")
    return {name: mean.item() for name, mean in means.items()}


def named(step: Step, which: str) -> dict[str, Tensor]:
    """What a step puts into the history: the bound, then the terms it is made of."""
    return {which: step.bound} | {f"{which} {name}": values for name, values in step.terms.items()}


def not_finite(loss: Tensor, where: str) -> FloatingPointError:
    """The error that says where the loss stopped being finite, and what the usual causes are."""
    return FloatingPointError(
        f"the loss became {loss.item():.4g} in {where}. Usual causes: a learning rate too high; a "
        "learned σ shrinking towards 0; NaN or infinite parameters."
    )


def choose_device(device: str = "auto", dtype: torch.dtype = torch.float32) -> str:
    """ "auto" -> "cuda", "mps" or "cpu", whichever is there; any other name is tried and returned.

    Apple's GPU has no float64. Raises ValueError for a device that cannot be used here.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() and dtype != torch.float64 else "cpu"
    try:
        torch.empty(0, device=device, dtype=dtype)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"device {device!r} cannot be used here; try 'auto' or 'cpu'. ({error})") from error
    return device


def split(data) -> tuple[Tensor, Tensor | None]:
    """(train, valid) of a Dataset; a bare tensor is all training data."""
    if isinstance(data, Tensor):
        return data, None
    if not hasattr(data, "train"):
        raise ValueError(f"data must be a Dataset or a tensor (N, D); got {type(data).__name__}")
    return data.train, getattr(data, "valid", None)


def bar(epochs: int, run: Run, progress: bool):
    """The epochs still to train, under a progress bar that names what is trained."""
    # Imported here because tqdm.auto pulls in ipywidgets where that is installed.
    from tqdm.auto import tqdm

    binarized = ", binarized anew each epoch" if run.binarize else ""
    title = f"{name_of(run.objective)} on {run.device}{binarized}"
    return tqdm(total=epochs, desc=title, unit="epoch", disable=not progress)


def name_of(objective: Objective) -> str:
    """A name that stays the same from one process to the next, so that checkpoints can hold it."""
    name = getattr(objective, "__qualname__", None) or repr(objective)
    return type(objective).__qualname__ if " at 0x" in name else name


def checksum(x: Tensor | None) -> str:
    """Shape and CRC of a data set: a run must not be resumed on other data."""
    return "none" if x is None else f"{tuple(x.shape)} {zlib.crc32(x.cpu().contiguous().numpy()):08x}"


@contextmanager
def random_state(seed: int, device: str):
    """Seeded randomness inside, the caller's own again afterwards."""
    before = get_random_state(device)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        set_random_state(before, device)


def get_random_state(device: str) -> dict[str, Tensor]:
    """The generators that training on this device draws from; data order comes from the CPU's."""
    kind = device.split(":")[0]
    own = {} if kind == "cpu" else {kind: getattr(torch, kind).get_rng_state()}
    return {"cpu": torch.get_rng_state()} | own


def set_random_state(states: dict[str, Tensor], device: str) -> None:
    """Set the generators of the CPU and of `device` to the states of `random_state`."""
    for kind in states.keys() & {"cpu", device.split(":")[0]}:
        (torch if kind == "cpu" else getattr(torch, kind)).set_rng_state(states[kind])


class State:
    """All that decides how a run goes on, as one file: written whole, read back without running code."""

    def __init__(
        self,
        run: Run,
        critic: nn.Module,
        optimizer: Callable,
        lr: Rate,
        critic_lr: float | None,
        batch_size: int,
    ):
        self.run, self.critic, self.batch_size = run, critic, batch_size
        # Plain floats: a schedule may return NumPy numbers, which a checkpoint must not hold.
        self.rate = lambda epoch: float(lr(epoch) if callable(lr) else lr)
        self.critic_lr = critic_lr
        # One optimizer of two groups is two optimizers: Adam and its kind treat each number apart.
        groups = [{"params": [*module.parameters()]} for module in (run.model, critic)]
        self.optimizer = optimizer([group for group in groups if group["params"]], lr=self.rate(0))
        self.settings = {
            "model": f"{' '.join(repr(run.model).split())} {groups[0]['params'][0].dtype}",
            "objective": name_of(run.objective),
            "optimizer": f"{type(self.optimizer).__name__}{self.optimizer.defaults}",
            "batch_size": batch_size,
            "binarize": run.binarize,
            "critic_lr": critic_lr,
        }

    def set_rates(self) -> None:
        """Give every group of parameters the learning rate of this epoch."""
        model, *critic = self.optimizer.param_groups
        model["lr"] = self.rate(self.epoch)
        for group in critic:
            group["lr"] = model["lr"] if self.critic_lr is None else self.critic_lr

    @property
    def epoch(self) -> int:
        """How many epochs are complete."""
        return len(self.run.history.get("epoch", []))

    def save(self, path: str | os.PathLike) -> None:
        """A kill at any moment leaves the old file or the new one, never a torn one."""
        state = {
            "settings": self.settings,
            "history": self.run.history,
            "model": self.run.model.state_dict(),
            "critic": self.critic.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random_state": get_random_state(self.run.device),
        }
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + ".unfinished")
        with open(unfinished, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)

    def load(self, path: str | os.PathLike) -> None:
        """Raises ValueError where the file is no checkpoint, or belongs to a run with other settings."""
        try:
            state = torch.load(path, weights_only=True, map_location="cpu")
            there, rates = state["settings"], state["history"]["lr"]
        except Exception as error:
            raise ValueError(
                f"{path} is not a checkpoint of fit's; move it away to start anew. ({error})"
            ) from error
        there, here = there | {"lr": rates}, self.settings | {"lr": [*map(self.rate, range(len(rates)))]}
        differing = [f"{k}: {there.get(k)} there, {here[k]} here" for k in here if there.get(k) != here[k]]
        try:
            if not differing:
                self.run.model.load_state_dict(state["model"])
                self.critic.load_state_dict(state["critic"])
                self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            differing = [str(error)]
        if differing:
            raise ValueError(
                f"{path} belongs to another run ({'; '.join(differing)}); match it, or move the file away"
            )
        self.run.history = state["history"]
        set_random_state(state["random_state"], self.run.device)
