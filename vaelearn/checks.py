"""Arguments that cannot be used are refused at once: what was expected, and what came."""

import difflib
import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real


def check_count(name: str, value: int, minimum: int = 1) -> int:
    """value as an int. Raises ValueError unless it is a whole number >= minimum, of any integral type."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"{name} must be a whole number >= {minimum}; got {value!r}")
    return int(value)


def check_rate(name: str, value: float) -> float:
    """value as a float. Raises ValueError unless it is a finite number >= 0, of any real type."""
    number = value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value
    if not isinstance(number, Real) or isinstance(number, bool) or not 0 <= number < math.inf:
        raise ValueError(f"{name} must be a finite number >= 0; got {value!r}")
    return float(number)


def check_choice(name: str, value, choices: Sequence[str]) -> None:
    """Raise ValueError, with the nearest match, unless value is one of the choices."""
    if value not in choices:
        near = difflib.get_close_matches(str(value), choices, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}.{hint}")


def check_widths(name: str, value: Iterable[int]) -> tuple[int, ...]:
    """A network's hidden layers as a tuple. Raises ValueError unless value holds whole numbers >= 1."""
    if not isinstance(value, Iterable) or isinstance(value, str):
        raise ValueError(f"{name} must be a sequence of widths, such as (200, 200) or (200,); got {value!r}")
    return tuple(check_count(f"{name}: the width of a layer", width) for width in value)


def check_width(what: str, made_for: int, x) -> None:
    """Raise ValueError unless x (..., D) is as wide as a network was made for."""
    if x.shape[-1] != made_for:
        raise ValueError(f"{what} was made for rows of {made_for} numbers; got rows of {x.shape[-1]}")


def check_instance(name: str, value, kind: str, having: str = "__call__") -> None:
    """Raise ValueError for a class in the place of an instance, TypeError for what lacks that method."""
    if isinstance(value, type):
        raise ValueError(f"{name} must be an instance, such as {value.__name__}(); got the class")
    if not hasattr(value, having):
        raise TypeError(f"{name} must be {kind}; got {value!r}")
