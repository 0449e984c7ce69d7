# %% [markdown]
# # Exercises 9: what the ELBO does not want
#
# Six questions on chapter 9. The first takes five minutes, the last most of an hour. You measure what a code says,
# predict where its nats go, and find out what the ELBO pays for and what it does not. Write where the `...` stand and
# run the check below: it tries your answer on new problems each time, and tells you what it found. Once you have
# tried, `grader.solution("q1")` opens a worked solution.
#
# Everything is in nats. As in the chapter, $q(x, z) = p_D(x)\, q(z \mid x)$, $q(z)$ is its average over the data, and
# $I_q(x; z)$ the mutual information under it.

# %%
import math

import torch
from torch.distributions import Normal

import vaelearn as vl
from vaelearn.exact import LinearGaussian
from vaelearn.exercises import Grader
from vaelearn.toy import TwoClusters

torch.set_default_dtype(torch.float64)
grader = Grader(9)

# %% [markdown]
# ## Question 1: the aggregate posterior
#
# *Implement, five minutes.* A data set of $N$ rows has encoders
# $q(z \mid x_j) = N(\mu_j, \operatorname{diag}(s_j^2))$. Write $\log q(z)$, with $q(z) = \frac1N \sum_j q(z \mid x_j)$.
# The $M$ codes may come from anywhere, also from places so far from every encoder that all $N$ densities are 0 in
# floating point. The result must be finite there too, and a gradient must reach `z`.

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 2

# %% [raw]
# # BEGIN SOLUTION


# %%
def log_aggregate(z, mean, std):
    """Codes z (M, L), encoders mean, std (N, L) -> log q(z) (M,)."""
    # BEGIN SOLUTION
    each = Normal(mean, std).log_prob(z[:, None])  # (M, N, L)
    return each.sum(-1).logsumexp(1) - math.log(len(mean))
    # END SOLUTION


# %% [markdown]
# The order is the point. Within one encoder the coordinates are independent, so their log-densities add up: sum over
# $L$ first. Then the mean over encoders, a mean of *densities*: `logsumexp`, less $\log N$. Turned round, the mean
# first and then the sum, it would be the product of $L$ one-dimensional mixtures. That is a cloud with $N^L$ bumps
# where $q(z)$ has $N$.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 2: the split, exactly
#
# *Implement, a quarter of an hour.* Where $x$ and $z$ each take a few values only, everything is a table: `p_data[n]`
# is $p_D(x_n)$, `encoder[n, k]` is $q(z = k \mid x_n)$, `prior[k]` is $p(z = k)$. Compute $I_q(x; z)$ and
# $\mathrm{KL}(q(z)\,\|\,p(z))$ without sampling. The prior is positive. An encoder may hold zeros
# ($0 \log 0 = 0$), and a code may be used by no row at all.

# %% [raw]
# # BEGIN QUESTION
# name: q2
# points: 2

# %% [raw]
# # BEGIN SOLUTION


# %%
def split(p_data, encoder, prior):
    """Tables (N,), (N, S), (S,) -> I_q(x; z) (), KL(q(z) || p(z)) ()."""
    # BEGIN SOLUTION
    q_z = p_data @ encoder
    each = torch.xlogy(encoder, encoder) - torch.xlogy(encoder, q_z)
    marginal = torch.xlogy(q_z, q_z) - torch.xlogy(q_z, prior)
    return (p_data @ each).sum(), marginal.sum()
    # END SOLUTION


# %% [markdown]
# $I_q = \mathbb E_{p_D} \mathrm{KL}(q(z \mid x)\,\|\,q(z))$: both terms are KLs, and have the same form.
# `torch.xlogy(q, q)` is $q \log q$, and 0 where $q = 0$. Where $q(z) = 0$, every row with $p_D(x) > 0$ has
# $q(z \mid x) = 0$ too, and $0 \cdot \log 0$ is again 0. Add the two results: it is the average KL to the prior, the
# theorem of the chapter.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 3: where do the nats go?
#
# *Predict, ten minutes.* A data set has $N$ different rows. Their codes $q(z \mid x_n) = N(\mu_n, s^2 I)$ live in $L$
# dimensions, and $s$ is tiny: the codes lie so far apart, measured in $s$, that each $z$ tells its row. The centres
# $\mu_n$ have mean 0, the prior is $N(0, I)$. By how many nats will $I_q(x; z)$ and $\mathrm{KL}(q(z)\,\|\,p(z))$
# change (up is positive), if only
#
# - `"narrower"`: $s$ becomes $s / c$, with $c > 1$
# - `"copies"`: each row stands in the data set $r$ times, $r \ge 2$
# - `"fresh"`: $rN$ different rows take the place of the $N$; their codes can be told apart as well, and the average KL
#   stays what it was
# - `"shifted"`: all codes move by one vector of length $v$
#
# Leave out what vanishes with $s$. Once the check is content, the cell below it measures.

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 2

# %% [raw]
# # BEGIN PROMPT


# %%
def prediction(c, r, L, v):
    """Two numbers each: the change of I, the change of KL(q(z) || p(z))."""
    return {
        "narrower": (..., ...),
        "copies": (..., ...),
        "fresh": (..., ...),
        "shifted": (..., ...),
    }


# %% [raw]
# # END PROMPT

# %% [raw]
# # BEGIN SOLUTION


# %%
# BEGIN SOLUTION NO PROMPT
def prediction(c, r, L, v):
    """Two numbers each: the change of I, the change of KL(q(z) || p(z))."""
    return {
        "narrower": (0.0, L * math.log(c)),
        "copies": (0.0, 0.0),
        "fresh": (math.log(r), -math.log(r)),
        "shifted": (0.0, v**2 / 2),
    }


# END SOLUTION


# %% [markdown]
# Two facts do it. Codes that can be told apart hold all there is to know about the row, $I_q = \log N$ for $N$ rows
# (the entropy of $p_D$). And the average KL has a closed form,
# $\frac1N \sum_n \frac12 (|\mu_n|^2 + L s^2 - L) - L \log s$. The marginal KL is what is left of it.
#
# - Narrower codes cost $L \log c$ and say nothing more. From here on the marginal KL pays for everything.
# - Copies change neither $q(z)$ nor the average KL. The bound $\log (\text{rows})$ is now out of reach: the entropy of
#   $p_D$ is the true one, and it is still $\log N$.
# - Fresh rows raise $\log N$ by $\log r$; with the average KL fixed, the marginal KL falls by as much.
# - A shift adds $v^2/2$ to the average of $|\mu_n|^2/2$. Information is blind to it, so the marginal KL takes it all.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %%
if grader.after("q3"):
    model = LinearGaussian(data_dim=2, latent_dim=2)

    def ring(rows):
        """Evenly spaced on a circle of radius 3."""
        angle = torch.arange(rows) * 2 * math.pi / rows
        return 3 * torch.stack((angle.cos(), angle.sin()), 1)

    def measure(x, s=1e-4, shift=0.0):
        """I and KL(q(z) || p(z)) of the codes N(x + shift, s²)."""
        torch.manual_seed(0)
        with torch.no_grad():
            model.A.copy_(torch.eye(2))
            model.c.fill_(shift / 2**0.5)
            model.log_s.fill_(math.log(s))
        terms = [vl.metrics.information(model, x) for _ in range(20)]
        names = ("mutual_information", "marginal_kl")
        return [sum(t[k].mean().item() for t in terms) / 20 for k in names]

    c, r, L, v, before = 10, 3, 2, 1.5, measure(ring(300))
    said = prediction(c, r, L, v)
    print("           change of I        change of KL(q(z) || p(z))")
    for name, after in (
        ("narrower", measure(ring(300), s=1e-4 / c)),
        ("copies", measure(ring(300).repeat(r, 1))),
        ("fresh", measure(ring(300 * r))),
        ("shifted", measure(ring(300), shift=v)),
    ):
        print(f"{name:9s}", end="")
        for you, old, new in zip(said[name], before, after, strict=True):
            print(f"  {new - old:+.2f} (you: {you:+.2f})", end="")
        print()

# %% [markdown]
# ## Question 4: two points with many pixels
#
# *Derive, twenty minutes.* Chapter 9's exploding inference had two points of one pixel. Now each has $D$ pixels, all
# alike: the data are $x = (c, \dots, c)$ and $x = (-c, \dots, -c)$, with $c > 0$. The code has one dimension, with
# prior $N(0, \rho^2)$ and $q(z \mid x) = N(\pm\mu, s^2)$. The decoder is $N(m(z), \sigma^2 I)$ with the best function
# $m$ and the best number $\sigma$ for this $q$. The objective is a $\beta$-VAE's, averaged over the two points,
#
# $$\mathcal L_\beta = \mathbb E_q[\log p(x \mid z)] - \beta\, \mathrm{KL}\big(q(z \mid x)\,\|\,N(0, \rho^2)\big).$$
#
# Let $\mu \to \infty$ with all else fixed. Then $\mathcal L_\beta / \mu^2$ tends to a number. Which? (With
# $D = c = \beta = \rho = 1$ it is the chapter's.)

# %% [raw]
# # BEGIN QUESTION
# name: q4
# points: 3

# %% [raw]
# # BEGIN SOLUTION


# %%
def explosion_rate(c, s, D, beta, rho):
    """The limit of L_beta / mu² (s and rho are standard deviations)."""
    return D / (4 * s**2) - beta / (2 * rho**2)  # SOLUTION


# %% [markdown]
# The best $m(z)$ is $c \tanh(\mu z / s^2)$ in every pixel, and the best $\sigma^2$ is the mean squared error of a pixel,
# $c^2\, \mathbb E_q[\operatorname{sech}^2]$. With $b = \mu / s$ the chapter found
# $\log \mathbb E_q[\operatorname{sech}^2] = -b^2/2 - \log b + O(1)$. So
#
# $$-\tfrac D2 \log(2\pi e \sigma^2) = \tfrac D4 b^2 + \tfrac D2 \log b - D \log c + O(1),$$
#
# and $c$ is a constant, which $\mu^2$ outgrows. The KL is $\mu^2 / 2\rho^2$ and terms without $\mu$. It is paid once,
# the reward comes once a *pixel*. The rate is positive for $s^2 < D \rho^2 / 2\beta$: with 784 pixels and
# $\beta = \rho = 1$ that is $s < 19.8$. Codes twenty times as wide as the prior, and still it pays to flee. (At
# equality the rate is 0, and $\tfrac D2 \log b$ still grows.) The pixels here are copies of one another: once $z$ gives
# away the sign, all $D$ of them have their needle.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# Your limit, beside the objective at $\mu = 100\, s$ by quadrature (with $\beta = c = \rho = 1$). How wide may a code be
# with 784 pixels?


# %%
if grader.after("q4"):

    def objective(mu, s, D):
        """L_beta with beta = c = rho = 1."""
        terms = TwoClusters(mu, s).terms()
        return D * terms["reconstruction"] - terms["kl"]

    for D in (1, 784):
        for s in (0.5, 1.0, 19.0, 21.0):
            mu = 100 * s
            value = objective(mu, s, D) / mu**2
            limit = explosion_rate(1, s, D, 1, 1)
            print(f"D = {D:3d}  s = {s:4.1f}   L / mu² {value:9.4f}", end="")
            print(f"   your limit {limit:9.4f}")

# %% [markdown]
# ## Question 5: the split from a batch
#
# *Repair, half an hour.* The data set has $N$ rows, too many for all pairs. So a batch of $B$ different rows is drawn
# from it evenly, $2 \le B \le N$, with one code $z_i \sim q(z \mid x_i)$ for each. The prior is $N(0, I)$. We want
# $\log q(z \mid x) - \log q(z)$ and $\log q(z) - \log p(z)$ at each code, where $q(z)$ is that of *all* $N$ rows.
# The estimate of $q(z_i)$, before its logarithm, should be a weighted sum of $q(z_i \mid x_j)$ over the batch. Row $i$
# is in the batch for certain, since $z_i$ came from it; the others are there by a fair draw, and share one weight.
# Averaged over these draws, with $x_i$ and $z_i$ held, the estimate should be exactly $q(z_i)$.
#
# The cell holds three bugs. Mend them.

# %% [raw]
# # BEGIN QUESTION
# name: q5
# points: 3

# %% [raw]
# # BEGIN PROMPT


# %%
def split_estimate(z, mean, std, N):
    """z, mean, std (B, L): the codes and encoders of B out of N rows.

    -> log q(z|x) - log q(z) (B,), log q(z) - log p(z) (B,)
    """
    pairs = Normal(mean, std).log_prob(z[:, None]).mean(-1)
    log_q_z = pairs.logsumexp(0) - math.log(len(z))
    log_prior = Normal(0.0, 1.0).log_prob(z).sum(-1)
    return pairs.diagonal() - log_q_z, log_q_z - log_prior


# %% [raw]
# # END PROMPT

# %% [raw]
# # BEGIN SOLUTION


# %%
# BEGIN SOLUTION NO PROMPT
def split_estimate(z, mean, std, N):
    """z, mean, std (B, L): the codes and encoders of B out of N rows.

    -> log q(z|x) - log q(z) (B,), log q(z) - log p(z) (B,)
    """
    B = len(z)
    pairs = Normal(mean, std).log_prob(z[:, None]).sum(-1)
    weights = torch.full((B, B), (1 - 1 / N) / (B - 1))
    weights.fill_diagonal_(1 / N)
    log_q_z = (pairs + weights.log()).logsumexp(1)
    log_prior = Normal(0.0, 1.0).log_prob(z).sum(-1)
    return pairs.diagonal() - log_q_z, log_q_z - log_prior


# END SOLUTION


# %% [markdown]
# 1. The log-density of a code is a *sum* over latents, as in the chapter's pitfall.
# 2. `pairs[i, j]` is $\log q(z_i \mid x_j)$, so the sum over encoders runs along axis 1. Axis 0 sums over codes.
# 3. $q(z_i) = \frac1N q(z_i \mid x_i) + \frac{N - 1}N \times$ the mean over the other $N - 1$ rows. The batch estimates
#    that last mean by one over its $B - 1$ others, without bias. The weights are $\frac1N$ and $\frac{N-1}{N(B-1)}$.
#    With $\frac1B$ for all, row $i$ counts for $N/B$ rows.
#
# What does it change? With $\frac1B$ for all, no term can exceed $\log B$, and the information is too *low* on average:
# it is that of a data set of $B$ rows. The repaired $\hat q(z_i)$ is unbiased, but its logarithm is too low on average
# (Jensen), so the information comes out too *high*. Neither is the truth; on average they fence it in. The next
# cell shows the fence.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# This cell needs your function. It takes the split from batches, with $\frac1B$ for all (the library's, which takes a
# batch for the data set) and repaired, beside that of all 1,000 rows. Which is too low, which too high?

# %%
torch.manual_seed(0)
model = LinearGaussian(data_dim=5, latent_dim=2)
x = model.marginal().sample((1000,))
with torch.no_grad():
    model.log_sigma.fill_(-1.0)
    model.perfect_e_step()
    everything = vl.metrics.information(model, x)["mutual_information"]
    print(f"all 1000 rows     {everything.mean():.2f}")
    for B in (5, 20, 80):
        equal, repaired = [], []
        for _ in range(1600 // B):
            batch = x[torch.randperm(len(x))[:B]]
            q = model.posterior(batch).base_dist
            estimate = split_estimate(q.sample(), q.mean, q.stddev, len(x))
            repaired.append(estimate[0].mean())
            terms = vl.metrics.information(model, batch)
            equal.append(terms["mutual_information"].mean())
        low, high = (sum(e) / len(e) for e in (equal, repaired))
        print(f"B = {B:2d}   equal {low:.2f} (log B {math.log(B):.2f})", end="")
        print(f"   repaired {high:.2f}")

# %% [markdown]
# ## Question 6: what can the best decoder reach?
#
# *Implement, three quarters of an hour, most of it with a pencil.* A population has $N$ different images of $D$ binary
# pixels, with probabilities `p_data`. The code takes $S$ values; `encoder` and `prior` are tables as in question 2.
# The encoder is given. Which average ELBO does the *best decoder* for it reach,
#
# 1. if $p(x \mid z)$ may be any distribution over images, as an ideal autoregressive decoder's may,
# 2. if it must be factorised, $p(x \mid z) = \prod_d p(x_d \mid z)$, as a Bernoulli decoder is?
#
# Find each optimum on paper, then compute it. A decoder may give an image probability 0, where $q(x \mid z)$ does.
# Zeros and unused codes are allowed as before, and rounding must not push a probability above 1.

# %% [raw]
# # BEGIN QUESTION
# name: q6
# points: 3

# %% [raw]
# # BEGIN SOLUTION


# %%
def best_elbos(p_data, images, encoder, prior):
    """p_data (N,), images (N, D) of 0 and 1, encoder (N, S), prior (S,)

    -> best average ELBO with any decoder (), with a factorised one ()
    """
    # BEGIN SOLUTION
    joint = p_data[:, None] * encoder  # q(x, z), (N, S)
    q_z = joint.sum(0)
    rate = (torch.xlogy(joint, encoder) - torch.xlogy(joint, prior)).sum()
    any_decoder = (torch.xlogy(joint, joint) - torch.xlogy(joint, q_z)).sum()

    white = joint.T @ images  # q(x_d = 1, z), (S, D)
    black = joint.T @ (1 - images)
    both = torch.stack((white, black))
    factorised = torch.xlogy(both, both) - torch.xlogy(both, q_z[:, None])
    return any_decoder - rate, factorised.sum() - rate
    # END SOLUTION


# %% [markdown]
# For each $z$ the decoder faces $\mathbb E_{q(x \mid z)}[\log p(x \mid z)]$, and by Gibbs' inequality
# nothing beats $p = q$. If all distributions are allowed, $p(x \mid z) = q(x \mid z)$ and the reconstruction is
# $-H_q(x \mid z)$. If pixels must be independent, the expectation is a sum over pixels, and for each of them
# $p(x_d \mid z) = q(x_d \mid z)$ is best: $-\sum_d H_q(x_d \mid z)$. The average KL comes off both.
#
# The first can be written more shortly. $-H_q(x \mid z) = -H(p_D) + I_q$, and the information that the KL charges is
# paid back in full: what remains is $-H(p_D) - \mathrm{KL}(q(z)\,\|\,p(z))$. The code's content has no say in it.
# The difference of the two, $\sum_d H_q(x_d \mid z) - H_q(x \mid z) \ge 0$, is how much the pixels still know about one
# another once the code is known. Only a decoder that *cannot* reach $q(x \mid z)$ by itself, here because it cannot tie
# pixels together, gains by a code.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# This cell needs your function too. Its images, of four pixels, are of one of two shades, with each pixel flipped with
# probability ¼. The code has two values, and the encoder goes from blind ($t = 0$) past the true posterior of the shade
# ($t = 1$) to nearly hard. Which column will move? Where will the two meet?

# %%
if grader.after("q6"):
    images = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    shades = torch.tensor([[0.25], [0.75]])
    log_x = torch.distributions.Bernoulli(shades[:, None]).log_prob(images)
    log_joint = log_x.sum(-1).T + math.log(0.5)  # (16, 2): image, shade
    prior, p_data = torch.tensor([0.5, 0.5]), log_joint.exp().sum(1)
    for t in (0.0, 0.2, 0.5, 1.0, 2.0, 4.0):
        encoder = torch.softmax(t * log_joint, 1)
        free, factorised = best_elbos(p_data, images, encoder, prior)
        print(f"t = {t:.1f}   any decoder {free:.4f}", end="")
        print(f"   factorised {factorised:.4f}")

# %% [markdown]
# So much for what the ELBO does not want. Chapter 10 gives its terms weights of their own, and asks again.
