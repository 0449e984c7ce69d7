"""Checks of chapter 7's exercises: spending a budget of samples."""

import itertools
import math

import torch

from .. import bounds
from . import expect
from .answers import Wrong, call, closes, gradient_of, parts
from .fresh import drawn


def backward(function, model, x, shape, seed):
    """Probe: what function(model, log_w) returns, and the gradients it leaves in φ and in θ, flattened."""
    log_w = drawn(model, x, shape, seed).log_w
    model.zero_grad()
    bound = call(function, model, log_w)
    carries = isinstance(bound, torch.Tensor) and bound.requires_grad
    left = []
    for parameters in (model.inference_parameters(), model.generative_parameters()):
        expect.that(
            all(p.grad is not None for p in parameters),
            "a parameter of the model is left without a gradient: each needs one in its `.grad`.",
        )
        left.append(flat(p.grad for p in parameters))
    expect.that(
        not carries,
        "the bound that it returns is not detached: whoever keeps it keeps the whole graph.",
    )
    return [bound, *left]


def flat(tensors):
    return torch.cat([t.detach().flatten() for t in tensors])


@closes("bounds.miwae", "bounds.ciwae")
@parts("miwae", "ciwae")
def q1(miwae, ciwae, fresh):
    K, M, B = fresh.sizes(3)
    log_w = 2 * fresh.normal(K, M, B)
    truth = bounds.miwae(log_w)
    everything = bounds.iwae(log_w.flatten(0, 1))
    with expect.part("miwae"):
        expect.close(
            miwae(log_w),
            truth,
            "miwae(log_w)",
            {
                "K and M are swapped. The logarithm of the mean goes over the first axis, the plain mean "
                "over "
                "the second.": bounds.log_mean_exp(log_w, 1).mean(0),
                "that is one logarithm over all M·K samples. The M groups have a logarithm each.": everything,
                f"it is too high by log K = {math.log(K):.3f}: a sum of weights where their mean "
                f"belongs?": truth + math.log(K),
                "log M came off, and a group holds K samples.": truth + math.log(K) - math.log(M),
                "that is the ELBO: no mean was taken inside a logarithm.": log_w.mean((0, 1)),
                "the M groups are summed. Their mean is the bound.": M * truth,
                "the M groups are not averaged yet: a number for each data point is wanted.": bounds.iwae(
                    log_w
                ),
                "everything was averaged, the data points too.": truth.mean(),
            },
        )

    log_w, beta = 2 * fresh.normal(K, B), float(fresh.uniform(0.1, 0.4))
    elbo, iwae = log_w.mean(0), bounds.iwae(log_w)
    truth = bounds.ciwae(log_w, beta)
    with expect.part("ciwae"):
        expect.close(
            ciwae(log_w, beta),
            truth,
            f"ciwae(log_w, {beta:.3f})",
            {
                "β and 1 − β have changed places: β is the share of the ELBO.": beta * iwae
                + (1 - beta) * elbo,
                "the mixture is one of the bounds, not one of their exponentials.": torch.logaddexp(
                    math.log(beta) + elbo, math.log(1 - beta) + iwae
                ),
                "the L_K in it is too high by log K: a sum of weights where their mean belongs?": truth
                + (1 - beta) * math.log(K),
                "the shares must sum to one: L_K gets 1 − β.": beta * elbo + iwae,
                "that is L_K alone.": iwae,
            },
        )

    log_w = 2 * fresh.normal(K, M, B)
    shares = torch.softmax(log_w, 0) / M
    with expect.part("miwae"):
        expect.close(miwae.run(gradient_of, log_w)[0], shares, "the gradient of miwae, its table of shares")

    deep = 2 * fresh.normal(K, M, B) - 900
    lost = "it is -inf: every weight underflowed to 0. Take the largest log-weight out before `exp`."
    gone = torch.full((B,), -math.inf)
    with expect.part("miwae"):
        expect.close(miwae(deep), bounds.miwae(deep), "miwae of log-weights near -900", {lost: gone})
    deep = deep[:, 0]
    with expect.part("ciwae"):
        expect.close(
            ciwae(deep, beta), bounds.ciwae(deep, beta), "ciwae of log-weights near -900", {lost: gone}
        )


@parts("gap", "spread", "encoder_snr", "decoder_snr", "decoder_bias")
def q2(factors, fresh):
    for _ in range(3):
        a, b = (float(fresh.uniform(low, high)) for low, high in ((1.5, 4), (5, 9)))
        root = math.sqrt(a * b)
        copies = "M averages copies of the same bound. Their mean, and so the gap, does not know M."
        both = "to leading order it is a mean of all M·K terms, and the spread is a standard deviation."
        fade = "the noise falls with M·K, but the signal falls with K as well."
        truth = {
            "gap": (1 / a, {copies: 1 / (a * b), "that is what b does. Which of the two tightens?": 1 / b}),
            "spread": (
                1 / root,
                {
                    "that is the variance's factor. The spread is its root.": 1 / (a * b),
                    f"only K was counted: {both}": 1 / math.sqrt(a),
                    f"only M was counted: {both}": 1 / math.sqrt(b),
                },
            ),
            "encoder_snr": (
                math.sqrt(b / a),
                {
                    fade: root,
                    "K and M are swapped. Which of them makes the encoder's signal fade?": math.sqrt(a / b),
                    f"only M was counted: {fade}": math.sqrt(b),
                    "that is the factor of its square.": b / a,
                },
            ),
            "decoder_snr": (
                root,
                {
                    "that is the encoder's. The decoder's signal does not fade as K grows.": math.sqrt(b / a),
                    "that is the factor of its square.": a * b,
                    "only M was counted. K averages noise for the decoder as well.": math.sqrt(b),
                    "it should not fall: more samples make this gradient surer.": 1 / root,
                },
            ),
            "decoder_bias": (
                1 / a,
                {
                    "averaging does not take a bias away: M leaves it as it is.": 1 / (a * b),
                    "that is how noise falls. A bias has another law.": 1 / root,
                    "that is how noise falls with K. The bias of a ratio falls faster.": 1 / math.sqrt(a),
                    "that is what b does. A mean of copies is as biased as one of them.": 1 / b,
                },
            ),
        }
        said = expect.entries(factors(a, b), truth, "factors should return")
        for name, (factor, mistakes) in truth.items():
            what = f'factors({a:.3f}, {b:.3f})["{name}"]'
            # 5e-5: a factor that was rounded to four digits is a right answer.
            with expect.part(name):
                expect.close(said[name], factor, what, mistakes, tolerance=5e-5)


def q3(matching_beta, fresh):
    for _ in range(3):
        s, K, M = float(fresh.uniform(0.4, 1.2)), fresh.integer(8, 30), fresh.integer(3, 7)
        variance, kl = math.exp(s**2) - 1, s**2 / 2
        apart, joint = variance / (2 * K), variance / (2 * M * K)
        steep = math.exp(s) - 1
        expect.close(
            matching_beta(s, K, M),
            (apart - joint) / (kl - joint),
            f"matching_beta({s:.3f}, {K}, {M})",
            {
                "the CIWAE's other part, (1 − β) L_MK, has a gap of its own.": apart / kl,
                "the IWAE's part of the CIWAE is multiplied by 1 − β, not by 1.": (apart - joint) / kl,
                "that is 1 − β, the share of L_MK.": 1 - (apart - joint) / (kl - joint),
                "both have groups of one size there. The CIWAE's holds M·K samples, the MIWAE's K.": 0.0,
                "the MIWAE's gap is the gap of K samples, whatever M: not V/2M.": (variance / (2 * M) - joint)
                / (kl - joint),
                "KL(q ‖ p) is s²/2 here, not s².": (apart - joint) / (2 * kl - joint),
                "a factor 2 is missing in the gaps of L_K and L_MK.": (2 * apart - 2 * joint)
                / (kl - 2 * joint),
                "Var[r] has dropped out. Either the ELBO's gap went in as Var[r]/2, the first order at K = 1 "
                "(exactly it is s²/2), or Var[r] as s², the variance of log w.": (M - 1) / (M * K - 1),
                "Var[r] was taken as eˢ − 1. The exponent is the variance of log w: s², not s.": (
                    steep / (2 * K) * (1 - 1 / M)
                )
                / (kl - steep / (2 * M * K)),
                "that uses E[r²]; the variance takes 1 off.": ((variance + 1) / (2 * K) * (1 - 1 / M))
                / (kl - (variance + 1) / (2 * M * K)),
            },
        )


def _gradients(model, loss):
    parts = model.inference_parameters(), model.generative_parameters()
    return [flat(torch.autograd.grad(loss, part, retain_graph=True)) for part in parts]


@parts("groups", "bound", "backward")
def q4(piwae_backward, fresh):
    K, M, B, D, L = fresh.sizes(5, 2, 8)
    model = fresh.linear_gaussian(D, L)
    x, seed = fresh.normal(B, D), fresh.integer(0, 2**31)
    log_w = drawn(model, x, (K, M), seed).log_w
    bound, phi, theta = piwae_backward.run(backward, model, x, (K, M), seed)

    joint = bounds.iwae(log_w.flatten(0, 1))
    apart, swapped = bounds.miwae(log_w), bounds.miwae(log_w.transpose(0, 1))
    with expect.part("bound"):
        expect.close(
            bound,
            joint.detach(),
            "the bound that piwae_backward returns",
            {
                "it is too high by log M: the weights in its sum are M·K, not K.": (
                    joint + math.log(M)
                ).detach(),
                "it is too high by log K: the weights in its sum are M·K, not M.": (
                    joint + math.log(K)
                ).detach(),
                "it is too high by log MK: a sum of weights where their mean belongs.": (
                    joint + math.log(M * K)
                ).detach(),
                "that is the encoder's bound. The one to report is the decoder's, L_MK.": apart.detach(),
                "it was averaged over the data points; each has its own.": joint.mean().detach(),
            },
        )

    e_phi, e_theta = _gradients(model, -apart.mean())
    m_phi, m_theta = _gradients(model, -joint.mean())
    s_phi, s_theta = _gradients(model, -swapped.mean())
    leak = "both losses arrived: `backward()` adds to every parameter it can reach, not only to those meant."
    roles = "K and M have changed roles: the weights belong together along the first axis."
    climbs = "its sign is the bound's. Losses go down where bounds go up."
    with expect.part("groups", "backward"):
        expect.close(
            phi,
            e_phi,
            "the gradient in φ",
            {
                expect.about(leak, "backward"): e_phi + m_phi,
                expect.about(roles, "groups"): s_phi,
                f"{roles} And {leak}": s_phi + m_phi,
                "that is the decoder's loss. φ descends the MIWAE's.": m_phi,
                climbs: -e_phi,
                "the loss is summed over the data points, not averaged.": B * e_phi,
                "it is 0: was it cleared again at the end?": torch.zeros_like(e_phi),
            },
        )
    with expect.part("groups", "backward"):
        expect.close(
            theta,
            m_theta,
            "the gradient in θ",
            {
                expect.about(leak, "backward"): e_theta + m_theta,
                f"{roles} And {leak}": s_theta + m_theta,
                "that is the encoder's loss. θ descends that of all M·K samples at once.": e_theta,
                climbs: -m_theta,
                "the loss is summed over the data points, not averaged.": B * m_theta,
                "it is 0: was it cleared again at the end?": torch.zeros_like(m_theta),
            },
        )


def _splits(left, K):
    """All ways to split the indices `left` into groups of K."""
    if not left:
        yield []
        return
    first, *rest = left
    for others in itertools.combinations(rest, K - 1):
        for further in _splits([i for i in rest if i not in others], K):
            yield [(first, *others), *further]


def _over(groups, log_w):
    """log-mean-exp of each group, a list of tuples of indices: (groups, B)."""
    return bounds.log_mean_exp(log_w[torch.tensor(groups)], 1)


def every(log_w, K):
    """The truth: mean over all groups of K."""
    return _over(list(itertools.combinations(range(len(log_w)), K)), log_w).mean(0)


def every_split(log_w, K):
    """The MIWAE of every split of log_w (N, B) into groups of K: (splits, B)."""
    splits = torch.tensor(list(_splits(list(range(len(log_w))), K)))  # (splits, M, K)
    return bounds.log_mean_exp(log_w[splits], 2).mean(1)


def _per_point(value, B, what):
    value = torch.as_tensor(value).double()
    expect.that(
        value.squeeze().shape == (B,),
        f"{what} should have shape {(B,)}, a number for each data point; it has shape {tuple(value.shape)}.",
    )
    return value.reshape(B)


@parts("every_group", "shuffled")
def q5(every_group, shuffled, fresh):
    K, M, B = fresh.choice([(2, 3, 4), (2, 4, 3), (3, 2, 4), (2, 3, 5), (3, 2, 5)])
    N = K * M
    log_w = 2 * fresh.normal(N, B)
    truth, splits = every(log_w, K), every_split(log_w, K)
    many = math.comb(N, K)
    repeats = list(itertools.product(range(N), repeat=K))
    again = list(itertools.combinations_with_replacement(range(N), K))
    in_order = bounds.miwae(log_w.reshape(M, K, B).transpose(0, 1))
    strided = bounds.miwae(log_w.reshape(K, M, B))
    beside = [tuple((i + j) % N for j in range(K)) for i in range(N)]
    with expect.part("every_group"):
        expect.close(
            every_group(log_w, K),
            truth,
            f"every_group of {N} samples, K = {K}",
            {
                "that is the MIWAE of one split. There are many more groups.": in_order,
                "that is the MIWAE of a single split. There are many more groups.": strided,
                "those are groups of neighbours only; any K samples make a group.": _over(beside, log_w).mean(
                    0
                ),
                "those are windows of neighbours only; any K samples make a group.": _over(
                    beside[: N - K + 1], log_w
                ).mean(0),
                "samples are counted twice in one group. A group holds K different ones.": _over(
                    repeats, log_w
                ).mean(0),
                "groups with the same sample twice are in it. A group holds K different ones.": _over(
                    again, log_w
                ).mean(0),
                "the groups are summed, not averaged.": truth * many,
                "it is too high by log K: a sum of weights where their mean belongs?": truth + math.log(K),
                "that is L_N, as of all samples in one group; the logarithm of a mean over groups gives it "
                "too. "
                "Average logarithms.": bounds.iwae(log_w),
                "that is the ELBO: no mean was taken inside a logarithm.": log_w.mean(0),
            },
        )
    odd = 2 * fresh.normal(N + 1, B)
    with expect.part("every_group"):
        expect.close(every_group(odd, K), every(odd, K), f"every_group of {N + 1} samples, K = {K}")

    with expect.part("shuffled"):
        scale, swapped = float(splits.abs().max()), every_split(log_w, M)
        shifts = 0, math.log(M / K)  # log M comes off, or log K
        for _ in range(4):
            once = _per_point(shuffled(log_w, K, 1), B, f"shuffled(log_w, {K}, 1)")
            expect.that(
                all(float((once - shift - swapped).abs().amin(0).max()) > 1e-4 * scale for shift in shifts),
                f"shuffled(log_w, {K}, 1): K and M are swapped: M groups of K, not K groups of M.",
            )
            expect.that(
                float((once - splits).abs().amin(0).max()) < 1e-4 * scale,
                f"shuffled(log_w, {K}, 1) is not the MIWAE of any split of the {N} samples. In a split every "
                "sample is in exactly one group: none twice, none left out.",
            )
        R = 4000
        average = _per_point(shuffled(log_w, K, R), B, f"shuffled(log_w, {K}, {R})")
        error = splits.std(0, correction=0) / R**0.5
        off = float(((average - truth) / error).abs().max())
        if not off <= 5:  # a nan is off too
            expect.that(
                float((average - splits).abs().amin(0).max()) > 1e-4 * scale,
                f"shuffled(log_w, {K}, {R}) is the MIWAE of a single split, as if that one were counted R "
                f"times. "
                "Each of the R splits is drawn anew.",
            )
            expect.that(
                float(((average / R - truth) / error).abs().max()) > 5,
                "the R splits are summed, not averaged.",
            )
            raise Wrong(
                f"shuffled(log_w, {K}, {R}) should come near the mean over all groups; it is {off:.0f} "
                f"standard "
                "errors away. Is every split as likely as every other?"
            )


@parts("thin", "added_noise")
def q6(thin, added_noise, fresh):
    N, B = fresh.integer(6, 9), fresh.integer(2, 4)
    shares, lengths = fresh.normal(N, B).softmax(0), fresh.uniform(0.5, 3, N, B)
    shares[fresh.integer(0, N - 1), 0] = 0.0
    c = float(fresh.choice([1.5, 2.5, 3.5]))
    pi, R = (c * shares).clamp(max=1), 4000
    with expect.part("thin"):
        draws = torch.as_tensor(thin(shares.repeat(1, R), c)).double()
        expect.that(
            draws.shape == (N, B * R),
            f"thin should return W for every share, {(N, B * R)} here; it has shape {tuple(draws.shape)}.",
        )
        sums, count = draws.nansum(0), (draws.nan_to_num() != 0).sum(0)
        expect.that(
            not (count.unique().numel() > 1 and (sums[count > 0] - 1).abs().max() < 1e-4),
            "the counts that thin keeps were rescaled to sum to 1; then their mean is no longer the share.",
        )
        expect.that(
            bool(draws.isfinite().all()),
            "thin gives values that are not finite: a share of 0 has π = 0, and 0/0 is no number.",
        )
        draws = draws.view(N, R, B).transpose(0, 1)
        kept = (draws != 0).double()
        dependent = (
            "the coins of thin are not independent: some samples are kept or dropped together. Toss one "
            "for each "
            "sample of each data point."
        )
        expect.that(not (kept == kept[0]).all(), dependent)
        if float((kept.mean(0) - pi).abs().max()) > 5 * 0.5 / R**0.5:
            raise Wrong(f"thin with c = {c}: a sample is not kept with probability min(1, c·share).")
        size = draws.abs().amax(0)
        expect.close(
            size,
            torch.where(pi > 0, shares.clamp(min=1 / c), 0),
            "what a kept sample counts",
            {
                "it keeps its share: then it counts π·a on average, too little. Divide by π.": shares,
                "that is 1/π: the share itself is missing.": torch.where(pi > 0, 1 / pi, 0),
                "it is multiplied by π, not divided.": pi * shares,
                "it counts 1: that is a vote, not a share.": (pi > 0).double(),
                "it counts 1/c always: π is min(1, c·a), and never above 1.": (pi > 0).double() / c,
            },
        )
        # With coins of their own the kept are pairwise uncorrelated, within a data point and between two.
        off = (kept - pi).flatten(1)
        covariance = off.T @ off / R - (pi * (1 - pi)).flatten().diag()
        expect.that(float(covariance.abs().max()) < 7 * 0.25 / R**0.5, dependent)
        expect.close(thin(shares, 1e9), shares, "thin with c so large that all are kept")
    truth = torch.where(pi > 0, (1 / pi - 1) * shares**2 * lengths**2, 0).sum(0)
    with expect.part("added_noise"):
        expect.close(
            added_noise(shares, lengths, c),
            truth,
            "added_noise",
            {
                "a 0 for a share of 0, please: it is 0/0 here.": truth * math.nan,
                "π is min(1, c·a), and never above 1: a share beyond 1/c adds nothing.": (
                    shares * (1 / c - shares) * lengths**2
                ).sum(0),
                "the lengths are squared in a variance.": torch.where(
                    pi > 0, (1 / pi - 1) * shares**2 * lengths, 0
                ).sum(0),
                "the shares are squared in a variance.": torch.where(
                    pi > 0, (1 / pi - 1) * shares * lengths**2, 0
                ).sum(0),
                "the square of a mean is taken off: E[W²] − a², not E[W²].": torch.where(
                    pi > 0, shares**2 / pi * lengths**2, 0
                ).sum(0),
                "that is the variance of the coins, π(1 − π), without what a kept sample counts.": (
                    pi * (1 - pi) * lengths**2
                ).sum(0),
            },
        )
