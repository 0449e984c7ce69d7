"""The teacher's further checks of chapter 8's exercises."""

import math

import torch

from vaelearn import bounds
from vaelearn.exercises import ch08, expect
from vaelearn.exercises.answers import closes


def q1(coefficients, fresh):
    ch08.q1(coefficients, fresh)
    K, B = fresh.sizes(2, 8, 14)
    log_w = (40 * fresh.normal(K, B)).float()
    said, w = coefficients(log_w), torch.softmax(log_w, 0)
    expect.close(
        said["dreg"][0],
        w**2,
        "the factor of path in 'dreg', float32 log-weights far apart",
    )
    expect.close(
        said["rws"][1],
        w,
        "the factor of score in 'rws', float32 log-weights far apart",
    )
    one = coefficients(fresh.normal(1, B))
    for name, path, score in (
        ("iwae", 1.0, -1.0),
        ("dreg", 1.0, 0.0),
        ("stl", 1.0, 0.0),
        ("rws", 0.0, 1.0),
    ):
        for value, truth, term in zip(
            one[name], (path, score), ("path", "score"), strict=True
        ):
            what = f"the factor of {term} in {name!r} at K = 1"
            expect.close(
                ch08._spread(value, 1, B, what), torch.full((1, B), truth), what
            )


def q2(factors, fresh):
    ch08.q2(factors, fresh)
    expect.that(
        all(abs(float(v) - 1) < 1e-6 for v in factors(1).values()),
        "factors(1): where nothing changes, all factors are 1.",
    )
    a, b = float(fresh.uniform(2, 3)), float(fresh.uniform(5, 7))
    one, other, both = factors(a), factors(b), factors(a * b)
    for name in both:
        product = float(one[name]) * float(other[name])
        expect.close(
            both[name],
            product,
            f'factors(a b)["{name}"] against factors(a) times factors(b)',
        )


def q3(landing, fresh):
    ch08.q3(landing, fresh)
    v, rho = float(fresh.uniform(0.5, 2)), float(fresh.uniform(0.3, 0.8))
    said = landing(v, rho)
    P = torch.linalg.inv(
        v * torch.tensor([[1.0, rho], [rho, 1.0]], dtype=torch.float64)
    )

    def log_second_moment(d):
        # E_q[r²] = ∫ p²/q, up to what does not contain d.
        eye = torch.eye(2, dtype=torch.float64)
        return math.log(d) - 0.5 * float(torch.logdet(2 * P - eye / d))

    d = float(said["dreg"])
    around = [log_second_moment(d * step) for step in (0.98, 1.0, 1.02)]
    expect.that(
        around[1] < min(around[0], around[2]),
        'landing(...)["dreg"] does not minimise E[r²].',
    )
    apart = landing(v, 0.0)
    for name in ("elbo", "stl", "dreg"):
        expect.close(
            apart[name],
            v,
            f'landing({v:.3f}, 0)["{name}"], where q can be the posterior',
            tolerance=1e-4,
        )


def q4(dreg_losses, fresh):
    ch08.q4(dreg_losses, fresh)
    B, D, L = fresh.sizes(3, 2, 6)
    model, x = fresh.linear_gaussian(D, L), 10 * fresh.normal(B, D)
    for K in (1, 9):
        phi, theta = dreg_losses.run(ch08.two_gradients, model, x, K, 5)
        draw = ch08.drawn(model, x, (K, 1), 5)
        right = ch08.flat_gradient(
            ch08._surrogate(draw, True, True, 2), model.inference_parameters()
        )
        expect.close(
            phi, right, f"e_step's gradient in φ at K = {K}, x far out"
        )
        right = ch08.flat_gradient(
            -bounds.iwae(draw.log_w).mean(), model.generative_parameters()
        )
        expect.close(
            theta, right, f"m_step's gradient in θ at K = {K}, x far out"
        )
    # One latent dimension: the best q is the posterior, and DReG is 0 there, sample by sample.
    model = fresh.linear_gaussian(D, 1)
    model.perfect_e_step()
    phi, _ = dreg_losses.run(
        ch08.two_gradients, model, fresh.normal(B, D), 4, 6
    )
    expect.that(
        float(phi.abs().max()) < 1e-9,
        "where q is the posterior e_step's gradient should be 0.",
    )


@closes(
    "gradients.geometric_mean_bound",
    "gradients.leave_one_out",
    "objectives.VIMCO.__call__",
)
def q5(vimco, fresh):
    ch08.q5(vimco, fresh)
    K, C = 5, 3
    index = ch08.every_tuple(K, C)
    T = index.shape[1]
    logits, joint = fresh.normal(C), fresh.normal(C) - 3
    phi, _ = vimco.run(
        ch08.tuple_gradients, logits.expand(T, C), joint.expand(T, C), index
    )
    # The exact gradient of L_K: all tuples, differentiated as they stand.
    leaf = logits.clone().requires_grad_()
    log_q = leaf.log_softmax(-1)
    log_w = (joint - log_q)[index]
    weight = log_q[index].sum(0).exp()
    exact = torch.autograd.grad((weight * bounds.iwae(log_w)).sum(), leaf)[0]
    mean = (weight.detach()[:, None] * phi).sum(0)
    what = (
        f"the mean gradient over all {T} tuples, against the gradient of L_{K}"
    )
    expect.close(mean, exact, what, tolerance=1e-4)
    rough = logits.float().expand(T, C), joint.float().expand(T, C), index
    expect.close(
        vimco.run(ch08.tuple_gradients, *rough)[0],
        phi,
        "the gradient in float32",
        tolerance=1e-3,
    )
    two = ch08.every_tuple(2, C)
    spread = logits.expand(C * C, C), joint.expand(C * C, C), two
    right = ch08.tuple_gradients(ch08._vimco(), *spread)[0]
    expect.close(
        vimco.run(ch08.tuple_gradients, *spread)[0],
        right,
        "the gradient at K = 2",
    )
