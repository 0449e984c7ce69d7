"""How a training step's cost grows with K, M, the batch and the number of pixels, full and thinned.

    python -m benchmarks.growth     # five minutes on one core

Writes book/results/growth.json: CPU seconds a step and the peak memory above that of the loaded library, each
point in a fresh process on one thread. One axis moves at a time, from IWAE with K = 50 on 20 images of 784
pixels, 784–200–200–50 tanh. Full steps of more than 500 samples are left out: they need gigabytes.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch

import vaelearn as vl
from vaelearn.objectives import MIWAE, Thinned

BASE = {"K": 50, "M": 1, "batch": 20, "pixels": 784}
AXES = {
    "K": [1, 5, 15, 50, 150, 500, 1500, 5000],
    "M": [1, 3, 10, 30, 100],
    "batch": [5, 20, 80, 320],
    "pixels": [64, 196, 784, 3136],
}
C = 4
RESULT = Path(__file__).parents[1] / "book" / "results" / "growth.json"


def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(thinned, K, M, batch, pixels):
    """Median CPU seconds of a step and the megabytes it takes at its peak."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = vl.models.VAE.mlp(pixels, 50, (200, 200))
    optimizer, x = vl.training.Adam(model.parameters()), torch.rand(batch, pixels).round()
    objective = Thinned(MIWAE(K, M), C) if thinned else MIWAE(K, M)
    before, seconds, began = megabytes(), [], time.process_time()
    while len(seconds) < 4 or (len(seconds) < 40 and time.process_time() - began < 3):
        start = time.process_time()
        step = objective(model, x)
        optimizer.zero_grad()
        step.backward()
        optimizer.step()
        seconds.append(time.process_time() - start)
    return {"seconds": median(seconds[1:]), "megabytes": megabytes() - before}


def points():
    """Every point once: which axis it is on, its value, and whether it is thinned."""
    for axis, values in AXES.items():
        for value in values:
            setting = BASE | {axis: value}
            samples = setting["K"] * setting["M"]
            for thinned in (False, True):
                if samples > C if thinned else samples <= 500:
                    yield axis, value, thinned, setting


def main():
    rows = []
    for axis, value, thinned, setting in points():
        code = f"import benchmarks.growth as g; print(g.json.dumps(g.measure({thinned}, **{setting})))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        row = {"axis": axis, "value": value, "thinned": thinned} | json.loads(done.stdout)
        rows.append({name: round(v, 5) if isinstance(v, float) else v for name, v in row.items()})
        print(rows[-1], flush=True)
    RESULT.write_text(json.dumps({"base": BASE, "c": C, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
