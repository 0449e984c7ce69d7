"""One training loop for every objective and every model."""

import os
import warnings
from collections import defaultdict
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from . import checkpoint as on_disk
from .checks import check_choice, check_count, check_instance, check_rate
from .data import Rows, draw_pixels
from .models import LatentVariableModel, modes_kept, values_known
from .objectives import Schedule, Step

Objective = Callable[[LatentVariableModel, Tensor], Step]
Rate = float | Callable[[int], float]
# After how many batches to look whether losses are finite. A CPU is never ahead of Python, so there it costs
# nothing to stop before the first bad step; a GPU would wait at each.
READ_EVERY = {"cpu": 1}
# Fused: one kernel for all parameters. At K = 1 the optimizer's overhead is a visible share of a step.
Adam = partial(torch.optim.Adam, fused=True)


@dataclass
class Run:
    """What `fit` did. history: plain lists, one entry an epoch, ready to plot: "epoch", "lr", "train" and
    (where there are validation data) "valid", bounds in nats. Terms that an objective reports apart come
    after them, as "train kl" and "valid kl" do; "objective" is there where a Schedule changes it, and
    "best", the epoch whose validation bound is the best so far, with keep="best"."""

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
    device: str | torch.device = "auto",
    checkpoint: str | os.PathLike | None = None,
    keep: str = "last",
    autocast: torch.dtype | None = None,
    progress: bool = True,
) -> Run:
    """Train `model` in place and return the `Run`.

    objective: one for all epochs, or a `Schedule` of them.
    data: a Dataset with .train and .valid (which may be None), or rows of x to train on: a tensor or a
        NumPy array (N, D) or (N, C, H, W), or anything with a length that gives such rows for an index
        tensor. All but tensors are read a batch at a time, so a memory-mapped file may exceed memory.
    batch_size: rows a step. A last row left alone joins the batch before it.
    lr: a number, or a function epoch -> number (a schedule; epochs count from 0).
    critic_lr: a number for the objective's own parameters (a baseline, a discriminator); None is lr.
    binarize: draw every pixel anew, x ~ Bernoulli(grey), each time a training image is used.
        Validation images are drawn from the seed, the same at every epoch: the curve compares like with like.
    device: where to train. "auto" takes CUDA, then an Apple GPU, then the CPU; `Run.device` and the
        bar say which. Afterwards the model is back on the device where it was.
    checkpoint: a file, written whole after every epoch. Where it exists already, training goes on
        from it, and on a CPU ends at the same numbers, bit for bit, as if never interrupted.
    keep: "last", or "best": the weights of the epoch with the best validation bound are what comes back,
        after an interrupt or an error too.
    autocast: torch.bfloat16 runs the networks of a training step in that type; weights, log-densities,
        bounds and validation keep the model's own. fit inside torch.autocast is an error: the copies that
        it keeps of the weights would not follow them.

    The caller's random state and the model's training mode are left as they were. Threads of one process
    share torch's random state: run one fit at a time in each. An interrupt (Ctrl-C) warns and returns the
    Run: its history holds the full epochs, the model its weights at that moment. Raises ValueError or
    TypeError for bad arguments or data or a checkpoint made with other settings, OSError where a checkpoint
    cannot be read or written, and FloatingPointError at the first loss or weight that is not finite (on a
    GPU up to fifty batches later: it is not made to wait for a look at each).
    """
    epochs, batch_size = check_count("epochs", epochs), check_count("batch_size", batch_size)
    seed = check_count("seed", seed, minimum=0)
    check_choice("keep", keep, ("last", "best"))
    if autocast not in (None, torch.bfloat16):
        raise ValueError(
            f"autocast must be None or torch.bfloat16 (float16 would need a loss scale); got {autocast!r}"
        )
    check_instance("model", model, "a LatentVariableModel, such as VAE.mlp(64, 8)", having="draw")
    check_instance("objective", objective, "a function (model, x) -> Step, such as ELBO()")
    train, valid = split(data, model)
    if keep == "best" and valid is None:
        raise ValueError(
            "keep='best' needs validation data: give a Dataset, or an object with .train and .valid"
        )
    for rows in (train, valid):
        if rows is not None:
            rows.check(model, binarize)

    run = Run(model, objective, choose_device(device, train.like.dtype), bool(binarize))
    critic = objective if isinstance(objective, nn.Module) else nn.Module()
    with on_device(model, run.device), on_device(critic, run.device, train.like.dtype):
        if torch.is_autocast_enabled(run.device.split(":")[0]):
            raise ValueError(
                "fit cannot train inside torch.autocast: leave it, and pass fit(..., autocast=...)"
            )
        state = State(run, critic, optimizer, lr, critic_lr, batch_size, seed, epochs, keep, autocast)
        check_batches(state, train, valid)
        progress_bar = bar(epochs, run, progress)
        try:
            with (
                progress_bar,
                random_state(seed, run.device),
                state.resumed(checkpoint, train, valid) as save,
                values_known(model),
            ):
                train.to(run.device)
                if valid is not None:
                    valid.to(run.device)
                progress_bar.update(state.epoch)
                while state.epoch < epochs:
                    record = {"epoch": state.epoch + 1, "lr": state.rates[state.epoch]}
                    if isinstance(objective, Schedule):
                        record["objective"] = name_of(state.objectives[state.epoch])
                    record |= train_epoch(state, train)
                    if valid is not None:
                        record |= evaluate(state, valid, seed)
                    if keep == "best":
                        record["best"] = state.best_so_far(record["valid"])
                    # One assignment, so that an interrupt finds every list of one length.
                    run.history = {
                        name: [*run.history.get(name, []), value] for name, value in record.items()
                    }
                    save()
                    progress_bar.update()
                    shown = {name: f"{record[name]:.2f}" for name in ("train", "valid") if name in record}
                    progress_bar.set_postfix(shown)
                run.finished = True
        except KeyboardInterrupt:
            how = "call fit again to go on" if checkpoint else "pass checkpoint=... to be able to go on"
            where = f"in epoch {state.epoch + 1}; the history holds {state.epoch} full epochs"
            warnings.warn(f"interrupted {where}; {how}", stacklevel=2)
        finally:
            if state.best:
                model.load_state_dict(state.best["model"])
    return run


def train_epoch(state: "State", train: Rows) -> dict[str, float]:
    """One pass over the data in random order; the mean bound and its terms as the parameters moved."""
    run, optimizer, objective = state.run, state.optimizer, state.objectives[state.epoch]
    run.model.train(), state.critic.train()
    state.set_rates()
    totals, losses, every = defaultdict(list), [], READ_EVERY.get(run.device, 50)
    for batch, index in enumerate(batches(torch.randperm(len(train)), state.batch_size)):
        x = train[index]
        x = draw_pixels(x) if run.binarize else x
        with state.precision():
            step = objective(run.model, x)
        check_step(step, x)
        where = f"epoch {state.epoch + 1}, batch {batch + 1}"
        of_step = (step.e_step, step.m_step, step.critic_loss)
        losses += [(loss.detach(), where) for loss in of_step if loss is not None]
        if batch % every == 0:
            check_losses(losses, x)
        state.check_critic(step)
        optimizer.zero_grad()
        step.backward()
        optimizer.step()
        for name, values in named(step, "train").items():
            totals[name].append(values.sum())
    check_losses(losses, x)
    for parameter in (*run.model.parameters(), *state.critic.parameters()):
        if not parameter.isfinite().all():
            raise not_finite("a weight", parameter[~parameter.isfinite()][0], where, x)
    return {name: sum(torch.stack(sums).tolist()) / len(train) for name, sums in totals.items()}


@torch.no_grad()
def evaluate(state: "State", valid: Rows, seed: int) -> dict[str, float]:
    """The mean bound over the validation data and its terms, in nats, with the same noise at every call:
    curves then move only because the model does, and training draws the same samples whether it is called
    or not."""
    run, pixels, parts = state.run, torch.Generator().manual_seed(seed + 1), []
    run.model.eval(), state.critic.eval()
    with random_state(seed, run.device):
        for index in batches(torch.arange(len(valid)), state.batch_size):
            x = draw_pixels(valid[index], pixels) if run.binarize else valid[index]
            step = run.objective(run.model, x)
            check_step(step, x)
            parts.append(named(step, "valid"))
    means = {name: torch.cat([part[name] for part in parts]).mean() for name in parts[0]}
    if not means["valid"].isfinite():
        raise not_finite("the loss", -means["valid"], f"epoch {state.epoch + 1}, on the validation data", x)
    return {name: mean.item() for name, mean in means.items()}


def batches(order: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    """The rows of each step. A last one left alone joins the batch before it: a batch of one has no
    variance, and no pair of codes."""
    pieces = order.split(batch_size)
    if batch_size > 1 and len(pieces) > 1 and len(pieces[-1]) == 1:
        pieces = (*pieces[:-2], torch.cat(pieces[-2:]))
    return pieces


def check_batches(state: "State", *data: Rows | None) -> None:
    """Raise ValueError, before training starts, where an objective will meet a batch too small for it."""
    for objective in (state.run.objective, *state.objectives):
        fewest = getattr(objective, "fewest_rows", 1)
        for rows in data:
            if rows is not None and min(state.batch_size, len(rows)) < fewest:
                raise ValueError(
                    f"{name_of(objective)} compares the rows of a batch with each other and needs {fewest} "
                    f"or more; got batch_size={state.batch_size} and {rows.name} of {len(rows)} rows"
                )


def named(step: Step, which: str) -> dict[str, Tensor]:
    """What a step puts into the history: the bound, then the terms it is made of."""
    return {which: step.bound} | {f"{which} {name}": values for name, values in step.terms.items()}


def check_step(step: Step, x: Tensor) -> None:
    """Raise unless it is a Step of scalar losses and one bound a row: the history sums over rows."""
    if not isinstance(step, Step):
        raise TypeError(
            f"an objective must return a Step, such as Step.joint(model, bound) with bound (B,) in nats; "
            f"got a {type(step).__name__}"
        )
    for name, values in named(step, "bound").items():
        if values.shape != (len(x),):
            raise ValueError(
                f"{name} must have one number a row, ({len(x)},); got shape {tuple(values.shape)}"
            )
    for name in ("e_step", "m_step"):
        if getattr(step, name).shape != ():
            raise ValueError(f"{name} must be one number; got shape {tuple(getattr(step, name).shape)}")


def check_losses(losses: list[tuple[Tensor, str]], x: Tensor) -> None:
    """Raise for the first (loss, where) that is not finite, and forget them all: one look, and so one wait
    for the device, for many."""
    if losses:
        bad = ~torch.stack([loss for loss, _ in losses]).isfinite()
        if bad.any():
            raise not_finite("the loss", *losses[int(bad.nonzero()[0])], x)
    losses.clear()


def not_finite(what: str, value: Tensor, where: str, x: Tensor) -> FloatingPointError:
    """The error that says what stopped being finite, where, and what the usual causes are."""
    return FloatingPointError(
        f"{what} became {value.item():.4g} in {where}. Usual causes: a learning rate too high; a learned σ "
        "shrinking towards 0; NaN or infinite parameters; data far from unit scale (here |x| reaches "
        f"{x.abs().max():.4g}: divide them by their standard deviation)."
    )


def choose_device(device: str | torch.device = "auto", dtype: torch.dtype = torch.float32) -> str:
    """ "auto" -> "cuda", "mps" or "cpu", whichever is there; any other name is tried and returned.

    Apple's GPU has no float64. Raises ValueError for a device that cannot be used here.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() and dtype != torch.float64 else "cpu"
    try:
        torch.empty(0, device=device, dtype=dtype).cpu()
        return str(torch.device(device))
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"device {device!r} cannot be used here; try 'auto' or 'cpu'. ({error})") from error


def split(data, model: LatentVariableModel) -> tuple[Rows, Rows | None]:
    """(train, valid) of a Dataset; anything else is all training data."""
    like = next(model.parameters(), None)
    if like is None:
        raise ValueError("the model has no parameters: there is nothing to train")
    # A torch Dataset may have a .train of its own, a flag.
    if isinstance(data, torch.utils.data.Dataset) or not hasattr(data, "train"):
        return Rows(data, like), None
    valid = getattr(data, "valid", None)
    return Rows(data.train, like, "train"), None if valid is None else Rows(valid, like, "valid")


def bar(epochs: int, run: Run, progress: bool):
    """The epochs still to train, under a progress bar that names what is trained."""
    # Imported here because tqdm.auto pulls in ipywidgets where that is installed.
    from tqdm.auto import tqdm

    binarized = ", binarized anew each epoch" if run.binarize else ""
    title = f"{name_of(run.objective)} on {run.device}{binarized}"
    return tqdm(total=epochs, desc=title, unit="epoch", disable=not progress)


def name_of(objective: Objective) -> str:
    """What the bar and the history call it, in one line."""
    name = getattr(objective, "__qualname__", None) or " ".join(repr(objective).split())
    return type(objective).__qualname__ if " at 0x" in name else name


@contextmanager
def on_device(module: nn.Module, device: str, dtype: torch.dtype | None = None):
    """The module there inside, back home and in its own modes afterwards."""
    home = next((p.device for p in module.parameters()), None)
    with modes_kept(module):
        try:
            module.to(device, dtype)
            yield
        finally:
            if home is not None:
                module.to(home)


@contextmanager
def random_state(seed: int, device: str):
    """Seeded randomness inside, the caller's own again afterwards."""
    sources = generators(device)
    before = {kind: source.get_state() for kind, source in sources.items()}
    for source in sources.values():
        source.manual_seed(seed)
    try:
        yield
    finally:
        for kind, source in sources.items():
            source.set_state(before[kind])


def generators(device: str) -> dict[str, torch.Generator]:
    """What training on this device draws from, and no more; the order of the data comes from the CPU's."""
    kind, index = torch.device(device).type, torch.device(device).index
    found = {"cpu": torch.default_generator}
    if kind == "mps":
        found[kind] = torch.mps._get_default_mps_generator()
    elif kind != "cpu":
        backend = getattr(torch, kind)
        backend.init()
        found[kind] = backend.default_generators[backend.current_device() if index is None else index]
    return found


class State:
    """All that decides how a run goes on."""

    def __init__(
        self,
        run: Run,
        critic: nn.Module,
        optimizer: Callable,
        lr: Rate,
        critic_lr: float | None,
        batch_size: int,
        seed: int,
        epochs: int,
        keep: str,
        autocast: torch.dtype | None = None,
    ):
        self.run, self.critic, self.batch_size, self.best = run, critic, batch_size, {}
        # No cache of cast weights: some versions of torch hand a copy made under `no_grad` to what follows.
        settings = {"dtype": autocast, "enabled": autocast is not None, "cache_enabled": False}
        self.precision = partial(torch.autocast, run.device.split(":")[0], **settings)
        objective = run.objective
        at = objective.at if isinstance(objective, Schedule) else lambda epoch: objective
        # All of them now: a rate that is NaN in the last epoch is an error before the first.
        self.rates = [
            check_rate(f"lr in epoch {e + 1}", lr(e) if callable(lr) else lr) for e in range(epochs)
        ]
        self.objectives = [at(e) for e in range(epochs)]
        for epoch, one in enumerate(self.objectives):
            check_instance(f"the objective in epoch {epoch + 1}", one, "a function (model, x) -> Step")
        self.critic_lr = None if critic_lr is None else check_rate("critic_lr", critic_lr)
        if not any(p.requires_grad for p in run.model.parameters()):
            raise ValueError("all parameters of the model are frozen: there is nothing to train")
        # One optimizer of two groups is two optimizers: Adam and its kind treat each number apart.
        groups = [{"params": [*module.parameters()]} for module in (run.model, critic)]
        try:
            self.optimizer = optimizer([group for group in groups if group["params"]], lr=self.rates[0])
        except TypeError as error:
            raise TypeError(
                "optimizer must be a function (parameters, lr=...) -> optimizer, such as torch.optim.Adam; "
                f"got {optimizer!r} ({error})"
            ) from error
        self.settings = {
            **on_disk.fingerprint(self.optimizer.defaults, "optimizer"),
            "optimizer": type(self.optimizer).__name__,
            "batch_size": batch_size,
            "binarize": run.binarize,
            "critic_lr": self.critic_lr,
            "seed": seed,
            "keep": keep,
            "autocast": str(autocast),
        } | self.described()

    def described(self) -> dict[str, str]:
        """What is known of model and objective apart from the weights."""
        objective = self.run.objective
        fixed = objective.report if isinstance(objective, Schedule) else objective
        return on_disk.fingerprint(self.run.model, "model") | on_disk.fingerprint(fixed, "objective")

    def set_rates(self) -> None:
        """Give every group of parameters the learning rate of this epoch."""
        model, *critic = self.optimizer.param_groups
        model["lr"] = self.rates[self.epoch]
        for group in critic:
            group["lr"] = model["lr"] if self.critic_lr is None else self.critic_lr

    def check_critic(self, step: Step) -> None:
        """A critic that the optimizer does not know would never learn, without a word."""
        if step.critic is None:
            return
        known = {id(p) for group in self.optimizer.param_groups for p in group["params"]}
        if not {id(p) for p in step.critic.parameters()} <= known:
            raise ValueError(
                "this step's critic is not among the objective's parameters, so fit cannot train it: make "
                "the objective an nn.Module that holds it; a Schedule's objectives share that of `report`"
            )

    @property
    def epoch(self) -> int:
        """How many epochs are complete."""
        return len(self.run.history.get("epoch", []))

    def best_so_far(self, bound: float) -> int:
        """The epoch whose validation bound is the best, this one included; its weights are set aside."""
        if not self.best or bound > self.best["bound"]:
            weights = {name: value.clone() for name, value in self.run.model.state_dict().items()}
            self.best = {"epoch": self.epoch + 1, "bound": bound, "model": weights}
        return self.best["epoch"]

    @contextmanager
    def resumed(self, path: str | os.PathLike | None, train: Rows, valid: Rows | None):
        """Go on from the file, where there is one, and give the function that writes it."""
        if path is None:
            yield lambda: None
            return
        with on_disk.held(path) as path:
            self.settings["data"] = f"{train.checksum()} {valid.checksum() if valid else 'none'}"
            if path.exists():
                self.load(path)
            yield lambda: self.save(path)

    def save(self, path: Path) -> None:
        # What changes while it runs (a counter) is no setting.
        now = self.settings | self.described()
        state = {
            "settings": {name: value for name, value in self.settings.items() if now.get(name) == value},
            "history": self.run.history,
            "model": self.run.model.state_dict(),
            "critic": self.critic.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random_state": {
                kind: source.get_state() for kind, source in generators(self.run.device).items()
            },
            "best": self.best,
        }
        state["settings"] |= self.past(self.epoch)
        on_disk.save(path, state)

    def past(self, epochs: int) -> dict[str, list]:
        """What the schedules gave in each epoch so far: a later epoch's may still be changed."""
        changes = isinstance(self.run.objective, Schedule)
        objectives = [str(on_disk.fingerprint(one, "")) for one in self.objectives[: epochs * changes]]
        return {"lr": self.rates[:epochs], "the schedule's objectives": objectives}

    def load(self, path: Path) -> None:
        """Raises ValueError where the file belongs to a run with other settings, or to a longer one."""
        state = on_disk.load(path)
        done = len(state["history"]["epoch"])
        if done > len(self.rates):
            raise ValueError(
                f"{path} holds {done} epochs already, and epochs={len(self.rates)} asks for fewer: ask for "
                f"{done} or more, or move the file away"
            )
        # What only one of the two knows is a default that came with another version.
        there, here = state["settings"], self.settings | self.past(done)
        names = [name for name in here if name in there and there[name] != here[name]]
        differing = [f"{name}={there[name]} there, {name}={here[name]} here" for name in names]
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
        self.run.history, self.best = state["history"], state["best"]
        for kind, source in generators(self.run.device).items():
            if kind in state["random_state"]:
                source.set_state(state["random_state"][kind])
