"""Checks of chapter 4's exercises: reparameterization."""

import math

import torch

from . import expect
from .answers import call, closes, parts


def _attached(result, what):
    expect.that(isinstance(result, torch.Tensor), f"it should return {what} as a tensor.")
    expect.that(
        result.requires_grad,
        "it has no gradient. Stay with tensors; `detach`, `item`, `float` and `no_grad` cut the path.",
    )


def nearest(value, mistakes):
    """Of each mistake's several forms, the one nearest to the value that came: {sentence: value}."""
    try:
        value = torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        return {}  # no number at all: whoever compares will say so

    def distance(form):
        form = torch.as_tensor(form, dtype=torch.float64)
        return float((form - value).abs().max()) if form.shape == value.shape else math.inf

    return {sentence: min(forms, key=distance) for sentence, forms in mistakes.items()}


def weibull_slopes(function, u, scale, shape):
    """Probe: z, dz/dscale and dz/dshape, a value for each u."""
    scale, shape = (t.expand(len(u)).clone().requires_grad_() for t in (scale, shape))
    z = call(function, u, scale, shape)
    _attached(z, "z")
    slopes = torch.autograd.grad(z.sum(), [scale, shape], allow_unused=True)
    for slope, name in zip(slopes, ("scale", "shape"), strict=True):
        expect.that(slope is not None, f"no gradient reaches `{name}`: it was detached, or not used.")
    return [z, *slopes]


def q1(weibull, fresh):
    N = fresh.integer(300, 500)
    scale, shape = fresh.uniform(1.6, 4), fresh.uniform(1.5, 3)
    # A grid of u that 1 - u maps to itself: whoever takes either makes the same set of samples.
    u = ((torch.arange(N) + 0.5) / N).double()[torch.randperm(N, generator=fresh.generator)]
    z = torch.as_tensor(weibull(u, scale, shape))
    expect.that(
        z.numel() == N, f"weibull should give one sample for each of {N} u; its shape is {tuple(z.shape)}."
    )
    expect.that(
        not z.isnan().any(),
        "weibull gives nan. A power of a negative number is none: log u and log(1 − u) are negative.",
    )
    expect.that(
        torch.equal(z, torch.as_tensor(weibull(u, scale, shape))),
        "weibull gives another z for the same u. Make z a function of the u it is handed; draw nothing new.",
    )
    t = -torch.log1p(-u)
    forward = 1 - torch.exp(-((u / scale) ** shape))
    mistakes = {
        "that is F(u), a probability. A sample comes from the *inverse* of F.": forward,
        "1 − F(u) is a probability. A sample comes from the *inverse* of F.": 1 - forward,
        "the power is k. When you solve u = F(z) for z, its inverse comes out, 1/k.": scale * t**shape,
        "you divided by λ, as by a rate. λ is a scale: twice λ, twice the sample.": t ** (1 / shape) / scale,
        "λ went under the power 1/k. It is a scale: twice λ, twice the sample.": (scale * t) ** (1 / shape),
        "λ and k have changed places.": shape * t ** (1 / scale),
        "that is an exponential sample: the shape k is missing.": scale * t,
        "the scale λ is missing.": t ** (1 / shape),
        "the samples have the wrong sign: Weibull samples are positive.": -scale * t ** (1 / shape),
    }
    truth = (scale * t ** (1 / shape)).sort().values
    ordered = {sentence: value.sort().values for sentence, value in mistakes.items()}
    expect.close(z.flatten().sort().values, truth, "weibull on an even grid of u, its values sorted", ordered)

    z, by_scale, by_shape = weibull.run(weibull_slopes, u, scale, shape)
    z = z.double().flatten()
    expect.close(by_scale, z / scale, "the derivative of z in scale", tolerance=1e-5)
    expect.close(by_shape, -z * (z / scale).log() / shape, "the derivative of z in shape", tolerance=1e-5)


CHANGES = ("samples", "height", "frequency", "width", "constant")


def factors_at(answer, k):
    """The learner's factors at k, with the truth and with what each likely slip would have said."""
    said = expect.entries(answer(k), CHANGES, "factors(k) should return")
    rate = "these are variances, not standard deviations."
    total = "the mean of k independent estimates: what is the variance of a sum, and what does 1/k do to it?"
    square = "a variance is quadratic."
    values = "the values of the wiggle stay between −1 and 1. This estimator never sees a slope."
    slopes = "the slope is what it samples, ω is in the slope, and a variance is quadratic."
    spread = "the slope's spread is ω²/2 wherever the angle ωz is spread evenly; σ is not in it."
    score = "the score is ε/σ: σ is in it once, and in its variance squared."
    level = "a constant has no slope."
    size = "the estimator is (f + k) ε/σ. It pays for the size of f: what is the mean of (cos ωz + k)² ε²?"
    fewer = {
        "more samples make it smaller, whatever the estimator.": [k, k**2, 1],
        rate: [k**-0.5],
        total: [k**-2],
    }
    truth = {
        "samples": ((1 / k, fewer), (1 / k, fewer)),
        "height": ((k**2, {square: [k, 1]}), (k**2, {square: [k, 1]})),
        "frequency": ((k**2, {slopes: [1, k]}), (1, {values: [k**2, k, k**-2, 1 / k]})),
        "width": (
            (1, {spread: [k**2, k, k**-2, 1 / k]}),
            (k**-2, {"it is the other way round: " + score: [k**2, k], score: [1 / k, 1]}),
        ),
        "constant": (
            (1, {level: [1 + 2 * k**2, 1 + k**2, (1 + k) ** 2, k**2, k, 1 + k]}),
            (
                1 + 2 * k**2,
                {
                    "without a baseline a constant is not free: " + size: [1],
                    "the mean square of cos is ½, not 1: " + size: [1 + k**2],
                    "that is the new variance for σ = 1. Divide it by the old one, ½.": [0.5 + k**2],
                    "the wiggle itself is still there: " + size: [2 * k**2],
                    size: [k**2, k, (1 + k) ** 2, 1 + k],
                    "what are the means of cos² ωz and of ε²?": [1 + 4 * k**2, 1 + 2 * k**2 / 3],
                },
            ),
        ),
    }
    return said, truth


@parts(*CHANGES)
def q2(factors, fresh):
    compare_factors(factors, fresh.integer(3, 9))


def compare_factors(factors, k):
    said, truth = factors_at(factors, k)
    for change in CHANGES:
        with expect.part(change):
            compare_change(said[change], truth[change], f'factors({k})["{change}"]')


def compare_change(pair, truth, what):
    pair = expect.parts(pair, 2, f"{what} should be a pair: (pathwise, score function).")
    for value, (right, mistakes), name in zip(pair, truth, ("pathwise", "score function"), strict=True):
        expect.that(isinstance(value, (int, float, torch.Tensor)), f"{what}, {name}, should be a number.")
        # The last sentence fits whatever came: the right factor is not to be told.
        rest = {"not so. What does the change do to a single estimate, and so to its variance?": value}
        expect.close(value, right, f"{what}, {name}", nearest(value, mistakes) | rest)


@parts("pathwise", "score function")
def q3(width_variances, fresh):
    for sign in (1, -1):
        a, b, c = (float(fresh.uniform(0.6, 2.5)) for _ in range(3))
        a = sign * a
        pair = width_variances(a, b, c)
        pair = expect.parts(pair, 2, "width_variances should return a pair: (pathwise, score function).")
        path, score = b**2 + 8 * c**2, 2 * (a + 4 * c) ** 2 + 10 * b**2 + 24 * c**2
        at = f"at a = {a:.2f}, b = {b:.2f}, c = {c:.2f}"
        deviation = "that is the standard deviation."
        moment = "that is the mean square. The variance takes the squared mean off, and the mean is 2c."
        with expect.part("pathwise"):
            expect.close(
                pair[0],
                path,
                f"the pathwise variance {at}",
                {
                    moment: b**2 + 12 * c**2,
                    "that is the noise in μ, times σ². In log σ each slope is multiplied by σε first.": 4
                    * c**2,
                    "b is missing: times ε, even a constant slope has noise.": 8 * c**2,
                    "Var[ε²] is 3 − 1 = 2, not 1.": b**2 + 4 * c**2,
                    "the derivative of ε² is 2ε: a factor 2 is missing before c.": b**2 + 2 * c**2,
                    "the two estimators have changed places: pathwise comes first.": score,
                    deviation: path**0.5,
                },
            )
        with expect.part("score function"):
            expect.close(
                pair[1],
                score,
                f"the score function's variance {at}",
                {
                    moment: score + 4 * c**2,
                    "that is the noise in μ, times σ². In log σ the score is another one.": (a + 2 * c) ** 2
                    + 2 * b**2
                    + 6 * c**2,
                    "log q also holds −log σ: its derivative belongs to the score.": 2 * a**2
                    + 20 * a * c
                    + 15 * b**2
                    + 74 * c**2,
                    "the mean a of f was taken off as a baseline. Here there is none: a costs too.": 10 * b**2
                    + 56 * c**2,
                    "the best baseline was taken off. Here there is none: a costs too.": 10 * b**2
                    + 24 * c**2,
                    "a term in ac is missing: with h = ε² − 1, a·h and c·h² are correlated, E[h³] = 8.": 2
                    * a**2
                    + 10 * b**2
                    + 56 * c**2,
                    "the term in ac is there once; a square has it twice.": 2 * a**2
                    + 8 * a * c
                    + 10 * b**2
                    + 56 * c**2,
                    "it is not the pathwise variance again.": path,
                    deviation: score**0.5,
                },
            )


def path_slopes(function, model, x, mu, log_var, eps):
    """Probe: the gradients of the sum of log w in mu and log_var."""
    mu, log_var = mu.clone().requires_grad_(), log_var.clone().requires_grad_()
    log_w = call(function, model, x, mu, log_var, eps)
    _attached(log_w, "log w")
    slopes = torch.autograd.grad(log_w.sum(), [mu, log_var], allow_unused=True)
    for slope, name in zip(slopes, ("mu", "log_var"), strict=True):
        expect.that(slope is not None, f"no gradient reaches `{name}`. It should, through z.")
    return list(slopes)


def theta_slope(function, model, x, mu, log_var, eps):
    """Probe: the gradient of the sum of log w in the model's W."""
    log_w = call(function, model, x, mu.clone().requires_grad_(), log_var.clone().requires_grad_(), eps)
    _attached(log_w, "log w")
    slope = torch.autograd.grad(log_w.sum(), model.W, allow_unused=True)[0]
    expect.that(slope is not None, "no gradient reaches the model's own W. Detach nothing of log p.")
    return slope


def log_weights(model, x, mu, log_var, eps, scale=0.5, power=0.5, cut="parameters"):
    """log w of the right form, or of one with mistakes. `power` None divides by log_var."""
    z = mu + (scale * log_var).exp() * eps
    z = z.detach() if cut == "z" else z
    m, v = mu, log_var
    m = m.detach() if cut in ("parameters", "mu", "eps") else m
    v = v.detach() if cut in ("parameters", "log_var", "eps") else v
    standard = (z - m) / (v if power is None else (power * v).exp())
    standard = standard.detach() if cut == "eps" else standard
    log_q = -0.5 * (standard**2 + v + math.log(2 * math.pi)).sum(-1)
    return model.prior().log_prob(z) + model.likelihood(z).log_prob(x) - log_q


def path_gradient(model, x, mu, log_var, eps):
    """The path term by hand: [in mu, in log_var], summed over the samples."""
    sd = (0.5 * log_var).exp()
    z = mu + sd * eps
    with torch.no_grad():
        pull = (x - z @ model.W.T - model.b) @ model.W / (2 * model.log_sigma).exp()
        slope = pull - z + eps / sd
    return [slope.sum(0), (slope * 0.5 * sd * eps).sum(0)]


@closes("gradients.path_derivative")
@parts("sample", "log q", "detach")
def q4(path_log_w, fresh):
    D, L, K, B = fresh.sizes(4)
    model = fresh.linear_gaussian(D, L)
    x, mu, eps = fresh.normal(B, D), fresh.normal(B, L), fresh.normal(K, B, L)
    log_var = fresh.uniform(-1.5, -0.4, B, L)
    problem = (model, x, mu, log_var, eps)

    def value(**slips):
        return log_weights(*problem, **slips).detach()

    wide = "the samples are spread by the variance. σ, the standard deviation, is exp(log_var / 2)."
    divisor = (
        "log q divides z − mu by the wrong thing. ε is what is left after dividing by σ = exp(log_var / 2)."
    )
    wide, divisor = expect.about(wide, "sample"), expect.about(divisor, "log q")
    both = "the values are wrong, before any gradient. What does `log_var.exp()` have for a unit?"
    log_q = -0.5 * (eps**2 + log_var + math.log(2 * math.pi)).sum(-1)
    found = path_log_w(*problem)
    with expect.part("sample", "log q"):
        expect.close(
            found,
            value(),
            "log w",
            nearest(
                found,
                {
                    wide: [value(scale=1.0)],
                    divisor: [value(power=None), value(power=1.0)],
                    both: [
                        value(scale=1.0, power=None),
                        value(scale=1.0, power=1.0),
                        value(scale=1.0, power=1.0) + 0.5 * log_var.sum(-1),
                    ],
                    "log q is added; log w is log p − log q.": [value() + 2 * log_q],
                    "log q is missing.": [value() + log_q],
                },
            ),
        )

    def slopes(cut, **slips):
        m, v = mu.clone().requires_grad_(), log_var.clone().requires_grad_()
        log_w = log_weights(model, x, m, v, eps, cut=cut, **slips)
        return torch.stack(torch.autograd.grad(log_w.sum(), [m, v]))

    # The right cut, with what may be wrong in the values.
    cut_only = {wide: slopes("parameters", scale=1.0)}
    for power in (None, 1.0):
        cut_only[expect.about(divisor, "log q")] = slopes("parameters", power=power)
        cut_only[expect.about(both, "sample", "log q")] = slopes("parameters", scale=1.0, power=power)
    sampled = (
        "nothing is cut. Path and score are both there: the sampled estimator. Which of the two routes does "
        "STL close, and where does it run?"
    )
    constant = (
        "the path through log q is missing, because ε is a constant there. STL holds q's parameters fixed in "
        "log q, and lets z move in it."
    )
    with expect.part("sample", "log q", "detach"):
        expect.close(
            torch.stack([torch.as_tensor(slope) for slope in path_log_w.run(path_slopes, *problem)]),
            torch.stack(path_gradient(*problem)),
            "the gradients of log w in mu and log_var",
            {
                expect.about(
                    "they are the score term alone. z is detached: the path is gone. Cut the other route.",
                    "detach",
                ): slopes("z"),
                expect.about(sampled, "detach"): slopes("none"),
                expect.about("`mu` is held fixed in log q, and `log_var` is not.", "detach"): slopes("mu"),
                expect.about("`log_var` is held fixed in log q, and `mu` is not.", "detach"): slopes(
                    "log_var"
                ),
                expect.about(constant, "detach"): slopes("eps"),
            }
            | cut_only,
        )


def fitted(path, eps, apart=True, constant=True, slopes=True):
    """h - Λε averaged over the samples, or (not slopes) the fit's constant. apart: fitted on the others."""
    K = len(eps)
    columns = torch.cat([torch.ones_like(eps[..., :1]), eps], -1) if constant else eps
    total = 0
    for k in range(K):
        others = torch.arange(K) != k if apart else torch.ones(K, dtype=torch.bool)
        X, Y = columns[others].transpose(0, 1), path[others].transpose(0, 1)
        fit = torch.linalg.lstsq(X, Y).solution
        slope = fit[:, -eps.shape[-1] :]
        total = total + (path[k] - torch.einsum("bi,bij->bj", eps[k], slope) if slopes else fit[:, 0])
    return total / K


def alone(path, eps, apart):
    """As `fitted`, each coordinate on its own."""
    each = [fitted(path[..., i : i + 1], eps[..., i : i + 1], apart) for i in range(eps.shape[-1])]
    return torch.cat(each, -1)


def affine(fresh, K, B, L):
    """path = g + Mε with its own g and M for each data point: g (B, L), M (B, L, L), path and eps."""
    g, M, eps = 2 * fresh.normal(B, L), fresh.normal(B, L, L), fresh.normal(K, B, L)
    return g, M, g + torch.einsum("bij,kbj->kbi", M, eps), eps


def q5(landed, fresh):
    L, B = fresh.sizes(2, 2, 6)
    K = fresh.integer(14, 17)
    g, M, path, eps = affine(fresh, K, B, L)
    mean, moments = eps.mean(0), torch.einsum("kbi,kbj->bij", path, eps)  # a sum over the samples

    def minus(matrix):
        return path.mean(0) - torch.einsum("bij,bj->bi", matrix, mean)

    rows = torch.cat([torch.ones_like(eps[..., :1]), eps], -1).flatten(0, 1)
    pooled = torch.linalg.lstsq(rows, path.flatten(0, 1)).solution[1:].mT
    found = landed(path, eps)
    expect.close(
        found,
        g,
        "landed, for a path affine in eps",
        nearest(
            found,
            {
                "that is the plain mean of the path terms, STL's gradient: nothing was taken off.": [
                    path.mean(0)
                ],
                "without a column of ones the slopes must stand in for ĝ too. Fit a constant as well.": [
                    fitted(path, eps, constant=False),
                    fitted(path, eps, constant=False, apart=False),
                ],
                "Λ was used transposed. In X β = Y the samples are rows: which axis of β is ε's?": [
                    minus(M.mT)
                ],
                "Λε was added. Subtract it.": [minus(-M)],
                "one fit served all data points. Each has its own matrix: B is a batch axis of the fit.": [
                    minus(pooled.expand(B, L, L))
                ],
                "each coordinate was fitted to its own ε. Λ is a full matrix: latents may be coupled.": [
                    alone(path, eps, apart=True),
                    alone(path, eps, apart=False),
                    minus(torch.diag_embed(M.diagonal(dim1=1, dim2=2))),
                ],
                "Λ̂ is a moment, the mean of h εᵀ: right on average, but not a fit, as it is not exact for "
                "an "
                "affine h. Use least squares.": [
                    minus(moments / K),
                    minus(moments / (K - 1)),
                    minus(moments / (K - 1)) + (path * eps.square().sum(-1, True)).mean(0) / (K - 1),
                ],
                "the fitted constant was subtracted as well: nothing of g is left.": [torch.zeros_like(g)],
                "it is the sum over the samples; return their mean.": [K * g],
            },
        ),
    )

    # The same for every data point, and curved: only a Λ that has not seen its own ε stays unbiased.
    K, L, R = 14, 2, 2000
    g, bend = fresh.normal(L), fresh.uniform(0.7, 1.5, L)
    M, eps = fresh.normal(L, L), fresh.normal(K, R, L)
    path = g + eps @ M.T + bend * (eps**2 - 1)
    value = torch.as_tensor(landed(path, eps)).double()
    seen = fitted(path, eps, apart=False)
    expect.that(
        value.shape != seen.shape or not torch.allclose(value, seen, rtol=0, atol=1e-4),
        "landed is exact where path is affine, and biased where it is curved: Λ̂ has seen the sample that it "
        "is applied to. Fit it on the others.",
    )
    constants = fitted(path, eps, slopes=False).mean(0)
    expect.mean(
        value,
        g,
        "landed, for a path curved in eps",
        fitted(path, eps).std(0),
        {"that is the mean of the fitted constants ĝ. Each has seen its samples; use Λ̂ only.": constants},
    )
