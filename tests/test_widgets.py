"""The moving figures: what the page shows after a move is what Python drew for it."""

import io
import json
import re
import warnings
from copy import deepcopy
from itertools import product
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

plt = pytest.importorskip("matplotlib.pyplot")
from vaelearn import plots, widgets  # noqa: E402

X = np.linspace(-3, 3, 30)
MU, S = [-1.0, 0.0, 1.5], [0.5, 1.0]


def bell(mu, s):
    fig, (left, right) = plt.subplots(1, 2, figsize=(5.4, 2.6))
    left.plot(X, np.exp(-((X - mu) ** 2) / (2 * s * s)), label="q")
    left.set(xlabel="z", ylim=(0, 1))
    right.plot(range(int(10 * s)), "o")  # its ticks differ in number from frame to frame
    right.set(title="<nats> & more")
    return fig


def alt(mu, s):
    return f"a bell at {mu:g}, {s:g} wide"


def bells(**options):
    return widgets.slider(bell, alt, mu=MU, s=np.array(S), **options)


def plane(**changes):
    grid = np.linspace(0, 1, 3 * 4 * 6 * 5).reshape(3, 4, 6, 5)
    codes = np.random.default_rng(0).normal(size=(60, 2))
    given = {"images": grid, "codes": codes, "labels": np.arange(60) % 7, "extent": (-2, 2, 0, 3)}
    return widgets.wander(alt="codes in seven clusters", **given | changes)


def payload(widget):
    source = widget._repr_html_()
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', source)[1])


def picture(widget):
    source = widget._repr_html_()
    return ElementTree.fromstring(source[source.index("<svg") : source.index("</svg>") + 6])


def fresh(widget):
    """Every frame as drawn by Python, under the ids that the widget gave its own."""
    points = [{"mu": mu, "s": s} for mu, s in product(MU, S)]
    name = re.search(r'data-vl="(\w+)"', widget._repr_html_())[1]
    trees = widgets._draw_all(bell, alt, points, points[0])
    return [plots.to_text(tree).replace(plots.NAME, name) for tree in trees]


def test_replaying_the_differences_gives_every_frame():
    widget = bells()
    base, data = picture(widget), payload(widget)
    for frame, expected in zip(data["frames"], fresh(widget), strict=True):
        tree = deepcopy(base)
        parents = {child: parent for parent in tree.iter() for child in parent}
        elements = list(tree.iter())
        for value, (number, attribute) in zip(frame, data["slots"], strict=True):
            element, text = elements[number], data["values"][value]
            if value == 0:
                continue
            if attribute == "":
                parent = parents[element]
                parent[list(parent).index(element)] = ElementTree.fromstring(text)
            elif attribute == "#text":
                element.text = text
            else:
                element.set(attribute, text)
        assert ElementTree.canonicalize(plots.to_text(tree)) == ElementTree.canonicalize(expected)


def test_axes_keep_still():
    widget = widgets.slider(lambda scale: plt.subplots()[1].plot([0, scale])[0].axes, "a", scale=[1, 10**5])
    assert not any(attribute == "viewBox" for _, attribute in payload(widget)["slots"])


def test_start_labels_and_numbers():
    widget = bells(start={"mu": 1.5, "s": 1}, labels={"mu": "mean of q, μ"})
    assert picture(widget).get("aria-label") == alt(1.5, 1)
    assert "mean of q, μ</label>" in widget._repr_html_()
    assert payload(widget)["ticks"] == [["−1", "0", "1.5"], ["0.5", "1"]]
    assert [widgets._words(v) for v in (0.1 + 0.2, 1e-5, 64, "IWAE", -3)] == [
        "0.3",
        "1e-05",
        "64",
        "IWAE",
        "−3",
    ]


def test_output_is_deterministic():
    assert bells()._repr_html_() == bells()._repr_html_()
    assert plane()._repr_html_() == plane()._repr_html_()


def test_text_cannot_end_the_script():
    widget = widgets.slider(lambda k: bell(0, 1), lambda k: f"</script>{k}", k=["</script>", "b"])
    assert widget._repr_html_().count("</script>") == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "one to three sliders"),
        ({"mu": MU, "s": []}, "one to three sliders"),
        ({"mu": range(100), "s": range(7)}, "700 frames; at most 600"),
        ({"mu": MU, "s": S, "start": {"mu": 7}}, "mu starts at 7"),
        ({"mu": MU, "s": S, "start": {"nu": 7}}, "no slider 'nu'"),
        ({"mu": MU, "s": S, "labels": {"nu": "ν"}}, "no slider 'nu'"),
    ],
)
def test_slider_refuses(values, message):
    with pytest.raises(ValueError, match=message):
        widgets.slider(bell, alt, **values)


def test_slider_refuses_what_is_not_a_figure_and_an_empty_alt():
    with pytest.raises(ValueError, match="got NoneType"):
        widgets.slider(lambda k: None, "a", k=[1])
    with pytest.raises(ValueError, match="alt text"):
        widgets.slider(lambda k: bell(0, k), lambda k: "", k=[1])
    plt.close("all")


@pytest.mark.parametrize(
    "changes",
    [
        {"images": np.zeros((3, 3, 4))},
        {"images": np.full((2, 2, 4, 4), 1.5)},
        {"codes": np.zeros((60, 3))},
        {"labels": np.arange(60)},
        {"extent": (2, -2, 0, 3)},
    ],
)
def test_wander_refuses(changes):
    with pytest.raises(ValueError, match="must be"):
        plane(**changes)


def test_a_heavy_widget_warns(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bells()
    monkeypatch.setattr(widgets, "MAX_BYTES", 1000)
    with pytest.warns(UserWarning, match="MB to the page"):
        bells()


@pytest.fixture
def open_page(browser, tmp_path):
    """Opens outputs as a file without a network; fails the test on any script error."""
    errors, pages = [], []

    def open_(*outputs, theme="light", **options):
        page = browser.new_page(viewport={"width": 390, "height": 800}, **options)
        page.on("pageerror", lambda error: errors.append(error))
        page.on("request", lambda r: r.url.startswith(("file:", "data:")) or errors.append(r.url))
        dark = "background:#121212;color:#ced6dd" if theme == "dark" else ""
        body = "".join(f"<div>{output._repr_html_()}</div>" for output in outputs)
        file = tmp_path / f"{theme}.html"
        meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        file.write_text(f'<!doctype html>{meta}<body style="{dark}">{body}', encoding="utf-8")
        page.goto(file.as_uri())
        pages.append(page)
        return page

    yield open_
    for page in pages:
        page.close()
    assert not errors


def test_the_page_shows_what_python_drew(open_page):
    widget = bells()
    page = open_page(widget)
    parse = (
        "text => { const box = document.createElement('div'); box.innerHTML = text; return box.innerHTML }"
    )
    mu, s = page.get_by_label("mu"), page.get_by_label("s", exact=True)
    expected = fresh(widget)
    for k in (5, 0, 3, 4, 1, 2, 5):  # in and out of order: a frame leaves no trace in the next
        mu.fill(str(k // 2))
        s.fill(str(k % 2))
        assert page.locator(".vl-picture").inner_html() == page.evaluate(parse, expected[k])
    assert mu.get_attribute("aria-valuetext") == "1.5"
    assert page.locator("output").all_inner_texts() == ["1.5", "1"]
    assert page.locator(".vl-live").text_content() == alt(1.5, 1)
    s.focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("svg").get_attribute("aria-label") == alt(1.5, 0.5)


def test_two_widgets_and_a_twin_keep_to_themselves(open_page):
    page = open_page(bells(), bells(), plane(), plane(), plots.show(bell(0, 1), "still"))
    page.get_by_label("mu").nth(1).fill("2")
    labels = [svg.get_attribute("aria-label") for svg in page.locator("svg").all()]
    assert labels[:2] == [alt(-1, 0.5), alt(1.5, 0.5)]
    assert page.evaluate(
        "() => { const ids = [...document.querySelectorAll('[id]')].map(e => e.id);"
        "return ids.length > 9 && ids.length == new Set(ids).size }"
    )
    assert page.evaluate("Object.keys(window).filter(key => /^vl/.test(key))") == []


def test_wandering_by_mouse_keys_and_sliders(open_page):
    page = open_page(plane())
    tile = "() => getComputedStyle(document.querySelector('.vl-decoded')).backgroundPosition"
    z1, z2 = page.get_by_label("z₁", exact=True), page.get_by_label("z₂", exact=True)
    assert (z1.input_value(), z2.input_value()) == ("1", "2")
    z1.fill("2")
    z2.fill("0")
    assert page.evaluate(tile) == "100% 0%"
    page.locator(".vl-plot").focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    assert (z1.input_value(), z2.input_value()) == ("1", "1")
    left, top, _, height = payload(plane())["box"]
    shown = page.locator(".vl-plot svg").bounding_box()
    scale = shown["width"] / float(page.locator(".vl-plot svg").get_attribute("viewBox").split()[2])
    page.mouse.click(shown["x"] + left * scale, shown["y"] + (top + height / 3) * scale)
    assert (z1.input_value(), z2.input_value()) == ("0", "2")
    label = page.locator(".vl-decoded").get_attribute("aria-label")
    assert label == "decoded image at z₁ = −2, z₂ = 2"


def test_the_decoded_tile_is_the_image_of_its_node(open_page):
    images = np.zeros((3, 4, 6, 5))
    images[2, 1] = 1  # one white image among black
    page = open_page(plane(images=images))
    for i, j in ((2, 1), (1, 2)):
        page.get_by_label("z₁", exact=True).fill(str(i))
        page.get_by_label("z₂", exact=True).fill(str(j))
        shot = page.locator(".vl-decoded").screenshot()
        pixels = np.asarray(Image.open(io.BytesIO(shot)).convert("L"))[3:-3, 3:-3]
        assert (pixels == (255 if (i, j) == (2, 1) else 0)).all()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_ink_follows_the_page_and_text_stays_readable(open_page, theme):
    page = open_page(bells(), theme=theme)
    ink = page.evaluate("() => getComputedStyle(document.querySelector('svg text')).fill")
    assert ink == ("rgb(206, 214, 221)" if theme == "dark" else "rgb(0, 0, 0)")
    shown = page.locator("svg").bounding_box()["width"]
    assert 10 * shown / (5.4 * 72) > 8.8  # pixels of 10 pt text on a phone
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_without_script_the_first_frame_stands(browser, open_page):
    page = open_page(bells(), java_script_enabled=False)
    assert page.locator("svg").is_visible()
    assert not page.get_by_label("mu").is_visible()
