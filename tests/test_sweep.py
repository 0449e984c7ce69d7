"""The sweep over seeds: every seed is shifted, every assert is met, and one about a draw is not counted."""

import subprocess
import sys

import nbformat
from conftest import ROOT

CELLS = [
    "import numpy as np\nimport torch\nimport vaelearn as vl\nfrom sklearn.utils import check_random_state",
    "torch.manual_seed(0)\nassert torch.initial_seed() == 0\nassert torch.rand(3).max() < 1  # of any draw",
    "generator = torch.Generator().manual_seed(1)\nassert generator.initial_seed() == 1",
    "assert np.random.default_rng(0).random() == 0.6369616873214543",
    "assert check_random_state(0).rand() == 0.5488135039273248",
    "torch.manual_seed(0)\n# this draw\nassert torch.initial_seed() == 0",
    "model = vl.exact.GaussianMixture(2, 2)\nseeds = []",
    "objective = lambda m, x: seeds.append(torch.initial_seed()) or vl.objectives.WakeSleep()(m, x)",
    "vl.fit(model, objective, torch.zeros(9, 2), epochs=1, seed=3, progress=False)\nassert seeds[0] == 3",
    "assert vl.data.load('digits').train[0].sum() == 21.125  # no draw",
    "raise ValueError('not the last cell')",
    "assert False",
]
HELD_ONLY_BY_THE_CHAPTERS_OWN_SEEDS = [
    "torch.initial_seed() == 0",
    "generator.initial_seed() == 1",
    "np.random.default_rng(0).random() == 0.6369616873214543",
    "check_random_state(0).rand() == 0.5488135039273248",
    "seeds[0] == 3",
]


def test_every_seed_is_shifted_and_every_assert_counted(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    nbformat.write(notebook, tmp_path / "77_seeds.ipynb")
    command = [sys.executable, "tools/sweep.py", "--seeds", "2", str(tmp_path / "77_seeds.ipynb")]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    failing = [line for line in told.splitlines() if "chapter 77, cell" in line]
    for claim in HELD_ONLY_BY_THE_CHAPTERS_OWN_SEEDS:
        (line,) = [line for line in failing if line.endswith(claim)]
        assert line.startswith("  0 of   2")
    (ended,) = [line for line in failing if "not the last cell" in line]
    assert "cell 10" in ended and len(failing) == 6
    assert "8 claims, 6 of them failed at least once; 1 are about one draw." in told
    assert "All claims held in 0 of 2 chapter runs." in told
