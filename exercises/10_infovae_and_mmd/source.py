# %% [markdown]
# # Exercises 10: InfoVAE and MMD
#
# Six questions on chapter 10: two weights, one kernel, and what a batch does to an estimate. The first takes five
# minutes, the last a good half hour. Replace each `...`, then run the check below it. It makes up a new problem each
# time and tells you what it saw; try as often as you like. After a try, `grader.solution("q1")` shows a worked solution.
#
# Codes are `z` (N, L), drawn from $q(z)$; draws from the prior $p = \mathcal N(0, I)$ are `y` (M, L).

# %%
import math

import torch

import vaelearn as vl
from vaelearn.exercises import Grader

torch.set_default_dtype(torch.float64)
grader = Grader(10)

# %% [markdown]
# ## Question 1: a kernel with long arms
#
# *Implement, five minutes.* The inverse multiquadric kernel is $k(z, y) = C / (C + \|z - y\|^2)$ with $C = h^2$. Write
# it for all pairs of two samples. Training will differentiate it, also where two codes coincide.

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 2

# %% [raw]
# # BEGIN SOLUTION


# %%
def imq(z, y, h):
    """z (N, L), y (M, L), h > 0 -> k(z_n, y_m) for all pairs, (N, M)."""
    # BEGIN SOLUTION
    squares = (z[:, None] - y).square().sum(-1)
    return h**2 / (h**2 + squares)
    # END SOLUTION


# %% [markdown]
# `z[:, None] - y` is (N, M, L): every code minus every draw. The squared distance needs no square root, and it is
# better not to take one: $\sqrt s$ has an infinite slope at $s = 0$, and the chain rule then makes $\infty \cdot 0$.
# For large N, M and L the form $\|z\|^2 + \|y\|^2 - 2\, z \cdot y$ gets by without the (N, M, L) tensor
# (`clamp` it at 0: rounding can make it negative).

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 2: name your prices
#
# *Derive, ten minutes.* Somebody wants an objective that charges $a$ nats for each nat of information $I_q(x; z)$ and
# $b$ nats for each nat of mismatch $\mathrm{KL}(q(z) \,\|\, p(z))$:
#
# $$\mathbb E_{q(x,z)}[\log p(x \mid z)] - a\, I_q(x; z) - b\, \mathrm{KL}\big(q(z) \,\|\, p(z)\big).$$
#
# A program knows neither term. It subtracts $u\; \mathbb E_{p_D} \mathrm{KL}(q(z \mid x) \,\|\, p(z)) + w\; D(q(z), p(z))$
# from the reconstruction. Let $D$ be the exact $\mathrm{KL}(q(z) \,\|\, p(z))$. Which $u$ and $w$ does it take?
# Raise a `ValueError` where one of them would be negative.

# %% [raw]
# # BEGIN QUESTION
# name: q2
# points: 2

# %% [raw]
# # BEGIN SOLUTION


# %%
def weights(a, b):
    """Prices of I and of the mismatch -> (u, w), factors of E KL and of D."""
    # BEGIN SOLUTION
    u, w = a, b - a
    if u < 0 or w < 0:
        raise ValueError(
            f"a weight is negative: {u} of KL, {w} of the divergence"
        )
    return u, w
    # END SOLUTION


# %% [markdown]
# The average KL of single codes contains *both* terms: $\mathbb E_{p_D} \mathrm{KL}(q(z \mid x) \,\|\, p(z)) = I + M$,
# with $M$ the mismatch. So $u (I + M) + w M = u I + (u + w) M$. Compare: $a = u$ and $b = u + w$. In the paper's letters
# $a = 1 - \alpha$ and $b = \lambda$, and $w = b - a$ is its $\alpha + \lambda - 1$. Equal prices make a $\beta$-VAE. A
# mismatch cheaper than information ($b < a$) would need a *negative* $w$. For the exact KL that is harmless algebra; for
# any other $D$ in its place it can pay the encoder for missing the prior. The library refuses it, and so should you.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 3: a larger batch
#
# *Predict, ten minutes.* You compare $N$ codes with $N$ prior draws, by the RBF kernel at a fixed $h$. Then you take
# $cN$ of each. To leading order in a large $N$, by what factor is each of these multiplied?
#
# - `"mean of U"`: the U-statistic's mean over many batches, where $q \ne p$
# - `"floor of V"`: the V-statistic's mean, where $q = p$
# - `"spread of U, q = p"`: the U-statistic's standard deviation, where $q = p$
# - `"spread of U, q != p"`: the same where $q \ne p$
# - `"divided twice"`: the V-statistic's mean, divided once more by $N(N - 1)$, where $q \ne p$
#
# Write factors, as functions of $c$. Then check, and then run the cell below.

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 2

# %% [raw]
# # BEGIN PROMPT


# %%
def factors(c):
    """From N to c N codes and draws: each quantity's factor, at large N."""
    return {
        "mean of U": ...,
        "floor of V": ...,
        "spread of U, q = p": ...,
        "spread of U, q != p": ...,
        "divided twice": ...,
    }


# %% [raw]
# # END PROMPT

# %% [raw]
# # BEGIN SOLUTION


# %%
# BEGIN SOLUTION NO PROMPT
def factors(c):
    """From N to c N codes and draws: each quantity's factor, at large N."""
    return {
        "mean of U": 1,
        "floor of V": 1 / c,
        "spread of U, q = p": 1 / c,
        "spread of U, q != p": c**-0.5,
        "divided twice": c**-2,
    }


# END SOLUTION


# %% [markdown]
# U is unbiased at every $N$. V's floor is $\frac2N (1 - \mathbb E\, k)$. The spread is the subtle one. Write
# $g(z) = \mathbb E_{\tilde z \sim q} k(z, \tilde z) - \mathbb E_{y \sim p} k(z, y)$. Where $q \ne p$, U is to
# first order a constant plus $\frac2N \sum_n g(z_n) - \frac2N \sum_n g(y_n)$: ordinary means, with a spread of order
# $1/\sqrt N$. Where $q = p$, $g$ is zero. Only pairs are left, about $N^2$ uncorrelated ones, and the spread
# is of order $1/N$: the test is sharpest where there is nothing to see. Dividing twice leaves a penalty
# of order $N^{-2}$: four times the batch, a sixteenth of the $\lambda$ that you thought you had.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %%
if grader.after("q3"):
    for shift in (0.0, 0.5):
        for N in (40, 160):
            z, y = torch.randn(2, 200, N, 4)
            pairs = list(zip(z + shift, y, strict=True))
            U = torch.stack([vl.divergences.mmd(*pair) for pair in pairs])
            V = torch.stack(
                [vl.divergences.mmd(*pair, unbiased=False) for pair in pairs]
            )
            twice = V.mean() / N / (N - 1)
            print(f"shift {shift}, N = {N:3d}: U {U.mean():.4f}, ", end="")
            print(f"spread {U.std():.4f}   V {V.mean():.4f}, ", end="")
            print(f"divided twice {twice:.1e}")

# %% [markdown]
# ## Question 4: three bugs
#
# *Repair, a quarter of an hour.* This should be InfoVAE's loss, with the MMD as its divergence. It runs, it falls, and
# it is wrong in three ways (a weight and its `ValueError` count as one). Make it do what its docstring says.

# %% [raw]
# # BEGIN QUESTION
# name: q4
# points: 3

# %% [raw]
# # BEGIN PROMPT


# %%
def infovae_loss(log_likelihood, kl, z, y, alpha, lam):
    """log_likelihood (B,), kl (B,), codes z (B, L), prior draws y (M, L) -> ().

    Minus the objective. log p(x | z) and KL(q(z | x) || p(z)) come one a data
    point, in nats; the objective has their batch means. The divergence is the
    unbiased MMD² with the RBF kernel of vl.divergences.mmd, with h = √L.
    Raises ValueError where the divergence would have a negative weight.
    """

    def k(a, b):
        return torch.exp(-(a[:, None] - b).square().sum(-1) / 2)

    mmd = k(z, z).mean() + k(y, y).mean() - 2 * k(z, y).mean()
    mmd = mmd / (len(z) * (len(z) - 1))  # no pair of a point with itself
    return -log_likelihood.mean() + (1 - alpha) * kl.mean() + lam * mmd


# %% [raw]
# # END PROMPT

# %% [raw]
# # BEGIN SOLUTION


# %%
# BEGIN SOLUTION NO PROMPT
def infovae_loss(log_likelihood, kl, z, y, alpha, lam):
    """log_likelihood (B,), kl (B,), codes z (B, L), prior draws y (M, L) -> ().

    Minus the objective. log p(x | z) and KL(q(z | x) || p(z)) come one a data
    point, in nats; the objective has their batch means. The divergence is the
    unbiased MMD² with the RBF kernel of vl.divergences.mmd, with h = √L.
    Raises ValueError where the divergence would have a negative weight.
    """
    weight = alpha + lam - 1
    if weight < 0:
        raise ValueError(
            f"the divergence's weight is {weight}: it could reward a mismatch"
        )

    def k(a, b):
        return torch.exp(-(a[:, None] - b).square().sum(-1) / (2 * z.shape[1]))

    def other_pairs(k):
        return (k.sum() - k.diagonal().sum()) / (len(k) * (len(k) - 1))

    mmd = other_pairs(k(z, z)) + other_pairs(k(y, y)) - 2 * k(z, y).mean()
    return -log_likelihood.mean() + (1 - alpha) * kl.mean() + weight * mmd


# END SOLUTION


# %% [markdown]
# 1. The bandwidth was 1. Two draws from $\mathcal N(0, I)$ differ by $\mathcal N(0, 2I)$, so their squared distance
#    is $2L$ on average. With $h^2 = L$ a typical pair has $k \approx e^{-1}$ in any dimension; with $h = 1$ it has
#    $e^{-L}$, and the penalty is blind.
# 2. `mean()` divides by $N^2$ already, and the diagonal was still in. Subtract the diagonal from the *sum*, then
#    divide by $N(N - 1)$. The mean across the samples stays: it has no diagonal.
# 3. The divergence's weight is $\alpha + \lambda - 1$, not $\lambda$. At $\alpha = 0$, $\lambda = 10^{-3}$ it would be
#    $-0.999$.
#
# `vl.divergences.mmd(z, y)` would have done for the first two.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 5: what the diagonal wants
#
# *Derive, twenty minutes.* The kernel $k(z, y) = (z \cdot y)^2$ sees second moments and nothing else. Codes have
# $q = \mathcal N(0, s^2 I)$ in $L$ dimensions, the prior has $s = 1$, and $\mathrm{MMD}^2$ is smallest at $s = 1$. But you
# average over *all* pairs of $N$ codes, the diagonal among them (the V-statistic, with $M$ prior draws on the other side).
# Which variance $s^2$ makes its expectation smallest?
#
# Mind the diagonal: $k(z, z) = \|z\|^4$ is not 1. For $z \sim \mathcal N(0, I)$, $\mathbb E \|z\|^4 = L(L + 2)$.

# %% [raw]
# # BEGIN QUESTION
# name: q5
# points: 3

# %% [raw]
# # BEGIN SOLUTION


# %%
def favourite_variance(N, L):
    """The s² at which the V-statistic's expectation is smallest.

    N codes from N(0, s² I) in L dimensions.
    """
    return N / (N + L + 1)  # SOLUTION


# %% [markdown]
# Given $z$, $z \cdot \tilde z \sim \mathcal N(0, s^2 \|z\|^2)$, so two different codes have
# $\mathbb E\, k = s^2\, \mathbb E \|z\|^2 = s^4 L$; across the samples it is $s^2 L$. Of the $N^2$ pairs, $N$ are diagonal:
#
# $$\mathbb E V = \frac{s^4 L (L + 2)}{N} + \Big(1 - \frac1N\Big) s^4 L - 2 s^2 L + \text{const}
# = L\,\Big[s^4 \Big(1 + \frac{L + 1}{N}\Big) - 2 s^2\Big] + \text{const}.$$
#
# A parabola in $s^2$, lowest at $s^2 = 1 / (1 + \frac{L + 1}{N})$. The prior's own diagonal sits in the constant. At
# $N = 64$ and $L = 32$ the favourite is 0.66: the penalty itself asks for a third less variance than the prior's, and
# its weight does not change what it asks for. With the RBF kernel the pull is weaker, and it goes the same way.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %%
if grader.after("q5"):
    N, L = 64, 32
    z, y = torch.randn(2, 400, N, L)
    same, across = (z @ z.mT).square().mean(), (z @ y.mT).square().mean()
    print("s²     E V without its constant")
    for s2 in (0.5, 0.6, 0.66, 0.7, 0.8, 1.0):
        print(f"{s2:.2f}   {s2**2 * same - 2 * s2 * across:.2f}")

# %% [markdown]
# ## Question 6: why sample a prior that you know?
#
# *Implement, a good half hour.* Two of the MMD's three terms are expectations over $p = \mathcal N(0, I)$, and for the RBF
# kernel $k(z, y) = e^{-\|z - y\|^2 / 2h^2}$ they have a closed form. Chapter 10's $e(\|m\|^2, v)$ gives both. Write the
# estimate of $\mathrm{MMD}^2(q, p)$ that draws nothing from the prior and is still unbiased: keep the average over pairs
# of *different* codes, and put expectations where prior draws stood. Write it out, without `vl.divergences`,
# and let a gradient reach `z`.

# %% [raw]
# # BEGIN QUESTION
# name: q6
# points: 3

# %% [raw]
# # BEGIN SOLUTION


# %%
def mmd_to_prior(z, h):
    """z (N, L) -> MMD²(q, N(0, I)), unbiased, without prior draws: ().

    RBF kernel of bandwidth h.
    """
    # BEGIN SOLUTION
    N, L = z.shape
    k = torch.exp(-(z[:, None] - z).square().sum(-1) / (2 * h**2))
    codes = (k.sum() - k.diagonal().sum()) / (N * (N - 1))
    ratio = h**2 / (h**2 + 1)
    across = ratio ** (L / 2) * torch.exp(-z.square().sum(1) / (2 * (h**2 + 1)))
    prior = (h**2 / (h**2 + 2)) ** (L / 2)
    return codes - 2 * across.mean() + prior
    # END SOLUTION


# %% [markdown]
# For a fixed code, $z - y \sim \mathcal N(z, I)$, so $\mathbb E_y k(z, y) = e(\|z\|^2, 1)$. Two prior draws differ by
# $\mathcal N(0, 2I)$, so the last term is $e(0, 2)$, a constant. What you have written is the conditional expectation of
# the two-sample U-statistic given the codes. So it has the same mean, and by the law of total variance never a larger
# spread (Rao and Blackwell). It needs fewer kernel evaluations, too. The price is freedom: another prior or kernel may
# have no such integrals, and then one samples.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %%
if grader.after("q6"):
    draws = []
    for _ in range(300):
        z = 0.2 + torch.randn(50, 8)
        sampled = vl.divergences.mmd(z, torch.randn(50, 8))
        draws.append(torch.tensor([sampled, mmd_to_prior(z, math.sqrt(8))]))
    draws = torch.stack(draws)
    for name, values in zip(
        ("sampled prior", "known prior"), draws.T, strict=True
    ):
        print(
            f"{name:13}  mean {values.mean():.4f}   spread {values.std():.4f}"
        )

# %% [markdown]
# That is the set. In chapter 11 other divergences take the MMD's place; one of them needs no prior draws either.
