# %% [markdown]
# # Exercises 11: other divergences
#
# Six questions on chapter 11, about judges, scores and tables. They begin with five minutes and end with most of an
# hour. Put your answer where the `...` stand and run the check below it; every run is a new problem, and what comes back
# is meant to help. Once you have tried, `grader.solution("q1")` opens a worked solution.
#
# A judge's logit $d(z)$ says how sure it is that $z$ is a code, from $q$, and not a draw from the prior $p$. All
# divergences are in nats.

# %%
import math

import torch
import torch.nn.functional as F
from torch import distributions as D

import vaelearn as vl
from vaelearn.exercises import Grader

torch.set_default_dtype(torch.float64)
grader = Grader(11)

# %% [markdown]
# ## Question 1: what the judge has found
#
# *Implement, five minutes.* Turn a judge's logits into its estimate of the Jensen–Shannon divergence,
# $\log 2 + \frac12\, \mathbb E_q[\log \sigma(d)] + \frac12\, \mathbb E_p[\log \sigma(-d)]$. The two samples need not be
# of one size. Logits of $\pm 1000$ occur, and on the wrong side too.

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 2

# %% [raw]
# # BEGIN SOLUTION


# %%
def js_estimate(d_q, d_p):
    """Logits d_q (N,) of codes, d_p (M,) of prior draws -> JS(q, p) ()."""
    # BEGIN SOLUTION
    return (
        math.log(2) + (F.logsigmoid(d_q).mean() + F.logsigmoid(-d_p).mean()) / 2
    )
    # END SOLUTION


# %% [markdown]
# $1 - \sigma(d) = \sigma(-d)$, so one function serves both sides. `logsigmoid` works from the logit:
# $\log \sigma(d) = -\mathrm{softplus}(-d)$, which is $-1000$ at $d = -1000$, while $\sigma(-1000)$ is 0 and its logarithm
# $-\infty$. Each side is averaged on its own: that is the fair coin of the theorem, whatever N and M are.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 2: read the table
#
# *Implement, ten minutes.* A table like InfoVAE's holds negative log-likelihoods. You have one number a seed, for your
# method and for the ELBO, and the same seeds (weights at the start, order of the images) for both. How much does your
# method gain, and how sure is that?

# %% [raw]
# # BEGIN QUESTION
# name: q2
# points: 2

# %% [raw]
# # BEGIN SOLUTION


# %%
def gain(ours, elbo):
    """NLL in nats, ours (S,), elbo (S,) -> (mean gain, its standard error).

    The runs are paired by seed. The gain is positive where ours is better.
    """
    # BEGIN SOLUTION
    better = elbo - ours
    return better.mean(), better.std() / len(better) ** 0.5
    # END SOLUTION


# %% [markdown]
# NLL is a loss: lower is better, so the gain is the ELBO's less ours. (Read the other way round, InfoVAE's Table 1 puts
# the plain ELBO first and MMD last.) A lucky start is lucky for both methods. The difference within a seed cancels
# that; two separate error bars keep it. `std` has $S - 1$ in its denominator. With few seeds that matters,
# and so does Student's $t$: at $S = 5$ a difference needs 2.78 standard errors, not 1.96, for the usual five per cent.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 3: modes that nobody visits
#
# *Predict, twenty minutes.* The prior is an equal mixture of $n$ copies of one bump. The codes use $r$ of them, equally
# often, and each as the prior has it. The bumps lie so far apart that neither a density nor the kernel of an MMD
# or a Stein discrepancy reaches from one to the next. Let $g = \mathbb E\, k(z, \tilde z)$ for two draws from one bump. What
# does each divergence of the codes' $q$ from the prior $p$ say? Then run the cell below the check: eight bumps, three used.

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 3

# %% [raw]
# # BEGIN PROMPT


# %%
def missing_modes(n, r, g):
    """Divergences of r equal modes from n, infinitely far apart.

    KL(q || p), JS(q, p), MMD²(q, p) and KSD².
    """
    return {"KL": ..., "JS": ..., "MMD": ..., "Stein": ...}


# %% [raw]
# # END PROMPT

# %% [raw]
# # BEGIN SOLUTION


# %%
# BEGIN SOLUTION NO PROMPT
def missing_modes(n, r, g):
    """Divergences of r equal modes from n, infinitely far apart.

    KL(q || p), JS(q, p), MMD²(q, p) and KSD².
    """
    f = r / n
    js = math.log(2) - ((1 + f) * math.log(1 + f) - f * math.log(f)) / 2
    return {
        "KL": math.log(n / r),
        "JS": js,
        "MMD": g * (1 / r - 1 / n),
        "Stein": 0.0,
    }


# END SOLUTION


# %% [markdown]
# Write $f = r/n$. On the modes in use $q = p/f$; elsewhere $q = 0$.
#
# - KL: $\log(q/p) = \log(1/f)$ at each code. (The other direction, $\mathrm{KL}(p \,\|\, q)$, tends to infinity.)
# - JS: $m = \frac12(q + p)$ is $\frac{1 + f}{2f}\,p$ in use and $\frac12 p$ elsewhere. So
#   $\mathrm{KL}(q \,\|\, m) = \log\frac{2}{1+f}$ and
#   $\mathrm{KL}(p \,\|\, m) = f \log\frac{2f}{1+f} + (1 - f)\log 2$; half of each, added up, is
#   $\log 2 - \frac12\big[(1+f)\log(1+f) - f \log f\big]$.
# - MMD: two codes share a mode with probability $1/r$, two prior draws, or one of each, with probability $1/n$. So
#   $\mathrm{MMD}^2 = g\,(\frac1r + \frac1n - \frac2n)$. With many modes in use it sees very little.
# - Stein: where the codes are, $p$ is a *constant* times $q$, and a constant has no score. It says 0, as for a
#   perfect match.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %%
if grader.after("q3"):
    n, r, N = 8, 3, 1000
    turn = 2 * math.pi * torch.arange(n) / n
    centres = 25 * torch.stack((turn.cos(), turn.sin()), -1)

    def bumps(centres):
        shares = D.Categorical(torch.ones(len(centres)))
        return D.MixtureSameFamily(
            shares, D.Independent(D.Normal(centres, 1.0), 1)
        )

    q, p = bumps(centres[:r]), bumps(centres)
    z, y = q.sample((N,)), p.sample((N,))
    ratios = [q.log_prob(at) - p.log_prob(at) for at in (z, y)]
    log_m = [
        torch.logaddexp(q.log_prob(at), p.log_prob(at)) - math.log(2)
        for at in (z, y)
    ]
    measured = {
        "KL": ratios[0].mean(),
        "JS": (
            (q.log_prob(z) - log_m[0]).mean()
            + (p.log_prob(y) - log_m[1]).mean()
        )
        / 2,
        "MMD": vl.divergences.mmd(z, y),
        "Stein": vl.divergences.stein_discrepancy(z, p),
    }
    # h² = 2 in two dimensions: E k = (1 + 2 / h²)^(-1)
    predicted = missing_modes(n, r, g=1 / 2)
    for name, value in measured.items():
        told = float(predicted[name])
        print(f"{name:5}  measured {value:7.4f}   predicted {told:7.4f}")

# %% [markdown]
# ## Question 4: soft labels
#
# *Derive, a quarter of an hour.* To keep a judge from being too sure, people soften one of its labels: a code's target is
# $a < 1$ (often 0.9) in place of 1, a prior draw's stays 0. The loss is
#
# $$\tfrac12\, \mathbb E_q\big[-a \log \sigma(d) - (1 - a) \log \sigma(-d)\big] + \tfrac12\, \mathbb E_p[-\log \sigma(-d)].$$
#
# Which logit $d$ is the best, at a point where $\log \frac{q(z)}{p(z)} = r$? Your function should survive
# $r = \pm 800$.

# %% [raw]
# # BEGIN QUESTION
# name: q4
# points: 2

# %% [raw]
# # BEGIN SOLUTION


# %%
def soft_logit(r, a):
    """Log-ratios r = log q/p, any shape -> the best logits, the same shape.

    The codes' target is a, 1/2 < a < 1.
    """
    # BEGIN SOLUTION
    return math.log(a) + r - F.softplus(r + math.log(1 - a))
    # END SOLUTION


# %% [markdown]
# At one point the loss is half of $-a\,q \log \sigma - ((1 - a)\,q + p) \log(1 - \sigma)$: a coin with weights $a q$ and
# $(1 - a) q + p$. So $\sigma(d) = \frac{a q}{q + p}$, and the logit is
#
# $$d = \log \frac{a q}{p + (1 - a) q} = \log a + r - \log\big(1 + (1 - a)\, e^r\big).$$
#
# It never exceeds $\log \frac{a}{1 - a}$, 2.2 nats at $a = 0.9$. As $\mathbb E_q[d]$ is what a judge reports for KL,
# no KL above 2.2 nats can be reported. Its push fades too: $\nabla d = \sigma(-r - \log(1 - a))\, \nabla r$ is
# nearly zero for codes far out. The trick calms the game, and it costs just what `of="kl"` was chosen for.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %%
if grader.after("q4"):
    for m in (1.0, 2.0, 4.0, 8.0):  # q = N(m, 1), p = N(0, 1)
        z = m + torch.randn(20_000)
        r = m * z - m**2 / 2
        soft = soft_logit(r, 0.9).mean()
        hard = f"KL {m**2 / 2:4.1f}, told with hard labels {r.mean():4.1f}"
        print(f"m = {m:.0f}   {hard}, with soft {soft:4.2f}")

# %% [markdown]
# ## Question 5: two players, three bugs
#
# *Repair, a quarter of an hour.* Judge and encoder each need a loss. Both descend, each by its own optimiser, and each
# optimiser looks at its own parameters only. Three mistakes have slipped in.

# %% [raw]
# # BEGIN QUESTION
# name: q5
# points: 3

# %% [raw]
# # BEGIN PROMPT


# %%
def losses(judge, z, y):
    """Codes z (N, L), prior draws y (M, L) -> (loss, penalty), both ().

    judge: a function (n, L) -> logits (n,).
    loss: what the judge descends, ½ E_q[-log σ(d)] + ½ E_p[-log σ(-d)]. It
    sends no gradient to z.
    penalty: what the encoder descends, the judge's estimate of JS(q, p). Its
    gradient reaches z.
    Both are right for any logits, ±800 included.
    """
    of_q = torch.sigmoid(judge(z)).clamp(1e-7, 1 - 1e-7)
    of_p = torch.sigmoid(judge(y)).clamp(1e-7, 1 - 1e-7)
    loss = -(of_q.log().mean() + (1 - of_p).log().mean()) / 2
    penalty = loss - math.log(2)
    return loss, penalty


# %% [raw]
# # END PROMPT

# %% [raw]
# # BEGIN SOLUTION


# %%
# BEGIN SOLUTION NO PROMPT
def losses(judge, z, y):
    """Codes z (N, L), prior draws y (M, L) -> (loss, penalty), both ().

    judge: a function (n, L) -> logits (n,).
    loss: what the judge descends, ½ E_q[-log σ(d)] + ½ E_p[-log σ(-d)]. It
    sends no gradient to z.
    penalty: what the encoder descends, the judge's estimate of JS(q, p). Its
    gradient reaches z.
    Both are right for any logits, ±800 included.
    """

    def logistic(z):
        return (F.softplus(-judge(z)).mean() + F.softplus(judge(y)).mean()) / 2

    return logistic(z.detach()), math.log(2) - logistic(z)


# END SOLUTION


# %% [markdown]
# 1. Probabilities were clamped before the logarithm. A code with logit $-40$ gives a loss of 16 in place of 40, and no
#    gradient at all: where the judge is most wrong, it learns nothing. `softplus` of the logit has neither problem.
# 2. The judge's loss carried a gradient to the codes. One `backward` of the sum, or two in a row, and the encoder is told
#    to be easy to judge. Detach the codes.
# 3. The penalty had the judge's sign. The estimate is $\log 2 - \ell$: the judge descends $\ell$, the encoder *ascends*
#    it. Descending the same number, they would be one team, and the codes would run from the prior.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 6: a test that needs no samples
#
# *Implement, most of an hour.* The prior is a Gaussian $p = \mathcal N(\mu, \Sigma)$ with correlations, the kernel
# $k = e^{-\|z - z'\|^2 / 2h^2}$. Estimate $\mathrm{KSD}^2$ without bias: the mean over pairs of *different* codes of
#
# $$u(z, z') = s(z) \cdot s(z')\, k + s(z) \cdot \nabla_{z'} k + s(z') \cdot \nabla_z k + \operatorname{tr} \nabla_z \nabla_{z'} k,
# \qquad s = \nabla \log p.$$
#
# Work out the score and the three derivatives on paper first. No autograd, no loop over pairs; and no library
# version, of course.

# %% [raw]
# # BEGIN QUESTION
# name: q6
# points: 3

# %% [raw]
# # BEGIN SOLUTION


# %%
def ksd(z, mean, covariance, h):
    """Codes z (N, L); the prior's mean (L,), covariance (L, L) -> KSD² ().

    The U-statistic, with the RBF kernel of bandwidth h > 0.
    """
    # BEGIN SOLUTION
    N, L = z.shape
    score = -torch.linalg.solve(covariance, (z - mean).T).T
    apart = z[:, None] - z
    squares = apart.square().sum(-1)
    k = torch.exp(-squares / (2 * h**2))
    cross = ((score[:, None] - score) * apart).sum(-1) / h**2
    trace = L / h**2 - squares / h**4
    u = k * (score @ score.T + cross + trace)
    return (u.sum() - u.diagonal().sum()) / (N * (N - 1))
    # END SOLUTION


# %% [markdown]
# $\log p = -\frac12 (z - \mu)^\top \Sigma^{-1} (z - \mu) + \text{const}$, so $s(z) = -\Sigma^{-1}(z - \mu)$. With
# $\delta = z - z'$: $\nabla_{z'} k = \frac{\delta}{h^2} k$ and $\nabla_z k = -\frac{\delta}{h^2} k$, so the two middle terms
# are $(s(z) - s(z')) \cdot \delta\, k / h^2$. Differentiate $\frac{\delta}{h^2} k$ by $z$: each dimension gives
# $\big(\frac{1}{h^2} - \frac{\delta_l^2}{h^4}\big) k$, and their sum is $\big(\frac{L}{h^2} - \frac{\|\delta\|^2}{h^4}\big) k$.
#
# For a Gaussian the middle terms are $-\delta^\top \Sigma^{-1} \delta\, k / h^2 \le 0$, and they do not know $\mu$: only
# $s \cdot s'$ notices a shift. The diagonal would add $\frac1N\, \mathbb E[\|s(z)\|^2 + L/h^2]$, Stein's floor.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %%
if grader.after("q6"):
    covariance = torch.tensor([[1.0, 0.6], [0.6, 1.0]])
    mean, root = torch.tensor([1.0, -1.0]), torch.linalg.cholesky(covariance)
    values = {"q = p": [], "shifted by 0.3": [], "uncorrelated": []}
    for _ in range(300):
        e = torch.randn(100, 2)
        values["q = p"].append(ksd(mean + e @ root.T, mean, covariance, 1.0))
        values["shifted by 0.3"].append(
            ksd(mean + 0.3 + e @ root.T, mean, covariance, 1.0)
        )
        values["uncorrelated"].append(ksd(mean + e, mean, covariance, 1.0))
    for name, each in values.items():
        each = torch.tensor(each)
        print(f"{name:15}  KSD² {each.mean():.4f}   spread {each.std():.4f}")

# %% [markdown]
# You have now built a judge's report, a repaired game and a test by scores. Chapter 12 takes them to the published tables.
