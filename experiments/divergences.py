"""MMD, Stein and adversarial InfoVAE beside the ELBO, over the weight λ: chapter 11's table and curves.

    python -m experiments divergences digits    # 5 seeds: half an hour on one core
    python -m experiments divergences longer    # five of the methods, 900 epochs in place of 150: 15 minutes
    python -m experiments divergences mnist     # 3 seeds: 80 minutes on one core

Real MNIST is read as `vl.data.load("mnist")` reads it.
"""

from itertools import product

import torch

import vaelearn as vl
from vaelearn.divergences import MMD, Adversarial, Stein
from vaelearn.objectives import AAE, ELBO, WAE, InfoVAE

from .table import Table, short, test_images

DIVERGENCES = {
    "MMD": lambda latent_dim: MMD(),
    "Stein": lambda latent_dim: Stein(),
    "JS": lambda latent_dim: Adversarial(latent_dim),
    "KL": lambda latent_dim: Adversarial(latent_dim, of="kl"),
}
WEIGHTS = (3, 10, 30, 100, 1000)
ONE_WEIGHT = ["ELBO", "MMD 30", "Stein 10", "JS 10", "KL 3"]


def infovae(divergence, lam):
    return lambda latent_dim: InfoVAE(0.0, lam, DIVERGENCES[divergence](latent_dim))


COMMON = {
    "batch_size": 100,
    "lr_first": 1e-3,
    "lr_last": 1e-4,
    "binarize": True,
    "reference": 1000,
    "judge_steps": 1000,  # of the classifier that estimates JS
}
DIGITS = {
    "data": "digits",
    "hidden": [64, 64],
    "latent_dim": 8,
    "epochs": 150,
    "seeds": 5,
    "test_images": 250,
} | COMMON


METHODS = {
    "ELBO": lambda latent_dim: ELBO(kl="analytic"),
    **{f"{name} {lam}": infovae(name, lam) for name, lam in product(DIVERGENCES, WEIGHTS)},
    # The corner α = 1, where nothing holds a single posterior near the prior.
    "WAE 100": lambda latent_dim: WAE(100.0),
    "AAE 100": lambda latent_dim: AAE(Adversarial(latent_dim), 100.0),
}
PROTOCOLS = {
    "digits": DIGITS,
    # A weight is a number on its way to one line: of each divergence one will do.
    "short": short(DIGITS, judge_steps=100, methods=[*ONE_WEIGHT, "WAE 100", "AAE 100"]),
    "longer": DIGITS | {"epochs": 900, "methods": ONE_WEIGHT},
    "mnist": {
        "data": "mnist",
        "hidden": [200, 200],
        "latent_dim": 10,
        "epochs": 10,
        "seeds": 3,
        "test_images": 1000,
    }
    | COMMON,
}


class Divergences(Table):
    def objective(self, method, protocol):
        return self.methods[method](protocol["latent_dim"])

    def measure(self, model, data, protocol):
        x, labels = test_images(data, protocol["test_images"])
        with torch.no_grad():
            draw = model.draw(x, (16, 1))
        generator = torch.Generator().manual_seed(0)
        labelled, test = (vl.data.binarize(data.train, generator), data.train_labels), (x, labels)
        accuracies = [vl.metrics.few_label_accuracy(model, labelled, test, 10, seed) for seed in range(10)]
        split = vl.metrics.information(model, x)
        columns = {
            "nll": -vl.metrics.log_likelihood(model, x, protocol["reference"]).mean().item(),
            "reconstruction": draw.log_likelihood.mean().item(),
            **{name: values.mean().item() for name, values in split.items()},
            "js": left_to_tell(model, data, x, protocol["judge_steps"]),
            "log_det": vl.metrics.log_det_covariance(model, x).item(),
            "accuracy": sum(accuracies) / len(accuracies),
            "nll_defensive": -vl.metrics.log_likelihood(model, x, 2 * protocol["reference"], defensive=True)
            .mean()
            .item(),
        }
        return {name: round(value, 4) for name, value in columns.items()}


def left_to_tell(model, data, x, steps, batch=250):
    """A lower bound on JS(q(z), p(z)) in nats: a fresh classifier learns on the training images' codes
    to tell them from the prior's samples, and is judged on the codes of x (N, D)."""
    judge, prior = Adversarial(model.latent_dim), model.prior()
    optimizer = vl.training.Adam(judge.parameters(), lr=1e-3)

    def codes(images):
        with torch.no_grad():
            return model.posterior(images).sample()

    for _ in range(steps):
        some = torch.randint(len(data.train), (batch,))
        optimizer.zero_grad()
        judge.loss(codes(vl.data.binarize(data.train[some])), prior).backward()
        optimizer.step()
    with torch.no_grad():
        return torch.stack([judge.jensen_shannon(codes(x), prior) for _ in range(20)]).mean().item()


TABLE = Divergences(METHODS, PROTOCOLS)
