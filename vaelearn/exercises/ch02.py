"""Checks of chapter 2's exercises: the VAE as EM."""

import math
from itertools import product

import torch
import torch.nn.functional as F

from . import expect
from .answers import closes, gradient_of, parts

LOG_2PI = math.log(2 * math.pi)


def q1(rate, fresh):
    B, L = fresh.sizes(2)
    mean, log_s = 1.5 * fresh.normal(B, L), 0.7 * fresh.normal(B, L)
    variance = (2 * log_s).exp()
    latents = 0.5 * (mean**2 + variance - 1) - log_s
    truth = latents.sum(1)
    expect.close(
        rate(mean, log_s),
        truth,
        "rate(mean, log_s)",
        {
            "it is averaged over the latents. q and p(z) are products over them, so their KLs add up; the "
            f"mean is a hidden β of 1/{L}.": latents.mean(1),
            "everything was added up. Each data point keeps a KL of its own.": latents.sum(),
            "it is averaged over the batch. Each data point keeps a KL of its own.": truth.mean(),
            "the sum runs over the data points. It belongs to the latents, the last axis.": latents.sum(0),
            "log_s was read as a log-variance. It is the logarithm of the standard deviation.": (
                0.5 * (mean**2 + log_s.exp() - 1 - log_s).sum(1)
            ),
            "exp(log_s) is the standard deviation; the KL holds the variance.": (
                (0.5 * (mean**2 + log_s.exp() - 1) - log_s).sum(1)
            ),
            "½ log s² is log s, and a half too much was taken.": (
                0.5 * (mean**2 + variance - 1 - log_s).sum(1)
            ),
            "its sign is turned: a KL is never negative. (The ELBO holds −KL.)": -truth,
            "that is KL(p(z) ‖ q), with the prior first. The ELBO's expectation is taken under q.": (
                (log_s + 0.5 * (1 + mean**2) / variance - 0.5).sum(1)
            ),
            f"it is too high by L/2 = {L / 2}: each latent has a −½, so that the KL of the prior from itself "
            "is 0.": truth + L / 2,
            "it is twice what it should be: the ½ of the Gaussian's exponent is missing.": 2 * truth,
            "the mean enters by its square.": (0.5 * (mean + variance - 1) - log_s).sum(1),
        },
    )
    nothing = torch.zeros(B, L).double()
    expect.close(rate(nothing, nothing), nothing[:, 0], "the KL of the prior from itself")
    slopes = rate.run(gradient_of, mean, log_s)
    for slope, wanted, name in zip(slopes, (mean, variance - 1), ("mean", "log_s"), strict=True):
        expect.close(slope, wanted, f"the gradient of rate with respect to {name}")


@closes("distributions.bernoulli_log_prob")
def q2(log_likelihood, fresh):
    K, B, pixels = fresh.sizes(3)
    logits, x = 2 * fresh.normal(K, B, pixels), (fresh.uniform(0, 1, B, pixels) < 0.5).double()
    x[0, :2] = torch.tensor([0.0, 1.0])
    each = x * logits - F.softplus(logits)
    truth, p = each.sum(-1), torch.sigmoid(logits)

    def of_p(p):
        return (x * p.log() + (1 - x) * (1 - p).log()).sum(-1)

    mistakes = {
        "it is averaged over the pixels. p(x | z) is a product over them: its logarithm is a sum.": each.mean(
            -1
        ),
        "its sign is turned. A cross-entropy is a loss, minus the log-likelihood.": -truth,
        "its sign is turned, and it is averaged over the pixels: the cross-entropy of the libraries.": (
            -each.mean(-1)
        ),
        "everything was added up. Only the last axis, the pixels, goes.": each.sum(),
        "everything was averaged. Only the last axis, the pixels, goes, and by a sum.": each.mean(),
        "everything was averaged, and its sign is turned.": -each.mean(),
        "ink and paper are swapped: that is the log-likelihood of 1 − x.": (
            -x * logits - F.softplus(-logits)
        ).sum(-1),
        "only the pixels that are on count. A pixel that is off has log(1 − p).": (
            x * F.logsigmoid(logits)
        ).sum(-1),
        "that is the probability: its logarithm is missing.": truth.exp(),
    }
    floor = "a floor of 1e-{0} under p and 1 − p changes the answer ({1}). From the logits none is needed."
    for digits in range(2, 11):
        tiny = 10.0**-digits
        added = (x * (p + tiny).log() + (1 - x) * (1 - p + tiny).log()).sum(-1)
        mistakes[floor.format(digits, "added inside the logarithms")] = added
        mistakes[floor.format(digits, "by a clamp")] = of_p(p.clamp(tiny, 1 - tiny))
    expect.close(log_likelihood(logits, x), truth, "log_likelihood(logits, x)", mistakes)

    # A decoder that is sure, and wrong about some of the pixels.
    sure = (300 + fresh.uniform(0, 500, K, B, pixels)) * torch.sign(logits)
    value = torch.as_tensor(log_likelihood(sure, x)).double()
    expect.that(value.numel() == K * B, "log_likelihood of logits beyond ±300 has another shape than before.")
    value = value.reshape(K, B)
    expect.that(
        bool(value.isfinite().all()),
        "log_likelihood of logits beyond ±300 is infinite or nan. There sigmoid(logit) is 0 or 1 to the last "
        "digit, and the logarithm comes too late: write log p and log(1 − p) in terms of the logit.",
    )
    wanted = (x * sure - F.softplus(sure)).sum(-1)
    expect.that(
        not bool((value > wanted + 1).any()),
        "log_likelihood of logits beyond ±300 is too good. A pixel that is on at a logit of −300 costs 300 "
        "nats; a floor under the probabilities (a clamp, an ε, or the −100 inside PyTorch's cross-entropy of "
        "probabilities) hides that cost, and with it the gradient.",
    )
    expect.close(value, wanted, "log_likelihood of logits beyond ±300")

    steep = (30 * torch.sign(logits)).float()
    for what, at in (("beyond ±300", sure), ("of ±30, in float32", steep)):
        slope, _ = log_likelihood.run(gradient_of, at, x.to(at))
        expect.close(
            slope,
            x - torch.sigmoid(at).double(),
            f"the gradient with respect to logits {what}",
            {"it is 0 where the decoder is sure and wrong.": torch.zeros_like(at)},
        )


def _log_weights(x, decoded, z, mu, log_var, sigma):
    """What each set of mistakes makes of question 3's log-weight: {sentence: value}; "" is the right one."""
    pixel = -0.5 * (((x - decoded) / sigma) ** 2 + math.log(2 * math.pi * sigma**2))
    log_prior = -0.5 * (z**2 + LOG_2PI)
    sums = {
        "": pixel.sum(1),
        "the log-likelihood is averaged over the pixels. p(x | z) is a product over them: its logarithm is "
        "a sum.": pixel.mean(1),
    }
    means = {
        "": 1,
        "log p(z) − log q(z | x) is averaged over the latents. It is a sum over them too.": z.shape[1],
    }
    log_qs = {
        "": (z - mu) ** 2 / log_var.exp() + log_var,
        "ε divides by the log-variance. Take z = μ + s ε and solve for ε.": ((z - mu) / log_var) ** 2
        + log_var,
        "ε divides by the variance. Take z = μ + s ε and solve for ε.": (
            ((z - mu) / log_var.exp()) ** 2 + log_var
        ),
        "ε divides by half the log-variance, which is log s and not s.": (
            ((z - mu) / (0.5 * log_var)) ** 2 + log_var
        ),
        "q's density lost its log-variance: a narrow q is a high one.": (z - mu) ** 2 / log_var.exp(),
    }
    values = {}
    for (a, p), (b, share), (c, energy) in product(sums.items(), means.items(), log_qs.items()):
        slips = [slip for slip in (c, a, b) if slip]
        sentence = slips[0] if slips else ""  # only the first is named
        if len(slips) == 3:
            sentence += " And that is the first of three."
        elif len(slips) == 2:
            sentence += f" And that is not all: look further {'down' if b else 'up'}."
        costs = ["pixels"] * bool(a) + ["latents"] * bool(b) + ["epsilon"] * bool(c)
        sentence = expect.about(sentence, *costs) if costs else sentence
        values[sentence] = p + (log_prior + 0.5 * (energy + LOG_2PI)).sum(1) / share
    return values


@parts("pixels", "latents", "epsilon")
def q3(log_weight, fresh):
    B, L, D = fresh.sizes(3)
    sigma = float(fresh.uniform(0.4, 0.9))
    x, decoded = fresh.normal(B, D), fresh.normal(B, D)
    mu, log_var = fresh.normal(B, L), fresh.uniform(-1.5, -0.3, B, L)
    z = mu + (0.5 * log_var).exp() * fresh.normal(B, L)
    values = _log_weights(x, decoded, z, mu, log_var, sigma)
    truth = values.pop("")
    values["its sign is turned: that is a loss, and log w was asked for."] = -truth
    values["everything was averaged. Each data point keeps its own log-weight."] = truth.mean()
    values["log p(z) and log q(z | x) have changed places."] = (
        2 * (-0.5 * (((x - decoded) / sigma) ** 2 + math.log(2 * math.pi * sigma**2))).sum(1) - truth
    )
    with expect.part(*q3.parts):
        expect.close(log_weight(x, decoded, z, mu, log_var, sigma), truth, "log_weight", values)
    with expect.part(*q3.parts, else_failed=True):
        slopes = log_weight.run(gradient_of, x, decoded, z, mu, log_var, sigma)
        eps = (z - mu) / (0.5 * log_var).exp()
        wanted = -eps / (0.5 * log_var).exp(), 0.5 * (1 - eps**2)
        for slope, truth, name in zip(slopes[3:], wanted, ("mu", "log_var"), strict=True):
            expect.close(
                slope, truth, f"the gradient of log_weight with respect to {name}, for a z that stays"
            )


def best_encoder(W, b, noise):
    """The truth of question 4, and the precision P that it comes from."""
    P = torch.eye(W.shape[1]).double() + W.T @ (W / noise[:, None] ** 2)
    A = torch.linalg.solve(P, W.T / noise**2)
    return A, -A @ b, P.diagonal() ** -0.5, P


@closes("exercises.ch02.best_encoder", "exact.LinearGaussian.perfect_e_step")
@parts("A", "c", "s")
def q4(encoder, fresh):
    L, D = sorted(fresh.sizes(2))
    W, b, noise = fresh.normal(D, L), fresh.normal(D), fresh.uniform(0.4, 2.0, D)
    A, c, s, P = best_encoder(W, b, noise)
    said = expect.parts(encoder(W, b, noise), 3, "`encoder` should return three tensors: A, c, s.")
    one, pull = torch.eye(L).double(), W.T / noise**2
    with expect.part("A"):
        expect.close(
            said[0],
            A,
            "A",
            {
                "the prior is forgotten. That is weighted least squares, the z that fits x best; the "
                "posterior "
                "is drawn towards 0.": torch.linalg.solve(P - one, pull),
                "that inverts W and knows neither noise nor prior.": torch.linalg.pinv(W),
                "`noise` holds standard deviations. The precision of a pixel is one over the variance.": (
                    torch.linalg.solve(one + (W.T / noise) @ W, W.T / noise)
                ),
                "every pixel counts the same there. A noisy pixel should count less.": (
                    torch.linalg.solve(one + W.T @ W, W.T)
                ),
                "one σ² for all pixels, their mean, went in. Each pixel has its own.": torch.linalg.solve(
                    one + W.T @ W / (noise**2).mean(), W.T / (noise**2).mean()
                ),
                "that A wants x in units of the noise. x comes in units of its own.": torch.linalg.solve(
                    P, W.T / noise
                ),
                "that is the pull of the data on z, not yet divided by the posterior's precision.": pull,
                "it is transposed: A takes x (D,) to the mean of z (L,).": A.T,
                "only the diagonal of the precision was inverted. The *mean* needs all of it; it is the "
                "covariance of q that is diagonal.": pull / P.diagonal()[:, None],
                "that is the decoder. The encoder goes the other way.": W,
            },
        )
    with expect.part("c"):
        expect.close(
            said[1],
            c,
            "c",
            {
                "it is 0. At x = b the posterior's mean is 0, so Ab + c = 0.": torch.zeros(L),
                "its sign is turned. At x = b the posterior's mean is 0, so Ab + c = 0.": -c,
                "that is b. c lives in the latent space, and Ab + c = 0.": b,
            },
        )
    wide = P.inverse().diagonal()
    with expect.part("s"):
        expect.close(
            said[2],
            s,
            "s",
            {
                "those are the widths of the posterior's marginals, where sleep leads. KL(q ‖ p) has q "
                "first and "
                "wants less.": wide.sqrt(),
                "those are variances of the posterior's marginals. s is a standard deviation, and KL(q ‖ p) "
                "wants another one.": wide,
                "that is a variance; s is the standard deviation.": s**2,
                "that is log s; give s itself.": s.log(),
                "that is 1/s: a large precision is a small width.": 1 / s,
                "that is the precision; s is a standard deviation.": s**-2,
                "the prior is forgotten: without any data s is 1.": (P.diagonal() - 1) ** -0.5,
                "that is the posterior's covariance. q's is diagonal: give L standard "
                "deviations.": P.inverse(),
                "that is a matrix. Give the L standard deviations.": s.diag(),
            },
        )


def _count(eigenvalues, latent_dim, threshold):
    return int((eigenvalues[:latent_dim] > threshold).sum())


def _survival(fresh):
    """A problem of question 5, the answer, and what each mistake says."""
    latent_dim, data_dim = sorted(fresh.sizes(2, 4, 9))
    sigma, beta = float(fresh.uniform(0.3, 2.0)), float(fresh.uniform(1.2, 6.0))
    if fresh.integer(0, 1):
        beta = 1 / beta
    v = beta * sigma**2
    eigenvalues = (v * torch.exp(fresh.uniform(-2.5, 2.5, data_dim))).sort(descending=True).values
    if float((eigenvalues / v).log().abs().min()) < 0.02:
        return _survival(fresh)
    thresholds = {
        "that is the answer at β = 1. How does β change the price of a latent?": sigma**2,
        "β works the other way: a larger β kills latents.": sigma**2 / beta,
        "that leaves the noise out. A latent has to rise above it.": beta,
        "eigenvalues are variances, and σ is a standard deviation.": beta * sigma,
        "β is squared there, though it multiplies the KL only once.": beta**2 * sigma**2,
        "eigenvalues are compared with the prior's variance 1 there. What do they have to beat?": 1.0,
        "eigenvalues are compared with half of what they have to beat.": v / 2,
        "eigenvalues are compared with what the noise *adds* to the prior.": 1 + v,
    }
    mistakes = {said: _count(eigenvalues, latent_dim, t) for said, t in thresholds.items()}
    mistakes["more latents survive than the model has."] = _count(eigenvalues, data_dim, v)
    mistakes["all of them, always? Some problems leave a latent nothing to gain."] = latent_dim
    mistakes["those are the ones that die."] = latent_dim - _count(eigenvalues, latent_dim, v)
    return (eigenvalues, latent_dim, sigma, beta), _count(eigenvalues, latent_dim, v), mistakes


def q5(survivors, fresh):
    problems = 8
    for _ in range(1000):
        drawn = [_survival(fresh) for _ in range(problems)]
        truth = [t for _, t, _ in drawn]
        wrong = {said: [m[said] for _, _, m in drawn] for said in drawn[0][2]}
        rows = [truth, *wrong.values()]
        if len({tuple(row) for row in rows}) == len(rows):
            break  # every mistake is told from the truth and from every other
    said = [expect.number(survivors(*problem), "what `survivors` counts") for problem, *_ in drawn]
    if said == truth:
        return
    first = next(i for i, (a, b) in enumerate(zip(said, truth, strict=True)) if a != b)
    eigenvalues, latent_dim, sigma, beta = drawn[first][0]
    listed = ", ".join(f"{e:.3g}" for e in eigenvalues.tolist())
    what = (
        f"survivors([{listed}], {latent_dim}, σ = {sigma:.2f}, β = {beta:.2f}) gave {said[first]:g} "
        f"and training leaves {truth[first]} alive"
    )
    for sentence, row in wrong.items():
        expect.that(said != row, f"{what}: {sentence}")
    agree = sum(a == b for a, b in zip(said, truth, strict=True))
    expect.that(False, f"{what}. ({agree} of {problems} problems were right.)")


def best_variance(eigenvalues, latent_dim, beta):
    """The truth of question 6, by bisection in log v = log βσ²: where the objective's slope is 0."""
    eigenvalues = torch.as_tensor(eigenvalues).double()
    low, high = eigenvalues.min().log() - 30, eigenvalues.sum().log() + abs(math.log(beta)) + 30
    for _ in range(100):
        middle = (low + high) / 2
        share = eigenvalues / middle.exp()
        share[:latent_dim] = share[:latent_dim].clamp(max=1)
        low, high = (middle, high) if share.sum() > len(share) / beta else (low, middle)
    return float(low.exp()) / beta


@closes("exercises.ch02.best_variance")
def q6(best_sigma2, fresh):
    latent_dim, data_dim = sorted(fresh.sizes(2, 3, 8))

    def rest(k):  # eigenvalues left over by k latents
        return float(eigenvalues[k:].sum())

    def alive(sentence, k, beta):  # the mistake of k latents, also where they cannot be that many
        left = data_dim - beta * k
        negative = f" And {k} cannot be: D − βk is negative, and so would be the variance."
        return {sentence + negative * (left < 0): rest(k) / left} if left else {}

    for regime in ("one", "some", "many", "below", "none"):
        while True:
            eigenvalues = torch.exp(fresh.uniform(-2, 2, data_dim)).sort(descending=True).values
            low, high = {"one": (1, 1), "below": (0.1, 0.6), "none": (9, 12)}.get(regime, (1.1, 4.0))
            beta = float(fresh.uniform(low, high))
            truth = best_variance(eigenvalues, latent_dim, beta)
            k = _count(eigenvalues, latent_dim, beta * truth)
            if regime == "one" or (k == latent_dim and regime == "below"):
                break
            # Some latents must die, but not those that σ² alone, or β times pPCA's σ², would kill.
            own = [
                j
                for j in range(1, latent_dim + 1)
                if 0 < rest(j) < eigenvalues[j - 1] * (data_dim - beta * j)
            ]
            by_ppca = beta * rest(latent_dim) / (data_dim - latent_dim)
            others = {latent_dim, max(own, default=0), _count(eigenvalues, latent_dim, truth)}
            others.add(_count(eigenvalues, latent_dim, by_ppca))
            clear = (eigenvalues / (beta * truth)).log().abs().min() > 0.05
            if clear and (k == 0 if regime == "none" else 0 < k and k not in others and k * beta < data_dim):
                break
        ppca = rest(latent_dim) / (data_dim - latent_dim)

        mistakes = {
            "that is pPCA's σ², the answer at β = 1.": ppca,
            "that is pPCA's σ² divided by β. β does not only rescale the noise: log σ² is not multiplied by "
            "it.": ppca / beta,
            "that is pPCA's σ² times β.": ppca * beta,
            "that is βσ², the noise of the equivalent model with β = 1; σ² was asked for.": beta * truth,
            **alive("all latents are taken to be alive there. Which of them does β kill?", latent_dim, beta),
            "the latents alive are the right ones, but β is missing where σ² is set.": (
                rest(k) / (data_dim - k)
            ),
            "that is the mean squared residual of the eigenvectors left out. Under q the latents are noisy "
            "too, and that noise reaches x.": rest(k) / data_dim,
            "that is the residual of a plain autoencoder, which pays nothing for its latents.": (
                rest(latent_dim) / data_dim
            ),
            "that is the mean of all eigenvalues, σ² of a model that uses no latent at all.": (
                rest(0) / data_dim
            ),
            "that is σ, and σ² was asked for.": truth**0.5,
        }
        for j in range(latent_dim):
            if j != k:
                there = f"{j} latents are taken to be alive there; at this optimum there are {k}."
                mistakes |= alive(there, j, beta)
        listed = ", ".join(f"{e:.3g}" for e in eigenvalues.tolist())
        what = f"best_sigma2([{listed}], {latent_dim}, β = {beta:.2f})"
        expect.close(best_sigma2(eigenvalues, latent_dim, beta), truth, what, mistakes, 1e-4)
