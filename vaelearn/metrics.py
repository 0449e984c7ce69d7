"""What a model is worth, how noisy its gradients are, and what its latent code knows."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .checks import check_count, check_instance
from .models import LatentVariableModel, modes_kept, rows_at_once


def mean_and_error(draws: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of independent draws (R, ...) and its standard error: two tensors (...).

    Raises ValueError for R < 2: one draw does not know how far the next will lie.
    """
    if len(draws) < 2:
        raise ValueError(f"a standard error needs 2 draws or more; got {len(draws)}")
    return draws.mean(0), draws.std(0) / math.sqrt(len(draws))


@torch.no_grad()
def log_likelihood(
    model: LatentVariableModel, x: Tensor, K: int = 5000, rows: int | None = None, defensive: bool = False
) -> Tensor:
    """L_K for each row of x (N, D): a lower bound on log p(x) that closes as K grows. (N,) nats.

    Exactly K samples a data point, whatever the chunk. Memory is bounded by `rows`, the number of
    z's decoded at once (None: `models.rows_at_once`): x is encoded once, then the weights stream
    through a running logaddexp. Burda et al. 2016 report −L_5000 as NLL.
    defensive=True tosses a coin for each z, between q(z | x) and the prior, and weighs by
    p(x, z) / (½ q(z | x) + ½ p(z)): no weight exceeds 2 p(x | z). A bound too, for models whose encoder
    is too narrow to judge them. Hesterberg 1995. Raises ValueError for K < 1, rows < 1 or bad data.
    """
    K = check_count("K", K)
    model.check_data(x)
    rows = check_count("rows", rows_at_once(x) if rows is None else rows)
    log_weights = _defensive_log_w if defensive else _log_w
    return torch.cat(
        [_log_likelihood(model, batch, K, rows, log_weights) for batch in x.split(min(rows, 100))]
    )


def _log_likelihood(model, x, K, rows, log_weights):
    q = model.posterior(x)
    total = x.new_full((len(x),), -math.inf)
    chunk = max(1, rows // len(x))
    for start in range(0, K, chunk):
        log_w = log_weights(model, x, q, min(chunk, K - start))
        total = torch.logaddexp(total, log_w.logsumexp(0)[0])
    return total - math.log(K)


def _log_w(model, x, q, K):
    return model.draw(x, (K, 1), q=q).log_w


def _defensive_log_w(model, x, q, K):
    prior = model.prior()
    heads = torch.rand(K, 1, len(x), 1, device=x.device) < 0.5
    z = torch.where(heads, q.sample((K, 1)), prior.sample((K, 1, len(x))))
    log_prior = prior.log_prob(z)
    log_proposal = torch.logaddexp(q.log_prob(z), log_prior) - math.log(2)
    return model.likelihood(z).log_prob(x) + log_prior - log_proposal


def tightness(model: LatentVariableModel, x: Tensor, K: int = 64, reference: int = 5000) -> dict[str, Tensor]:
    """How much of log p(x) L_K reaches, for each row of x (N, D): three tensors (N,) in nats.

    "bound" is L_K, "log_likelihood" is L_reference, and "gap" = bound − log_likelihood estimates
    −KL(Q ‖ P) on the extended space, the better an encoder the nearer to 0. Rainforth et al. 2018,
    table 1. L_K and L_reference are drawn apart. Raises as `log_likelihood`.
    """
    bound, top = log_likelihood(model, x, K), log_likelihood(model, x, reference)
    return {"bound": bound, "log_likelihood": top, "gap": bound - top}


def effective_sample_size(log_w: Tensor) -> Tensor:
    """1 / Σ_k w̃_k²: (K, M, B) -> (M, B), between 1 (one weight holds all) and K (all weights equal)."""
    return 1 / log_w.softmax(0).square().sum(0)


def gradient_draws(
    model: LatentVariableModel, objective: Callable, x: Tensor, draws: int = 1000
) -> dict[str, Tensor]:
    """Independent draws of an objective's gradient at one batch x (B, D): name -> (draws, *shape).

    The gradient of the bound, in nats: φ's from the E-step loss, θ's from the M-step loss, both from
    the same samples, with the sign of ascent. All draws are made in one vectorised pass where q's
    sampling allows it, else one by one; a critic is held still. Raises ValueError for draws < 1.
    """
    draws = check_count("draws", draws)
    check_instance("objective", objective, "a function (model, x) -> Step, such as ELBO()")
    phi = _names(model)["inference"]
    losses = _Losses(model, objective)
    parameters = {f"model.{name}": p.detach() for name, p in model.named_parameters()}
    one, zero = x.new_ones(()), x.new_zeros(())

    def gradient(_):
        _, pull_back = torch.func.vjp(lambda p: torch.func.functional_call(losses, p, (x,)), parameters)
        (of_e_step,), (of_m_step,) = pull_back((one, zero)), pull_back((zero, one))
        names = [name for name, _ in model.named_parameters()]
        return {name: -(of_e_step if name in phi else of_m_step)[f"model.{name}"] for name in names}

    with modes_kept(losses):
        losses.eval()
        try:
            return torch.func.vmap(gradient, randomness="different")(torch.empty(draws, device=x.device))
        except RuntimeError as problem:
            # Distributions of other libraries sample in place, which vmap cannot do once for each draw.
            if "vmap" not in str(problem):
                raise
            drawn = [gradient(None) for _ in range(draws)]
            return {name: torch.stack([one[name] for one in drawn]) for name in drawn[0]}


def _names(model: LatentVariableModel) -> dict[str, list[str]]:
    """What φ's and θ's parameters are called."""
    names = {p: name for name, p in model.named_parameters()}
    sets = {"inference": model.inference_parameters(), "generative": model.generative_parameters()}
    return {which: [names[p] for p in members] for which, members in sets.items()}


class _Losses(nn.Module):
    """(e_step, m_step) as the output of a module, the form that torch.func works on."""

    def __init__(self, model, objective):
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, x):
        step = self.objective(self.model, x)
        return step.e_step, step.m_step


def gradient_moments(
    model: LatentVariableModel, objective: Callable, x: Tensor, draws: int = 1000, chunk: int = 100
) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and variance of each parameter's gradient over `draws` draws: name -> two of its shape.

    As `gradient_draws`, but in memory for `chunk` draws however many there are. The mean's
    standard error is sqrt(variance / draws). Raises ValueError for draws < 2 or chunk < 1.
    """
    draws, chunk = check_count("draws", draws, minimum=2), check_count("chunk", chunk)
    count, mean, square = 0, {}, {}
    for start in range(0, draws, chunk):
        n = min(chunk, draws - start)
        for name, g in gradient_draws(model, objective, x, n).items():
            # Chan, Golub & LeVeque's update: sums of squares about the mean, never E[g²] − E[g]².
            shift = g.mean(0) - mean.get(name, 0)
            mean[name] = mean.get(name, 0) + shift * n / (count + n)
            about = (g - g.mean(0)).square().sum(0) + shift.square() * count * n / (count + n)
            square[name] = square.get(name, 0) + about
        count += n
    return {name: (mean[name], square[name] / (draws - 1)) for name in mean}


def gradient_snr(
    model: LatentVariableModel, objective: Callable, x: Tensor, draws: int = 1000, chunk: int = 100
) -> dict[str, Tensor]:
    """|mean| / standard deviation of every parameter's gradient: {"inference": (φ,), "generative": (θ,)}.

    Even for a gradient that is pure noise the estimate is about sqrt(2 / (π draws)), not 0.
    Rainforth et al. 2018, section 3. Raises as `gradient_moments`.
    """
    moments = gradient_moments(model, objective, x, draws, chunk)
    snr = {name: (mean.abs() / variance.sqrt()).flatten() for name, (mean, variance) in moments.items()}
    # A set may be empty: a decoder can be given, with nothing in it to learn.
    return {
        which: torch.cat([x.new_empty(0), *(snr[name] for name in names)])
        for which, names in _names(model).items()
    }


def gradient_dsnr(
    model: LatentVariableModel, objective: Callable, x: Tensor, draws: int = 1000, chunk: int = 100
) -> dict[str, Tensor]:
    """Directional SNR, E[|G_∥| / |G_⊥|]: {"inference": φ's, "generative": θ's}, one number each.

    Each draw G of the gradient of a whole parameter set is split into its part along the true
    gradient's direction and the rest: does a step go the right way? The direction is the mean of
    `draws` gradients, the expectation is over as many fresh ones. Needs a set of three parameters or
    more: in a plane 1 / |G_⊥| has no mean. Rainforth et al. 2018, section 4.1. Raises as `gradient_moments`.
    """
    sets = _names(model)
    means = {name: mean for name, (mean, _) in gradient_moments(model, objective, x, draws, chunk).items()}
    ratios = {which: [] for which in sets}
    for start in range(0, draws, chunk):
        g = gradient_draws(model, objective, x, min(chunk, draws - start))
        for which, names in sets.items():
            direction = torch.cat([means[name].flatten() for name in names])
            G = torch.cat([g[name].reshape(len(g[name]), -1) for name in names], 1)
            along = G @ direction / direction.norm()
            across = (G - along[:, None] * direction / direction.norm()).norm(dim=1)
            ratios[which].append(along.abs() / across)
    return {which: torch.cat(values).mean() for which, values in ratios.items()}


@torch.no_grad()
def active_units(model: LatentVariableModel, x: Tensor, threshold: float = 0.01) -> Tensor:
    """Which latent dimensions carry information about x: a mask (L,); its sum is the count.

    Unit u is active where Var_x(E_q[u | x]) > threshold. Burda et al. 2016, section 5. By layer:
    `active_units(model, x).split(model.latent_dims)`.
    Raises ValueError for fewer than two rows of x (N, D), or bad data.
    """
    model.check_data(x)
    if len(x) < 2:
        raise ValueError(f"active_units measures a variance over x: it needs 2 rows or more; got {len(x)}")
    means = [_posterior_means(model.posterior(batch)) for batch in x.split(1000)]
    one, other = (torch.cat(half) for half in zip(*means, strict=True))
    return ((one - one.mean(0)) * (other - other.mean(0))).sum(0) / (len(x) - 1) > threshold


def _posterior_means(q, samples: int = 100) -> tuple[Tensor, Tensor]:
    """E_q[z] twice: exact where q knows it, else two averages of samples whose noise is independent.

    The covariance of the two over x is then Var_x(E_q[z]), without the noise's own variance, which
    at 100 samples would be as large as the threshold for "active".
    """
    try:
        return q.mean, q.mean
    except NotImplementedError:
        return tuple(q.sample((2, samples)).mean(1))


@torch.no_grad()
def information(model: LatentVariableModel, x: Tensor, rows: int = 10_000) -> dict[str, Tensor]:
    """E KL(q(z|x) ‖ p(z)) split in two, one code a row of x (N, D): three tensors (N,), in nats.

    "kl" = "mutual_information" + "marginal_kl": log q(z|x) − log q(z) and log q(z) − log p(z), where
    q(z) = (1/N) Σ_j q(z | x_j) is the aggregate posterior of these N rows. Hoffman & Johnson 2016.
    For the N rows as the whole population the means are unbiased. For data of which they are a sample
    the mutual information comes out too low and the marginal KL too high by as much, and no
    estimate exceeds log N. Memory: `rows` pairs (z, x_j) at once, or N. Raises ValueError for bad data.
    """
    rows = check_count("rows", rows)
    model.check_data(x)
    q, prior = model.posterior(x), model.prior()
    z = q.sample()
    pairs = [q.log_prob(some[:, None]).logsumexp(1) for some in z.split(max(1, rows // len(x)))]
    log_q, log_marginal, log_prior = q.log_prob(z), torch.cat(pairs) - math.log(len(x)), prior.log_prob(z)
    return {
        "kl": log_q - log_prior,
        "mutual_information": log_q - log_marginal,
        "marginal_kl": log_marginal - log_prior,
    }


@torch.no_grad()
def log_det_covariance(model: LatentVariableModel, x: Tensor) -> Tensor:
    """log det Cov[z] under the aggregate posterior of x (N, D): a scalar, 0 for the standard normal.

    Cov[z] = Cov_x(E_q[z]) + E_x[Var_q(z)], exact for a diagonal q. Low where codes collapse, high where
    they spread. Zhao et al. 2019, section 5.2. Raises ValueError for N < 2 or a q without moments.
    """
    model.check_data(x)
    if len(x) < 2:
        raise ValueError(f"log_det_covariance needs 2 rows of x or more; got {len(x)}")
    q = model.posterior(x)
    try:
        mean, variance = q.mean, q.variance
    except NotImplementedError:
        raise ValueError(
            f"log_det_covariance needs a q that knows its moments; a {type(q).__name__} does not"
        ) from None
    return torch.logdet(mean.T.cov(correction=0) + variance.mean(0).diag())


@torch.no_grad()
def few_label_accuracy(
    model: LatentVariableModel,
    labelled: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    per_class: int = 10,
    seed: int = 0,
) -> float:
    """Accuracy on `test` of a linear classifier on E_q[z|x], shown `per_class` labels of each class.

    labelled and test: (x, labels). Which labels are shown depends on `seed` alone, so that models
    meet the same ones. Logistic regression on standardised codes, by scikit-learn.
    Raises ValueError for per_class < 1, or a class with fewer than per_class rows.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    per_class, seed = check_count("per_class", per_class), check_count("seed", seed, minimum=0)
    (x, labels), (test_x, test_labels) = labelled, test
    if labels is None or test_labels is None:
        raise ValueError("few_label_accuracy needs labels; these data have none (the labels are None)")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    shown = [order[labels.cpu()[order] == c][:per_class] for c in labels.cpu().unique()]
    if min(map(len, shown)) < per_class:
        raise ValueError(f"a class has {min(map(len, shown))} labelled rows; {per_class} were asked for")
    shown = torch.cat(shown).to(x.device)
    codes, test_codes = (model.posterior(rows).mean.cpu().numpy() for rows in (x[shown], test_x))
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    classifier.fit(codes, labels[shown].cpu().numpy())
    return float(classifier.score(test_codes, test_labels.cpu().numpy()))
