"""One decoder, fresh encoders: what each objective makes of φ where θ stands still. Chapters 5 and 7.

    python -m benchmarks.frozen digits         # 3 seeds: six minutes on one core; resumes where it stopped
    python -m benchmarks.frozen vae-digits     # a VAE by the same recipe, to compare with: one minute

Writes book/results/frozen.json. A model is trained, by the objective that the protocol names, and its
decoder frozen. "its own" is the encoder that grew up with it; the others start anew.
"""

import torch

import vaelearn as vl
from benchmarks import runs
from vaelearn.objectives import CIWAE, ELBO, IWAE, MIWAE, DReG

METHODS = {
    "its own": None,
    "ELBO": ELBO(K=64),
    "CIWAE": CIWAE(K=64, beta=0.5),
    "MIWAE": MIWAE(K=8, M=8),
    "IWAE": IWAE(K=64),
    "DReG": DReG(K=64),
}
COMMON = {
    "data": "digits",
    "hidden": [64, 64],
    "latent_dim": 8,
    "epochs": 60,
    "batch_size": 100,
    "lr_first": 5e-3,
    "lr_last": 5e-4,
    "binarize": True,
    "seeds": 3,
    "test_images": 250,
    "K": [1, 8, 64],
    "draws": 512,  # of z for each bound, in groups of K
    "reference": 5000,
}
PROTOCOLS = {
    "digits": {"decoder": "IWAE"} | COMMON,
    "vae-digits": {"decoder": "ELBO", "methods": ["its own"]} | COMMON,
}


def run(method, seed, data, protocol, checkpoint):
    model, old = fresh(seed, data, protocol), METHODS[protocol["decoder"]]
    runs.train(model, old, data, protocol, seed, checkpoint and checkpoint.with_name(f"{old!r}-{seed}.pt"))
    if METHODS[method] is not None:
        decoder, model = model.decoder, fresh(100 + seed, data, protocol)
        model.decoder = decoder.requires_grad_(False)
        runs.train(model, METHODS[method], data, protocol, seed, checkpoint)
    return measure(model, runs.test_images(data, protocol["test_images"])[0], protocol)


def fresh(seed, data, protocol):
    torch.manual_seed(seed)
    return vl.models.VAE.mlp(data.train.shape[1], protocol["latent_dim"], protocol["hidden"])


def measure(model, x, protocol):
    torch.manual_seed(0)
    with torch.no_grad():
        log_w = model.draw(x, (protocol["draws"], 1)).log_w[:, 0]
    columns = {f"L_{K}": vl.bounds.iwae(log_w.unflatten(0, (K, -1))) for K in protocol["K"]}
    columns["log_likelihood"] = vl.metrics.log_likelihood(model, x, protocol["reference"])
    return {name: round(value.mean().item(), 3) for name, value in columns.items()}


if __name__ == "__main__":
    runs.command(__doc__, "frozen", METHODS, PROTOCOLS, run)
