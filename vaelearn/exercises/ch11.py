"""Checks of chapter 11's exercises: other divergences."""

import math
from functools import partial

import torch
import torch.nn.functional as F

from ..divergences import _mean_of_pairs
from . import expect
from .answers import Wrong, call, closes, describe, parts


def players(function, weight, z, y):
    """Probe: with the judge d(z) = z · weight[:-1] + weight[-1], both losses and their gradients.

    [loss, penalty, d loss / d weight, d loss / dz, d penalty / dz]
    """
    weight, z = weight.clone().requires_grad_(), z.clone().requires_grad_()
    pair = call(function, lambda z: z @ weight[:-1] + weight[-1], z, y)
    if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
        raise Wrong(f"it should return (loss, penalty); it gave {describe(pair)}.")
    for name, value in zip(("loss", "penalty"), pair, strict=True):
        if not (isinstance(value, torch.Tensor) and value.numel() == 1 and value.requires_grad):
            raise Wrong(f"its {name} should be a scalar tensor with a gradient; it is {describe(value)}.")
    loss, penalty = (value.sum() for value in pair)

    def slope(of, by):
        return torch.autograd.grad(of, by, retain_graph=True, allow_unused=True, materialize_grads=True)[0]

    return loss, penalty, slope(loss, weight), slope(loss, z), slope(penalty, z)


@closes("divergences.Adversarial.jensen_shannon", "divergences.Adversarial.loss")
def q1(js_estimate, fresh):
    N, M = fresh.sizes(2, 4, 9)
    apart = 0.0
    while apart < 0.1:  # else it does not show how the two sides are weighted
        d_q, d_p = 0.7 + 1.5 * fresh.normal(N), -0.3 + 1.5 * fresh.normal(M)
        heads, tails = F.logsigmoid(d_q), F.logsigmoid(-d_p)
        apart = float((heads.mean() - tails.mean()).abs())
    inner = (heads.mean() + tails.mean()) / 2
    log2, pooled = math.log(2), (heads.sum() + tails.sum()) / (N + M)
    truth = log2 + inner
    cut = "it is cut off at 0. JS is never negative, but a judge's estimate of it can be."
    expect.close(
        js_estimate(d_q, d_p),
        truth,
        "js_estimate(d_q, d_p)",
        {
            "log 2 is missing: a judge that knows nothing, d = 0, should report 0.": inner,
            "the halves are missing: each side counts ½.": log2 + 2 * inner,
            "that is the game's value without its constant; each side counts ½, and log 2 comes on top.": 2
            * inner,
            "that is the judge's loss. The estimate is log 2 less the loss.": -inner,
            "its sign is reversed.": -truth,
            "that is in bits; nats were asked for.": truth / log2,
            "it is twice the estimate of JS.": 2 * truth,
            cut: truth.clamp(min=0),
            "the larger sample counts for more: all logits were averaged together. Average each side "
            "on its own.": log2 + pooled,
            "sums stand where means belong.": log2 + (heads.sum() + tails.sum()) / 2,
            "the prior's side has the wrong sign: a draw from p is judged well where d is negative.": log2
            + (heads.mean() + F.logsigmoid(d_p).mean()) / 2,
            "the two sides are swapped: d > 0 speaks for a code.": log2
            + (F.logsigmoid(-d_q).mean() + F.logsigmoid(d_p).mean()) / 2,
            "that is E_q[d], the judge's report of KL(q ‖ p).": d_q.mean(),
            "the logarithms are missing.": log2
            + (torch.sigmoid(d_q).mean() + torch.sigmoid(-d_p).mean()) / 2,
        },
    )
    d_q[0], d_p[0] = -1000, 1000
    truth = log2 + (F.logsigmoid(d_q).mean() + F.logsigmoid(-d_p).mean()) / 2
    what = "js_estimate with logits of ±1000 on the wrong side"
    value = js_estimate(d_q, d_p)
    lost = torch.full_like(truth, -math.inf)
    gone = "it is -inf: σ(−1000) is 0 in floating point, and its logarithm −∞. Work from the logit."
    clamped = f"{what}: a clamp before the logarithm hides how wrong the judge is. Work from the logit."
    number = float(torch.as_tensor(value)) if torch.as_tensor(value).numel() == 1 else math.nan
    expect.that(number != 0, f"{what}: {cut}")
    expect.that(not number > float(truth) + 1, clamped)
    expect.close(value, truth, what, {gone: lost})


@parts("mean", "error")
def q2(gain, fresh):
    for _ in range(2):
        S = fresh.integer(4, 9)
        seeds = 80 + fresh.normal(S)
        ours = seeds + float(fresh.uniform(-0.6, 0.6)) + 0.3 * fresh.normal(S)
        elbo = seeds + 0.3 * fresh.normal(S)
        better = elbo - ours
        error = better.std() / S**0.5
        pair = expect.parts(gain(ours, elbo), 2, "gain should return (mean gain, standard error).")
        with expect.part("mean"):
            expect.close(
                pair[0],
                better.mean(),
                "the mean gain",
                {
                    "its sign says that a higher NLL is better. NLL is a loss: the smaller number wins.": (
                        -better.mean()
                    ),
                    "that is the summed gain, not the mean.": better.sum(),
                    "that is the median.": better.median(),
                    "that is the standard error. The mean gain comes first.": error,
                },
            )
        with expect.part("error"):
            expect.close(
                pair[1],
                error,
                "its standard error",
                {
                    "that is the spread over seeds. The mean of S of them scatters √S times "
                    "less.": better.std(),
                    "the spread is divided by S; it should be √S.": better.std() / S,
                    "the seeds are paired: a lucky start is lucky for both. Take the spread of the "
                    "differences.": ((ours.var() + elbo.var()) / S).sqrt(),
                    "the seeds are paired: take the spread of the differences.": (
                        (ours.var(correction=0) + elbo.var(correction=0)) / S
                    ).sqrt(),
                    "that is the error of your method's mean alone.": ours.std() / S**0.5,
                    "the mean is estimated from the same S numbers: the variance has S − 1 "
                    "below.": better.std(correction=0) / S**0.5,
                    "that is its square.": error**2,
                },
            )


@parts("KL", "JS", "MMD", "Stein")
def q3(missing_modes, fresh):
    for _ in range(3):
        n = fresh.integer(3, 30)
        # Not 1, n/2 or n/3: there some mistake gives another's value, or the right one.
        r = fresh.choice([r for r in range(2, n) if n not in (2 * r, 3 * r)])
        _modes(missing_modes, n, r, float(fresh.uniform(0.1, 0.9)))


def js_of_modes(f):
    return math.log(2) - ((1 + f) * math.log(1 + f) - f * math.log(f)) / 2


def _modes(missing_modes, n, r, g):
    names = ("KL", "JS", "MMD", "Stein")
    f, said = r / n, expect.entries(missing_modes(n, r, g), names, "`missing_modes` should return")
    of_q = math.log(2 / (1 + f))
    of_p = f * math.log(2 * f / (1 + f)) + (1 - f) * math.log(2)
    truths = {
        "KL": (
            math.log(n / r),
            {
                "a divergence is not negative: where the codes are, q is n/r times p.": math.log(r / n),
                "that is the other direction, KL(p ‖ q): p has mass where q has none.": math.inf,
                "that would be right for a single mode in use.": math.log(n),
                "the log-ratio is the same at each code, and the codes are all in use: no share of "
                "modes comes in front.": f * math.log(n / r),
                "0 would mean q = p, and at no code is the ratio q/p 1.": 0.0,
                "that is in bits; nats were asked for.": math.log2(n / r),
            },
        ),
        "JS": (
            js_of_modes(f),
            {
                "log 2 is for disjoint q and p. These two share r modes.": math.log(2),
                "that is KL(q ‖ m) alone. Half of it, and half of KL(p ‖ m).": of_q,
                "that is KL(p ‖ m) alone. Half of it, and half of KL(q ‖ m).": of_p,
                "half of KL(q ‖ m) is there; half of KL(p ‖ m) is missing.": of_q / 2,
                "half of KL(p ‖ m) is there; half of KL(q ‖ m) is missing.": of_p / 2,
                "KL(p ‖ m) is taken over the modes in use only. p has the others too.": (
                    of_q + of_p - (1 - f) * math.log(2)
                )
                / 2,
                "that is in bits; nats were asked for.": js_of_modes(f) / math.log(2),
                "the halves are missing.": of_q + of_p,
                "that is log 2 times the share that is missing. On the shared modes q and p differ, too: "
                "by a factor n/r.": (1 - f) * math.log(2),
                "half of that: JS averages KL(q ‖ m) and KL(p ‖ m), and the shared modes are not alike, "
                "either.": (1 - f) * math.log(2) / 2,
                "that is KL(q ‖ p).": math.log(n / r),
                "a judge can tell: a draw from an unused mode is from p for sure.": 0.0,
            },
        ),
        "MMD": (
            g * (1 / r - 1 / n),
            {
                "the term across the samples is missing.": g * (1 / r + 1 / n),
                "the term across counts twice: it takes 2g/n off.": g / r,
                "the codes share modes with the prior: a code and a prior draw lie in the same mode with "
                "probability 1/n.": g * (1 / r + 1 / n) / 2,
                "that is the share of missing modes. Ask how often two draws share a mode.": g * (1 - f),
                "it is not blind: two codes meet in one mode more often than two prior draws.": 0.0,
                "that forgets g: two draws from one mode are not identical.": 1 / r - 1 / n,
                "the sign is reversed: MMD² is a square.": g * (1 / n - 1 / r),
                "that is the MMD; its square was asked for.": (g * (1 / r - 1 / n)) ** 0.5,
            },
        ),
    }
    for name in names:
        with expect.part(name):
            what = f'missing_modes({n}, {r}, {g:.2f})["{name}"]'
            if name == "Stein":
                expect.that(
                    abs(expect.number(said[name], what)) < 1e-9,
                    f"{what}: it sees scores only, and those where the codes are. Draw log q and log p over "
                    f"one "
                    "bump in use, and compare.",
                )
            else:
                truth, mistakes = truths[name]
                expect.close(said[name], truth, what, mistakes)


def q4(soft_logit, fresh):
    n, m = fresh.sizes(2, 3, 8)
    r, a = 2.5 * fresh.normal(n, m), float(fresh.uniform(0.7, 0.95))
    r[0, 0] = 4  # above log a/(1 − a)
    truth = math.log(a) + r - F.softplus(r + math.log(1 - a))
    two_sided = torch.log(a * r.exp() + 1 - a) - torch.log((1 - a) * r.exp() + a)
    expect.close(
        soft_logit(r, a),
        truth,
        "soft_logit(r, a)",
        {
            "that is the judge with hard labels.": r,
            "nearly: the other share of a code's label, 1 − a, votes for the prior's side.": math.log(a) + r,
            "that softens both labels. A prior draw's target stays 0.": two_sided,
            "that softens the prior's label, not the codes'.": -(
                math.log(a) - r - F.softplus(-r + math.log(1 - a))
            ),
            "that is the best probability, σ(d). Asked for is its logit.": truth.sigmoid(),
            "that is log σ(d), not d.": F.logsigmoid(truth),
            "its sign is reversed: d > 0 speaks for a code.": -truth,
            "that shifts the hard judge's logit, as unequal batches would. A soft label moves part of q to "
            "the prior's side.": r + math.log(a / (1 - a)),
            "a and 1 − a have changed places.": math.log(1 - a) + r - F.softplus(r + math.log(a)),
            "there is a ceiling at log a/(1 − a), but the best logit does not run straight into it.": (
                r.clamp(max=math.log(a / (1 - a)))
            ),
            "multiplying the logit by a is not the same as softening the label.": a * r,
            "the logarithm of 1 + (1 − a) q/p comes off; yours is added.": math.log(a)
            + r
            + F.softplus(r + math.log(1 - a)),
        },
    )
    far = torch.tensor([-800.0, 800.0], dtype=torch.float64)
    expect.close(
        soft_logit(far, a),
        torch.tensor([math.log(a) - 800, math.log(a / (1 - a))], dtype=torch.float64),
        "soft_logit at r = −800 and 800",
    )


@parts("logits", "codes", "sign")
def q5(losses, fresh):
    N, M, L = fresh.sizes(3, 3, 8)
    z, y, weight = 0.5 + fresh.normal(N, L), fresh.normal(M, L), 0.6 * fresh.normal(L + 1)
    _game(losses, weight, z, y, "")
    # A judge that is sure, and wrong: each logit on the losing side by 800 nats and more.
    z[:, 0], y[:, 0] = -fresh.uniform(800, 900, N), fresh.uniform(800, 900, M)
    weight = torch.cat([torch.ones(1), torch.zeros(L - 1), torch.zeros(1)]).double()
    _game(losses, weight, z, y, " with logits beyond ±800 on the wrong side")


def game(weight, z, y):
    """What `players` should give: loss, penalty, d loss / d weight, 0, d penalty / dz."""
    d_q, d_p = z @ weight[:-1] + weight[-1], y @ weight[:-1] + weight[-1]
    loss = (F.softplus(-d_q).mean() + F.softplus(d_p).mean()) / 2
    by_q, by_p = torch.sigmoid(-d_q) / (2 * len(z)), torch.sigmoid(d_p) / (2 * len(y))
    by_weight = torch.cat([by_p @ y - by_q @ z, (by_p.sum() - by_q.sum())[None]])
    return loss, math.log(2) - loss, by_weight, by_q[:, None] * weight[:-1]


def _game(losses, weight, z, y, where):
    loss, penalty, by_weight, by_z = game(weight, z, y)
    d_q, d_p = z @ weight[:-1] + weight[-1], y @ weight[:-1] + weight[-1]
    given = losses.run(players, weight, z, y)
    # What is wrong with the judge's loss at such logits is wrong with the penalty too.
    sign = partial(expect.part, "sign", *["logits"] * bool(where), else_failed=True)
    clamped = (
        "probabilities were clamped before the logarithm, which hides how wrong the judge is. "
        "Work from the logits."
    )
    with expect.part("logits"):
        if where:
            finite = bool(torch.stack([given[0].double(), given[1].double()]).isfinite().all())
            expect.that(
                finite,
                f"the losses{where} hold inf or nan: a probability has rounded to 0 or 1 before the "
                f"logarithm. "
                "Work from the logits.",
            )
            expect.that(float(given[0]) > 0.99 * float(loss), f"the judge's loss{where}: {clamped}")
    with expect.part("logits"):
        expect.close(
            given[0],
            loss,
            f"the judge's loss{where}",
            {
                "its sign is reversed: the judge would learn to be wrong.": -loss,
                "the halves are missing.": 2 * loss,
                "that is the estimate of JS. The judge descends log 2 less that.": penalty,
                "the sides are swapped: it would learn to call codes prior draws.": (
                    F.softplus(d_q).mean() + F.softplus(-d_p).mean()
                )
                / 2,
                "the larger sample counts for more. Average each side on its own.": (
                    F.softplus(-d_q).sum() + F.softplus(d_p).sum()
                )
                / (len(z) + len(y)),
                "the constant log 2 has been taken off.": loss - math.log(2),
            },
        )
    with sign():
        expect.close(
            given[1],
            penalty,
            f"the penalty{where}",
            {
                "it has the judge's sign: descending it, the encoder would help the judge, and codes would "
                "run from the prior.": -penalty,
                "that is the judge's own loss: encoder and judge would be one team.": loss,
                "log 2 is missing from the estimate of JS.": -loss,
                "the halves are missing, or log 2 is.": -2 * loss,
                "that is the non-saturating form, another loss. Here the estimate of JS is asked for.": (
                    F.softplus(d_q).mean()
                ),
                "that is E_q[d], the report of KL.": d_q.mean(),
            },
        )
    with expect.part("logits"):
        expect.close(
            given[2],
            by_weight,
            f"the gradient of the judge's loss with respect to the judge{where}",
            {
                f"it is zero. {clamped}" if where else "it is zero: was the judge's output detached?": (
                    torch.zeros_like(by_weight)
                ),
                "its sign is reversed.": -by_weight,
            },
        )
    sent = given[3].double()
    with expect.part("codes"):
        expect.that(
            float(sent.abs().max()) < 1e-12,
            f"the judge's loss{where} sends a gradient to the codes: it would make the encoder help the "
            f"judge. "
            "Cut z off there.",
        )
    with sign():
        expect.close(
            given[4],
            by_z,
            f"the penalty's gradient with respect to the codes{where}",
            {
                "it is zero: the codes are detached in the penalty too, and the encoder learns "
                "nothing.": torch.zeros_like(by_z),
                "it points the wrong way: descending the penalty should make codes look like prior "
                "draws.": -by_z,
            },
        )


def stein_terms(z, score, h):
    """The four terms of u, (N, N) each (the two in the middle apart), for the RBF kernel."""
    apart = z[:, None] - z
    s = apart.square().sum(-1)
    k = torch.exp(-s / (2 * h**2))
    first = (score[:, None] * apart).sum(-1) / h**2 * k
    return score @ score.T * k, first, first.T, z.shape[1] / h**2 * k, -s / h**4 * k


@closes("divergences.stein_discrepancy", "divergences.Stein.__call__", "divergences._gram")
def q6(ksd, fresh):
    N, L = fresh.sizes(2, 3, 7)
    z, mean, h = fresh.normal(N, L), fresh.normal(L), float(fresh.uniform(1.3, 2.2))
    root = torch.eye(L, dtype=torch.float64) + 0.4 * fresh.normal(L, L)
    covariance = root @ root.T + 0.3 * torch.eye(L, dtype=torch.float64)

    def score(matrix):
        return -(z - mean) @ matrix

    inverse = torch.linalg.inv(covariance)
    terms = stein_terms(z, score(inverse), h)
    scores, first, second, level, fall = terms
    truth = _mean_of_pairs(sum(terms))

    def of(score):
        return _mean_of_pairs(sum(stein_terms(z, score, h)))

    turned = "look at ∇_z k and ∇_z′ k: they are opposite."
    expect.close(
        ksd(z, mean, covariance, h),
        truth,
        "ksd(z, mean, covariance, h)",
        {
            "the diagonal is still in: a code beside itself is no pair. Mean over different codes.": sum(
                terms
            ).mean(),
            "N(N − 1) is right only without the diagonal, which is still in the sum.": sum(terms).sum()
            / (N * (N - 1)),
            "the diagonal is out of the sum but still in the count.": truth * (N - 1) / N,
            "it is twice what it should be: count a pair as often as you add it.": 2 * truth,
            "it is half of what it should be: count a pair as often as you add it.": truth / 2,
            "that is the kernel with h² in its exponent. Here it is 2h².": _mean_of_pairs(
                sum(stein_terms(z, score(inverse), h / 2**0.5))
            ),
            "the covariance stands where its inverse belongs: ∇ log p = −Σ⁻¹(z − μ).": of(score(covariance)),
            "that is the score of N(μ, I). The covariance is missing.": of(
                score(torch.eye(L, dtype=torch.float64))
            ),
            "that is the score of N(0, Σ). The mean is missing.": of(-z @ inverse),
            "only the variances were used; the prior has correlations.": of(
                score(torch.diag(1 / covariance.diagonal()))
            ),
            "the Cholesky factor stands where Σ belongs.": of(
                score(torch.linalg.inv(torch.linalg.cholesky(covariance)))
            ),
            "the two middle terms have the wrong sign. Is the score −Σ⁻¹(z − μ), with its minus? And "
            + turned: _mean_of_pairs(scores - first - second + level + fall),
            "the two middle terms are missing, or cancel in yours: " + turned: _mean_of_pairs(
                scores + level + fall
            ),
            "one of the two middle terms is missing.": _mean_of_pairs(scores + first + level + fall),
            "the trace has L terms 1/h², one for each dimension.": _mean_of_pairs(
                scores + first + second + level / L + fall
            ),
            "the trace has the wrong sign: it is the derivative by z and z′, not twice by z.": _mean_of_pairs(
                scores + first + second - level - fall
            ),
            "the trace term is missing.": _mean_of_pairs(scores + first + second),
            "in the trace, differentiate k once more: −‖z − z′‖²/h⁴ is missing.": _mean_of_pairs(
                scores + first + second + level
            ),
            "in the trace, L/h² is missing.": _mean_of_pairs(scores + first + second + fall),
            "in the trace the two parts have opposite signs.": _mean_of_pairs(
                scores + first + second + level - fall
            ),
            "only s(z)·s(z′) k is left; the terms with derivatives of k are missing.": _mean_of_pairs(scores),
        },
    )
