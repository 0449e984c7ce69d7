"""The methods of Rainforth et al. 2018, table 1, at one budget of M·K = 64 samples: chapter 7's table.

    python -m experiments remedies digits     # 15 seeds: half an hour on one core
    python -m experiments remedies beta       # digits, the CIWAE at the paper's other β, 3 seeds: two minutes
    python -m experiments remedies mnist      # 3 seeds: three hours on one core

Real MNIST is read as `vl.data.load("mnist")` reads it.
"""

import vaelearn as vl
from vaelearn.objectives import CIWAE, ELBO, IWAE, MIWAE, PIWAE

from .table import Table, short, test_images

COMMON = {"batch_size": 100, "lr_first": 1e-3, "lr_last": 1e-4, "binarize": True, "K": 64, "reference": 5000}
DIGITS = {
    "data": "digits",
    "hidden": [64, 64],
    "latent_dim": 8,
    "epochs": 150,
    "seeds": 15,
    "test_images": 250,
} | COMMON
MNIST = {
    "data": "mnist",
    "hidden": [200, 200],
    "latent_dim": 50,
    "epochs": 10,
    "seeds": 3,
    "test_images": 1000,
} | COMMON

METHODS = {
    "IWAE": IWAE(K=64),
    "PIWAE": PIWAE(K=8, M=8),
    "MIWAE": MIWAE(K=8, M=8),
    "CIWAE": CIWAE(K=64, beta=0.5),
    "VAE": ELBO(K=64),
    "CIWAE 0.05": CIWAE(K=64, beta=0.05),
}
*FIVE, OTHER_BETA = METHODS
PROTOCOLS = {
    "digits": DIGITS | {"methods": FIVE},
    "beta": DIGITS | {"seeds": 3, "methods": [OTHER_BETA]},
    "mnist": MNIST | {"methods": FIVE},
    "short": short(DIGITS, methods=FIVE),
}


class Remedies(Table):
    def measure(self, model, data, protocol):
        x, _ = test_images(data, protocol["test_images"])
        reach = vl.metrics.tightness(model, x, protocol["K"], protocol["reference"])
        means = {name: round(values.mean().item(), 3) for name, values in reach.items()}
        return means | {"active_units": int(vl.metrics.active_units(model, x).sum())}


TABLE = Remedies(METHODS, PROTOCOLS)
