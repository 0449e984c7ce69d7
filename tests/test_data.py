"""Data sets from small fake files, through the same code that reads the real ones. No network."""

import dataclasses
import functools
import gzip
import hashlib
import http.server
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from vaelearn import data, files

REAL_FILES = os.environ.get("VAELEARN_DATA")


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """Every mirror is a closed port and the cache an empty folder, unless a test says otherwise."""
    pooch = pytest.importorskip("pooch")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("VAELEARN_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    for name in data.SOURCES:
        change(monkeypatch, name, mirrors=(nobody + "{file}",))


@pytest.fixture
def put(tmp_path, monkeypatch):
    """put(name, file, raw) writes a fake file and makes its checksum the expected one."""

    def put(name, file, raw, folder=tmp_path):
        path = folder / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
        expect(monkeypatch, name, file, raw)
        return path

    return put


@pytest.fixture
def serve(tmp_path):
    """serve() answers with the address of a web server over a folder of its own, and the folder."""
    servers = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            if not self.path.endswith("cut.amat"):
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Length", "1000")  # then hangs up half-way
            self.end_headers()
            self.wfile.write(b"0 1 ")

    def serve():
        folder = tmp_path / f"web{len(servers)}"
        folder.mkdir()
        handler = functools.partial(Quiet, directory=folder)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/", folder

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def change(monkeypatch, name, **changes):
    monkeypatch.setitem(data.SOURCES, name, dataclasses.replace(data.SOURCES[name], **changes))


def expect(monkeypatch, name, file, raw):
    expected = data.SOURCES[name].files
    kind = expected[file].split()[0]
    if kind == "git-blob":
        raw = b"blob %d\0" % len(raw) + raw
    digest = hashlib.new({"md5": "md5", "git-blob": "sha1"}[kind], raw).hexdigest()
    change(monkeypatch, name, files=expected | {file: f"{kind} {digest}"})


def idx(array):
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def amat(images):
    return "".join(" ".join(map(str, row)) + "\n" for row in images).encode()


def fake_mnist(put, rows=10_020):
    """Images of 2×3 pixels, all of whose values are the label; returns the training labels."""
    labels = (np.arange(rows) * 7 % 251 % 10).astype(np.uint8)
    images = np.broadcast_to(labels[:, None, None], (rows, 2, 3))
    contents = images, labels, images[:30] + np.uint8(1), labels[:30] + np.uint8(1)
    for file, content in zip(data.SOURCES["mnist"].files, contents, strict=True):
        put("mnist", file, idx(content))
    return torch.from_numpy(labels).long()


def fake_static(put, suffix="", **kwargs):
    parts = [np.random.RandomState(n).randint(0, 2, (n, 784)) for n in (7, 3, 4)]
    for file, part in zip(data.SOURCES["mnist-static"].files, parts, strict=True):
        path = put("mnist-static", file, amat(part), **kwargs)
        if suffix:
            path.with_name(file + suffix).write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    return parts


def fake_omniglot(put, tmp_path):
    """chardata.mat with 1,400 + 20 random images, stored as MATLAB does: columns first."""
    savemat = pytest.importorskip("scipy.io").savemat
    rng = np.random.RandomState(0)
    images, test = rng.rand(1400, 28, 28), rng.rand(20, 28, 28)
    alphabet, test_alphabet = rng.randint(0, 50, 1400), rng.randint(0, 50, 20)
    content = {
        "data": images.transpose(2, 1, 0).reshape(784, -1),
        "testdata": test.transpose(2, 1, 0).reshape(784, -1),
        "target": np.eye(50)[:, alphabet],
        "testtarget": np.eye(50)[:, test_alphabet],
    }
    savemat(tmp_path / "made.mat", content)
    put("omniglot", "chardata.mat", (tmp_path / "made.mat").read_bytes())
    return images, alphabet, test, test_alphabet


def fake_drawings(tmp_path, characters=70):
    """Drawings with ink in rows 15–29 and columns 0–1 only."""
    paper = np.ones((characters, 20, 105, 105), bool)
    paper[..., 15:30, 0:2] = False
    labels = np.repeat(np.arange(characters)[:, None], 20, 1)
    folder = tmp_path / "omniglot"
    folder.mkdir(exist_ok=True)
    for part in "background", "evaluation":
        path = folder / f"images_{part}_105x105.npz"
        np.savez_compressed(path, images=paper, labels=labels)
    return path


def check(dataset):
    """What every data set promises."""
    for part in "train", "valid", "test":
        x, labels = getattr(dataset, part), getattr(dataset, f"{part}_labels")
        assert x.dtype == torch.float32
        assert x.ndim == 2
        assert x.is_contiguous()
        assert x.shape[1] == torch.Size(dataset.image_shape).numel()
        assert x.min() >= 0
        assert x.max() <= 1
        if labels is not None:
            assert labels.dtype == torch.int64
            assert labels.shape == (len(x),)
    assert isinstance(dataset.image_shape, tuple)
    assert dataset.source
    assert len(repr(dataset)) < 120
    assert dataset.name in repr(dataset)
    return dataset


# digits


def test_digits_are_split_without_overlap_or_loss():
    sklearn = pytest.importorskip("sklearn.datasets")
    digits = check(data.load("digits"))
    assert (len(digits.train), len(digits.valid), len(digits.test)) == (1297, 250, 250)
    assert digits.image_shape == (8, 8)

    images = torch.cat([digits.train, digits.valid, digits.test])
    labels = torch.cat([digits.train_labels, digits.valid_labels, digits.test_labels])
    split = {(*x.tolist(), y.item()) for x, y in zip(images * 16, labels, strict=True)}
    raw = sklearn.load_digits()
    assert split == {(*x, y) for x, y in zip(raw.data, raw.target, strict=True)}
    assert len(split) == 1797  # all different: so no image is in two splits
    for part in digits.train_labels, digits.valid_labels, digits.test_labels:
        assert part.bincount(minlength=10).min() >= 0.5 * len(part) / 10


def test_digits_are_the_same_for_everyone():
    digits, again = data.load("digits"), data.load("digits")
    assert torch.equal(digits.train, again.train)
    assert digits.train_labels[:10].tolist() == [2, 8, 2, 6, 6, 7, 1, 9, 8, 5]


def test_dataset_is_frozen():
    with pytest.raises(AttributeError):
        data.load("digits").train = None


@pytest.mark.parametrize(
    ("name", "near"),
    [("MNIST", "mnist"), ("mnist_static", "mnist-static"), ("digit", "digits"), (None, None)],
)
def test_unknown_name(name, near):
    with pytest.raises(ValueError, match=", ".join(data.SOURCES)) as error:
        data.load(name)
    assert repr(name) in str(error.value)
    assert ("Did you mean" in str(error.value)) == bool(near)
    assert not near or f"Did you mean {near!r}?" in str(error.value)


# Files in a folder


def test_mnist(put, tmp_path):
    labels = fake_mnist(put)
    mnist = check(data.load("mnist", tmp_path))
    assert mnist.image_shape == (2, 3)
    assert torch.equal(mnist.train_labels, labels[:20])
    assert torch.equal(mnist.valid_labels, labels[20:])
    for part in "train", "valid", "test":  # each image belongs to its label
        x, y = getattr(mnist, part), getattr(mnist, f"{part}_labels")
        assert torch.equal(x, (y / 255)[:, None].expand(-1, 6))
    assert torch.equal(mnist.test_labels, labels[:30] + 1)


def test_gzipped_mnist_is_read_and_verified_as_the_plain_files_are(put, tmp_path):
    labels = fake_mnist(put)
    packed = tmp_path / "mnist" / "train-images-idx3-ubyte.gz"
    for path in list((tmp_path / "mnist").iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert torch.equal(data.load("mnist", tmp_path).train_labels, labels[:20])
    packed.write_bytes(gzip.compress(gzip.decompress(packed.read_bytes())[:-1] + b"x"))
    with pytest.raises(data.DataError, match=r"train-images-idx3-ubyte\.gz is corrupt: expected md5"):
        data.load("mnist", tmp_path)


def test_an_image_comes_out_upright(put, tmp_path):
    fake_mnist(put)
    image = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    put("mnist", "t10k-images-idx3-ubyte", idx(image))
    put("mnist", "t10k-labels-idx1-ubyte", idx(np.array([9], np.uint8)))
    test = data.load("mnist", tmp_path).test
    assert (test.reshape(2, 3) * 255).round().tolist() == image[0].tolist()


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_static_mnist_plain_or_gzipped(put, tmp_path, suffix):
    parts = fake_static(put, suffix)
    static = check(data.load("mnist-static", tmp_path))
    assert static.image_shape == (28, 28)
    for x, part in zip((static.train, static.valid, static.test), parts, strict=True):
        assert torch.equal(x, torch.from_numpy(part).float())
    assert static.train_labels is static.valid_labels is static.test_labels is None


def test_omniglot(put, tmp_path, recwarn):
    images, alphabet, test, test_alphabet = fake_omniglot(put, tmp_path)
    fake_drawings(tmp_path)  # chardata.mat goes before the drawings, without a warning
    omniglot = check(data.load("omniglot", tmp_path))
    assert not recwarn.list
    assert (len(omniglot.train), len(omniglot.valid), len(omniglot.test)) == (55, 1345, 20)
    # Burda et al.'s code: RandomState(123), the last 1,345 for validation.
    order = np.random.RandomState(123).permutation(1400)
    rows = torch.from_numpy(images[order].reshape(-1, 784)).float()
    assert torch.equal(torch.cat([omniglot.train, omniglot.valid]), rows)
    assert omniglot.train_labels.tolist() == alphabet[order][:55].tolist()
    assert omniglot.valid_labels.tolist() == alphabet[order][55:].tolist()
    assert torch.equal(omniglot.test, torch.from_numpy(test.reshape(-1, 784)).float())
    assert omniglot.test_labels.tolist() == test_alphabet.tolist()


def test_omniglot_from_drawings_is_never_silent(tmp_path):
    fake_drawings(tmp_path)
    with pytest.warns(UserWarning, match=r"chardata\.mat") as warned:
        omniglot = check(data.load("omniglot", tmp_path))
    assert warned[0].filename == __file__  # it points at the caller
    assert "IWAE Table 1" in str(warned[0].message)
    assert "drawings" in omniglot.source
    assert (len(omniglot.train), len(omniglot.valid), len(omniglot.test)) == (55, 1345, 1400)
    assert omniglot.train_labels.max() < omniglot.test_labels.min()
    # Rows 15–29 of 105 are exactly rows 4–7 of 28; columns 0–1 cover 2/3.75 of the first.
    expected = torch.zeros(28, 28)
    expected[4:8, 0] = 2 / 3.75
    torch.testing.assert_close(omniglot.test, expected.flatten().expand(1400, -1))


def test_a_full_sheet_of_ink_is_exactly_one(tmp_path):
    path = fake_drawings(tmp_path)
    np.savez_compressed(path, images=np.zeros((1, 20, 105, 105), bool), labels=np.zeros((1, 20)))
    with pytest.warns(UserWarning, match="drawings"):
        assert (data.load("omniglot", tmp_path).test == 1).all()


@pytest.mark.parametrize("paper", [True, np.uint8(1), np.uint8(255), 1.0, 255.0], ids=repr)
def test_drawings_of_any_type_lie_between_0_and_1(tmp_path, paper):
    path = fake_drawings(tmp_path)
    images = np.full((1, 20, 105, 105), paper)
    images[..., :15, :] = 0
    np.savez_compressed(path, images=images, labels=np.zeros((1, 20)))
    with pytest.warns(UserWarning, match="drawings"):
        test = check(data.load("omniglot", tmp_path)).test.reshape(-1, 28, 28)
    assert (test[:, :4] == 1).all() and (test[:, 4:] == 0).all()


def test_broken_drawings(tmp_path):
    path = fake_drawings(tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(data.DataError, match=r"images_evaluation_105x105\.npz"):
        data.load("omniglot", tmp_path)


def test_folder_then_variable_then_cache(put, tmp_path, monkeypatch):
    for place in "folder", "variable", "cache/vaelearn":
        fake_static(put, folder=tmp_path / place)
    first = {}
    for place in "folder", "variable", "cache/vaelearn":  # mark each by its first pixels
        image = np.random.RandomState(len(place)).randint(0, 2, (1, 784))
        first[place] = torch.from_numpy(image).float()
        path = tmp_path / place / "mnist-static" / "binarized_mnist_test.amat"
        path.write_bytes(amat(image))
    monkeypatch.setattr(files, "verify", lambda where, raw, expected: raw)
    assert torch.equal(data.load("mnist-static").test, first["cache/vaelearn"])
    monkeypatch.setenv("VAELEARN_DATA", str(tmp_path / "variable"))
    assert torch.equal(data.load("mnist-static").test, first["variable"])
    assert torch.equal(data.load("mnist-static", tmp_path / "folder").test, first["folder"])


def test_corrupt_file_names_itself_both_checksums_and_the_cure(put, tmp_path):
    fake_static(put)
    path = tmp_path / "mnist-static" / "binarized_mnist_valid.amat"
    path.write_bytes(path.read_bytes().replace(b"1", b"0"))
    with pytest.raises(data.DataError, match=r"corrupt.*Delete it and load again") as error:
        data.load("mnist-static", tmp_path)
    found = hashlib.md5(path.read_bytes()).hexdigest()
    for part in str(path), found, data.SOURCES["mnist-static"].files[path.name]:
        assert part in str(error.value)
    assert path.exists()  # deleting is the owner's decision


def test_gzipped_content_is_verified_too(put, tmp_path):
    fake_static(put, ".gz")
    path = tmp_path / "mnist-static" / "binarized_mnist_valid.amat.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"1", b"0")))
    with pytest.raises(data.DataError, match=r"amat\.gz is corrupt.*Delete it"):
        data.load("mnist-static", tmp_path)


def test_broken_gzip(put, tmp_path):
    fake_static(put, ".gz")
    path = tmp_path / "mnist-static" / "binarized_mnist_train.amat.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(data.DataError, match=r"amat\.gz is corrupt.*broken gzip.*Delete it"):
        data.load("mnist-static", tmp_path)


def test_git_blob_id():
    empty = "git-blob e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"  # git hash-object /dev/null
    assert files.verify("", b"", empty) == b""
    with pytest.raises(data.DataError, match="e69de29"):
        files.verify("", b"x", empty)


# Downloads


def test_download_into_the_folder_once(put, serve, tmp_path, monkeypatch, capfd):
    url, web = serve()
    parts = fake_static(put, folder=web)
    change(monkeypatch, "mnist-static", mirrors=(url + "mnist-static/{file}",))
    static = data.load("mnist-static", tmp_path / "mine")
    assert torch.equal(static.valid, torch.from_numpy(parts[1]).float())
    assert "100%" in capfd.readouterr().err  # the progress bar
    here = sorted(p.name for p in (tmp_path / "mine" / "mnist-static").iterdir())
    assert here == sorted(data.SOURCES["mnist-static"].files)  # nothing else left behind
    change(monkeypatch, "mnist-static", mirrors=())
    assert torch.equal(data.load("mnist-static", tmp_path / "mine").test, static.test)


def test_download_into_the_cache(put, serve, tmp_path, monkeypatch):
    url, web = serve()
    fake_static(put, folder=web)
    change(monkeypatch, "mnist-static", mirrors=(url + "mnist-static/{file}",))
    data.load("mnist-static")
    assert (tmp_path / "cache/vaelearn/mnist-static/binarized_mnist_test.amat").exists()


@pytest.mark.parametrize("trouble", ["missing", "wrong content", "nobody there"])
def test_second_mirror(put, serve, tmp_path, monkeypatch, trouble):
    (bad, bad_web), (good, good_web) = serve(), serve()
    parts = fake_static(put, folder=good_web)
    if trouble == "wrong content":
        (bad_web / "mnist-static").mkdir()
        for file in data.SOURCES["mnist-static"].files:
            (bad_web / "mnist-static" / file).write_bytes(b"<html>sign in to this network</html>")
    nobody = data.SOURCES["mnist-static"].mirrors[0]
    first = nobody if trouble == "nobody there" else bad + "mnist-static/{file}"
    change(monkeypatch, "mnist-static", mirrors=(first, good + "mnist-static/{file}"))
    static = data.load("mnist-static", tmp_path / "mine")
    assert torch.equal(static.train, torch.from_numpy(parts[0]).float())


def test_a_packed_download_is_verified_unpacked_and_kept_packed(put, serve, tmp_path, monkeypatch):
    url, web = serve()
    fake_static(put, ".gz", folder=web)
    change(monkeypatch, "mnist-static", mirrors=(url + "mnist-static/{file}.gz",))
    static = data.load("mnist-static", tmp_path / "mine")
    here = sorted(path.name for path in (tmp_path / "mine" / "mnist-static").iterdir())
    assert here == sorted(name + ".gz" for name in data.SOURCES["mnist-static"].files)
    change(monkeypatch, "mnist-static", mirrors=())
    assert torch.equal(data.load("mnist-static", tmp_path / "mine").test, static.test)


REAL = dict(data.SOURCES)


@pytest.mark.parametrize("name", REAL)
def test_every_source_has_two_addresses_a_checksum_for_each_file_and_a_line_in_the_table(name):
    source = REAL[name]
    assert not source.files or len({url.split("/")[2] for url in source.mirrors}) >= 2
    for file, expected in source.files.items():
        assert len(expected.split()[1]) == {"md5": 32, "git-blob": 40}[expected.split()[0]]
        for url in source.mirrors:
            assert file in url.format(file=file) or expected.split()[1] in url
    assert f"\n    {name} " in data.load.__doc__


def test_wrong_download_leaves_no_file(put, serve, tmp_path, monkeypatch):
    url, web = serve()
    fake_static(put, folder=web)
    expect(monkeypatch, "mnist-static", "binarized_mnist_train.amat", b"something else")
    change(monkeypatch, "mnist-static", mirrors=(url + "mnist-static/{file}",))
    with pytest.raises(data.DataError) as error:
        data.load("mnist-static", tmp_path / "mine")
    served = (web / "mnist-static" / "binarized_mnist_train.amat").read_bytes()
    for part in url, hashlib.md5(served).hexdigest(), hashlib.md5(b"something else").hexdigest():
        assert part in str(error.value)
    assert list((tmp_path / "mine" / "mnist-static").iterdir()) == []


def test_cut_download_leaves_no_file(serve, tmp_path, monkeypatch):
    url, _ = serve()
    change(monkeypatch, "mnist-static", mirrors=(url + "{file}",), files={"cut.amat": "md5 0"})
    with pytest.raises(data.DataError, match=r"cut\.amat"):
        data.load("mnist-static", tmp_path)
    assert list((tmp_path / "mnist-static").iterdir()) == []


def test_no_network_says_what_where_and_how(tmp_path):
    with pytest.raises(data.DataError, match="missing and could not be downloaded") as error:
        data.load("omniglot", tmp_path)
    for part in (
        str(tmp_path / "omniglot" / "chardata.mat"),
        data.SOURCES["omniglot"].mirrors[0].format(file="chardata.mat"),
        "git-blob 016a3536ffe5e1d38e42563a18d7a78bfaf643ec",
        "VAELEARN_DATA",
    ):
        assert part in str(error.value)


def test_folder_that_cannot_be_written(put, serve, tmp_path, monkeypatch):
    url, web = serve()
    fake_static(put, folder=web)
    change(monkeypatch, "mnist-static", mirrors=(url + "mnist-static/{file}",))
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(data.DataError, match="missing and could not be downloaded"):
        data.load("mnist-static", tmp_path / "file")


# Optional packages


@pytest.mark.parametrize(
    ("name", "module"),
    [("digits", "sklearn.datasets"), ("omniglot", "scipy.io"), ("mnist", "pooch")],
)
def test_missing_package_says_what_to_install(put, tmp_path, monkeypatch, name, module):
    if name == "omniglot":
        fake_omniglot(put, tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r'pip install "vaelearn\[data\]"') as error:
        data.load(name, tmp_path)
    assert module in str(error.value)


def test_optional_packages_load_on_use_only():
    code = "import sys, vaelearn.data; print({'sklearn', 'scipy', 'pooch'} & set(sys.modules))"
    root = Path(data.__file__).parents[1]
    ran = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert ran.stdout.strip() == "set()", ran.stderr


# binarize


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_binarize_draws_one_with_probability_x(dtype):
    n = 100_000
    x = torch.tensor([0.0, 0.02, 0.3, 0.9, 1.0], dtype=dtype)
    draws = data.binarize(x.expand(n, -1), generator())
    assert draws.dtype == dtype
    assert draws.shape == (n, 5)
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    error = (x * (1 - x) / n).sqrt()  # a Bernoulli mean's; 0 where x is 0 or 1
    assert ((draws.mean(0) - x).abs() <= 4.5 * error).all()


def test_binarize_draws_pixels_independently():
    draws = data.binarize(torch.full((100_000, 2), 0.5), generator())
    assert abs(torch.corrcoef(draws.T)[0, 1]) < 4.5 / 100_000**0.5


def test_binarize_repeats_with_its_generator_and_leaves_the_global_one_alone():
    x = torch.rand(50, 4, generator=generator(1))
    state = torch.get_rng_state()
    same = torch.equal(data.binarize(x, generator()), data.binarize(x, generator()))
    assert same
    assert torch.equal(torch.get_rng_state(), state)
    one = generator()
    assert not torch.equal(data.binarize(x, one), data.binarize(x, one))  # dynamic
    torch.manual_seed(3)
    first = data.binarize(x)
    torch.manual_seed(3)
    assert torch.equal(first, data.binarize(x))


@pytest.mark.parametrize("bad", [-0.1, 1.001, 255.0, float("nan"), float("inf")])
def test_binarize_refuses_what_is_no_probability(bad):
    with pytest.raises(ValueError, match=rf"\[0, 1\]; got {bad:g}"):
        data.binarize(torch.tensor([[0.5, bad]]))


def test_binarize_refuses_integers():
    with pytest.raises(TypeError, match="uint8"):
        data.binarize(torch.tensor([0, 1], dtype=torch.uint8))


# The real files, where VAELEARN_DATA has them


@pytest.mark.parametrize(
    ("name", "sizes", "mean"),
    [
        ("mnist", (50_000, 10_000, 10_000), 0.1310),
        ("mnist-static", (50_000, 10_000, 10_000), 0.1306),
    ],
)
def test_real_files(name, sizes, mean):
    if not (REAL_FILES and (Path(REAL_FILES) / name).is_dir()):
        pytest.skip(f"needs the real {name}: let VAELEARN_DATA name a folder that has {name}/")
    real = check(data.load(name, REAL_FILES))
    assert (len(real.train), len(real.valid), len(real.test)) == sizes
    assert real.image_shape == (28, 28)
    assert real.train.mean().item() == pytest.approx(mean, abs=1e-4)
    if name == "mnist":
        assert real.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
        assert real.test_labels[:5].tolist() == [7, 2, 1, 0, 4]
