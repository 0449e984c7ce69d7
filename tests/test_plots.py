"""The figures: clean, deterministic SVG that says what it shows."""

import re
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

plt = pytest.importorskip("matplotlib.pyplot")
from vaelearn import plots  # noqa: E402


@pytest.fixture(autouse=True)
def _style():
    with plt.rc_context(plots.STYLE):
        yield
    plt.close("all")


def curve(power=2):
    fig, ax = plt.subplots()
    x = np.linspace(0, 1, 50)
    ax.plot(x, x**power, "o-", label=r"$\mathcal{L}_K$")
    ax.set(xlabel="K & <nats>", ylim=(0, 1))
    ax.fill_between(x, x**power, hatch="//")
    ax.legend()
    return fig


def svg(fig, alt="a curve"):
    html = plots.show(fig, alt)._repr_html_()
    return ElementTree.fromstring(html[html.index("<svg") : html.index("</svg>") + 6])


def test_a_figure_is_accessible_themed_and_scales():
    root = svg(curve(), 'says "what" it <shows>')
    assert root.get("role") == "img"
    assert root.get("aria-label") == 'says "what" it <shows>'
    assert root.get("fill") == "currentColor"
    assert root.get("viewBox") == "0 0 388.8 237.6"
    text = plots.to_text(root)
    assert "K &amp; &lt;nats&gt;" in text  # text stays text
    assert "#000000" not in text
    assert "stroke: currentColor" in text
    assert not re.search(r"<style|<metadata|xmlns|DejaVu|figure_1", text)


def test_the_same_figure_is_the_same_bytes_and_is_closed():
    first, second = curve(), curve()
    assert plots.show(first, "a")._repr_html_() == plots.show(second, "a")._repr_html_()
    assert not plt.get_fignums()


def test_without_a_page_or_its_styles_the_alt_text_stands():
    shown = plots.show(curve(), "the <alt> text")
    assert repr(shown) == "[figure: the <alt> text]"
    # What a notebook that was never run leaves of it: no style sheet, no SVG but its text.
    assert '<div class="vl-picture" style="font-size:0px"><svg' in shown._repr_html_()
    assert '<p class="vl-alt">Figure: the &lt;alt&gt; text' in shown._repr_html_()


def test_a_notebooks_own_resolution_does_not_show():
    with plt.rc_context({"figure.dpi": 300, "savefig.dpi": 50}):
        other = plots.to_text(svg(curve()))
    assert other == plots.to_text(svg(curve()))


def test_ids_are_all_used_and_belong_to_one_figure():
    first, second = svg(curve(2)), svg(curve(3))
    ids = [{e.get("id") for e in root.iter()} - {None} for root in (first, second)]
    assert len(ids[0]) == 5  # a clip path, a hatch, the marker and those of both axes
    assert not ids[0] & ids[1]
    for root, own in zip((first, second), ids, strict=True):
        used = set(re.findall(r'(?:url\(|href=")#([\w-]+)', plots.to_text(root)))
        assert used == own


def test_mathcal_becomes_letters_that_fonts_have():
    assert "ℒ" in plots.to_text(svg(curve()))


@pytest.mark.parametrize("alt", ["", "  ", None])
def test_alt_text_is_required(alt):
    with pytest.raises(ValueError, match="alt text"):
        plots.show(curve(), alt)


def test_only_figures_can_be_shown():
    with pytest.raises(ValueError, match="Figure or Axes, got NoneType"):
        plots.show(None, "nothing")


def test_images_are_one_raster_with_every_image_in_place():
    x = torch.rand(7, 64, requires_grad=True)
    ax = plots.images(None, x, (8, 8), columns=3)
    (raster,) = ax.get_images()
    sheet = np.asarray(raster.get_array())
    assert sheet.shape == (24, 24)
    np.testing.assert_array_equal(sheet[8:16, 16:24], x[5].detach().reshape(8, 8))
    assert len(list(svg(ax).iter("image"))) == 1
    with pytest.raises(ValueError, match=r"\(N, 49\)"):
        plots.images(None, x, (7, 7))


def test_history_draws_what_there_is():
    epochs = {"epoch": [1, 2], "train": [-90.0, -80.0]}
    assert len(plots.history(SimpleNamespace(history=epochs)).axes[0].lines) == 1
    both = SimpleNamespace(history=epochs | {"valid": [-91.0, -82.0]})
    assert len(plots.history(both).axes[0].lines) == 2


def test_a_band_is_two_standard_errors_wide_on_each_side():
    ax = plt.subplots()[1]
    line = plots.band(ax, [1, 2], torch.tensor([0.0, 1.0]), np.array([0.5, 0.25]), label="gap")
    assert line.get_label() == "gap"
    low, high = ax.collections[0].get_datalim(ax.transData).intervaly
    assert (low, high) == (-1.0, 1.5)


def test_an_ellipse_is_a_contour_of_the_gaussian():
    mean, covariance = np.array([1.0, -2.0]), np.array([[2.0, 0.6], [0.6, 0.5]])
    patch = plots.ellipse(plt.subplots()[1], mean, torch.tensor(covariance), n_std=3)
    path = patch.get_path()  # Bézier curves: every third vertex lies on them
    points = path.vertices[path.codes != path.CLOSEPOLY][::3] - mean
    distance = np.sqrt(np.einsum("ni,ij,nj->n", points, np.linalg.inv(covariance), points))
    np.testing.assert_allclose(distance, 3)
    with pytest.raises(np.linalg.LinAlgError):
        plots.ellipse(plt.subplots()[1], mean, [[1, 2], [2, 1]])


def test_ink_is_black_where_an_image_is_0_and_white_where_it_is_1():
    ax = plots.images(None, np.array([[0.0, 0.5, 1.0, 1.0]]), (2, 2))
    pixels = ax.images[0].to_rgba(ax.images[0].get_array())[..., 0]
    np.testing.assert_allclose(pixels, [[0, 0.5], [1, 1]], atol=0.01)


def test_every_color_is_legible_on_white_and_on_near_black():
    def luminance(color):
        c = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    for color in (*plots.COLORS, plots.GREY):
        assert 1.05 / (luminance(color) + 0.05) >= 3
        assert (luminance(color) + 0.05) / (luminance("#121212") + 0.05) >= 3
