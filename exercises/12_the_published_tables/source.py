# %% [markdown]
# # Exercises 12: do the numbers come out again?
#
# Six questions on chapter 12, from five minutes to the better part of an hour. Write where the `...` stand, then run the
# check below your answer. It makes up tables of its own and tells you what it saw. Try as often as you like.
# `grader.solution("q1")` opens a worked solution after a first try.
#
# An NLL is $-\log \hat p(x)$ in nats, so lower is better. Nothing here needs MNIST.

# %%
import math

import torch
from scipy import stats

import vaelearn as vl
from vaelearn.exercises import Grader

torch.set_default_dtype(torch.float64)
grader = Grader(12)

# %% [markdown]
# ## Question 1: the same images
#
# *Implement, five minutes.* Two models have been measured on the same $n$ test images, a random choice from many more.
#
# - `compare`: by how much is the first model's mean NLL above the second's, and the standard error of that difference
#   (divide by $n - 1$ in the variance);
# - `images_needed`: how many images would bring that standard error down to `error`, if images go on varying as these do?
#   A whole number, rounded up.

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 2

# %% [raw]
# # BEGIN SOLUTION


# %%
def compare(first, second):
    """NLLs of the same images (n,), (n,) -> difference, its standard error."""
    # BEGIN SOLUTION
    difference = first - second
    return difference.mean(), difference.std() / len(difference) ** 0.5
    # END SOLUTION


def images_needed(first, second, error):
    """NLLs (n,), (n,), error > 0 in nats -> a whole number of images."""
    # BEGIN SOLUTION
    return math.ceil((first - second).var() / error**2)
    # END SOLUTION


# %% [markdown]
# An image that is hard for one model is hard for the other. The difference does not know how hard: its variance is
# $\sigma_1^2 + \sigma_2^2 - 2\rho\,\sigma_1\sigma_2$, where two separate samples of images would have
# $\sigma_1^2 + \sigma_2^2$. With a correlation of $\rho = 0.99$, usual for two good models of one data set, that is a
# hundred times fewer images for the same error. A standard error falls as $1/\sqrt n$, so
# $n = \mathrm{Var}[\text{difference}]/\text{error}^2$.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %%
if grader.after("q1"):
    torch.manual_seed(0)
    hard = 85 + 20 * torch.randn(1000)  # what both models find hard
    one, other = (hard + d + torch.randn(1000) for d in (0.3, 0.0))
    difference, error = compare(one, other)
    apart = (one.var() / 1000 + other.var() / 1000).sqrt()
    print(f"difference {difference:.2f} ± {error:.2f} on the same images;")
    print(f"each mean alone is known to ± {one.std() / 1000**0.5:.2f},")
    print(f"and on two sets of images it would be ± {apart:.2f}")
    print("images for ± 0.01:", images_needed(one, other, 0.01))

# %% [markdown]
# ## Question 2: which way?
#
# *Predict, ten minutes.* A paper reports an NLL on test images: the model that its protocol ends with, $-\mathcal L_{5000}$,
# all 10,000 images, made binary anew. You change one thing. On average over everything that is random, is the number that you report then
# `"lower"`, `"higher"`, or `"neither"`?
#
# - `"fewer samples"`: you report $-\mathcal L_{500}$
# - `"fewer images"`: you measure on a random 1,000 of the test images
# - `"best epoch"`: of all epochs you report the one with the lowest NLL on the test images
# - `"best seed"`: you train five times and report the lowest
# - `"made binary once"`: the training images are made binary once and kept so (the model is large enough to learn them by
#   heart in part)
# - `"log of the mean"`: you average $\hat p(x)$ over the images and take $-\log$ of that

# %% [raw]
# # BEGIN QUESTION
# name: q2
# points: 2

# %% [raw]
# # BEGIN PROMPT

# %%
reported = {
    "fewer samples": ...,
    "fewer images": ...,
    "best epoch": ...,
    "best seed": ...,
    "made binary once": ...,
    "log of the mean": ...,
}

# %% [raw]
# # END PROMPT

# %% [raw]
# # BEGIN SOLUTION

# %%
# BEGIN SOLUTION NO PROMPT
reported = {
    "fewer samples": "higher",
    "fewer images": "neither",
    "best epoch": "lower",
    "best seed": "lower",
    "made binary once": "higher",
    "log of the mean": "lower",
}
# END SOLUTION

# %% [markdown]
# $\mathcal L_K$ rises with $K$, so fewer samples make the NLL *worse*: an honest mistake, and a loser's one. A random part of the
# images is as good on average, only noisier. To choose by the test set, an epoch or a seed, flatters: the least of several
# random numbers is below their mean. (Choose by validation images, and the choice is honest.) A model that knows its training
# images by heart, as they fell once, is worse on fresh ones. And $-\log$ is convex: $-\log \frac1n \sum \hat p(x_i) \le
# -\frac1n \sum \log \hat p(x_i)$. With NLLs near 85 and a spread of 20 nats the easiest image has it all, and the "NLL" is
# tens of nats too good.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 3: the best of n
#
# *Derive, a quarter of an hour.* A method is trained $n$ times, and its NLLs are independent draws from $N(m, s^2)$. The
# paper prints the lowest.
#
# - `flattery`: how far below $m$ is that on average, in nats? An integral over one variable; a fine grid will do, four
#   digits are wanted.
# - `chance`: another method, exactly as good, is trained *once*. With which probability does the best of $n$ beat it?

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 2

# %% [raw]
# # BEGIN SOLUTION


# %%
def flattery(n, s):
    """n runs, N(m, s^2) each -> m less the mean of the lowest, a number."""
    # BEGIN SOLUTION
    t = torch.linspace(-10, 10, 20_001)
    normal = torch.distributions.Normal(0.0, 1.0)
    density = n * normal.log_prob(t).exp() * normal.cdf(t) ** (n - 1)
    return s * torch.trapezoid(t * density, t)
    # END SOLUTION


def chance(n):
    """The probability that the best of n beats one run of its equal."""
    # BEGIN SOLUTION
    return n / (n + 1)
    # END SOLUTION


# %% [markdown]
# By symmetry the lowest is as far below $m$ as the highest is above it. The highest of $n$ is below $t$ if all are, with probability
# $\Phi(t)^n$; the derivative is its density, $n\,\varphi(t)\,\Phi(t)^{n-1}$, and
#
# $$\text{flattery} = s \int t\; n\,\varphi(t)\,\Phi(t)^{n-1}\, dt .$$
#
# $n = 2$ gives $s/\sqrt\pi$, five runs $1.163\,s$. ($\sqrt{2 \log n}$ is the limit for huge $n$; at $n = 5$ it says $1.79$.)
# Of $n + 1$ equal runs each is as likely to be the lowest as any other, so the single one has $1/(n+1)$: the best of five
# wins five times in six, for nothing.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 4: in chunks
#
# *Repair, twenty minutes.* Five thousand samples of a thousand images do not fit in memory, so the log-weights come in chunks of
# $K_i$ samples, all for the same $B$ images: the chunks' samples together are one $\mathcal L_K$ with $K = \sum_i K_i$.
# The function below should return the mean NLL, $-\frac1B \sum_x \hat{\mathcal L}_K(x)$. It returns a plausible number.
# Three things are wrong with it.

# %% [raw]
# # BEGIN QUESTION
# name: q4
# points: 3

# %% [raw]
# # BEGIN PROMPT


# %%
def mean_nll(chunks):
    """A list of log-weights (K_i, B) of the same images -> mean NLL."""
    total, K = None, 0
    for log_w in chunks:
        part = torch.logsumexp(log_w, 0) - math.log(len(log_w))
        total = part if total is None else torch.logaddexp(total, part)
        K = len(log_w)
    log_p = total - math.log(K)
    return -(torch.logsumexp(log_p, 0) - math.log(len(log_p)))


# %% [raw]
# # END PROMPT

# %% [raw]
# # BEGIN SOLUTION


# %%
# BEGIN SOLUTION NO PROMPT
def mean_nll(chunks):
    """A list of log-weights (K_i, B) of the same images -> mean NLL."""
    total, K = None, 0
    for log_w in chunks:
        part = torch.logsumexp(log_w, 0)
        total = part if total is None else torch.logaddexp(total, part)
        K += len(log_w)
    log_p = total - math.log(K)
    return -log_p.mean()


# END SOLUTION


# %% [markdown]
# 1. Each chunk took its own $\log K_i$ off, and the end took another: once is enough, and only $\log K$ is right where the
#    chunks are not equally long. A *sum* of weights grows from chunk to chunk; the mean is taken at the end.
# 2. $K$ was the last chunk's. (With chunks of equal size and the first mistake mended, the NLL would be too low by the
#    log of their number.)
# 3. The last line averaged $\hat p$ over the images, in place of its logarithm: the easiest image has it all. That one
#    mistake outweighs the other two by far, and it makes the model look better.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 5: the bias that is left
#
# *Implement, three quarters of an hour.* $\hat{\mathcal L}_K$ is below $\log p(x)$ on average, by some $c_1/K$ and smaller
# terms. Leave out one sample at a time, and the averages $\hat{\mathcal L}^{(-k)} = \log \frac1{K-1} \sum_{j \ne k} w_j$ are
# below by $c_1/(K - 1)$. So the *jackknife* (Nowozin 2018)
#
# $$J = K\,\hat{\mathcal L}_K - (K - 1)\, \frac1K \sum_k \hat{\mathcal L}^{(-k)}$$
#
# has lost the first term.
#
# - `leave_one_out`: all $\hat{\mathcal L}^{(-k)}$. One weight may hold nearly everything, 60 nats above the others; a table
#   of $K \times K$ passes, but there is a way without.
# - `jackknife`: $J$.
#
# Before you run the cell below the check: is $J$ still a lower bound?

# %% [raw]
# # BEGIN QUESTION
# name: q5
# points: 3

# %% [raw]
# # BEGIN SOLUTION


# %%
def leave_one_out(log_w):
    """log_w (K, B), K >= 2 -> the bound without sample k (K, B), in nats."""
    # BEGIN SOLUTION
    share = torch.softmax(log_w, 0)
    rest = torch.logsumexp(log_w, 0) + torch.log1p(-share)
    top = log_w.argmax(0, keepdim=True)
    others = log_w.scatter(0, top, -math.inf)
    rest = rest.scatter(0, top, torch.logsumexp(others, 0, keepdim=True))
    return rest - math.log(len(log_w) - 1)
    # END SOLUTION


def jackknife(log_w):
    """log_w (K, B) -> J (B,), in nats."""
    # BEGIN SOLUTION
    K = len(log_w)
    bound = torch.logsumexp(log_w, 0) - math.log(K)
    return K * bound - (K - 1) * leave_one_out(log_w).mean(0)
    # END SOLUTION


# %% [markdown]
# The others' sum is the whole sum times $1 - \tilde w_k$, which costs one `log1p` a sample. Only for the largest weight may
# $1 - \tilde w_k$ have no digits left, and there is just one of those: its others are summed for themselves.
#
# If $\mathbb E[\hat{\mathcal L}_K] = \log p - c_1/K - c_2/K^2 - \dots$, then $\mathbb E[J] = \log p - c_1 + c_1 - K c_2/K^2 +
# (K-1)\,c_2/(K-1)^2 = \log p + c_2/K(K-1) + \dots$ What is left is of order $1/K^2$, and of either sign: $J$ is *no* bound. It is an
# estimate, and an NLL that is made of it may be too good. Papers compare bounds.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %%
if grader.after("q5"):
    model = vl.exact.LinearGaussian(data_dim=6, latent_dim=2)
    torch.manual_seed(0)
    x = model.sample(1)[0]
    with torch.no_grad():
        model.perfect_e_step()
        model.c.add_(0.6), model.log_s.add_(0.3)
        for K in (2, 4, 8, 16):
            log_w = model.draw(x, (K, 40_000)).log_w[..., 0]
            bound = torch.logsumexp(log_w, 0) - math.log(K)
            for name, values in {"L_K": bound, "J": jackknife(log_w)}.items():
                off = values - model.log_prob(x)
                error = off.std() / len(off) ** 0.5
                print(
                    f"K = {K:2d}  {name:3s}  {off.mean():+.4f} ± {error:.4f}",
                    end="   ",
                )
            print()

# %% [markdown]
# ## Question 6: does it come out?
#
# *Implement, twenty minutes.* A paper prints the mean of $n$ training runs and their standard deviation. You have $m$ runs of your own.
# Return a dict with
#
# - `"difference"`: your mean less theirs;
# - `"half width"`: of the 95 % interval for that difference, by Welch: standard error times the quantile 0.975 of Student's
#   $t$ (`stats.t.ppf`) with
#   $\nu = \dfrac{(v_1 + v_2)^2}{v_1^2/(n-1) + v_2^2/(m-1)}$ degrees of freedom, where $v_1$ and $v_2$ are the squared standard errors of
#   the two means;
# - `"comes out"`: `True` if the interval contains 0.

# %% [raw]
# # BEGIN QUESTION
# name: q6
# points: 3

# %% [raw]
# # BEGIN SOLUTION


# %%
def against_the_paper(mean, sd, n, ours):
    """Their mean and standard deviation over n runs; ours (m,) -> a dict."""
    # BEGIN SOLUTION
    m = len(ours)
    v1, v2 = sd**2 / n, float(ours.var()) / m
    nu = (v1 + v2) ** 2 / (v1**2 / (n - 1) + v2**2 / (m - 1))
    difference = float(ours.mean()) - mean
    half = stats.t.ppf(0.975, nu) * (v1 + v2) ** 0.5
    return {
        "difference": difference,
        "half width": half,
        "comes out": abs(difference) <= half,
    }
    # END SOLUTION


# %% [markdown]
# The variance of a difference is the sum of the two variances of means, $s^2/n$ each. With four runs a spread is itself known to a
# third or so, and Student's quantile pays for that: 2.45 for four against four where a normal one would say 1.96.
# "Comes out" is a weak statement all the same. A wide interval contains 0 easily; look at its width first, and say what difference
# you could have seen.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# That was the last question of the last set. What is left are your own models, your own data, and other people's tables.
