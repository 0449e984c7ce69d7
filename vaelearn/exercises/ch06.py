"""Checks of chapter 6's exercises: tighter is not always better."""

import math

import torch

from . import expect
from .answers import Wrong, parts


def q1(snr, fresh):
    # Centred about known means of both signs, with a spread that lets every parameter change sign.
    n = fresh.integer(20, 40)
    A, B = fresh.sizes(2)
    g = gradients(fresh, n, A, B)
    close_to_one(
        snr(g),
        [ratio(g, 1), ratio(g, 0)],
        "snr(g)",
        [snr_mistakes(g, correction) for correction in (1, 0)],
    )


def gradients(fresh, n, *shape, signal=0.3):
    """n draws (n, *shape): noise of several sizes about sample means of both signs, `signal` or more."""
    noise = fresh.uniform(1, 3, *shape) * fresh.normal(n, *shape)
    signs = 2.0 * (torch.arange(math.prod(shape)) % 2).reshape(shape) - 1
    return noise - noise.mean(0) + signs * fresh.uniform(signal, signal + 0.6, *shape)


def ratio(g, correction):
    return g.mean(0).abs() / g.std(0, correction=correction)


def snr_mistakes(g, correction):
    mean, std, n = g.mean(0), g.std(0, correction=correction), len(g)
    return {
        "it is signed. The signal is the size of the mean, whatever its sign.": mean / std,
        "the absolute value is taken before the mean, so noise of both signs counts as signal.": (
            g.abs().mean(0) / std
        ),
        "the absolute value is taken before everything: mean and spread are those of |g|.": (
            ratio(g.abs(), correction)
        ),
        "a variance stands below. The SNR has no units: divide by the standard deviation.": (
            mean.abs() / std**2
        ),
        "it grows with the number of draws: that is the mean over its standard error. The SNR belongs to "
        "one draw, and has the standard deviation below.": n**0.5 * mean.abs() / std,
        "that is the SNR's square.": (mean / std) ** 2,
        "that is the noise over the signal.": std / mean.abs(),
        "below stands the root of the mean square. The noise is what remains about the mean.": (
            mean.abs() / g.square().mean(0).sqrt()
        ),
        "mean and spread run over the last axis. The draws lie along the first.": (
            g.mean(-1).abs() / g.std(-1, correction=correction)
        ),
        "mean and spread run over the second axis. The draws lie along the first.": (
            g.mean(1).abs() / g.std(1, correction=correction)
        ),
        "everything was averaged at once. Each parameter has an SNR of its own.": (
            g.mean().abs() / g.std(correction=correction)
        ),
        "each parameter has an SNR of its own, and you averaged them.": ratio(g, correction).mean(),
    }


def close_to_one(value, truths, what, mistakes=(), tolerance=1e-6):
    """`value` is one of the truths (standard deviations by n − 1 and by n, say), or else a known mistake."""
    if any(_is(value, truth, what, tolerance) for truth in truths):
        return
    for known in mistakes:
        for sentence, other in known.items():
            if _is(value, other, what, tolerance):
                raise expect.told(what, sentence)
    expect.close(value, truths[0], what, tolerance=tolerance)


def _is(value, truth, what, tolerance):
    try:
        expect.close(value, truth, what, tolerance=tolerance)
    except Wrong:
        return False
    return True


@parts("theta", "phi", "phi_mean", "phi_noise", "phi_draws")
def q2(factors, fresh):
    for _ in range(3):
        a, b = float(fresh.uniform(2, 9)), float(fresh.uniform(2, 9))
        a = fresh.choice([a, 1 / a])
        check_factors(factors, a, b)


def check_factors(factors, a, b):
    both, encoder = math.sqrt(a * b), math.sqrt(a / b)
    square = "that is its square. An SNR has a standard deviation below, and grows as a root."
    no_m = "M is missing. Repetitions average the noise for both networks."
    truth = {
        "theta": (
            both,
            {
                "that is the inference network's. θ has a signal, ∂ log p(x), that does not shrink with K.": (
                    encoder
                ),
                square: a * b,
                no_m: math.sqrt(b),
                "K is missing. For θ, all MK samples average the noise.": math.sqrt(a),
                "that is upside down: θ gains from M and from K.": 1 / both,
                "θ gains from M and from K, both.": math.sqrt(b / a),
                "nothing is multiplied?": 1.0,
            },
        ),
        "phi": (
            encoder,
            {
                "that is the generative network's. p(x) does not contain φ: what is left for it?": both,
                square: a / b,
                no_m: 1 / math.sqrt(b),
                "K is missing. φ's mean shrinks faster with K than its noise.": math.sqrt(a),
                "that is upside down: φ gains from M, and pays for K.": math.sqrt(b / a),
                "φ pays for K, but M helps it as it helps θ.": 1 / both,
                "that is its mean. The SNR divides it by its noise.": 1 / b,
                "that lets the signal fall as 1/K and forgets that the noise falls too.": math.sqrt(a) / b,
            },
        ),
        "phi_mean": (
            1 / b,
            {
                "1/√K is the rate of the noise. The mean is the derivative of a bias, Var[r]/2K.": b**-0.5,
                "M does not move a mean: it averages copies that all have the same one.": 1 / (a * b),
                "that is the noise's. The mean is the derivative of a bias, Var[r]/2K.": 1 / both,
                "that is θ's. φ's mean has no leading term that stays: ∂ log p(x)/∂φ = 0.": 1.0,
                "it shrinks as K grows: it is the derivative of Var[r]/2K.": b,
                "that is the SNR, and the question is after its numerator alone.": encoder,
            },
        ),
        "phi_noise": (
            1 / both,
            {
                no_m: b**-0.5,
                "K is missing: the noise is that of an average over all MK samples.": a**-0.5,
                "that is the variance's. σ is its root.": 1 / (a * b),
                "more samples make less noise, not more.": both,
                "1/K is the rate of the mean.": 1 / b,
                "the noise is that of an average over all MK samples, for φ as for θ.": math.sqrt(b / a),
                "that is the SNR, and the question is after its denominator alone.": encoder,
            },
        ),
        "phi_draws": (
            b / a,
            {
                "averaging n draws gains √n only: the number of draws goes as the SNR to the power −2.": (
                    math.sqrt(b / a)
                ),
                "a better SNR needs fewer draws: that is upside down.": a / b,
                "that is for θ.": 1 / (a * b),
                "M is missing: a larger M makes each draw better.": b,
                "that counts samples of z, n·M·K. The question is after n.": b**2,
                "averaging n draws gains √n only, and a better SNR needs fewer draws.": encoder,
                "K is missing: φ's SNR falls with it.": 1 / a,
            },
        ),
    }
    said = expect.entries(factors(a, b), truth, "`factors` should return")
    for name, (factor, mistakes) in truth.items():
        with expect.part(name):
            expect.close(said[name], factor, f'factors({a:.2f}, {b:.2f})["{name}"]', mistakes)


def q3(largest_K, fresh):
    for _ in range(2):
        T, N, K = fresh.integer(1000, 5000), fresh.integer(10, 40), float(fresh.uniform(8, 20))
        C = 2 * K / math.sqrt(T * N)
        expect.close(
            largest_K(T, N, C),
            K,
            f"largest_K({T}, {N}, {C:.4f})",
            {
                "M is held at T while K grows. On a budget, K costs repetitions: M = T/K.": K**2,
                "M is held at 1 while K grows. On a budget, M = T/K.": max(1.0, C**2 * N / 4),
                "that looks at one step. The average of N steps has an SNR √N times as large.": (
                    K / math.sqrt(N)
                ),
                "averaging N steps multiplies the SNR by √N, not by N.": K * math.sqrt(N),
                "that asks for one standard deviation, not two.": 2 * K,
                "that asks for four standard deviations, not two.": K / 2,
                "that is M, the number of repetitions.": T / K,
                "it was rounded down. K may be any real number: no rounding.": math.floor(K),
                "it was rounded up. K may be any real number: no rounding.": math.ceil(K),
                "T went in without its root: C √(M/K) with M = T/K is C √T / K.": min(T, K * math.sqrt(T)),
            },
        )
    T, N = fresh.integer(20, 300), fresh.integer(2, 40)
    rich = float(fresh.uniform(3, 6)) * math.sqrt(T / N)
    expect.close(
        largest_K(T, N, rich),
        T,
        f"largest_K({T}, {N}, {rich:.3f})",
        {
            "K is larger than the budget. At K = T, M is 1, and the budget is spent.": (
                rich * math.sqrt(T * N) / 2
            )
        },
    )
    poor = float(fresh.uniform(0.2, 1.5)) / math.sqrt(T * N)
    expect.close(
        largest_K(T, N, poor),
        1,
        f"largest_K({T}, {N}, {poor:.5f})",
        {
            "K is less than one sample. Even the best split is not enough here, and 1 is the best.": (
                poor * math.sqrt(T * N) / 2
            )
        },
    )


@parts("signal", "noise", "floor")
def q4(pooled_snr2, fresh):
    n, P = 2 * fresh.integer(10, 20), fresh.integer(4, 9)
    check_pooled(pooled_snr2, gradients(fresh, n, P, signal=1.0))
    silent = gradients(fresh, n, P)
    silent = silent - silent.mean(0)
    known = {
        expect.about(
            "it was cut off at 0. Its average over many experiments is then too high: let it be negative.",
            "floor",
        ): 0.0
    }
    truths, what = [-1 / n, -1 / (n - 1)], "pooled_snr2 of draws whose means are 0"
    with expect.part(*q4.parts, else_failed=True):
        close_to_one(pooled_snr2(silent), truths, what, [known])


def check_pooled(pooled_snr2, g):
    n = len(g)
    variance, by_n = g.var(0), g.var(0, correction=0)
    mean = g.mean(0)
    pooled = mean.square().sum() / variance.sum()
    several = []
    early = "the absolute value is taken before the mean: pure noise then looks like signal."
    across = (
        "the variance runs across the parameters of one draw. Noise is one parameter's spread over draws."
    )
    floor = (
        "the noise floor is still in it. What does the square of a mean of n draws average, without a signal?"
    )
    for size in (mean, g.abs().mean(0)):
        for spread in (variance, g.var(1)):
            for share in (0, 1 / n):
                value = size.square().sum() / spread.sum() - share
                left = (
                    [early] * (size is not mean) + [across] * (spread is not variance) + [floor] * (not share)
                )
                if left:  # only the first is named: the cell as found holds all three
                    costs = [{early: "signal", across: "noise", floor: "floor"}[slip] for slip in left]
                    says = left[0] + " (And not only that.)" * (len(left) > 1)
                    several.append({expect.about(says, *costs): value})
    halves = {"first and second": g.tensor_split(2), "even and odd": (g[::2], g[1::2])}
    mistakes = {
        f"a product of the means of two halves ({name} draws) is unbiased, but noisier than need be: in "
        "another order the same draws give another value.": (a.mean(0) * b.mean(0)).sum() / variance.sum()
        for name, (a, b) in halves.items()
    } | {
        f"{early} (In the variance too.)": g.abs().mean(0).square().sum() / g.abs().var(0).sum() - 1 / n,
        f"{across} (Below the fraction line.)": (mean.square() - variance / n).sum() / g.var(1).sum(),
        "the variance of one draw was taken off the squared mean. A mean of n draws varies n times less.": (
            pooled - 1
        ),
        "2/πn is the square of the mean of |noise|. Here the mean of its square is to go.": (
            pooled - 2 / (math.pi * n)
        ),
        "a standard deviation was taken off a square: compare the units.": (
            (mean.square() - variance.sqrt() / n).sum() / variance.sum()
        ),
        "the noise adds to a squared mean; to correct, take it off.": pooled + 1 / n,
        "that is an average of the parameters' own ratios. Pooled is a sum over a sum.": (
            (mean.square() / variance).mean() - 1 / n
        ),
        "that is the SNR; its square was asked for.": (pooled - 1 / n).clamp(min=0).sqrt(),
        "standard deviations stand below. The squared SNR has variances.": (
            (mean.square() - variance / n).sum() / variance.sqrt().sum()
        ),
        "the variance divides by n, and is not unbiased. Divide by n − 1.": (
            (mean.square() - by_n / n).sum() / by_n.sum()
        ),
    }
    # The same estimate, with a variance by n below the fraction line only, is as good in all but name.
    truths = [pooled - 1 / n, (mean.square() - variance / n).sum() / by_n.sum()]
    with expect.part(*q4.parts):
        close_to_one(pooled_snr2(g), truths, "pooled_snr2(g)", [*several, mistakes])


@parts("slope", "half-width")
def q5(slope_interval, fresh):
    J, S = fresh.sizes(2, 5, 9)
    check_slope(slope_interval, *measured(fresh, J, S), float(fresh.uniform(1.7, 3.5)))


def measured(fresh, J, S, first=4.0):
    """K (J,) rising from about `first`, and snr (S, J) with a slope, an early bend and noise."""
    K = (first * 2 ** (torch.arange(J) + fresh.uniform(0, 0.5, J))).round()
    slope, bend = fresh.choice([-0.5, 0.5]), float(fresh.uniform(1, 2))
    level = float(fresh.uniform(-1, 1))
    noise = 0.15 * fresh.normal(S, J)
    return K, (slope * K.log() + level + bend / K + noise).exp()


def check_slope(slope_interval, K, snr, t):
    S, J = snr.shape
    slope, half = expect.parts(
        slope_interval(K, snr, t), 2, "slope_interval should return two numbers: (mean slope, half-width)."
    )

    one, log_K, log_snr = torch.ones_like(K), K.log(), snr.log()

    def fit(y, *columns):
        return torch.linalg.lstsq(torch.stack(columns, 1), y.T).solution

    full = (log_K, one, 1 / K)
    slopes = fit(log_snr, *full)[0]
    with expect.part("slope"):
        expect.close(
            slope,
            slopes.mean(),
            "the mean slope",
            {
                "the term β/K is missing from the fit: a straight line takes the bend at small K for "
                "slope.": fit(log_snr, log_K, one)[0].mean(),
                "the SNR went in without its logarithm.": fit(snr, *full)[0].mean(),
                "K went in without its logarithm. A power law is a line where both axes are "
                "logarithmic.": fit(log_snr, K, one, 1 / K)[0].mean(),
                "the intercept α is missing from the fit.": fit(log_snr, log_K, 1 / K)[0].mean(),
                "the last column should be 1/K, and 1/log K came.": fit(log_snr, log_K, one, 1 / log_K)[
                    0
                ].mean(),
                "the last column should be 1/K, and K came.": fit(log_snr, log_K, one, K)[0].mean(),
                "the two logarithms have different bases (10 above, e below). Give them one base.": (
                    slopes.mean() / math.log(10)
                ),
                "the two logarithms have different bases (2 and e). Give them one base.": (
                    slopes.mean() / math.log(2)
                ),
                "that is the intercept α. The slope belongs to the column log K.": fit(log_snr, *full)[
                    1
                ].mean(),
                "that is β. The slope belongs to the column log K.": fit(log_snr, *full)[2].mean(),
                "the replicates were averaged before the logarithm; each should have its own fit.": fit(
                    snr.mean(0, keepdim=True).log(), *full
                )[0].mean(),
                "that is the slope between the two ends; least squares uses all points.": (
                    (log_snr[:, -1] - log_snr[:, 0]) / (log_K[-1] - log_K[0])
                ).mean(),
            },
        )

    std, by_S = slopes.std(), slopes.std(correction=0)
    known = {
        "that is t times the scatter of single slopes. Their mean scatters √S times less.": t * std,
        "the quantile t is missing: that is one standard error.": std / S**0.5,
        "that is the whole width of the interval, from end to end.": 2 * t * std / S**0.5,
        "the standard deviation divides by S. Student's t with S − 1 degrees of freedom wants S − 1.": (
            t * by_S / S**0.5
        ),
        "the scatter was divided by S, not by √S.": t * std / S,
        "a variance stands where its root belongs.": t * std**2 / S**0.5,
        "it divides by the number of Ks. What is averaged are S slopes.": t * std / J**0.5,
        "1.96 is the normal quantile. With few replicates Student's is larger: use t.": 1.96 * std / S**0.5,
        "that is the standard deviation of the slopes.": std,
    }
    # The textbook's interval of one pooled fit, from its residuals.
    X = torch.stack(full, 1).repeat(S, 1)
    y = log_snr.reshape(-1, 1)
    beta = torch.linalg.lstsq(X, y).solution
    left = (y - X @ beta).square().sum() / max(len(y) - 3, 1)
    known["that is computed from the residuals of the fit. Use the scatter of the S slopes."] = (
        t * (left * torch.linalg.inv(X.T @ X)[0, 0]).sqrt()
    )
    with expect.part("half-width"):
        expect.close(half, t * std / S**0.5, "the half-width", known)


@parts("c", "log s", "rest")
def q6(pull, resting_variance, fresh):
    L = fresh.integer(2, 5)
    with expect.part("c", "log s"):
        check_pull(pull, *posterior_and_q(fresh, L), fresh.integer(50, 900))
    v = fresh.uniform(0.4, 1.6, L)
    with expect.part("rest"):
        check_rest(resting_variance, fresh.uniform(0.3, 1.2, L) * sign(fresh, L), v)


def sign(fresh, L):
    return fresh.normal(L).sign()


def posterior_and_q(fresh, L):
    """d, v, s2 (L,) with 2 s2 > v, and no entry of d near 0."""
    v = fresh.uniform(0.4, 1.6, L)
    return fresh.uniform(0.2, 0.7, L) * sign(fresh, L) * v.sqrt(), v, v * fresh.uniform(1.1, 1.9, L)


def second_moments(d, v, s2):
    """E[r²] of each dimension."""
    return s2 / (v * (2 * s2 - v)).sqrt() * (d**2 / (2 * s2 - v)).exp()


def first_order(d, v, s2, K):
    """−∂Var[r]/2K for c and for log s, by autograd of the closed form."""
    leaves = d.clone().requires_grad_(), s2.log().div(2).requires_grad_()
    variance = second_moments(leaves[0], v, (2 * leaves[1]).exp()).prod() - 1
    return tuple(-g / (2 * K) for g in torch.autograd.grad(variance, leaves))


def check_pull(pull, d, v, s2, K):
    both = expect.parts(pull(d, v, s2, K), 2, "pull should return two results: (for c, for log s).")
    each = second_moments(d, v, s2)
    second, u, L = each.prod(), 2 * s2 - v, len(d)
    truths = dict(zip(("c", "log s"), first_order(d, v, s2, K), strict=True))
    elbo = {"c": -d / v, "log s": 1 - s2 / v}
    for got, (name, truth), other in zip(both, truths.items(), reversed(truths), strict=True):
        shared = {
            f"that is the gradient for {other}. First comes the one for c, then the one for log s.": (
                truths[other]
            ),
            "that is the way downhill. The gradient climbs, so Var[r] falls along it: mind the sign.": -truth,
            "a factor 2 is off: the bias is Var[r]/2K, with the 2 of u − u²/2.": 2 * truth,
            "that is the derivative of −Var[r]/2; 1/K is missing.": truth * K,
            "that is the slope of Var[r] itself: −1/2K is missing.": -2 * K * truth,
            "that falls as 1/K². The mean of φ's gradient falls as 1/K.": truth / K,
            "that is the ELBO's gradient, of K = 1. Here K is large, and χ² is what descends.": elbo[name],
            "that is the ELBO's gradient, over K.": elbo[name] / K,
            "that multiplies by Var[r], and it should be 1 + Var[r]: the product is differentiated, and the "
            "1 goes only afterwards.": truth * (second - 1) / second,
            "that is the slope of log E[r²], not of E[r²]: as a factor the product is missing.": (
                truth / second
            ),
        }
        if L > 1:
            own = (
                "each dimension has its own factor alone. Var[r] belongs to all of them: where one factor is "
                "differentiated, the others stay."
            )
            shared |= {
                own: truth * each / second,
                f"{own} (And the sign is that of descent.)": -truth * each / second,
                "the dimensions' E[r²] are added up; for a product density they multiply.": (
                    truth * each.sum() / second
                ),
            }
        if name == "c":
            shared["it is half of what it should be: did a factor 2 come in twice?"] = truth / 2
        else:
            shared |= {
                "that is the derivative for s. For log s it takes a factor s more.": truth / s2.sqrt(),
                "that is the derivative for s². For log s it takes a factor 2 s² more.": truth / (2 * s2),
                "that is the derivative for log s². For log s it is twice that.": truth / 2,
                "the term with d² is missing: the exponent d²/(2s² − v) depends on s too.": (
                    second / K * (v - s2) / u
                ),
                "only the exponent was differentiated; the factor before it depends on s as well.": (
                    second / K * 2 * s2 * d**2 / u**2
                ),
            }
        with expect.part(name):
            expect.close(got, truth, f"pull(...), for {name}", shared)


def check_rest(resting_variance, d, v):
    h = 3 * v + 2 * d**2
    root = (h**2 - 8 * v**2).sqrt()
    truth = (h + root) / 4
    expect.close(
        resting_variance(d, v),
        truth,
        "resting_variance(d, v)",
        {
            "that is the ELBO's answer, the posterior's variance. L_K with a large K minds that d ≠ 0.": v,
            "that is the other root: it is below v/2, and Var[r] is infinite there.": (h - root) / 4,
            "that is where KL(p‖q) is least. Here χ²(p‖q) is: set the pull on log s to 0.": v + d**2,
            "that is s. Its square was asked for.": truth.sqrt(),
            "that is log s. s² was asked for.": truth.log() / 2,
            "it is twice the root: with the leading coefficient 2, one divides by 4.": 2 * truth,
        },
    )
