"""Does a claim hold under other seeds?  python tools/sweep.py [--seeds 5] [--threads 1] [CHAPTER.ipynb ...]

Every chapter runs once for each shift 1 … seeds, with all its seeds moved by 1000 times that: torch's,
explicit generators, NumPy's, scikit-learn's and fit's. An assert that fails is noted, and the chapter goes
on. An assert about the one draw that was made says `# this draw` in its own lines or the line above, and is
not counted. How the data are split is no draw: `vaelearn.data` keeps its seeds.
"""

import argparse
import ast
import json
import os
import random
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
THIS_DRAW = "# this draw"


def shift_seeds(by: int) -> None:
    """From here on every seed that this process sets is `by` larger."""
    import numpy as np
    import torch

    from vaelearn import training

    def moved(seed):
        own = sys._getframe(2).f_globals["__name__"] == "vaelearn.data"
        return seed if own or not isinstance(seed, int | np.integer) else int(seed) + by

    class Generator(torch.Generator):
        def manual_seed(self, seed):
            return super().manual_seed(moved(seed))

    class RandomState(np.random.RandomState):
        def __init__(self, seed=None):
            super().__init__(moved(seed))

    def shifted(function):
        return lambda seed=None: function(moved(seed))

    # fit seeds the generators that are there already, and those no class of ours can stand for.
    random_state = training.random_state
    training.random_state = lambda seed, device: random_state(seed + by, device)
    torch.Generator, np.random.RandomState = Generator, RandomState
    for module, name in (
        (torch, "manual_seed"),
        (random, "seed"),
        (np.random, "seed"),
        (np.random, "default_rng"),
    ):
        setattr(module, name, shifted(getattr(module, name)))


def draw_nothing() -> None:
    """No picture claims anything, and a slider is a hundred of them."""
    import matplotlib.pyplot as plt

    from vaelearn import plots, widgets

    plots.show = lambda *_, **__: plt.close("all")
    widgets.slider = widgets.wander = lambda *_, **__: None


class Asserts(ast.NodeTransformer):
    """Each `assert claim` becomes `noted(lambda: claim, its first line, its last, its text)`."""

    def visit_Assert(self, node):
        place = [ast.Constant(each) for each in (node.lineno, node.end_lineno, ast.unparse(node.test))]
        claim = ast.Lambda(ast.arguments([], [], None, [], [], None, []), node.test)
        call = ast.Call(ast.Name("noted", ast.Load()), [claim, *place], [])
        return ast.fix_missing_locations(ast.copy_location(ast.Expr(call), node))


def run(chapter: Path, shift: int) -> list[dict]:
    """Run one chapter in this process: a record for each assert met, and one where a cell failed."""
    import nbformat
    from IPython.core.interactiveshell import InteractiveShell

    chapter = chapter.resolve()
    os.chdir(chapter.parent)
    shift_seeds(shift)
    draw_nothing()
    shell, records, cell = InteractiveShell.instance(colors="NoColor"), [], {}

    def noted(claim, first, last, text):
        try:
            held = bool(claim())
        except AssertionError:
            held = False
        near = cell["source"].splitlines()[max(0, first - 2) : last]
        where = {"chapter": chapter.name[:2], "cell": cell["number"], "claim": text}
        records.append(where | {"held": held, "drawn": any(THIS_DRAW in each for each in near)})

    shell.user_ns["noted"] = noted
    shell.ast_transformers.append(Asserts())
    for number, each in enumerate(nbformat.read(chapter, 4).cells):
        if each.cell_type == "code":
            cell.update(number=number, source=each.source)
            result = shell.run_cell(each.source, silent=True)
            if not result.success and "raises-exception" not in each.metadata.get("tags", ()):
                error = f"the cell ends with {result.error_in_exec or result.error_before_exec!r}"
                where = {"chapter": chapter.name[:2], "cell": number, "claim": error}
                return [*records, where | {"held": False, "drawn": False}]
    return records


def apart(chapter: Path, shift: int, threads: int) -> list[dict]:
    """`run` in a process of its own: seeds are moved for good, and chapters do not share a kernel."""
    command = [sys.executable, __file__, "--one", str(shift), str(chapter)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MPLBACKEND": "agg"}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise RuntimeError(f"{chapter.name}, shift {shift}: {answer.stderr[-2000:]}")
    return json.loads(answer.stdout.splitlines()[-1])


def report(runs: list[list[dict]]) -> str:
    """How often each claim held, the worst first; claims that always held are counted only."""
    seen = defaultdict(list)
    for record in (record for records in runs for record in records if not record["drawn"]):
        seen[record["chapter"], record["cell"], record["claim"]].append(record["held"])
    whole = sum(all(record["held"] or record["drawn"] for record in records) for records in runs)
    failing = sorted((sum(held) / len(held), place, held) for place, held in seen.items() if not all(held))
    lines = [
        f"{sum(held):3d} of {len(held):3d}  chapter {chapter}, cell {cell}: {claim[:150]}"
        for _, (chapter, cell, claim), held in failing
    ]
    drawn = len({(r["chapter"], r["cell"], r["claim"]) for records in runs for r in records if r["drawn"]})
    told = f"{len(seen)} claims, {len(failing)} of them failed at least once; {drawn} are about one draw."
    return "\n".join([*lines, told, f"All claims held in {whole} of {len(runs)} chapter runs."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("chapters", nargs="*", type=Path, default=sorted((ROOT / "book").glob("*.ipynb")))
    parser.add_argument("--seeds", type=int, default=5, help="how many shifts")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print("\n" + json.dumps(run(arguments.chapters[0], 1000 * arguments.one)))
        return
    from joblib import Parallel, delayed
    from tqdm import tqdm

    jobs = [(chapter, shift) for shift in range(1, arguments.seeds + 1) for chapter in arguments.chapters]
    several = Parallel(
        n_jobs=max(1, os.cpu_count() // arguments.threads), return_as="generator", prefer="threads"
    )
    runs = several(delayed(apart)(chapter, shift, arguments.threads) for chapter, shift in jobs)
    print(report(list(tqdm(runs, total=len(jobs), unit="run"))))


if __name__ == "__main__":
    main()
