# %% [markdown]
# # Exercises 2: the VAE as EM
#
# Six questions on chapter 2. The first is done in five minutes; the last may take an hour, and paper. Replace the
# `...`, then run the check below. Each time it makes up new problems for your answer, and where the answer is wrong it
# tries to say why. Checks are free: run them as often as you like. Once you have tried, `grader.solution("q1")` shows
# a worked solution.
#
# The letters are the chapter's: $B$ data points, $D$ pixels, $L$ latents, $z \sim N(0, I)$ the prior. Bounds, KLs and
# log-densities are in nats. The functions of questions 1 to 3 are parts of a training loss: write them with tensors,
# so that gradients can flow.

# %%
import math

import torch

import vaelearn as vl
from vaelearn.exercises import Grader

torch.set_default_dtype(torch.float64)
grader = Grader(2)

# %% [markdown]
# ## Question 1: the rate
#
# *Implement, five minutes.* The second form of the ELBO is reconstruction minus $\mathrm{KL}(q(z \mid x) \,\|\, p(z))$.
# For $q = N(\mu, \mathrm{diag}\, s^2)$ that KL has a closed form. Write it for a batch. The encoder hands you $\mu$ and
# $\log s$, the logarithm of the standard deviation.

# %% [raw]
# # BEGIN QUESTION
# name: q1
# points: 2

# %% [raw]
# # BEGIN SOLUTION


# %%
def rate(mean, log_s):
    """mean (B, L), log_s (B, L) -> KL(q || N(0, I)), one a data point (B,)."""
    # BEGIN SOLUTION
    return 0.5 * (mean**2 + (2 * log_s).exp() - 1 - 2 * log_s).sum(1)
    # END SOLUTION


# %% [markdown]
# $\log q(z) - \log p(z) = \sum_i \big[-\log s_i - \tfrac12 (z_i - \mu_i)^2 / s_i^2 + \tfrac12 z_i^2\big]$: the
# $\tfrac12 \log 2\pi$ cancel. Under $q$ the expectation of $(z_i - \mu_i)^2$ is $s_i^2$, and that of $z_i^2$ is
# $\mu_i^2 + s_i^2$. So the KL is $\tfrac12 \sum_i \big(\mu_i^2 + s_i^2 - 1 - \log s_i^2\big)$. Each term is at least 0,
# because $t - 1 \ge \log t$, and it is 0 exactly at $\mu_i = 0$, $s_i = 1$.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 2: ink from logits
#
# *Implement, ten minutes.* A decoder gives $K$ samples of logits $a$ for each image, and each pixel is on with
# probability $\mathrm{sigmoid}(a)$. Write $\log p(x \mid z)$, summed over the pixels. It must hold, and have the
# right gradient, where the decoder is sure and *wrong*: a logit of $-500$ for a pixel that is on. (The library's own,
# `vl.distributions.bernoulli_log_prob`, is closed while yours is checked.)

# %% [raw]
# # BEGIN QUESTION
# name: q2
# points: 2

# %% [raw]
# # BEGIN SOLUTION


# %%
def log_likelihood(logits, x):
    """logits (K, B, D), x (B, D) of zeros and ones -> log p(x | z) (K, B)."""
    # BEGIN SOLUTION
    return (x * logits - torch.nn.functional.softplus(logits)).sum(-1)
    # END SOLUTION


# %% [markdown]
# With $p = 1 / (1 + e^{-a})$, $\log p = a - \log(1 + e^a)$ and $\log(1 - p) = -\log(1 + e^a)$. So
# $x \log p + (1 - x) \log(1 - p) = x a - \mathrm{softplus}(a)$. No probability is ever formed, so none can be rounded
# to 0. The derivative is $x - \mathrm{sigmoid}(a)$: the error of the prediction, at most 1 in size, and close to 1
# where the decoder is sure and wrong. `x` (B, D) meets `logits` (K, B, D) by broadcasting. PyTorch's
# `binary_cross_entropy_with_logits` wants equal shapes, averages unless told not to, and has the other sign.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# ## Question 3: a log-weight, mended
#
# *Repair, a quarter of an hour.* This function ought to give $\log w = \log p(x \mid z) + \log p(z) - \log q(z \mid x)$
# for one sample $z = \mu + s\,\varepsilon$ of each data point. The likelihood is $N(\hat x, \sigma^2 I)$, where
# $\hat x$ is what the decoder made of $z$, and the encoder's second output is $\log s^2$. Three of its steps are
# pitfalls of chapter 2, or cousins of them. Find and mend them.

# %% [raw]
# # BEGIN QUESTION
# name: q3
# points: 3

# %% [raw]
# # BEGIN PROMPT


# %%
def log_weight(x, decoded, z, mu, log_var, sigma):
    """x, decoded (B, D); z, mu, log_var (B, L); sigma a float -> log w (B,)."""
    squares = ((x - decoded) / sigma) ** 2
    log_likelihood = -0.5 * (squares + math.log(2 * math.pi * sigma**2)).mean(1)

    eps = (z - mu) / log_var
    log_prior = -0.5 * (z**2 + math.log(2 * math.pi))
    log_q = -0.5 * (eps**2 + log_var + math.log(2 * math.pi))
    return log_likelihood + (log_prior - log_q).mean(1)


# %% [raw]
# # END PROMPT

# %% [raw]
# # BEGIN SOLUTION


# %%
# BEGIN SOLUTION NO PROMPT
def log_weight(x, decoded, z, mu, log_var, sigma):
    """x, decoded (B, D); z, mu, log_var (B, L); sigma a float -> log w (B,)."""
    squares = ((x - decoded) / sigma) ** 2
    log_likelihood = -0.5 * (squares + math.log(2 * math.pi * sigma**2)).sum(1)

    eps = (z - mu) / (0.5 * log_var).exp()
    log_prior = -0.5 * (z**2 + math.log(2 * math.pi))
    log_q = -0.5 * (eps**2 + log_var + math.log(2 * math.pi))
    return log_likelihood + (log_prior - log_q).sum(1)


# END SOLUTION


# %% [markdown]
# 1. $\varepsilon = (z - \mu) / s$ with $s = e^{\frac12 \log s^2}$. Divided by the log-variance it has the wrong size,
#    can have the wrong sign, and is infinite at $s = 1$, where an untrained encoder likes to start.
# 2. A mean over pixels is the log-likelihood divided by $D$.
# 3. A mean over latents is the sum divided by $L$.
#
# With 2 and 3 in place the model trains on $\frac1D \log p(x \mid z) + \frac1L \log \frac{p(z)}{q(z \mid x)}$. Times
# $D$, which moves no maximum, that is a $\beta$-VAE with $\beta = D / L$, and nobody chose that $\beta$.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# The mean of your log-weights must come to the exact ELBO, which the linear model knows:

# %%
torch.manual_seed(0)
model = vl.exact.LinearGaussian(data_dim=6, latent_dim=2, seed=3)
x = model.sample(1)[0]
with torch.no_grad():
    q = model.posterior(x)
    z = q.sample((20_000,))[:, 0]
    decoded = model.likelihood(z).mean
    mu = q.mean.expand_as(z)
    log_var = 2 * model.log_s.expand_as(z)  # s is 1 here
    log_w = log_weight(x.expand_as(decoded), decoded, z, mu, log_var, 1.0)
    error = log_w.std() / len(log_w) ** 0.5
    exact = model.elbo(x).item()
    print(
        f"mean log w {log_w.mean():.3f} ± {error:.3f}, exact ELBO {exact:.3f}"
    )

# %% [markdown]
# ## Question 4: the best encoder of a camera with bad pixels
#
# *Derive, twenty minutes.* Let $z \sim N(0, I)$ and $x \mid z \sim N(Wz + b, \mathrm{diag}(\sigma_1^2, \dots,
# \sigma_D^2))$: every pixel has a noise of its own. Among all $q(z \mid x) = N(Ax + c, \mathrm{diag}\, s^2)$, which one
# has the highest ELBO at every $x$? Give $A$, $c$ and the standard deviations $s$.

# %% [raw]
# # BEGIN QUESTION
# name: q4
# points: 3

# %% [raw]
# # BEGIN SOLUTION


# %%
def encoder(W, b, noise):
    """W (D, L), b (D,), noise (D,) -> A (L, D), c (L,), s (L,).

    noise and s are standard deviations.
    """
    # BEGIN SOLUTION
    weighted = W.T / noise**2
    P = torch.eye(W.shape[1]).to(W) + weighted @ W
    A = torch.linalg.solve(P, weighted)
    return A, -A @ b, P.diagonal() ** -0.5
    # END SOLUTION


# %% [markdown]
# Measure every pixel in units of its own noise: $x_d / \sigma_d$ has loadings $W_{d\cdot} / \sigma_d$, mean
# $b_d / \sigma_d$ and noise 1. The posterior of $z$ does not care about units, and now it is the chapter's model with
# $\sigma = 1$. So with $\Psi = \mathrm{diag}(\sigma_d^2)$ the posterior has precision $P = I + W^\top \Psi^{-1} W$ and
# mean $P^{-1} W^\top \Psi^{-1} (x - b)$.
#
# The ELBO is $\log p(x)$ minus $\mathrm{KL}(q \,\|\, p(z \mid x))$, and twice that KL is
# $\sum_i (P_{ii} s_i^2 - \log s_i^2 - 1) + (m - \mu)^\top P (m - \mu) - \log\det P$ for a $q$ with mean $m$. It is
# least at $m = \mu(x)$, which gives $A = P^{-1} W^\top \Psi^{-1}$ and $c = -Ab$, and at $s_i^2 = 1 / P_{ii}$: the
# variance of $z_i$ if the other latents were known, and not the larger $(P^{-1})_{ii}$ of the posterior's marginal. A
# noisy pixel has a small column in $A$, and a hopeless one next to nothing.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# In units of the noise, `LinearGaussian` can say how good your encoder is. Its gap should be the same at every $x$,
# the family's and not the encoder's. Then spoil $A$ a little: what is added is an amortization gap, and it depends on
# $x$.

# %%
if grader.after("q4"):
    torch.manual_seed(0)
    W, b, noise = torch.randn(6, 3), torch.randn(6), 0.3 + torch.rand(6)
    camera = vl.exact.LinearGaussian(6, 3)
    with torch.no_grad():
        A, c, s = encoder(W, b, noise)
        camera.W.copy_(W / noise[:, None])
        camera.b.copy_(b / noise)
        camera.c.copy_(c)
        camera.log_s.copy_(s.log())
        x = camera.sample(100)[0]  # in units of the noise
        for spoilt in (0.0, 0.1):
            camera.A.copy_((1 + spoilt) * A * noise)
            gap = camera.log_prob(x) - camera.elbo(x)
            print(
                f"A · {1 + spoilt}: gap {gap.min():.3f} to {gap.max():.3f} nats"
            )

# %% [markdown]
# ## Question 5: which latents live?
#
# *Predict, ten minutes.* A linear VAE with a *fixed* $\sigma$ is trained to the maximum of reconstruction
# $- \beta\,\mathrm{KL}$, over $W$, $b$ and the encoder. A latent is alive if its column of $W$ is not zero. How many of
# the $L$ latents will be alive? You are given the eigenvalues $\lambda_1 \ge \dots \ge \lambda_D$ of the data's
# covariance, all different.
#
# One fact to start from, which the chapter has only at the best $\sigma$ (Tipping and Bishop, 1999): at any fixed
# $\sigma$ the *likelihood* of the linear model is highest at $W = U_L\, \mathrm{diag}\big(\sqrt{\max(\lambda_i -
# \sigma^2, 0)}\big)\, R$ and $b = \bar x$, with the $L$ leading eigenvectors $U_L$ and any rotation $R$. At $R = I$ the
# posterior has a diagonal covariance, so at $\beta = 1$ the ELBO has the same maximum. What does another $\beta$ do?
# Commit yourself to a rule, check it, and only then run the experiment below.

# %% [raw]
# # BEGIN QUESTION
# name: q5
# points: 2

# %% [raw]
# # BEGIN SOLUTION


# %%
def survivors(eigenvalues, latent_dim, sigma, beta):
    """eigenvalues (D,), largest first; latent_dim < D -> latents alive."""
    return int((eigenvalues[:latent_dim] > beta * sigma**2).sum())  # SOLUTION


# %% [markdown]
# At a fixed $\sigma$ the reconstruction is $-\|x - Wz - b\|^2 / 2\sigma^2$ plus a constant. Divide the objective by
# $\beta$, which moves no maximum: the squared error is now divided by $2 \beta \sigma^2$, and the KL counts once. That
# is the ELBO of a model with noise variance $\beta\sigma^2$. Its best $W$ has the columns
# $\sqrt{\max(\lambda_i - \beta\sigma^2, 0)}\; u_i$, and a latent lives exactly if $\lambda_i > \beta \sigma^2$: if
# its direction of the data rises above the noise that the model is *told* to see. So $\beta$ and $\sigma^2$ are one
# knob as long as $\sigma$ is fixed, and posterior collapse is here no accident of training; it is the maximum.
#
# And the fact? Let $c_1 \ge \dots \ge c_D$ be the eigenvalues of $WW^\top + \sigma^2 I$: the last $D - L$ are $\sigma^2$,
# the others at least that. With the data's eigenvectors, in the same order, the mean log-likelihood is as high as these
# $c_i$ allow, $-\frac12 \sum_i (\log 2\pi c_i + \lambda_i / c_i)$; and on $c \ge \sigma^2$, $\log c + \lambda / c$ is least
# at $c = \max(\lambda, \sigma^2)$.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION


# %%
def train(x, latent_dim, sigma, beta, learn_sigma=False, steps=400):
    """Maximise reconstruction - beta KL, both exact; the elbo holds one KL."""
    model = vl.exact.LinearGaussian(x.shape[1], latent_dim, seed=1)
    torch.nn.init.constant_(model.log_sigma, math.log(sigma)).requires_grad_(
        learn_sigma
    )
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters)
    for i in range(steps):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - i / steps)
        optimizer.zero_grad()
        kl = torch.distributions.kl_divergence(
            model.posterior(x), model.prior()
        )
        (-(model.elbo(x) + (1 - beta) * kl).mean()).backward()
        optimizer.step()
    return model


torch.manual_seed(1)
x = torch.randn(300, 6) * torch.tensor([3.0, 2.0, 1.4, 1.0, 0.7, 0.5])
eigenvalues = torch.linalg.eigvalsh(x.T.cov(correction=0)).flip(0)
print("eigenvalues:", [round(e, 2) for e in eigenvalues.tolist()])
if grader.after("q5"):
    for sigma, beta in ((0.5, 1.0), (0.5, 9.0), (1.5, 1.0)):
        alive = vl.metrics.active_units(train(x, 4, sigma, beta), x).sum()
        said = survivors(eigenvalues, 4, sigma, beta)
        print(f"σ = {sigma}, β = {beta}: you say {said}; ", end="")
        print(f"of 4 latents {alive} live")

# %% [markdown]
# ## Question 6: β, and a noise that is learned
#
# *Derive, an hour.* Now $\sigma$ is learned too. In the linear VAE, let $F$ be the mean over the data of
# $\mathbb E_q[\log p(x \mid z)] - \beta\,\mathrm{KL}(q(z \mid x) \,\|\, p(z))$. Which $\sigma^2$ goes with the maximum
# of $F$ over $W$, $b$, the encoder and $\sigma$? At $\beta = 1$ it is pPCA's $\hat\sigma^2$, the mean of the $D - L$
# smallest eigenvalues. All eigenvalues are positive, $L < D$ and $\beta > 0$.
#
# A way to go: set $v = \beta\sigma^2$ and use question 5 to maximise over all but $v$. The likelihood at its best $W$
# is that of a Gaussian whose covariance has the eigenvalues $\max(\lambda_i, v)$ for $i \le L$, and $v$ for the others.
# Then mind the $-\frac D2 \log \sigma^2$, which $\beta$ does not multiply. How many latents are alive depends on
# $\sigma$, and $\sigma$ on how many are alive; your function should get both right.

# %% [raw]
# # BEGIN QUESTION
# name: q6
# points: 3

# %% [raw]
# # BEGIN SOLUTION


# %%
def best_sigma2(eigenvalues, latent_dim, beta):
    """eigenvalues (D,), largest first; latent_dim < D -> sigma squared."""
    # BEGIN SOLUTION
    D = len(eigenvalues)
    possible = [k for k in range(latent_dim + 1) if beta * k < D]
    return min(float(eigenvalues[k:].sum()) / (D - beta * k) for k in possible)
    # END SOLUTION


# %% [markdown]
# With $v = \beta\sigma^2$,
# $F = \beta\,\big[\mathrm{ELBO}_v + \frac D2 \log 2\pi v\big] - \frac D2 \log 2\pi\sigma^2$, where $\mathrm{ELBO}_v$ is
# the mean ELBO of the model with noise variance $v$. Its maximum over the rest is
# $-\frac12 \sum_i (\log 2\pi c_i + \lambda_i / c_i)$ with $c_i = \max(\lambda_i, v)$ for $i \le L$ and $c_i = v$ for
# $i > L$. A latent that lives has $c_i = \lambda_i$, which does not move with $v$. With $k$ latents alive and
# $R_k = \sum_{i > k} \lambda_i$,
#
# $$
# \frac{\partial F}{\partial \log v} = \frac\beta2 \Big( \frac{R_k}{v} - (D - k) + D \Big) - \frac D2
# = \frac\beta2 \Big( k + \frac{R_k}{v} \Big) - \frac D2 .
# $$
#
# It is zero at $v = \beta R_k / (D - \beta k)$, so
#
# $$
# \sigma^2 = \frac{R_k}{D - \beta k} .
# $$
#
# Which $k$? The slope's bracket is $\sum_{i \le L} \min(1, \lambda_i / v) + \sum_{i > L} \lambda_i / v$. It falls as
# $v$ grows, so there is one maximum, where it comes down to $D / \beta$. Because of the minimum inside, the bracket is
# the *smallest* of the $k + R_k / v$ with $k \le L$. So it is the first of these to come down to $D / \beta$, and
# $\sigma^2$ is the smallest of the $R_k / (D - \beta k)$ with $\beta k < D$; the others never come down that far.
# Trying $k = L, L - 1, \dots$, with $\beta k < D$, until $\lambda_k > v$ finds the same.
#
# Read it at its ends. $\beta = 1$ is pPCA: there $k = L$, because the mean of the smallest eigenvalues is below
# $\lambda_L$. $\beta \to 0$ gives $R_L / D$, the mean squared residual of a plain autoencoder. A large $\beta$ kills
# the latents one by one, each death adds an eigenvalue to the residual, and in the end $\sigma^2$ is the mean of all
# eigenvalues. On the way $\sigma^2$ never falls. A smaller $\sigma$ could undo $\beta$, as question 5 says, but a
# learned $\sigma$ is not free to do so: by the chapter, $D\sigma^2$ is the mean squared residual under $q$. That is
# $D \sigma^2 = R_k + k\,\beta\sigma^2$: all of $R_k$, and $\beta\sigma^2$ for each living latent, whose mean is
# shrunk and whose $q$ is noisy. A larger $\beta$ makes a larger residual, and $\sigma$ must follow.

# %% [raw]
# # END SOLUTION

# %% [raw]
# # END QUESTION

# %% [markdown]
# Before you run the last cell: will the learned $\sigma^2$ fall or rise with $\beta$?

# %%
if grader.after("q6"):
    for beta in (0.3, 1.0, 1.7, 2.5):
        learned = (2 * train(x, 4, 1.0, beta, learn_sigma=True).log_sigma).exp()
        said = best_sigma2(eigenvalues, 4, beta)
        print(
            f"β = {beta}: you say σ² = {said:.4f}; training finds {learned:.4f}"
        )

# %% [markdown]
# Done. The ELBO's gradient was taken for granted in all of this; chapters 3 and 4 ask where it comes from.
