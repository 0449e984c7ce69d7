"""What a quieter gradient is worth: one network, three pathwise estimators of its ELBO. Chapter 4's race.

python -m experiments pathwise digits     # 16 seeds: three minutes on one core
"""

import torch

import vaelearn as vl
from vaelearn.objectives import ELBO, STL

from .table import Table, short, test_images

DIGITS = {
    "data": "digits",
    "hidden": [64],
    "latent_dim": 8,
    "epochs": 60,
    "batch_size": 100,
    "lr_first": 3e-3,
    "lr_last": 3e-3,
    "binarize": True,
    "seeds": 16,
    "test_images": 250,
    "samples": 1000,  # of z for the ELBO
}
METHODS = {"sampled": ELBO(), "analytic KL": ELBO(kl="analytic"), "STL": STL()}
PROTOCOLS = {"digits": DIGITS, "short": short(DIGITS)}


class Pathwise(Table):
    def measure(self, model, data, protocol):
        x, _ = test_images(data, protocol["test_images"])
        with torch.no_grad():
            elbo = vl.bounds.elbo(model.draw(x, (protocol["samples"], 1)).log_w)
        return {"elbo": round(elbo.mean().item(), 3)}


TABLE = Pathwise(METHODS, PROTOCOLS)
