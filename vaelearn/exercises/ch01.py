"""Checks of chapter 1's exercises: latent variables and EM."""

import math
from itertools import product

import torch

from ..distributions import OneHotCategorical
from ..exact import GaussianMixture
from . import expect
from .answers import closes, parts


def mixture(fresh, data_dim: int, components: int) -> GaussianMixture:
    """A GaussianMixture with weights, means and scales of its own."""
    model = GaussianMixture(data_dim, components).double()
    with torch.no_grad():
        model.logits.copy_(0.7 * fresh.normal(components))
        model.means.copy_(1.5 * fresh.normal(components, data_dim))
        model.log_scales.copy_(0.3 * fresh.normal(components, data_dim))
    return model


def tensors(value) -> list[torch.Tensor]:
    """Several things that a function returned, in float64."""
    return [torch.as_tensor(one, dtype=torch.float64) for one in value]


COMPETE = "your columns sum to one, so the points compete. The components should."


def q1(responsibilities, fresh):
    N, C = fresh.sizes(2)
    log_weights, log_lik = torch.log_softmax(1.5 * fresh.normal(C), 0), 2 * fresh.normal(N, C)
    joint = log_weights + log_lik
    truth = torch.softmax(joint, 1)
    no_prior = torch.softmax(log_lik, 1)
    mistakes = {
        "the weights play no part: that is p(x | z) alone, divided by its sum over c.": no_prior,
        COMPETE: torch.softmax(joint, 0),
        "those are their logarithms.": torch.log_softmax(joint, 1),
        "that is the joint, p(x, z). Its rows sum to p(x), not to one.": joint.exp(),
        "the joint is divided by one sum for all points. Each row has its own p(x).": torch.softmax(
            joint.flatten(), 0
        ).reshape(N, C),
        "your rows do not sum to one. Multiply by the weights first, then divide.": no_prior
        * log_weights.exp(),
        "the log-weights went in as factors. In the log-joint they are added.": torch.softmax(
            log_weights * log_lik, 1
        ),
        "the weights were added to the log-likelihood; their logarithms belong there.": torch.softmax(
            log_weights.exp() + log_lik, 1
        ),
        "the weights multiply the log-likelihood. They are factors of the likelihood itself.": torch.softmax(
            log_weights.exp() * log_lik, 1
        ),
        "the least likely component gets the most. Is a minus sign too many?": torch.softmax(-joint, 1),
        "that is hard EM: all for the best component. A responsibility can express doubt.": (
            torch.nn.functional.one_hot(joint.argmax(1), C)
        ),
    }
    expect.close(responsibilities(log_weights, log_lik), truth, "the table of responsibilities", mistakes)

    far = log_lik + torch.linspace(-900, 900, N).double()[:, None]
    plain, one_for_all = (log_weights + far).exp(), (log_weights + far - (log_weights + far).max()).exp()
    expect.close(
        responsibilities(log_weights, far),
        truth,
        "the table of responsibilities for log-densities between -900 and 900",
        {
            "some are 0/0 or inf/inf: `exp` left the range of floating point. Take each row's largest "
            "log-joint out before; it cancels in Bayes' rule.": plain / plain.sum(1, keepdim=True),
            "one maximum was taken out for all points. Each row has its own.": (
                one_for_all / one_for_all.sum(1, keepdim=True)
            ),
        },
    )

    # Impossible by its weight, and yet with the largest density.
    log_weights[0], log_lik[:, 0] = -math.inf, log_lik[:, 0] + 2000
    log_weights = torch.log_softmax(log_weights, 0)
    expect.close(
        responsibilities(log_weights, log_lik),
        torch.softmax(log_weights + log_lik, 1),
        "the table of responsibilities where a component has weight 0",
        {
            "it is 0/0: what you take out of a row is its largest density, and that component has weight 0. "
            "Take out the largest log-joint.": torch.full_like(truth, math.nan)
        },
    )


@parts("bound", "gap")
def q2(bound_and_gap, fresh):
    N, C = fresh.sizes(2, 3, 8)
    log_joint = 2 * fresh.normal(N, C) - 3
    q = torch.softmax(1.5 * fresh.normal(N, C), 1)
    log_p = log_joint.logsumexp(1)
    log_r = log_joint - log_p[:, None]
    energy, entropy = (q * log_joint).sum(1), -(q * q.log()).sum(1)
    gap = (q * (q.log() - log_r)).sum(1)
    backwards = (log_r.exp() * (log_r - q.log())).sum(1)
    ask = "bound_and_gap should return two things: (bound, gap)."
    pair = expect.parts(bound_and_gap(log_joint, q), 2, ask)

    bounds = {
        "that is E_q[log p(x, z)]: its entropy, -E_q[log q], is missing.": energy,
        "the entropy of q came in with the wrong sign. The bound is E_q[log p(x, z) - log q].": energy
        - entropy,
        "that is log p(x) itself, whatever q is: the logarithm of E_q[p(x, z) / q]. It goes inside.": log_p,
        "that is the divergence. Return the bound first, then the gap.": gap,
        "that is above log p(x) by the divergence: no lower bound.": log_p + gap,
        "it is averaged over the components as if all counted equally. Their weights are q.": (
            log_joint - q.log()
        ).mean(1),
        "the components are summed as if all counted equally. Their weights are q.": (
            log_joint - q.log()
        ).sum(1),
        "it is averaged over the points. Each point has a bound of its own.": (energy + entropy).mean(),
        "it is summed over the points. Each point has a bound of its own.": (energy + entropy).sum(),
        "it is summed over the points, not over the components.": (q * (log_joint - q.log())).sum(0),
        "that is -KL: log p(x) was left out.": -gap,
    }
    with expect.part("bound"):
        expect.close(pair[0], energy + entropy, "the bound", bounds)
    gaps = {
        "it is negative. A divergence is not: log p(x) - bound.": -gap,
        "that is KL(posterior ‖ q). The expectation is under q.": backwards,
        "that is minus the entropy of q. Compare q with the posterior.": -entropy,
        "that is E_q[log q - log p(x, z)], minus the bound. The posterior has p(x) divided out.": (
            -energy - entropy
        ),
        "that is the cross-entropy, -E_q[log posterior]: the entropy of q is missing.": gap + entropy,
        "that is log p(x).": log_p,
        "it is averaged over the points. Each point has a gap of its own.": gap.mean(),
    }
    with expect.part("gap"):
        expect.close(pair[1], gap, "the gap", gaps)

    pair = expect.parts(bound_and_gap(log_joint - 900, q), 2, ask)
    for value, truth, what in ((pair[0], energy + entropy - 900, "the bound"), (pair[1], gap, "the gap")):
        lost = {
            f"it is {kind}. Each p(x, z) underflowed to 0, and so did their sum. Stay with logarithms.": (
                torch.full_like(truth, kind)
            )
            for kind in (-math.inf, math.inf, math.nan)
        }
        with expect.part(what.split()[-1]):
            expect.close(value, truth, f"{what} for log-joints near -900", lost, tolerance=1e-3)

    # Guesses that are sure: a zero in each of the first rows, and one row one-hot.
    q[:2, 0] = 0
    q[1] = torch.nn.functional.one_hot(torch.tensor(C - 1), C)
    q = q / q.sum(1, keepdim=True)
    bound = (q * log_joint - torch.xlogy(q, q)).sum(1)
    sure = (q == 0).any(1)
    said = expect.parts(bound_and_gap(log_joint, q), 2, ask)
    for value, truth, what in ((said[0], bound, "the bound"), (said[1], log_p - bound, "the gap")):
        lost = truth.masked_fill(sure, math.nan)
        with expect.part(what.split()[-1]):
            expect.close(
                value,
                truth,
                f"{what} of a q with zeros",
                {"it is nan where a q(c) is 0. There 0 · log 0 must count as 0, its limit.": lost},
            )

    log_joint[:2, 0] = -math.inf  # impossible for the model too
    log_p = log_joint.logsumexp(1)
    said = expect.parts(bound_and_gap(log_joint, q), 2, ask)
    for value, truth, what in ((said[0], bound, "the bound"), (said[1], log_p - bound, "the gap")):
        lost = truth.masked_fill(log_p.isfinite() & log_joint.isinf().any(1), math.nan)
        with expect.part(what.split()[-1]):
            expect.close(
                value,
                truth,
                f"{what} where q(c) = 0 and log p(x, z = c) = -inf",
                {"it is nan, as 0 · (-inf) is in floating point. Such a term counts as 0.": lost},
            )


def books(fresh) -> tuple[dict, list]:
    """One exact E-step, M-step, E-step and hard E-step on a fresh mixture: what is told, what is asked."""
    data_dim, components = fresh.sizes(2, 2, 4)
    model = mixture(fresh, data_dim, components)
    x = 2 * fresh.normal(150, data_dim)
    q = OneHotCategorical(logits=fresh.normal(150, components))
    rows = []

    def measure():
        rows.append((float(model.elbo(x, q).mean()), float(model.log_prob(x).mean())))

    with torch.no_grad():
        measure()
        q = model.true_posterior(x)
        measure()
        model.m_step(x, q.probs)
        measure()
        q = model.true_posterior(x)
        measure()
        best = q.probs.max(1)
        q = OneHotCategorical(probs=torch.nn.functional.one_hot(best.indices, components).double())
        measure()
    (bound, log_p), *rows = rows
    told = dict(bound=bound, log_p=log_p, gain=rows[1][0] - rows[0][0], opened=rows[1][1] - rows[1][0])
    return told | {"doubt": -float(best.values.log().mean())}, rows


@parts("the exact E-step", "the M-step", "the second E-step", "the hard E-step")
def q3(ledger, fresh):
    told, truth = books(fresh)
    ask = "ledger should return four pairs of numbers (bound, log_p), one after each step."
    said = expect.parts(ledger(*told.values()), 4, ask)

    bound, log_p, gain, opened, doubt = told.values()
    end = log_p + gain + opened
    why_closed = "an exact E-step closes the gap: the bound rises to log p(x)."
    why_theta = "an E-step changes q. log p(x) contains no q, so it stays."
    bounds = (
        {
            f"you left it where it was, but {why_closed}": bound,
            f"{why_closed} No further.": 2 * log_p - bound,
        },
        {
            "you added the gain to the bound of the very beginning. The E-step had raised it since.": bound
            + gain,
            "that is log p(x). The M-step opens a gap, and the bound is on its lower side.": end,
            "you left it where it was, but the M-step raises it, by `gain`.": log_p,
            "the gap took part of the gain away. `gain` is what the bound itself gained.": log_p
            + gain
            - opened,
        },
        {
            f"you left it where it was, but {why_closed}": log_p + gain,
            "you closed the gap of before the M-step. That was closed already; a new one has opened.": (
                2 * log_p - bound + gain
            ),
        },
        {
            "you left it where it was, but q is now one-hot and no longer the posterior: a gap opens.": end,
            "it is above log p(x). No guess can be worth more than that.": end + doubt,
            "you went back to the gap that the M-step had opened; the second E-step closed it.": (
                log_p + gain - doubt
            ),
        },
    )
    evidences = (
        {
            f"{why_theta} You let it move with the bound.": 2 * log_p - bound,
            f"{why_theta} You lowered it to the bound.": bound,
        },
        {
            "you let it follow the bound alone. It gains more: the gap that opens comes on top.": log_p
            + gain,
            "the gap has the wrong sign: log p(x) is above the bound, never below.": log_p + gain - opened,
            "the M-step changes θ, so log p(x) does move.": log_p,
            "that is the gap alone; the bound below it rose too.": log_p + opened,
        },
        {
            f"{why_theta} It had the gap in it already.": end + opened,
            f"{why_theta} You let it fall to the bound.": log_p + gain,
        },
        {
            f"{why_theta} Hard or soft.": end - doubt,
            f"{why_theta} Hard or soft, it does not rise.": end + doubt,
        },
    )
    for step, pair, true, below, above in zip(q3.parts, said, truth, bounds, evidences, strict=True):
        with expect.part(step):
            pair = expect.parts(pair, 2, ask)
            expect.close(pair[0], true[0], f"the bound after {step}", below)
            expect.close(pair[1], true[1], f"log p(x) after {step}", above)


def em_by_hand(weights, means, variances, x, flip=False, old=False, no_prior=False, as_scale=False, axis=1):
    """One iteration of EM, with the mistakes asked for."""
    squares = (x[:, None] - means).square()
    v = variances.square() if as_scale else variances
    log_joint = -0.5 * (squares / v + (2 * math.pi * v).log()).sum(-1)
    log_joint = log_joint if no_prior else log_joint + weights.log()
    r = torch.softmax(-log_joint if flip else log_joint, axis)
    counts = r.sum(0)
    new = r.T @ x / counts[:, None]
    squares = squares if old else (x[:, None] - new).square()
    return counts / len(x), new, torch.einsum("nc,ncd->cd", r, squares) / counts[:, None]


CLOSED_EM = tuple(f"exact.GaussianMixture.{name}" for name in ("em", "m_step", "true_posterior", "log_joint"))


@closes(*CLOSED_EM)
@parts("E-step", "centres", "variances")
def q4(em_step, fresh):
    C, D = fresh.sizes(2, 2, 5)
    x = 2 * fresh.normal(fresh.integer(60, 90), D)
    # No two weights are nearly equal: an E-step without them shall differ.
    order = torch.randperm(C, generator=fresh.generator).double()
    weights, means = torch.softmax(0.6 * order, 0), 1.5 * fresh.normal(C, D)
    variances = fresh.uniform(1.2, 3, C, D)
    theta = (weights, means, variances)
    truth = em_by_hand(*theta, x)
    ask = "em_step should return three things: (weights, means, variances)."
    new = expect.parts(em_step(*theta, x), 3, ask)

    def instead(i, **mistake):
        return em_by_hand(*theta, x, **mistake)[i]

    turned = (
        "the E-step runs the wrong way: a softmax of minus log p(x, z) gives each point to its least likely "
        "component. The E-step raises the bound."
    )
    forgot = "the E-step has lost the weights π: they belong to log p(x, z)."
    width = "in the E-step's density the variance stands where its root belongs, or the other way round."
    for i, what in enumerate(("your answer for the weights", "your answer for the means")):
        mistakes = {
            turned: instead(i, flip=True),
            forgot: instead(i, no_prior=True),
            width: instead(i, as_scale=True),
            COMPETE: instead(i, axis=0),
            "they sum to N, not to one.": truth[0] * len(x),
            "they are the old ones.": theta[i],
            "they are divided by N. Each component divides by its own count, N_c.": truth[1]
            * truth[0][:, None],
        }
        with expect.part("E-step"):
            expect.close(new[i], truth[i], what, mistakes)
    v, counts = truth[2], truth[0][:, None] * len(x)
    left = {}
    for flip, old, root in product((False, True), repeat=3):
        costs = ["E-step"] * flip + ["centres"] * old + ["variances"] * root
        says = "those are standard deviations. The next step will take them for variances."
        if old:
            one = ", for one" * root
            says = f"they are taken about the old means{one}. The maximum over both is about the new ones."
        value = instead(2, flip=flip, old=old)
        left[expect.about(turned if flip else says, *costs)] = value.sqrt() if root else value
    with expect.part("E-step", "centres", "variances"):
        expect.close(
            new[2],
            v,
            "your answer for the variances",
            {
                **left,
                "those are logarithms of the variances.": v.log(),
                "they are divided by N_c - 1. The maximum of the likelihood divides by N_c.": v
                * counts
                / (counts - 1),
                "they are divided by N. Each component divides by its own count, N_c.": v * counts / len(x),
                "they are the old ones.": variances,
            },
        )


@closes("exact.GaussianMixture.em", "exact.GaussianMixture.m_step")
@parts("weights", "means", "covariance")
def q5(shared_m_step, fresh):
    C, D = fresh.sizes(2, 2, 5)
    N = fresh.integer(30, 60)
    centres = 3 * fresh.normal(C, D)
    x = centres[torch.arange(N) % C] + fresh.normal(N, D) @ (torch.eye(D).double() + 0.6 * fresh.normal(D, D))
    r = torch.softmax(2 * fresh.normal(N, C) + 2 * torch.log_softmax(fresh.normal(C), 0), 1)
    weights, means, truth = pooled(x, r)
    ask = "shared_m_step should return three things: (weights, means, covariance)."
    new = expect.parts(shared_m_step(x, r), 3, ask)
    counts = r.sum(0)

    with expect.part("weights"):
        expect.close(
            new[0],
            weights,
            "your answer for the weights",
            {
                "those are the counts N_c: divide by N.": counts,
                "all weights are equal. The question does not fix them.": torch.full_like(counts, 1 / C),
                "each point went wholly to its most responsible component. Count fractions.": torch.bincount(
                    r.argmax(1), minlength=C
                )
                / N,
            },
        )
    with expect.part("means"):
        expect.close(
            new[1],
            means,
            "your answer for the means",
            {
                "they are divided by N. Each component divides by its own count, N_c.": means
                * weights[:, None],
                "those are sums: divide by the counts N_c.": means * counts[:, None],
                "all components have the mean of all data. Weigh the points by r.": x.mean(0).expand(C, D),
            },
        )
    deviations = x[:, None] - means
    each = torch.einsum("nc,ncd,nce->cde", r, deviations, deviations) / counts[:, None, None]
    plain = (x - x.mean(0)).T @ (x - x.mean(0)) / N
    with expect.part("covariance"):
        expect.close(
            new[2],
            truth,
            "the covariance",
            {
                "that is the plain average of the components' own covariances. A component with few points "
                "has "
                "less to say: where do the counts N_c go?": each.mean(0),
                "that is the covariance of all data about one common mean. Each component has its "
                "own.": plain,
                "that is one covariance for each component. All share one.": each,
                "that is a sum over the points: divide by N.": truth * N,
                "that is the sum of the components' own covariances. They should be weighted.": each.sum(0),
                "only its diagonal is right. The covariance is a full matrix here.": truth.diag().diag(),
                "that is its diagonal alone. The covariance is a full matrix here.": truth.diagonal(),
                "it is divided by N - C, to be unbiased. The maximum of the likelihood divides by N.": (
                    truth * N / (N - C)
                ),
                "it is divided by N - 1, to be unbiased. The maximum of the likelihood divides by N.": (
                    truth * N / (N - 1)
                ),
                "it is divided by N · D. That belongs to one variance for all dimensions.": truth / D,
                "it is divided by N · C. The responsibilities of a point sum to one already.": truth / C,
                "that is its inverse, the precision.": truth.inverse(),
                "the responsibilities went in squared. They weigh the squares, as they are.": (
                    torch.einsum("nc,ncd,nce->de", r.square(), deviations, deviations) / N
                ),
            },
        )


def pooled(x, r):
    """Weights, means and the one covariance that maximise the expected log-joint."""
    weights, means = r.mean(0), r.T @ x / r.sum(0)[:, None]
    deviations = x[:, None] - means
    return weights, means, torch.einsum("nc,ncd,nce->de", r, deviations, deviations) / len(x)


def rate_at(r) -> float:
    """The EM map's slope at its fixed point, by autograd: r (N,) are the responsibilities there."""
    pi = r.mean().requires_grad_()
    # log f₁(x) / f₀(x): it makes r.mean() a fixed point.
    log_ratio = torch.logit(r) - torch.logit(pi.detach())
    return float(torch.autograd.grad(torch.sigmoid(torch.logit(pi) + log_ratio).mean(), pi)[0])


def q6(em_rate, fresh):
    for sign in (-1, 1):
        N, spread = fresh.integer(15, 40), float(fresh.uniform(0.8, 3))
        r = torch.sigmoid(sign * fresh.uniform(0.5, 1.5) + spread * fresh.normal(N))
        truth, total = rate_at(r), float(r.mean() * (1 - r.mean()))
        doubt = float((r * (1 - r)).mean())
        entropy = torch.special.entr
        inside, outside = entropy(r) + entropy(1 - r), entropy(r.mean()) + entropy(1 - r.mean())
        expect.close(
            em_rate(r),
            truth,
            f"em_rate of {N} responsibilities with mean {float(r.mean()):.2f}",
            {
                "that is the slope of r against the log-odds of π, averaged. One factor of the chain rule is "
                "missing: the slope of the log-odds of π against π.": doubt,
                "that is one minus the rate, the share of z that x shows. What is hidden slows EM down.": 1
                - truth,
                "that is right at π = 1/2 only. Which π is it here?": 4 * doubt,
                "log π - log(1 - π) has two terms with a slope in π. That of the second is missing.": (
                    doubt / float(r.mean())
                ),
                "log π - log(1 - π) has two terms with a slope in π. That of the first is missing.": (
                    doubt / float(1 - r.mean())
                ),
                "that is the variance of r: what x tells about z. The rate has what x leaves open.": total
                - doubt,
                "you inverted the ratio: EM would run away.": 1 / truth,
                "that is a share of entropy, a good guess. But the slope of the logistic function is a "
                "variance, r(1 - r).": float(inside.mean() / outside),
                "it is summed over the points; π' is the mean of the r_n.": truth * N,
                "a variance was divided by N - 1. These are averages over the N points.": 1
                - (1 - truth) * N / (N - 1),
                "that has the wrong sign: EM approaches from one side, it does not jump across.": -truth,
                "that is π(1 - π), which no data enters but through π.": total,
                "that is the root of the rate.": truth**0.5,
            },
        )
