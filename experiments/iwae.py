"""Burda et al. 2016, tables 1 and 3, by their recipe at shorter lengths: chapter 12's first table.

    python -m experiments iwae mnist-10         # one stochastic layer, 10 epochs; mnist-10-deep: two layers
    python -m experiments iwae mnist-30         # and so on: 30, 100, 300 epochs, fewer cells each time
    python -m experiments iwae mnist-30 --weights "IWAE 50 thinned, 1 layer"    # and keep this model

Their rates fall from 1e-3 to 1e-4 over 3,280 epochs, in eight stages. Ours have less time: they fall a
little each epoch, from twice that height, the best of four for VAE 1 on validation images after four
epochs. "IWAE 50, 1 layer" names the objective, its K and the layers; "thinned" back-propagates through four
of the fifty samples. The decoder's output starts at the mean of the training images, as in their code.
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
THREE = ["VAE 1, 1 layer", "IWAE 5, 1 layer", "IWAE 50 thinned, 1 layer"]
OTHERS = ["VAE 5, 1 layer", "VAE 50, 1 layer", "IWAE 50, 1 layer"]
DEEP = ["VAE 1, 2 layers", "IWAE 5, 2 layers", "IWAE 50 thinned, 2 layers"]
PAIR = ["VAE 1, 1 layer", "IWAE 5, 1 layer"]
COMMON = {
    "hidden": [[200, 200], [100, 100]],
    "latent_dims": {"1 layer": [50], "2 layers": [100, 50]},
    "output_bias": "mean",
    "batch_size": 20,
    "adam_eps": 1e-4,
    "lr_first": 2e-3,
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
    "mnist-10": MNIST | {"epochs": 10, "methods": [*THREE, *OTHERS]},
    "mnist-10-zero": MNIST | {"epochs": 10, "methods": PAIR, "output_bias": "zero"},
    "mnist-10-seeds": MNIST | {"epochs": 10, "methods": PAIR[1:], "seeds": 3},
    "mnist-10-deep": MNIST | {"epochs": 10, "methods": DEEP},
    "mnist-30": MNIST | {"epochs": 30, "methods": PAIR},
    "mnist-30-deep": MNIST | {"epochs": 30, "methods": DEEP},
    "mnist-100": MNIST | {"epochs": 100, "methods": THREE},
    "mnist-300": MNIST | {"epochs": 300, "methods": PAIR},
    "mnist-static-10": STATIC | {"epochs": 10, "methods": PAIR},
    "mnist-static-30": STATIC | {"epochs": 30, "methods": PAIR},
    "short": short(DIGITS | {"epochs": 3}, methods=[OTHERS[0], *THREE[1:], DEEP[1]]),
}


class IWAETable(Table):
    def shape(self, method, data, protocol):
        """The kind of model, and what its `mlp` is called with."""
        layers, own = method.rpartition(", ")[2], {"data_dim": data.train.shape[1]}
        hidden, dims = protocol["hidden"], protocol["latent_dims"][layers]
        if layers == "2 layers":
            return vl.models.TwoLayerVAE, own | {"latent_dims": dims, "hidden": hidden}
        return vl.models.VAE, own | {"latent_dim": dims[0], "hidden": hidden[0]}

    def build(self, method, data, protocol):
        model = super().build(method, data, protocol)
        if protocol["output_bias"] == "mean":
            model.decoder.start_at(data.train.mean(0))
        return model

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
