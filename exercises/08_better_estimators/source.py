# %% [markdown]
# # Exercises 8: better estimators
#
# Five questions on chapter 8, from five minutes to the better part of an hour. Put your answer where the `...` stand
# and run the check under it: it works out the right gradient of a problem that it has just invented, and compares. If
# the two differ, it tries to say why. `grader.solution("q1")` shows a worked solution after your first try.
#
# As in the chapter, $w_k = p(x, z_k)/q(z_k \mid x)$ with normalised weights $\tilde w_k$, and for a parameter of $\phi$
# $\mathrm{path}_k = (\partial z_k/\partial\phi)^\top \nabla_z \log w_k$ and
# $\mathrm{score}_k = \nabla_\phi \log q_\phi(z_k \mid x)$ with $z_k$ held fixed.

# %%
import math

import torch

import vaelearn as vl
from vaelearn.exercises import Grader

torch.set_default_dtype(torch.float64)
grader = Grader(8)

# %% [markdown]
# ## Question 1: one line for each
#
# *Implement, five minutes.* Four estimators of the chapter have the form
# $\sum_k \big(a_k\,\mathrm{path}_k + b_k\,\mathrm{score}_k\big)$, a direction in which $\phi$ *ascends*. Write their
# factors $(a, b)$: IWAE's own gradient; DReG; the biased STL, which is IWAE's with the score term dropped; and the
# wake phase of reweighted wake–sleep. Log-weights may lie near $-900$.

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 2

# %% [raw]
# # BEGIN PROMPT


# %%
def coefficients(log_w):
    """log_w (K, B) -> for each name a pair (a, b), each (K, B) or 0."""
    return {
        "iwae": (..., ...),
        "dreg": (..., ...),
        "stl": (..., ...),
        "rws": (..., ...),
    }


# %% [raw]
# # END PROMPT

# %% [raw]
# # BEGIN SOLUTION


# %%
# BEGIN SOLUTION NO PROMPT
def coefficients(log_w):
    """log_w (K, B) -> for each name a pair (a, b), each (K, B) or 0."""
    w = torch.softmax(log_w, 0)
    return {
        "iwae": (w, -w),
        "dreg": (w**2, 0),
        "stl": (w, 0),
        "rws": (0, w),
    }


# END SOLUTION


# %% [markdown]
# $\nabla_\phi \hat{\mathcal L} = \sum_k \tilde w_k \nabla_\phi \log w_k$, and $q$ stands in the denominator of $w$: so
# path minus score. The score of weight $\tilde w$ has the same mean as a path of weight $\tilde w - \tilde w^2$, which
# leaves $\tilde w^2$ for DReG. The wake phase *raises* $\log q$ where the weights are: the sign is the opposite of
# IWAE's score term. So, in the mean, biased STL = DReG + wake phase: the right gradient, and a pull towards covering
# the posterior. At $K = 1$ the wake phase is a bare score with mean zero, and STL and DReG are one.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 2: what happens if K grows?
#
# *Predict, ten minutes.* $K$ is already large, and becomes $cK$. By what factor does each of these change, to leading
# order, for one parameter of $\phi$? (The conditions of the chapter's theorems hold, $q$ is not the posterior, and no
# leading term happens to be zero.) Commit yourself before you run the cell below the check.
#
# - `"iwae_snr"`: the SNR of IWAE's gradient (|mean| over standard deviation)
# - `"dreg_noise"`: the standard deviation of DReG's gradient
# - `"dreg_snr"`: the SNR of DReG's gradient
# - `"stl_error"`: how far the mean of the biased STL is from $\nabla_\phi \mathcal L_K$, relative to the size of
#   $\nabla_\phi \mathcal L_K$
# - `"rws_bias"`: how far the mean of the wake phase's gradient is from its limit for $K \to \infty$
# - `"rws_snr"`: the SNR of the wake phase's gradient

# %% [raw]
# # BEGIN QUESTION
# name: q2
# points: 2

# %% [raw]
# # BEGIN PROMPT


# %%
def factors(c):
    """New value over old value, where K becomes c K."""
    return {
        "iwae_snr": ...,
        "dreg_noise": ...,
        "dreg_snr": ...,
        "stl_error": ...,
        "rws_bias": ...,
        "rws_snr": ...,
    }


# %% [raw]
# # END PROMPT

# %% [raw]
# # BEGIN SOLUTION


# %%
# BEGIN SOLUTION NO PROMPT
def factors(c):
    """New value over old value, where K becomes c K."""
    return {
        "iwae_snr": 1 / math.sqrt(c),
        "dreg_noise": 1 / (c * math.sqrt(c)),
        "dreg_snr": math.sqrt(c),
        "stl_error": c,
        "rws_bias": 1 / c,
        "rws_snr": math.sqrt(c),
    }


# END SOLUTION


# %% [markdown]
# The gradient of $\mathcal L_K$ sinks as $1/K$. IWAE's noise falls only as $1/\sqrt K$; DReG's squared weights put a
# $\frac1K$ in front of signal *and* noise, and the mean over $K$ samples takes another $\sqrt K$ off the noise. STL's
# surplus $\mathbb E[\sum_k \tilde w_k\,\mathrm{score}_k]$ tends to a constant, so measured by a gradient that sinks its
# error grows without bound. The wake phase estimates that constant: a ratio of means with a bias of order $1/K$ and a
# noise of order $1/\sqrt K$, round a mean that stays.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %%
line = vl.exact.LinearGaussian(data_dim=1, latent_dim=1)
x = torch.tensor([[2.0]])
with torch.no_grad():  # the chapter's: q = N(0.2, 2/3), the posterior N(1, 1/2)
    line.W.fill_(1), line.b.fill_(0), line.A.fill_(0)
    line.c.fill_(0.2), line.log_s.fill_(math.log(2 / 3) / 2)


def measured(K, draws=8000):
    """The six quantities, for the mean of q."""
    torch.manual_seed(K)

    def gradient(objective):
        g = vl.metrics.gradient_draws(line, objective, x, draws)
        return g["c"].flatten()

    iwae = gradient(vl.objectives.IWAE(K))
    dreg = gradient(vl.objectives.DReG(K))
    rws = gradient(vl.objectives.ReweightedWakeSleep(K))
    signal, pull = dreg.mean().abs(), rws.mean().abs()
    # In the mean STL is DReG + wake phase: its error is the wake phase's mean,
    # whose limit is 1.2.
    error, bias = pull / signal, (1.2 - pull).abs()
    snr = [signal / iwae.std(), signal / dreg.std(), pull / rws.std()]
    return torch.stack([snr[0], dreg.std(), snr[1], error, bias, snr[2]])


if grader.after("q2"):
    found = measured(64) / measured(16)
    for (name, factor), seen in zip(factors(4).items(), found, strict=True):
        print(f"{name:10s} predicted {factor}   measured {seen:.3f}")

# %% [markdown]
# ## Question 3: where do they lead?
#
# *Derive, half an hour.* The posterior is $N(0, \Sigma)$ in two dimensions, both variances $v$, correlation $\rho$. $q$
# is $N(0, d\,I)$ and has one parameter, $d$: it cannot follow the correlation. Train it to the end, with the true mean
# of each gradient. Which $d$ does it reach?
#
# - `"elbo"`: with DReG at $K = 1$ (or STL, or any other unbiased gradient of the ELBO)
# - `"stl"`: with the biased STL of $\mathcal L_K$, as $K \to \infty$
# - `"dreg"`: with DReG, as $K \to \infty$. There the first order of the gap, $\mathrm{Var}[r]/2K$ with $r = p/q$, decides.
#   (For two Gaussians $\mathbb E_q[r^2] = \int p^2/q\,dz$ is a Gaussian integral. Mind where it is finite.)

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 2

# %% [raw]
# # BEGIN PROMPT


# %%
def landing(v, rho):
    """The d that each method reaches, for v > 0 and -1 < rho < 1: numbers."""
    return {"elbo": ..., "stl": ..., "dreg": ...}


# %% [raw]
# # END PROMPT

# %% [raw]
# # BEGIN SOLUTION


# %%
# BEGIN SOLUTION NO PROMPT
def landing(v, rho):
    """The d that each method reaches, for v > 0 and -1 < rho < 1: numbers."""
    return {
        "elbo": v * (1 - rho**2),
        "stl": v,
        "dreg": v * (3 + math.sqrt(1 + 8 * rho**2)) / 4,
    }


# END SOLUTION


# %% [markdown]
# Let $v = 1$ ($d$ scales with $v$), and let $\lambda_\pm = 1/(1 \mp \rho)$ be the eigenvalues of the posterior's
# precision, with $\lambda_+ + \lambda_- = 2g$ and $\lambda_+ \lambda_- = g$, where $g = 1/(1 - \rho^2)$.
#
# *ELBO.* $\mathrm{KL}(q\,\|\,p) = \frac12 d\,(\lambda_+ + \lambda_-) - \log d + \text{const}$, least at $d = 1/g$. $q$ must
# avoid the places where $p$ is small, on both sides of the ridge: it is too narrow.
#
# *Biased STL.* For large $K$ only the pull is left, $\mathbb E_p[\nabla_d \log q]$, the ascent of
# $-\mathrm{KL}(p\,\|\,q)$. With $\log q = -\log d - |z|^2/2d + \text{const}$ it vanishes at $d = \mathbb E_p|z|^2/2 = 1$:
# the moments are matched.
#
# *DReG.* Where $d > (1 + |\rho|)/2$, so that the integral is finite, with $a = 1/d$,
# $\mathbb E_q[r^2] \propto a^{-1}\, \big[(2\lambda_+ - a)(2\lambda_- - a)\big]^{-1/2}$. Set the derivative of its
# logarithm to zero: $a^2 - 3ga + 2g = 0$. The smaller root is the one in range, and
# $d = 1/a = \big(3 + \sqrt{1 + 8\rho^2}\big)/4$, for $\rho \ne 0$ *above* the posterior's own variance: a good proposal is
# wide. So the three put $q$ in three places, and for large $K$ only DReG's makes $\mathcal L_K$ largest. (The first order
# of the gap needs little more than two moments of $r$. The chapter's theorem asks for twelve, and here the
# twelfth is finite only for small $|\rho|$.)

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %%
if grader.after("q3"):
    rho, K = 0.6, 256
    precision = torch.linalg.inv(torch.tensor([[1, rho], [rho, 1]]))
    torch.manual_seed(0)
    print("mean gradient in log d:  ELBO   biased STL   DReG × K")
    for name, d in landing(1.0, rho).items():
        z = math.sqrt(d) * torch.randn(K, 8000, 2)
        # The path, ½ z·∇ log r: for these Gaussians log r plus a constant.
        path = 0.5 * (z.square().sum(-1) / d - (z @ precision * z).sum(-1))
        w = path.softmax(0)
        rows = path.mean(0), (w * path).sum(0), K * (w**2 * path).sum(0)
        print(f"d of {name:4s} = {d:.3f}   ", end="")
        print("".join(f"{row.mean():11.3f}" for row in rows))

# %% [markdown]
# ## Question 4: a DReG that is none
#
# *Repair, twenty minutes.* The cell below should give two losses. `e_step`'s gradient in $\phi$ is minus DReG's, and
# `m_step`'s gradient in $\theta$ is minus that of $\mathcal L_K$, both averaged over the data points. There are three
# mistakes in it. (`draw` is what `model.draw(x, (K, 1))` returns, and `vl.gradients` is open to you.)

# %% [raw]
# # BEGIN QUESTION
# name: q4
# points: 3

# %% [raw]
# # BEGIN PROMPT


# %%
def dreg_losses(draw):
    """draw, with tensors (K, 1, B) -> losses e_step () and m_step ()."""
    log_w = draw.log_w
    weights = torch.softmax(log_w, 0)
    loss = -(weights**2 * log_w).sum(0).mean()
    return loss, loss


# %% [raw]
# # END PROMPT

# %% [raw]
# # BEGIN SOLUTION


# %%
# BEGIN SOLUTION NO PROMPT
def dreg_losses(draw):
    """draw, with tensors (K, 1, B) -> losses e_step () and m_step ()."""
    log_w = vl.gradients.path_derivative(draw)
    weights = torch.softmax(log_w, 0).detach()
    e_step = -(weights**2 * log_w).sum(0).mean()
    m_step = -(weights * log_w).sum(0).mean()
    return e_step, m_step


# END SOLUTION


# %% [markdown]
# 1. `draw.log_w` knows $\phi$ by two routes, through $z$ and inside $\log q$. DReG has already turned the second into
#    a part of the first, so $\log q$ must be frozen: `path_derivative`.
# 2. The weights are factors in $\sum_k \tilde w_k^2\,\mathrm{path}_k$, not functions to be differentiated.
# 3. $\tilde w^2$ came from $\phi$'s score, and $\theta$ has none: its gradient is $\sum_k \tilde w_k \nabla_\theta \log w_k$.
#    With squared weights it shrinks to about one over the effective sample size. (`-vl.bounds.iwae(log_w).mean()`
#    serves as `m_step` too.)

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 5: VIMCO
#
# *Implement, three quarters of an hour.* $z$ is discrete now, so no gradient passes through it: `log_w` depends on
# $\phi$ only because $\log w = \log p(x, z) - \log q(z \mid x)$. Write a surrogate for each data point whose gradient in
# $\phi$ is VIMCO's,
#
# $$\sum_k \big(\hat{\mathcal L} - b_k\big)\,\mathrm{score}_k - \sum_k \tilde w_k\, \mathrm{score}_k ,$$
#
# and whose gradient in $\theta$ is that of $\hat{\mathcal L}$. $b_k$ is $\hat{\mathcal L}$ with $\log w_k$ replaced by
# the mean of the other $K - 1$ log-weights. The check goes through all tuples of samples, so it knows the right
# answer exactly. It also tries weights of which one is nearly all: there a sum minus its largest term is nothing but
# rounding. Write the baseline out: the library's is closed while yours is checked. The cell below the check trains a
# mixture with your surrogate and with the library's: the same seed, so the same result.

# %% [raw]
# # BEGIN QUESTION
# name: q5
# points: 3

# %% [raw]
# # BEGIN SOLUTION


# %%
def vimco(log_w, log_q):
    """log_w (K, B), log_q (K, B), K >= 2 -> surrogate to ascend (B,)."""
    # BEGIN SOLUTION
    K = len(log_w)
    bound = torch.logsumexp(log_w, 0) - math.log(K)
    others = (log_w.sum(0) - log_w) / (K - 1)
    itself = torch.eye(K, dtype=torch.bool)[:, :, None]
    replaced = torch.where(itself, others, log_w)  # (K, K, B): row k lacks w_k
    baseline = torch.logsumexp(replaced, 1) - math.log(K)
    reward = (bound - baseline).detach()
    return (reward * log_q).sum(0) + bound
    # END SOLUTION


# %% [markdown]
# `torch.where` makes a table of $K$ copies of the log-weights, and in copy $k$ the $k$-th is replaced; one log-mean-exp
# along each copy gives all $b_k$. The reward is a number that a sample has earned, so it is detached; the gradient of
# `reward * log_q` is then $\sum_k (\hat{\mathcal L} - b_k)\,\mathrm{score}_k$. The term `+ bound` does two things. For
# $\phi$, autograd finds $\log q$ in its weights and returns $-\sum_k \tilde w_k\,\mathrm{score}_k$; for $\theta$ it is
# the whole gradient. $b_k$ must not contain $w_k$: then it is independent of $\mathrm{score}_k$, whose mean is zero,
# and costs no bias. Any other function of the other samples is as unbiased; how quiet it is, is another question.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %%
if grader.after("q5"):
    torch.manual_seed(1)
    source = vl.exact.GaussianMixture(data_dim=2, components=4, seed=3)
    with torch.no_grad():
        source.means.mul_(2)
    data, fresh = source.sample(500)[0], source.sample(1000)[0]

    def yours(model, x):
        draw = model.draw(x, (8, 1), pathwise=False)
        loss = -vimco(draw.log_w[:, 0], draw.log_q[:, 0]).mean()
        bound = vl.bounds.iwae(draw.log_w)[0].detach()
        return vl.objectives.Step(model, e_step=loss, m_step=loss, bound=bound)

    print(f"the source itself     log p {source.log_prob(fresh).mean():.4f}")
    settings = {"epochs": 30, "lr": 2e-2, "device": "cpu", "progress": False}
    objectives = {"yours": yours, "the library's": vl.objectives.VIMCO(8)}
    for name, objective in objectives.items():
        mixture = vl.exact.GaussianMixture(data_dim=2, components=4, seed=20)
        before = mixture.log_prob(fresh).mean()
        vl.fit(mixture, objective, data, **settings)
        after = mixture.log_prob(fresh).mean()
        print(f"{name:14s} from log p {before:.4f} to {after:.4f}")

# %% [markdown]
# That was the last one. Nearly all of these climbed bounds on $\log p(x)$; chapter 9 asks what such a bound does not
# want.
