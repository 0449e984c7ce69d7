"""Figures that move without a kernel: Python computes all, the page only looks up and draws.

Plain HTML, SVG and a few lines of script in the cell's output: nothing to load and no saved
state; the same in JupyterLab, in the book and in a file without a network.
"""

import base64
import html
import io
import itertools
import json
import math
import warnings
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from PIL import Image

from . import plots

MAX_FRAMES, MAX_BYTES = 600, 3_000_000
KEYS = ' data-lm-suppress-shortcuts="true"'  # else JupyterLab takes the arrow keys for itself

CSS = """
.vl-controls{display:grid;gap:.4em;max-width:34em;margin:.5em auto}
.vl-controls[hidden]{display:none}
.vl-control{display:grid;grid-template-columns:8em 1fr 3.5em;gap:.6em;
align-items:center;text-align:left}
.vl-control input{width:100%;min-width:0;height:1.8em;margin:0;accent-color:#0072B2}
.vl-control output{text-align:right;font-variant-numeric:tabular-nums}
.vl-live{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.vl-stage{display:flex;flex-wrap:wrap;gap:1em;align-items:center;justify-content:center}
.vl-plot{cursor:crosshair;touch-action:pinch-zoom;user-select:none}
.vl-decoded{border:1px solid #808080;image-rendering:pixelated}
"""

# A widget finds itself by name, for JupyterLab runs scripts without document.currentScript.
# Where one output is on a page twice, the second renames itself: ids must not be shared.
SCRIPT = """
for (const root of document.querySelectorAll('[data-vl="%(name)s"]:not([data-ready])')) {
  const twins = document.querySelectorAll('[data-vl="%(name)s"][data-ready]').length;
  if (twins) root.innerHTML = root.innerHTML.replaceAll("%(name)s", "%(name)sx" + twins);
  root.dataset.ready = "";
  const find = selector => root.querySelector(selector);
  const inputs = [...root.querySelectorAll("input")];
  const data = JSON.parse(find('script[type="application/json"]').textContent);
  const update = () => {
    inputs.forEach((input, i) => {
      input.setAttribute("aria-valuetext", data.ticks[i][input.value]);
      input.nextElementSibling.value = data.ticks[i][input.value];
    });
    draw();
  };
  %(body)s
  for (const input of inputs) input.addEventListener("input", update);
  update();
  find(".vl-controls").hidden = false;
}
"""

# Every frame is made from a copy of the base: with no history, there is nothing to undo.
SLIDER = """
  const picture = find(".vl-picture"), live = find(".vl-live"), base = picture.cloneNode(true);
  const label = () => picture.firstElementChild.getAttribute("aria-label");
  const draw = () => {
    const before = label(), copy = base.cloneNode(true), nodes = [...copy.querySelectorAll("*")];
    const k = inputs.reduce((k, input) => k * (+input.max + 1) + +input.value, 0);
    data.frames[k].forEach((value, i) => {
      if (!value) return;
      const [number, attribute] = data.slots[i], node = nodes[number], text = data.values[value];
      if (attribute == "") node.outerHTML = text;
      else if (attribute == "#text") node.textContent = text;
      else node.setAttribute(attribute, text);
    });
    picture.replaceChildren(...copy.childNodes);
    if (label() != before) live.textContent = label();
  };
"""


def slider(draw, alt, *, labels=None, start=None, **values):
    """A figure that one to three sliders move.

        slider(draw, "q against the posterior", mu=np.linspace(-2, 2, 21), K=[1, 8, 64])

    ``draw(**point)`` returns a fresh Figure (or Axes) for one value of every slider; if it
    samples, it starts from a seed of its own.
    ``values`` names the sliders and lists their values; ``labels`` may give them longer
    names, ``start`` the values shown first (default: the first of each). ``alt`` is the text
    alternative, or a function of the same arguments that returns each frame's.

    Every combination is drawn now, in the book's style and with the first frame's layout, so
    the axes keep still if ``draw`` fixes their limits. The page holds the start frame whole,
    and of the others only what differs from it.

    Raises ValueError for an empty slider, more than 3 sliders or 600 frames, an unknown name
    or start value, an empty alt text, or a ``draw`` that returns no figure. Warns above 3 MB.
    """
    values = {name: v.tolist() if hasattr(v, "tolist") else list(v) for name, v in values.items()}
    ticks = {name: [_words(value) for value in v] for name, v in values.items()}
    count = math.prod(map(len, values.values()))
    if not 1 <= len(values) <= 3 or count == 0:
        raise ValueError("give one to three sliders, with values: slider(draw, alt, mu=[0, 1, 2])")
    if count > MAX_FRAMES:
        raise ValueError(f"{count} frames; at most {MAX_FRAMES}: give the sliders fewer values")
    labels, start = labels or {}, {name: v[0] for name, v in values.items()} | (start or {})
    for name in (*labels, *start):
        if name not in values:
            raise ValueError(f"there is no slider {name!r}; the sliders are {list(values)}")
        if _words(start[name]) not in ticks[name]:
            raise ValueError(f"{name} starts at {start[name]!r}, which is not in {values[name]}")
    at = {name: ticks[name].index(_words(start[name])) for name in values}

    points = [dict(zip(values, p, strict=True)) for p in itertools.product(*values.values())]
    first = {name: v[at[name]] for name, v in values.items()}
    trees = _draw_all(draw, alt if callable(alt) else lambda **_: alt, points, first)
    base = trees[points.index(first)]
    body = plots.picture(base) + '<div class="vl-live" aria-live="polite"></div>'
    controls = [(labels.get(name, name), ticks[name], at[name]) for name in values]
    return _widget(body, SLIDER, _differences(base, trees), controls, base.get("aria-label"))


def _draw_all(draw, alt, points, first):
    """An SVG tree for each point, all in the layout on which the first figure settles.

    Else the axes would jump about under the reader's hand, and drawing take twice as long.
    """
    trees = []
    with plt.rc_context(plots.STYLE):
        for point in [first, *points]:
            fig = plots.require_figure(draw(**point))
            if not trees:
                fig.draw_without_rendering()
                boxes = [ax.get_position(original=True) for ax in fig.axes]
            fig.set_layout_engine("none")
            for ax, box in zip(fig.axes, boxes, strict=False):
                ax.set_position(box)
            trees.append(plots.svg_tree(fig, alt(**point)))
    return trees[1:]


def _differences(base, trees):
    """What turns the base into each tree: frame k gives slot i the value number frames[k][i].

    A slot is [number of the element, attribute]; the attribute "#text" is the element's text,
    "" the whole element. A value is listed once; number 0 is "as in the base".
    """
    number = {element: n for n, element in enumerate(base.iter())}
    slots, values, frames = {}, {}, []
    for tree in trees:
        frame = {}
        for element, attribute, value in _changes(base, tree):
            slot = slots.setdefault((number[element], attribute), len(slots))
            frame[slot] = values.setdefault(value, len(values) + 1)
        frames.append(frame)
    frames = [[frame.get(slot, 0) for slot in range(len(slots))] for frame in frames]
    return {"slots": list(slots), "values": [None, *values], "frames": frames}


def _changes(old, new):
    """Yields (element of the old tree, attribute, value)."""
    if old.tag != new.tag or old.keys() != new.keys() or len(old) != len(new):
        yield old, "", plots.to_text(new)
        return
    for attribute, value in new.items():
        if value != old.get(attribute):
            yield old, attribute, value
    if old.text != new.text:
        yield old, "#text", new.text or ""
    for pair in zip(old, new, strict=True):
        yield from _changes(*pair)


# The two sliders are the state; pointer and arrow keys only move them.
WANDER = """
  const [left, top, width, height] = data.box, [z1, z2] = inputs;
  const plot = find(".vl-plot"), svg = find("svg"), here = find(".vl-here");
  const decoded = find(".vl-decoded");
  const draw = () => {
    const u = z1.value / z1.max, v = z2.value / z2.max;
    const [a, b] = inputs.map(input => input.getAttribute("aria-valuetext"));
    here.setAttribute("cx", left + u * width);
    here.setAttribute("cy", top + (1 - v) * height);
    decoded.style.backgroundPosition = `${100 * u}% ${100 * v}%`;
    decoded.setAttribute("aria-label", `decoded image at z₁ = ${a}, z₂ = ${b}`);
  };
  const follow = event => {
    const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
    const u = ((event.clientX - box.left) * scale - left) / width;
    const v = 1 - ((event.clientY - box.top) * scale - top) / height;
    z1.value = Math.round(u * z1.max);
    z2.value = Math.round(v * z2.max);
    update();
  };
  const steps = {ArrowLeft: [z1, -1], ArrowRight: [z1, 1], ArrowDown: [z2, -1], ArrowUp: [z2, 1]};
  plot.addEventListener("pointerdown", event => {
    plot.setPointerCapture(event.pointerId);
    follow(event);
  });
  plot.addEventListener("pointermove", event => { if (event.buttons) follow(event); });
  plot.addEventListener("keydown", event => {
    if (!(event.key in steps)) return;
    const [z, step] = steps[event.key];
    event.preventDefault();
    z.value = +z.value + step;
    update();
  });
"""


def wander(images, codes, labels, alt, extent):
    """The latent plane to wander in: codes on the left, on the right what the point decodes to.

    ``images``: (G1, G2, H, W) in [0, 1]; ``images[i, j]`` is decoded at the i-th of G1 evenly
    spaced z1 and the j-th of G2 evenly spaced z2. ``extent``: (z1 from, z1 to, z2 from, z2 to),
    both ends on the grid. ``codes``: (N, 2), drawn where within the extent; ``labels``: (N,),
    up to 10 kinds. The point goes from node to node of the grid, by mouse, touch, arrow keys
    or the two sliders.

    Raises ValueError if shapes disagree, images leave [0, 1], the extent does not increase or
    the alt text is empty. Warns above 3 MB.
    """
    images, codes, labels = map(plots.to_array, (images, codes, labels))
    (x0, x1, y0, y1), kinds = extent, np.unique(labels)
    if images.ndim != 4 or min(images.shape[:2]) < 2 or images.min() < 0 or images.max() > 1:
        raise ValueError(f"images, {images.shape}, must be (G1, G2, H, W), in [0, 1], G ≥ 2")
    if codes.shape != (len(labels), 2) or not 1 <= len(kinds) <= 10:
        raise ValueError(f"codes, {codes.shape}, must be (N, 2), and the N labels 1 to 10 kinds")
    if not (x0 < x1 and y0 < y1):
        raise ValueError(f"extent, {extent}, must be (z1 from, z1 to, z2 from, z2 to)")
    g1, g2, h, w = images.shape
    inches, axes = np.array([4.4, 4.7]), np.array([0.13, 0.2, 0.84, 0.786])
    with plt.rc_context(plots.STYLE | {"figure.constrained_layout.use": False, "axes.grid": False}):
        fig = plt.figure(figsize=inches)
        ax = fig.add_axes(axes, xlim=(x0, x1), ylim=(y0, y1), xlabel="z₁", ylabel="z₂")
        inside = (codes >= (x0, y0)).all(1) & (codes <= (x1, y1)).all(1)
        handles = [_cloud(ax, codes[inside & (labels == k)], n, k) for n, k in enumerate(kinds)]
        by_row = [handle for column in range(5) for handle in handles[column::5]]
        ax.legend(handles=by_row, ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.11))
        tree = plots.svg_tree(fig, alt)
    left, bottom, width, height = (axes * np.tile(72 * inches, 2)).tolist()
    box = left, 72 * inches[1] - bottom - height, width, height  # as SVG has it, from the top
    at = g1 // 2, g2 // 2
    u, v = at[0] / (g1 - 1), at[1] / (g2 - 1)
    here = {"class": "vl-here", "cx": f"{left + u * width:g}", "cy": f"{box[1] + (1 - v) * height:g}"}
    look = {"r": "7", "fill": "none", "stroke": "currentColor", "stroke-width": "2.5"}
    ElementTree.SubElement(tree, "circle", here | look)

    # All images are one PNG, and the page looks at one tile of it through a window, which
    # measures whole pixels so that no neighbour shows at its edge.
    sheet = np.round(255 * images.transpose(1, 2, 0, 3).reshape(g2 * h, g1 * w)).astype(np.uint8)
    Image.fromarray(sheet).save(png := io.BytesIO(), "PNG", optimize=True)
    zoom = max(1, round(170 / max(h, w)))
    style = (
        f"width:{w * zoom}px;height:{h * zoom}px;background-size:{g1}00% {g2}00%;"
        f"background-position:{100 * u:g}% {100 * v:g}%;"
        f"background-image:url(data:image/png;base64,{base64.b64encode(png.getvalue()).decode()})"
    )
    body = (
        '<div class="vl-stage"><div class="vl-plot" tabindex="0" role="group" '
        f'aria-label="latent plane; arrow keys move the point"{KEYS}>{plots.picture(tree)}</div>'
        f'<div class="vl-decoded" role="img" aria-label="decoded image" style="{style}"></div>'
        "</div>"
    )
    controls = [
        ("z₁", [_words(z) for z in np.linspace(x0, x1, g1).tolist()], at[0]),
        ("z₂", [_words(z) for z in np.linspace(y0, y1, g2).tolist()], at[1]),
    ]
    return _widget(body, WANDER, {"box": box}, controls, alt)


def _cloud(ax, codes, n, kind):
    """Draws class n's codes as one path; returns the legend's entry.

    The first five classes are discs, the next five crosses: colour never stands alone.
    """
    color = (*plots.COLORS, plots.GREY)[n % 5]
    # Strokes a point: of no length with round ends is a disc. 72 points are an inch.
    reach = np.zeros((2, 2)) if n < 5 else np.array([(-1, -1), (1, 1), (-1, 1), (1, -1)])
    scale = 2 / 72 * ax.figure.dpi / ax.bbox.size * np.ptp([ax.get_xlim(), ax.get_ylim()], axis=1)
    vertices = (codes[:, None] + reach * scale).reshape(-1, 2)
    path = Path(vertices, np.tile([Path.MOVETO, Path.LINETO], len(vertices) // 2))
    path.should_simplify = False
    width = 4.5 if n < 5 else 1.4
    ax.add_patch(PathPatch(path, fill=False, edgecolor=color, lw=width, capstyle="round"))
    return plt.Line2D([], [], linestyle="", marker="ox"[n // 5], color=color, label=kind)


def _words(value):
    """A slider's value as the reader sees it: four significant digits and a true minus sign."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return "−" + text[1:] if text.startswith("-") else text


def _widget(body, script, data, controls, alt):
    """``body`` above one slider for each (label, ticks, start), and the script that moves it."""
    rows = ""
    for n, (label, ticks, at) in enumerate(controls):
        name = f"{plots.NAME}-input{n}"
        rows += (
            f'<div class="vl-control"><label for="{name}">{html.escape(label)}</label>'
            f'<input id="{name}" type="range" max="{len(ticks) - 1}" value="{at}" '
            f'autocomplete="off"{KEYS}><output for="{name}" aria-live="off"></output></div>'
        )
    data |= {"ticks": [ticks for _, ticks, _ in controls]}
    payload = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    page = plots.finish(
        f'<div class="vl-figure" data-vl="{plots.NAME}"><style>{plots.CSS}{CSS}</style>{body}'
        f'<div class="vl-controls" hidden="hidden">{rows}</div>'
        # An escaped "<" cannot end the script element.
        f'<script type="application/json">{payload.replace("<", chr(92) + "u003c")}</script>'
        f"<script>{SCRIPT % {'name': plots.NAME, 'body': script}}</script></div>"
    )
    if (size := len(page.encode())) > MAX_BYTES:
        advice = "give sliders fewer values, curves fewer points, grids fewer nodes"
        warnings.warn(f"this widget adds {size / 1e6:.1f} MB to the page: {advice}", stacklevel=3)
    return plots.Html(page, alt)
