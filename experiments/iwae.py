"""Burda et al. 2016, tables 1 and 3, by their recipe at shorter lengths: chapter 12's first table.

    python -m experiments iwae mnist-13         # one stochastic layer, 13 epochs; mnist-13-deep: two layers
    python -m experiments iwae mnist-40         # and so on: 40, 121, 364 epochs, fewer cells each time
    python -m experiments iwae mnist-40 --weights "IWAE 50 thinned, 1 layer"    # and keep this model

Their schedule has stages i = 0 … n of 3^i epochs at the rate 10^(−3 − i/n), with n = 7: 3,280 epochs. Ours
have a smaller n, and begin and end at the same rates. "IWAE 50, 1 layer" names the objective, its K and the
layers; "thinned" back-propagates through four of the fifty samples.
"""

import torch

import vaelearn as vl
from vaelearn.objectives import ELBO, IWAE, Thinned

from .table import Table, load, short, test_images

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
SHALLOW = ["VAE 1, 1 layer", "VAE 5, 1 layer", "IWAE 5, 1 layer", "IWAE 50 thinned, 1 layer"]
DEEP = ["VAE 1, 2 layers", "IWAE 5, 2 layers", "IWAE 50 thinned, 2 layers"]
PAIR = ["VAE 1, 1 layer", "IWAE 5, 1 layer"]
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
STATIC = {"data": "mnist-static", "binarize": False, "also": "mnist"} | COMMON
DIGITS = MNIST | {
    "data": "digits",
    "hidden": [[32, 32], [16, 16]],
    "latent_dims": {"1 layer": [8], "2 layers": [8, 4]},
    "also": "digits",
}
PROTOCOLS = {
    "mnist-13": MNIST | {"stages": 3, "methods": [*SHALLOW, "VAE 50, 1 layer", "IWAE 50, 1 layer"]},
    "mnist-13-seeds": MNIST | {"stages": 3, "methods": PAIR, "seeds": 3},
    "mnist-13-deep": MNIST | {"stages": 3, "methods": DEEP},
    "mnist-40": MNIST | {"stages": 4, "methods": SHALLOW},
    "mnist-40-deep": MNIST | {"stages": 4, "methods": DEEP},
    "mnist-121": MNIST | {"stages": 5, "methods": SHALLOW},
    "mnist-364": MNIST | {"stages": 6, "methods": PAIR},
    "mnist-static-13": STATIC | {"stages": 3, "methods": PAIR},
    "mnist-static-40": STATIC | {"stages": 4, "methods": PAIR},
    "short": short(DIGITS, stages=2, methods=[*SHALLOW[1:], DEEP[1]]),
}


class IWAETable(Table):
    def shape(self, method, data, protocol):
        """The kind of model, and what its `mlp` is called with."""
        layers, own = method.rpartition(", ")[2], {"data_dim": data.train.shape[1]}
        hidden, dims = protocol["hidden"], protocol["latent_dims"][layers]
        if layers == "2 layers":
            return vl.models.TwoLayerVAE, own | {"latent_dims": dims, "hidden": hidden}
        return vl.models.VAE, own | {"latent_dim": dims[0], "hidden": hidden[0]}

    def schedule(self, protocol):
        n = protocol["stages"] - 1
        decay = protocol["lr_last"] / protocol["lr_first"]
        rates = [protocol["lr_first"] * decay ** (i / n) for i in range(n + 1) for _ in range(3**i)]
        return len(rates), rates.__getitem__

    def measure(self, model, data, protocol):
        x, _ = test_images(data, protocol["test_images"])
        dims = getattr(model, "latent_dims", (model.latent_dim,))
        active = vl.metrics.active_units(model, x, protocol["threshold"]).split(dims)
        with torch.no_grad():
            log_w = model.draw(x, (50, 1)).log_w
        columns = {
            "nll_500": nll(model, x, 500)["nll"],
            "elbo": round(vl.bounds.elbo(log_w).mean().item(), 3),
            "active_units": [int(mask.sum()) for mask in active],
        } | nll(model, x, protocol["reference"])
        if other := protocol.get("also"):  # the test images of another data set
            x, _ = test_images(load(other), protocol["test_images"])
            found = nll(model, x, protocol["reference"])
            columns |= {f"{name}_also": values for name, values in found.items()}
        return columns


def nll(model, x, K):
    """The mean of −log p̂_K, and that of each of twenty groups of images: a difference of two models on the
    same images has its error from the groups' differences."""
    of_image = -vl.metrics.log_likelihood(model, x, K)
    groups = [round(part.mean().item(), 3) for part in of_image.chunk(20)]
    return {"nll": round(of_image.mean().item(), 3), "nll_of_groups": groups}


TABLE = IWAETable(METHODS, PROTOCOLS)
