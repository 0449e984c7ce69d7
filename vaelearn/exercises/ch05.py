"""Checks of chapter 5's exercises: importance weighting."""

import itertools
import math
import time

import torch

from .. import bounds
from . import expect
from .answers import closes, gradient_of, parts


@closes("bounds.iwae", "bounds.log_mean_exp")
def q1(iwae, fresh):
    K, M, B = fresh.sizes(3)
    log_w = 2 * fresh.normal(K, M, B)
    truth = bounds.iwae(log_w)
    mistakes = {
        f"it is too high by log K = {math.log(K):.3f}: a sum of the weights where their mean belongs?": truth
        + math.log(K),
        "log K came on where it comes off.": truth + 2 * math.log(K),
        "that is the ELBO, the mean of the logarithms. L_K is the logarithm of the mean.": log_w.mean(0),
        "you averaged over the second axis. The samples lie along the first.": bounds.log_mean_exp(log_w, 1),
        "you averaged over the last axis. The samples lie along the first.": bounds.log_mean_exp(log_w, -1),
        "everything was averaged at once. Only the first axis goes.": bounds.log_mean_exp(log_w.flatten()),
        "that is the largest log-weight alone.": log_w.max(0).values,
        "that is the mean of the weights; its logarithm is missing.": truth.exp(),
    }
    expect.close(iwae(log_w), truth, "iwae(log_w)", mistakes)

    depth = torch.full((B,), -900.0).double()
    depth[0] = 0  # one maximum for all columns would not do
    expect.close(
        iwae(log_w + depth),
        truth + depth,
        "iwae of log-weights near -900 beside others near 0",
        {
            "it is -inf where every weight underflowed to 0. Take the largest log-weight out before `exp`, "
            "its own for each column.": torch.where(depth < 0, -math.inf, truth)
        },
    )


def q2(first_order_gap, fresh):
    for _ in range(3):
        m, s = float(fresh.uniform(-100, 5)), float(fresh.uniform(0.3, 1.8))
        K = fresh.integer(2, 900)
        variance = math.exp(s**2) - 1
        expect.close(
            first_order_gap(m, s, K),
            variance / (2 * K),
            f"first_order_gap({m:.2f}, {s:.2f}, {K})",
            {
                "a factor 2 is missing: it comes from log(1 + u) = u - u²/2.": variance / K,
                "that uses E[w²] / p(x)²; the variance takes 1 off.": math.exp(s**2) / (2 * K),
                "that is the variance of log w. The theorem wants the variance of w, relative to p(x)².": s**2
                / (2 * K),
                "that is the variance of w itself: divide by p(x)², with p(x) = E[w].": variance
                * math.exp(2 * m + s**2)
                / (2 * K),
                "p(x) is not the median exp(m). E[w] is exp(m + s²/2).": variance * math.exp(s**2) / (2 * K),
                "that is the ELBO's own gap, s²/2, at K = 1.": s**2 / 2,
                "a moment of a lognormal has s², the variance, in its exponent.": math.expm1(s) / (2 * K),
            },
        )


@parts("bound", "elbo", "evidence", "copies", "divergence")
def q3(prediction, fresh):
    # What does happen, measured: exact for copies, paired or within standard errors elsewhere.
    K = fresh.integer(2, 5)
    log_w = -0.5 + fresh.normal(2 * K, 40_000)
    double, single = bounds.iwae(log_w), bounds.iwae(log_w[:K])
    copies = bounds.iwae(torch.cat([log_w[:K], log_w[:K]]))

    def moved(change):
        z = float(change.mean() / (change.std() / len(change) ** 0.5 + 1e-12))
        return "same" if abs(z) < 5 else "up" if z > 0 else "down"

    truth = {
        "bound": moved(double - single),
        "elbo": moved(log_w.mean(0) - log_w[:K].mean(0)),
        "evidence": moved(double.exp() - single.exp()),
        "copies": moved((copies - single).round(decimals=9)),
        "divergence": "same",
    }
    why = {
        "bound": "The mean of more weights is steadier, and the logarithm is concave.",
        "elbo": "Its expectation does not know K: a mean of K terms with the same mean.",
        "evidence": "It is unbiased at every K: its mean is p(x).",
        "copies": "The mean of the weights does not change when each is counted twice.",
        "divergence": "It compares q with the posterior; neither changed. A tighter bound is no better q.",
    }
    said = expect.entries(prediction.value, truth, "`prediction` should stay")
    for name, word in truth.items():
        options = dict.fromkeys(("up", "down", "same"), why[name])
        with expect.part(name):
            expect.option(said[name], word, f'prediction["{name}"]', options)


@parts("bound", "weights", "constants")
def q4(loss_and_bound, fresh):
    K, B = fresh.sizes(2)
    log_w = 2 * fresh.normal(K, B)
    weights, upside_down = torch.softmax(log_w, 0), torch.softmax(-log_w, 0)
    pair = expect.parts(loss_and_bound(log_w), 2, "loss_and_bound should return (loss, bound).")

    truth = bounds.iwae(log_w)
    with expect.part("bound"):
        expect.close(
            pair[1],
            truth,
            "the bound",
            {
                "Σ w̃ log w is not L_K: it is too high by log K − H(w̃). Log the logarithm of the mean "
                "weight.": (weights * log_w).sum(0),
                "it is below the mean of log w. Which samples does a softmax of the loss favour?": (
                    upside_down * log_w
                ).sum(0),
                "that is L_K + log K: a sum of weights where their mean belongs.": truth + math.log(K),
            },
        )

    def attached(sign):
        leaf = log_w.clone().requires_grad_()
        return torch.autograd.grad(-(torch.softmax(sign * leaf, 0) * leaf).sum(0).mean(), leaf)[0]

    with expect.part("weights", "constants"):
        expect.close(
            loss_and_bound.run(gradient_of, log_w)[0],
            -weights / B,
            "the loss's gradient with respect to log_w",
            {
                expect.about(
                    "the weights are a softmax of the loss: the worst sample weighs most.", "weights"
                ): -upside_down / B,
                expect.about(
                    "the gradient flows through the weights too. They are constants: detach them.",
                    "constants",
                ): attached(+1),
                "a softmax of the loss lets the worst sample weigh most. And that is not all.": attached(-1),
                "its sign is that of the bound. A loss goes down where the bound goes up.": weights / B,
                "it is summed over the data points, not averaged.": -weights,
                "the samples count equally, as in the ELBO.": torch.full_like(weights, -1 / (K * B)),
            },
        )


def q5(resample, fresh):
    K, B, L = fresh.sizes(3, 3, 7)
    # No sample is so rare that its count would be far from normal.
    z, log_w = fresh.normal(K, B, L), fresh.uniform(-1.2, 1.2, K, B)
    once = torch.as_tensor(resample(z, log_w - 900))
    came, wanted = tuple(once.shape), (B, L)
    expect.that(came == wanted, f"resample(z, log_w) should have shape {wanted}; it has shape {came}.")
    rounded = z.float() if once.dtype == torch.float32 else z
    expect.that(
        (once == rounded).all(-1).any(0).all(),  # (K, B, L): of each data point one sample, whole
        "resample mixed samples: for each data point the result must be one of its own K samples, untouched.",
    )

    # One call with a large batch says how often each sample is kept.
    R = 4000
    many = torch.as_tensor(resample(z.repeat(1, R, 1), log_w.repeat(1, R)))
    kept = (many.reshape(R, 1, B, L) == rounded).all(-1).double()  # (R, K, B)
    k = kept.argmax(1)  # (R, B)
    expect.that((k != k[:, :1]).any(), "all data points keep the same k. Each draws its own.")
    share = torch.softmax(log_w, 0)
    best = torch.nn.functional.one_hot(log_w.argmax(0), K).T.double()
    expect.mean(
        kept,
        share,
        "the share of each sample",
        (share * (1 - share)).sqrt(),
        {
            "every sample is kept equally often. Draw k with probability w̃_k.": torch.full_like(share, 1 / K),
            "the largest weight always wins. q_IW draws: k with probability w̃_k.": best,
            "the smallest weights are kept most: a minus sign before log_w?": torch.softmax(-log_w, 0),
            "the log-weights went in where weights belong.": log_w.clamp(min=0) / log_w.clamp(min=0).sum(0),
            "the weights are normalised over the batch, not over the samples.": torch.softmax(log_w.sum(1), 0)
            .unsqueeze(1)
            .expand(K, B),
        },
    )


def q6(exact_bound, fresh):
    for C in (2, 3):
        K = fresh.integer(3, 6)
        values, shares = fresh.uniform(0.1, 4, C), torch.softmax(fresh.normal(C), 0)
        draws = torch.tensor(list(itertools.product(range(C), repeat=K)))
        average, chance = values[draws].mean(1), shares[draws].prod(1)
        truth = (chance * average.log()).sum()
        once = list({tuple(row.sort().values.tolist()): n for n, row in enumerate(draws)}.values())
        expect.close(
            exact_bound(values, shares, K),
            truth,
            f"exact_bound of {C} values at K = {K}",
            {
                "that is log p(x): the logarithm of the mean, not the mean of the logarithm.": (
                    (shares * values).sum().log()
                ),
                "that is the ELBO, K = 1.": (shares * values.log()).sum(),
                "it is too high by log K: w̄ is the mean of K weights, not their sum.": truth + math.log(K),
                "each set of counts has the chance of one order only. In how many orders can it come?": (
                    (chance * average.log())[once].sum()
                ),
                "all draws were taken to be equally probable.": average.log().mean(),
                "all sets of counts were taken to be equally probable.": average.log()[once].mean(),
                "that is E[w̄]: its logarithm is missing.": (chance * average).sum(),
            },
        )

    # K may be 30. A sum over all C^K draws would not come back from there: its growth gives it away before.
    values, shares = fresh.uniform(0.1, 4, 3), torch.softmax(fresh.normal(3), 0)

    def seconds(K):
        start = time.perf_counter()
        value = exact_bound(values, shares, K)
        took = time.perf_counter() - start
        expect.close(value, _by_counts(values, shares, K), f"exact_bound of 3 values at K = {K}")
        return took

    few = seconds(9)
    slow = min(many, seconds(12)) if (many := seconds(12)) > max(0.1, 8 * few) else many
    expect.that(
        slow <= max(0.1, 8 * few),
        f"exact_bound is right, but takes {slow:.1f} s at K = 12, and K may be 30: 3^30 draws. "
        "What of a draw does w̄ depend on? Not on the order: sum over the counts, 91 of them at K = 12.",
    )
    seconds(fresh.integer(25, 30))


def _by_counts(values, shares, K):
    """The bound for three values, as a sum over how often each came."""
    n = torch.cartesian_prod(torch.arange(K + 1), torch.arange(K + 1)).double()
    n = torch.cat([n, K - n.sum(1, keepdim=True)], 1)
    n = n[n[:, 2] >= 0]
    ways = math.lgamma(K + 1) - torch.lgamma(n + 1).sum(1)
    return ((ways + n @ shares.log()).exp() * (n @ values / K).log()).sum()
