# %% [markdown]
# # Exercises 6: tighter is not always better
#
# Six questions on chapter 6: signal, noise, and what samples buy. The first two take five minutes each, the last one up
# to an hour. Replace the `...`, then run the check below. It makes up new problems every time, so each answer is a
# function of the problem. When it says no, it says why. `grader.solution("q1")` opens a worked solution after your
# first try.
#
# $M$ counts repetitions and $K$ the samples inside each logarithm; $\Delta_{M,K}$ is the mean of $M$ pathwise gradients of
# $\log \frac1K \sum_k w_k$, as in the chapter. The number of draws of that gradient is $n$. Relative weights are
# $r = w / p(x)$.

# %%
import math

import torch

import vaelearn as vl
from vaelearn.exercises import Grader

torch.set_default_dtype(torch.float64)
grader = Grader(6)

# %% [markdown]
# ## Question 1: signal to noise
#
# *Implement, five minutes.* The first axis of `g` holds $n$ independent draws of a gradient; the axes after it are the
# parameters. Estimate the SNR of each parameter, $|\mathbb E[\Delta]| / \sigma[\Delta]$. Let the variance divide by $n$
# or by $n - 1$, as you like.

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 2

# %% [raw]
# # BEGIN SOLUTION


# %%
def snr(g):
    """g (n, ...), n draws -> the SNR of each parameter (...)."""
    return g.mean(0).abs() / g.std(0)  # SOLUTION


# %% [markdown]
# The order matters: first the mean, so that noise of both signs can cancel, then the absolute value. $\sigma$ is the
# spread of *one* draw, so there is no $\sqrt n$ in it: more draws make the estimate better, and leave what it estimates
# alone. The ratio has no units. With a variance below it would have one over the units of a gradient, and a loss in
# bits would have another SNR than the same loss in nats.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 2: what will it buy?
#
# *Predict, five minutes.* $M$ becomes $aM$ and $K$ becomes $bK$, with $a$ and $b$ any positive numbers. To leading order
# for large $K$, where $\partial_\theta \log p(x) \ne 0$ and $\partial_\phi \mathrm{Var}[r] \ne 0$, by which factors are
# these multiplied? Say it before you run the cell below the check.
#
# - `"theta"`: the SNR of a parameter of the generative network
# - `"phi"`: the SNR of a parameter of the inference network
# - `"phi_mean"`: $|\mathbb E[\Delta]|$ of that parameter of the inference network
# - `"phi_noise"`: $\sigma[\Delta]$ of the same
# - `"phi_draws"`: the number of draws of $\Delta_{M,K}$ that it takes until the standard error of their mean is a tenth
#   of $|\mathbb E[\Delta]|$, for the same parameter

# %% [raw]
# # BEGIN QUESTION
# name: q2
# points: 2

# %% [raw]
# # BEGIN PROMPT


# %%
def factors(a, b):
    """M -> aM and K -> bK: the factor by which each quantity is multiplied."""
    return {
        "theta": ...,
        "phi": ...,
        "phi_mean": ...,
        "phi_noise": ...,
        "phi_draws": ...,
    }


# %% [raw]
# # END PROMPT

# %% [raw]
# # BEGIN SOLUTION


# %%
# BEGIN SOLUTION NO PROMPT
def factors(a, b):
    """M -> aM and K -> bK: the factor by which each quantity is multiplied."""
    return {
        "theta": math.sqrt(a * b),
        "phi": math.sqrt(a / b),
        "phi_mean": 1 / b,
        "phi_noise": 1 / math.sqrt(a * b),
        "phi_draws": b / a,
    }


# END SOLUTION


# %% [markdown]
# Everything follows from two lines. The noise is that of an average over all $MK$ samples, $1/\sqrt{MK}$, for both
# networks. The mean is $\partial \log p(x)$ for $\theta$, which knows neither $M$ nor $K$; for $\phi$ that is 0, and what
# remains is $-\partial \mathrm{Var}[r] / 2K$: $1/K$, and no $M$, because repetitions are copies with the same mean. The
# quotients are the two SNRs. A mean of $n$ draws has a relative error of $1/(\mathrm{SNR} \sqrt n)$, so $n$ goes
# as one over the SNR's *square*. With $b = 1/a$, the same budget of samples, the decoder sees no change and the encoder
# the factor $a$.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %%
# z ~ N(0, 1), x | z ~ N(z, 1), and a q that is off: here a = 1/4, b = 4.
model, x = vl.exact.LinearGaussian(1, 1), torch.tensor([[2.0]])
with torch.no_grad():
    model.W.fill_(1), model.b.fill_(0), model.A.fill_(0)
    model.c.fill_(0.2), model.log_s.fill_(math.log(2 / 3) / 2)
if grader.after("q2"):
    torch.manual_seed(0)
    for M, K in ((16, 8), (4, 32)):
        g = vl.metrics.gradient_draws(model, vl.objectives.MIWAE(K, M), x, 5000)
        print(f"M = {M:2d}, K = {K:2d}:", end="")
        for name in ("b", "c"):
            mean, noise = g[name].mean().abs(), g[name].std()
            print(
                f"   {name}: {mean:.3f} / {noise:.3f} = {mean / noise:5.2f}",
                end="",
            )
        print()

# %% [markdown]
# (`b` belongs to $\theta$, `c` to $\phi$. The means of `c` have standard errors of about $0.003$. Were the factors yours?)
#
# ## Question 3: the largest K that the encoder can bear
#
# *Derive, a quarter of an hour.* You can afford $T$ samples of $z$ for each gradient, $MK = T$. The decoder's target
# improves with $K$, so you want $K$ as large as possible. The encoder's SNR is $C \sqrt{M/K}$ (take this leading order as
# exact), and its optimizer averages the gradients of $N$ independent steps, during which nothing moves much. You
# insist that the mean of this *average* is at least two of the average's standard deviations away from 0.
#
# Which $K$? It may be any real number from 1 to $T$. Where even $K = 1$ is not enough, answer 1: nothing better is to be had.

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 2

# %% [raw]
# # BEGIN SOLUTION


# %%
def largest_K(T, N, C):
    """T = MK, N steps averaged, SNR of one step C sqrt(M / K) -> the largest K.

    1 <= K <= T.
    """
    return min(max(C * math.sqrt(T * N) / 2, 1.0), T)  # SOLUTION


# %% [markdown]
# On a fixed budget $M = T/K$, and the SNR of one step is $C \sqrt{T}/K$: a full factor $1/K$, since a larger $K$ also
# costs repetitions. Averaging $N$ independent steps keeps the mean and divides the standard deviation by $\sqrt N$. So
# $C \sqrt{TN} / K \ge 2$, that is $K \le C \sqrt{TN} / 2$. Four times the budget doubles $K$ *and* doubles
# $M = 2\sqrt{T/N}/C$: a larger budget is best shared. And for $K$ patience is as good as samples: $N$ and $T$ enter it
# alike.
# All the while the decoder's SNR, $\propto \sqrt{MK} = \sqrt T$, does not care.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 4: a network's SNR in one number
#
# *Repair, a quarter of an hour.* A network has $P$ parameters with means $\mu_p$ and variances $\sigma_p^2$ of their
# gradients. The cell below should estimate its pooled squared SNR,
#
# $$
# \frac{\sum_p \mu_p^2}{\sum_p \sigma_p^2},
# $$
#
# from $n$ draws, with a numerator and a denominator that are both *unbiased* and both the same in whichever order the
# draws come. (For a network without signal the numerator then averages 0, and a single estimate may be negative. Leave
# it so.) The cell holds three mistakes. Somebody has plotted it, and reported that the encoder's SNR does not fall
# with $K$.

# %% [raw]
# # BEGIN QUESTION
# name: q4
# points: 3

# %% [raw]
# # BEGIN PROMPT


# %%
def pooled_snr2(g):
    """g (n, P), n draws of P parameters' gradient -> pooled squared SNR ()."""
    signal = g.abs().mean(0).square()
    noise = g.var(1)
    return signal.sum() / noise.sum()


# %% [raw]
# # END PROMPT

# %% [raw]
# # BEGIN SOLUTION


# %%
# BEGIN SOLUTION NO PROMPT
def pooled_snr2(g):
    """g (n, P), n draws of P parameters' gradient -> pooled squared SNR ()."""
    noise = g.var(0)
    signal = g.mean(0).square() - noise / len(g)
    return signal.sum() / noise.sum()


# END SOLUTION


# %% [markdown]
# 1. The absolute value before the mean: $\mathbb E|g|$ is about $0.8\,\sigma$ for pure noise, so a dead parameter reports
#    a healthy signal, at every $K$. (The square makes an absolute value superfluous.)
# 2. The variance along axis 1 is the spread of *different parameters* in one draw. Noise is the spread of one parameter
#    over draws.
# 3. The noise floor. $\mathbb E[\bar g^2] = \mu^2 + \sigma^2/n$: the second term is there without any signal, and stays
#    when $K$ grows. `var` divides by $n - 1$, so `noise / n` is unbiased for it. (The product of the means of two halves
#    has no floor either, but it depends on who is in which half. Averaged over all ways to halve, it is this one.)
#
# The whole correction is $-1/n$: $\sum_p \hat\sigma_p^2 / n$ over $\sum_p \hat\sigma_p^2$. The $2/\pi n$ of the chapter
# is the square of the mean of $|\bar g|/\sigma$ under pure noise, and $1/n$ is the mean of the square.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %%
# 500 estimates of a network without any signal. Run it with the cell as you
# found it, too.
silence = torch.tensor(
    [float(pooled_snr2(torch.randn(100, 50))) for _ in range(500)]
)
print(
    f"mean {silence.mean():.5f} ± {silence.std() / 500**0.5:.5f}   should be 0"
)

# %% [markdown]
# ## Question 5: a slope and its interval
#
# *Implement, half an hour.* $S$ independent replicates of an experiment have each measured an SNR at $J$ values of $K$.
# The model is
#
# $$
# \log \mathrm{SNR} = s \log K + \alpha + \frac{\beta}{K} + \text{noise},
# $$
#
# whose last term takes care of what is left of small $K$. Fit it to each replicate by ordinary least squares, all $J$
# points alike. You then have $S$ slopes: give their mean, and the half-width $t \cdot$ (standard error of that mean) of
# Student's interval, from the scatter of the slopes. The quantile $t$, for $S - 1$ degrees of freedom, is handed to you.

# %% [raw]
# # BEGIN QUESTION
# name: q5
# points: 3

# %% [raw]
# # BEGIN SOLUTION


# %%
def slope_interval(K, snr, t):
    """K (J,), snr (S, J), both float, and t -> (mean slope, half-width).

    J >= 3 values of K, S >= 2 replicates.
    """
    # BEGIN SOLUTION
    X = torch.stack([K.log(), torch.ones_like(K), 1 / K], 1)  # (J, 3)
    coefficients = torch.linalg.lstsq(X, snr.log().T).solution  # (3, S)
    slopes = coefficients[0]
    return slopes.mean(), t * slopes.std() / len(slopes) ** 0.5
    # END SOLUTION


# %% [markdown]
# The model is linear in its three unknowns, so the fit is a linear least-squares problem with the columns $\log K$, 1 and
# $1/K$, and all replicates are solved at once as right-hand sides. Any base of the logarithm gives the same slope, if
# SNR and $K$ share it. A power law is a line only on *both* log axes.
#
# The interval comes from replicates because they are what is independent: their scatter knows all the noise there is,
# whatever its law and however points within a replicate hang together. The residuals of a single fit would know it only
# if the noise were alike at every $K$, and here it is not: a small SNR is measured with a large relative error. What
# no interval knows is whether the *model* is right. Leave the $\beta/K$ out, start at a small $K$, and you get a narrow
# interval around a wrong number.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 6: where the encoder is pulled
#
# *Derive, up to an hour.* The posterior is $\mathcal N(m, \mathrm{diag}\, v)$ in $L$ dimensions and
# $q = \mathcal N(m + d, \mathrm{diag}\, s^2)$, with $2 s_i^2 > v_i$ in each, so that $\mathrm{Var}[r]$ is finite. (The
# theorem's proof asks for more, $6 s_i^2 > 5 v_i$. The formula is what we want.) What is the mean of the IWAE's gradient,
# $\mathbb E[\Delta_{1,K}]$, to first order in $1/K$? Give its entries for $c$, the mean of $q$ (so that
# $\partial d_i / \partial c_i = 1$), and for $\log s$.
#
# Start from $1 + \mathrm{Var}[r] = \int p(z \mid x)^2 / q(z \mid x)\, dz$, which is a product over dimensions. Complete
# the square in one of them, then differentiate.
#
# Then the second function: hold $d$ fixed (an encoder whose mean is off, and cannot move). For which $s_i^2$ does the pull
# on $\log s_i$ vanish? The ELBO would answer $v_i$, whatever $d$ is.

# %% [raw]
# # BEGIN QUESTION
# name: q6
# points: 3

# %% [raw]
# # BEGIN SOLUTION


# %%
def pull(d, v, s2, K):
    """d, v, s2 (L,), s2 = s squared -> (for c (L,), for log s (L,)).

    The mean gradients to first order, uphill.
    """
    # BEGIN SOLUTION
    u = 2 * s2 - v
    second = (s2 / (v * u).sqrt() * (d**2 / u).exp()).prod()  # 1 + Var[r]
    for_c = -second / K * d / u
    for_log_s = second / K * ((v - s2) / u + 2 * s2 * d**2 / u**2)
    return for_c, for_log_s
    # END SOLUTION


def resting_variance(d, v):
    """d, v (L,) -> the s squared (L,) at which the pull on log s is 0."""
    # BEGIN SOLUTION
    h = 3 * v + 2 * d**2
    return (h + (h**2 - 8 * v**2).sqrt()) / 4
    # END SOLUTION


# %% [markdown]
# *One dimension.* The exponent of $p^2/q$, with $z$ measured from $m$, is
# $-\frac{z^2}{v} + \frac{(z-d)^2}{2s^2}$, a parabola with leading coefficient $-\frac{2s^2 - v}{2 v s^2}$ and with the
# maximum $\frac{d^2}{2s^2 - v}$. Its integral, with the constants in front, is
# $F = \frac{s^2}{\sqrt{v (2s^2 - v)}}\, e^{d^2/(2s^2 - v)}$.
#
# *All dimensions.* $1 + \mathrm{Var}[r] = \prod_i F_i$, so a derivative of one factor keeps all the others:
# $\partial_i \mathrm{Var}[r] = (\prod_j F_j)\, \partial_i \log F_i$. With $u = 2s^2 - v$ and $\partial s^2 / \partial \log s = 2 s^2$,
#
# $$
# \partial_c \log F = \frac{2d}{u}, \qquad
# \partial_{\log s} \log F = 2 - \frac{2 s^2}{u} - \frac{4 s^2 d^2}{u^2}.
# $$
#
# The theorem multiplies by $-\frac1{2K}$, since $\partial_\phi \log p(x) = 0$. (Its proof wants $\mathbb E[r^6]$ finite,
# $s_i^2 > \frac56 v_i$; $\mathrm{Var}[r]$ and its slope are finite from $\frac12 v_i$ on.) Note that a bad dimension enlarges
# the mean gradient of *every* other: the product is common to all.
#
# *At rest.* $(s^2 - v)\, u = 2 s^2 d^2$, or $2 s^4 - (3v + 2d^2)\, s^2 + v^2 = 0$. The product of the roots is $v^2/2$; one
# is at least $v$, so the other is at most $v/2$, where $\mathrm{Var}[r]$ is infinite, and is no answer. For $d \ne 0$ the
# rest is *wider* than the posterior: $\mathcal L_K$ with a large $K$ widens $q$ until samples reach the posterior's bulk.
# (It is wider even than $v + d^2$, which is where $\mathrm{KL}(p \,\|\, q)$ is least.)

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %%
# The model of question 2, v = 1/2 and d = -0.8: the ELBO's pull on log s
# against that of 64 samples.
if grader.after("q6"):
    torch.manual_seed(0)
    for s2 in (0.45, 0.7, 3.0):
        with torch.no_grad():
            model.log_s.fill_(math.log(s2) / 2)
        g = vl.metrics.gradient_draws(model, vl.objectives.IWAE(64), x, 10_000)[
            "log_s"
        ]
        print(
            f"s² = {s2}: ELBO {model.gradient(x)['log_s'].item():6.2f}   ",
            end="",
        )
        print(f"L_64 {g.mean():7.4f} ± {g.std() / len(g) ** 0.5:.4f}")

# %% [markdown]
# (At $s^2 = 0.7$ the two signs differ: the ELBO narrows $q$ towards $v = 0.5$, and 64 samples widen it. To first order
# they rest at 1.29.)
#
# That was the last one. Chapter 7 gives each network the samples it wants.
