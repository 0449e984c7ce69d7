# %% [markdown]
# # Exercises 3: the score-function gradient
#
# Five questions on chapter 3. The first is five minutes' work; the last two ask for paper, a pencil and more than
# half an hour each. Fill in the `...`, run the check below your answer, and read what it says: it has tried you on
# problems made up a moment ago, and tells you what it saw. Try as often as you like. After a try,
# `grader.solution("q1")` opens a worked solution.
#
# The notation is the chapter's: $f = \log w = \log p(x, z) - \log q(z \mid x)$ in nats, $s = \nabla_\phi \log q(z \mid
# x)$ is the score, and $g = \nabla_\phi \mathcal L = \mathbb E_q[f s]$ is the ELBO's exact gradient. Samples are plain
# numbers: they carry no gradient.

# %%
import math

import torch

import vaelearn as vl
from vaelearn.exercises import Grader

torch.set_default_dtype(torch.float64)
grader = Grader(3)

# %% [markdown]
# ## Question 1: a surrogate
#
# *Implement, five minutes.* Write a number whose *gradient* is the score-function estimator
# $\frac{1}{KB} \sum_{k, n} (\log w_{kn} - b_n)\, \nabla \log q(z_{kn} \mid x_n)$, an ascent direction for the ELBO's
# mean over $B$ data points. All three arguments may arrive with a graph behind them: `log_w` holds
# $-\log q$, and `b` comes from a small network that has a loss of its own. Nothing but the score may be differentiated.

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 2

# %% [raw]
# # BEGIN SOLUTION


# %%
def surrogate(log_w, log_q, b):
    """log_w (K, B), log_q (K, B), b (B,), in nats -> (): to be climbed."""
    # BEGIN SOLUTION
    return ((log_w - b).detach() * log_q).mean()
    # END SOLUTION


# %% [markdown]
# Autograd differentiates a product in both factors, and we want one term of the two: reward times $\nabla \log q$. So
# the reward is detached *whole*. A forgotten `log_w` would add $-\log q\, \nabla \log q$, whose mean is the gradient of
# the entropy. A forgotten `b` leaves $\phi$'s gradient alone, but pushes the baseline's network along the mean of
# $-\log q$, which has nothing to do with the reward. `b` needs no `unsqueeze`: (B,) meets (K, B) at the last axis.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 2: what is left of the gradient?
#
# *Predict, ten minutes.* You have $K \ge 2$ independent samples for one $x$, and average
# $\frac1K \sum_k (f_k - b_k)\, s_k$. Here are five baselines. With each of them the average has the mean
# $c\, g$, the exact gradient times a number that may depend on $K$ and on nothing else. Which number?
#
# - `"first"`: $b_k = f_1$, the same for every $k$
# - `"half"`: $b_k = f_k / 2$
# - `"twice"`: $b_k$ is the mean of $K + 1$ numbers: all $K$ log-weights, and $f_k$ once more
# - `"largest"`: $b_k$ is the largest of the other $K - 1$ log-weights
# - `"sum"`: $b_k$ is the sum of the other $K - 1$, which somebody forgot to divide
#
# Write each as a formula in $K$. Only then run the cell below the check.

# %% [raw]
# # BEGIN QUESTION
# name: q2
# points: 2

# %% [raw]
# # BEGIN PROMPT


# %%
def shares(K):
    """K >= 2 samples -> the five numbers c, by name."""
    return {
        "first": ...,
        "half": ...,
        "twice": ...,
        "largest": ...,
        "sum": ...,
    }


# %% [raw]
# # END PROMPT

# %% [raw]
# # BEGIN SOLUTION


# %%
# BEGIN SOLUTION NO PROMPT
def shares(K):
    """K >= 2 samples -> the five numbers c, by name."""
    return {
        "first": (K - 1) / K,
        "half": 1 / 2,
        "twice": (K - 1) / (K + 1),
        "largest": 1,
        "sum": 1,
    }


# END SOLUTION


# %% [markdown]
# One question settles all five: what is $\mathbb E[b_k s_k]$? If $b_k$ is made of *other* samples, it is independent of
# $s_k$, and $\mathbb E[b_k]\, \mathbb E[s_k] = 0$. It does not matter which function of them it is: a maximum is as good
# as a mean, and a sum, though wild, is unbiased too. If $b_k$ holds $a f_k$ and nothing else of sample $k$, then
# $\mathbb E[b_k s_k] = a\, \mathbb E[f_k s_k] = a g$, and $1 - a$ is left.
#
# "half" has $a = \frac12$, "twice" $a = 2 / (K + 1)$. In "first", one sample in $K$ has $a = 1$ and the others have
# $a = 0$: the mean over $k$ is $1 - 1/K$.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %%
if grader.after("q2"):
    torch.manual_seed(0)
    model, K = vl.exact.LinearGaussian(data_dim=3, latent_dim=1), 4
    x = model.marginal().sample((1,))
    with torch.no_grad():
        draw, q = model.draw(x, (K, 100_000)), model.posterior(x)
        f = draw.log_w.squeeze() - model.elbo(x)  # less a constant: less noise
        s = ((draw.z - q.mean) / q.variance).squeeze()  # the score of q's mean
    itself = torch.eye(K, dtype=torch.bool)[:, :, None]
    others = f.expand(K, K, -1).masked_fill(itself, -math.inf)
    baselines = {
        "first": f[:1],
        "half": f / 2,
        "twice": (f.sum(0) + f) / (K + 1),
        "largest": others.amax(1),
        "sum": f.sum(0) - f,
    }
    for name, b in baselines.items():
        share = ((f - b) * s).mean(0) / model.gradient(x)["c"]
        print(
            f"{name:>8} {share.mean():6.3f} ± {share.std() / 100_000**0.5:.3f}"
        )

# %% [markdown]
# ## Question 3: three bugs
#
# *Repair, a quarter of an hour.* The cell below should give the E-step's loss with the leave-one-out baseline: its
# gradient is to be minus the mean over the data points of
# $\frac1K \sum_k (\log w_k - b_k)\, \nabla \log q(z_k \mid x)$, where $b_k$ is the mean of the $K - 1$ other log-weights
# at the same $x$. For the log file it should also give the $K$-sample bound $\log \frac1K \sum_k w_k$ of each data point,
# averaged over the data points, also where all log-weights are near $-900$. It runs, and its numbers look plausible.
# Yet it holds three of chapter 3's pitfalls. Find and mend them.

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 3

# %% [raw]
# # BEGIN PROMPT


# %%
def loss_and_bound(log_w, log_q):
    """log_w (K, B), log_q (K, B), with gradients -> loss (), bound ()."""
    K, B = log_w.shape
    reward = log_w - log_w.mean(0)
    loss = -(reward * log_q).mean()
    bound = torch.logsumexp(log_w.sum(1), 0) - math.log(K)
    return loss, bound / B


# %% [raw]
# # END PROMPT

# %% [raw]
# # BEGIN SOLUTION


# %%
# BEGIN SOLUTION NO PROMPT
def loss_and_bound(log_w, log_q):
    """log_w (K, B), log_q (K, B), with gradients -> loss (), bound ()."""
    K = len(log_w)
    others = (log_w.sum(0) - log_w) / (K - 1)
    reward = (log_w - others).detach()
    loss = -(reward * log_q).mean()
    bound = torch.logsumexp(log_w, 0) - math.log(K)
    return loss, bound.mean()


# END SOLUTION


# %% [markdown]
# 1. Each sample sat in its own baseline. On average that leaves $(K - 1)/K$ of the gradient, as in question 2.
# 2. The reward was not detached. With $\log w$'s own $-\log q$ in it, autograd adds a second entropy.
# 3. `log_w.sum(1)` multiplies the weights of all data points: one bound for the batch, where one draw $k$ has to be good
#    for every point at once. $\frac1B \log \frac1K \sum_k \prod_n w_{kn}$ is a bound, but a far looser one than
#    $\frac1B \sum_n \log \frac1K \sum_k w_{kn}$. Logged as "the bound", it makes the model look worse than it is.
#
# The first two do not stop training, and Adam hides the first. That is what makes them last.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 4: noise to signal, to the last digit
#
# *Derive, forty minutes.* Here is a case in which the chapter's variance theorems can be worked out to the end. The
# posterior is $\mathcal N(\mu + \delta, \sigma^2 I)$ in $L$ dimensions and $q = \mathcal N(\mu, \sigma^2 I)$: the right
# shape, in the wrong place. We estimate the gradient of $q$'s mean $\mu$ from $K$ samples. Its noise-to-signal ratio is
# the estimator's total variance divided by $\|g\|^2$. Find it
#
# - without baseline, as a function of $L$, $K$, the ELBO $\mathcal L = \mathbb E_q[f]$ and
#   $\mathrm{KL}(q \,\|\, p(z \mid x)) > 0$;
# - with the leave-one-out baseline ($K \ge 2$). Not everything in that list will be needed.
#
# A way in: write $z = \mu + \sigma \varepsilon$ and show that $f = \mathcal L + a^\top \varepsilon$ for some vector $a$. How
# long is it? Then the theorems "The parabola" and "Leave-one-out is a sample covariance" want four moments of $f$ and
# $s$. For normal $\varepsilon$, $\mathbb E[\varepsilon_l^4] = 3$.

# %% [raw]
# # BEGIN QUESTION
# name: q4
# points: 3

# %% [raw]
# # BEGIN SOLUTION


# %%
def noise_to_signal(L, K, elbo, kl):
    """L latents, K samples; elbo and kl in nats -> (none, leave_one_out)."""
    # BEGIN SOLUTION
    none = (L + 1 + L * elbo**2 / (2 * kl)) / K
    leave_one_out = (L + 1) / (K - 1)
    return none, leave_one_out
    # END SOLUTION


# %% [markdown]
# **The log-weight.** It is $f = \log p(x) + \log p(z \mid x) - \log q(z \mid x)$, and
#
# $$\log p(z \mid x) - \log q(z \mid x)
# = \frac{\|\sigma\varepsilon\|^2 - \|\sigma\varepsilon - \delta\|^2}{2\sigma^2}
# = \frac{\delta^\top \varepsilon}{\sigma} - \frac{\|\delta\|^2}{2\sigma^2}.$$
#
# So $a = \delta / \sigma$. The mean of the last expression is minus the KL; as $\mathbb E[\varepsilon] = 0$, that KL is
# $\|a\|^2 / 2$.
#
# **Moments.** The score is $s = \varepsilon / \sigma$, so $\mathbb E\|s\|^2 = L / \sigma^2$, $g = \mathbb E[f s] = a / \sigma$ and
# $\operatorname{Var}[f] = \|a\|^2$. In $\mathbb E[(a^\top \varepsilon)^2 \|\varepsilon\|^2]$ only squares survive, and leave
# $\sum_l a_l^2\, (3 + (L - 1)) = (L + 2) \|a\|^2$. Hence
#
# $$V(\mathcal L) = \frac{(L + 2)\|a\|^2}{\sigma^2} - \|g\|^2 = (L + 1)\, \|g\|^2.$$
#
# And $b^* = \mathcal L$ here, because $\mathbb E[a^\top \varepsilon\, \|\varepsilon\|^2] = 0$.
#
# **Without baseline** the parabola adds $\mathcal L^2\, \mathbb E\|s\|^2 = \mathcal L^2 L / \sigma^2$. Divide by
# $\|g\|^2 = 2\, \mathrm{KL} / \sigma^2$ and by $K$.
#
# **Leave-one-out** has $\dfrac{(L + 1)\|g\|^2}{K} + \dfrac{L \|g\|^2 + \|g\|^2}{K (K - 1)} = \dfrac{L + 1}{K - 1}\, \|g\|^2$.
#
# The second ratio does not know how far away $q$ is. As $q$ comes near, its noise falls with its signal, and
# $K = L + 2$ samples always make them equal. The first ratio grows as $1 / \mathrm{KL}$, unless $\log p(x)$ happens
# to be 0: without a baseline, the last steps towards the posterior are the ones that drown.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# Here is the case, with $W = I$ and $K = 5$. Each ratio is measured, and yours stands beside it.

# %%
if grader.after("q4"):
    torch.manual_seed(0)
    print(" L     ELBO     KL        none            yours", end="")
    print("    leave-one-out    yours")
    for L, shift in ((2, 0.4), (2, 0.1), (8, 0.4), (8, 0.1)):
        model, R = vl.exact.LinearGaussian(data_dim=L, latent_dim=L), 20_000
        with torch.no_grad():
            model.W.copy_(torch.eye(L))
            model.perfect_e_step()  # q is the posterior
            model.c += shift  # and now it is not
            x = model.marginal().sample((1,))
            draw, q = model.draw(x, (5, R)), model.posterior(x)
            f, s = draw.log_w, (draw.z - q.mean) / q.variance
            elbo, log_p = model.elbo(x).item(), model.log_prob(x).item()
        g, row = (
            model.gradient(x)["c"],
            f"{L:2d} {elbo:8.3f} {log_p - elbo:7.4f}",
        )
        yours = noise_to_signal(L, 5, elbo, log_p - elbo) or (
            math.nan,
            math.nan,
        )
        for b, said in zip((0.0, (f.sum(0) - f) / 4), yours, strict=True):
            error = (((f - b)[..., None] * s).mean(0) - g).square().sum(-1)
            ratio = error / g.square().sum()
            noise = f"{ratio.mean():9.3f} ± {ratio.std() / R**0.5:.3f}"
            row += f"{noise} {float(said):8.3f}"
        print(row)

# %% [markdown]
# ## Question 5: blame each latent for its own part
#
# *Implement, half an hour to an hour.* Now $z \in \{0, 1\}^L$, and $q(z \mid x)$ is a product of Bernoulli distributions
# with logits $\eta_l$ and $p_l = 1 / (1 + e^{-\eta_l})$. The score of $\eta_l$ is $z_l - p_l$, and the plain estimator
# of the gradient is $f(z)\,(z_l - p_l)$: the luck of all the latents is blamed on each of them.
#
# A latent has two values only. So take the plain estimator's *exact mean over* $z_l$, the other latents of that sample
# staying what they are:
#
# $$\hat g_l = \mathbb E\big[f(z)\,(z_l - p_l) \,\big|\, z_j, j \ne l\big].$$
#
# Find the formula, then implement it, for every sample, data point and latent. You are given $f$ as a function that
# you may call as often as you like, on tensors of zeros and ones with any leading axes. A loop over the latents is
# fine; none over samples or data points, please.

# %% [raw]
# # BEGIN QUESTION
# name: q5
# points: 3

# %% [raw]
# # BEGIN SOLUTION


# %%
def local_gradient(f, z, logits):
    """z (K, B, L) of zeros and ones, logits (B, L) -> (K, B, L).

    f maps (..., B, L) to (..., B), in nats.
    """
    # BEGIN SOLUTION
    p = torch.sigmoid(logits)
    this = torch.eye(z.shape[-1], dtype=torch.bool)[:, None, None]
    on, off = z.masked_fill(this, 1), z.masked_fill(this, 0)  # (L, K, B, L)
    return p * (1 - p) * (f(on) - f(off)).movedim(0, -1)
    # END SOLUTION


# %% [markdown]
# With the others fixed, $z_l = 1$ has probability $p_l$ and score $1 - p_l$; $z_l = 0$ has probability $1 - p_l$ and score
# $-p_l$. So
#
# $$\hat g_l = p_l (1 - p_l)\, \big[f(z \text{ with } z_l = 1) - f(z \text{ with } z_l = 0)\big].$$
#
# Its mean over the other latents is the plain estimator's, by the tower rule, so it is unbiased; and its variance is
# never larger, because
# $\operatorname{Var}[X] = \operatorname{Var}[\mathbb E[X \mid Y]] + \mathbb E[\operatorname{Var}[X \mid Y]]$, of which only the
# first term is left. Whatever in $f$ does not depend on $z_l$ cancels in the difference: the level, and all that
# belongs to the other latents alone. No baseline is needed. Were $f$ a sum of parts, one for each latent, no noise at
# all would be left; what is left comes from parts that several latents share.
#
# The price is $L + 1$ values of $f$ for each sample instead of one ($2L$ as written here: one of each pair is $f(z)$
# itself). In the race below it wins clearly even so. That is this model's doing: no theorem promises it at equal cost.
#
# In the code each latent gets a copy of `z` in which it alone is set, along a new first axis. `masked_fill` makes new
# tensors, so `z` itself is not changed.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# When your check passes, race it against leave-one-out at equal cost: one sample and $2L$ values of $f$ against $2L$
# samples. Which is quieter, and how much? The table gives noise-to-signal ratios, for one random model per $L$.


# %%
if grader.after("q5"):

    def race(L, R=3000):
        W, logits = torch.randn(20, L) / L**0.5, torch.randn(1, L)
        x, q = torch.randn(20), torch.distributions.Bernoulli(logits=logits)

        def f(z):  # z fair coins, x | z ~ N(Wz, I)
            log_joint = -0.5 * (x - z @ W.T).square().sum(-1)  # less a constant
            return log_joint - q.log_prob(z).sum(-1)

        z = q.sample((2 * L, R))  # (K, R, 1, L) with K = 2L
        log_w, score = f(z)[..., None], z - q.probs
        others = (log_w.sum(0) - log_w) / (2 * L - 1)
        plain = ((log_w - others) * score).mean(0)  # (R, 1, L)
        local = local_gradient(f, z[0], logits)  # the first samples alone
        signal = local.mean(0).square().sum()
        return plain.var(0).sum() / signal, local.var(0).sum() / signal

    torch.manual_seed(0)
    for L in (2, 8, 32):
        plain, local = race(L)
        print(f"L = {L:2d}   leave-one-out {plain:.3f}   local {local:.3f}")

# %% [markdown]
# You have met the score function's virtues and its price. Chapter 4 asks what may be gained when $z$ can move a little.
