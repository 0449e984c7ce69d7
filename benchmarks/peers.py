"""Our training step and NLL estimate beside pythae's and Pyro's: one network, one batch, one run.

    make bench PEERS=1

Makes .peers once, an environment of its own that borrows this project's torch. The network and the batch are
those of benchmarks/speed.py; every library gets a copy of the same weights and torch's fused Adam. Rounds go
from row to row and from library to library in turn; a ratio is the median over rounds of theirs by ours.
"""

import argparse
import copy
import math
from statistics import median, quantiles

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, RenyiELBO, Trace_ELBO
from pyro.infer.importance import vectorized_importance_weights
from pythae import models as pythae
from pythae.data.datasets import DatasetOutput
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder

import vaelearn as vl
from benchmarks.speed import BATCH, training_step
from benchmarks.speed import seconds as timed
from vaelearn.objectives import ELBO, IWAE, MIWAE, InfoVAE, Thinned

D, L, IMAGES = 784, 50, 4


class Encoder(BaseEncoder):
    """Our encoder's layers, as pythae wants them: the mean and the log of the variance."""

    def __init__(self, net):
        super().__init__()
        self.net, self.latent_dim = net, L

    def forward(self, x):
        h = self.net.features(x.reshape(len(x), -1))
        return ModelOutput(embedding=self.net.mean(h), log_covariance=2 * self.net.log_sigma_head(h))


class Decoder(BaseDecoder):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, z):
        return ModelOutput(reconstruction=self.net.logits(self.net.features(z)).sigmoid())


def of_pythae(name, model, **settings):
    separator = "_" if "_" in name else ""
    config = getattr(pythae, f"{name}{separator}Config")(
        input_dim=(D,), latent_dim=L, reconstruction_loss="bce", **settings
    )
    nets = copy.deepcopy(model)
    return getattr(pythae, name)(config, encoder=Encoder(nets.encoder), decoder=Decoder(nets.decoder))


def pythae_step(model, x):
    optimizer, data = vl.training.Adam(model.parameters()), DatasetOutput(data=x)

    def run():
        optimizer.zero_grad()
        model(data).loss.backward()
        optimizer.step()

    return run


def of_pyro(model):
    """(model, guide) as Pyro wants them: plates over the data, Bernoulli pixels from logits."""
    nets = copy.deepcopy(model)

    def generate(x):
        pyro.module("decoder", nets.decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(L), torch.ones(L)).to_event(1))
            logits = nets.decoder.logits(nets.decoder.features(z))
            pyro.sample("x", dist.Bernoulli(logits=logits, validate_args=False).to_event(1), obs=x)

    def guide(x):
        pyro.module("encoder", nets.encoder)
        with pyro.plate("data", len(x)):
            h = nets.encoder.features(x)
            mean, sigma = nets.encoder.mean(h), nets.encoder.log_sigma_head(h).exp()
            pyro.sample("z", dist.Normal(mean, sigma).to_event(1))

    return generate, guide


def pyro_step(model, loss, x):
    svi = SVI(*of_pyro(model), pyro.optim.PyroOptim(vl.training.Adam, {"lr": 1e-3}), loss)
    return lambda: svi.step(x)


def pyro_nll(model, x, K):
    """Pyro's importance weights, one data point at a time: its own count a trace, not a data point."""
    generate, guide = of_pyro(model)
    total = 0.0
    for row in x.split(1):
        log_w, _, _ = vectorized_importance_weights(
            generate, guide, row, num_samples=K, max_plate_nesting=1, normalized=False
        )
        total -= (torch.logsumexp(log_w, 0) - math.log(K)).item() / len(x)
    return total


def rows(K):
    """name -> {library: function}; the NLL rows return their estimate."""
    torch.manual_seed(0)
    model, x = vl.models.VAE.mlp(D, L, (200, 200)), torch.rand(BATCH, D).round()
    few = x[:IMAGES]

    def renyi(K):
        return RenyiELBO(alpha=0, num_particles=K, vectorize_particles=True, max_plate_nesting=1)

    def theirs(name, **settings):
        return pythae_step(of_pythae(name, model, **settings), x)

    kernel = {"kernel_choice": "rbf", "alpha": 0.0, "lbd": 1000.0}
    return {
        "ELBO": {
            "ours": training_step(ELBO()),
            "pythae": theirs("VAE"),
            "pyro": pyro_step(model, Trace_ELBO(max_plate_nesting=1), x),
        },
        "IWAE 5": {
            "ours": training_step(IWAE(5)),
            "pythae": theirs("IWAE", number_samples=5),
            "pyro": pyro_step(model, renyi(5), x),
        },
        "IWAE 50": {
            "ours": training_step(IWAE(50)),
            "thinned": training_step(Thinned(IWAE(50))),
            "pythae": theirs("IWAE", number_samples=50),
            "pyro": pyro_step(model, renyi(50), x),
        },
        "MIWAE 8x8": {
            "ours": training_step(MIWAE(8, 8)),
            "thinned": training_step(Thinned(MIWAE(8, 8))),
            "pythae": theirs("MIWAE", number_gradient_estimates=8, number_samples=8),
        },
        "InfoVAE": {"ours": training_step(InfoVAE()), "pythae": theirs("INFOVAE_MMD", **kernel)},
        f"NLL {K}": {
            "ours": lambda: -vl.metrics.log_likelihood(model, few, K).mean().item(),
            # What it calls NLL is the log-likelihood: the sign is turned.
            "pythae": lambda: -of_pythae("VAE", model).get_nll(few, n_samples=K, batch_size=min(K, 1000)),
            "pyro": lambda: pyro_nll(model, few, K),
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--K", type=int, default=5000, help="samples of the NLL estimate")
    arguments = parser.parse_args()
    table = rows(arguments.K)
    times = {(name, who): [] for name, runs in table.items() for who in runs}
    for _ in range(arguments.rounds):
        for name, runs in table.items():
            for who, run in runs.items():
                if not name.startswith("NLL"):
                    run()  # untimed, as in benchmarks/speed.py
                times[name, who].append(timed(run))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.rounds} rounds")
    print(f"{'':12}{'':10}{'ms':>9}  {'theirs / ours':>13}  quartiles")
    for (name, who), own in times.items():
        ratios = [a / b for a, b in zip(own, times[name, "ours"], strict=True)]
        low, middle, high = quantiles(ratios, n=4)
        print(f"{name:12}{who:10}{1000 * median(own):9.2f}  {middle:13.2f}  {low:.2f}–{high:.2f}")
    name = f"NLL {arguments.K}"
    estimates = "   ".join(f"{who} {run():.2f}" for who, run in table[name].items())
    print(f"{name} of the same weights on {IMAGES} images, nats: {estimates}")


if __name__ == "__main__":
    main()
