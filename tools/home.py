"""What the home page shows of the chapters: which needs which, how long each takes, a figure that moves.

All of it is read from the chapters while the book is built; `book/intro.md` says where it stands.
"""

import re

import nbformat
from names import BOOK, chapters

FIGURE = "fig:em-guess"  # of chapter 1
WORDS_A_MINUTE = 150
STEP, LANE, RADIUS = 92, 84, 26  # of the map, in its own pixels


def texts(chapter: str) -> str:
    cells = nbformat.read(BOOK / f"{chapter}.ipynb", as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def minutes(chapter: str) -> int:
    """To read a chapter once, without its code: a formula counts as a word. To the next five."""
    text = re.sub(r"\$\$.*?\$\$|\$[^$]*\$", " formula ", texts(chapter), flags=re.DOTALL)
    return 5 * round(len(re.findall(r"\w+", text)) / WORDS_A_MINUTE / 5)


def needs() -> dict[int, set[int]]:
    """The chapters each chapter says it needs ("You need …"), less those that these need themselves."""
    said, known = {}, [name for name in chapters() if (BOOK / f"{name}.ipynb").exists()]
    for name in known:
        sentence = re.search(r"You need(.*?)(?:The chapter|\n\n|$)", texts(name), re.DOTALL)[1]
        said[int(name[:2])] = {
            int(n) for n in re.findall(r"[Cc]hapter (\d+)|`(?:[^`<]*<)?0*(\d+)_", sentence) for n in n if n
        }
    whole = {}
    for number, direct in said.items():
        whole[number] = direct.union(*(whole[n] for n in direct))
    return {number: direct - set().union(*(whole[n] for n in direct)) for number, direct in said.items()}


def road(start: tuple[float, float], end: tuple[float, float]) -> str:
    """The way of a line. To another lane and beyond the next column it runs between lanes, past circles."""
    (x, y), (X, Y), half = start, end, STEP / 2
    if y == Y or X - x <= STEP:
        return f"M{x} {y}C{(x + X) / 2} {y} {(x + X) / 2} {Y} {X} {Y}"
    between = Y + LANE / 2 if y > Y else Y - LANE / 2
    there = f"C{x + half} {y} {x + half} {between} {x + STEP} {between}"
    return f"M{x} {y}{there}H{X - STEP}C{X - half} {between} {X - half} {Y} {X} {Y}"


def chart() -> str:
    """The map as SVG: a chapter stands right of all it needs."""
    place, taken, edges = {}, set(), []
    names = {int(name[:2]): name for name in chapters()}
    for number, needed in needs().items():
        column = 1 + max((place[n][0] for n in needed), default=-1)
        lane = min((place[n][1] for n in needed), default=0)
        while (column, lane) in taken:
            lane += 1
        place[number] = column, lane
        # What lies between a chapter and the one it needs is taken: no line runs through a circle.
        first = min((place[n][0] for n in needed), default=column)
        taken |= {(c, lane) for c in range(first + (lane > 0), column + 1)}
        edges += [(n, number) for n in needed]
    at = {n: (RADIUS + 4 + c * STEP, RADIUS + 4 + lane * LANE) for n, (c, lane) in place.items()}
    lines = "".join(f'<path d="{road(at[a], at[b])}"/>' for a, b in edges)
    dots = "".join(
        f'<a href="{names[n]}.html" aria-label="Chapter {n}"><circle cx="{x}" cy="{y}" r="{RADIUS}"/>'
        f'<text x="{x}" y="{y}" dy="0.36em">{n}</text></a>'
        for n, (x, y) in at.items()
    )
    width, height = (max(p[i] for p in at.values()) + RADIUS + 4 for i in (0, 1))
    said = "; ".join(f"{b} needs {a}" for a, b in edges)
    label = f'role="img" aria-label="Which chapter needs which: {said}."'
    return f'<svg class="vl-needs" viewBox="0 0 {width} {height}" {label}>{lines}{dots}</svg>'


def moving_figure() -> str:
    """The output of the figure that opens the book."""
    for cell in nbformat.read(BOOK / f"{chapters()[0]}.ipynb", as_version=4).cells:
        if cell.metadata.get("mystnb", {}).get("figure", {}).get("name") == FIGURE:
            return next(output.data["text/html"] for output in cell.outputs if "data" in output)
    raise LookupError(f"chapter 1 has no figure named {FIGURE}")


def raw(text: str) -> str:
    return f"```{{raw}} html\n{text}\n```"


def fill(app, name, content):
    if name != app.config.root_doc:
        return
    page = content[0].replace("<!-- the map -->", raw(chart()))
    caption = re.search(r"<!-- the figure: (.*?) -->", page, re.DOTALL)
    figure = f'<figure class="vl-home">{moving_figure()}<figcaption>{caption[1]}</figcaption></figure>'
    page = page.replace(caption[0], raw(figure))
    content[0] = re.sub(
        r"\]\((\d\d_\w+)\.ipynb\)", lambda m: f"{m[0]} <small>{minutes(m[1])} min</small>", page
    )


def setup(app):
    app.connect("source-read", fill)
    # What it is made of lies outside the page: it is read again at each build.
    app.connect("env-get-outdated", lambda app, *_: [app.config.root_doc])
    return {"parallel_read_safe": True}
