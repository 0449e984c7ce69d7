"""Train what a table lacks, and print it: on one core, on all, or on a cluster.

python -m experiments                              # which tables there are, and what they lack
python -m experiments layers                       # all protocols of a table
python -m experiments layers digits --jobs 4       # one, four runs at a time
python -m experiments layers --scheduler tcp://host:8786
python -m experiments iwae mnist-30 --weights "VAE 1, 1 layer"    # and keep that method's first model
"""

import argparse
import json
import traceback
from contextlib import contextmanager

from joblib import Parallel, delayed, parallel_config
from tqdm import tqdm

from .table import Run, Table, finish, tables, write


def attempt(run: Run, **options) -> tuple[Run, dict | None, str]:
    """The row, or what went wrong: one run that fails costs no other."""
    try:
        return run, finish(run, **options), ""
    except Exception:
        return run, None, traceback.format_exc()


@contextmanager
def workers(scheduler: str | None, jobs: int):
    """Who does the work: processes here or, where there is a scheduler, Dask's workers, wherever they are."""
    if scheduler is None:
        with parallel_config(backend="loky", n_jobs=jobs, inner_max_num_threads=1):
            yield
        return
    from dask.distributed import Client

    with Client(scheduler), parallel_config(backend="dask", n_jobs=-1):
        yield


def complete(table: Table, name: str, scheduler: str | None, jobs: int, **options) -> list[str]:
    """Train the runs that are lacking and store each as it comes; returns the errors."""
    done, errors = table.finished(name), []
    lacking = [run for run in table.runs(name) if run not in done]
    options["progress"] = scheduler is None and jobs == 1
    with workers(scheduler, jobs):
        rows = Parallel(return_as="generator_unordered", batch_size=1)(
            delayed(attempt)(run, **options) for run in lacking
        )
        for run, row, error in tqdm(rows, f"{table.name} {name}", len(lacking), unit="run"):
            if error:
                errors.append(f"{run}:\n{error}")
            else:
                write(run.file(".json"), json.dumps(row))
    table.store(name)
    return errors


def main() -> None:
    known = {table.name: table for table in tables()}
    parser = argparse.ArgumentParser(
        prog="python -m experiments", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("table", nargs="?", choices=known)
    parser.add_argument("protocols", nargs="*", help="all if none is named")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time on this machine; -1: one a core")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps, or auto")
    parser.add_argument("--scheduler", help="the address of a Dask scheduler: its workers train")
    parser.add_argument("--weights", action="append", default=[], help="methods whose first model is kept")
    arguments = parser.parse_args()
    if arguments.table is None:
        for table in known.values():
            for name in table.protocols:
                print(f"{table.name} {name}: {len(table.finished(name))} of {len(table.runs(name))} runs")
        return
    table = known[arguments.table]
    if unknown := {*arguments.protocols} - {*table.protocols}:
        parser.error(f"{table.name} has no {', '.join(sorted(unknown))}; it has {', '.join(table.protocols)}")
    errors = []
    for name in arguments.protocols or table.protocols:
        options = {"device": arguments.device, "threads": arguments.threads}
        errors += complete(table, name, arguments.scheduler, arguments.jobs, **options)
        print(table.text(name))
        for run in table.finished(name):
            if run.method in arguments.weights and run.seed == 0:
                print(table.keep_weights(run))
    if errors:
        raise SystemExit(
            "\n".join([*errors, f"{len(errors)} runs failed; the same command tries them again."])
        )


if __name__ == "__main__":
    main()
