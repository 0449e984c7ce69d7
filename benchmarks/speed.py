"""How near a training step comes to its matrix products alone: ratios, side by side in one run.

    make bench

The floor of a step is the products of its linear layers, forward and both backward, by `torch.mm` on
ready-made matrices: no noise, no likelihood, no optimizer. The network is 784–200–200–50 with tanh
and Bernoulli pixels, batch 100, float32. Every round times each row once, in turn, so that a busy
machine slows all of them alike; the ratio is the median over rounds, with its quartiles.
"""

import argparse
import resource
import subprocess
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import quantiles
from time import perf_counter

import torch

import vaelearn as vl
from vaelearn.objectives import ELBO, IWAE, MIWAE, PIWAE, DReG, InfoVAE, Thinned

ROOT = Path(__file__).parents[1]
WIDTHS, BATCH, IMAGES = (784, 200, 200, 50), 100, 20
ENCODER = [*pairwise(WIDTHS), WIDTHS[-2:]]  # the last layer twice: one head for μ, one for log σ
DECODER = [*pairwise(WIDTHS[::-1])]
OBJECTIVES = {
    "ELBO": ELBO(),
    "InfoVAE": InfoVAE(),
    "IWAE 5": IWAE(5),
    "IWAE 50": IWAE(50),
    "thinned": Thinned(IWAE(50)),
    "DReG 50": DReG(50),
    "MIWAE 8x8": MIWAE(8, 8),
    "thinned 8x8": Thinned(MIWAE(8, 8)),
    "PIWAE 8x8": PIWAE(8, 8),
}
# How many samples of a data point the full step decodes: that is a thinned step's floor as well.
SAMPLES = {"ELBO": 1, "InfoVAE": 1, "IWAE 5": 5, "IWAE 50": 50, "thinned": 50, "DReG 50": 50}
SAMPLES |= {"MIWAE 8x8": 64, "thinned 8x8": 64, "PIWAE 8x8": 64}
TARGETS = [
    ("ELBO", "floor", 1.9),
    ("InfoVAE", "floor", 2.3),
    ("IWAE 5", "floor", 1.65),
    ("IWAE 50", "floor", 1.3),
    ("thinned", "floor", 0.6),
    ("MIWAE 8x8", "floor", 1.35),
    ("thinned 8x8", "floor", 0.6),
    ("DReG 50", "IWAE 50", 1.1),
    ("PIWAE 8x8", "MIWAE 8x8", 1.5),
    ("L_K", "floor", 1.5),
    ("fit", "step", 1.1),
]


def products(layers, rows, backward=True):
    """A function that multiplies what a pass of `rows` rows through these layers must multiply."""
    matrices = [(torch.randn(rows, a), torch.randn(a, b), torch.randn(rows, b)) for a, b in layers]

    def run():
        for h, weight, gradient in matrices:
            torch.mm(h, weight)
            if backward:
                torch.mm(gradient, weight.T)
                torch.mm(h.T, gradient)

    return run


def step_floor(samples):
    encode, decode = products(ENCODER, BATCH), products(DECODER, BATCH * samples)
    return lambda: (encode(), decode())


def training_step(objective):
    """One step as `fit` takes it."""
    model = vl.models.VAE.mlp(784, 50, (200, 200))
    optimizer = vl.training.Adam(model.parameters())
    x = torch.rand(BATCH, 784).round()

    def run():
        step = objective(model, x)
        optimizer.zero_grad()
        step.backward()
        optimizer.step()

    return run


def fitting(steps):
    """`fit` for one epoch of so many steps, and the same number of steps alone: what the loop adds."""
    x = torch.rand(steps * BATCH, 784).round()
    model, one = vl.models.VAE.mlp(784, 50, (200, 200)), training_step(ELBO())
    fit = partial(vl.fit, model, ELBO(), x, epochs=1, batch_size=BATCH, device="cpu", progress=False)
    return fit, lambda: [one() for _ in range(steps)]


def rows(K):
    """Every row of the table: name -> (ours, its floor)."""
    table = {name: (training_step(o), step_floor(SAMPLES[name])) for name, o in OBJECTIVES.items()}
    model, x = vl.models.VAE.mlp(784, 50, (200, 200)), torch.rand(IMAGES, 784).round()
    chunk = products(DECODER, 10_000, backward=False)  # log_likelihood decodes 10,000 rows at a time

    def floor_of_l_k():
        for _ in range(IMAGES * K // 10_000):
            chunk()

    table["fit"] = fitting(steps=10)
    table["L_K"] = (partial(vl.metrics.log_likelihood, model, x, K), floor_of_l_k)
    return table


def seconds(run):
    start = perf_counter()
    run()
    return perf_counter() - start


def peak_memory(K):
    """Peak megabytes of a fresh process that estimates L_K for 20 images."""
    code = f"import benchmarks.speed as s; print(s.measure_memory({K}))"
    return float(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    )


def measure_memory(K):
    model, x = vl.models.VAE.mlp(784, 50, (200, 200)), torch.rand(IMAGES, 784).round()
    vl.metrics.log_likelihood(model, x, K)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--K", type=int, default=5000, help="samples of L_K")
    arguments = parser.parse_args()
    table = rows(arguments.K)
    times = {(name, which): [] for name in table for which in ("ours", "floor")}
    for _ in range(arguments.rounds):
        for name, runs in table.items():
            for which, run in zip(("ours", "floor"), runs, strict=True):
                run()  # untimed: the row before left the caches and the heap to its own liking
                times[name, which].append(seconds(run))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.rounds} rounds")
    print(f"{'':12}{'ms':>9}  {'ratio':>6}  {'quartiles':>13}  {'to':10} target")
    for name, to, target in TARGETS:
        other = times[to, "ours"] if to in table else times[name, "floor"]
        ratios = [ours / theirs for ours, theirs in zip(times[name, "ours"], other, strict=True)]
        low, middle, high = quantiles(ratios, n=4)
        ms = 1000 * sorted(times[name, "ours"])[arguments.rounds // 2]
        print(f"{name:12}{ms:9.2f}  {middle:6.2f}  {low:6.2f}–{high:.2f}  {to:>12}  <= {target}")
    for K in (arguments.K // 10, arguments.K):
        print(f"peak memory of L_{K}: {peak_memory(K):.0f} MB")


if __name__ == "__main__":
    main()
