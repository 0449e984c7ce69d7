"""The book's images as tensors: digits, MNIST, static MNIST, OMNIGLOT; and rows of your own for `fit`.

    vl.data.load("digits")        # inside scikit-learn: nothing to download
    vl.data.load("mnist")         # read from a folder, or downloaded into it

Files live in `<folder>/<name of the data set>/`. The folder is the argument `folder`, else the
environment variable VAELEARN_DATA, else pooch's cache; a file that is not there is downloaded into
it. Every file is checked against a published checksum each time it is read.
"""

import difflib
import io
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import files
from .checkpoint import crc
from .files import DataError, require


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
        self.like = self.like.new_empty(0, device=device)
        if isinstance(self.source, Tensor):
            self.source = self.source.to(device)

    def pieces(self) -> Iterator[Tensor]:
        """All rows in turn, a few at a time."""
        return (self[index] for index in torch.arange(len(self)).split(1000))

    def check(self, model, binarize: bool = False) -> None:
        """Raise as `model.check_data`, and as `binarize`, for the first rows that cannot be used."""
        for x in self.pieces():
            model.check_data(x)
            if binarize:
                check_probabilities(x)

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

    A file may lie there plain or gzipped. Raises ValueError for an unknown name; DataError for a file that
    is corrupt, or missing and not to be had; ImportError where an optional package is missing.
    """
    if name not in SOURCES:
        near = difflib.get_close_matches(str(name).lower(), SOURCES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"no data set {name!r}.{hint} There are: {', '.join(SOURCES)}")
    source, home = SOURCES[name], files.root(folder) / name if SOURCES[name].files else Path()
    contents = (files.read(home / file, expected, source.mirrors) for file, expected in source.files.items())
    return source.reader(name, contents, home)


def binarize(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One Bernoulli draw a pixel: 1 with probability x, else 0. Shape and dtype of x, any shape.

    Called afresh on every batch this is *dynamic* binarization; called once, the fixed kind. They
    are different data sets. The draw is made on the generator's device, so that a CPU generator
    gives the same images whatever device x is on.

    Raises TypeError where x is not floating, ValueError where it is not in [0, 1].
    """
    check_probabilities(x)
    return draw_pixels(x, generator)


def check_probabilities(x: Tensor) -> None:
    """Raise TypeError or ValueError unless every entry of x may be the probability of a 1."""
    if not x.is_floating_point():
        raise TypeError(f"binarize: x must be a floating tensor of probabilities; got {x.dtype}")
    inside = (x >= 0) & (x <= 1)  # False for NaN too
    if not inside.all():
        raise ValueError(f"binarize: x must lie in [0, 1]; got {x[~inside][0].item():.9g}")


def draw_pixels(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """`binarize` without a look at x, for which a GPU would wait: `fit` looks once, before it trains."""
    device = generator.device if generator else x.device
    uniform = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=device)
    return (uniform.to(x.device) < x).to(x.dtype)  # uniform is in [0, 1): 0 stays 0, 1 stays 1


@dataclass(frozen=True)
class Source:
    """Where a data set comes from. reader: a function (name, contents of the files in turn, folder) ->
    Dataset. files: name -> checksum of the plain content. mirrors: addresses, with {file} for the name."""

    reader: Callable[[str, Iterator[bytes], Path], Dataset]
    files: dict[str, str] = field(default_factory=dict)
    mirrors: tuple[str, ...] = ()


# A reader a data set


def _digits(name, contents, home) -> Dataset:
    digits = require("sklearn.datasets").load_digits()
    # numpy never changes RandomState's stream: the same split for everyone.
    order = np.random.RandomState(0).permutation(len(digits.data))
    images, labels = _rows(digits.data[order], scale=16), _labels(digits.target[order])
    return _hold_out(
        250,
        name,
        (images[:-250], labels[:-250]),
        (images[-250:], labels[-250:]),
        (8, 8),
        "UCI handwritten digits (Alpaydin & Kaynak 1998) as bundled with scikit-learn; grey levels "
        "0–16 divided by 16; shuffled with seed 0, the last 250 test, the 250 before validation",
    )


def _mnist(name, contents, home) -> Dataset:
    train, train_labels, test, test_labels = map(_idx, contents)
    return _hold_out(
        10_000,
        name,
        (_rows(train, scale=255), _labels(train_labels)),
        (_rows(test, scale=255), _labels(test_labels)),
        train.shape[1:],
        "MNIST (LeCun, Cortes & Burges 1998); grey levels 0–255 divided by 255; "
        "the last 10,000 training images are the validation set",
    )


def _mnist_static(name, contents, home) -> Dataset:
    # The text is "0 1 0 … 0\n": a digit in every even byte, so there is nothing to parse.
    digits = (np.frombuffer(raw, np.uint8)[::2] - ord("0") for raw in contents)
    return Dataset(
        name,
        *(_rows(part.reshape(-1, 784)) for part in digits),
        (28, 28),
        source="MNIST binarized once and for all (Larochelle & Murray 2011); no labels; "
        "the test images are sorted by class: shuffle before taking a part of them",
    )


def _omniglot(name, contents, home) -> Dataset:
    drawings = [home / f"images_{part}_105x105.npz" for part in ("background", "evaluation")]
    if not (home / "chardata.mat").exists() and all(path.exists() for path in drawings):
        return _omniglot_drawings(name, *drawings)
    file = require("scipy.io").loadmat(io.BytesIO(next(contents)))

    def part(images, alphabets):  # (784, N), each image column by column; one-hot (50, N)
        upright = file[images].T.reshape(-1, 28, 28).transpose(0, 2, 1)
        return _rows(upright), _labels(file[alphabets].argmax(0))

    return _hold_out(
        1345,
        name,
        _shuffle(*part("data", "target")),
        part("testdata", "testtarget"),
        (28, 28),
        "OMNIGLOT (Lake et al. 2015) as resized and split by Burda et al. 2016; as in their code, "
        "training images shuffled with seed 123, the last 1,345 of them for validation",
    )


def _omniglot_drawings(name: str, background: Path, evaluation: Path) -> Dataset:
    """A stand-in for chardata.mat from the original 105×105 drawings, where ink is 0 or False."""
    # overlap[i, j]: how much of old pixel j lies in new pixel i, which is 3.75 old ones wide.
    edges = np.arange(29)[:, None] * 3.75
    overlap = np.diff(np.clip(edges - np.arange(105), 0, 1), axis=0).astype(np.float32)

    def part(path):
        try:
            with path.open("rb") as opened, np.load(opened) as file:
                paper, labels = file["images"], file["labels"]
            ink = [overlap @ (character == 0).astype(np.float32) @ overlap.T for character in paper]
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
        f"For theirs put {SOURCES[name].mirrors[0].format(file='chardata.mat')} there.",
        stacklevel=4,  # the line that called load
    )
    test = test, test_labels + 1 + train[1].max()  # both files number their characters from 0
    return _hold_out(1345, name, _shuffle(*train), test, (28, 28), source)


SOURCES = {
    "digits": Source(_digits),
    "mnist": Source(
        _mnist,
        {
            "train-images-idx3-ubyte": "md5 6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "md5 a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "md5 2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "md5 27ae3e4e09519cfbb04c329615203637",
        },
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/{file}.gz",
            "https://storage.googleapis.com/cvdf-datasets/mnist/{file}.gz",
            "http://yann.lecun.com/exdb/mnist/{file}.gz",
        ),
    ),
    "mnist-static": Source(
        _mnist_static,
        {
            "binarized_mnist_train.amat": "md5 db28b1a6ae0fe70cbd3da91acf46e477",
            "binarized_mnist_valid.amat": "md5 bf37822a04e94123630de6a7dfd9c9ef",
            "binarized_mnist_test.amat": "md5 14e41ae11040adba6ab8cb291eda0dd8",
        },
        (
            "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/{file}",
            # A copy that Yin & Zhou keep beside the code of their paper of 2019, at a fixed commit.
            "https://raw.githubusercontent.com/mingzhang-yin/ARM-gradient/"
            "bac893cfcec486bbd00b755b12cf8402053b0e84/{file}",
        ),
    ),
    "omniglot": Source(
        _omniglot,
        {"chardata.mat": "git-blob 016a3536ffe5e1d38e42563a18d7a78bfaf643ec"},
        (
            "https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/{file}",
            # The archive of public code, by the content's own name.
            "https://archive.softwareheritage.org/api/1/content/"
            "sha1_git:016a3536ffe5e1d38e42563a18d7a78bfaf643ec/raw/",
        ),
    ),
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
