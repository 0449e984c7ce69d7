"""Importing the package is cheap and honest."""

import re
import subprocess
import sys
from pathlib import Path


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_brings_in_no_plotting_widget_or_data_library():
    heavy = ("matplotlib", "ipywidgets", "anywidget", "IPython", "sklearn", "scipy", "pooch")
    loaded = run(f"import sys, vaelearn; print([m for m in {heavy} if m in sys.modules])")
    assert loaded.strip() == "[]"


def test_public_names_are_there():
    import vaelearn as vl

    assert all(hasattr(vl, name) for name in vl.__all__)


def test_unknown_names_are_an_attribute_error():
    import pytest

    import vaelearn as vl

    with pytest.raises(AttributeError, match="no attribute 'magic'"):
        _ = vl.magic


def test_the_readmes_example_runs():
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf8")
    example = re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1]
    names = {}
    exec(example.replace("epochs=50", "epochs=1").replace("K=5000", "K=10"), names)
    assert names["draw"].log_w.shape == (8, 4, 250)
