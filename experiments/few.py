"""How wide q(z) is where the training images are few: the ELBO beside InfoVAE with an MMD. Chapter 11.

    python -m experiments few once     # images made binary once, 5 seeds: three minutes on one core
    python -m experiments few anew     # the control: made binary anew at each use

"ELBO, 50 images" names the objective and how many images it learns from: the first of a random order that
the seed gives, the same for both objectives. All take the same number of steps.
"""

from itertools import product

import torch

import vaelearn as vl
from vaelearn.divergences import MMD
from vaelearn.objectives import ELBO, InfoVAE

from .table import Table, short, test_images

COMMON = {
    "data": "digits",
    "hidden": [200, 200],
    "latent_dim": 8,
    "steps": 2000,
    "batch_size": 100,
    "lr_first": 3e-3,
    "lr_last": 3e-4,
    "seeds": 5,
    "test_images": 250,
    "samples": 50,
}
OBJECTIVES = {"ELBO": ELBO(kl="analytic"), "MMD 100": InfoVAE(0.0, 100.0, MMD())}
METHODS = {f"{name}, {n} images": (name, n) for n, name in product((50, 200, 1297), OBJECTIVES)}
PROTOCOLS = {
    "once": COMMON | {"binarize": False},
    "anew": COMMON | {"binarize": True},
    "short": short(COMMON, steps=30, binarize=False),
}


class Few(Table):
    def objective(self, method, protocol):
        return OBJECTIVES[self.methods[method][0]]

    def run(self, method, seed, data, protocol, train):
        _, n = self.methods[method]
        chosen = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))[:n]
        grey = data.train[chosen]
        once = vl.data.binarize(grey, torch.Generator().manual_seed(seed))
        epochs = protocol["steps"] // -(-n // protocol["batch_size"])
        torch.manual_seed(seed)
        model = self.build(method, data, protocol)
        own = grey if protocol["binarize"] else once
        train(model, self.objective(method, protocol), data=own, protocol=protocol | {"epochs": epochs})
        torch.manual_seed(0)
        return self.measure(model, once, data, protocol)

    def measure(self, model, own, data, protocol):
        test, _ = test_images(data, protocol["test_images"])
        columns = {}
        for where, x in {"": own, "_test": test}.items():
            with torch.no_grad():
                elbo = vl.bounds.elbo(model.draw(x, (protocol["samples"], 1)).log_w)
            wide = vl.metrics.log_det_covariance(model, x)
            columns |= {"log_det" + where: wide, "elbo" + where: elbo.mean()}
        return {name: round(value.item(), 3) for name, value in columns.items()}


TABLE = Few(METHODS, PROTOCOLS)
