"""vaelearn: variational autoencoders and their bounds, small enough to read in one sitting.

    import vaelearn as vl

One tensor, every bound: ``log_w`` of shape (K, M, B), reduced by `vl.bounds`.
Two steps, every objective: a `Step` of an E-step loss for φ and an M-step loss for θ.
One truth: `vl.exact` holds models that know their own answers.
"""

from importlib import import_module

from . import (
    autoregressive,
    bounds,
    data,
    distributions,
    divergences,
    exact,
    gradients,
    metrics,
    models,
    networks,
    objectives,
    toy,
    trained,
    training,
)
from .training import fit

__version__ = "0.1.0"
__all__ = [
    "autoregressive",
    "bounds",
    "data",
    "distributions",
    "divergences",
    "exact",
    "fit",
    "gradients",
    "metrics",
    "models",
    "networks",
    "objectives",
    "plots",
    "toy",
    "trained",
    "training",
    "widgets",
]

# These bring in matplotlib, so they load on first use: `import vaelearn` stays fast.
_ON_FIRST_USE = {"plots", "widgets"}


def __getattr__(name):
    if name in _ON_FIRST_USE:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module 'vaelearn' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
