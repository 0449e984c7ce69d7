"""The book's images as tensors: digits, MNIST, static MNIST, OMNIGLOT.

    vl.data.load("digits")        # inside scikit-learn: nothing to download
    vl.data.load("mnist")         # read from a folder, or downloaded into it

Files live in `<folder>/<name of the data set>/`. The folder is the argument `folder`, else the
environment variable VAELEARN_DATA, else pooch's cache; a file that is not there is downloaded into
it. Every file is checked against a published checksum each time it is read.
"""

import difflib
import gzip
import hashlib
import importlib
import io
import os
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .checkpoint import crc

MIRRORS = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    ),
    "mnist-static": ("http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",),
    "omniglot": ("https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/",),
}
CHECKSUMS = {
    "mnist": {
        "train-images-idx3-ubyte.gz": "md5 f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "md5 d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "md5 9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "md5 ec29112dd5afa0611ce80d1b7f02629c",
    },
    "mnist-static": {
        "binarized_mnist_train.amat": "md5 db28b1a6ae0fe70cbd3da91acf46e477",
        "binarized_mnist_valid.amat": "md5 bf37822a04e94123630de6a7dfd9c9ef",
        "binarized_mnist_test.amat": "md5 14e41ae11040adba6ab8cb291eda0dd8",
    },
    # Known by the name git gives its content: the SHA-1 of a short header and the file.
    "omniglot": {"chardata.mat": "git-blob 016a3536ffe5e1d38e42563a18d7a78bfaf643ec"},
}


class DataError(RuntimeError):
    """A data file is missing, corrupt or out of reach; the message says which, and what to do."""


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Images in rows: train, valid and test are float32 (N, D) in [0, 1], D = prod(image_shape).

    Labels are int64 (N,), or None where the source has none. `source` says where the images come
    from and how they were split.
    """

    name: str
    train: Tensor
    valid: Tensor
    test: Tensor
    image_shape: tuple[int, ...]
    train_labels: Tensor | None = None
    valid_labels: Tensor | None = None
    test_labels: Tensor | None = None
    source: str = ""

    def __repr__(self):
        sizes = f"train {len(self.train):,}, valid {len(self.valid):,}, test {len(self.test):,}"
        return f"Dataset({self.name}: {sizes}; images {'×'.join(map(str, self.image_shape))})"


class Rows:
    """What `fit` reads x from: rows for an index tensor, in the dtype and on the device of `like`.

    A tensor must have that dtype. Anything else (a NumPy array, a memory-mapped file, an object with a
    length and rows for an index tensor) is read, and converted, a batch at a time.
    Raises ValueError for what gives no rows, TypeError for integers.
    """

    def __init__(self, source, like: Tensor, name: str = "data"):
        self.source, self.like, self.name = source, like, name
        if isinstance(source, Tensor):
            self.source = source.detach()
        try:
            first = self.read(torch.arange(min(1, len(source))))
            if not isinstance(first, Tensor | np.ndarray):
                raise TypeError(f"it gives a {type(first).__name__}")
        except Exception as problem:
            pairs = isinstance(source, torch.utils.data.DataLoader | torch.utils.data.Dataset)
            how = "cat" if isinstance(source, torch.utils.data.DataLoader) else "stack"
            line = f"This makes a tensor of the images alone: torch.{how}([x for x, *_ in data])"
            raise ValueError(
                f"{name} must be a Dataset or a tensor (N, D), an array, or what has a length and gives "
                f"rows of x for an index tensor; got {type(source).__name__}. "
                + (line if pairs else f"({problem})")
            ) from problem
        if not torch.as_tensor(first).is_floating_point():
            raise TypeError(
                f"{name} must be of the model's dtype, {like.dtype}; got {first.dtype}. For 0 … 255 as "
                "[0, 1] pass vaelearn.data.Scaled(x, 255), which scales a batch at a time"
            )

    def read(self, index: Tensor):
        # NumPy takes an index tensor of one entry for a number, so one row is asked for twice.
        return self.source[index.expand(2)][:1] if len(index) == 1 else self.source[index]

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index: Tensor) -> Tensor:
        if isinstance(self.source, Tensor):
            return self.source[index.to(self.source.device)]
        return torch.as_tensor(self.read(index)).detach().to(self.like.device, self.like.dtype)

    def to(self, device: str) -> None:
        if isinstance(self.source, Tensor):
            self.source = self.source.to(device)

    def pieces(self) -> Iterator[Tensor]:
        """All rows in turn, a few at a time."""
        return (self[index] for index in torch.arange(len(self)).split(1000))

    def check(self, model) -> None:
        """Raise as `model.check_data` for the first rows that cannot be used."""
        for x in self.pieces():
            model.check_data(x)

    def checksum(self) -> str:
        total = 0
        for x in self.pieces():
            total = crc(x, total)
        return f"{(len(self), *x.shape[1:])} {x.dtype} {total:08x}"


@dataclass(frozen=True, eq=False)
class Scaled:
    """Integers 0 … maximum as float32 in [0, 1], a batch at a time: an array or a memory-mapped file of any
    size stays as it is."""

    source: np.ndarray | Tensor
    maximum: float = 255

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index: Tensor) -> Tensor:
        return torch.as_tensor(self.source[index]) / self.maximum


def load(name: str, folder: str | os.PathLike | None = None) -> Dataset:
    """The data set of that name.

    ==============  =======================  ======  ======================================
    name            train / valid / test     pixels  labels
    ==============  =======================  ======  ======================================
    digits           1,297 /    250 /   250  8×8     digit 0–9
    mnist           50,000 / 10,000 / 10,000 28×28   digit 0–9
    mnist-static    50,000 / 10,000 / 10,000 28×28   none (pixels 0 or 1; test sorted by class)
    omniglot        23,000 /  1,345 /  8,070 28×28   alphabet 0–49
    ==============  =======================  ======  ======================================

    `folder` holds one folder a data set ("mnist/", "mnist-static/", "omniglot/"); see the module's
    first lines for its default. "digits" needs no files. Where omniglot/ has the original drawings
    (images_{background,evaluation}_105x105.npz) and no chardata.mat, images are made from those,
    with a warning: another resize, another split, 17,935 / 1,345 / 13,180.

    Raises ValueError for an unknown name; DataError for a file that is corrupt, or missing and not
    to be had; ImportError where an optional package is missing.
    """
    if name not in _LOADERS:
        near = difflib.get_close_matches(str(name).lower(), _LOADERS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no data set {name!r}.{hint} There are: {', '.join(_LOADERS)}")
    return _LOADERS[name](folder)


def binarize(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One Bernoulli draw a pixel: 1 with probability x, else 0. Shape and dtype of x, any shape.

    Called afresh on every batch this is *dynamic* binarization; called once, the fixed kind. They
    are different data sets. The draw is made on the generator's device, so that a CPU generator
    gives the same images whatever device x is on.

    Raises TypeError where x is not floating, ValueError where it is not in [0, 1].
    """
    if not x.is_floating_point():
        raise TypeError(f"binarize: x must be a floating tensor of probabilities; got {x.dtype}")
    inside = (x >= 0) & (x <= 1)  # False for NaN too
    if not inside.all():
        raise ValueError(f"binarize: x must lie in [0, 1]; got {x[~inside][0].item():g}")
    device = generator.device if generator else x.device
    uniform = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=device)
    return (uniform.to(x.device) < x).to(x.dtype)  # uniform is in [0, 1): 0 stays 0, 1 stays 1


# The four data sets


def _digits(folder) -> Dataset:
    digits = _require("sklearn.datasets").load_digits()
    # numpy never changes RandomState's stream: the same split for everyone.
    order = np.random.RandomState(0).permutation(len(digits.data))
    images, labels = _rows(digits.data[order], scale=16), _labels(digits.target[order])
    return _hold_out(
        250,
        "digits",
        (images[:-250], labels[:-250]),
        (images[-250:], labels[-250:]),
        (8, 8),
        "UCI handwritten digits (Alpaydin & Kaynak 1998) as bundled with scikit-learn; grey levels "
        "0–16 divided by 16; shuffled with seed 0, the last 250 test, the 250 before validation",
    )


def _mnist(folder) -> Dataset:
    train, train_labels, test, test_labels = (
        _idx(gzip.decompress(_read("mnist", file, folder))) for file in CHECKSUMS["mnist"]
    )
    return _hold_out(
        10_000,
        "mnist",
        (_rows(train, scale=255), _labels(train_labels)),
        (_rows(test, scale=255), _labels(test_labels)),
        train.shape[1:],
        "MNIST (LeCun, Cortes & Burges 1998); grey levels 0–255 divided by 255; "
        "the last 10,000 training images are the validation set",
    )


def _mnist_static(folder) -> Dataset:
    parts = []
    for file in CHECKSUMS["mnist-static"]:
        # The text is "0 1 0 … 0\n": a digit in every even byte, so there is nothing to parse.
        digits = np.frombuffer(_read("mnist-static", file, folder), np.uint8)[::2]
        parts.append(_rows((digits - ord("0")).reshape(-1, 784)))
    return Dataset(
        "mnist-static",
        *parts,
        (28, 28),
        source="MNIST binarized once and for all (Larochelle & Murray 2011); no labels; "
        "the test images are sorted by class: shuffle before taking a part of them",
    )


def _omniglot(folder) -> Dataset:
    home = _root(folder) / "omniglot"
    drawings = [home / f"images_{part}_105x105.npz" for part in ("background", "evaluation")]
    if not (home / "chardata.mat").exists() and all(path.exists() for path in drawings):
        return _omniglot_drawings(*drawings)
    raw = _read("omniglot", "chardata.mat", folder)
    file = _require("scipy.io").loadmat(io.BytesIO(raw))

    def part(images, alphabets):  # (784, N), each image column by column; one-hot (50, N)
        upright = file[images].T.reshape(-1, 28, 28).transpose(0, 2, 1)
        return _rows(upright), _labels(file[alphabets].argmax(0))

    return _hold_out(
        1345,
        "omniglot",
        _shuffle(*part("data", "target")),
        part("testdata", "testtarget"),
        (28, 28),
        "OMNIGLOT (Lake et al. 2015) as resized and split by Burda et al. 2016; as in their code, "
        "training images shuffled with seed 123, the last 1,345 of them for validation",
    )


def _omniglot_drawings(background: Path, evaluation: Path) -> Dataset:
    """A stand-in for chardata.mat from the original 105×105 drawings, where True is paper."""
    # overlap[i, j]: how much of old pixel j lies in new pixel i, which is 3.75 old ones wide.
    edges = np.arange(29)[:, None] * 3.75
    overlap = np.diff(np.clip(edges - np.arange(105), 0, 1), axis=0).astype(np.float32)

    def part(path):
        try:
            with path.open("rb") as opened, np.load(opened) as file:
                paper, labels = file["images"], file["labels"]
            ink = [overlap @ (~character).astype(np.float32) @ overlap.T for character in paper]
            return _rows(np.concatenate(ink), scale=3.75**2), _labels(labels.reshape(-1))
        except Exception as problem:  # a broken archive fails in a dozen ways
            raise DataError(f"{path} cannot be read as OMNIGLOT drawings: {problem!r}") from problem

    train, (test, test_labels) = part(background), part(evaluation)
    source = (
        "OMNIGLOT's original drawings (Lake et al. 2015) averaged down to 28×28, ink = 1; training "
        "and validation from the background set (shuffled with seed 123, the last 1,345 for "
        "validation), test the evaluation set, which has other alphabets; labels are characters. "
        "Neither the images nor the split of Burda et al. 2016: likelihoods do not compare with "
        "IWAE Table 1 or other published ones"
    )
    warnings.warn(
        f"no chardata.mat in {background.parent}, so these are {source}. "
        f"For theirs put {MIRRORS['omniglot'][0]}chardata.mat there.",
        stacklevel=4,  # the line that called load
    )
    test = test, test_labels + 1 + train[1].max()  # both files number their characters from 0
    return _hold_out(1345, "omniglot", _shuffle(*train), test, (28, 28), source)


_LOADERS = {
    "digits": _digits,
    "mnist": _mnist,
    "mnist-static": _mnist_static,
    "omniglot": _omniglot,
}


# From arrays to tensors


def _rows(images: np.ndarray, scale: float = 1) -> Tensor:
    """(N, ...) with values in [0, scale] -> float32 (N, D) in [0, 1]."""
    rows = images.reshape(len(images), -1).astype(np.float32, order="C")
    return torch.from_numpy(rows).div_(scale)


def _labels(labels: np.ndarray) -> Tensor:
    return torch.from_numpy(labels.astype(np.int64))


def _shuffle(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Rows in the order that Burda et al.'s code gives them."""
    order = np.random.RandomState(123).permutation(len(images))
    return images[order], labels[order]


def _hold_out(n: int, name: str, train, test, image_shape, source: str) -> Dataset:
    """The last n of train become the validation set. train, test: (images, labels)."""
    (x, y), (test, test_labels) = train, test
    return Dataset(name, x[:-n], x[-n:], test, image_shape, y[:-n], y[-n:], test_labels, source)


def _idx(raw: bytes) -> np.ndarray:
    """The uint8 array in an IDX file: 0, 0, type, rank, then big-endian sizes, then the values."""
    shape = np.frombuffer(raw, ">i4", count=raw[3], offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


# Files: found, downloaded, verified


def _root(folder) -> Path:
    folder = folder or os.environ.get("VAELEARN_DATA") or _require("pooch").os_cache("vaelearn")
    return Path(folder).expanduser()


def _read(name: str, file: str, folder) -> bytes:
    """The verified content of a file: from the folder, plain or gzipped, else from the network."""
    path, expected = _root(folder) / name / file, CHECKSUMS[name][file]
    zipped = path.with_name(file + ".gz")
    if path.exists():
        return _verify(path, path.read_bytes(), expected)
    if not zipped.exists():
        return _download(path, expected, [mirror + file for mirror in MIRRORS[name]])
    try:
        return _verify(zipped, gzip.decompress(zipped.read_bytes()), expected)
    except (gzip.BadGzipFile, EOFError, zlib.error) as problem:
        raise _corrupt(zipped, expected, f"a broken gzip file ({problem})") from problem


def _download(path: Path, expected: str, urls: list[str]) -> bytes:
    """Try each address; only a complete, verified file ever gets the name `path`."""
    pooch, problems = _require("pooch"), ""
    for url in urls:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
                part = Path(scratch) / path.name
                pooch.HTTPDownloader(progressbar=True, chunk_size=2**16)(url, str(part), None)
                raw = _verify(url, part.read_bytes(), expected)
                part.replace(path)
            return raw
        except (OSError, DataError) as problem:
            problems += f"\n  {url}: {problem}"
    raise DataError(
        f"{path} is missing and could not be downloaded:{problems}\nFetch it by other means "
        f"(expected {expected}) and put it there, or let the environment variable VAELEARN_DATA "
        f"name a folder that holds {path.parent.name}/{path.name}."
    )


def _verify(where: Path | str, raw: bytes, expected: str) -> bytes:
    """`raw` itself, if its checksum is the expected one ("md5 …" or "git-blob …")."""
    kind = expected.split()[0]
    if kind == "md5":
        found = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    else:
        found = hashlib.sha1(b"blob %d\0" % len(raw) + raw, usedforsecurity=False).hexdigest()
    if expected != f"{kind} {found}":
        raise _corrupt(where, expected, f"{kind} {found}")
    return raw


def _corrupt(where: Path | str, expected: str, found: str) -> DataError:
    advice = "Delete it and load again." if isinstance(where, Path) else ""
    return DataError(f"{where} is corrupt: expected {expected}, found {found}. {advice}".strip())


def _require(module: str):
    """Import an optional package, only when a data set needs it."""
    try:
        return importlib.import_module(module)
    except ImportError as problem:
        raise ImportError(f'{module} is needed here: pip install "vaelearn[data]"') from problem
