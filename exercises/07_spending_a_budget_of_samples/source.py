# %% [markdown]
# # Exercises 7: spending a budget of samples
#
# Six questions on chapter 7, from five minutes to the better part of an hour. Replace each `...`, then run the check
# below it. It makes up problems of its own, with $K$, $M$ and the batch all of different sizes, and tells you what it
# saw. Try as often as you like. `grader.solution("q1")` opens a worked solution after a first try.
#
# `log_w` holds log-weights $\log w = \log p(x, z) - \log q(z \mid x)$ in nats.

# %%
import itertools
import math

import torch

import vaelearn as vl
from vaelearn.exercises import Grader

torch.set_default_dtype(torch.float64)
grader = Grader(7)

# %% [markdown]
# ## Question 1: two remedies
#
# *Implement, five minutes.* Write the MIWAE's bound, $\frac1M \sum_m \log \frac1K \sum_k w_{km}$, and the CIWAE's,
# $\beta\, \frac1K \sum_k \log w_k + (1 - \beta) \log \frac1K \sum_k w_k$. They must survive log-weights near $-900$,
# and gradients must flow through them.

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 2

# %% [raw]
# # BEGIN SOLUTION


# %%
def miwae(log_w):
    """log_w (K, M, B) -> the MIWAE's bound (B,), in nats."""
    # BEGIN SOLUTION
    each = torch.logsumexp(log_w, 0) - math.log(log_w.shape[0])
    return each.mean(0)
    # END SOLUTION


def ciwae(log_w, beta):
    """log_w (K, B), beta in [0, 1] -> the CIWAE's bound (B,), in nats."""
    # BEGIN SOLUTION
    iwae = torch.logsumexp(log_w, 0) - math.log(log_w.shape[0])
    return beta * log_w.mean(0) + (1 - beta) * iwae
    # END SOLUTION


# %% [markdown]
# Inside the logarithm the mean is over $K$, the first axis; what is left has the shape (M, B), and there $M$ is the
# first axis. Swap the two and you have the MIWAE of another split of the same samples: a valid lower bound, with
# $\mathcal L_M$ as its mean. No assertion about bounds can notice, and at $M = K$ not even its mean differs.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 2: more of what?
#
# *Predict, ten minutes.* You train with MIWAE, and $K$ and $M$ are already large. Now $K$ becomes $aK$ and $M$ becomes
# $bM$. By what factor does each of these change, to leading order? (The conditions of chapter 6's theorem on the SNR
# hold, and no leading term happens to be zero.) Say so before you run the cell below the check.
#
# - `"gap"`: how far the bound's mean is below $\log p(x)$
# - `"spread"`: the standard deviation of the bound's estimate
# - `"encoder_snr"`: the SNR of $\phi$'s gradient
# - `"decoder_snr"`: the SNR of $\theta$'s gradient
# - `"decoder_bias"`: how far the mean of $\theta$'s gradient is from $\nabla_\theta \log p(x)$

# %% [raw]
# # BEGIN QUESTION
# name: q2
# points: 2

# %% [raw]
# # BEGIN PROMPT


# %%
def factors(a, b):
    """New value over old value, where K becomes a K and M becomes b M."""
    return {
        "gap": ...,
        "spread": ...,
        "encoder_snr": ...,
        "decoder_snr": ...,
        "decoder_bias": ...,
    }


# %% [raw]
# # END PROMPT

# %% [raw]
# # BEGIN SOLUTION


# %%
# BEGIN SOLUTION NO PROMPT
def factors(a, b):
    """New value over old value, where K becomes a K and M becomes b M."""
    return {
        "gap": 1 / a,
        "spread": 1 / math.sqrt(a * b),
        "encoder_snr": math.sqrt(b / a),
        "decoder_snr": math.sqrt(a * b),
        "decoder_bias": 1 / a,
    }


# END SOLUTION


# %% [markdown]
# $M$ averages independent copies: no mean changes, so neither the gap nor a bias, and every standard deviation falls
# as $1/\sqrt M$. $K$ makes the ratio inside the logarithm steadier. Its noise falls as $1/\sqrt K$, and what comes from
# the logarithm's curvature, the gap and the decoder's bias, as $1/K$. The encoder's whole signal is such a term (the
# gradient of $\mathrm{Var}[r]/2K$): it falls as $1/K$, faster than the noise. The decoder's signal tends to
# $\nabla_\theta \log p(x)$ and stays. (The cell below the check goes from $K = 8$ to 32. There the decoder's SNR comes
# out about a seventh lower than predicted: at $K = 8$ its mean still holds a good deal of bias, which counts as signal.)

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %%
line = vl.exact.LinearGaussian(data_dim=1, latent_dim=1)
x = torch.tensor([[2.0]])
with torch.no_grad():  # chapter 7's: q = N(0.2, 2/3), the posterior N(1, 1/2)
    line.W.fill_(1), line.b.fill_(0), line.A.fill_(0)
    line.c.fill_(0.2), line.log_s.fill_(math.log(2 / 3) / 2)
right = torch.autograd.grad(line.log_prob(x).sum(), line.b)[0]


def measured(K, M, draws=3000):
    """Gap, spread, encoder SNR (of c), decoder SNR and bias (of b)."""
    torch.manual_seed(K)
    with torch.no_grad():
        log_w = line.draw(x, (K, M * draws)).log_w.view(K, M, draws)
    bound = vl.bounds.miwae(log_w)
    g = vl.metrics.gradient_draws(line, vl.objectives.MIWAE(K, M), x, draws)
    c, b = g["c"].flatten(), g["b"].flatten()
    return torch.stack(
        [
            (line.log_prob(x) - bound).mean(),
            bound.std(),
            c.mean().abs() / c.std(),
            b.mean().abs() / b.std(),
            (b.mean() - right).abs().squeeze(),
        ]
    )


if grader.after("q2"):
    a, b = 4, 2
    found = measured(8 * a, 8 * b) / measured(8, 8)
    for (name, factor), seen in zip(factors(a, b).items(), found, strict=True):
        print(f"{name:13s} predicted {factor}   measured {seen:.3f}")

# %% [markdown]
# ## Question 3: as tight as the other
#
# *Derive, a quarter of an hour.* Suppose $\log w \sim N(m, s^2)$, as in chapter 5's exercises. From the same $MK$
# samples take the MIWAE, $M$ groups of $K$, and the CIWAE with all $MK$ in one group. For which $\beta$ have the two
# bounds the same mean, to first order? Replace the gaps $\log p(x) - \mathcal L_K$ and
# $\log p(x) - \mathcal L_{MK}$ by their first order, $\mathrm{Var}[r]/2K$ and $\mathrm{Var}[r]/2MK$ with $r = w/p(x)$;
# take the ELBO's gap exactly. ($K$ is so large that $0 \le \beta \le 1$.)

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 2

# %% [raw]
# # BEGIN SOLUTION


# %%
def matching_beta(s, K, M):
    """The beta, a number, where CIWAE(MK, beta) is as tight as MIWAE(M, K).

    s is the standard deviation of log w.
    """
    # BEGIN SOLUTION
    kl, variance = s**2 / 2, math.exp(s**2) - 1
    apart, joint = variance / (2 * K), variance / (2 * M * K)
    return (apart - joint) / (kl - joint)
    # END SOLUTION


# %% [markdown]
# The MIWAE's gap is that of $\mathcal L_K$, for every $M$: $V/2K$, where $V = \mathrm{Var}[r] = e^{s^2} - 1$. The
# CIWAE's is $\beta\,\mathrm{KL} + (1 - \beta)\,V/2MK$, where $\mathrm{KL} = \log p(x) - \mathrm{ELBO} = (m + s^2/2) - m
# = s^2/2$. Set them equal:
#
# $$\beta = \frac{V/2K - V/2MK}{s^2/2 - V/2MK} \approx \frac{V}{K s^2}\Big(1 - \frac1M\Big).$$
#
# At $s = 1$ and $M = K = 8$ that is 0.19: with the popular $\beta = \frac12$ the CIWAE is the looser of the two. (It is a
# first-order number. A simulation has the gap of $\mathcal L_8$ at 0.090, where $V/2K$ is 0.107, and 0.16 for $\beta$.)
# $M = 1$ gives 0, for then both are the same $\mathcal L_K$.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 4: a PIWAE that is none
#
# *Repair, twenty minutes.* In PIWAE $\phi$ descends minus the MIWAE's bound, $\theta$ minus $\hat{\mathcal L}_{MK}$, both
# averaged over the data points and both from one draw. The cell below trains without complaint at $M = K = 8$, and
# its losses fall. Three things are wrong with it. Find and mend them.

# %% [raw]
# # BEGIN QUESTION
# name: q4
# points: 3

# %% [raw]
# # BEGIN PROMPT


# %%
def piwae_backward(model, log_w):
    """log_w (K, M, B), drawn from `model` -> L_MK (B,), detached.

    Every .grad is None before. After, model.inference_parameters() hold in
    .grad the gradient of the encoder's loss, and
    model.generative_parameters() that of the decoder's loss; nothing else
    may arrive there.
    """
    K, M, _ = log_w.shape
    encoder = (torch.logsumexp(log_w, 1) - math.log(M)).mean(0)
    decoder = torch.logsumexp(log_w.flatten(0, 1), 0) - math.log(K)
    (-encoder.mean()).backward(retain_graph=True)
    (-decoder.mean()).backward()
    return decoder.detach()


# %% [raw]
# # END PROMPT

# %% [raw]
# # BEGIN SOLUTION


# %%
# BEGIN SOLUTION NO PROMPT
def piwae_backward(model, log_w):
    """log_w (K, M, B), drawn from `model` -> L_MK (B,), detached.

    Every .grad is None before. After, model.inference_parameters() hold in
    .grad the gradient of the encoder's loss, and
    model.generative_parameters() that of the decoder's loss; nothing else
    may arrive there.
    """
    K, M, _ = log_w.shape
    encoder = (torch.logsumexp(log_w, 0) - math.log(K)).mean(0)
    decoder = torch.logsumexp(log_w.flatten(0, 1), 0) - math.log(M * K)
    phi, theta = model.inference_parameters(), model.generative_parameters()
    (-encoder.mean()).backward(inputs=phi, retain_graph=True)
    (-decoder.mean()).backward(inputs=theta)
    return decoder.detach()


# END SOLUTION


# %% [markdown]
# 1. The encoder's logarithm went over $M$, its mean over $K$. At $M = K$ nobody can tell; elsewhere the encoder climbs
#    $\mathcal L_M$.
# 2. $\hat{\mathcal L}_{MK}$ is a mean of $MK$ weights, so $\log MK$ comes off. With $\log K$ the report is $\log M$ nats
#    too good. The gradient does not mind, which is why training showed nothing.
# 3. `backward()` fills the `.grad` of every parameter that it reaches, and both losses reach both networks. `inputs=`
#    says which are meant. (Two calls of `torch.autograd.grad`, one for each set, do as well.)

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 5: every group of K
#
# *Implement, three quarters of an hour.* MIWAE splits its $N = MK$ samples into $M$ groups of $K$. Which sample is in
# which group is chance. But *any* $K$ of the $N$ make a group, and its $\log \frac1K \sum w$ has the mean
# $\mathcal L_K$. So take them all:
#
# - `every_group`: the mean of $\log \frac1K \sum_{k \in G} w_k$ over all groups $G$ of $K$ different samples out of $N$
#   ($N$ need not be a multiple of $K$).
# - `shuffled`: where the groups are too many, split the $N = MK$ samples at random into $M$ groups of $K$, take the MIWAE
#   of that split, and average this over $R$ random splits, each as likely as any other. (One split may serve all data
#   points.) Leave the seed of PyTorch alone. A loop over the $R$ splits passes, but it is slow: try without.
#
# Gradients must flow through both. Before you run the cell below the check: which of MIWAE, `every_group` and
# `shuffled` has the largest variance, and which the smallest?

# %% [raw]
# # BEGIN QUESTION
# name: q5
# points: 3

# %% [raw]
# # BEGIN SOLUTION


# %%
def every_group(log_w, K):
    """log_w (N, B), 1 <= K <= N -> mean over all groups of K (B,), in nats."""
    # BEGIN SOLUTION
    groups = list(itertools.combinations(range(len(log_w)), K))
    chosen = log_w[torch.tensor(groups)]  # (groups, K, B)
    return (torch.logsumexp(chosen, 1) - math.log(K)).mean(0)
    # END SOLUTION


def shuffled(log_w, K, R):
    """log_w (N, B), N = MK -> mean of R random splits' MIWAEs (B,), in nats."""
    # BEGIN SOLUTION
    N, B = log_w.shape
    order = torch.rand(R, N).argsort(1)  # R permutations
    groups = log_w[order].reshape(R, N // K, K, B)
    return (torch.logsumexp(groups, 2) - math.log(K)).mean((0, 1))
    # END SOLUTION


# %% [markdown]
# Each group has the law of $K$ fresh samples, so every average of groups has the mean $\mathcal L_K$: the bound is the
# MIWAE's, $\phi$ and $\theta$ climb the same function. The variance is not the same. Given the samples without their
# order, all splits are equally likely, and the mean of the MIWAE over them is `every_group`, $U$. So
# $\mathrm{MIWAE} = U + (\mathrm{MIWAE} - U)$ with a second part that has mean zero whatever the samples: it is not
# correlated with $U$, and $\mathrm{Var}[\mathrm{MIWAE}] = \mathrm{Var}[U] + \mathrm{Var}[\mathrm{MIWAE} - U]$.
# Averaging $R$ independent splits of the same samples divides only the second term by $R$:
#
# $$\mathrm{Var}[\mathrm{shuffled}] = \mathrm{Var}[U] + \tfrac1R \big(\mathrm{Var}[\mathrm{MIWAE}] - \mathrm{Var}[U]\big).$$
#
# Ten splits give nine tenths of what all groups could give, and cost no sample: networks are not called again.
# $U$ is what statisticians call a U-statistic. Its ends are old friends, the ELBO at $K = 1$ and
# $\hat{\mathcal L}_N$ at $K = N$; there all splits agree, and nothing is to be gained.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %%
if grader.after("q5"):
    model = vl.exact.LinearGaussian(data_dim=3, latent_dim=2)
    torch.manual_seed(1)
    x = model.sample(1)[0]
    with torch.no_grad():
        model.perfect_e_step()
        model.c.add_(0.9), model.log_s.add_(0.2)
        log_w = model.draw(x, (12, 4000)).log_w[..., 0]  # N = 12, 4,000 times
    estimates = {
        "MIWAE": vl.bounds.miwae(log_w.view(4, 3, -1)),
        "shuffled, R = 10": shuffled(log_w, 4, 10),
        "every_group": every_group(log_w, 4),
    }
    for name, bound in estimates.items():
        error = bound.std() / len(bound) ** 0.5
        print(f"{name:17s} mean {bound.mean():.3f} ± {error:.3f}", end="")
        print(f"   variance {bound.var():.3f}")

# %% [markdown]
# ## Question 6: few of many
#
# *Implement, twenty minutes.* The gradient of a bound is $\sum_k a_k g_k$ with the shares $a_k$ and
# $g_k = \nabla \log w_k$. Keep sample $k$ with probability $\pi_k = \min(1, c\,a_k)$, by a coin of its own, and let it
# count $W_k = a_k/\pi_k$; a sample that is dropped counts 0.
#
# - `thin`: the numbers $W_k$ for one toss of all coins. A share may be exactly 0.
# - `added_noise`: what the coins add to the variance, $\mathbb E\,\big\|\sum_k (W_k - a_k)\, g_k\big\|^2$, in closed form,
#   from the shares and the lengths $\|g_k\|$.

# %% [raw]
# # BEGIN QUESTION
# name: q6
# points: 3

# %% [raw]
# # BEGIN SOLUTION


# %%
def thin(shares, c):
    """shares (N, B) >= 0, c > 0 -> W (N, B), whose mean over coins is shares"""
    # BEGIN SOLUTION
    pi = (c * shares).clamp(max=1)
    kept = torch.rand_like(pi) < pi
    return torch.where(kept, shares.clamp(min=1 / c), 0)  # a / π = max(a, 1/c)
    # END SOLUTION


def added_noise(shares, lengths, c):
    """shares, lengths (N, B), c > 0 -> the coins' part of the variance (B,)."""
    # BEGIN SOLUTION
    weights = shares.clamp(min=1 / c)
    return (shares * (weights - shares) * lengths**2).sum(0)
    # END SOLUTION


# %% [markdown]
# $W_k$ is $a_k/\pi_k$ with probability $\pi_k$, so $\mathbb E[W_k] = a_k$: unbiased, for any $c$. And
# $\mathrm{Var}[W_k] = a_k^2/\pi_k - a_k^2 = (1/\pi_k - 1)\,a_k^2$. The coins are independent, so the products of different
# samples vanish on average, and
#
# $$\mathbb E\,\Big\|\sum_k (W_k - a_k)\, g_k\Big\|^2 = \sum_k \Big(\frac1{\pi_k} - 1\Big)\, a_k^2\, \|g_k\|^2 .$$
#
# Since $a_k/\pi_k = \max(a_k, 1/c)$, nothing has to be divided by a share that may be 0. A sample with $a_k \ge 1/c$ is
# always kept and adds nothing. The others add $a_k (1/c - a_k) \|g_k\|^2$ each.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %%
if grader.after("q6"):
    log_w = 2 * torch.randn(50, 1)
    shares, lengths = log_w.softmax(0), torch.ones(50, 1)
    for c in (1, 2, 4, 8, 16):
        kept = (thin(shares.expand(50, 1000), c) > 0).sum(0).double().mean()
        noise = added_noise(shares, lengths, c).item()
        print(f"c = {c:2d}   kept {kept:5.2f} of 50   added noise {noise:.4f}")

# %% [markdown]
# That was the last one. A budget can be split in better ways than one, and need not be paid twice; chapter 8 leaves the
# split alone and takes the noise out of the gradient.
