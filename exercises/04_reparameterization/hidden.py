"""The teacher's further checks of chapter 4's exercises."""

import torch
from numpy.polynomial.hermite_e import hermegauss

from vaelearn.exercises import ch04, expect
from vaelearn.exercises.answers import closes


def q1(weibull, fresh):
    ch04.q1(weibull, fresh)
    scale, shape = fresh.uniform(0.2, 0.9), fresh.uniform(0.4, 0.9)
    u = fresh.uniform(0.001, 0.999, 20_000)
    z, by_scale, by_shape = weibull.run(ch04.weibull_slopes, u, scale, shape)
    power = torch.as_tensor(z).double().flatten() / scale
    expect.close(
        by_scale,
        power,
        "the derivative of z in scale, for a shape below 1",
        tolerance=1e-5,
    )
    expect.close(
        by_shape,
        -scale * power * power.log() / shape,
        "the derivative in shape, for a shape below 1",
        tolerance=1e-5,
    )
    single = weibull(u.float(), scale.float(), shape.float())
    either = [
        scale * (-torch.log1p(-u)) ** (1 / shape),
        scale * (-u.log()) ** (1 / shape),
    ]
    truth = ch04.nearest(single, {"truth": either})["truth"]
    expect.close(
        single,
        truth,
        "weibull of float32 noise, for a shape below 1",
        tolerance=1e-3,
    )


def q2(factors, fresh):
    ch04.q2(factors, fresh)
    for k in (2, fresh.integer(20, 90)):
        ch04.compare_factors(factors, k)


def q3(width_variances, fresh):
    ch04.q3(width_variances, fresh)
    a, b, c = (float(t) for t in fresh.uniform(-1, 1, 3))
    expect.close(
        width_variances(a, 0.0, 0.0),
        [0.0, 2 * a**2],
        "both variances of a constant f",
    )
    expect.close(
        width_variances(-4 * c, 0.0, c),
        [8 * c**2, 24 * c**2],
        "both variances at the best level of a",
    )
    # Exact for these polynomials.
    eps, weight = (torch.as_tensor(t) for t in hermegauss(30))
    f = a + b * eps + c * (eps**2 - 1)
    draws = torch.stack([(b + 2 * c * eps) * eps, f * (eps**2 - 1)])
    weight = weight / weight.sum()
    truth = (draws.square() * weight).sum(1) - (draws * weight).sum(1).square()
    expect.close(
        width_variances(a, b, c), truth, "both variances, by quadrature"
    )


@closes("gradients.path_derivative")
def q4(path_log_w, fresh):
    ch04.q4(path_log_w, fresh)
    D, L, K, B = fresh.sizes(4, 2, 6)
    # At the posterior (independent latents): every log w is log p(x), and every gradient is zero.
    model = fresh.linear_gaussian(D + L, L)
    with torch.no_grad():
        model.W.copy_(torch.linalg.qr(model.W)[0] * fresh.uniform(0.5, 2, L))
    model.perfect_e_step()
    x, eps = fresh.normal(B, D + L), fresh.normal(K, B, L)
    q = model.posterior(x)
    mu, log_var = q.mean.detach(), q.variance.log().detach().expand(B, L)
    problem = (model, x, mu, log_var, eps)
    expect.close(
        path_log_w(*problem),
        model.log_prob(x).detach().expand(K, B),
        "log w at the posterior",
    )
    for found in path_log_w.run(
        ch04.path_slopes, model, x, mu, log_var, eps[:1]
    ):
        largest = float(torch.as_tensor(found).abs().max())
        expect.that(
            largest < 1e-6,
            "at the posterior the gradient of log w should be zero for every sample.",
        )
    # θ keeps its gradient: that of log p(x | z) at the samples.
    variance = (2 * model.log_sigma.detach()).exp()
    z = mu + (0.5 * log_var).exp() * eps
    with torch.no_grad():
        residual = (x - z @ model.W.T - model.b) / variance
    slope = torch.einsum("kbd,kbl->dl", residual, z)
    expect.close(
        path_log_w.run(ch04.theta_slope, *problem),
        slope,
        "the gradient of log w in the model's W",
    )
    wide = fresh.uniform(0.5, 3, B, L)
    expect.close(
        path_log_w(model, x, mu, wide, eps),
        ch04.log_weights(model, x, mu, wide, eps).detach(),
        "log w of a wide q",
    )


def q5(landed, fresh):
    ch04.q5(landed, fresh)
    for L, B in ((1, 5), (fresh.integer(2, 5), 1), (fresh.integer(2, 4), 40)):
        K = L + 8
        g, _, path, eps = ch04.affine(fresh, K, B, L)
        expect.close(
            landed(path, eps),
            g,
            f"landed for K = {K}, B = {B}, L = {L} and a path affine in eps",
        )
    # A coordinate at a time may be curved in the other's noise.
    K, R, c = 11, 3000, float(fresh.uniform(0.6, 1.4))
    eps, g = fresh.normal(K, R, 2), fresh.normal(2)
    path = g + c * torch.stack(
        [eps[..., 0] * eps[..., 1], eps[..., 0] ** 2 - 1], -1
    )
    expect.mean(
        landed(path, eps),
        g,
        "landed, for a path with a product of two coordinates of eps",
        ch04.fitted(path, eps).std(0),
    )
