"""What thinning buys: NLL against seconds on MNIST for K = 5, 50 and 500, and the noise it adds: chapter 7.

    python -m experiments thinning mnist     # 20 minutes a seed on one core

Every method trains for the same CPU seconds, on one thread, with binarized images drawn anew; −L_K on fixed
test images is read at each of `cpu_seconds`, off the clock. "extra" is measured on the model of IWAE 50: the
variance that choosing adds to one data point's gradient, by the variance that it has anyway.
"""

import time

import torch

import vaelearn as vl
from vaelearn.objectives import IWAE, Thinned
from vaelearn.thinning import keep

from .table import Table, test_images

CS = (1, 2, 4, 8, 16)
METHODS = {
    "IWAE 5": IWAE(5),
    "IWAE 50": IWAE(50),
    "IWAE 500": IWAE(500),
    "IWAE 50, c = 4": Thinned(IWAE(50), c=4),
    "IWAE 500, c = 4": Thinned(IWAE(500), c=4),
    "IWAE 50, c = 1": Thinned(IWAE(50), c=1),
}
PROTOCOLS = {
    "mnist": {
        "data": "mnist",
        "hidden": [200, 200],
        "latent_dim": 50,
        "batch_size": 100,
        "lr": 1e-3,
        "cpu_seconds": [7.5, 15, 30, 60, 120],
        "test_images": 100,
        "K": 5000,
        "seeds": 1,
    }
}


class Thinning(Table):
    def run(self, method, seed, data, protocol, train):
        """`fit` counts epochs and this counts seconds: the loop is its own."""
        torch.manual_seed(seed)
        model, objective = self.build(method, data, protocol), self.methods[method]
        optimizer = vl.training.Adam(model.parameters(), lr=protocol["lr"])
        x, _ = test_images(data, protocol["test_images"])
        spent, steps, nll, at = 0.0, 0, [], []
        for limit in protocol["cpu_seconds"]:
            start = time.process_time()
            while spent + time.process_time() - start < limit:
                index = torch.randint(len(data.train), (protocol["batch_size"],))
                step = objective(model, vl.data.binarize(data.train[index]))
                optimizer.zero_grad()
                step.backward()
                optimizer.step()
                steps += 1
            spent += time.process_time() - start
            at.append(steps)
            nll.append(round(-vl.metrics.log_likelihood(model, x, protocol["K"]).mean().item(), 2))
        row = {"steps": at, "nll": nll}
        if method == "IWAE 50":
            row |= extra_variance(model, x[:20])
        return row


def gradients(model, x, K):
    """For one image x (1, D) the gradient of every log w_k, φ's (K, P) and θ's, and log w (K,)."""
    log_w = model.draw(x, (K, 1)).log_w[:, 0, 0]
    phi, theta = model.inference_parameters(), model.generative_parameters()
    rows = [torch.autograd.grad(value, phi + theta, retain_graph=True) for value in log_w]
    flat = [torch.cat([g.flatten() for g in row]) for row in rows]
    return torch.stack(flat).split([sum(p.numel() for p in part) for part in (phi, theta)], 1), log_w.detach()


def chosen(shares, c, draws):
    """What every sample counts when the lots are drawn `draws` times: three ways, (draws, K) each."""
    repeated = shares[:, None].expand(-1, draws)
    index, weight = keep(repeated, c)
    pi = (repeated / weight.amin(0)).clamp(max=1)  # the least weight of one that is kept is κ
    tries = torch.multinomial(shares, c * draws, replacement=True).view(draws, c)
    return {
        "keep": torch.zeros(len(shares), draws).scatter_add_(0, index, weight).T,
        "coins": torch.where(torch.rand_like(pi) < pi, repeated / pi, 0).T,
        "tries": torch.zeros(draws, len(shares)).scatter_add_(1, tries, torch.full(tries.shape, 1 / c)),
    }


def extra_variance(model, images, K=50, repetitions=8, draws=400):
    """E ‖Σ (W_k − a_k) g_k‖² over the lots, by Var ‖Σ a_k g_k‖ over z, images summed; φ's and θ's."""
    torch.manual_seed(1)
    extra = {way: torch.zeros(2, len(CS)) for way in ("keep", "coins", "tries")}
    anyway, size = torch.zeros(2), []
    for x in images.split(1):
        sums = []
        for _ in range(repetitions):
            parts, log_w = gradients(model, x, K)
            a = log_w.softmax(0)
            size.append((1 / a.square().sum()).item())
            sums.append([a @ g for g in parts])
            products = [g @ g.T for g in parts]
            for i, c in enumerate(CS):
                for way, counts in chosen(a, c, draws).items():
                    off = counts - a
                    for j, gram in enumerate(products):
                        extra[way][j, i] += ((off @ gram) * off).sum(1).mean() / repetitions
        anyway += torch.stack([torch.stack(g).var(0).sum() for g in zip(*sums, strict=True)])
    table = {
        way: [[round(v, 4) for v in r] for r in (e / anyway[:, None]).tolist()] for way, e in extra.items()
    }
    return {"c": list(CS), "extra": table, "ess": round(sum(size) / len(size), 2)}


TABLE = Thinning(METHODS, PROTOCOLS)
