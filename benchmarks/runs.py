"""Tables of training runs that the chapters show. One small file a run: an interrupted table resumes.

.cache/<table>/<name>-<method>-<seed>.json    a finished run; beside it its checkpoint
book/results/<table>.json                     all runs, and the protocol they share
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch

import vaelearn as vl

ROOT = Path(__file__).parents[1]


def command(doc: str, table: str, methods: dict, protocols: dict[str, dict], run: Callable) -> None:
    """The command line of a table: trains what is missing, then writes the table.

    protocols: name -> its settings, among them "seeds". The name is that of the data set, unless the
    settings have another under "data"; "methods" may list those of the methods to run, all if not.
    run(method, seed, data, protocol, checkpoint) -> the columns of one row.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name", choices=protocols)
    parser.add_argument("--seed", type=int, help="this seed alone, so that several can run side by side")
    arguments = parser.parse_args()
    name, protocol = arguments.name, protocols[arguments.name]
    data = vl.data.load(protocol.get("data", name))
    finished = ROOT / ".cache" / table
    finished.mkdir(parents=True, exist_ok=True)
    for seed in range(protocol["seeds"]) if arguments.seed is None else [arguments.seed]:
        for method in protocol.get("methods", methods):
            done = finished / f"{name}-{method}-{seed}.json"
            if not done.exists():
                row = run(method, seed, data, protocol, finished / f"{name}-{method}-{seed}.pt")
                row = {"method": method, "seed": seed} | row
                done.write_text(json.dumps(row))
                print(row, flush=True)
    result = ROOT / "book" / "results" / f"{table}.json"
    result.parent.mkdir(exist_ok=True)
    tables = json.loads(result.read_text()) if result.exists() else {}
    stored = tables.get(name, {})
    # Rows that were made elsewhere stay, as long as the protocol is theirs: one more seed loses no other.
    rows = stored.get("runs", []) if stored.get("protocol") == json.loads(json.dumps(protocol)) else []
    rows = {(row["method"], row["seed"]): row for row in rows}
    for done in finished.glob(f"{name}-*.json"):
        row = json.loads(done.read_text())
        rows[row["method"], row["seed"]] = row
    tables[name] = {"protocol": protocol, "runs": [rows[key] for key in sorted(rows)]}
    result.write_text(json.dumps(tables, indent=1) + "\n")


def train(model, objective, data, protocol: dict, seed: int, checkpoint: Path, **options) -> float:
    """Train by the protocol, the rate falling geometrically from lr_first to lr_last; returns CPU seconds."""
    decay, last = protocol["lr_last"] / protocol["lr_first"], max(1, protocol["epochs"] - 1)
    start = time.process_time()
    vl.fit(
        model,
        objective,
        data,
        epochs=protocol["epochs"],
        batch_size=protocol["batch_size"],
        lr=lambda epoch: protocol["lr_first"] * decay ** (epoch / last),
        binarize=True,
        seed=seed,
        device="cpu",
        checkpoint=checkpoint,
        progress=False,
        **options,
    )
    return time.process_time() - start


def test_images(data, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A fixed random choice of test images, binarized once, and their labels: the same for every run."""
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(data.test), generator=generator)[:count]
    return vl.data.binarize(data.test[chosen], generator), data.test_labels[chosen]
