"""Checks of chapter 9's exercises: what the ELBO does not want."""

import math

import torch
from torch import Tensor
from torch.distributions import Normal

from . import expect
from .answers import gradient_of, parts

BITS = "that is in bits. Take natural logarithms: nats."


def two(value, what: str):
    """The two results of a function that returns two."""
    return expect.parts(value, 2, f"{what} should return two results, in this order.")


def log_pairs(z, mean, std) -> Tensor:
    """log N(z_i; mean_j, std_j²), coordinate by coordinate: (M, N, L)."""
    return Normal(mean, std).log_prob(z.unsqueeze(1))


def log_q(z, mean, std) -> Tensor:
    """log of the mean over j of N(z_i; mean_j, diag std_j²): (M,)."""
    return log_pairs(z, mean, std).sum(-1).logsumexp(1) - math.log(len(mean))


def q1(log_aggregate, fresh):
    M, N, L = fresh.sizes(3)
    z, mean, std = fresh.normal(M, L), fresh.normal(N, L), fresh.uniform(0.5, 1.5, N, L)
    pairs, truth = log_pairs(z, mean, std), log_q(z, mean, std)
    at_once, underflow = pairs.sum(-1), torch.full_like(truth, -math.inf)
    spread = (std.square().mean(0) + mean.var(0, correction=0)).sqrt()
    expect.close(
        log_aggregate(z, mean, std),
        truth,
        "log_aggregate(z, mean, std)",
        {
            f"it is too high by log N = {math.log(N):.3f}. q(z) is the encoders' mean, not their sum.": (
                truth + math.log(N)
            ),
            "that is a mean of logarithms. q(z) is a mean of densities, and its logarithm comes last.": (
                at_once.mean(1)
            ),
            "you mixed each coordinate on its own: a product of L mixtures. Which encoder it was is "
            "one question for all coordinates: sum over them first.": (pairs.logsumexp(1) - math.log(N)).sum(
                -1
            ),
            "the coordinates are averaged. Their log-densities add up: q(z | x) is a product.": (
                pairs.mean(-1).logsumexp(1) - math.log(N)
            ),
            "`std` is taken for a variance.": log_q(z, mean, std.sqrt()),
            "`std` is squared where a standard deviation belongs.": log_q(z, mean, std**2),
            "log(2π)/2 is missing, once for each coordinate.": truth + 0.5 * L * math.log(2 * math.pi),
            "the sum runs over the codes. It should run over the encoders, one result for each code.": (
                at_once.logsumexp(0) - math.log(M)
            ),
            "that is the density. Its logarithm is missing.": truth.exp(),
            "that is one Gaussian with q(z)'s mean and variance. A mixture of Gaussians is no Gaussian.": (
                Normal(mean.mean(0), spread).log_prob(z).sum(-1)
            ),
            "that is the nearest encoder alone, without the others.": at_once.max(1).values - math.log(N),
        },
    )

    far = z + 90
    expect.close(
        log_aggregate(far, mean, std),
        log_q(far, mean, std),
        "log_aggregate of codes far from every encoder",
        {"it is -inf: every density underflowed to 0. The largest has to come out before `exp`.": underflow},
    )
    # Far out the encoders' shares are differences of large numbers, which an answer in float32 rounds.
    for codes, where, tolerance in ((z, "", 1e-5), (far, ", far from every encoder", 1e-2)):
        leaf = codes.clone().requires_grad_()
        expect.close(
            log_aggregate.run(gradient_of, codes, mean, std)[0],
            torch.autograd.grad(log_q(leaf, mean, std).sum(), leaf)[0],
            f"the gradient with respect to z{where}",
            {"no gradient reaches `z`. Is it detached somewhere?": torch.zeros_like(z)},
            tolerance,
        )


def kl(q, p) -> Tensor:
    """KL(q ‖ p) of tables, over the last axis; 0 log 0 = 0."""
    return (torch.special.xlogy(q, q) - torch.special.xlogy(q, p)).sum(-1)


def entropy(p) -> Tensor:
    return -torch.special.xlogy(p, p).sum(-1)


def table(fresh, *shape: int) -> Tensor:
    """Probabilities, normalised over the last axis."""
    return torch.softmax(1.5 * fresh.normal(*shape), -1)


def hard(encoder) -> Tensor:
    """The encoder with zeros: the last code is never used, and each row leaves out one of the others."""
    N, S = encoder.shape
    encoder = encoder.clone()
    encoder[:, -1] = 0
    encoder[torch.arange(N), torch.arange(N) % (S - 1)] = 0
    return encoder / encoder.sum(1, keepdim=True)


def exact_split(p_data, encoder, prior) -> tuple[Tensor, Tensor]:
    """I_q(x; z) and KL(q(z) ‖ p(z))."""
    q_z = p_data @ encoder
    return (p_data * kl(encoder, q_z)).sum(), kl(q_z, prior)


ZEROS = "it is nan: 0 log 0, or 0 / 0, came up. A code that is never used adds 0 (`torch.xlogy` knows)."
ABOVE = f"{ZEROS} Or did rounding push a pixel's probability above 1? `clamp` it."


@parts("information", "marginal")
def q2(split, fresh):
    N, S = fresh.sizes(2, 3, 7)
    p_data, encoder, prior = table(fresh, N), table(fresh, N, S), table(fresh, S)
    q_z, even = p_data @ encoder, encoder.mean(0)
    information, marginal = exact_split(p_data, encoder, prior)
    average = (p_data * kl(encoder, prior)).sum()
    given = two(split(p_data, encoder, prior), "split")
    with expect.part("information"):
        expect.close(
            given[0],
            information,
            "the mutual information",
            {
                BITS: information / math.log(2),
                "that is the average KL to the prior. Information compares q(z | x) with q(z).": average,
                "that is KL(q(z) ‖ p(z)): return the information first.": marginal,
                "all rows count alike. They occur with the probabilities `p_data`.": kl(encoder, even).mean(),
                "q(z) is an equal mean of the rows. They occur with the probabilities `p_data`.": (
                    p_data * kl(encoder, even)
                ).sum(),
                "the outer average counts all rows alike. They occur with the probabilities `p_data`.": kl(
                    encoder, q_z
                ).mean(),
                "the rows are summed. Average them with `p_data`.": kl(encoder, q_z).sum(),
                "that is the entropy of q(z). What is still open once x is known, H(z | x), has to "
                "go.": entropy(q_z),
                "that is H(z | x). Information is what x takes off H(z).": (p_data * entropy(encoder)).sum(),
            },
        )
    with expect.part("marginal"):
        expect.close(
            given[1],
            marginal,
            "KL(q(z) ‖ p(z))",
            {
                BITS: marginal / math.log(2),
                "that is KL(p(z) ‖ q(z)), the other way round.": kl(prior, q_z),
                "that is the average KL of the rows. Average the rows first: KL(q(z) ‖ p(z)) is of their "
                "mean.": (average),
                "q(z) is an equal mean of the rows. They occur with the probabilities `p_data`.": kl(
                    even, prior
                ),
                "that is the cross entropy. The entropy of q(z) has to go.": -(q_z * prior.log()).sum(),
            },
        )

    encoder = hard(encoder)
    given = two(split(p_data, encoder, prior), "split")
    names = "the mutual information", "KL(q(z) ‖ p(z))"
    for value, truth, what, part in zip(
        given, exact_split(p_data, encoder, prior), names, q2.parts, strict=True
    ):
        with expect.part(part):
            expect.close(value, truth, f"{what}, with zeros in the encoder", {ZEROS: math.nan})


def changes(c, r, L, v) -> dict[str, tuple[float, float]]:
    """What question 3 asks for: changes of I and of KL(q(z) ‖ p(z))."""
    return {
        "narrower": (0.0, L * math.log(c)),
        "copies": (0.0, 0.0),
        "fresh": (math.log(r), -math.log(r)),
        "shifted": (0.0, v**2 / 2),
    }


def told(value, truth: float, what: str, why: str, mistakes: dict[str, float]) -> None:
    """A predicted number is right, or the learner is told why it cannot be."""
    value, near = expect.number(value, what), 1e-5 * (1 + abs(truth))
    if not abs(value - truth) <= near:  # nan is not near either
        named = [text for text, other in mistakes.items() if abs(value - other) < near]
        expect.that(False, f"{what} is not {value:.3g}. {[*named, why][0]}")


@parts("narrower", "copies", "fresh", "shifted")
def q3(prediction, fresh):
    c, v = float(fresh.uniform(1.5, 9)), float(fresh.uniform(0.6, 4))
    r, L = fresh.sizes(2, 2, 9)
    truths = changes(c, r, L, v)
    said = expect.entries(prediction(c, r, L, v), truths, "`prediction` should return")
    full = "Before and after, z tells which row it came from, and no more can be told."
    why = {
        "narrower": (full, "The average KL holds -log s once for each coordinate, and I does not move."),
        "copies": (
            "Copies have one code: z tells which of the N rows it was, but not which copy.",
            "q(z) is a mean over the rows. Counting each of them r times over changes no mean.",
        ),
        "fresh": (
            "z tells which of the rows it was. How many nats is that, with N rows and with rN?",
            "The average KL stays, and it is the sum of the two.",
        ),
        "shifted": (full, "Look at E|z|²/2 in the average KL: the centres had mean 0. Then use the split."),
    }
    wide, log_c, log_r = L * math.log(c), math.log(c), math.log(r)
    mistakes = {
        "narrower": (
            {
                f"A density rises, not what z tells. {full}": wide,
                f"A narrower code has a higher density, and that is all. {full}": log_c,
            },
            {
                "The sign: a narrower code is further from the prior.": -wide,
                "Each of the L coordinates is narrower.": log_c,
                "The pressure is up: to be narrow costs, and information does not pay it.": 0.0,
            },
        ),
        "copies": (
            {"There are rN rows, but N different ones. z cannot tell copies apart.": log_r},
            {"It would fall by that if the rows were new. Copies leave q(z) as it was.": -log_r},
        ),
        "fresh": (
            {
                "I was at its ceiling, but the ceiling is the logarithm of the number of rows.": 0.0,
                "Information counts in logarithms: log rN, where log N was.": float(r),
            },
            {
                "More rows fill the gaps of q(z). The average KL stays, so what I gains is lost here.": 0.0,
                "The sign: the average KL stays, so what I gains is lost here.": log_r,
            },
        ),
        "shifted": (
            {f"The prior sees a shift, x and z do not: it moves all codes together. {full}": v**2 / 2},
            {
                "Half of that: the prior's density is exp(-|z|²/2).": v**2,
                "Its square counts: the prior's density is exp(-|z|²/2).": v / 2,
                "v is the length of the shift, however many coordinates there are.": L * v**2 / 2,
                "The prior stands still, and q(z) moves away from it.": 0.0,
            },
        ),
    }
    for name, truth in truths.items():
        with expect.part(name):
            pair = two(said[name], f'"{name}"')
            for k, what in enumerate(("the change of I", "the change of KL(q(z) ‖ p(z))")):
                told(pair[k], truth[k], f'"{name}": {what}', why[name][k], mistakes[name][k])


def q4(explosion_rate, fresh):
    for _ in range(3):
        c, s, beta, rho = (float(fresh.uniform(*ends)) for ends in ((1.5, 9), (0.3, 3), (1.3, 5), (0.4, 0.9)))
        D = fresh.integer(2, 60)
        gain, price = D / (4 * s**2), beta / (2 * rho**2)
        expect.close(
            explosion_rate(c, s, D, beta, rho),
            gain - price,
            f"explosion_rate({c:.2f}, {s:.2f}, {D}, {beta:.2f}, {rho:.2f})",
            {
                "every one of the D pixels earns, not one.": gain / D - price,
                "a factor 2: the reconstruction is -½ log σ² for each pixel, and log σ² falls as -b²/2.": 2
                * gain
                - price,
                "a factor 2: -½ times -b²/2 is b²/4.": gain / 2 - price,
                "the KL is subtracted.": gain + price,
                "β is missing.": gain - price / beta,
                "β weighs the KL, not the reconstruction.": beta * gain - price / beta,
                "β weighs the KL alone.": beta * gain - price,
                "the KL is paid once: z has one coordinate, however many pixels there are.": gain - D * price,
                "the KL is to a prior of standard deviation ρ: it holds (μ/ρ)².": gain - beta / 2,
                "ρ is a standard deviation: the KL holds (μ/ρ)².": gain - beta / (2 * rho),
                "the prior's variance belongs below: the KL holds (μ/ρ)²/2.": gain - beta * rho**2 / 2,
                "a factor 2: the KL holds (μ/ρ)²/2.": gain - 2 * price,
                "s is a standard deviation: what counts is b = μ/s, squared.": D / (4 * s) - price,
                "c does not come with μ: it adds -D log c, and over μ² that vanishes.": c**2 * gain - price,
                "c does not come with μ. It adds -D log c, and over μ² that vanishes.": gain / c**2 - price,
                "the reward alone. What does the KL cost?": gain,
                "the KL's price alone. What does the decoder earn?": -price,
            },
        )


def batch_estimate(z, mean, std, N, latents=torch.sum, axis=1, weights="right") -> tuple[Tensor, Tensor]:
    """Question 5's two estimates, right or with some of the mistakes that can be made."""
    B = len(z)
    pairs = latents(log_pairs(z, mean, std), -1)
    own = torch.eye(B, dtype=torch.bool)
    first, others = {
        "right": (1 / N, (1 - 1 / N) / (B - 1)),
        "equal": (1 / B, 1 / B),
        "over N": (1 / N, 1 / N),
        "out": (0, 1 / (B - 1)),
        "rest": (1 / N, 1 / (B - 1)),
        "scaled": (1 / N, (1 - 1 / N) / B),
        "shares": (1 / B, (1 - 1 / B) / (N - 1)),
        "others over B": (1 / N, 1 / B),
        "over both": (1 / (N * B), 1 / (N * B)),
    }[weights]
    log_weights = (own * first + ~own * others).double().log()
    log_q_z = (pairs + log_weights).logsumexp(axis)
    log_prior = Normal(0.0, 1.0).log_prob(z).sum(-1)
    return pairs.diagonal() - log_q_z, log_q_z - log_prior


@parts("latents", "encoders", "weights")
def q5(split_estimate, fresh):
    B, L = fresh.sizes(2, 3, 7)
    N = fresh.integer(20, 90)
    z, mean, std = fresh.normal(B, L), fresh.normal(B, L), fresh.uniform(0.5, 1.5, B, L)
    data = (z, mean, std, N)
    given = two(split_estimate(*data), "split_estimate")

    averaged = "the latents are averaged. log q(z | x) is a sum over them"
    codes = "for each encoder the sum runs over the codes. For each code it should run over the encoders"
    weights = (
        "every row of the batch has the same weight. As seen from z_i, one of them is there for certain, "
        "the others by a draw: how many rows of the data does each stand for?"
    )
    mean_, equal = dict(latents=torch.mean), dict(weights="equal")
    mistakes = {
        f"{averaged}.": mean_,
        f"{codes}.": dict(axis=0),
        weights: equal,
        f"{averaged}. Another of the three bugs is still there.": mean_ | dict(axis=0),
        f"{codes}. Another of the three bugs is still there.": equal | dict(axis=0),
        f"{weights} Another of the three bugs is still there.": mean_ | equal,
        f"{averaged}. The other two bugs are still there.": mean_ | equal | dict(axis=0),
        "the batch's sum is divided by N. That counts the N - B rows outside the batch as zeros.": dict(
            weights="over N"
        ),
        "z_i's own encoder is left out. It is one of the N that q(z) is made of.": dict(weights="out"),
        "the weights do not add up to one: the other rows together are N - 1 of N.": dict(weights="rest"),
        "the weights do not add up to one: the others in the batch are B - 1, not B.": dict(weights="scaled"),
        "the weights do not add up to one: row i takes 1/N of it, and the others share what is left.": dict(
            weights="others over B"
        ),
        "the weights do not add up to one: that is a mean over the batch, and then 1/N of it.": dict(
            weights="over both"
        ),
        "N and B have changed places in the weights.": dict(weights="shares"),
    }
    information, marginal = batch_estimate(*data)
    keys = {"latents": "latents", "encoders": "axis", "weights": "weights"}
    with expect.part(*q5.parts):
        expect.close(
            given[0],
            information,
            "the information",
            {
                expect.about(text, *(part for part, key in keys.items() if key in how)): batch_estimate(
                    *data, **how
                )[0]
                for text, how in mistakes.items()
            }
            | {
                BITS: information / math.log(2),
                "that is log q(z) - log p(z): return the information first.": marginal,
                "that is their mean. Return one number for each row of the batch.": information.mean(),
            },
        )
    with expect.part(*q5.parts, else_failed=True):
        expect.close(
            given[1],
            marginal,
            "the marginal KL",
            {
                "the prior's log-density is averaged over latents. It is a sum.": marginal
                + Normal(0.0, 1.0).log_prob(z).sum(-1)
                - Normal(0.0, 1.0).log_prob(z).mean(-1),
                "log p(z) has to go off: it is missing.": marginal + Normal(0.0, 1.0).log_prob(z).sum(-1),
                "that is log q(z | x) - log p(z), the two together.": information + marginal,
            },
        )


def some_images(fresh, N: int, D: int) -> Tensor:
    """N different images of D binary pixels."""
    numbers = fresh.uniform(0, 1, 2**D).argsort()[:N]
    return (numbers.unsqueeze(1) >> torch.arange(D)).remainder(2).double()


def best_reconstructions(p_data, images, encoder) -> tuple[Tensor, Tensor]:
    """E log p(x | z) with the best decoder of all, and with the best that makes pixels independent."""
    joint = p_data.unsqueeze(1) * encoder  # (N, S)
    q_z = joint.sum(0)
    some = q_z > 0
    joint, q_z = joint[:, some], q_z[some]
    pixels = (joint.T @ images / q_z.unsqueeze(1)).clamp(0, 1)  # (S, D): E[x_d | z]
    whole = -entropy(joint.flatten()) + entropy(q_z)
    return whole, -(q_z.unsqueeze(1) * (entropy(torch.stack((pixels, 1 - pixels), -1)))).sum()


@parts("any", "factorised")
def q6(best_elbos, fresh):
    N, D, S = fresh.sizes(3, 3, 7)
    p_data, images, prior = table(fresh, N), some_images(fresh, N, D), table(fresh, S)
    small = (p_data, images, table(fresh, N, S), prior)
    sparse = (p_data, images, hard(table(fresh, N, S)), prior)
    # A pixel that is always white: of 40 quotients of two equal sums, some are rounded to more than 1.
    white = torch.cat((some_images(fresh, 90, 7), torch.ones(90, 1)), 1)
    large = (table(fresh, 90), white, table(fresh, 90, 40), table(fresh, 40))
    for (p_data, images, encoder, prior), zeros in (
        (small, ""),
        (sparse, ", with zeros in the encoder"),
        (large, ", with a pixel that is always white"),
    ):
        N, D = images.shape
        given = two(best_elbos(p_data, images, encoder, prior), "best_elbos")
        information, marginal = exact_split(p_data, encoder, prior)
        average = information + marginal
        whole, factorised = best_reconstructions(p_data, images, encoder)
        even = torch.full_like(p_data, 1 / N)
        with expect.part("any"):
            expect.close(
                given[0],
                whole - average,
                f"the best ELBO with any decoder{zeros}",
                {
                    ZEROS: math.nan,
                    BITS: (whole - average) / math.log(2),
                    "that is the ceiling -H(p_D). Only encoders with q(z) = p(z) reach it.": -entropy(p_data),
                    "that decoder models x without a look at z, and the code is paid for all the same. "
                    "The best one makes use of what z tells.": -entropy(p_data) - average,
                    "that is the reconstruction. The KL has to go off.": whole,
                    "the information is not paid for: the KL term holds it.": whole - marginal,
                    "that is the factorised decoder's: any decoder comes first.": factorised - average,
                    "-log N is the ceiling where all images are equally likely. They have probabilities "
                    "`p_data`.": -math.log(N) - marginal,
                    "that pays I + KL(q(z) ‖ p(z)) twice over.": whole - 2 * average,
                },
            )

        q_z = p_data @ encoder
        pixels = encoder.T @ (p_data.unsqueeze(1) * images) / q_z.unsqueeze(1)
        blind = p_data @ images
        each = entropy(torch.stack((pixels, 1 - pixels), -1))  # (S, D)
        unweighted = (encoder / encoder.sum(0)).T @ images
        with expect.part("factorised"):
            expect.close(
                given[1],
                factorised - average,
                f"the best ELBO with a factorised decoder{zeros}",
                {
                    ABOVE: math.nan,
                    BITS: (factorised - average) / math.log(2),
                    "that is the decoder that is free to tie pixels together.": whole - average,
                    "that is the reconstruction. The KL has to go off.": factorised,
                    "only KL(q(z) ‖ p(z)) is taken off. For any decoder the information cancelled; here "
                    "the reconstruction does not hold it: the whole average KL goes.": factorised - marginal,
                    "those pixel means do not know z. The decoder sees the code: E[x_d | z].": -entropy(
                        torch.stack((blind, 1 - blind), -1)
                    ).sum()
                    - average,
                    "the white pixels alone. A black pixel has log(1 - m) to add.": (
                        q_z.unsqueeze(1) * torch.special.xlogy(pixels, pixels)
                    ).sum()
                    - average,
                    "the pixels are averaged. Their log-probabilities add up.": factorised / D - average,
                    "all codes count alike. They occur with the probabilities q(z).": -each.sum(1).mean()
                    - average,
                    "the codes count by the prior. Under q(x, z) they occur with the probabilities q(z).": -(
                        prior @ each
                    ).sum()
                    - average,
                    "the pixel means take all images as equally likely. q(x | z) holds `p_data` too.": (
                        torch.special.xlogy(pixels, unweighted)
                        + torch.special.xlogy(1 - pixels, 1 - unweighted)
                    )
                    .sum(1)
                    .mul(q_z)
                    .sum()
                    - average,
                    "p_data was left out, all images count alike.": best_reconstructions(
                        even, images, encoder
                    )[1]
                    - sum(exact_split(even, encoder, prior)),
                    "all images count alike in the pixel means and in q(z). They have probabilities "
                    "`p_data`.": (best_reconstructions(even, images, encoder)[1] - average),
                },
            )
