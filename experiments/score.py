"""A VAE trained without a gradient through its samples: what each baseline is worth. Chapter 3's race.

    python -m experiments score digits     # 8 seeds: three minutes on one core

"pathwise" is what the others are compared with: the gradient through the samples, of the same bound.
"""

import torch
from torch import nn

import vaelearn as vl
from vaelearn.gradients import LearnedBaseline, MovingAverage
from vaelearn.objectives import ELBO, ScoreFunction

from .table import Table, short, test_images

DIGITS = {
    "data": "digits",
    "hidden": [64],
    "latent_dim": 16,
    "K": 2,
    "epochs": 40,
    "batch_size": 100,
    "lr_first": 3e-3,
    "lr_last": 3e-3,
    "binarize": True,
    "seeds": 8,
    "test_images": 250,
    "samples": 100,  # of z for the ELBO
    "reference": 500,
}


def learned() -> LearnedBaseline:
    """b(x) for 64 pixels, its weights drawn from torch's random state."""
    return LearnedBaseline(64, hidden=(32,)).float()


class LevelAndRest(nn.Module):
    """A moving average, and a network for what it leaves: the centred reward of Mnih & Gregor 2014, § 2.3."""

    def __init__(self):
        super().__init__()
        self.level, self.rest = MovingAverage(), learned()

    def forward(self, x):
        return self.level(x) + self.rest(x)

    def loss(self, x, log_w):
        rest = self.rest.loss(x, log_w - self.level(x))
        self.level.loss(x, log_w)
        return rest


# A baseline learns as the model does, so every run makes its own.
METHODS = {
    "pathwise": ELBO,
    "leave-one-out": lambda K: ScoreFunction(K, "leave-one-out"),
    "moving average": lambda K: ScoreFunction(K, "moving-average"),
    "learned b(x)": lambda K: ScoreFunction(K, learned()),
    "level and rest": lambda K: ScoreFunction(K, LevelAndRest()),
    "none": ScoreFunction,
}
PROTOCOLS = {"digits": DIGITS, "short": short(DIGITS)}


class Score(Table):
    def objective(self, method, protocol):
        return self.methods[method](protocol["K"])

    def measure(self, model, data, protocol):
        x, _ = test_images(data, protocol["test_images"])
        with torch.no_grad():
            elbo = vl.bounds.elbo(model.draw(x, (protocol["samples"], 1)).log_w)
        tight = vl.metrics.log_likelihood(model, x, protocol["reference"])
        return {"elbo": round(elbo.mean().item(), 3), "L_K": round(tight.mean().item(), 3)}

    def watched(self, done):
        return {"valid": [round(bound, 3) for bound in done.history["valid"]]}


TABLE = Score(METHODS, PROTOCOLS)
