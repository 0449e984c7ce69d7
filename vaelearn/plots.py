"""The book's figures: one house style, inline SVG, and the few plots that recur.

A figure goes on the page as SVG that is part of the page. Whatever matplotlib drew in
black becomes ``currentColor``, the page's own text colour: one stored output is right in
light and in dark mode.

    plt.style.use(vl.plots.STYLE)
    fig, ax = plt.subplots()
    vl.plots.band(ax, K, gap.mean(0), standard_error(gap), label="log p(x) − bound")
    vl.plots.show(fig, alt="The gap halves each time K doubles.")   # the cell's last line
"""

import hashlib
import html
import inspect
import io
import re
import textwrap
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.transforms import Affine2D

# The four Okabe–Ito colours with a contrast of 3:1 on white and on near-black (#121212)
# alike. Grey is for what stands back, ink is the colour of the page's text.
BLUE, VERMILLION, GREEN, PURPLE = COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
GREY, INK = "#808080", "black"

STYLE = {
    # Inches: the widest whose 10 pt text is 9 px on a phone without scrolling.
    "figure.figsize": (5.4, 3.3),
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "axes.prop_cycle": plt.cycler(color=COLORS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GREY,
    "grid.alpha": 0.25,
} | dict.fromkeys(("axes.titlesize", "figure.titlesize", "legend.fontsize"), "medium")

# The last rule is for Jupyter Book, which lays a white panel under HTML output in dark mode.
CSS = """
.vl-figure{overflow-x:auto;margin:.5em 0}
.vl-alt{display:none}
.vl-figure svg{display:block;max-width:100%;height:auto;margin:auto}
html .cell_output .text_html:has(.vl-figure)
{background:none!important;color:inherit!important;padding:0!important}
"""

NAME = "vl0name0"  # stands for a figure's name until its content, and so its hash, is known


class Html:
    """A piece of the page; where there is no page, its alt text."""

    def __init__(self, source, alt):
        self.source, self.alt = source, alt

    def _repr_html_(self):
        return self.source

    def __repr__(self):
        return f"[figure: {self.alt}]"


def show(fig, alt):
    """The figure as inline SVG; make it the last expression of a cell.

    ``fig`` is a Figure, or any Axes in it; it is closed. ``alt`` says in words what the
    figure shows, for readers who cannot see it. Raises ValueError if ``alt`` is empty.
    """
    fig = require_figure(fig)
    fig.draw_without_rendering()  # the layout needs to see the tick labels once
    body = picture(svg_tree(fig, alt))
    return Html(finish(f'<div class="vl-figure"><style>{CSS}</style>{body}</div>'), alt)


def images(ax, x, image_shape, columns=10):
    """A grid of grey images as one raster; returns the Axes (a new one if ``ax`` is None).

    ``x``: (N, D) or (N, H, W) with values in [0, 1], 0 black and 1 white, as the data have
    them; ``image_shape``: (H, W). Raises ValueError if ``x`` does not fit that shape.
    """
    x, (h, w) = to_array(x), image_shape
    if x.size == 0 or x[0].size != h * w:
        raise ValueError(f"x has shape {x.shape}, not (N, {h * w}) or (N, {h}, {w}) with N ≥ 1")
    rows, columns = -(-len(x) // columns), min(columns, len(x))
    sheet, tiles = np.full((rows * h, columns * w), np.nan), []
    for n, image in enumerate(x.reshape(-1, h, w)):
        top, left = n // columns * h, n % columns * w
        sheet[top : top + h, left : left + w] = image
        frame = Affine2D().scale(w, h).translate(left, top)
        tiles.append(Path.unit_rectangle().transformed(frame))
    if ax is None:
        ax = plt.subplots(figsize=(5.4, 5.4 * rows * h / (columns * w)))[1]
    # Not resampled: the file holds one number a pixel, and the browser enlarges it.
    look = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "none"}
    ax.imshow(sheet, extent=(0, columns * w, rows * h, 0), **look)
    # The frame is a grey that shows on any page, where black would end nowhere on a dark one.
    frames = Path.make_compound_path(*tiles)
    ax.add_patch(PathPatch(frames, fill=False, edgecolor=GREY, linewidth=0.8, clip_on=False))
    ax.set_axis_off()
    return ax


def history(run):
    """A Figure of the bound against the epoch.

    ``run.history`` is a dict of lists: "epoch", "train" and, where there was a validation
    set, "valid"; bounds in nats per data point.
    """
    fig, ax = plt.subplots()
    for name, color in (("train", BLUE), ("valid", VERMILLION)):
        if run.history.get(name):
            ax.plot(run.history["epoch"], run.history[name], color=color, label=name)
    ax.set(xlabel="epoch", ylabel="bound (nats per data point)")
    ax.legend()
    return fig


def band(ax, x, mean, standard_error, label=None, color=None):
    """The line ``mean`` against ``x`` in a band of ±2 standard errors; each of shape (N,)."""
    x, mean, two = to_array(x), to_array(mean), 2 * to_array(standard_error)
    (line,) = ax.plot(x, mean, label=label, color=color)
    ax.fill_between(x, mean - two, mean + two, color=line.get_color(), alpha=0.25, linewidth=0)
    return line


def ellipse(ax, mean, covariance, n_std=2, **style):
    """A Gaussian's contour, ``n_std`` standard deviations from its mean.

    ``mean``: (2,); ``covariance``: (2, 2); ``style`` goes to the patch (``edgecolor``,
    ``linestyle``, ``label``, …). Raises numpy.linalg.LinAlgError unless the covariance is
    positive definite.
    """
    matrix = np.eye(3)
    matrix[:2, :2] = n_std * np.linalg.cholesky(to_array(covariance))
    matrix[:2, 2] = to_array(mean)
    circle = Path.unit_circle().transformed(Affine2D(matrix))
    look = {"fill": False, "linewidth": plt.rcParams["lines.linewidth"], "edgecolor": BLUE}
    patch = ax.add_patch(PathPatch(circle, **look | style))
    ax.autoscale_view()
    return patch


# From here on: how a figure becomes SVG. The widgets use it too.


def require_figure(fig):
    """The Figure of a Figure or of any Axes in it; ValueError for anything else."""
    fig = getattr(fig, "figure", fig)
    if not isinstance(fig, plt.Figure):
        raise ValueError(f"expected a matplotlib Figure or Axes, got {type(fig).__name__}")
    return fig


def to_array(x):
    """A NumPy array of a tensor (any device, with or without gradient), an array or a list."""
    return np.asarray(x.detach().cpu() if hasattr(x, "detach") else x)


def svg_tree(fig, alt):
    """The figure as an ElementTree of clean SVG, the same bytes each time; closes it."""
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError("a figure needs a non-empty alt text that says what it shows")
    for part in (fig, *fig.findobj(plt.Axes)):
        part.patch.set_visible(False)
    fig.dpi = 144  # of rasters; a notebook's own setting must not show
    buffer = io.StringIO()
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "vaelearn"}):
        FigureCanvasSVG(fig).print_svg(buffer, metadata={"Date": None})  # savefig draws twice
    plt.close(fig)
    # An inline <style> would reach the whole page, and ids repeat from figure to figure: drop
    # what is not drawn, and every id that nothing refers to.
    unseen = r"^.*?(?=<svg)|<metadata>.*?</metadata>|<defs>\s*<style.*?</defs>| xmlns=\"[^\"]*\""
    source = re.sub(unseen, "", buffer.getvalue(), flags=re.DOTALL).replace("xlink:href", "href")
    used = dict.fromkeys(re.findall(r'(?:url\(|href=")#([^")]+)', source))
    names = {old: f"{NAME}-{n}" for n, old in enumerate(used)}
    reference = r'((?:url\(|href=")#|\bid=")([^")]+)'
    source = re.sub(reference, lambda match: match[1] + names.get(match[2], ""), source)
    root = ElementTree.fromstring(source.translate(SCRIPT_LETTERS))
    for element in root.iter():
        _clean(element)
    width, height = map(float, root.get("viewBox").split()[2:])
    root.attrib = {
        "role": "img",
        "aria-label": alt,
        "viewBox": f"0 0 {width:g} {height:g}",  # points, which are 4/3 of the page's pixels
        "width": f"{width * 4 / 3:.0f}",
        "height": f"{height * 4 / 3:.0f}",
        # On a narrow screen a wide figure would rather scroll than shrink its text.
        "style": f"min-width:{0.88 * width:.0f}px",
        "fill": "currentColor",
        "stroke-linejoin": "round",
    }
    return root


# What \mathcal gives: matplotlib's private characters for script capitals, and Unicode's.
SCRIPT_LETTERS = dict(zip(range(0xE22D, 0xE247), "𝒜ℬ𝒞𝒟ℰℱ𝒢ℋℐ𝒥𝒦ℒℳ𝒩𝒪𝒫𝒬ℛ𝒮𝒯𝒰𝒱𝒲𝒳𝒴𝒵", strict=True))


def _clean(element):
    """The page's colour and font in place of black and DejaVu, and no idle digits."""
    for part in ("text", "tail"):
        if "\n" in (getattr(element, part) or ""):  # indentation; mathtext's spaces stay
            setattr(element, part, None)
    for key, value in element.items():
        if key == "style":
            value = re.sub(r"font-family: [^;]*(; )?", "", value).replace("#000000", "currentColor")
        elif key in ("transform", "d", "x", "y", "width", "height"):
            digits = 5 if key == "transform" else 2  # a transform may hold scales
            value = re.sub(r"-?\d+\.\d+(e-\d+)?", lambda n, k=digits: _short(n[0], k), value)
        if key == "d":
            value = re.sub(r"\s*([A-Za-z])\s*", r"\1", value)
        element.set(key, value)
    if element.get("id") == "":
        del element.attrib["id"]


def _short(number, digits):
    return f"{round(float(number), digits) + 0.0:.9g}"  # + 0.0 makes −0 a 0


def to_text(tree):
    """An element tree as text."""
    return ElementTree.tostring(tree, encoding="unicode")


def picture(tree):
    """The tree as HTML that also stands being sanitised.

    JupyterLab strips styles, scripts and SVG, all but its text, from a notebook that its
    reader has not run yet. Then that text is too small to see and the alt text is not hidden.
    """
    alt = html.escape(tree.get("aria-label"))
    return (
        f'<div class="vl-picture" style="font-size:0px">{to_text(tree)}</div>'
        f'<p class="vl-alt">Figure: {alt} (Run this cell to draw it.)</p>'
    )


def finish(text):
    """NAME becomes a hash of the content: figures share names only where they are equal."""
    return text.replace(NAME, "vl" + hashlib.sha256(text.encode()).hexdigest()[:10])


def source(*objects):
    """The source of functions, methods or classes as a cell's last value: dedented, in colour."""
    from IPython.display import Markdown

    code = "\n\n".join(textwrap.dedent(inspect.getsource(each)).rstrip() for each in objects)
    return Markdown(f"```python\n{code}\n```")
