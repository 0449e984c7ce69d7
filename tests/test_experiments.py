"""What `python -m experiments` promises: nothing trained twice, nothing stored under a protocol not its own,
and one table on one core, on many, and on a cluster."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from threading import Thread

import pytest
import torch
from conftest import ROOT
from dask.distributed import Client

import vaelearn as vl
from experiments import __main__ as command
from experiments import table as engine
from tests import tiny_table


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """The tiny table, its files in a folder of the test's own."""
    monkeypatch.setattr(engine, "ROOT", tmp_path)
    (tmp_path / "book" / "results").mkdir(parents=True)
    monkeypatch.setattr(tiny_table.TABLE, "methods", dict(tiny_table.METHODS))
    monkeypatch.setattr(tiny_table.TABLE, "protocols", {k: dict(v) for k, v in tiny_table.PROTOCOLS.items()})
    default, threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float32)
    yield tiny_table.TABLE
    torch.set_default_dtype(default)
    torch.set_num_threads(threads)


def complete(table, name="digits", scheduler=None, jobs=1):
    return command.complete(table, name, scheduler, jobs, device="cpu", threads=1)


def values(table, name="digits"):
    return {(r["method"], r["seed"]): r["nll"] for r in table.stored()[name]["runs"]}


@pytest.fixture
def trained(monkeypatch):
    """What is trained from now on, in this process."""
    seen, attempt = [], command.attempt
    monkeypatch.setattr(
        command, "attempt", lambda run, **options: seen.append(run) or attempt(run, **options)
    )
    return seen


def test_what_is_there_is_not_trained_again(tiny, trained):
    assert complete(tiny) == []
    assert len(trained) == len(values(tiny)) == 6
    first = tiny.file.read_text()
    complete(tiny)
    assert len(trained) == 6
    assert tiny.file.read_text() == first
    for part in (engine.ROOT / ".cache").rglob("*.json"):
        part.unlink()
    complete(tiny)  # from the stored table alone
    assert len(trained) == 6
    row = tiny.stored()["digits"]["runs"][0]
    assert {"method", "seed", "versions", "device", "seconds", "threads"} <= {*row}
    assert row["versions"]["torch"] == torch.__version__


def test_a_kept_model_is_the_one_that_its_row_measured(tiny, monkeypatch):
    monkeypatch.setattr(command, "tables", lambda: [tiny])
    monkeypatch.setattr(sys, "argv", ["experiments", "tiny_table", "digits", "--weights", "IWAE"])
    command.main()
    (path,) = tiny.file.parent.glob("*.npz")
    assert path.name.startswith("tiny_table-iwae-")
    model = vl.trained.load(path)
    torch.manual_seed(0)
    again = tiny.measure(model, vl.data.load("digits"), tiny.protocols["digits"])
    assert again["nll"] == values(tiny)["IWAE", 0]


@pytest.mark.parametrize("setting", ["epochs", "K"])
def test_after_an_edit_no_old_row_stands_under_the_new_protocol(tiny, trained, setting):
    tiny.protocols["digits"]["seeds"] = 1
    complete(tiny)
    before = values(tiny)
    tiny.protocols["digits"][setting] += 1
    assert tiny.finished("digits") == {}
    complete(tiny)
    assert len(trained) == 4
    assert all(values(tiny)[key] != nll for key, nll in before.items())


def test_another_objective_under_an_old_name_is_another_run(tiny, trained):
    tiny.protocols["digits"]["seeds"] = 1
    complete(tiny)
    tiny.methods["IWAE"] = vl.objectives.IWAE(6)
    complete(tiny)
    assert [run.method for run in trained] == ["ELBO", "IWAE", "IWAE"]


def test_more_seeds_keep_the_runs_that_are_there(tiny, trained):
    tiny.protocols["digits"]["seeds"] = 1
    complete(tiny)
    tiny.protocols["digits"]["seeds"] = 2
    complete(tiny)
    assert [run.seed for run in trained] == [0, 0, 1, 1]
    assert len(values(tiny)) == 4


def test_a_protocol_whose_name_begins_with_another_keeps_its_rows_apart(tiny):
    for protocol in tiny.protocols.values():
        protocol["seeds"] = 1
    tiny.protocols["digits-static"] = tiny.protocols["digits"] | {"epochs": 3}
    complete(tiny), complete(tiny, "digits-static")
    assert len(values(tiny)) == len(values(tiny, "digits-static")) == 2
    assert values(tiny) != values(tiny, "digits-static")


def test_a_setting_that_nothing_reads_is_an_error_and_costs_no_other_run(tiny):
    tiny.protocols["digits"] |= {"seeds": 1, "warmth": 3}
    errors = complete(tiny)
    assert len(errors) == 2
    assert "says ['warmth'], which nothing reads" in errors[0]
    assert tiny.stored()["digits"]["runs"] == []


def test_one_run_that_fails_costs_no_other_and_is_tried_again(tiny, trained):
    tiny.protocols["digits"]["seeds"] = 1
    good, tiny.methods["ELBO"] = tiny.methods["ELBO"], lambda model, x: None
    (error,) = complete(tiny)
    assert "tiny_table digits, ELBO, seed 0" in error and "must return a Step" in error
    assert {*values(tiny)} == {("IWAE", 0)}
    tiny.methods["ELBO"] = good
    assert complete(tiny) == []
    assert [run.method for run in trained] == ["ELBO", "IWAE", "ELBO"]


def test_an_interrupt_in_a_run_ends_the_command_and_keeps_what_is_done(tiny, monkeypatch):
    tiny.protocols["digits"]["seeds"] = 1
    complete(tiny)
    expected = values(tiny)
    monkeypatch.setattr(engine, "ROOT", engine.ROOT / "again")
    (engine.ROOT / "book" / "results").mkdir(parents=True)
    calls, step = [], tiny.methods["IWAE"]

    class Pressed(type(step)):
        def __call__(self, model, x):
            calls.append(x)
            if len(calls) == 6:  # in the second epoch
                raise KeyboardInterrupt
            return super().__call__(model, x)

    Pressed.__qualname__, Pressed.__module__ = "IWAE", type(step).__module__
    tiny.methods["IWAE"] = Pressed(5)
    with pytest.raises(KeyboardInterrupt), pytest.warns(UserWarning, match="interrupted"):
        complete(tiny)
    done = [run.method for run in tiny.finished("digits")]
    tiny.methods["IWAE"] = step
    complete(tiny)
    assert done == ["ELBO"]
    assert values(tiny) == expected


def test_images_without_labels_will_do():
    data = dataclasses.replace(engine.load("digits"), test_labels=None)
    x, labels = engine.test_images(data, 5)
    assert x.shape == (5, 64) and labels is None


def test_the_command_says_what_there_is_and_what_it_does_not_know(monkeypatch, capsys):
    for arguments, answer in (
        ([], "remedies digits: 75 of 75 runs"),
        (["layers", "mars"], "layers has no mars"),
    ):
        monkeypatch.setattr(sys, "argv", ["experiments", *arguments])
        try:
            command.main()
        except SystemExit:
            pass
        out, err = capsys.readouterr()
        assert answer in out + err


@pytest.fixture
def cluster(tmp_path):
    """A Dask scheduler and two workers, processes of their own as on two machines: (address, workers)."""
    environment = os.environ | {"TINY_TABLE_SECONDS": "0.7", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    dask = [sys.executable, "-m", "dask"]
    options = {"cwd": ROOT, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    about = tmp_path / "scheduler.json"
    where = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", about]
    started = [subprocess.Popen([*dask, "scheduler", *where], **options)]
    work = [*dask, "worker", "--scheduler-file", about, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    work += ["--local-directory", tmp_path]
    started += [subprocess.Popen([*work, "--name", name], **options) for name in ("one", "two")]
    while not about.exists():
        time.sleep(0.1)
    address = json.loads(about.read_text())["address"]
    with Client(address) as client:
        client.wait_for_workers(2, timeout=120)
    yield address, started[1:]
    for process in started:
        process.kill()
        process.wait()


def test_a_cluster_that_loses_a_worker_makes_the_table_of_one_process(tiny, monkeypatch, cluster):
    address, workers = cluster
    # Workers know the table by its module, as everywhere, and so keep their checkpoints in the real cache.
    checkpoints = ROOT / ".cache" / "experiments" / tiny.name
    shutil.rmtree(checkpoints, ignore_errors=True)
    complete(tiny)
    expected = values(tiny)

    def lose_one():
        """In the middle of a run: when two have their checkpoint and none has its row."""
        while len(list(checkpoints.glob("*.pt"))) < 2:
            time.sleep(0.02)
        workers[0].kill()

    monkeypatch.setattr(engine, "ROOT", engine.ROOT / "elsewhere")
    (engine.ROOT / "book" / "results").mkdir(parents=True)
    Thread(target=lose_one, daemon=True).start()
    errors = complete(tiny, scheduler=address)
    shutil.rmtree(checkpoints)
    assert errors == []
    assert values(tiny) == expected
    assert [worker.poll() is None for worker in workers] == [False, True]
