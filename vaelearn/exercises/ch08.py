"""Checks of chapter 8's exercises: better estimators."""

import itertools
import math

import torch

from .. import bounds
from ..gradients import geometric_mean_bound, path_derivative
from . import expect
from .answers import Wrong, call, closes, must_carry_gradient, parts
from .fresh import drawn


def two_gradients(function, model, x, K, seed):
    """Probe: from (e_step, m_step) = function(draw), e_step's gradient in φ and m_step's in θ, flattened."""
    losses = call(function, drawn(model, x, (K, 1), seed))
    expect.that(
        isinstance(losses, (tuple, list)) and len(losses) == 2,
        "it should return two losses, (e_step, m_step).",
    )
    phi, theta = model.inference_parameters(), model.generative_parameters()
    return [flat_gradient(loss, part) for loss, part in zip(losses, (phi, theta), strict=True)]


def flat_gradient(loss, parameters):
    expect.that(
        isinstance(loss, torch.Tensor) and loss.numel() == 1,
        "each loss should be one number, a tensor of shape (): the mean over the data points.",
    )
    must_carry_gradient(loss, "a loss")
    found = torch.autograd.grad(loss.sum(), parameters, retain_graph=True, materialize_grads=True)
    return torch.cat([g.flatten() for g in found])


def tuple_gradients(function, logits, log_joint, index):
    """Probe: gradients of function(log_w, log_q), (T,), in q's logits, (T, C), and in log p(x, z), (K, T).

    index (K, T): K components for each of T data points; logits and log_joint (T, C).
    """
    logits = logits.clone().requires_grad_()
    log_q = logits.log_softmax(-1).T.gather(0, index)
    joint = log_joint.T.gather(0, index).requires_grad_()
    surrogate = call(function, joint - log_q, log_q)
    T = index.shape[1]
    expect.that(
        isinstance(surrogate, torch.Tensor) and surrogate.squeeze().shape == (T,),
        f"from log_w and log_q of shape {tuple(index.shape)} it should return a tensor of shape {(T,)}.",
    )
    must_carry_gradient(surrogate, "its result")
    return list(torch.autograd.grad(surrogate.sum(), (logits, joint), materialize_grads=True))


@parts("iwae", "dreg", "stl", "rws")
def q1(coefficients, fresh):
    for shift in (0.0, -900.0):
        K, B = fresh.sizes(2)
        log_w = 1.5 * fresh.normal(K, B) + shift
        w, zero = torch.softmax(log_w, 0), torch.zeros(K, B)
        across = torch.softmax(log_w, 1)
        where = " near log-weights of -900" if shift else ""
        worst = "the weights are a softmax of −log w: the worst sample counts most."
        upside_down = torch.softmax(-log_w, 0)
        batch = "the weights are normalised over the data points, not over the samples."
        square = (
            "that is w̃ where DReG has another power of it: what is left of w̃ when the score is rewritten?"
        )
        kept = "w̃ − w̃² is what the score turns into. It is subtracted from the path's own w̃."
        climbs = "as an ascent direction its sign is wrong: q should become larger where the weights are."
        truth = {
            "iwae": (
                (
                    w,
                    {
                        worst: upside_down,
                        batch: across,
                        "that is DReG's.": w**2,
                        "its sign is a loss's. Here φ ascends.": -w,
                    },
                ),
                (
                    -w,
                    {
                        "its sign: log q stands in the denominator of w.": w,
                        "the score of IWAE does not vanish sample by sample.": zero,
                        batch: -across,
                    },
                ),
            ),
            "dreg": (
                (
                    w**2,
                    {
                        square: w,
                        kept: w - w**2,
                        "the squares are not normalised again: they do not sum to one.": w**2 / (w**2).sum(0),
                        batch: across**2,
                    },
                ),
                (zero, {"no score is left in DReG: it was turned into a slope.": -w, "no score is left.": w}),
            ),
            "stl": (
                (w, {"that is DReG's. STL only drops the score, and leaves the path as it was.": w**2}),
                (zero, {"the score is what STL drops.": -w}),
            ),
            "rws": (
                (
                    zero,
                    {
                        "the wake phase takes no gradient through the samples: there is no path.": w,
                        "that is the doubly reparameterized wake phase, with the same mean. Here its "
                        "score form is asked for.": w - w**2,
                    },
                ),
                (
                    w,
                    {
                        climbs: -w,
                        "the weights enter once, not squared.": w**2,
                        "the samples count equally there. The weights are the point.": torch.full(
                            (K, B), 1 / K
                        ),
                        worst: upside_down,
                        batch: across,
                    },
                ),
            ),
        }
        said = expect.entries(coefficients(log_w), truth, "coefficients should return")
        for name, terms in truth.items():
            with expect.part(name):
                ask = f'coefficients(log_w)["{name}"] should be a pair, (factor of path, factor of score).'
                pair = expect.parts(said[name], 2, ask)
                for term, value, (factor, mistakes) in zip(("path", "score"), pair, terms, strict=True):
                    what = f"the factor of {term} in {name!r}{where}"
                    expect.close(_spread(value, K, B, what), factor, what, mistakes)


def _spread(value, K, B, what):
    """A number such as 0 may stand for a whole table."""
    try:
        value = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(f"{what} should be numbers.") from None
    return value.expand(K, B) if value.numel() == 1 else value


@parts("iwae_snr", "dreg_noise", "dreg_snr", "stl_error", "rws_bias", "rws_snr")
def q2(factors, fresh):
    for _ in range(3):
        c = float(fresh.uniform(1.5, 6))
        root = math.sqrt(c)
        square = "that is the factor of its square."
        truth = {
            "iwae_snr": (
                1 / root,
                {
                    "that is the signal alone. The noise falls too.": 1 / c,
                    "that is the decoder's. The encoder's signal sinks faster than its noise.": root,
                    "signal and noise do not fall alike.": 1.0,
                },
            ),
            "dreg_noise": (
                c**-1.5,
                {
                    "that is how IWAE's noise falls. DReG's has a 1/K in front, as its signal has.": 1 / root,
                    "that is how the signal falls. The noise averages out on top of that.": 1 / c,
                    "that is the variance.": c**-3,
                },
            ),
            "dreg_snr": (
                root,
                {
                    "that is IWAE's. DReG's noise sinks faster than the signal that they share.": 1 / root,
                    "that is the noise's 1/√K³ without the signal's 1/K.": c**1.5,
                    square: c,
                    "signal and noise do not fall alike.": 1.0,
                },
            ),
            "stl_error": (
                c,
                {
                    "the distance hardly changes, but the gradient that it is measured by sinks.": 1.0,
                    "a bias is not noise; compare what it tends to with what the gradient tends to.": root,
                    "more samples do not cure a dropped term: its mean does not vanish.": 1 / c,
                    "more samples do not cure a dropped term; its mean does not vanish.": 1 / root,
                },
            ),
            "rws_bias": (
                1 / c,
                {
                    "that is how noise falls. The bias of a ratio of means falls faster.": 1 / root,
                    "self-normalised weights are a ratio of means, and its bias does vanish.": 1.0,
                },
            ),
            "rws_snr": (
                root,
                {
                    "that is IWAE's. The mean of the wake phase's gradient does not sink with K.": 1 / root,
                    square: c,
                    "its noise falls, and its mean does not.": 1.0,
                },
            ),
        }
        said = expect.entries(factors(c), truth, "factors should return")
        for name, (factor, mistakes) in truth.items():
            # 5e-5: a factor that was rounded to four digits is a right answer.
            with expect.part(name):
                expect.close(said[name], factor, f'factors({c:.3f})["{name}"]', mistakes, tolerance=5e-5)


def landings(v, rho):
    """Where the three methods leave d: the truth of question 3."""
    return v * (1 - rho**2), v, v * (3 + math.sqrt(1 + 8 * rho**2)) / 4


@parts("elbo", "stl", "dreg")
def q3(landing, fresh):
    for _ in range(3):
        v, rho = float(fresh.uniform(0.5, 3)), float(fresh.uniform(0.35, 0.85))
        rho = rho * fresh.choice((-1, 1))
        elbo, stl, dreg = landings(v, rho)
        root = "that is a standard deviation: d is a variance."
        truth = {
            "elbo": (
                elbo,
                {
                    "that is the posterior's marginal variance. KL(q ‖ p) asks for less: q must avoid places "
                    "where p is small.": stl,
                    "that is a precision.": 1 / elbo,
                    "that is the smallest eigenvalue, the variance across the ridge. KL weighs both "
                    "directions.": v * (1 - abs(rho)),
                    root: math.sqrt(elbo),
                },
            ),
            "stl": (
                stl,
                {
                    "that is where the ELBO leads. At K > 1 the dropped term has a mean of its own, and for "
                    "large K nothing else is left.": elbo,
                    "that is where the bound leads. STL does not follow the bound.": dreg,
                    root: math.sqrt(stl),
                },
            ),
            "dreg": (
                dreg,
                {
                    "that is where the biased STL leads, not the bound.": stl,
                    "that is where the ELBO leads. For large K the gap is Var[r]/2K.": elbo,
                    "at that root of the quadratic E[r²] is infinite.": v
                    * (3 - math.sqrt(1 + 8 * rho**2))
                    / 4,
                    "that is the largest eigenvalue, the variance along the ridge: wider than it need be.": v
                    * (1 + abs(rho)),
                    "that is where E[r²] becomes finite, not where it is least.": v * (1 + abs(rho)) / 2,
                    root: math.sqrt(dreg),
                },
            ),
        }
        said = expect.entries(landing(v, rho), truth, "landing should return")
        for name, (value, mistakes) in truth.items():
            # 1e-4: a minimum that was found by a numerical search is a right answer.
            with expect.part(name):
                expect.close(
                    said[name], value, f'landing({v:.3f}, {rho:.3f})["{name}"]', mistakes, tolerance=1e-4
                )


def _surrogate(draw, frozen, detached, power):
    log_w = path_derivative(draw) if frozen else draw.log_w
    weights = torch.softmax(log_w, 0)
    weights = weights.detach() if detached else weights
    return -(weights**power * log_w).sum(0).mean()


@parts("path", "weights", "squares")
def q4(dreg_losses, fresh):
    K, B, D, L = fresh.sizes(4, 2, 7)
    model = fresh.linear_gaussian(D, L)
    x, seed = fresh.normal(B, D), fresh.integer(0, 2**31)
    phi, theta = dreg_losses.run(two_gradients, model, x, K, seed)

    draw = drawn(model, x, (K, 1), seed)
    inner, outer = model.inference_parameters(), model.generative_parameters()
    faults = (
        "log q still holds φ: the score is in it, and DReG has none.",
        "the gradient flows through the weights too. They are constants: detach them.",
        "the weights are not squared. That is STL, and biased for K > 1.",
    )
    mistakes = {}
    for made in itertools.product((False, True), repeat=3):
        if any(made):
            more = ("", " One more is in this gradient.", " Two more are in this gradient.")[sum(made) - 1]
            says = faults[made.index(True)] + more
            if made == (True, False, True):
                says = "that is IWAE's own gradient, with the score in it."
            says = expect.about(says, *itertools.compress(q4.parts, made))
            loss = _surrogate(draw, not made[0], not made[1], 1 if made[2] else 2)
            mistakes[says] = flat_gradient(loss, inner)
    right = flat_gradient(_surrogate(draw, True, True, 2), inner)
    mistakes["its sign is the bound's. A loss goes down where the bound goes up."] = -right
    mistakes["the loss is summed over the data points, not averaged."] = B * right
    with expect.part(*q4.parts):
        expect.close(phi, right, "e_step's gradient in φ", mistakes)

    right = flat_gradient(_surrogate(draw, True, True, 1), outer)
    leak = "the squared weights reach θ. They belong to φ alone; for θ the weights sum to one."
    through = "the gradient flows through the weights too. They are constants: detach them."
    with expect.part("weights", "squares"):
        expect.close(
            theta,
            right,
            "m_step's gradient in θ",
            {
                expect.about(leak, "squares"): flat_gradient(_surrogate(draw, True, True, 2), outer),
                f"{leak} One more is in this gradient.": flat_gradient(
                    _surrogate(draw, True, False, 2), outer
                ),
                expect.about(through, "weights"): flat_gradient(_surrogate(draw, True, False, 1), outer),
                "its sign is the bound's. A loss goes down where the bound goes up.": -right,
                "the loss is summed over the data points, not averaged.": B * right,
                "the samples count equally there, as in the ELBO.": flat_gradient(-draw.log_w.mean(), outer),
                "it is 0: θ was detached away.": torch.zeros_like(right),
            },
        )


def _reward(name, log_w):
    """What multiplies each score in VIMCO and in its near misses, (K, T); detached."""
    K = len(log_w)
    bound = bounds.iwae(log_w)
    itself = torch.eye(K, dtype=torch.bool)[:, :, None]
    others = log_w.expand(K, *log_w.shape).masked_fill(itself, -math.inf)
    baseline = {
        "vimco": geometric_mean_bound(log_w),
        "none": torch.zeros_like(log_w),
        "arithmetic": torch.logsumexp(others, 1) - math.log(K - 1),
        "dropped": torch.logsumexp(others, 1) - math.log(K),
        "mean": (log_w.sum(0) - log_w) / (K - 1),
        "all": torch.where(itself, log_w.mean(0), log_w.expand(K, *log_w.shape)).logsumexp(1) - math.log(K),
    }[name]
    return (bound - baseline).detach()


def _vimco(name="vimco", attached="", bound=1.0):
    """VIMCO's surrogate or a near miss; attached: the reward's "bound", or "all" of it, is not detached."""

    def surrogate(log_w, log_q):
        reward = _reward(name, log_w.detach())
        if attached:
            baseline = geometric_mean_bound(log_w)
            reward = bounds.iwae(log_w) - (baseline if attached == "all" else baseline.detach())
        return (reward * log_q).sum(0) + bound * bounds.iwae(log_w)

    return surrogate


def every_tuple(K, C):
    """All C^K tuples of K components: (K, C^K)."""
    return torch.cartesian_prod(*[torch.arange(C)] * K).reshape(-1, K).T


@closes("gradients.geometric_mean_bound", "gradients.leave_one_out", "objectives.VIMCO.__call__")
def q5(vimco, fresh):
    K, C = fresh.choice(((3, 4), (4, 3), (3, 5), (4, 2)))
    index = every_tuple(K, C)
    T = index.shape[1]
    logits, joint = fresh.normal(C).expand(T, C), (2 * fresh.normal(C) - 4).expand(T, C)
    phi, theta = vimco.run(tuple_gradients, logits, joint, index)

    def gradients(*which, **how):
        return tuple_gradients(_vimco(*which, **how), logits, joint, index)

    right, to_theta = gradients()
    alone = gradients(bound=0.0)[0]
    noisy = "the mean over all tuples is right all the same, but"
    biased = "so the mean over all tuples is not the gradient of L_K."
    expect.close(
        phi,
        right,
        "the gradient in q's logits",
        {
            "the bound's own −Σ w̃ score is missing: log q is in the weights as well. For K > 1 it does not "
            f"vanish, {biased}": alone,
            "−Σ w̃ score is in it twice: `+ L̂` brings it already, as log q stands in log w.": 2 * right
            - alone,
            f"the reward carries a gradient, {biased} Detach it.": gradients(attached="all")[0],
            f"L̂ in the reward carries a gradient, {biased} Detach the whole reward.": gradients(
                attached="bound"
            )[0],
            "the reward carries a gradient, and the bound's own term is missing.": gradients(
                attached="all", bound=0.0
            )[0],
            f"{noisy} there is no baseline in it: every score is multiplied by L̂ itself.": gradients("none")[
                0
            ],
            f"{noisy} the missing weight was replaced by the arithmetic mean of the others. VIMCO takes "
            "the geometric one.": gradients("arithmetic")[0],
            f"{noisy} w_k was left out of the sum, and nothing put in its place.": gradients("dropped")[0],
            f"{noisy} the baseline is the mean of the other log-weights. It should be a bound, with that "
            "mean in the place of log w_k.": gradients("mean")[0],
            "the mean that replaces log w_k contains log w_k: the baseline has seen its own sample, "
            f"{biased}": gradients("all")[0],
            "that is the bound's own gradient: without a score term discrete samples give nothing else.": (
                right - alone
            ),
            "its sign is a loss's. Here the surrogate is to be ascended.": -right,
        },
        tolerance=1e-5,
    )
    expect.close(
        theta,
        to_theta,
        "the gradient in log p(x, z)",
        {
            "it is 0: θ gets nothing. The bound itself would send it the weights w̃.": torch.zeros(K, T),
            "its sign is a loss's. Here the surrogate is to be ascended.": -to_theta,
            "the reward reaches θ as well: detach it.": gradients(attached="all")[1],
        },
    )

    # Another x in each column, and weights so far apart that one of them is nearly all.
    index = torch.randint(C, (K, T), generator=fresh.generator)
    logits, joint = 5 * fresh.normal(T, C), 60 * fresh.normal(T, C) - 900
    index[0, 0], index[1:, 0], joint[0, 0] = 0, 1, joint[0, 1] + 100
    far = tuple_gradients(_vimco(), logits, joint, index)[0]
    value = vimco.run(tuple_gradients, logits, joint, index)[0]
    expect.close(
        value,
        far,
        "the gradient where one weight is nearly all (take no difference of sums of exponentials, and "
        "the largest log-weight out before `exp`)",
        tolerance=1e-4,
    )
