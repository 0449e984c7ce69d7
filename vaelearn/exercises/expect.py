"""What a check may expect of an answer. Each raises Wrong with a text that teaches.

`mistakes` maps a sentence to the value that this mistake would have given. Where an answer is wrong
and one of them fits, the sentence is what the learner reads; else the error's own shape is described.
"""

import torch
from torch import Tensor

from .answers import Wrong, describe, part  # noqa: F401 (`expect.part`, as a check reads)

Mistakes = dict[str, Tensor | float]


class about(str):
    """A sentence on a mistake, and the parts of the question that this costs; two may say the same."""

    __eq__, __hash__ = object.__eq__, object.__hash__

    def __new__(cls, sentence: str, *parts: str):
        self = super().__new__(cls, sentence)
        self.parts = parts
        return self


def told(what: str, sentence: str) -> Wrong:
    """The mistake that `sentence` names."""
    return Wrong(f"{what}: {sentence}", costs=getattr(sentence, "parts", ()))


def that(condition, message: str) -> None:
    """Raise Wrong(message) unless `condition` holds."""
    if not condition:
        raise Wrong(message)


def parts(value, n: int, message: str) -> list:
    """`value` as the list of its n parts, also where a tensor's first axis holds them."""
    if isinstance(value, Tensor) and value.dim():
        value = list(value)
    that(isinstance(value, list) and len(value) == n, message)
    return value


def entries(value, names, what: str) -> dict:
    """`value` as a dict, which misses one of `names` when asked for it. `what`: "`f` should return", say."""
    that(isinstance(value, dict), f"{what} a dict with the entries {', '.join(map(repr, names))}.")
    return _Entries(value, what)


class _Entries(dict):
    def __init__(self, value, what):
        super().__init__(value)
        self.what = what

    def __getitem__(self, name):
        that(name in self, f"{self.what} a dict; yours has lost its entry {name!r}.")
        value = super().__getitem__(name)
        if value is None:
            raise Wrong(f"{self.what} a dict; its entry {name!r} is still empty.", blank=True)
        return value


def number(value, what: str) -> float:
    """`value` as the one number that it is."""
    tensor, _ = _numbers(value, what)
    that(tensor.numel() == 1, f"{what} should be one number; it has shape {tuple(tensor.shape)}.")
    return float(tensor)


def close(value, truth, what: str, mistakes: Mistakes | None = None, tolerance: float = 1e-5) -> None:
    """`value` is `truth`, up to `tolerance` (float32: 1e-4) relative to its largest entry, if that is not 0.

    Lists count as tensors, and a number may have axes of length one. Elsewhere such an axis is a mistake:
    (B,) + (B, 1) is (B, B).
    """
    truth = torch.as_tensor(truth, dtype=torch.float64).detach()
    value, tolerance = _numbers(value, what, tolerance)
    fits = _squeezed(value.shape) == _squeezed(truth.shape)
    # Only a mistake may be nan; so may a truth that is computed from an answer, and that proves nothing.
    if fits and not value.isnan().any() and _near(value, truth, tolerance):
        came, wanted = tuple(value.shape), tuple(truth.shape)
        that(came == wanted or not wanted, f"{what} is right, but for its shape: {came}, and not {wanted}.")
        return
    for sentence, other in (mistakes or {}).items():
        if _near(value, torch.as_tensor(other, dtype=torch.float64), tolerance):
            raise told(what, sentence)
    if not fits:
        raise Wrong(f"{what} should have shape {tuple(truth.shape)}; it has shape {tuple(value.shape)}.")
    _finite(value, truth, what)
    raise Wrong(f"{what} is wrong. {_difference(value.reshape(truth.shape), truth)}")


def mean(
    samples,
    truth,
    what: str,
    spread: Tensor,
    mistakes: Mistakes | None = None,
    sigmas: float = 5.0,
) -> None:
    """The mean of `samples` (R, ...) is `truth` (...), within so many standard errors of a right answer's.

    `spread` (...): the standard deviation of a right answer's samples. An answer's own would let it buy
    tolerance with noise. Samples that scatter more than twice as far are refused.
    """
    truth = torch.as_tensor(truth, dtype=torch.float64)
    samples, _ = _numbers(samples, what)
    if _squeezed(samples.shape[1:]) != _squeezed(truth.shape):
        came = tuple(samples.shape[1:])
        raise Wrong(f"{what} should have shape {tuple(truth.shape)}; it has shape {came}.")
    _finite(samples, truth, what)
    R = len(samples)
    samples = samples.reshape(R, *truth.shape)
    average = samples.mean(0)
    own, least = samples.std(0), 1e-9 * truth.abs().max().clamp(min=1e-6)

    def off(other, spread):
        error = spread / R**0.5 + least
        return float(((average - torch.as_tensor(other, dtype=torch.float64)) / error).abs().max())

    spread = torch.as_tensor(spread, dtype=torch.float64).reshape(truth.shape)
    noisy, distance = float((own / (spread + least)).max()), off(truth, spread)
    if distance <= sigmas and noisy <= 2:
        return
    far = f"{distance:.0f}" if distance < 1000 else "over 1,000"
    for sentence, other in (mistakes or {}).items():
        if off(other, own) <= sigmas < distance:
            raise Wrong(f"{what}: {sentence} (It is {far} standard errors from the exact one.)")
    if not noisy <= 2:
        raise Wrong(f"{what} is too noisy: its draws scatter {noisy:.2g} times as far as a right answer's.")
    text = f"{what} is off: over {R} draws its mean is {far} standard errors from the exact one."
    if size := float(truth.square().sum()):
        text += f" Its ratio to the exact one is {float((average * truth).sum()) / size:.2f}."
    raise Wrong(text)


def option(value, truth: str, what: str, options: dict[str, str]) -> None:
    """`value` is the word `truth`. `options` maps each word that may be said to what speaks against it."""
    words = ", ".join(f'"{word}"' for word in options)
    if not isinstance(value, str) or value.strip().lower() not in options:
        raise Wrong(f"{what} should be one of {words}; it is {value!r:.60}.")
    if value.strip().lower() != truth:
        raise Wrong(f'{what}: "{value}" is not what happens. {options[value.strip().lower()]}')


def _numbers(value, what: str, tolerance: float = 1e-5) -> tuple[Tensor, float]:
    if value is None:
        raise Wrong(f"{what} is still empty.", blank=True)
    try:
        if isinstance(value, list) and all(isinstance(item, Tensor) for item in value):
            value = torch.stack(value)
        tensor = torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(f"{what} should be numbers; it is {describe(value)}.") from None
    rounded = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16, torch.float32)
    return tensor, max(tolerance, 1e-4) if rounded else tolerance


def _squeezed(shape) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


def _near(value: Tensor, truth: Tensor, tolerance: float) -> bool:
    if _squeezed(value.shape) != _squeezed(truth.shape):
        return False
    truth = truth.reshape(value.shape)
    finite = truth[truth.isfinite()].abs()
    scale = float(finite.max()) if len(finite) else 0.0
    return torch.allclose(value, truth, rtol=0, atol=tolerance * (scale or 1.0), equal_nan=True)


def _finite(value: Tensor, truth: Tensor, what: str) -> None:
    bad = value[~value.isfinite()]
    if bad.isnan().any() or (len(bad) and truth.isfinite().all()):
        kind = "nan" if bad.isnan().any() else str(float(bad[0]))
        raise Wrong(
            f"{what} holds {kind}. Did something overflow, underflow to 0 before a log, or divide by 0?"
        )


def _difference(value: Tensor, truth: Tensor) -> str:
    """How the error looks: a sign, a factor, a shift, or where it is largest."""
    worst = int((value - truth).abs().argmax())
    got, wanted = float(value.reshape(-1)[worst]), float(truth.reshape(-1)[worst])
    digits = next(n for n in range(4, 18) if f"{got:.{n}g}" != f"{wanted:.{n}g}" or n == 17)
    here = f"For example, {got:.{digits}g} came where {wanted:.{digits}g} was expected."
    if _near(value, -truth, 1e-4):
        return f"It has the opposite sign. {here}"
    if truth.numel() > 1 and truth.abs().min() > 0:
        ratio, shift = value / truth, value - truth
        if _near(ratio, ratio.mean().expand_as(ratio), 1e-4):
            return f"Every entry is {float(ratio.mean()):.4g} times what it should be. {here}"
        if _near(shift, shift.mean().expand_as(shift), 1e-4):
            return f"Every entry is off by the same {float(shift.mean()):+.4g}. {here}"
    return here
