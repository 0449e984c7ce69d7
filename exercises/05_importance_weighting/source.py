# %% [markdown]
# # Exercises 5: importance weighting
#
# Six questions on chapter 5, from five minutes to the better part of an hour. Write where the `...` stand, then run the
# check below your answer. It tries you on problems it has just made up, and says what it found. A wrong answer
# costs nothing: the message is there to be read. `grader.solution("q1")` opens a worked solution once you have tried.
#
# In all of them `log_w` holds log-weights $\log w = \log p(x, z) - \log q(z \mid x)$ in nats.

# %%
import math

import torch

import vaelearn as vl
from vaelearn.exercises import Grader

torch.set_default_dtype(torch.float64)
grader = Grader(5)

# %% [markdown]
# ## Question 1: the bound
#
# *Implement, five minutes.* Write $\mathcal L_K = \log \frac1K \sum_k w_k$. The first axis of `log_w` holds the $K$
# samples; whatever axes follow stay. It must survive log-weights near $-900$, where every $e^{\log w}$ is 0.

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 2

# %% [raw]
# # BEGIN SOLUTION


# %%
def iwae(log_w):
    """log_w (K, ...) -> L_K (...), in nats."""
    # BEGIN SOLUTION
    largest = log_w.max(0).values
    return largest + (log_w - largest).exp().mean(0).log()
    # END SOLUTION


# %% [markdown]
# Take the largest log-weight $m$ out of the sum, $\log \frac1K \sum_k w_k = m + \log \frac1K \sum_k e^{\log w_k - m}$.
# One term is then $e^0 = 1$, so the logarithm never sees 0, and nothing overflows. `torch.logsumexp(log_w, 0) -
# math.log(len(log_w))` does the same; the $\log K$ turns the sum into a mean.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 2: a gap on paper
#
# *Derive, ten minutes.* Suppose $\log w \sim N(m, s^2)$. To first order in $1/K$, how far is $\mathbb E[\mathcal L_K]$
# below $\log p(x)$? Use the bias theorem, $\mathrm{Var}[w] / (2 K p(x)^2)$, and the moments of a lognormal variable.

# %% [raw]
# # BEGIN QUESTION
# name: q2
# points: 2

# %% [raw]
# # BEGIN SOLUTION


# %%
def first_order_gap(m, s, K):
    """log p(x) - E[L_K] to first order, in nats, where log w ~ N(m, s²)."""
    return (math.exp(s**2) - 1) / (2 * K)  # SOLUTION


# %% [markdown]
# $\mathbb E[w] = e^{m + s^2/2} = p(x)$ and $\mathbb E[w^2] = e^{2m + 2s^2}$. So
# $\mathrm{Var}[w] / p(x)^2 = \mathbb E[w^2] / p(x)^2 - 1 = e^{s^2} - 1$, and $m$ drops out. For $s = 3$ that is 8,100,
# and at $K = 8{,}100$ the first order says half a nat. The gap there is about 0.07: the next term, some
# $\tfrac23 e^{2s^2}/K$ of the first, is small only beyond $4 \cdot 10^7$ samples. The ELBO's gap is a mere $s^2/2 = 4.5$ nats.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 3: what does doubling do?
#
# *Predict, five minutes.* A model and a $q$ that is not the posterior are fixed (so $w$ varies). You go from $K$ to $2K$ samples. Say
# of each quantity whether it goes `"up"`, `"down"` or stays the `"same"`. Only then run the cell below the check.
#
# - `"bound"`: the mean of $\mathcal L_K$ over many draws
# - `"elbo"`: the mean of the Monte Carlo ELBO, $\frac1K \sum_k \log w_k$, over many draws
# - `"evidence"`: the mean of $\hat p = \frac1K \sum_k w_k$ over many draws
# - `"copies"`: $\mathcal L$ of one draw, if the second $K$ samples are copies of the first $K$
# - `"divergence"`: $\mathrm{KL}(q \,\|\, p(z \mid x))$

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 2

# %% [raw]
# # BEGIN PROMPT

# %%
prediction = {
    "bound": ...,
    "elbo": ...,
    "evidence": ...,
    "copies": ...,
    "divergence": ...,
}

# %% [raw]
# # END PROMPT

# %% [raw]
# # BEGIN SOLUTION

# %%
# BEGIN SOLUTION NO PROMPT
prediction = {
    "bound": "up",
    "elbo": "same",
    "evidence": "same",
    "copies": "same",
    "divergence": "same",
}
# END SOLUTION

# %% [markdown]
# Only the bound moves. $\hat p$ is unbiased at every $K$, so its mean stays $p(x)$; the logarithm of a steadier $\hat p$
# is larger on average (Jensen), and that is all there is to $\mathcal L_{2K} \ge \mathcal L_K$. The ELBO's mean does not
# know $K$. Copies change neither the mean of the weights nor its logarithm. And $q$ was not touched: a tighter bound
# is no sign of a better posterior.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %%
if grader.after("q3"):
    model = vl.exact.LinearGaussian(data_dim=4, latent_dim=2)
    x = model.marginal().sample((1,))
    for K in (4, 8):
        log_w = model.draw(x, (K, 20_000)).log_w
        bound, elbo = vl.bounds.iwae(log_w).mean(), vl.bounds.elbo(log_w).mean()
        evidence = (log_w - model.log_prob(x)).exp().mean()
        print(f"K = {K}: L_K {bound:.2f}   ELBO {elbo:.2f}", end="")
        print(f"   p̂ / p(x) {evidence:.2f}")

# %% [markdown]
# ## Question 4: three bugs
#
# *Repair, a quarter of an hour.* The cell below should give a loss whose gradient is the IWAE's, averaged over data
# points, and $\mathcal L_K$ for the log file. It holds three of chapter 5's pitfalls. Find and mend them. Keep the
# form: weights times log-weights.

# %% [raw]
# # BEGIN QUESTION
# name: q4
# points: 3

# %% [raw]
# # BEGIN PROMPT


# %%
def loss_and_bound(log_w):
    """log_w (K, B) -> loss (), bound (B,).

    The loss's gradient is minus that of the mean of L_K over data points.
    """
    loss = -log_w
    weights = torch.softmax(loss, 0)
    bound = (weights * log_w).sum(0)
    return (weights * loss).sum(0).mean(), bound


# %% [raw]
# # END PROMPT

# %% [raw]
# # BEGIN SOLUTION


# %%
# BEGIN SOLUTION NO PROMPT
def loss_and_bound(log_w):
    """log_w (K, B) -> loss (), bound (B,).

    The loss's gradient is minus that of the mean of L_K over data points.
    """
    weights = torch.softmax(log_w, 0).detach()
    bound = torch.logsumexp(log_w, 0) - math.log(len(log_w))
    return -(weights * log_w).sum(0).mean(), bound


# END SOLUTION


# %% [markdown]
# 1. A softmax of the *loss* gives the worst sample the largest weight: it must be taken of $\log w$.
# 2. The weights are constants in $\nabla \mathcal L_K = \sum_k \tilde w_k \nabla \log w_k$. Undetached, autograd
#    adds $\sum_k \log w_k \nabla \tilde w_k$.
# 3. Even with the right weights, $\sum_k \tilde w_k \log w_k$ is not $\mathcal L_K$: it is too high by $\log K - H(\tilde w)$.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 5: draw from q_IW
#
# *Implement, a quarter of an hour.* Importance weighting implies a posterior of its own: draw $K$ samples from $q$, keep one of
# them, the $k$-th with probability $\tilde w_k$. Write that last step for a batch, each data point on its own.
# No loop over data points, please.

# %% [raw]
# # BEGIN QUESTION
# name: q5
# points: 3

# %% [raw]
# # BEGIN SOLUTION


# %%
def resample(z, log_w):
    """z (K, B, L), log_w (K, B) -> one of the K samples for each x (B, L)."""
    # BEGIN SOLUTION
    k = torch.distributions.Categorical(logits=log_w.T).sample()
    return z[k, torch.arange(z.shape[1])]
    # END SOLUTION


# %% [markdown]
# A `Categorical` normalises its logits, and log-weights are logits: nothing needs exponentiating. Its batch axis comes
# first, so `log_w` is transposed. `k` is (B,), and `z[k, arange(B)]` takes sample `k[b]` of data point `b`.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 6: no Monte Carlo at all
#
# *Implement, three quarters of an hour.* Suppose $w$ takes only $C$ values $v_1, \dots, v_C$, with probabilities
# $\rho_1, \dots, \rho_C$. Then $\mathcal L_K = \mathbb E \log \bar w$, with $\bar w$ the mean of $K$ independent weights,
# is a finite sum. Compute it exactly. There are $C^K$ draws, and $K$ may be 30: what of a draw does $\bar w$ depend on?

# %% [raw]
# # BEGIN QUESTION
# name: q6
# points: 3

# %% [raw]
# # BEGIN SOLUTION


# %%
import itertools  # SOLUTION NO PROMPT


def exact_bound(values, probabilities, K):
    """values (C,) > 0, probabilities (C,) > 0, summing to 1 -> L_K (), in nats.

    C is 3 at most.
    """
    # BEGIN SOLUTION
    total = torch.zeros(())
    for kinds in itertools.combinations_with_replacement(range(len(values)), K):
        counts = torch.bincount(torch.tensor(kinds), minlength=len(values))
        orders = math.lgamma(K + 1) - torch.lgamma(counts + 1.0).sum()
        chance = (orders + (counts * probabilities.log()).sum()).exp()
        total = total + chance * ((counts * values).sum() / K).log()
    return total
    # END SOLUTION


# %% [markdown]
# $\bar w$ depends only on the *counts* $n_c$, how often each value came. They are multinomial:
#
# $$\mathcal L_K = \sum_{n_1 + \dots + n_C = K} \frac{K!}{\prod_c n_c!} \prod_c \rho_c^{n_c} \;
# \log \Big(\frac1K \sum_c n_c v_c\Big).$$
#
# For $C = 3$ and $K = 30$ that is 496 terms in place of $3^{30}$. The factorials go in as logarithms: $30!$ has 33 digits.
# Here the chapter's theorems can be tried to the last digit; the cell below does so with the bias.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %%
if grader.after("q6"):
    values = torch.tensor([0.2, 1.0, 3.0])
    probabilities = torch.tensor([0.5, 0.3, 0.2])
    p = (values * probabilities).sum()
    variance = ((values / p - 1) ** 2 * probabilities).sum()
    for K in (1, 4, 16, 30):
        gap = p.log() - exact_bound(values, probabilities, K)
        print(
            f"K = {K:2d}: gap {gap:.5f}  Var[w] / 2Kp² {variance / (2 * K):.5f}"
        )

# %% [markdown]
# That was the last one. Chapter 6 asks what a tighter bound does to the gradients.
