# %% [markdown]
# # Exercises 1: latent variables and EM
#
# Six questions on chapter 1, some for the keyboard and some for a pencil. The first is a matter of minutes, the last
# may take you most of an hour. Put your answer where the `...` stand and run the check below it: it makes up new
# problems each time, and tells you what it saw. Try as often as you like.
# `grader.solution("q1")` shows a worked solution once you have tried.
#
# As in the chapter, there are $N$ data points (index $n$) and $C$ components (index $c$), and all logarithms are natural.

# %%
import math

import torch
from torch import distributions as D

import vaelearn as vl
from vaelearn.exercises import Grader

torch.set_default_dtype(torch.float64)
grader = Grader(1)

# %% [markdown]
# ## Question 1: who is responsible?
#
# *Implement, five minutes.* Write the E-step of a mixture, $r_{nc} = p(z = c \mid x_n)$, from the logarithms of the
# weights and of the densities. It must survive densities far too small for `exp` (near $e^{-900}$), and far too large
# ($e^{+900}$: narrow components in many dimensions). A component may also have weight 0, so a log-weight of $-\infty$.

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 2

# %% [raw]
# # BEGIN SOLUTION


# %%
def responsibilities(log_weights, log_lik):
    """log π_c (C,), log p(x_n | z = c) (N, C) -> r (N, C), rows sum to 1."""
    # BEGIN SOLUTION
    log_joint = log_weights + log_lik
    joint = (log_joint - log_joint.max(1, keepdim=True).values).exp()
    return joint / joint.sum(1, keepdim=True)
    # END SOLUTION


# %% [markdown]
# The log-joint is $\log \pi_c + \log p(x_n \mid z = c)$, and Bayes' rule divides each row of $p(x_n, z = c)$ by its
# sum. A factor common to a row cancels in that division, so we may take out the largest entry first: then one term is
# $e^0 = 1$, the others are smaller, and nothing over- or underflows that matters. `torch.softmax(log_joint, 1)` is the
# same thing in one call: log-joints are logits of the posterior.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 2: what a guess is worth
#
# *Implement, a quarter of an hour.* For a discrete $z$, both numbers that describe a guess are finite sums. Write them
# for any $q$: the bound $\mathcal L(q_n)$ and the gap $\mathrm{KL}(q_n \,\|\, p(z \mid x_n))$, for each point (the rows of
# `q` sum to one). A guess may be sure of itself: where $q_n(c) = 0$, a term counts as 0, even if there
# $\log p(x_n, z = c) = -\infty$ (never where $q_n(c) > 0$). Expect log-joints near $-900$.

# %% [raw]
# # BEGIN QUESTION
# name: q2
# points: 2

# %% [raw]
# # BEGIN SOLUTION


# %%
def bound_and_gap(log_joint, q):
    """log p(x_n, z = c) (N, C), q_n(c) (N, C) -> bound (N,), gap (N,)."""
    # BEGIN SOLUTION
    possible = q > 0
    log_q = torch.where(possible, q, 1).log()
    energy = torch.where(possible, log_joint, 0)
    bound = (q * (energy - log_q)).sum(1)
    return bound, log_joint.logsumexp(1) - bound
    # END SOLUTION


# %% [markdown]
# `where` exchanges the infinities *before* they meet a zero: $0 \cdot (-\infty)$ is nan in floating point, and the limit
# of $q \log q$ is 0. For the gap there is no need of a second sum. The identity
# $\log p(x) = \mathcal L(q) + \mathrm{KL}(q \,\|\, p(z \mid x))$ holds for every $q$, and $\log p(x)$ is a `logsumexp` of the
# log-joint. (Where $q$ is the posterior, the difference may come out as $-10^{-13}$. A sum over
# $q\,(\log q - \log p(z \mid x))$ has the same rounding.)

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 3: keep the books
#
# *Predict, ten minutes.* A mixture, some data, and a guess $q_n$ for each point that is not the posterior. At first the
# bound is `bound` and the log-likelihood is `log_p` (all numbers are means over the points, in nats). Then:
#
# 1. an exact E-step;
# 2. an M-step, which raises the bound by `gain` and leaves a gap of `opened` behind;
# 3. a second exact E-step;
# 4. a *hard* E-step: each point goes wholly to its most responsible component. The mean of $-\log \max_c r_{nc}$, with
#    the responsibilities of step 3, is `doubt`.
#
# Predict both numbers after each step. Pass the check first; then let the cell below it run EM.

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 2

# %% [raw]
# # BEGIN PROMPT


# %%
def ledger(bound, log_p, gain, opened, doubt):
    """Five numbers -> four pairs (bound, log_p), one after each step."""
    return [
        (..., ...),  # after 1, the exact E-step
        (..., ...),  # after 2, the M-step
        (..., ...),  # after 3, the second exact E-step
        (..., ...),  # after 4, the hard E-step
    ]


# %% [raw]
# # END PROMPT

# %% [raw]
# # BEGIN SOLUTION


# %%
# BEGIN SOLUTION NO PROMPT
def ledger(bound, log_p, gain, opened, doubt):
    """Five numbers -> four pairs (bound, log_p), one after each step."""
    end = log_p + gain + opened
    return [
        (log_p, log_p),  # after 1, the exact E-step
        (log_p + gain, end),  # after 2, the M-step
        (end, end),  # after 3, the second exact E-step
        (end - doubt, end),  # after 4, the hard E-step
    ]


# END SOLUTION

# %% [markdown]
# 1. An E-step changes $q$, and $\log p(x)$ contains no $q$: it stays. The bound rises to meet it.
# 2. The bound gains `gain`. The log-likelihood is above the bound by the gap, and the gap was zero before: so it gains
#    `gain + opened`. This is why EM's log-likelihood never falls.
# 3. Again the bound rises to $\log p(x)$, this time by `opened`.
# 4. For a one-hot $q$ on component $c$, the divergence is one term, $1 \cdot (\log 1 - \log r_{nc})$. Even the best one-hot
#    guess opens a gap of $-\log \max_c r_{nc}$. The log-likelihood does not notice. It will when the next M-step uses
#    that $q$; and then no theorem says which way it goes.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %%
if grader.after("q3"):
    torch.manual_seed(0)
    model, x = (
        vl.exact.GaussianMixture(2, components=3),
        2 * torch.randn(200, 2),
    )
    q, measured = D.OneHotCategorical(logits=torch.randn(200, 3)), []

    def measure():
        pair = (model.elbo(x, q).mean().item(), model.log_prob(x).mean().item())
        measured.append(pair)

    measure()  # at first
    q = model.true_posterior(x)
    measure()  # after 1
    model.m_step(x, q.probs)
    measure()  # after 2
    q = model.true_posterior(x)
    measure()  # after 3
    best = q.probs.max(1)
    doubt = -best.values.log().mean().item()
    q = D.OneHotCategorical(
        torch.nn.functional.one_hot(best.indices, 3).double()
    )
    measure()  # after 4

    (bound, log_p), (_, _), (raised, after), *_ = measured
    gain, opened = raised - log_p, after - raised
    yours = ledger(bound, log_p, gain, opened, doubt)

    def show(pair):
        known = (f"{n:.4f}" if isinstance(n, float) else "?" for n in pair)
        return " ".join(f"{text:>9s}" for text in known)

    print("step    bound  log p(x)       yours")
    for step, pair in enumerate(measured[1:], 1):
        print(f"{step}  {show(pair)}   {show(yours[step - 1])}")

# %% [markdown]
# ## Question 4: an EM that does not climb
#
# *Repair, twenty minutes.* The cell below should do one iteration of EM for the chapter's mixture, with a variance for
# each component and dimension. It runs without complaint, and three things in it are wrong. Find and mend them. The
# cell after the check repeats your step and prints the log-likelihood. It should never fall (which does not prove
# that all three are gone).

# %% [raw]
# # BEGIN QUESTION
# name: q4
# points: 3

# %% [raw]
# # BEGIN PROMPT


# %%
def em_step(weights, means, variances, x):
    """weights (C,), means (C, D), variances (C, D), x (N, D) -> next three."""
    squares = (x[:, None] - means) ** 2  # (N, C, D)
    log_density = -0.5 * (squares / variances + (2 * math.pi * variances).log())
    loss = -(weights.log() + log_density.sum(2))  # (N, C)
    r = torch.softmax(loss, 1)

    counts = r.sum(0)
    means = r.T @ x / counts[:, None]
    variances = torch.einsum("nc,ncd->cd", r, squares) / counts[:, None]
    return counts / len(x), means, variances.sqrt()


# %% [raw]
# # END PROMPT

# %% [raw]
# # BEGIN SOLUTION


# %%
# BEGIN SOLUTION NO PROMPT
def em_step(weights, means, variances, x):
    """weights (C,), means (C, D), variances (C, D), x (N, D) -> next three."""
    squares = (x[:, None] - means) ** 2  # (N, C, D)
    log_density = -0.5 * (squares / variances + (2 * math.pi * variances).log())
    log_joint = weights.log() + log_density.sum(2)  # (N, C)
    r = torch.softmax(log_joint, 1)

    counts = r.sum(0)
    means = r.T @ x / counts[:, None]
    squares = (x[:, None] - means) ** 2
    variances = torch.einsum("nc,ncd->cd", r, squares) / counts[:, None]
    return counts / len(x), means, variances


# END SOLUTION


# %% [markdown]
# 1. The posterior is a softmax of the log-joint. A softmax of the *loss* gives each point to the component that
#    explains it worst. The E-step must raise the bound.
# 2. The squares were taken about the *old* means. Means and variances are maximised together, and the derivative in
#    the mean vanishes at the new one. About another centre $m$ the weighted mean of squares is too large by
#    $(\mu - m)^2$. This bug hides well: it maximises over $v$ at the old $\mu$ and then over $\mu$ at the new $v$, so the bound
#    still rises and the log-likelihood never falls. It is a generalised EM, only not the one that was asked for.
# 3. What goes in as a variance must come out as one. The root would be taken for a variance in the next iteration.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %%
torch.manual_seed(1)
x = torch.cat([torch.randn(150, 2), 0.5 * torch.randn(80, 2) + 3])
theta = (torch.tensor([0.5, 0.5]), x[[0, 200]], torch.ones(2, 2))
model = vl.exact.GaussianMixture(2, components=2)
for step in range(6):
    weights, means, variances = theta
    model.logits.data, model.means.data = weights.log(), means
    model.log_scales.data = 0.5 * variances.log()
    print(f"step {step}: log p(x) {model.log_prob(x).mean().item():.4f}")
    theta = em_step(*theta, x)

# %% [markdown]
# ## Question 5: one shape for all
#
# *Implement, half an hour.* Let the components have weights and means of their own, but one covariance matrix
# $\Sigma$ in common, a full one: $p(x \mid z = c) = \mathcal N(x;\, \mu_c, \Sigma)$. Derive the M-step and write it: which
# $\pi$, $\mu$ and $\Sigma$ maximise $\sum_n \sum_c r_{nc} \log p(x_n, z = c)$? It helps to differentiate with respect to
# $\Lambda = \Sigma^{-1}$, and to know that $\nabla_\Lambda \log \det \Lambda = \Lambda^{-1}$ for a symmetric $\Lambda$.

# %% [raw]
# # BEGIN QUESTION
# name: q5
# points: 3

# %% [raw]
# # BEGIN SOLUTION


# %%
def shared_m_step(x, r):
    """x (N, D), r (N, C) -> weights (C,), means (C, D), covariance (D, D)."""
    # BEGIN SOLUTION
    counts = r.sum(0)
    means = r.T @ x / counts[:, None]
    off = x[:, None] - means  # (N, C, D)
    covariance = torch.einsum("nc,ncd,nce->de", r, off, off) / len(x)
    return counts / len(x), means, covariance
    # END SOLUTION


# %% [markdown]
# Weights and means are as in the chapter: the weights do not meet $\Sigma$, and the derivative in $\mu_c$,
# $\Lambda \sum_n r_{nc} (x_n - \mu_c)$, vanishes at the weighted mean whatever $\Lambda$ is. What contains $\Lambda$ is
#
# $$
# \frac N2 \log \det \Lambda - \frac12 \mathrm{tr}(\Lambda S), \qquad
# S = \sum_{n, c} r_{nc}\, (x_n - \mu_c)(x_n - \mu_c)^\top ,
# $$
#
# with $N$ in front because all responsibilities together sum to $N$. Its derivative is $\frac N2 \Sigma - \frac12 S$, so
# $\Sigma = S / N$. It is the maximum, since $\log \det$ is concave, provided that $S$ is invertible.
#
# This is the average of the components' own covariances *weighted by* $N_c / N$. It is not the covariance of all data:
# that one contains the spread of the means as well. And a component that falls onto a single point can no longer
# shrink there alone, for its width is everybody's.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 6: how fast is EM?
#
# *Derive, three quarters of an hour.* Two components have known densities $f_1$ and $f_0$. Only the weight $\pi$ of the
# first is unknown. One iteration of EM takes $\pi$ to
#
# $$
# M(\pi) = \frac1N \sum_n r_n(\pi), \qquad
# r_n(\pi) = \frac{\pi f_1(x_n)}{\pi f_1(x_n) + (1 - \pi) f_0(x_n)} .
# $$
#
# Let $\pi^*$ be a fixed point, $M(\pi^*) = \pi^*$, with $0 < \pi^* < 1$. Near it each iteration multiplies the
# distance by the same factor, $\pi_{t+1} - \pi^* \approx \rho\, (\pi_t - \pi^*)$. Find $\rho$, and write it as a
# function of the responsibilities $r_n = r_n(\pi^*)$ alone, all strictly between 0 and 1. What are the log-odds of
# $r_n$?
#
# Then look at your formula. What does it become if $f_1 = f_0$? If they hardly overlap? In the cell below the check,
# EM has its say.

# %% [raw]
# # BEGIN QUESTION
# name: q6
# points: 3

# %% [raw]
# # BEGIN SOLUTION


# %%
def em_rate(r):
    """Responsibilities of component 1 at the fixed point (N,) -> ρ ()."""
    return (r * (1 - r)).mean() / (r.mean() * (1 - r.mean()))  # SOLUTION


# %% [markdown]
# The log-odds of $r_n$ are $\log \frac{\pi}{1 - \pi} + \log \frac{f_1(x_n)}{f_0(x_n)}$: those of $\pi$, shifted by
# something without $\pi$. The slope of a probability against its log-odds is $p(1 - p)$. By the chain rule,
#
# $$
# M'(\pi) = \frac1N \sum_n \frac{dr_n}{d\pi} = \frac1N \sum_n \frac{r_n (1 - r_n)}{\pi (1 - \pi)} ,
# $$
#
# and at the fixed point $\pi^* = M(\pi^*) = \bar r$, the mean of the $r_n$. Hence
#
# $$
# \rho = M'(\pi^*) = \frac{\frac1N \sum_n r_n (1 - r_n)}{\bar r (1 - \bar r)} .
# $$
#
# Above is the variance of $z$ that is left when $x$ is known, on average; below, all of it. They differ by the variance
# of the $r_n$, so $0 < \rho \le 1$. If the components hardly overlap, $\rho \approx 0$ and one iteration does it. If
# $f_1 = f_0$, then $\rho = 1$ and EM never moves: the data say nothing about $\pi$.
#
# As in the chapter, the more is hidden, the slower is EM: the rate is the *share of the information* about the parameter
# that is lost because $z$ is hidden. What share that is depends on the parameter. For a weight it is the share of $z$'s
# variance that $x$ leaves open. For the chapter's $b$ it was the share of $x$'s variance that comes from $z$. (There, the
# share of $z$'s variance left open would be one minus the rate.)

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %%
if grader.after("q6"):
    torch.manual_seed(2)
    for a in (0.5, 1.0, 2.0):  # N(a, 1) against N(−a, 1)
        x = torch.randn(500) + a * (2 * (torch.rand(500) < 0.3) - 1)
        pi = torch.tensor(0.5)
        for _ in range(2000):
            r = torch.sigmoid(torch.logit(pi) + 2 * a * x)
            pi = r.mean()
        aside = torch.sigmoid(torch.logit(pi + 1e-6) + 2 * a * x).mean() - pi
        yours = float(em_rate(r) or math.nan)
        print(
            f"a = {a}: measured {aside.item() / 1e-6:.3f}   yours {yours:.3f}"
        )

# %% [markdown]
# That was the last one. Chapter 2 asks what is left of EM when the posterior is out of reach.
