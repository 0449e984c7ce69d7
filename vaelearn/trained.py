"""Trained weights as a file that executes nothing and is what its name says.

    path = trained.save(model, "results/iwae.npz", data_dim=784, latent_dim=50)   # results/iwae-3f2a91c0.npz
    model = trained.load(path)

The file holds arrays and, as text, the class they belong to and the arguments of its `mlp`. The eight digits
in its name are the beginning of its SHA-256.
"""

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import torch

from .models import VAE, LatentVariableModel, TwoLayerVAE

KINDS = {kind.__name__: kind for kind in (VAE, TwoLayerVAE)}


def save(model: LatentVariableModel, path: str | os.PathLike, **settings) -> Path:
    """Write the weights of a model that `type(model).mlp(**settings)` builds; returns where they are.

    Raises ValueError where these settings build another model.
    """
    if type(model).__name__ not in KINDS:
        raise ValueError(f"model must be one of {', '.join(KINDS)}; got {type(model).__name__}")
    about = {"model": type(model).__name__, "settings": settings}
    _fill(about, arrays := {name: value.numpy(force=True) for name, value in model.state_dict().items()})
    file = io.BytesIO()
    np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)
    path = Path(path)
    path = path.with_name(f"{path.stem}-{_digest(file.getvalue())}.npz")
    path.write_bytes(file.getvalue())
    return path


def load(path: str | os.PathLike) -> LatentVariableModel:
    """The model of a file that `save` wrote, in evaluation mode.

    Raises ValueError where the content is not what the name says, or is no such file.
    """
    path = Path(path)
    content = path.read_bytes()
    if not path.stem.endswith(f"-{_digest(content)}"):
        raise ValueError(
            f"{path.name} is damaged, or was renamed: its content has the checksum {_digest(content)}, which "
            "should end its name. Fetch it again"
        )
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = dict(file)
        about = json.loads(str(arrays.pop("about")))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ValueError(f"{path.name} holds no weights that `trained.save` wrote: {error}") from None
    return _fill(about, arrays).eval()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]


def _fill(about: dict, arrays: dict) -> LatentVariableModel:
    try:
        model = KINDS[about["model"]].mlp(**about["settings"])
        model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    except RuntimeError as error:
        raise ValueError(f"{about['model']}.mlp of {about['settings']} is another model: {error}") from None
    return model
