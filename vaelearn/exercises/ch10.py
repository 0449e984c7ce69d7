"""Checks of chapter 10's exercises: InfoVAE and MMD."""

from itertools import compress

import torch

from ..divergences import _mean_of_pairs
from . import expect
from .answers import Wrong, closes, gradient_of, parts


def refuses(answer, *args) -> bool:
    """Whether the answer raises ValueError."""
    try:
        answer(*args)
    except Wrong as wrong:
        if "ValueError" in wrong.raised:
            return True
        raise
    return False


def allowed(answer, *args, message: str):
    """What the answer returns; Wrong(message) where it raises ValueError."""
    try:
        return answer(*args)
    except Wrong as wrong:
        expect.that("ValueError" not in wrong.raised, message)
        raise


def squares(z, y):
    return (z[:, None] - y).square().sum(-1)


def signed(sign, draw, estimate):
    """A draw for which the unbiased estimate of MMD², of at least 0.001, has this sign."""
    for _ in range(200):
        sample = draw()
        if sign * estimate(*sample) > 1e-3:
            break
    return sample


def biased(truth):
    """What may be made of a negative estimate, and should not."""
    negative = "An unbiased estimate of a square may be negative"
    return {
        f"you clamped it at 0. {negative}; clamped it is biased.": 0.0,
        f"you took its absolute value. {negative}.": -truth,
    }


@closes("divergences.imq", "divergences._gram")
def q1(imq, fresh):
    N, M, L = fresh.sizes(3)
    z, y, h = fresh.normal(N, L), fresh.normal(M, L), float(fresh.uniform(1.3, 2.5))
    C, s = h**2, squares(z, y)
    truth = C / (C + s)
    mistakes = {
        "C is h², and you used h.": h / (h + s),
        "the distance is not squared.": C / (C + s.sqrt()),
        "that is the RBF kernel. This one falls like a power of the distance, not exponentially.": torch.exp(
            -s / (2 * C)
        ),
        "the squared distance is a sum over dimensions, not their mean.": C / (C + s / L),
        "at distance 0 a kernel like this is 1; yours is 1 / C. Look at the numerator.": 1 / (C + s),
        "it does not know h: C is h², not 1.": 1 / (1 + s),
        "it is transposed: rows belong to z, columns to y.": truth.T,
        "that is the square root of it, another member of the family.": truth.sqrt(),
        "it is 1 far away and 0 nearby: a kernel says how alike two points are.": s / (C + s),
        "C is h², not 2h². The 2 is the RBF kernel's.": 2 * C / (2 * C + s),
    }
    expect.close(imq(z, y, h), truth, "imq(z, y, h)", mistakes)
    slope = imq.run(gradient_of, torch.cat([z, z[:1]]), z, h)[0]
    expect.that(
        bool(torch.as_tensor(slope).isfinite().all()),
        "the gradient of imq is nan where two points coincide. A square root of the squared distance "
        "has an infinite slope at 0: do without it.",
    )


def q2(weights, fresh):
    price = [float(fresh.uniform(*ends)) for ends in ((0.1, 0.4), (1.2, 2.0))]
    both = "both weights are positive"
    for a, b, why in (
        (price[0], price[0] + float(fresh.uniform(0.3, 60)), both),
        (price[1], price[1] + float(fresh.uniform(0.3, 60)), both),
        (price[0], price[0], "0 is not negative, and equal prices make a β-VAE"),
        (0.0, price[1], "0 is not negative, and where information is free we have the WAE's weights"),
    ):
        what = f"weights({a:.2f}, {b:.2f})"
        pair = allowed(weights, a, b, message=f"{what} is allowed: {why}.")
        pair = expect.parts(pair, 2, f"{what} should be a pair (u, w).")
        expect.close(
            [expect.number(value, f"{name}, of {what},") for value, name in zip(pair, "uw", strict=True)],
            torch.tensor([a, b - a]).double(),
            what,
            {
                "the average KL holds a mismatch already: E KL(q(z | x) ‖ p(z)) = I + KL(q(z) ‖ p(z)). "
                "So the mismatch is charged u + w, not w.": torch.tensor([a, b]).double(),
                "those are α and λ. Asked for are the factors of the two terms.": torch.tensor(
                    [1 - a, b]
                ).double(),
                "the first is α. The factor of the KL is 1 − α.": torch.tensor([1 - a, b - a]).double(),
                "a is the price 1 − α, not α.": torch.tensor([1 - a, a + b - 1]).double(),
                "the second is right if 1 − α is 1, as in the ELBO. Here u pays for another part of the "
                "mismatch.": torch.tensor([a, b - 1]).double(),
                "u + w is the price of mismatch: which of them must be taken off?": torch.tensor(
                    [a, b + a]
                ).double(),
                "w has the opposite sign: this would reward mismatch.": torch.tensor([a, a - b]).double(),
                "the two are swapped: u belongs to the KL of single codes.": torch.tensor(
                    [b - a, a]
                ).double(),
            },
        )
    a = float(fresh.uniform(0.5, 1.5))
    b = a * float(fresh.uniform(0.01, 0.7))
    expect.that(
        refuses(weights, a, b),
        f"weights({a:.2f}, {b:.2f}) must raise a ValueError: the divergence's weight would be {b - a:.2f}. "
        "For the exact KL that is only algebra (a mismatch still costs b); another D could then reward one.",
    )
    expect.that(
        refuses(weights, -a, b),
        f"weights({-a:.2f}, {b:.2f}) must raise a ValueError: the KL's weight would be negative.",
    )


@parts("mean of U", "floor of V", "spread of U, q = p", "spread of U, q != p", "divided twice")
def q3(factors, fresh):
    for c in (fresh.integer(2, 4), fresh.integer(5, 30)):
        _factors(factors, c)


def _factors(factors, c):
    inverse = "at c > 1 this grows. More points make an estimate steadier, not larger."
    unbiased = "U is unbiased: its mean is MMD², whatever N is."
    floor = "V's floor is (1/N + 1/M)(1 − E k): one pair in N is a point with itself."
    pairs = (
        "this holds for an ordinary mean. Where q = p the terms of first order vanish; "
        "only pairs scatter, and there are about N² of them."
    )
    ordinary = (
        "this holds where q = p. Elsewhere each code moves U by E k(z, z̃) − E k(z, y) at its place, so U "
        "scatters like an ordinary mean."
    )
    twice = "the mean over pairs does not shrink with N; the further division by N(N − 1) does. How fast?"
    truths = {
        "mean of U": (1.0, {unbiased: 1 / c, unbiased + " Its spread shrinks.": c**-0.5, twice: c**-2}),
        "floor of V": (
            1 / c,
            {
                floor: 1.0,
                floor + " It is a mean, not a spread.": c**-0.5,
                floor + " There are N such pairs among N².": c**-2,
                inverse: c,
            },
        ),
        "spread of U, q = p": (
            1 / c,
            {pairs: c**-0.5, "that is the variance's factor; the spread is its root.": c**-2, inverse: c},
        ),
        "spread of U, q != p": (
            c**-0.5,
            {ordinary: 1 / c, "a larger batch does scatter less.": 1.0, inverse: c**0.5},
        ),
        "divided twice": (
            c**-2,
            {
                twice: 1 / c,
                "the right estimate would not change; this one is divided by N(N − 1) once more.": 1.0,
                "that is the factor by which λ would have to grow to make up for it.": c**2,
            },
        ),
    }
    said = expect.entries(factors(c), truths, "`factors` should return")
    for name, (truth, mistakes) in truths.items():
        with expect.part(name):
            expect.close(said[name], truth, f'factors({c:g})["{name}"]', mistakes)


def mmds(z, y, h):
    """What the repaired and the broken cells make of the MMD."""
    k, n = (lambda a, b: torch.exp(-squares(a, b) / (2 * h**2))), len(z)
    qq, pp, qp = k(z, z), k(y, y), k(z, y)

    def thinned(k):
        return _mean_of_pairs(k) * (len(k) - 1) / len(k)

    u = _mean_of_pairs(qq) + _mean_of_pairs(pp) - 2 * qp.mean()
    v = qq.mean() + pp.mean() - 2 * qp.mean()
    with_diagonal = qq.sum() / (n * (n - 1)) + pp.sum() / (len(y) * (len(y) - 1)) - 2 * qp.mean()
    return {
        "": u,
        "the diagonal is still in: each point's pair with itself counts as alike.": v,
        "it is divided twice: by N² in the mean already, then by N(N − 1) on top.": v / (n * (n - 1)),
        "it is divided twice: the mean over pairs has divided already.": u / (n * (n - 1)),
        "N(N − 1) is right only for the sum without its diagonal; the diagonal is still in.": with_diagonal,
        "the diagonal is out of the sum but still in the count: N(N − 1) pairs are left.": (
            thinned(qq) + thinned(pp) - 2 * qp.mean()
        ),
        "the term across the two samples counts twice in MMD².": u + qp.mean(),
    }


@parts("bandwidth", "diagonal", "weight")
def q4(infovae_loss, fresh):
    B, M, L = fresh.sizes(3, 5, 9)  # L = 4 would make two mistakes one: 2 √L = L
    nothing, alpha, lam = torch.zeros(B).double(), float(fresh.uniform(0.2, 0.8)), float(fresh.uniform(2, 9))
    weight = alpha + lam - 1

    def estimate(z, y):
        return mmds(z, y, L**0.5)[""]

    z, y = signed(1, lambda: (0.7 + fresh.normal(B, L), fresh.normal(M, L)), estimate)
    alone = infovae_loss(nothing, nothing, z, y, alpha, lam)
    log_likelihood, kl = 3 * fresh.normal(B) - 80, 5 + fresh.normal(B).abs()
    whole = infovae_loss(log_likelihood, kl, z, y, alpha, lam)
    rec, mean = log_likelihood.mean(), kl.mean()
    expect.close(
        torch.as_tensor(whole) - torch.as_tensor(alone),
        -rec + (1 - alpha) * mean,
        "what log_likelihood and kl add to the loss",
        {
            "the KL has the factor α; it should be 1 − α.": -rec + alpha * mean,
            "the KL has the factor 1; it should be 1 − α.": -rec + mean,
            "the KL is summed over the data points. The objective is a mean: this hides a weight.": (
                -rec + (1 - alpha) * B * mean
            ),
            "the reconstruction is summed over the data points. The objective is a mean: this hides a "
            "weight.": -B * rec + (1 - alpha) * mean,
            "the data points are summed, and the divergence is not: that is a hidden weight. Take means.": B
            * (-rec + (1 - alpha) * mean),
            "the reconstruction has the wrong sign: this is a loss.": rec + (1 - alpha) * mean,
            "that is the objective. A loss goes down where the objective goes up.": rec - (1 - alpha) * mean,
        },
    )

    widths = (
        ("", L**0.5),
        ("the bandwidth ignores the latent dimension: two prior draws lie √(2L) apart.", 1.0),
        ("the library's h is √L, not L.", L),
        ("the library's h is √L, so h² is L, not √L.", L**0.25),
        ("the exponent is −‖z − y‖² / 2h², with the 2.", (L / 2) ** 0.5),
    )
    factors = (
        ("", weight),
        ("the divergence's weight is α + λ − 1, not λ.", lam),
        ("the divergence's weight has the wrong sign.", -weight),
        ("the divergence's weight is α + λ − 1; the 1 is missing.", alpha + lam),
        ("the divergence's weight is α + λ − 1; α is missing.", lam - 1),
        ("the divergence's weight is α + λ − 1; α has the wrong sign.", lam - alpha),
    )
    wrong = {}
    for about_h, width in widths:
        for about_weight, factor in factors:
            for about_mmd, value in mmds(z, y, width).items():
                bugs = about_h, about_weight, about_mmd
                costs = compress(("bandwidth", "weight", "diagonal"), bugs)
                wrong[expect.about(_first(*bugs), *costs) if any(bugs) else ""] = factor * value
    truth = wrong.pop("")
    with expect.part(*q4.parts):
        expect.close(alone, truth, "the loss where log_likelihood and kl are 0", wrong)
    leaf = z.clone().requires_grad_()
    with expect.part(*q4.parts, else_failed=True):
        expect.close(
            infovae_loss.run(gradient_of, log_likelihood, kl, z, y, alpha, lam)[2],
            torch.autograd.grad(weight * estimate(leaf, y), leaf)[0],
            "the loss's gradient with respect to the codes",
            {"no gradient reaches the codes from the divergence.": torch.zeros_like(z)},
        )

    z, y = signed(-1, lambda: (fresh.normal(B, L), fresh.normal(M, L)), estimate)
    truth = weight * estimate(z, y)
    with expect.part(*q4.parts, else_failed=True):
        expect.close(
            infovae_loss(nothing, nothing, z, y, alpha, lam),
            truth,
            "the loss where the estimate of MMD² is negative",
            biased(truth),
        )
    with expect.part("weight"):
        expect.that(
            refuses(infovae_loss, nothing, nothing, z, y, 0.0, 1e-3),
            "infovae_loss must raise a ValueError at α = 0, λ = 0.001: the divergence's weight would be "
            "−0.999, and training could reward a mismatch.",
        )
        for a, b, why in (
            (0.0, 1.0, "the divergence's weight is 0, not negative. That is the plain ELBO"),
            (1.5, 1.0, "only the divergence's weight counts, and it is 1.5"),
            (-0.5, 3.0, "only the divergence's weight counts, and it is 1.5. The KL counts 1.5 times too"),
        ):
            at = f"α = {a}, λ = {b}"
            message = f"infovae_loss must not raise a ValueError at {at}: {why}."
            value = allowed(infovae_loss, nothing, nothing, z, y, a, b, message=message)
            with expect.part(*q4.parts, else_failed=True):
                expect.close(value, (a + b - 1) * estimate(z, y), f"the loss at {at}, with no other terms")


def _first(*bugs):
    """The first bug by name, of the others only how many there are."""
    first, *others = [bug for bug in bugs if bug] or [""]
    return first + ("", " One more is still there.", " Two more are still there.")[len(others)]


def q5(favourite_variance, fresh):
    for _ in range(3):
        N, L = fresh.integer(5, 200), fresh.integer(3, 40)
        truth = N / (N + L + 1)
        expect.close(
            favourite_variance(N, L),
            truth,
            f"favourite_variance({N}, {L})",
            {
                "that is s. Asked for is the variance, s².": truth**0.5,
                "that is MMD²'s own minimum, the U-statistic's. The diagonal of V moves it.": 1.0,
                "nearly: only N(N − 1) of the N² pairs are pairs of different codes.": N / (N + L + 2),
                "E ‖z‖⁴ is not (E ‖z‖²)²: a squared length scatters.": N / (N + L - 1),
                "nearly. By how much is E ‖z‖⁴ = L(L + 2) more than the L of two different codes?": (
                    N / (N + L)
                ),
                "the diagonal is not 1 here: k(z, z) = ‖z‖⁴.": N / (N - 1),
                "the prior's diagonal does not depend on s. Only the codes' own counts.": N
                / (N + 2 * (L + 1)),
                "that is wider than the prior. The diagonal E ‖z‖⁴ grows with s: which way does it push?": (
                    (N + L + 1) / N
                ),
                "a factor L is left over: it divides every term of E V.": N / (N + L * (L + 1)),
                "that leaves the factor 2 of the term across the samples out.": truth / 2,
            },
        )


@closes("divergences.mmd", "divergences._gram", "divergences.rbf")
def q6(mmd_to_prior, fresh):
    N, L = fresh.sizes(2, 3, 8)
    h = float(fresh.uniform(1.2, 2.5))

    def e(square, v):
        return (h**2 / (h**2 + v)) ** (L / 2) * torch.exp(
            -torch.as_tensor(square, dtype=torch.float64) / (2 * (h**2 + v))
        )

    def terms(z):
        k = torch.exp(-squares(z, z) / (2 * h**2))
        return _mean_of_pairs(k), e(z.square().sum(1), 1).mean(), e(0.0, 2), k

    def estimate(z):
        pairs, across, last, _ = terms(z)
        return pairs - 2 * across + last

    (z,) = signed(1, lambda: (0.4 + 0.8 * fresh.normal(N, L),), estimate)
    size, truth = z.square().sum(1), estimate(z)
    pairs, across, last, k = terms(z)
    first, second = mmd_to_prior(z, h), mmd_to_prior(z, h)
    expect.that(
        bool(torch.equal(torch.as_tensor(first), torch.as_tensor(second))),
        "mmd_to_prior gives another value at each call for the same codes: it still draws from the prior. "
        "Put the expectation in the draws' place.",
    )
    one, power = (h**2 / (h**2 + 1)), (h**2 / (h**2 + 2))
    expect.close(
        first,
        truth,
        "mmd_to_prior(z, h)",
        {
            "the diagonal is still in: each code's pair with itself counts as alike.": k.mean()
            - 2 * across
            + last,
            "N(N − 1) is right only without the diagonal, which is still in the sum.": k.sum() / (N * (N - 1))
            - 2 * across
            + last,
            "the prior's own term, E k(y, ỹ), is missing.": pairs - 2 * across,
            "the term across counts twice in MMD².": pairs - across + last,
            "once the code is fixed, z − y ~ N(z, I): its variance is 1, not 2.": pairs
            - 2 * e(size, 2).mean()
            + last,
            "two prior draws differ by N(0, 2I): the variance in the last term is 2.": pairs
            - 2 * across
            + e(0.0, 1),
            "you put the prior's mean in the place of its draws. E k(z, y) is not k(z, E y).": pairs
            - 2 * torch.exp(-size / (2 * h**2)).mean()
            + 1,
            "you put the prior's mean in the place of its draws. E k(z, y) is not k(z, E y): the exponent "
            "and a factor change.": pairs - 2 * torch.exp(-size / (2 * h**2)).mean() + last,
            "the exponent belongs to the wider bell: ‖z‖² / 2(h² + 1).": pairs
            - 2 * one ** (L / 2) * torch.exp(-size / (2 * h**2)).mean()
            + last,
            "the factor before the exponential is missing in the term across.": pairs
            - 2 * torch.exp(-size / (2 * (h**2 + 1))).mean()
            + last,
            "the powers should be L / 2: a root for each dimension.": pairs
            - 2 * one**L * torch.exp(-size / (2 * (h**2 + 1))).mean()
            + power**L,
            "the power L / 2 is missing: one factor for each dimension.": pairs
            - 2 * one**0.5 * torch.exp(-size / (2 * (h**2 + 1))).mean()
            + power**0.5,
            "the root of e's factor is missing: the powers should be L / 2, not 1.": pairs
            - 2 * one * torch.exp(-size / (2 * (h**2 + 1))).mean()
            + power,
            "the last two terms have their signs swapped.": pairs + 2 * across - last,
        },
    )
    leaf = z.clone().requires_grad_()
    expect.close(
        mmd_to_prior.run(gradient_of, z, h)[0],
        torch.autograd.grad(estimate(leaf), leaf)[0],
        "the gradient of mmd_to_prior with respect to z",
    )
    (z,) = signed(-1, lambda: (fresh.normal(N, L),), estimate)
    truth = estimate(z)
    expect.close(mmd_to_prior(z, h), truth, "mmd_to_prior where the estimate is negative", biased(truth))
