"""A table of training runs that a chapter shows: what a run is, how one is trained, what is kept of it.

A run is known by all that decides it: table, method, objective, seed, and every setting of its protocol.
After an edit of any of them it is another run, and its old row goes.

    .cache/experiments/<table>/<key>.json     a finished run; <key>*.pt: where an unfinished one goes on
    book/results/<table>.json                 the table
"""

import hashlib
import json
import os
import platform
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from threading import Lock

import pandas as pd
import torch

import vaelearn as vl

ROOT = Path(__file__).parents[1]
ALONE = Lock()  # threads of one process, a Dask worker's for example, would share torch's random state
OF_THE_TABLE = ("seeds", "methods")  # which runs there are; all other settings say what a run is
# A short form of each table: three epochs of every method, or of those that differ by more than a number, so
# that a test can make them all again. If those rows no longer come out, no longer do the long ones: make them
# again too.
SHORT = {"epochs": 3, "test_images": 50, "reference": 200, "seeds": 1}


def short(protocol: dict, **own) -> dict:
    """The short form of a protocol: SHORT's in place of those of its settings, and `own`."""
    return protocol | {name: value for name, value in SHORT.items() if name in protocol} | own


class Protocol(dict):
    """Settings that know which of them were read: one that decides nothing must not stand in a table."""

    def __init__(self, settings: dict):
        super().__init__(settings)
        self.unread = {*settings}

    def __getitem__(self, name):
        self.unread.discard(name)
        return super().__getitem__(name)

    def get(self, name, default=None):
        return self[name] if name in self else default

    def __or__(self, settings: dict) -> "Protocol":
        """For a part of a run that has settings of its own: what is read there has been read here."""
        part = Protocol({**self, **settings})
        part.unread = self.unread
        return part


@dataclass(frozen=True)
class Run:
    """One training: of which module's table, under which protocol, by which method, from which seed."""

    module: str
    protocol: str
    method: str
    seed: int

    @property
    def table(self) -> "Table":
        return import_module(self.module).TABLE

    @property
    def settings(self) -> dict:
        return settings(self.table.protocols[self.protocol])

    @property
    def objective(self) -> str:
        return vl.training.name_of(self.table.objective(self.method, self.settings))

    @property
    def key(self) -> str:
        decides = [self.table.name, self.method, self.objective, self.seed, self.settings]
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]

    def file(self, suffix: str) -> Path:
        folder = ROOT / ".cache" / "experiments" / self.table.name
        folder.mkdir(parents=True, exist_ok=True)
        return folder / (self.key + suffix)

    def __str__(self):
        return f"{self.table.name} {self.protocol}, {self.method}, seed {self.seed}"


def settings(protocol: dict) -> dict:
    """The part of a protocol that decides a run, as JSON gives it back."""
    return json.loads(json.dumps({k: v for k, v in protocol.items() if k not in OF_THE_TABLE}))


class Table:
    """A subclass gives `measure`, and `build` for another model; its module has one instance as TABLE.

    methods: name -> objective.
    protocols: name -> settings, among them "data", the data set, and "seeds", how many; "methods" may list
    those of the methods to run, all if not.
    """

    def __init__(self, methods: dict, protocols: dict[str, dict]):
        self.methods, self.protocols = methods, protocols
        self.module = type(self).__module__
        self.name = self.module.rpartition(".")[2]

    def objective(self, method: str, protocol: dict):
        return self.methods[method]

    def build(self, method: str, data: vl.data.Dataset, protocol: dict) -> vl.models.LatentVariableModel:
        """The model before training; torch's random state is that of the seed."""
        kind, arguments = self.shape(method, data, protocol)
        return kind.mlp(**arguments)

    def shape(self, method: str, data: vl.data.Dataset, protocol: dict) -> tuple[type, dict]:
        """The kind of the model and what its `mlp` is called with: a VAE of one layer."""
        data_dim = data.train.shape[1]
        arguments = {"latent_dim": protocol["latent_dim"], "hidden": protocol["hidden"]}
        return vl.models.VAE, {"data_dim": data_dim} | arguments

    def schedule(self, protocol: dict) -> tuple[int, Callable[[int], float]]:
        """How many epochs, and the rate of each: it falls geometrically from lr_first to lr_last."""
        epochs, first, last = protocol["epochs"], protocol["lr_first"], protocol["lr_last"]
        return epochs, lambda epoch: first * (last / first) ** (epoch / max(1, epochs - 1))

    def measure(self, model, data: vl.data.Dataset, protocol: dict) -> dict:
        """The columns of a trained model's row; torch's random state is the same for every run."""
        raise NotImplementedError

    def run(self, method: str, seed: int, data, protocol: dict, train: Callable) -> dict:
        """One whole run. train(model, objective) is `train` below with all that is known beforehand."""
        torch.manual_seed(seed)
        model = self.build(method, data, protocol)
        start = time.process_time()
        done = train(model, self.objective(method, protocol))
        seconds = time.process_time() - start
        torch.manual_seed(0)
        return self.measure(model, data, protocol) | self.watched(done) | {"cpu_seconds": round(seconds, 1)}

    def watched(self, done: vl.training.Run) -> dict:
        """The columns that come from the training itself; none unless a subclass says so."""
        return {}

    def runs(self, name: str) -> list[Run]:
        protocol = self.protocols[name]
        methods, seeds = protocol.get("methods", self.methods), range(protocol["seeds"])
        return [Run(self.module, name, method, seed) for seed in seeds for method in methods]

    @property
    def file(self) -> Path:
        return ROOT / "book" / "results" / f"{self.name}.json"

    def stored(self) -> dict:
        return json.loads(self.file.read_text(encoding="utf8")) if self.file.exists() else {}

    def finished(self, name: str) -> dict[Run, dict]:
        """The rows of all runs that are done: from the cache, else from the stored table."""
        block = self.stored().get(name, {"protocol": {}, "objectives": {}, "runs": []})
        today = settings(block["protocol"]) == settings(self.protocols[name])
        made = {
            (row["method"], row["seed"], block["objectives"][row["method"]]): row
            for row in block["runs"]
            if today
        }
        found = {}
        for run in self.runs(name):
            if (done := run.file(".json")).exists():
                found[run] = json.loads(done.read_text(encoding="utf8"))
            elif row := made.get((run.method, run.seed, run.objective)):
                found[run] = row
        return found

    def store(self, name: str) -> None:
        """Write the rows that are there, and no others, beside the protocol they were made by."""
        done = self.finished(name)
        block = {
            "command": f"python -m experiments {self.name} {name}",
            "protocol": self.protocols[name],
            "objectives": {run.method: run.objective for run in done},
            "runs": [*done.values()],
        }
        write(self.file, json.dumps(self.stored() | {name: block}, indent=1, ensure_ascii=False) + "\n")

    def keep_weights(self, run: Run) -> Path:
        """Write a trained model beside the table: what is done is read from the run's checkpoint."""
        data, protocol = load(run.settings["data"]), Protocol(run.settings)
        torch.manual_seed(run.seed)
        model = self.build(run.method, data, protocol)
        _, arguments = self.shape(run.method, data, protocol)
        objective = self.objective(run.method, protocol)
        train(model, objective, data=data, run=run, protocol=protocol, device="cpu", progress=True)
        name = "-".join([self.name, *re.findall(r"\w+", run.method.lower())])
        return vl.trained.save(model, self.file.with_name(name), **arguments)

    def text(self, name: str) -> str:
        """The table for the eye: mean and standard error over the seeds, one line a method."""
        rows = pd.DataFrame([*self.finished(name).values()])
        if rows.empty:
            return f"{self.name} {name}: no run is finished"
        numbers = [c for c in rows.select_dtypes("number") if c not in ("seed", "threads")]
        return rows.groupby("method", sort=False)[numbers].agg(["mean", "sem"]).round(2).to_string()


def finish(run: Run, device: str = "cpu", threads: int = 1, progress: bool = False) -> dict:
    """Train and measure in this process, or go on where that was stopped; returns the row.

    One thread unless told otherwise: sums then come out alike on any number of cores.
    """
    with ALONE:
        torch.set_num_threads(threads)
        return _finish(run, vl.training.choose_device(device), threads, progress)


def _finish(run: Run, device: str, threads: int, progress: bool) -> dict:
    protocol, start = Protocol(run.settings), time.time()
    data = load(protocol["data"])
    fit = partial(train, data=data, run=run, protocol=protocol, device=device, progress=progress)
    columns = run.table.run(run.method, run.seed, data, protocol, fit)
    if protocol.unread:
        raise ValueError(
            f"the protocol {run.protocol!r} of {run.table.name} says {sorted(protocol.unread)}, which "
            "nothing reads: use it or take it out"
        )
    versions = {"python": platform.python_version(), "torch": torch.__version__, "vaelearn": vl.__version__}
    made = {"versions": versions, "device": device, "threads": threads}
    return (
        {"method": run.method, "seed": run.seed} | columns | made | {"seconds": round(time.time() - start, 1)}
    )


def train(
    model, objective, *, data, run: Run, protocol: dict, device: str, progress: bool, part: str = ""
) -> vl.training.Run:
    """Train by the protocol. part: which training of the run this is, where it has several."""
    epochs, lr = run.table.schedule(protocol)
    done = vl.fit(
        model,
        objective,
        data,
        epochs=epochs,
        batch_size=protocol["batch_size"],
        lr=lr,
        optimizer=partial(vl.training.Adam, eps=protocol.get("adam_eps", 1e-8)),
        binarize=protocol["binarize"],
        seed=run.seed,
        device=device,
        checkpoint=run.file(f"{part}.pt"),
        progress=progress,
    )
    if not done.finished:  # an interrupt, which `fit` turns into a warning
        raise KeyboardInterrupt
    return done


@cache
def load(name: str) -> vl.data.Dataset:
    return vl.data.load(name)


def test_images(data, count: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A fixed random choice of test images, binarized once, and their labels: the same for every run."""
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(data.test), generator=generator)[:count]
    labels = None if data.test_labels is None else data.test_labels[chosen]
    return vl.data.binarize(data.test[chosen], generator), labels


def as_text(images: torch.Tensor) -> list[str]:
    """Binary images, a hexadecimal number each: its bits are the pixels."""
    return [f"{int(''.join(str(int(pixel)) for pixel in image), 2):x}" for image in images]


def write(path: Path, text: str) -> None:
    """All of it or nothing: an interrupt leaves the file that was there."""
    beside = path.with_name(path.name + ".part")
    beside.write_text(text, encoding="utf8")
    os.replace(beside, path)


def tables() -> Iterable[Table]:
    """Every table of this folder."""
    for file in sorted(Path(__file__).parent.glob("[!_]*.py")):
        if file.stem != "table":
            yield import_module(f"experiments.{file.stem}").TABLE
