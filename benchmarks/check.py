"""Three epochs of every method of every table on digits: short runs that a test makes again, in a minute.

    python -m benchmarks.check

Writes benchmarks/check.json. If its rows no longer come out, nor do those of book/results: make both again.
"""

import json
from functools import partial

import torch

import vaelearn as vl
from benchmarks import divergences, frozen, layers, remedies, runs

TABLES = {
    ("remedies", "digits"): remedies,
    ("divergences", "digits"): divergences,
    ("layers", "digits"): layers,
    ("frozen", "digits"): frozen,
    ("frozen", "vae-digits"): frozen,
}
SHORT = {"epochs": 3, "test_images": 50, "reference": 200}
# Of four divergences at five weights each one will do: a weight is a number in one line.
ONE_WEIGHT = ["ELBO", "MMD 30", "Stein 10", "JS 10", "KL 3", "WAE 100", "AAE 100"]
STORED = runs.ROOT / "benchmarks" / "check.json"


def short_runs() -> dict:
    """The name "table, protocol, method" -> the function that makes this row, from seed 0."""
    found = {}
    for (table, name), script in TABLES.items():
        protocol = script.PROTOCOLS[name] | SHORT
        methods = ONE_WEIGHT if script is divergences else protocol.get("methods", script.METHODS)
        for method in methods:
            found[f"{table}, {name}, {method}"] = partial(row, script, method, protocol)
    return found


def row(script, method: str, protocol: dict) -> dict:
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        columns = script.run(method, 0, vl.data.load("digits"), protocol, None)
    finally:
        torch.set_default_dtype(default)
    return {name: value for name, value in columns.items() if name != "cpu_seconds"}


if __name__ == "__main__":
    made = {name: make() for name, make in short_runs().items()}
    STORED.write_text(json.dumps(made, indent=1) + "\n")
