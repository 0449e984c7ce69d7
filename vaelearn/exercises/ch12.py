"""Checks of chapter 12's exercises: do the numbers come out again?"""

import math

import torch
from torch.distributions import Normal

from .. import bounds, gradients
from . import expect
from .answers import closes, parts


@parts("difference", "error", "images")
def q1(compare, images_needed, fresh):
    n = fresh.integer(8, 14)
    hard = 85 + 20 * fresh.normal(n)
    first, second = (hard + fresh.normal(n) + shift for shift in (float(fresh.uniform(0.5, 2)), 0.0))
    off = first - second
    root = n**0.5
    said = expect.parts(compare(first, second), 2, "compare should return (difference, its standard error).")
    with expect.part("difference"):
        expect.close(
            said[0],
            off.mean(),
            "the difference",
            {
                "its sign: how far is the *first* above the second?": -off.mean(),
                "it is summed over the images, not averaged.": off.sum(),
                "that is one number for each image; take their mean.": off,
            },
        )
    with expect.part("error"):
        expect.close(
            said[1],
            off.std() / root,
            "the standard error",
            {
                "that is for two different sets of images. These are the same images: take the difference "
                "image by image first.": (first.var() / n + second.var() / n).sqrt(),
                "that is the standard deviation of the differences. The error of their *mean* is smaller.": (
                    off.std()
                ),
                "that is the variance of the mean. A standard error is its root.": off.var() / n,
                "divide by n − 1 in the variance: with few images it shows.": off.std(correction=0) / root,
                "that is the error of the first model's own mean.": first.std() / root,
            },
        )
    error = float(fresh.uniform(0.05, 0.2))
    needed = off.var() / error**2
    apart = (first.var() + second.var()) / error**2
    with expect.part("images"):
        expect.close(
            images_needed(first, second, error),
            needed.ceil(),
            f"images_needed(first, second, {error:.3f})",
            {
                "round up: with one image less the error is larger than asked.": needed.floor(),
                "a whole number of images, please: round up.": needed,
                "that is for images of its own for each model. On the same images the difference varies "
                "far less.": apart.ceil(),
                "the standard deviation goes in squared: an error falls as 1/√n.": (off.std() / error).ceil(),
                "that many *more* than there are? All that are needed were asked for.": needed.ceil() - n,
                "divide by n − 1 in the variance.": (off.var(correction=0) / error**2).ceil(),
            },
            tolerance=1e-9,
        )


@parts("fewer samples", "fewer images", "best epoch", "best seed", "made binary once", "log of the mean")
def q2(reported, fresh):
    chosen = (
        "whoever picks the least of several numbers is below their mean, and the test set did the picking."
    )
    truth = {
        "fewer samples": ("higher", "the bound rises with K, and the NLL is minus the bound."),
        "fewer images": (
            "neither",
            "a random part is as hard on average as the whole; only the error grows.",
        ),
        "best epoch": ("lower", chosen),
        "best seed": ("lower", chosen),
        "made binary once": (
            "higher",
            "what was learned by heart does not come again: test images are other images, made binary anew.",
        ),
        "log of the mean": (
            "lower",
            "−log is convex. Which is larger, −log of a mean or the mean of −log?",
        ),
    }
    said = expect.entries(reported.value, truth, "`reported` should stay")
    for name, (word, why) in truth.items():
        options = dict.fromkeys(("lower", "higher", "neither"), f"Think again: {why}")
        with expect.part(name):
            expect.option(said[name], word, f'reported["{name}"]', options)


def highest(n):
    """The mean of the highest of n standard normal numbers."""
    t = torch.linspace(-12, 12, 24_001, dtype=torch.float64)
    normal = Normal(torch.zeros((), dtype=torch.float64), 1.0)
    density = n * normal.log_prob(t).exp() * normal.cdf(t) ** (n - 1)
    return float(torch.trapezoid(t * density, t))


@parts("flattery", "chance")
def q3(flattery, chance, fresh):
    for n in fresh.sizes(3, 3, 12):
        s = float(fresh.uniform(0.3, 2))
        best = s * highest(n)
        with expect.part("flattery"):
            expect.close(
                flattery(n, s),
                best,
                f"flattery({n}, {s:.3f})",
                {
                    "√(2 log n) is a limit for huge n, and far off for a handful of runs.": (
                        s * math.sqrt(2 * math.log(n))
                    ),
                    "that is the lowest itself, a negative number. How far *below* m is it?": -best,
                    "s is the standard deviation: it goes in once, not squared.": s * best,
                    "that is for s = 1.": best / s,
                    "that is the standard error of the mean of n. The lowest is another number.": s / n**0.5,
                    "the factor n is missing in the density of the highest.": best / n,
                    "the exponent is n − 1: one of the n is at t, and all the others below.": (
                        s * highest(n + 1) * n / (n + 1)
                    ),
                    "that is the mean of the highest of n + 1.": s * highest(n + 1),
                    "that is one standard deviation of Φ(1/n): a quantile, not a mean.": (
                        -s * float(Normal(0.0, 1.0).icdf(torch.tensor(1 / n, dtype=torch.float64)))
                    ),
                },
                tolerance=1e-4,
            )
        with expect.part("chance"):
            expect.close(
                chance(n),
                n / (n + 1),
                f"chance({n})",
                {
                    "that is the chance of the single run.": 1 / (n + 1),
                    "of n + 1 equal runs each is as likely to be the lowest as any other.": 1 - 0.5**n,
                    "count the single run as well: there are n + 1.": (n - 1) / n,
                    "with n tries it is more than a toss of a coin.": 0.5,
                },
            )


@parts("sum", "count", "images")
def q4(mean_nll, fresh):
    K, B = fresh.sizes(3, 3, 9), fresh.integer(3, 6)
    chunks = [2 * fresh.normal(k, B) - 85 - 10 * fresh.uniform(0, 1, B) for k in K]

    def nll(own, count, images):
        """With each of the three mistakes, or without it."""
        sums = [torch.logsumexp(c, 0) - (math.log(len(c)) if own else 0) for c in chunks]
        log_p = torch.stack(sums).logsumexp(0) - math.log(K[-1] if count else sum(K))
        return -(torch.logsumexp(log_p, 0) - math.log(B) if images else log_p.mean())

    truth = nll(False, False, False)
    each = torch.cat(chunks)
    twice = "each chunk takes its own log K off, and the end another. Add up sums; divide once."
    last = "K is that of the last chunk. All chunks together have K samples."
    easiest = (
        "it averages p̂ over the images before the logarithm: the easiest image has it all. The mean NLL is "
        "the mean of −log p̂."
    )
    sentences = {
        (True, False, False): expect.about(twice, "sum"),
        (False, True, False): expect.about(last, "count"),
        (False, False, True): expect.about(easiest, "images"),
        (True, True, False): f"{twice} And {last}",
        (True, False, True): f"{twice} And {easiest}",
        (False, True, True): f"{last} And {easiest}",
        (True, True, True): f"{twice} And {last} And {easiest}",
    }
    mistakes = {sentence: nll(*wrong) for wrong, sentence in sentences.items()}
    apart = torch.stack([bounds.iwae(c) for c in chunks])
    mistakes |= {
        "that is the mean of the chunks' own bounds. Together they are one L_K, which is higher.": (
            -apart.mean()
        ),
        "its sign: an NLL is minus the log-likelihood.": -truth,
        "that is the ELBO's: no mean was taken inside a logarithm.": -each.mean(),
        "the NLLs are summed over the images.": B * truth,
        "one number for each image; take their mean.": -bounds.iwae(each),
        "log of the number of chunks in place of log K.": truth - math.log(sum(K)) + math.log(len(K)),
        "a sum of weights where their mean belongs: log K is missing.": truth - math.log(sum(K)),
    }
    with expect.part("sum", "count", "images"):
        expect.close(mean_nll(chunks), truth, f"mean_nll of chunks of {K[0]}, {K[1]} and {K[2]}", mistakes)


def jack(log_w):
    """The truth: K L_K − (K − 1) mean of the bounds without one."""
    K = len(log_w)
    return K * bounds.iwae(log_w) - (K - 1) * without(log_w).mean(0)


def without(log_w):
    """The truth of leave_one_out. The library divides by K; here a mean is a mean of K − 1."""
    K = len(log_w)
    return gradients.left_out_bound(log_w[:, None])[:, 0] + math.log(K) - math.log(K - 1)


@closes("gradients.left_out_bound")
@parts("leave_one_out", "jackknife")
def q5(leave_one_out, jackknife, fresh):
    K, B = fresh.sizes(2, 3, 8)
    log_w = 2 * fresh.normal(K, B) - 85
    truth, bound = without(log_w), bounds.iwae(log_w)
    with expect.part("leave_one_out"):
        expect.close(
            leave_one_out(log_w),
            truth,
            "leave_one_out(log_w)",
            {
                "the mean of K − 1 weights divides by K − 1, not by K.": truth + math.log((K - 1) / K),
                "a sum of weights where their mean belongs: log (K − 1) is missing.": truth + math.log(K - 1),
                "those are the bounds *with* the sample: nothing was left out.": bound.expand(K, B),
                "those are the means of the other log-weights. The mean of the *weights* was asked for.": (
                    (log_w.sum(0) - log_w) / (K - 1)
                ),
                "those are the samples left out themselves.": log_w,
            },
        )
        deep = fresh.normal(K, B) - 900
        deep[fresh.integer(0, K - 1)] += 60
        expect.close(
            leave_one_out(deep),
            without(deep),
            "leave_one_out where one weight is 60 nats above the others",
            {
                "1 − w̃ has no digits left for the largest weight: sum its others.": torch.where(
                    deep == deep.max(0).values, -math.inf, without(deep)
                ),
                "every weight underflowed to 0. Take the largest out before `exp`.": torch.full(
                    (K, B), -math.inf
                ),
            },
            tolerance=1e-8,
        )
    rest = truth.mean(0)
    with expect.part("jackknife"):
        expect.close(
            jackknife(log_w),
            jack(log_w),
            "jackknife(log_w)",
            {
                "that is the mean of the bounds without one sample, alone.": rest,
                "K and K − 1 have changed places.": (K - 1) * bound - K * rest,
                "the factors must differ by one: K of the whole, K − 1 of the parts.": K * (bound - rest),
                "its sum goes over k; the formula has a mean of the K bounds.": (
                    K * bound - (K - 1) * truth.sum(0)
                ),
                "that is L_K: nothing was corrected.": bound,
                "the correction has the wrong sign: the bias was doubled.": 2 * bound - jack(log_w),
            },
        )


@parts("difference", "half width", "comes out")
def q6(against_the_paper, fresh):
    from scipy import stats

    for far in (True, False):
        n, m = fresh.sizes(2, 3, 7)
        sd, mean = float(fresh.uniform(0.05, 0.2)), 85 + float(fresh.uniform(0, 2))
        spread = float(fresh.uniform(0.02, 0.3))
        ours = fresh.normal(m)
        ours = mean + (1.0 if far else 0.01) + spread * (ours - ours.mean()) / ours.std()
        v1, v2 = sd**2 / n, float(ours.var()) / m
        root = (v1 + v2) ** 0.5
        nu = (v1 + v2) ** 2 / (v1**2 / (n - 1) + v2**2 / (m - 1))
        difference = float(ours.mean()) - mean
        half = float(stats.t.ppf(0.975, nu)) * root
        t = {
            name: float(stats.t.ppf(q, df))
            for name, q, df in [
                ("one side", 0.95, nu),
                ("pooled", 0.975, n + m - 2),
                ("theirs", 0.975, n - 1),
                ("ours", 0.975, m - 1),
            ]
        }
        biased = float(ours.var(correction=0)) / m
        given = f"against_the_paper({mean:.2f}, {sd:.3f}, {n}, {m} runs)"
        said = expect.entries(
            against_the_paper(mean, sd, n, ours),
            ("difference", "half width", "comes out"),
            ("against_the_paper should return"),
        )
        with expect.part("difference"):
            expect.close(
                said["difference"],
                difference,
                f'{given}["difference"]',
                {"yours less theirs was asked for.": -difference},
            )
        with expect.part("half width"):
            expect.close(
                said["half width"],
                half,
                f'{given}["half width"]',
                {
                    "1.96 is the normal quantile. With a handful of runs Student's is larger.": 1.959964
                    * root,
                    "that is the standard error alone, without the quantile.": root,
                    "that is the whole width. Half of it was asked for.": 2 * half,
                    "the quantile is 0.975: 2.5 % on either side.": t["one side"] * root,
                    "n + m − 2 degrees of freedom are for two equal spreads; Welch's are fewer.": (
                        t["pooled"] * root
                    ),
                    "the degrees of freedom are Welch's, not n − 1.": t["theirs"] * root,
                    "the degrees of freedom are Welch's, not m − 1.": t["ours"] * root,
                    "their ± is a standard deviation: the mean of n runs varies by √n less.": (
                        _welch(sd**2, v2, n, m, stats)
                    ),
                    "the squared error of your own mean is the variance divided by m.": (
                        _welch(v1, float(ours.var()), n, m, stats)
                    ),
                    "divide by m − 1 in the variance of your runs.": _welch(v1, biased, n, m, stats),
                    "their spread is missing: theirs is a mean of few runs too.": t["ours"] * v2**0.5,
                    "your own spread is missing.": t["theirs"] * v1**0.5,
                },
                tolerance=1e-4,  # a table's quantile, 1.96 say, is enough
            )
        with expect.part("comes out"):
            expect.that(
                bool(said["comes out"]) == (abs(difference) <= half),
                f'{given}["comes out"] is {said["comes out"]}: does {difference:.3f} ± {half:.3f} contain 0?',
            )


def _welch(v1, v2, n, m, stats):
    nu = (v1 + v2) ** 2 / (v1**2 / (n - 1) + v2**2 / (m - 1))
    return float(stats.t.ppf(0.975, nu)) * (v1 + v2) ** 0.5
