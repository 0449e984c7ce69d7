"""VAE and IWAE with one and two stochastic layers at K = 1, 5 and 50 samples: chapter 5's table.

    python -m experiments layers digits     # 3 seeds: 25 minutes on one core

"IWAE 50, 2 layers" names the objective, its K and the layers.
"""

import torch

import vaelearn as vl
from vaelearn.objectives import ELBO, IWAE

from .table import Table, short, test_images

DIGITS = {
    "data": "digits",
    "hidden": [[64, 64], [32, 32]],  # between x and z, or z₁; between z₁ and z₂
    "latent_dims": [32, 16],
    "epochs": 700,
    "batch_size": 100,
    "lr_first": 1e-2,
    "lr_last": 1e-4,
    "binarize": True,
    "seeds": 3,
    "test_images": 250,
    "samples": 50,  # of the ELBO and the effective sample size
    "reference": 5000,
    "thresholds": [0.01, 0.1],
}


METHODS = {
    "VAE 1, 1 layer": ELBO(K=1),
    "VAE 50, 1 layer": ELBO(K=50),
    "IWAE 5, 1 layer": IWAE(K=5),
    "IWAE 50, 1 layer": IWAE(K=50),
    "VAE 1, 2 layers": ELBO(K=1),
    "IWAE 5, 2 layers": IWAE(K=5),
    "IWAE 50, 2 layers": IWAE(K=50),
}
PROTOCOLS = {"digits": DIGITS, "short": short(DIGITS)}


class Layers(Table):
    def build(self, method, data, protocol):
        hidden, latent_dims, data_dim = protocol["hidden"], protocol["latent_dims"], data.train.shape[1]
        if method.endswith("2 layers"):
            return vl.models.TwoLayerVAE.mlp(data_dim, latent_dims, hidden)
        return vl.models.VAE.mlp(data_dim, latent_dims[0], hidden[0])

    def measure(self, model, data, protocol):
        x, _ = test_images(data, protocol["test_images"])
        seen = vl.data.binarize(data.train[: len(x)], torch.Generator().manual_seed(0))
        with torch.no_grad():
            log_w = model.draw(x, (protocol["samples"], 1)).log_w
        columns = {
            "nll": -vl.metrics.log_likelihood(model, x, protocol["reference"]).mean().item(),
            "train_nll": -vl.metrics.log_likelihood(model, seen, protocol["reference"]).mean().item(),
            "elbo": vl.bounds.elbo(log_w).mean().item(),
            "ess": vl.metrics.effective_sample_size(log_w).mean().item(),
        }
        dims = getattr(model, "latent_dims", (model.latent_dim,))
        active = {
            f"active_units {threshold}": [
                int(mask.sum()) for mask in vl.metrics.active_units(model, x, threshold).split(dims)
            ]
            for threshold in protocol["thresholds"]
        }
        return {name: round(value, 3) for name, value in columns.items()} | active


TABLE = Layers(METHODS, PROTOCOLS)
