"""Natural wrong answers to chapter 7's questions, and words that the message must hold."""

import itertools
import math

import torch

from exercises.wrong_answers import WrongAnswers

wrong = WrongAnswers()


@wrong("q1", says="K and M are swapped")
def miwae(log_w):
    return (torch.logsumexp(log_w, 1) - math.log(log_w.shape[1])).mean(0)


@wrong("q1", says="one logarithm over all")
def miwae(log_w):
    return torch.logsumexp(log_w, (0, 1)) - math.log(
        log_w.shape[0] * log_w.shape[1]
    )


@wrong("q1", says="log K")
def miwae(log_w):
    return torch.logsumexp(log_w, 0).mean(0)


@wrong("q1", says="log M came off")
def miwae(log_w):
    return (torch.logsumexp(log_w, 0) - math.log(log_w.shape[1])).mean(0)


@wrong("q1", says="closed while yours is checked")
def miwae(log_w):
    import vaelearn as vl

    return vl.bounds.miwae(log_w)


@wrong("q1", says="have changed places")
def ciwae(log_w, beta):
    bound = torch.logsumexp(log_w, 0) - math.log(len(log_w))
    return beta * bound + (1 - beta) * log_w.mean(0)


@wrong("q1", says="not one of their exponentials")
def ciwae(log_w, beta):
    bound = torch.logsumexp(log_w, 0) - math.log(len(log_w))
    return (beta * log_w.mean(0).exp() + (1 - beta) * bound.exp()).log()


@wrong("q1", says="underflowed")
def ciwae(log_w, beta):
    return beta * log_w.mean(0) + (1 - beta) * log_w.exp().mean(0).log()


def right(a, b):
    return {
        "gap": 1 / a,
        "spread": (a * b) ** -0.5,
        "encoder_snr": (b / a) ** 0.5,
        "decoder_snr": (a * b) ** 0.5,
        "decoder_bias": 1 / a,
    }


@wrong("q2", says="does not know M")
def factors(a, b):
    return right(a, b) | {"gap": 1 / (a * b)}


@wrong("q2", says="signal falls with K")
def factors(a, b):
    return right(a, b) | {"encoder_snr": (a * b) ** 0.5}


@wrong("q2", says="makes the encoder's signal fade")
def factors(a, b):
    return right(a, b) | {"encoder_snr": (a / b) ** 0.5}


@wrong("q2", says="does not take a bias away")
def factors(a, b):
    return right(a, b) | {"decoder_bias": 1 / (a * b)}


@wrong("q2", says="the variance's factor")
def factors(a, b):
    return right(a, b) | {"spread": 1 / (a * b)}


@wrong("q2", says="only M was counted: to leading order")
def factors(a, b):
    return right(a, b) | {"spread": b**-0.5}


@wrong("q2", says="only K was counted: to leading order")
def factors(a, b):
    return right(a, b) | {"spread": a**-0.5}


@wrong("q2", says="how noise falls")
def factors(a, b):
    return right(a, b) | {"decoder_bias": a**-0.5}


@wrong("q3", says="has a gap of its own")
def matching_beta(s, K, M):
    return math.expm1(s**2) / (K * s**2)


@wrong("q3", says="multiplied by 1 − β")
def matching_beta(s, K, M):
    return math.expm1(s**2) / (K * s**2) * (1 - 1 / M)


@wrong("q3", says="s²/2 here")
def matching_beta(s, K, M):
    V = math.expm1(s**2)
    return (V / (2 * K) - V / (2 * M * K)) / (s**2 - V / (2 * M * K))


@wrong("q3", says="ELBO's gap went in as Var[r]/2")
def matching_beta(s, K, M):
    V = math.expm1(s**2)
    return (V / (2 * K) - V / (2 * M * K)) / (V / 2 - V / (2 * M * K))


@wrong("q3", says="s², not s.")
def matching_beta(s, K, M):
    V = math.expm1(s)
    return (V / (2 * K) - V / (2 * M * K)) / (s**2 / 2 - V / (2 * M * K))


@wrong("q3", says="or Var[r] as s²")
def matching_beta(s, K, M):
    V = s**2
    return (V / (2 * K) - V / (2 * M * K)) / (s**2 / 2 - V / (2 * M * K))


@wrong("q3", says="the share of L_MK")
def matching_beta(s, K, M):
    V = math.expm1(s**2)
    return 1 - (V / (2 * K) - V / (2 * M * K)) / (s**2 / 2 - V / (2 * M * K))


@wrong("q3", says="whatever M")
def matching_beta(s, K, M):
    V = math.expm1(s**2)
    return (V / (2 * M) - V / (2 * M * K)) / (s**2 / 2 - V / (2 * M * K))


def two_bounds(log_w):
    K, M, _ = log_w.shape
    encoder = (torch.logsumexp(log_w, 0) - math.log(K)).mean(0)
    return encoder, torch.logsumexp(log_w, (0, 1)) - math.log(M * K)


@wrong("q4", says="both losses arrived")
def piwae_backward(model, log_w):
    encoder, decoder = two_bounds(log_w)
    (-encoder.mean()).backward(retain_graph=True)
    (-decoder.mean()).backward()
    return decoder.detach()


@wrong("q4", says="K and M have changed roles")
def piwae_backward(model, log_w):
    encoder, decoder = two_bounds(log_w.transpose(0, 1))
    (-encoder.mean()).backward(
        inputs=model.inference_parameters(), retain_graph=True
    )
    (-decoder.mean()).backward(inputs=model.generative_parameters())
    return decoder.detach()


@wrong("q4", says="too high by log M")
def piwae_backward(model, log_w):
    encoder, decoder = two_bounds(log_w)
    (-encoder.mean()).backward(
        inputs=model.inference_parameters(), retain_graph=True
    )
    (-decoder.mean()).backward(inputs=model.generative_parameters())
    return decoder.detach() + math.log(log_w.shape[1])


@wrong("q4", says="the decoder's loss")
def piwae_backward(model, log_w):
    encoder, decoder = two_bounds(log_w)
    (-encoder.mean()).backward(
        inputs=model.generative_parameters(), retain_graph=True
    )
    (-decoder.mean()).backward(inputs=model.inference_parameters())
    return decoder.detach()


@wrong("q4", says="left without a gradient")
def piwae_backward(model, log_w):
    encoder, decoder = two_bounds(log_w)
    (-encoder.mean()).backward(retain_graph=True)
    model.zero_grad()
    (-decoder.mean()).backward(inputs=model.generative_parameters())
    return decoder.detach()


@wrong("q4", says="is not detached")
def piwae_backward(model, log_w):
    encoder, decoder = two_bounds(log_w)
    (-encoder.mean()).backward(
        inputs=model.inference_parameters(), retain_graph=True
    )
    (-decoder.mean()).backward(inputs=model.generative_parameters())
    return decoder


@wrong("q4", says="its sign is the bound's")
def piwae_backward(model, log_w):
    encoder, decoder = two_bounds(log_w)
    encoder.mean().backward(
        inputs=model.inference_parameters(), retain_graph=True
    )
    decoder.mean().backward(inputs=model.generative_parameters())
    return decoder.detach()


@wrong("q5", says="There are many more groups")
def every_group(log_w, K):
    return (
        torch.logsumexp(log_w.reshape(-1, K, log_w.shape[1]), 1) - math.log(K)
    ).mean(0)


@wrong("q5", says="K different ones")
def every_group(log_w, K):
    groups = torch.tensor(list(itertools.product(range(len(log_w)), repeat=K)))
    return (torch.logsumexp(log_w[groups], 1) - math.log(K)).mean(0)


@wrong("q5", says="Average logarithms")
def every_group(log_w, K):
    groups = torch.tensor(list(itertools.combinations(range(len(log_w)), K)))
    return torch.logsumexp(log_w[groups], (0, 1)) - math.log(groups.numel())


@wrong("q5", says="in exactly one group")
def shuffled(log_w, K, R):
    order = torch.randint(len(log_w), (R, len(log_w)))
    groups = log_w[order].reshape(R, -1, K, log_w.shape[1])
    return (torch.logsumexp(groups, 2) - math.log(K)).mean((0, 1))


@wrong("q5", says="none left out")
def shuffled(log_w, K, R):
    chosen = torch.rand(R, len(log_w)).argsort(1)[:, :K]
    return (torch.logsumexp(log_w[chosen], 1) - math.log(K)).mean(0)


@wrong("q5", says="drawn anew")
def shuffled(log_w, K, R):
    groups = log_w[torch.randperm(len(log_w))].reshape(-1, K, log_w.shape[1])
    return (torch.logsumexp(groups, 1) - math.log(K)).mean(0)


@wrong("q5", says="K and M are swapped")
def shuffled(log_w, K, R):
    M = len(log_w) // K
    groups = log_w[torch.rand(R, len(log_w)).argsort(1)].reshape(R, K, M, -1)
    return (torch.logsumexp(groups, 2) - math.log(M)).mean((0, 1))


@wrong("q5", says="K and M are swapped")
def shuffled(log_w, K, R):
    M = len(log_w) // K
    order = torch.rand(R, len(log_w)).argsort(1).T
    groups = log_w[order].view(M, K, R, -1)
    return (torch.logsumexp(groups, 0) - math.log(K)).mean((0, 1))


@wrong("q5", says="summed, not averaged")
def shuffled(log_w, K, R):
    order = torch.rand(R, len(log_w)).argsort(1)
    groups = log_w[order].reshape(R, -1, K, log_w.shape[1])
    return (torch.logsumexp(groups, 2) - math.log(K)).mean(1).sum(0)


def right_noise(shares, lengths, c):
    return (shares * (shares.clamp(min=1 / c) - shares) * lengths**2).sum(0)


def tossed(shares, c, coins, counts):
    pi = (c * shares).clamp(max=1)
    return torch.where(coins(pi) < pi, counts(shares, pi), 0)


def counted(shares, pi):
    return torch.where(pi > 0, shares / pi, 0)


@wrong("q6", says="Divide by π", added_noise=right_noise)
def thin(shares, c):
    return tossed(shares, c, torch.rand_like, lambda a, pi: a)


@wrong("q6", says="the share itself is missing", added_noise=right_noise)
def thin(shares, c):
    return tossed(shares, c, torch.rand_like, lambda a, pi: 1 / pi)


@wrong("q6", says="0/0 is no number", added_noise=right_noise)
def thin(shares, c):
    pi = (c * shares).clamp(max=1)
    return shares / pi * (torch.rand_like(pi) < pi)


@wrong("q6", says="not independent", added_noise=right_noise)
def thin(shares, c):
    return tossed(shares, c, lambda pi: torch.rand(len(pi), 1), counted)


@wrong("q6", says="not independent", added_noise=right_noise)
def thin(shares, c):
    return tossed(shares, c, lambda pi: torch.rand(pi.shape[1]), counted)


@wrong("q6", says="min(1, c·share)", added_noise=right_noise)
def thin(shares, c):
    return torch.where(
        torch.rand_like(shares) < shares, torch.ones_like(shares), 0
    )


@wrong("q6", says="rescaled to sum to 1", added_noise=right_noise)
def thin(shares, c):
    W = right_thin(shares, c)
    return W / W.sum(0)


@wrong("q6", says="never above 1", added_noise=right_noise)
def thin(shares, c):
    return torch.where(torch.rand_like(shares) < c * shares, 1 / c, 0.0)


def right_thin(shares, c):
    return tossed(shares, c, torch.rand_like, counted)


@wrong("q6", says="lengths are squared", thin=right_thin)
def added_noise(shares, lengths, c):
    return (shares * (shares.clamp(min=1 / c) - shares) * lengths).sum(0)


@wrong("q6", says="square of a mean", thin=right_thin)
def added_noise(shares, lengths, c):
    return (shares * shares.clamp(min=1 / c) * lengths**2).sum(0)


@wrong("q6", says="variance of the coins", thin=right_thin)
def added_noise(shares, lengths, c):
    pi = (c * shares).clamp(max=1)
    return (pi * (1 - pi) * lengths**2).sum(0)


@wrong("q6", says="never above 1", thin=right_thin)
def added_noise(shares, lengths, c):
    return (shares * (1 / c - shares) * lengths**2).sum(0)


@wrong("q4", says="M·K, not K. One more thing is wrong.")
def piwae_backward(model, log_w):
    K = len(log_w)
    encoder = (torch.logsumexp(log_w, 0) - math.log(K)).mean(0)
    decoder = torch.logsumexp(log_w.flatten(0, 1), 0) - math.log(K)
    (-encoder.mean()).backward(retain_graph=True)
    (-decoder.mean()).backward()
    return decoder.detach()


@wrong("q1", says="miwae(log_w) is right, but for its shape: (1, ")
def miwae(log_w):
    each = torch.logsumexp(log_w, 0) - math.log(len(log_w))
    return each.mean(0, keepdim=True)
