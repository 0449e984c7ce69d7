"""Arguments that cannot be used are refused at once: what was expected, and what came."""

import difflib
from collections.abc import Sequence
from numbers import Integral


def check_count(name: str, value: int, minimum: int = 1) -> None:
    """Raise ValueError unless value is a whole number >= minimum."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"{name} must be a whole number >= {minimum}; got {value!r}")


def check_choice(name: str, value, choices: Sequence[str]) -> None:
    """Raise ValueError, with the nearest match, unless value is one of the choices."""
    if value not in choices:
        near = difflib.get_close_matches(str(value), choices, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}.{hint}")
