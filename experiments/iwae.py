"""Burda et al. 2016, tables 1 and 3, by their recipe at shorter lengths: chapter 12's first table.

    python -m experiments iwae mnist-13         # nine cells for 13 epochs
    python -m experiments iwae mnist-40         # and so on: 40, 121, 364 epochs, fewer cells each time

Their schedule has stages i = 0 … n of 3^i epochs at the rate 10^(−3 − i/n), with n = 7: 3,280 epochs. Ours
have a smaller n, and begin and end at the same rates. "IWAE 50, 1 layer" names the objective, its K and the
layers; "thinned" back-propagates through four of the fifty samples.
"""

import torch

import vaelearn as vl
from vaelearn.objectives import ELBO, IWAE, Thinned

from .table import Table, test_images

METHODS = {
    f"{name}, {layers}": objective
    for layers in ("1 layer", "2 layers")
    for name, objective in {
        "VAE 1": ELBO(K=1),
        "VAE 5": ELBO(K=5),
        "VAE 50": ELBO(K=50),
        "IWAE 5": IWAE(K=5),
        "IWAE 50": IWAE(K=50),
        "IWAE 50 thinned": Thinned(IWAE(K=50), c=4),
    }.items()
}
CHEAP = ["VAE 1, 1 layer", "VAE 5, 1 layer", "IWAE 5, 1 layer", "IWAE 50 thinned, 1 layer"]
DEEP = ["VAE 1, 2 layers", "IWAE 5, 2 layers", "IWAE 50 thinned, 2 layers"]
COMMON = {
    "hidden": [[200, 200], [100, 100]],
    "latent_dims": {"1 layer": [50], "2 layers": [100, 50]},
    "batch_size": 20,
    "adam_eps": 1e-4,
    "lr_first": 1e-3,
    "lr_last": 1e-4,
    "seeds": 1,
    "test_images": 1000,
    "reference": 5000,
    "threshold": 0.01,
}
MNIST = {"data": "mnist", "binarize": True} | COMMON
STATIC = {"data": "mnist-static", "binarize": False} | COMMON
PROTOCOLS = {
    "mnist-13": MNIST | {"stages": 3, "methods": [*CHEAP, "VAE 50, 1 layer", "IWAE 50, 1 layer", *DEEP]},
    "mnist-40": MNIST | {"stages": 4, "methods": [*CHEAP, *DEEP]},
    "mnist-121": MNIST | {"stages": 5, "methods": CHEAP},
    "mnist-364": MNIST | {"stages": 6, "methods": ["VAE 1, 1 layer", "IWAE 5, 1 layer"]},
    "mnist-static-13": STATIC | {"stages": 3, "methods": ["VAE 1, 1 layer", "IWAE 5, 1 layer"]},
    "mnist-static-40": STATIC | {"stages": 4, "methods": ["VAE 1, 1 layer", "IWAE 5, 1 layer"]},
}


class IWAETable(Table):
    def build(self, method, data, protocol):
        layers, data_dim = method.rpartition(", ")[2], data.train.shape[1]
        hidden, latent_dims = protocol["hidden"], protocol["latent_dims"][layers]
        if layers == "2 layers":
            return vl.models.TwoLayerVAE.mlp(data_dim, latent_dims, hidden)
        return vl.models.VAE.mlp(data_dim, latent_dims[0], hidden[0])

    def schedule(self, protocol):
        n = protocol["stages"] - 1
        decay = protocol["lr_last"] / protocol["lr_first"]
        rates = [protocol["lr_first"] * decay ** (i / n) for i in range(n + 1) for _ in range(3**i)]
        return len(rates), rates.__getitem__

    def measure(self, model, data, protocol):
        x, _ = test_images(data, protocol["test_images"])
        nll = -vl.metrics.log_likelihood(model, x, protocol["reference"])
        dims = getattr(model, "latent_dims", (model.latent_dim,))
        active = vl.metrics.active_units(model, x, protocol["threshold"]).split(dims)
        with torch.no_grad():
            log_w = model.draw(x, (50, 1)).log_w
        return {
            "nll": round(nll.mean().item(), 3),
            # Twenty groups of test images, the same in every run: what a difference of two owes to them.
            "nll_of_groups": [round(part.mean().item(), 3) for part in nll.chunk(20)],
            "elbo": round(vl.bounds.elbo(log_w).mean().item(), 3),
            "active_units": [int(mask.sum()) for mask in active],
        }


TABLE = IWAETable(METHODS, PROTOCOLS)
