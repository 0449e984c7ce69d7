"""Which objectives use a code that the decoder can do without: chapter 10's contest.

    python -m experiments collapse digits     # 8 seeds: ten minutes on one core

An autoregressive decoder first learns while the code is priced out; from there each objective trains on.
"""

import torch
from sklearn.svm import SVC

import vaelearn as vl
from vaelearn.autoregressive import Autoregressive
from vaelearn.divergences import mmd
from vaelearn.networks import GaussianNet
from vaelearn.objectives import BetaVAE, InfoVAE

from .table import Table, as_text, short, test_images

DIGITS = {
    "data": "digits",
    "encoder_hidden": [128],
    "decoder_hidden": [500],
    "latent_dim": 8,
    "start_beta": 100.0,
    "start_epochs": 40,
    "epochs": 20,
    "batch_size": 100,
    "lr_first": 3e-3,
    "lr_last": 3e-3,
    "binarize": True,
    "seeds": 8,
    "test_images": 250,
    "samples": 20,  # of z for the reconstruction
    "reference": 400,
    "labels_a_class": 10,
    "images": 1000,  # drawn from the model, for the frequencies of the classes
}
METHODS = {
    "ELBO": InfoVAE(0.0, 1.0),
    "InfoVAE 0, 100": InfoVAE(0.0, 100.0),
    "InfoVAE ½, 30": InfoVAE(0.5, 30.0),
    "InfoVAE 0.8, 100": InfoVAE(0.8, 100.0),
    "InfoVAE 1, 100": InfoVAE(1.0, 100.0),
    "β-VAE, β = ½": BetaVAE(0.5),
    "β-VAE, β = 0.2": BetaVAE(0.2),
}
PROTOCOLS = {"digits": DIGITS, "short": short(DIGITS, start_epochs=3, images=50)}


class Collapse(Table):
    def build(self, method, data, protocol):
        data_dim, L = data.train.shape[1], protocol["latent_dim"]
        encoder = GaussianNet(data_dim, protocol["encoder_hidden"], L)
        decoder = Autoregressive(L, protocol["decoder_hidden"], data_dim)
        return vl.models.VAE(encoder, decoder, data_dim, L)

    def run(self, method, seed, data, protocol, train):
        torch.manual_seed(seed)
        model = self.build(method, data, protocol)
        first = protocol | {"epochs": protocol["start_epochs"]}
        train(model, BetaVAE(protocol["start_beta"]), part="-start", protocol=first)
        train(model, self.objective(method, protocol))
        torch.manual_seed(0)
        return self.measure(model, data, protocol)

    def measure(self, model, data, protocol):
        x, labels = test_images(data, protocol["test_images"])
        seen = vl.data.binarize(data.train, torch.Generator().manual_seed(1)), data.train_labels
        split = vl.metrics.information(model, x)
        with torch.no_grad():
            q, prior = model.posterior(x), model.prior()
            reconstruction = model.likelihood(q.sample((protocol["samples"],))).log_prob(x)
            pairs = [(q.sample(), prior.sample((1000,))) for _ in range(5)]
            drawn = model.likelihood(prior.sample((protocol["images"],))).sample()
        # Five choices of the labels that are shown.
        right = [
            vl.metrics.few_label_accuracy(model, seen, (x, labels), protocol["labels_a_class"], choice)
            for choice in range(5)
        ]
        K = protocol["reference"]
        columns = {
            "rec": reconstruction.mean(),
            "I": split["mutual_information"].mean(),
            "mismatch": split["marginal_kl"].mean(),
            "MMD²": torch.stack([mmd(*pair) for pair in pairs]).mean(),
            "log det": vl.metrics.log_det_covariance(model, x),
            "L_K": vl.metrics.log_likelihood(model, x, K).mean(),
            "two proposals": vl.metrics.log_likelihood(model, x, K, defensive=True).mean(),
            "accuracy": torch.tensor(right).mean(),
        }
        return {name: round(value.item(), 5) for name, value in columns.items()} | draws(drawn, seen)


def draws(images: torch.Tensor, seen: tuple[torch.Tensor, torch.Tensor]) -> dict:
    """How often each class is drawn, by a classifier of the training images; and ten images."""
    classes = SVC(C=5).fit(*(part.numpy() for part in seen)).predict(images.numpy())
    return {"classes": torch.tensor(classes).bincount(minlength=10).tolist(), "drawn": as_text(images[:10])}


TABLE = Collapse(METHODS, PROTOCOLS)
