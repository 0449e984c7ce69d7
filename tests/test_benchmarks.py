"""The benchmarks run and compare like with like; how fast is for `make bench` to say, on a quiet machine."""

import re
import subprocess
import sys

import pytest
import torch
from conftest import ROOT

import vaelearn as vl
from benchmarks import speed


def test_every_row_is_printed():
    command = [sys.executable, "benchmarks/speed.py", "--rounds", "2", "--K", "500"]
    table = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name, to, target in speed.TARGETS:
        (row,) = [line for line in table.splitlines() if re.match(rf"{re.escape(name)} +[\d.]+  ", line)]
        assert to in row and row.endswith(f"<= {target}")
    assert "peak memory of L_50:" in table and "peak memory of L_500:" in table


def test_the_floor_multiplies_what_the_model_does():
    model = vl.models.VAE.mlp(784, 50, (200, 200))
    for layers, part in ((speed.ENCODER, model.encoder), (speed.DECODER, model.decoder)):
        weights = [tuple(p.T.shape) for p in part.parameters() if p.ndim == 2]
        assert sorted(layers) == sorted(weights)


@pytest.mark.parametrize("name", speed.OBJECTIVES)
def test_the_floor_decodes_as_many_samples_as_the_objective(name, monkeypatch):
    decoded = []
    model = vl.models.VAE.mlp(784, 50, (8,))
    likelihood = model.likelihood
    monkeypatch.setattr(model, "likelihood", lambda z: decoded.append(z[..., 0].numel()) or likelihood(z))
    speed.OBJECTIVES[name](model, torch.rand(3, 784).round())
    kept = 4 if "thinned" in name else 0
    assert sum(decoded) == 3 * (speed.SAMPLES[name] + kept)
