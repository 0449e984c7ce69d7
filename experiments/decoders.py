"""Which decoders do without a code, and at what price of a nat: chapter 9's table.

    python -m experiments decoders digits     # 8 seeds: four minutes on one core

A factorised decoder needs z to tie its pixels together; an autoregressive one does not. "β = 100, then 1" is
an autoregressive decoder with a head start, "β = 1, then 1" one that is trained as long without.
"""

from itertools import product

import torch
from torch import distributions as D

import vaelearn as vl
from vaelearn.autoregressive import Autoregressive
from vaelearn.networks import BernoulliNet, GaussianNet
from vaelearn.objectives import BetaVAE

from .table import Table, as_text, short, test_images

DIGITS = {
    "data": "digits",
    "encoder_hidden": [128],
    "decoder_hidden": {"factorised": [200], "autoregressive": [500]},
    "latent_dim": 8,
    "epochs": 20,  # of each stage
    "batch_size": 100,
    "lr_first": 3e-3,
    "lr_last": 3e-3,
    "binarize": True,
    "seeds": 8,
    "test_images": 250,
    "samples": 20,  # of z for the distortion
    "reference": 100,
}
# The decoder, and the β of each stage of training.
KINDS, BETAS = ("factorised", "autoregressive"), (0.25, 0.5, 1, 2, 4)
METHODS = {f"{kind}, β = {beta:g}": (kind, [beta]) for kind, beta in product(KINDS, BETAS)}
METHODS |= {f"β = {first}, then 1": ("autoregressive", [first, 1]) for first in (100, 1)}
FEW = ["factorised, β = 1", "autoregressive, β = 1", "autoregressive, β = 2", "β = 100, then 1"]
PROTOCOLS = {"digits": DIGITS, "short": short(DIGITS, methods=FEW)}


class Decoders(Table):
    def objective(self, method, protocol):
        return [BetaVAE(beta) for beta in self.methods[method][1]]

    def build(self, method, data, protocol):
        data_dim, L, kind = data.train.shape[1], protocol["latent_dim"], self.methods[method][0]
        decoder = {"factorised": BernoulliNet, "autoregressive": Autoregressive}[kind]
        encoder = GaussianNet(data_dim, protocol["encoder_hidden"], L)
        return vl.models.VAE(encoder, decoder(L, protocol["decoder_hidden"][kind], data_dim), data_dim, L)

    def run(self, method, seed, data, protocol, train):
        torch.manual_seed(seed)
        model = self.build(method, data, protocol)
        for stage, objective in enumerate(self.objective(method, protocol)):
            train(model, objective, part=f"-{stage}")
        torch.manual_seed(0)
        return self.measure(model, data, protocol)

    def measure(self, model, data, protocol):
        x, _ = test_images(data, protocol["test_images"])
        with torch.no_grad():
            q, prior = model.posterior(x), model.prior()
            distortion = -model.likelihood(q.sample((protocol["samples"],))).log_prob(x)
            rate = D.kl_divergence(q, prior)
            one_z = prior.sample().expand(10, -1)
            drawn = model.likelihood(one_z).sample()
        columns = {
            "distortion": distortion,
            "rate": rate,
            "I": vl.metrics.information(model, x)["mutual_information"],
            "L_K": vl.metrics.log_likelihood(model, x, protocol["reference"]),
        }
        means = {name: round(values.mean().item(), 3) for name, values in columns.items()}
        return means | {"active": int(vl.metrics.active_units(model, x).sum()), "drawn": as_text(drawn)}


TABLE = Decoders(METHODS, PROTOCOLS)
