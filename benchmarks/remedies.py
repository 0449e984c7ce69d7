"""The five methods of Rainforth et al. 2018, table 1, at one budget of M·K = 64 samples: chapter 7's table.

    python benchmarks/remedies.py digits     # 5 seeds: about 20 minutes on one core
    python benchmarks/remedies.py mnist      # 3 seeds: three hours on one core; resumes where it stopped

Writes book/results/remedies.json. Real MNIST is read as `vl.data.load("mnist")` reads it.
"""

import argparse
import json
import time
from pathlib import Path

import torch

import vaelearn as vl
from vaelearn.objectives import CIWAE, IWAE, MIWAE, PIWAE, VAE

ROOT = Path(__file__).parents[1]
RESULTS, UNFINISHED = ROOT / "book" / "results" / "remedies.json", ROOT / ".cache" / "remedies"
METHODS = {
    "IWAE": IWAE(K=64),
    "PIWAE": PIWAE(K=8, M=8),
    "MIWAE": MIWAE(K=8, M=8),
    "CIWAE": CIWAE(K=64, beta=0.5),
    "VAE": VAE(K=64),
}
PROTOCOL = {
    "digits": {"hidden": [64, 64], "latent_dim": 8, "epochs": 150, "seeds": 5, "test_images": 250},
    "mnist": {"hidden": [200, 200], "latent_dim": 50, "epochs": 10, "seeds": 3, "test_images": 1000},
}
COMMON = {"batch_size": 100, "lr_first": 1e-3, "lr_last": 1e-4, "binarize": True, "K": 64, "reference": 5000}


def test_images(data, count):
    """A fixed random choice of test images, binarized once: every run is measured on the same."""
    generator = torch.Generator().manual_seed(0)
    chosen = data.test[torch.randperm(len(data.test), generator=generator)[:count]]
    return vl.data.binarize(chosen, generator)


def train(name, method, seed, data, protocol):
    torch.manual_seed(seed)
    model = vl.models.VAE.mlp(data.train.shape[1], protocol["latent_dim"], protocol["hidden"])
    decay = COMMON["lr_last"] / COMMON["lr_first"]
    start = time.process_time()
    vl.fit(
        model,
        METHODS[method],
        data,
        epochs=protocol["epochs"],
        batch_size=COMMON["batch_size"],
        lr=lambda epoch: COMMON["lr_first"] * decay ** (epoch / max(1, protocol["epochs"] - 1)),
        binarize=True,
        seed=seed,
        device="cpu",
        checkpoint=UNFINISHED / f"{name}-{method}-{seed}.pt",
        progress=False,
    )
    return model, time.process_time() - start


def measure(model, x):
    torch.manual_seed(0)
    reach = vl.metrics.tightness(model, x, COMMON["K"], COMMON["reference"])
    means = {name: round(values.mean().item(), 3) for name, values in reach.items()}
    active = int(vl.metrics.active_units(model, x).sum())
    return means | {"active_units": active}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", choices=PROTOCOL)
    parser.add_argument("--seed", type=int, help="this seed alone, so that several can run side by side")
    arguments = parser.parse_args()
    name, protocol = arguments.data, PROTOCOL[arguments.data]
    data = vl.data.load(name)
    x = test_images(data, protocol["test_images"])
    seeds = range(protocol["seeds"]) if arguments.seed is None else [arguments.seed]
    for seed in seeds:
        for method in METHODS:
            UNFINISHED.mkdir(parents=True, exist_ok=True)
            done = UNFINISHED / f"{name}-{method}-{seed}.json"
            if not done.exists():
                model, seconds = train(name, method, seed, data, protocol)
                result = (
                    {"method": method, "seed": seed} | measure(model, x) | {"cpu_seconds": round(seconds)}
                )
                done.write_text(json.dumps(result))
                print(result, flush=True)
    runs = sorted(UNFINISHED.glob(f"{name}-*.json"))
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[name] = {"protocol": protocol | COMMON, "runs": [json.loads(run.read_text()) for run in runs]}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
