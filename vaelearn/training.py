"""One training loop for every objective and every model."""

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from .data import binarize as draw_binary
from .models import LatentVariableModel, check_count
from .objectives import Step

Objective = Callable[[LatentVariableModel, Tensor], Step]
Rate = float | Callable[[int], float]
# Fused: one kernel for all parameters. At K = 1 the optimizer's overhead is a visible share of a step.
Adam = partial(torch.optim.Adam, fused=True)


@dataclass
class Run:
    """What `fit` did. history: plain lists of numbers, one entry an epoch, ready to plot:
    "epoch", "lr", "train" and (where there are validation data) "valid", bounds in nats."""

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
    optimizer: Callable = Adam,
    binarize: bool = False,
    seed: int = 0,
    device: str = "auto",
    checkpoint: str | os.PathLike | None = None,
    progress: bool = True,
) -> Run:
    """Train `model` in place and return the `Run`.

    data: a Dataset with .train and .valid, or one tensor (N, D) to train on.
    lr: a number, or a function epoch -> number (a schedule; epochs count from 0).
    binarize: draw every pixel anew, x ~ Bernoulli(grey), each time a training image is used.
        Validation images are drawn once, from the seed, so that the curve compares like with like.
    device: "auto" takes CUDA, then an Apple GPU, then the CPU; `Run.device` and the bar say which.
    checkpoint: a file, written whole after every epoch. Where it exists already, training goes on
        from it, and on a CPU ends at the same numbers, bit for bit, as if never interrupted.

    The caller's random state is left as it was. An interrupt (Ctrl-C) warns and returns the
    epochs completed. Raises ValueError for bad arguments or data or a checkpoint made with other
    settings, and FloatingPointError at the first loss that is not finite.
    """
    check_count("epochs", epochs)
    check_count("batch_size", batch_size)
    device = choose_device(device)
    train, valid = split(data)
    for x in (train, valid):
        if x is not None:
            model.check_data(x)
    rate = lr if callable(lr) else lambda epoch: lr
    run = Run(model.to(device), objective, device, binarize)
    critic = objective.to(device) if isinstance(objective, nn.Module) else nn.Module()
    parameters = [*model.parameters(), *critic.parameters()]
    state = State(run, critic, optimizer(parameters, lr=rate(0)), rate, batch_size, seed, train)
    train, valid = train.to(device), None if valid is None else valid.to(device)

    with torch.random.fork_rng(), bar(epochs, run, progress) as progress_bar:
        torch.manual_seed(seed)
        if valid is not None and binarize:
            valid = draw_binary(valid)
        if checkpoint is not None and Path(checkpoint).exists():
            state.load(checkpoint)
        done = len(run.history.get("epoch", []))
        progress_bar.update(done)
        try:
            for epoch in range(done, epochs):
                record = {"epoch": epoch + 1, "lr": rate(epoch)}
                record["train"] = train_epoch(state, train, epoch)
                if valid is not None:
                    record["valid"] = evaluate(model, objective, valid, batch_size, seed)
                for name, value in record.items():
                    run.history.setdefault(name, []).append(value)
                if checkpoint is not None:
                    state.save(checkpoint)
                progress_bar.update()
                progress_bar.set_postfix({k: f"{record[k]:.2f}" for k in ("train", "valid") if k in record})
            run.finished = True
        except KeyboardInterrupt:
            how = "call fit again to go on" if checkpoint else "pass checkpoint=... to be able to go on"
            warnings.warn(
                f"interrupted in epoch {epoch + 1}; the history holds {epoch} full epochs; {how}",
                stacklevel=2,
            )
    return run


def train_epoch(state: "State", train: Tensor, epoch: int) -> float:
    """One pass over the data in random order; the mean bound, in nats, as the parameters moved."""
    run, optimizer = state.run, state.optimizer
    for group in optimizer.param_groups:
        group["lr"] = state.rate(epoch)
    total = 0.0
    for batch, index in enumerate(torch.randperm(len(train)).split(state.batch_size)):
        x = train[index.to(train.device)]
        step = run.objective(run.model, draw_binary(x) if run.binarize else x)
        for loss in (step.e_step, step.m_step):
            if not loss.isfinite():
                raise FloatingPointError(
                    f"the loss became {loss.item():.4g} in epoch {epoch + 1}, batch {batch + 1}. Usual "
                    "causes: a learning rate too high; a learned σ shrinking towards 0; NaN parameters."
                )
        optimizer.zero_grad()
        step.backward()
        optimizer.step()
        total += step.bound.sum().item()
    return total / len(train)


@torch.no_grad()
def evaluate(model, objective, x: Tensor, batch_size: int, seed: int) -> float:
    """The mean bound over x, in nats, with the same noise at every call: curves then move only
    because the model does, and training draws the same samples whether it is called or not."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return sum(objective(model, batch).bound.sum().item() for batch in x.split(batch_size)) / len(x)


def choose_device(device: str = "auto") -> str:
    """ "auto" -> "cuda", "mps" or "cpu", whichever is there; any other name is tried and returned."""
    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {device!r} cannot be used here; try 'auto' or 'cpu'. ({error})") from error
    return device


def split(data) -> tuple[Tensor, Tensor | None]:
    """(train, valid) of a Dataset; a bare tensor is all training data."""
    if isinstance(data, Tensor):
        return data, None
    if not hasattr(data, "train"):
        raise ValueError(f"data must be a Dataset or a tensor (N, D); got {type(data).__name__}")
    return data.train, data.valid


def bar(epochs: int, run: Run, progress: bool):
    # Imported here because tqdm.auto pulls in ipywidgets where that is installed.
    from tqdm.auto import tqdm

    binarized = ", binarized anew each epoch" if run.binarize else ""
    title = f"{name_of(run.objective)} on {run.device}{binarized}"
    return tqdm(total=epochs, desc=title, unit="epoch", disable=not progress)


def name_of(objective: Objective) -> str:
    """A name that stays the same from one process to the next, so that checkpoints can hold it."""
    return getattr(objective, "__qualname__", None) or repr(objective)


class State:
    """All that decides how a run goes on, as one file: written whole, read back without running code."""

    def __init__(
        self, run: Run, critic: nn.Module, optimizer, rate, batch_size: int, seed: int, train: Tensor
    ):
        self.run, self.critic, self.optimizer = run, critic, optimizer
        self.rate, self.batch_size = rate, batch_size
        self.settings = {
            "objective": name_of(run.objective),
            "optimizer": f"{type(optimizer).__name__}{optimizer.defaults}",
            "data": f"shape {tuple(train.shape)}, mean {train.double().mean():.12g}",
            "batch_size": batch_size,
            "binarize": run.binarize,
            "seed": seed,
        }

    def save(self, path: str | os.PathLike) -> None:
        """A kill at any moment leaves the old file or the new one, never a torn one."""
        state = {
            "settings": self.settings,
            "history": self.run.history,
            "model": self.run.model.state_dict(),
            "critic": self.critic.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all(),
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
            there, history, rates = state["settings"], state["history"], state["history"]["lr"]
        except Exception as error:
            raise ValueError(
                f"{path} is not a checkpoint of fit's; move it away to start anew. ({error})"
            ) from error
        there, here = there | {"lr": rates}, self.settings | {"lr": [*map(self.rate, range(len(rates)))]}
        differing = [f"{k}: {there.get(k)} there, {here[k]} here" for k in here if there.get(k) != here[k]]
        if differing:
            raise ValueError(
                f"{path} belongs to another run ({'; '.join(differing)}); match it, or move the file away"
            )
        self.run.history = history
        self.run.model.load_state_dict(state["model"])
        self.critic.load_state_dict(state["critic"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
        torch.cuda.set_rng_state_all(state["cuda_rng"])
