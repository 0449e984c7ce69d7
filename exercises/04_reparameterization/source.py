# %% [markdown]
# # Exercises 4: reparameterization
#
# Five questions on chapter 4. The first takes five minutes, the last most of an hour. Write where the `...` stand and
# run the check below: it makes up new problems each time, tries your answer on them and tells you what it saw. Try as
# often as you like. Once you have tried, `grader.solution("q1")` opens a worked solution.
#
# As in the chapter, $z = g_\phi(\varepsilon)$ is a sample made from noise, *pathwise* is the gradient that follows $z$,
# and the *score function* is $\nabla_\phi \log q_\phi$. Logarithms are natural.

# %%
import math

import torch

import vaelearn as vl
from vaelearn.exercises import Grader

torch.set_default_dtype(torch.float64)
grader = Grader(4)

# %% [markdown]
# ## Question 1: a sample that can be pulled
#
# *Implement, five minutes.* The Weibull distribution has the distribution function $F(z) = 1 - e^{-(z/\lambda)^k}$ for
# $z > 0$, with scale $\lambda > 0$ and shape $k > 0$. Make a sample of it from uniform noise $u$, so that autograd can
# differentiate the sample in both parameters.

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 2

# %% [raw]
# # BEGIN SOLUTION


# %%
def weibull(u, scale, shape):
    """u (N,) in (0, 1); scale and shape tensors, () or (N,) -> z (N,)."""
    # BEGIN SOLUTION
    return scale * (-torch.log1p(-u)) ** (1 / shape)
    # END SOLUTION


# %% [markdown]
# Solve $u = F(z)$ for $z$: $-\log(1 - u) = (z/\lambda)^k$, so $z = \lambda\,(-\log(1 - u))^{1/k}$. With $k = 1$ it is the
# chapter's exponential, of rate $1/\lambda$. `log(u)` in place of `log(1 - u)` is right too, because $1 - u$ is as uniform
# as $u$; but `torch.rand` can return exactly 0 and never 1, and `log1p(-u)` is the one that survives it. The derivatives
# are those of the implicit formula, $\partial z/\partial\lambda = z/\lambda$ and
# $\partial z/\partial k = -\tfrac{z}{k} \log\tfrac{z}{\lambda}$: nothing is left in them but the sample.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 2: who pays for what?
#
# *Predict, ten minutes.* Take $f(z) = \cos \omega z$ and $q = \mathcal N(\mu, \sigma^2)$. The gradient of
# $\mathbb E_q[f]$ in $\mu$ is estimated pathwise, by $f'(z)$, and by the score function without a baseline,
# $f(z)\,\varepsilon/\sigma$. The wiggle is fast: $\omega\sigma$ is so large, before and after each change, that you may
# leave out every term with $e^{-\omega^2\sigma^2/2}$. One thing is changed at a time, by a whole number $k$. By what
# *factor* does the variance of each estimator change? (A 1 says that it stays.)
#
# - `"samples"`: the estimate is averaged over $k$ times as many samples
# - `"height"`: $f$ becomes $k f$
# - `"frequency"`: $\omega$ becomes $k\omega$
# - `"width"`: $\sigma$ becomes $k\sigma$
# - `"constant"`: $f$ becomes $f + k$
#
# Most of the ten need no calculation. Only then run the cell below the check.

# %% [raw]
# # BEGIN QUESTION
# name: q2
# points: 2

# %% [raw]
# # BEGIN PROMPT


# %%
def factors(k):
    """k -> {change: (factor for pathwise, factor for the score function)}."""
    return {
        "samples": (..., ...),
        "height": (..., ...),
        "frequency": (..., ...),
        "width": (..., ...),
        "constant": (..., ...),
    }


# %% [raw]
# # END PROMPT

# %% [raw]
# # BEGIN SOLUTION


# %%
# BEGIN SOLUTION NO PROMPT
def factors(k):
    """k -> {change: (factor for pathwise, factor for the score function)}."""
    return {
        "samples": (1 / k, 1 / k),
        "height": (k**2, k**2),
        "frequency": (k**2, 1),
        "width": (1, 1 / k**2),
        "constant": (1, 1 + 2 * k**2),
    }


# END SOLUTION


# %% [markdown]
# Pathwise, the estimator is $-\omega \sin \omega z$. Under a $q$ that is wide on the scale of the wiggle, $\omega z$ is at
# any angle equally often, so the variance is $\omega^2/2$: it knows $\omega$ and not $\sigma$, and a constant has no slope.
# The score function's is $\mathbb E[(f\varepsilon)^2]/\sigma^2$. Fast as it is, the wiggle averages out against the slow
# $\varepsilon^2$: $\mathbb E[\cos^2(\omega z)\,\varepsilon^2] = \tfrac12$, and the variance is $1/(2\sigma^2)$, which knows
# $\sigma$ and not $\omega$. With $f + k$ the mean square is $\tfrac12 + k^2$ (the cross term averages out), hence the factor
# $(\tfrac12 + k^2)/\tfrac12 = 1 + 2k^2$. One of the two estimators pays for slopes, the other for values. A baseline of
# $k$ would have saved it that last factor.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION


# %%
def variances(omega=16.0, sigma=0.5, height=1, constant=0, samples=1):
    eps = torch.randn(samples, 100_000)
    z = 0.3 + sigma * eps
    path = -height * omega * torch.sin(omega * z)
    f = height * torch.cos(omega * z) + constant
    return torch.stack([path.mean(0).var(), (f * eps / sigma).mean(0).var()])


if grader.after("q2"):
    k, before = 3, variances()
    for change, after in {
        "samples": variances(samples=k),
        "height": variances(height=k),
        "frequency": variances(omega=16.0 * k),
        "width": variances(sigma=0.5 * k),
        "constant": variances(constant=k),
    }.items():
        path, score = (after / before).tolist()
        print(f"{change:10s} pathwise × {path:5.2f}   score × {score:5.2f}")

# %% [markdown]
# ## Question 3: the noise in the width
#
# *Derive, half an hour.* The chapter worked out the noise of the gradient in $\mu$ for a quadratic,
# $f(\mu + \sigma\varepsilon) = a + b\,\varepsilon + c\,(\varepsilon^2 - 1)$ with $\varepsilon \sim \mathcal N(0, 1)$. Do the
# same for the gradient of $\mathbb E_q[f]$ in $\log\sigma$, from one sample: what is the variance of the pathwise
# estimator, and what is that of the score function without a baseline?
#
# You will need $\partial z/\partial \log\sigma = \sigma\varepsilon$, the score $\partial_{\log\sigma} \log q(z)$ with $z$ held
# fixed, and the even moments of $\varepsilon$: 1, 3, 15, 105.

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 2

# %% [raw]
# # BEGIN SOLUTION


# %%
def width_variances(a, b, c):
    """a, b, c, numbers -> (pathwise variance, score-function variance)."""
    # BEGIN SOLUTION
    path = b**2 + 8 * c**2
    score = 2 * (a + 4 * c) ** 2 + 10 * b**2 + 24 * c**2
    return path, score
    # END SOLUTION


# %% [markdown]
# *Pathwise.* $\sigma f'(z) = b + 2c\varepsilon$, so the estimator is $b\varepsilon + 2c\varepsilon^2$, an odd part and an even
# part, which are uncorrelated: $b^2 \cdot 1 + 4c^2 \cdot 2$.
#
# *Score function.* $\log q(z) = -\tfrac12 (z - \mu)^2/\sigma^2 - \log\sigma + \dots$ has the derivative $h = \varepsilon^2 - 1$ in
# $\log\sigma$, and the estimator is $a h + b\,\varepsilon h + c\,h^2$. From the moments, $\mathbb E[h^2] = 2$,
# $\mathbb E[h^3] = 15 - 9 + 3 - 1 = 8$, $\mathbb E[h^4] = 105 - 60 + 18 - 4 + 1 = 60$ and
# $\mathbb E[\varepsilon^2 h^2] = 15 - 6 + 1 = 10$; terms odd in $\varepsilon$ vanish. The mean is $2c$, so the variance is
# $2a^2 + 16ac + 60c^2 + 10b^2 - 4c^2$; complete the square.
#
# The best constant baseline would be $a + 4c$, and what it leaves, $10b^2 + 24c^2$, is still at least 3 times the pathwise
# variance, with equality for $b = 0$. For $\mu$ that bound was $\tfrac32$. And pathwise no longer pays for curvature alone:
# on a straight line it has the noise $b\varepsilon$, because a sample on the other side of $\mu$ moves the other way.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 4: a landing that went wrong
#
# *Repair, twenty minutes.* An encoder gives `mu` and `log_var`, the mean and the log-variance of $q$. The cell below was
# meant for "sticking the landing" (STL): the log-weights $\log p(x, z) - \log q(z \mid x)$ of the samples
# $z = \mu + \sigma\varepsilon$, with a gradient that reaches `mu` and `log_var` through $z$, and through $z$ alone. Its
# author made three mistakes: one in the sample, one in $\log q$, and a `detach` in the wrong place. Mend them. What else
# you change is up to you. (The model's own parameters keep their gradient.)

# %% [raw]
# # BEGIN QUESTION
# name: q4
# points: 3

# %% [raw]
# # BEGIN PROMPT


# %%
def path_log_w(model, x, mu, log_var, eps):
    """x (B, D), mu and log_var (B, L), eps (K, B, L) -> log w (K, B)."""
    z = (mu + log_var.exp() * eps).detach()
    standard = (z - mu) / log_var
    log_q = -0.5 * (standard**2 + log_var + math.log(2 * math.pi)).sum(-1)
    log_p = model.prior().log_prob(z) + model.likelihood(z).log_prob(x)
    return log_p - log_q


# %% [raw]
# # END PROMPT

# %% [raw]
# # BEGIN SOLUTION


# %%
# BEGIN SOLUTION NO PROMPT
def path_log_w(model, x, mu, log_var, eps):
    """x (B, D), mu and log_var (B, L), eps (K, B, L) -> log w (K, B)."""
    z = mu + (0.5 * log_var).exp() * eps
    mu, log_var = mu.detach(), log_var.detach()
    standard = (z - mu) / (0.5 * log_var).exp()
    log_q = -0.5 * (standard**2 + log_var + math.log(2 * math.pi)).sum(-1)
    log_p = model.prior().log_prob(z) + model.likelihood(z).log_prob(x)
    return log_p - log_q


# END SOLUTION


# %% [markdown]
# 1. The sample needs the standard deviation, $\sigma = e^{\text{log\_var}/2}$; $e^{\text{log\_var}}$ is the variance.
# 2. So does the way back: $\varepsilon = (z - \mu)/\sigma$. Dividing by `log_var` is the chapter's pitfall.
# 3. A detached $z$ closes the path and leaves the score term, whose mean is zero: such an encoder learns nothing. STL
#    cuts the *other* route, $q$'s parameters inside $\log q$, so they are detached there, after $z$ has been made from
#    the attached ones.
#
# Could we write `eps` for `standard`, now that we know it is the same number? Not here. Its value is the same and its
# gradient is not: `eps` is a constant, while `standard` moves with $z$ and carries $-\partial_z \log q = \varepsilon/\sigma$,
# the half of the path that balances $\partial_z \log p$ at the posterior. Without it the gradient in `mu` is the sampled
# estimator's, noise and all, and the one in `log_var` is biased: it lacks $\mathbb E[\tfrac{\varepsilon}{\sigma} \cdot
# \tfrac{\sigma\varepsilon}{2}] = \tfrac12$, the pull towards a wider $q$.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# At the posterior, the gradient should have no noise at all. Does yours?

# %%
line = vl.exact.LinearGaussian(data_dim=3, latent_dim=1)
line.perfect_e_step()  # one latent: q is now the posterior
x = line.sample(1)[0]
q = line.posterior(x)
mu, log_var = (t.detach().requires_grad_() for t in (q.mean, q.variance.log()))
for _ in range(3):
    log_w = path_log_w(line, x, mu, log_var, torch.randn(1, 1, 1)).sum()
    slopes = torch.autograd.grad(log_w, [mu, log_var], allow_unused=True)
    print(*(f"{s.item():8.4f}" if s is not None else "none" for s in slopes))

# %% [markdown]
# ## Question 5: landing from anywhere
#
# *Implement, most of an hour.* STL has no noise where $q$ is the posterior. Can it be had elsewhere?
#
# For one data point, let $h_k = \nabla_z \log w_k$ be the path term of the $k$-th sample: its STL gradient for $q$'s mean.
# For any constant matrix $\Lambda$ ($L \times L$), $h_k - \Lambda\varepsilon_k$ has the same mean, because $\varepsilon_k$ has
# mean 0. In a linear Gaussian model $h_k = g + M\varepsilon_k$, where $g$ is the exact gradient, so $\Lambda = M$ leaves no
# noise *wherever* $q$ stands. You do not know $M$, but you have $K$ samples: fit a constant and a matrix by least
# squares, $h \approx \hat g + \hat\Lambda\varepsilon$, for each data point on its own.
#
# One care must be taken. A $\hat\Lambda$ that has seen $\varepsilon_k$ is not independent of it, and then
# $\mathbb E[\hat\Lambda \varepsilon_k]$ need not be 0. So fit $\hat\Lambda_{-k}$ on the other $K - 1$ samples, and return
#
# $$\frac1K \sum_{k=1}^K \big(h_k - \hat\Lambda_{-k}\,\varepsilon_k\big).$$
#
# Where $h$ is affine in $\varepsilon$ that is $g$ itself, to rounding; elsewhere it is right on average.
#
# A loop over $k$ is fine, a loop over data points is not: `torch.linalg.lstsq` takes batches. You may count on
# $K \ge L + 8$.

# %% [raw]
# # BEGIN QUESTION
# name: q5
# points: 3

# %% [raw]
# # BEGIN SOLUTION


# %%
def landed(path, eps):
    """path (K, B, L), eps (K, B, L) -> gradient for q's mean (B, L)."""
    # BEGIN SOLUTION
    one = torch.ones_like(eps[..., :1])
    columns = torch.cat([one, eps], -1)  # (K, B, 1 + L)
    total = 0
    for k in range(len(eps)):
        others = torch.arange(len(eps)) != k
        X, Y = (t[others].transpose(0, 1) for t in (columns, path))
        slope = torch.linalg.lstsq(X, Y).solution[:, 1:]  # Λ transposed
        total = total + path[k] - torch.einsum("bi,bij->bj", eps[k], slope)
    return total / len(eps)
    # END SOLUTION


# %% [markdown]
# `lstsq` minimises $\|X\beta - Y\|$ for each data point, with the $K - 1$ samples as rows. $X$ has a column of ones and
# the $L$ columns of $\varepsilon$; the rows $1, \dots, L$ of $\beta$ are $\hat\Lambda^\top$.
#
# *Exact for an affine $h$:* $h = g + M\varepsilon$ lies in the span of the columns, so the fit finds $M$ without error from
# any $L + 1$ samples in general position, and each term is $g$. The column of ones is needed: without it the slopes must
# stand in for $g$. *Unbiased for any $h$:* given the other samples, $\hat\Lambda_{-k}$ is a constant, and
# $\mathbb E[\varepsilon_k] = 0$. With one fit to all samples, $\hat\Lambda$ and the mean of the $\varepsilon_k$ are dependent,
# and the bias is of order $1/K$. (The mean of $\hat\Lambda_{-k}$ must exist; with $L + 8$ samples it does, if $h$ has a
# variance.)
#
# What is being fitted? In one dimension the best slope is $\mathbb E[h\varepsilon] = \sigma\,\mathbb E[h'(z)]$, by parts:
# $\sigma$ times the mean curvature of $\log w$. The *sampled* estimator uses $\Lambda = \mathrm{diag}(1/\sigma)$ and STL
# uses $\Lambda = 0$, whatever the curvature is. STL is right where $q$ is the posterior, the sampled one in the limit of
# a very narrow $q$; at 0.71, the chapter's edge, the two are equally far off.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# Here are all three, for a $q$ that is too narrow, for the best one, and for one that is too wide. (With two correlated
# latents even the best $q$, width × 1, is not quite the posterior: STL keeps a little noise.)

# %%
if grader.after("q5"):
    model = vl.exact.LinearGaussian(data_dim=5, latent_dim=2, seed=1)
    model.perfect_e_step()
    x = model.sample(1)[0]
    K, R = 12, 2000
    for factor in (0.5, 1.0, 2.0):
        q = model.posterior(x)
        sd = factor * q.stddev
        eps = torch.randn(K, R, 2)
        z = (q.mean + sd * eps).detach().requires_grad_()
        log_p = model.prior().log_prob(z) + model.likelihood(z).log_prob(x)
        path = torch.autograd.grad(log_p.sum(), z)[0] + (eps / sd).detach()
        three = {
            "sampled": (path - eps / sd).mean(0),
            "STL": path.mean(0),
            "landed": torch.as_tensor(landed(path, eps)),
        }
        noise = (
            f"{name} {g.var(0).sum().item():.3g}" for name, g in three.items()
        )
        print(f"width × {factor}: total variance  ", "   ".join(noise))

# %% [markdown]
# That was the last one. So far there was one bound, and better or worse slopes of it; chapter 5 changes the bound.
