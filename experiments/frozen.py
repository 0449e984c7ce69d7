"""One decoder, fresh encoders: what each objective makes of φ where θ stands still. Chapters 5 and 7.

    python -m experiments frozen digits         # 3 seeds: six minutes on one core
    python -m experiments frozen vae-digits     # a VAE by the same recipe, to compare with: one minute

A model is trained, by the objective that the protocol names, and its decoder frozen. "its own" is the encoder
that grew up with it; the others start anew.
"""

import torch

import vaelearn as vl
from vaelearn.objectives import CIWAE, ELBO, IWAE, MIWAE, DReG

from .table import Table, short, test_images

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
METHODS = {
    "its own": None,
    "ELBO": ELBO(K=64),
    "CIWAE": CIWAE(K=64, beta=0.5),
    "MIWAE": MIWAE(K=8, M=8),
    "IWAE": IWAE(K=64),
    "DReG": DReG(K=64),
}
PROTOCOLS = {
    "digits": {"decoder": "IWAE"} | COMMON,
    "vae-digits": {"decoder": "ELBO", "methods": ["its own"]} | COMMON,
    "short": short({"decoder": "IWAE"} | COMMON),
}


class Frozen(Table):
    def run(self, method, seed, data, protocol, train):
        torch.manual_seed(seed)
        model = self.build(method, data, protocol)
        train(model, self.methods[protocol["decoder"]], part="-decoder")
        if self.methods[method] is not None:
            torch.manual_seed(100 + seed)
            decoder, model = model.decoder, self.build(method, data, protocol)
            model.decoder = decoder.requires_grad_(False)
            train(model, self.methods[method])
        torch.manual_seed(0)
        return self.measure(model, data, protocol)

    def measure(self, model, data, protocol):
        x, _ = test_images(data, protocol["test_images"])
        with torch.no_grad():
            log_w = model.draw(x, (protocol["draws"], 1)).log_w[:, 0]
        columns = {f"L_{K}": vl.bounds.iwae(log_w.unflatten(0, (K, -1))) for K in protocol["K"]}
        columns["log_likelihood"] = vl.metrics.log_likelihood(model, x, protocol["reference"])
        return {name: round(value.mean().item(), 3) for name, value in columns.items()}


TABLE = Frozen(METHODS, PROTOCOLS)
