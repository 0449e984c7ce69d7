"""A table that trains in a second, for the tests of `experiments`: of a module that any worker can import."""

import os
import time

import vaelearn as vl
from experiments.table import Table, test_images
from vaelearn.objectives import ELBO, IWAE

METHODS = {"ELBO": ELBO(), "IWAE": IWAE(5)}
PROTOCOLS = {
    "digits": {
        "data": "digits",
        "epochs": 2,
        "batch_size": 400,
        "lr_first": 1e-2,
        "lr_last": 1e-3,
        "binarize": True,
        "seeds": 3,
        "K": 20,
    }
}


class Tiny(Table):
    def shape(self, method, data, protocol):
        return vl.models.VAE, {"data_dim": data.train.shape[1], "latent_dim": 2, "hidden": [8]}

    def measure(self, model, data, protocol):
        # A test that ends a worker in the middle of a run needs a middle.
        time.sleep(float(os.environ.get("TINY_TABLE_SECONDS", 0)))
        x, _ = test_images(data, 20)
        return {"nll": -vl.metrics.log_likelihood(model, x, protocol["K"]).mean().item()}


TABLE = Tiny(METHODS, PROTOCOLS)
