"""Checks of chapter 3's exercises: the score-function gradient."""

import math

import torch

from .. import bounds
from . import expect
from .answers import call, closes, must_carry_gradient, parts


def slopes(function, log_p, log_q, *more):
    """Probe: the slopes of function(log_w, log_q, *more), or of its first result, in log_q and in `more`.

    log_w = log_p − log_q carries a gradient too, as it does in a model.
    """
    leaves = [t.clone().requires_grad_() for t in (log_q, *more)]
    live = [t.clone() for t in leaves]  # no leaves, so that an answer may work in place
    result = call(function, log_p - live[0], *live)
    result = result[0] if isinstance(result, (tuple, list)) else result
    must_carry_gradient(result, "its result")
    expect.that(
        result.numel() == 1,
        f"it should give one number, averaged over samples and data; it gave shape {tuple(result.shape)}.",
    )
    return list(torch.autograd.grad(result.sum(), leaves, materialize_grads=True))


@closes("gradients.score_function")
def q1(surrogate, fresh):
    K, B = fresh.sizes(2)
    log_p, log_q, b = fresh.normal(K, B) - 20, fresh.normal(K, B) - 3, fresh.normal(B) - 15
    log_w, n = log_p - log_q, K * B
    reward = log_w - b
    whole_batch, of_point = reward.sum(1, keepdim=True).expand(K, B), reward.mean(0).expand(K, B)
    in_log_q, in_b = surrogate.run(slopes, log_p, log_q, b)
    expect.close(
        in_log_q,
        reward / n,
        "the surrogate's slope in each log q(z_k | x)",
        {
            "the gradient flows through the reward too: log w holds a −log q of its own. The reward is a "
            "plain number: detach it.": (reward - log_q) / n,
            "the score term is missing. What you differentiate is log w with the samples held fixed, and "
            "that gradient has mean zero.": torch.full_like(reward, -1 / n),
            "log q is detached, the one factor that should carry a gradient. The plain number is the "
            "reward.": -log_q / n,
            "its sign is a loss's. The surrogate is to be climbed.": -reward / n,
            "two things at once. The gradient flows through the reward, and the sign is a loss's.": (
                (log_q - reward) / n
            ),
            "the baseline is missing: every reward should be log w − b.": log_w / n,
            "the baseline was added. It is taken off.": (log_w + b) / n,
            "∇ log w was kept. Its mean is zero, so this is no bias, but it is the baseline b + 1, not b.": (
                (reward - 1) / n
            ),
            "it is summed over samples and data, not averaged.": reward,
            "it is summed over the samples, not averaged.": reward / B,
            "it is summed over the data points, not averaged.": reward / K,
            "the whole batch shares one reward. Each log q goes with its own data point's log w.": (
                whole_batch / n
            ),
            "the whole batch shares one reward, its mean. Each log q goes with its own data point's log w.": (
                whole_batch / B / n
            ),
            "each score goes with its data point's mean reward. It should go with its own sample's.": (
                of_point / n
            ),
            "that differentiates q. The score is the gradient of log q: no `exp` is needed.": (
                reward * log_q.exp() / n
            ),
        },
    )
    expect.close(
        in_b,
        torch.zeros(B),
        "the surrogate's slope in b",
        {
            "b is not detached. A climb would send it along −log q, which does not know the reward: it would "
            "run away.": -log_q.sum(0) / n
        },
    )


BASELINES = ("first", "half", "twice", "largest", "sum")


def measured_shares(K, p, f):
    """How many times the exact gradient each baseline gives: z in {0, 1}, all 2^K draws enumerated."""
    z = torch.cartesian_prod(*[torch.arange(2)] * K)
    prob = torch.where(z == 1, p, 1 - p).prod(1)
    f, score = f[z], z - p
    total = f.sum(1, keepdim=True)
    others = f[:, None].expand(-1, K, K).masked_fill(torch.eye(K, dtype=torch.bool), -math.inf)
    b = {
        "first": f[:, :1],
        "half": f / 2,
        "twice": (total + f) / (K + 1),
        "largest": others.amax(2),
        "sum": total - f,
    }
    exact = float(prob @ (f * score).mean(1))
    return {name: float(prob @ ((f - b[name]) * score).mean(1)) / exact for name in BASELINES}


@parts(*BASELINES)
def q2(shares, fresh):
    for K in fresh.sizes(2, 3, 7):
        low = fresh.uniform(-2, 2)
        f = torch.stack([low, low + fresh.uniform(1, 3)])
        compare_shares(shares, K, measured_shares(K, fresh.uniform(0.2, 0.8), f))


def compare_shares(shares, K, truth):
    free = "b_k depends on the other samples alone, and they are independent of z_k. Does it matter which "
    free += "function of them it is?"
    lost = "that is what is lost, not what is left."
    mistakes = {
        "first": {
            "for k = 1 the baseline is the sample's own log-weight. What is left of that term?": 1,
            "only the first sample sees itself. The other K − 1 are compared with a stranger.": 0,
            lost: 1 / K,
        },
        "half": {
            "b_k sees its own z_k: E[b_k s_k] is not zero here. Work it out.": 1,
            "only half of f_k is taken off.": 0,
            "every sample takes half of its own log-weight off, and nothing of the others'. Where would K "
            "come in?": 1 - 1 / (2 * K),
            "every one of the K terms keeps the same share of itself. Where would K come in?": 1 / (2 * K),
        },
        "twice": {
            "its own log-weight counts twice in this mean.": (K - 1) / K,
            "the mean is over K + 1 numbers.": (K - 2) / K,
            "its own log-weight counts twice in this mean, not once.": K / (K + 1),
            lost: 2 / (K + 1),
            "b_k sees its own z_k: its share of the baseline is lost.": 1,
        },
        "largest": {free: (K - 1) / K, f"something is left, and more than that. {free}": 0},
        "sum": {
            f"{free} It is a noisy choice, but the question is the mean.": 2 - K,
            f"the forgotten division is not to be made up for. {free}": 1 / (K - 1),
            f"the sum is K − 1 times the others' mean, and it is taken off. {free}": K - 1,
            free: (K - 1) / K,
            f"something is left, and more than that. {free}": 0,
        },
    }
    said = expect.entries(shares(K), BASELINES, "`shares` should return")
    for name in BASELINES:
        with expect.part(name):
            # The last sentence fits whatever came: some answers are constants, which the check must not tell.
            rest = {"not so. What is E[b_k s_k] for this b_k? That is what is lost.": said[name]}
            expect.close(said[name], truth[name], f'shares({K})["{name}"]', mistakes[name] | rest)


@parts("baseline", "reward", "bound")
def q3(loss_and_bound, fresh):
    K, B = fresh.sizes(2, 3, 7)
    log_p, log_q = 3 * fresh.normal(K, B) - 9, fresh.normal(K, B) - 4
    log_w, n = log_p - log_q, K * B
    pair = expect.parts(loss_and_bound(log_w, log_q), 2, "loss_and_bound should return (loss, bound).")

    def others(t):
        return (t.sum(0) - t) / (len(t) - 1)

    def slope(reward):
        """Of the loss whose reward carries what gradient it has."""
        leaf = log_q.clone().requires_grad_()
        return torch.autograd.grad(-(reward(log_p - leaf) * leaf).mean(), leaf)[0]

    truth, rest, batch = -(log_w - others(log_w)) / n, log_w.sum(0) - log_w, log_w.sum(1, keepdim=True)
    with expect.part("baseline", "reward"):
        expect.close(
            loss_and_bound.run(slopes, log_p, log_q)[0],
            truth,
            "the loss's slope in each log q(z_k | x)",
            {
                "it is wrong in more than one way. Which factors does autograd see, and who is in "
                "b_k?": slope(lambda w: w - w.mean(0)),
                expect.about(
                    "the gradient flows through the reward. It is a plain number: detach all of it.", "reward"
                ): slope(lambda w: w - others(w)),
                expect.about(
                    "the gradient flows through the reward, if not through its baseline. Detach all of it.",
                    "reward",
                ): slope(lambda w: w - others(w).detach()),
                expect.about(
                    "each sample sits in its own baseline. Everything came out (K − 1)/K times what it "
                    "should "
                    "be.",
                    "baseline",
                ): truth * (K - 1) / K,
                expect.about("the gradient flows through the baseline. Detach that too.", "reward"): slope(
                    lambda w: w.detach() - others(w)
                ),
                "the gradient flows through the baseline, and each sample sits in its own.": slope(
                    lambda w: w.detach() - w.mean(0)
                ),
                "the gradient flows through the reward, and each sample sits in its own baseline.": slope(
                    lambda w: w - w.mean(0).detach()
                ),
                "the baseline is taken over the batch. Each data point has its own: compare samples of one "
                "x.": (-(log_w - log_w.mean(1, keepdim=True)) / n),
                "one number was the baseline of all. Each data point has its own: compare samples of one "
                "x.": (-(log_w - log_w.mean()) / n),
                "the sum of the others was taken off, not their mean.": -(log_w - rest) / n,
                "the others' sum is divided by K. There are K − 1 of them.": -(log_w - rest / K) / n,
                "the baseline has gone. That is unbiased, but leave-one-out was asked for.": -log_w / n,
                "the whole batch shares one reward. Each log q goes with its own data point's.": (
                    -(batch - others(batch)).expand(K, B) / n
                ),
                "its sign is the bound's. A loss goes down where the bound goes up.": -truth,
                "it is summed over the samples, not averaged.": truth * K,
                "it is summed over the data points, not averaged.": truth * B,
                "it is summed over samples and data points, not averaged.": truth * n,
            },
        )
    with expect.part("bound"):
        compare_bound(pair[1], log_w, "the bound")
        compare_bound(
            loss_and_bound(log_w - 900, log_q)[1], log_w - 900, "the bound for log-weights near -900"
        )


def compare_bound(value, log_w, what):
    K, B = log_w.shape
    each, batch = bounds.iwae(log_w), bounds.iwae(log_w.sum(1))
    everything, over_data = bounds.log_mean_exp(log_w.flatten()), bounds.log_mean_exp(log_w, 1).mean()
    log_K = math.log(K)
    expect.close(
        value,
        each.mean(),
        what,
        {
            "one bound was taken for the whole batch, where one draw k must be good for all points at once. "
            "Take a bound for each point, then the mean.": batch / B,
            "one bound was taken for the whole batch, and not even divided by B.": batch,
            "it is summed over the data points, not averaged.": each.sum(),
            "the average over the data points is missing.": each,
            "it is log K too high: a sum of the weights where their mean belongs.": each.mean() + log_K,
            "log K was subtracted once for the whole batch. Each data point has a mean over K of its own.": (
                each.mean() + log_K - log_K / B
            ),
            "that is the ELBO, the mean of the logarithms.": log_w.mean(),
            "the weights were averaged over samples and data points together.": everything,
            "the weights were averaged over the data points. Average over the samples.": over_data,
            "the weights were summed over the data points. Sum over the samples.": (
                over_data + math.log(B) - log_K
            ),
        },
    )


@parts("none", "leave_one_out")
def q4(noise_to_signal, fresh):
    for _ in range(3):
        L, K = fresh.integer(3, 9), fresh.integer(20, 60)
        elbo, kl = float(fresh.uniform(-30, -3)), float(fresh.uniform(0.2, 3))
        compare_ratios(noise_to_signal(L, K, elbo, kl), L, K, elbo, kl)


def compare_ratios(pair, L, K, elbo, kl):
    pair = expect.parts(pair, 2, "`noise_to_signal` should return two numbers, (none, leave_one_out).")
    level, alone, given = L * elbo**2 / (2 * kl), L + 1, f"noise_to_signal({L}, {K}, {elbo:.2f}, {kl:.2f})"
    none, others, noisy = (alone + level) / K, alone / (K - 1), 1 / (K * (K - 1))
    square = "that is the mean square of the estimate; a variance takes ‖g‖² off."
    fourth = "E[ε⁴] is 3 for a normal ε, not 1."
    root, inverse = (
        "that is a ratio of lengths. Noise and signal are both squares here.",
        "that is signal to noise: turn it over.",
    )
    with expect.part("none"):
        expect.close(
            pair[0],
            none,
            f"{given}, without baseline",
            {
                "this is the noise of one sample. The estimator is a mean of K.": alone + level,
                "the mean of K samples has a Kth of the variance: not K − 1 here.": (alone + level) / (K - 1),
                "that is the ratio with E[log w] as the baseline. Without one, how far is b = 0 from the "
                "best?": (alone / K),
                "only the parabola's second part is there: V(b*) is missing.": level / K,
                "‖a‖² is not the KL. Work out the KL of a shift, in terms of a.": (alone + 2 * level) / K,
                "‖a‖² is not half the KL; it is the other way round.": (alone + 4 * level) / K,
                "E‖s‖² is a sum over all L latents.": (alone + level / L) / K,
                "the parabola holds the square of the distance to b*.": (alone + level / elbo) / K,
                "that is E‖f s‖² of one sample, over K. The variance of a sample takes ‖g‖² off, before "
                "the K.": ((alone + 1 + level) / K),
                square: none + 1,
                "‖g‖² is taken off once from each sample's mean square; then all is divided by K.": (
                    (alone + 1 + level) / K - 1
                ),
                fourth: (L - 1 + level) / K,
                "the two ratios came in the other order: without baseline first, then leave-one-out.": others,
                inverse: 1 / none,
                root: none**0.5,
            },
        )
    with expect.part("leave_one_out"):
        expect.close(
            pair[1],
            others,
            f"{given}, leave-one-out",
            {
                "the baseline is noisy itself: the variance of leave-one-out has a second term.": alone / K,
                "‖g‖² is missing in the second term.": alone / K + L * noisy,
                "Var[f] E‖s‖² is missing in the second term.": alone / K + noisy,
                "E‖s‖² is a sum over all L latents, in the second term too.": alone / K + 2 * noisy,
                "V(E f) is a mean square less ‖g‖², and ‖g‖² was not taken off.": (L + 2) / (K - 1),
                square: others + 1,
                "the first term holds V(E f): a mean square less ‖g‖².": (L + 2) / K + alone * noisy,
                "one short. Count E[(aᵀε)² ‖ε‖²] again; and the second term has a ‖g‖² too.": (L / (K - 1)),
                fourth: (L - 1) / K + alone * noisy,
                "the level of log w drops out of leave-one-out.": (alone + level) / (K - 1),
                "the level of log w drops out; V(E f) is the parabola at b = E f.": (alone + level) / K
                + alone * noisy,
                inverse: 1 / others,
                root: others**0.5,
            },
        )


def with_table(function, table, z, logits):
    """Probe: function(f, z, logits), f(z) being looked up in table (B, 2^L)."""
    B, L = logits.shape

    def f(z):
        expect.that(isinstance(z, torch.Tensor), "it gave `f` something that is no tensor.")
        expect.that(
            z.shape[-2:] == (B, L),
            f"it gave `f` a tensor of shape {tuple(z.shape)}; its last two axes should be B and L, {(B, L)}.",
        )
        z = z.double()
        expect.that(((z == 0) | (z == 1)).all(), "it gave `f` latents that are neither 0 nor 1.")
        return table[torch.arange(B), (z @ 2.0 ** torch.arange(L).double()).long()]

    return call(function, f, z, logits)


def states(L):
    """All 2^L vectors of zeros and ones, (2^L, L)."""
    return ((torch.arange(2**L)[:, None] >> torch.arange(L)) & 1).double()


def local_truth(table, z, logits):
    """p(1 − p)(f with z_l = 1 less f with z_l = 0), (K, B, L), and what natural mistakes give."""
    K, B, L = z.shape
    power = 2.0 ** torch.arange(L).double()

    def f(code):
        return table[torch.arange(B)[:, None], code.long()]  # (K, B, L)

    code = (z @ power)[..., None]
    on, off = f(code + (1 - z) * power), f(code - z * power)
    p = torch.sigmoid(logits)
    spread = p * (1 - p)
    here, there = f(code.expand(K, B, L)), torch.where(z == 1, off, on)
    truth, score = spread * (on - off), z - p
    at_once = (table[:, -1] - table[:, 0])[:, None].expand(K, B, L)

    def never_restored(left):
        """The latents before l stay at `left`."""
        change = (left - z) * power
        start = code + change.cumsum(-1) - change
        return spread * (f(start + (1 - z) * power) - f(start - z * power))

    return truth, {
        "that is the plain estimator, f(z)(z_l − p_l). Average it over z_l, the other latents staying.": (
            here * score
        ),
        "the weights are missing. With what probability is z_l 1, and what is the score then? And for 0?": (
            on - off
        ),
        "that is the mean of f over z_l. The score is missing.": p * on + (1 - p) * off,
        "the score at z_l = 1 is 1 − p_l, not 1, and at z_l = 0 it is not −1.": p * on - (1 - p) * off,
        "it is p_l where both values of z_l leave a factor: the score at z_l = 1 is 1 − p_l, not 1.": (
            p * (on - off)
        ),
        "the score at z_l = 0 is −p_l: with a minus.": spread * (on + off),
        "the scores are there; the probabilities of z_l = 1 and z_l = 0 are not.": (1 - p) * on - p * off,
        "it has the opposite sign: f at z_l = 1 comes first.": -truth,
        "z is compared with z flipped, whichever way round. Where z_l = 0 that has the wrong sign.": (
            spread * (here - there)
        ),
        "(f(z) − f(flipped)) times the score still depends on z_l, and its mean is twice the gradient. "
        "Average over z_l.": (here - there) * score,
        "all latents were set at once. For z_l the others keep their values.": spread * at_once,
        "the latents were set one after the other and stayed 0. Start from z for each.": never_restored(0),
        "the latents were set one after the other and stayed 1. Start from z for each.": never_restored(1),
        "the latents' axis came first. It should be the last: (K, B, L).": truth.movedim(-1, 0),
        "the logits stand where probabilities belong.": logits * (1 - logits) * (on - off),
        "it is summed over the latents. Each logit has a slope of its own.": truth.sum(-1),
        "it is averaged over the samples. Keep their axis: (K, B, L).": truth.mean(0),
    }


def q5(local_gradient, fresh):
    K, B, L = fresh.sizes(3, 2, 5)
    table, logits = 3 * fresh.normal(B, 2**L) - 5, fresh.normal(B, L)
    z = states(L)[:, None].expand(2**L, B, L)
    z = torch.cat([z, (fresh.uniform(0, 1, K, B, L) < torch.sigmoid(logits)).double()])
    values = local_gradient.run(with_table, table, z, logits)
    truth, mistakes = local_truth(table, z, logits)
    expect.close(values, truth, "local_gradient(f, z, logits)", mistakes)
