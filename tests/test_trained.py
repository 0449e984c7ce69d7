"""Weights that are stored: as they were, or an error that says what happened."""

import io

import numpy as np
import pytest
import torch

import vaelearn as vl

SMALL = {
    "VAE": {"data_dim": 6, "latent_dim": 2, "hidden": [4]},
    "TwoLayerVAE": {"data_dim": 6, "latent_dims": [3, 2], "hidden": [[4], [3]]},
}


def kind(name):
    return getattr(vl.models, name)


@pytest.mark.parametrize("name", SMALL)
def test_a_model_comes_back_as_it_was(name, tmp_path):
    torch.manual_seed(0)
    model = kind(name).mlp(**SMALL[name])
    path = vl.trained.save(model, tmp_path / "small.npz", **SMALL[name])
    again = vl.trained.load(path)
    assert path.name.startswith("small-") and not again.training
    x = torch.rand(3, 6).round()
    for f in model, again:
        torch.manual_seed(1)
        f.found = f.draw(x, (5, 2)).log_w
    assert torch.equal(model.found, again.found)
    assert vl.trained.save(model, tmp_path / "small.npz", **SMALL[name]) == path  # the same bytes


def test_other_settings_are_refused_when_saved(tmp_path):
    model = vl.models.VAE.mlp(**SMALL["VAE"])
    with pytest.raises(ValueError, match="is another model"):
        vl.trained.save(model, tmp_path / "small.npz", **SMALL["VAE"] | {"hidden": [5]})
    with pytest.raises(ValueError, match="must be one of VAE, TwoLayerVAE; got LinearGaussian"):
        vl.trained.save(vl.exact.LinearGaussian(5, 2), tmp_path / "small.npz")
    assert not list(tmp_path.iterdir())


def test_a_flipped_bit_or_another_name_is_refused(tmp_path):
    path = vl.trained.save(vl.models.VAE.mlp(**SMALL["VAE"]), tmp_path / "small.npz", **SMALL["VAE"])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged, or was renamed: .* Fetch it again"):
        vl.trained.load(path)


@pytest.mark.parametrize("content", ["text", "pickle", "arrays"])
def test_a_file_that_is_something_else_executes_nothing(content, tmp_path):
    file = io.BytesIO(b"no weights")
    if content != "text":
        file = io.BytesIO()
        value = np.array({"model": print}, dtype=object) if content == "pickle" else np.zeros(3)
        np.savez(file, **{"about" if content == "pickle" else "a": value})
    path = tmp_path / f"w-{vl.trained._digest(file.getvalue())}.npz"
    path.write_bytes(file.getvalue())
    with pytest.raises(ValueError, match=r"holds no weights that `trained\.save` wrote"):
        vl.trained.load(path)
