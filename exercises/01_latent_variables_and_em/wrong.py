"""Natural wrong answers to chapter 1's questions, and words that the message must hold."""

import math

import torch

from exercises.wrong_answers import WrongAnswers

wrong = WrongAnswers()


@wrong("q1", says="the weights play no part")
def responsibilities(log_weights, log_lik):
    return torch.softmax(log_lik, 1)


@wrong("q1", says="the points compete")
def responsibilities(log_weights, log_lik):
    return torch.softmax(log_weights + log_lik, 0)


@wrong("q1", says="left the range of floating point")
def responsibilities(log_weights, log_lik):
    joint = (log_weights + log_lik).exp()
    return joint / joint.sum(1, keepdim=True)


@wrong("q1", says="one maximum was taken out for all points")
def responsibilities(log_weights, log_lik):
    log_joint = log_weights + log_lik
    joint = (log_joint - log_joint.max()).exp()
    return joint / joint.sum(1, keepdim=True)


@wrong("q1", says="that component has weight 0")
def responsibilities(log_weights, log_lik):
    joint = (
        log_weights.exp()
        * (log_lik - log_lik.max(1, keepdim=True).values).exp()
    )
    return joint / joint.sum(1, keepdim=True)


@wrong("q1", says="factors of the likelihood itself")
def responsibilities(log_weights, log_lik):
    return torch.softmax(log_weights.exp() * log_lik, 1)


@wrong("q1", says="the joint, p(x, z)")
def responsibilities(log_weights, log_lik):
    return (log_weights + log_lik).exp()


@wrong("q1", says="hard EM")
def responsibilities(log_weights, log_lik):
    best = (log_weights + log_lik).argmax(1)
    return torch.nn.functional.one_hot(best, len(log_weights))


@wrong("q1", says="Multiply by the weights first")
def responsibilities(log_weights, log_lik):
    return torch.softmax(log_lik, 1) * log_weights.exp()


@wrong("q1", says="their logarithms")
def responsibilities(log_weights, log_lik):
    return torch.log_softmax(log_weights + log_lik, 1)


def guess(log_joint, q):
    bound = (q * log_joint - torch.xlogy(q, q)).sum(1)
    return bound, log_joint.logsumexp(1) - bound


@wrong("q2", says="its entropy, -E_q[log q], is missing")
def bound_and_gap(log_joint, q):
    bound = (q * log_joint).sum(1)
    return bound, log_joint.logsumexp(1) - bound


@wrong("q2", says="wrong sign")
def bound_and_gap(log_joint, q):
    bound = (q * (log_joint + q.log())).sum(1)
    return bound, log_joint.logsumexp(1) - bound


@wrong("q2", says="KL(posterior ‖ q)")
def bound_and_gap(log_joint, q):
    log_r = log_joint.log_softmax(1)
    return guess(log_joint, q)[0], (log_r.exp() * (log_r - q.log())).sum(1)


@wrong("q2", says="0 · log 0")
def bound_and_gap(log_joint, q):
    bound = (q * (log_joint - q.log())).sum(1)
    return bound, log_joint.logsumexp(1) - bound


@wrong("q2", says="0 · (-inf)")
def bound_and_gap(log_joint, q):
    return guess(log_joint, q)


@wrong("q2", says="Each p(x, z) underflowed")
def bound_and_gap(log_joint, q):
    bound = guess(log_joint, q)[0]
    return bound, log_joint.exp().sum(1).log() - bound


@wrong("q2", says="Each p(x, z) underflowed")
def bound_and_gap(log_joint, q):
    r = log_joint.exp() / log_joint.exp().sum(1, keepdim=True)
    return guess(log_joint, q)[0], (q * (q / r).log()).sum(1)


@wrong("q2", says="negative")
def bound_and_gap(log_joint, q):
    bound, gap = guess(log_joint, q)
    return bound, -gap


@wrong("q2", says="the bound first")
def bound_and_gap(log_joint, q):
    return guess(log_joint, q)[::-1]


@wrong("q2", says="as if all counted equally")
def bound_and_gap(log_joint, q):
    bound = (log_joint - q.log()).mean(1)
    return bound, log_joint.logsumexp(1) - bound


@wrong("q2", says="should return two things")
def bound_and_gap(log_joint, q):
    return guess(log_joint, q)[0].mean()


@wrong("q3", says="contains no q")
def ledger(bound, log_p, gain, opened, doubt):
    closed = log_p - bound
    end = log_p + gain + opened
    return [
        (log_p, log_p + closed),
        (log_p + gain, end),
        (end, end),
        (end - doubt, end),
    ]


@wrong("q3", says="comes on top")
def ledger(bound, log_p, gain, opened, doubt):
    end = log_p + gain
    return [(log_p, log_p), (end, end), (end, end), (end - doubt, end)]


@wrong("q3", says="an exact E-step closes the gap")
def ledger(bound, log_p, gain, opened, doubt):
    end = log_p + gain + opened
    return [
        (log_p, log_p),
        (log_p + gain, end),
        (log_p + gain, end),
        (end - doubt, end),
    ]


@wrong("q3", says="one-hot")
def ledger(bound, log_p, gain, opened, doubt):
    end = log_p + gain + opened
    return [(log_p, log_p), (log_p + gain, end), (end, end), (end, end)]


@wrong("q3", says="Hard or soft")
def ledger(bound, log_p, gain, opened, doubt):
    end = log_p + gain + opened
    return [
        (log_p, log_p),
        (log_p + gain, end),
        (end, end),
        (end - doubt, end - doubt),
    ]


@wrong("q3", says="very beginning")
def ledger(bound, log_p, gain, opened, doubt):
    end = log_p + gain + opened
    return [(log_p, log_p), (bound + gain, end), (end, end), (end - doubt, end)]


@wrong("q3", says="four pairs")
def ledger(bound, log_p, gain, opened, doubt):
    return "up", "up", "same", "down"


def half_mended(
    weights,
    means,
    variances,
    x,
    sign=1,
    prior=True,
    old=False,
    root=False,
    axis=1,
):
    squares = (x[:, None] - means) ** 2
    log_joint = -0.5 * (
        squares / variances + (2 * math.pi * variances).log()
    ).sum(-1)
    if prior:
        log_joint = log_joint + weights.log()
    r = torch.softmax(sign * log_joint, axis)
    counts = r.sum(0)
    new_means = r.T @ x / counts[:, None]
    around = means if old else new_means
    new = (
        torch.einsum("nc,ncd->cd", r, (x[:, None] - around) ** 2)
        / counts[:, None]
    )
    return counts / len(x), new_means, new.sqrt() if root else new


@wrong("q4", says="runs the wrong way")
def em_step(weights, means, variances, x):
    return half_mended(weights, means, variances, x, sign=-1)


@wrong("q4", says="about the old means. The maximum")
def em_step(weights, means, variances, x):
    return half_mended(weights, means, variances, x, old=True)


@wrong("q4", says="standard deviations. The next step")
def em_step(weights, means, variances, x):
    return half_mended(weights, means, variances, x, root=True)


@wrong("q4", says="about the old means, for one")
def em_step(weights, means, variances, x):
    return half_mended(weights, means, variances, x, old=True, root=True)


@wrong("q4", says="so the points compete")
def em_step(weights, means, variances, x):
    return half_mended(weights, means, variances, x, axis=0)


@wrong("q4", says="lost the weights")
def em_step(weights, means, variances, x):
    return half_mended(weights, means, variances, x, prior=False)


@wrong("q4", says="closed while yours is checked")
def em_step(weights, means, variances, x):
    import vaelearn as vl

    model = vl.exact.GaussianMixture(x.shape[1], len(weights)).double()
    model.logits.data, model.means.data, model.log_scales.data = (
        weights.log(),
        means,
        variances.log() / 2,
    )
    model.em(x, 1)
    return model.logits.softmax(0), model.means, (2 * model.log_scales).exp()


def by_component(x, r):
    counts = r.sum(0)
    means = r.T @ x / counts[:, None]
    deviations = x[:, None] - means
    each = (
        torch.einsum("nc,ncd,nce->cde", r, deviations, deviations)
        / counts[:, None, None]
    )
    return counts / len(x), means, each


@wrong("q5", says="where do the counts N_c go?")
def shared_m_step(x, r):
    weights, means, each = by_component(x, r)
    return weights, means, each.mean(0)


@wrong("q5", says="one common mean")
def shared_m_step(x, r):
    weights, means, _ = by_component(x, r)
    return weights, means, x.T.cov(correction=0)


@wrong("q5", says="All share one")
def shared_m_step(x, r):
    return by_component(x, r)


@wrong("q5", says="to be unbiased")
def shared_m_step(x, r):
    weights, means, each = by_component(x, r)
    N, C = r.shape
    return weights, means, (weights[:, None, None] * each).sum(0) * N / (N - C)


@wrong("q5", says="full matrix")
def shared_m_step(x, r):
    weights, means, each = by_component(x, r)
    return weights, means, (weights[:, None, None] * each).sum(0).diag().diag()


@wrong("q5", says="most responsible component")
def shared_m_step(x, r):
    return by_component(
        x, torch.nn.functional.one_hot(r.argmax(1), r.shape[1]).to(x)
    )


@wrong("q5", says="divides by its own count")
def shared_m_step(x, r):
    weights, _, each = by_component(x, r)
    return weights, r.T @ x / len(x), (weights[:, None, None] * each).sum(0)


@wrong("q6", says="One factor of the chain rule")
def em_rate(r):
    return (r * (1 - r)).mean()


@wrong("q6", says="one minus the rate")
def em_rate(r):
    return r.var(correction=0) / (r.mean() * (1 - r.mean()))


@wrong("q6", says="at π = 1/2 only")
def em_rate(r):
    return 4 * (r * (1 - r)).mean()


@wrong("q6", says="That of the second is missing")
def em_rate(r):
    return (r * (1 - r)).mean() / r.mean()


@wrong("q6", says="That of the first is missing")
def em_rate(r):
    return (r * (1 - r)).mean() / (1 - r.mean())


@wrong("q6", says="share of entropy")
def em_rate(r):
    def entropy(p):
        return torch.special.entr(p) + torch.special.entr(1 - p)

    return entropy(r).mean() / entropy(r.mean())


@wrong("q6", says="what x tells about z")
def em_rate(r):
    return r.var(correction=0)


@wrong("q6", says="EM would run away")
def em_rate(r):
    return r.mean() * (1 - r.mean()) / (r * (1 - r)).mean()
