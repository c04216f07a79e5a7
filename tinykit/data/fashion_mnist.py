"""Fashion-MNIST."""

import gzip
import zlib
from pathlib import Path

import numpy as np

from tinykit.data.dataset import Dataset
from tinykit.data.download import Source, by_hand, fetch, megabytes
from tinykit.data.files import resolve
from tinykit.data.pairs import load_pair, write_split
from tinykit.errors import DataError
from tinykit.options import Options

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


SHAPE = (28, 28, 1)
URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
# Images and labels of train and test. Sizes and digests: those of tensorflow_datasets (url_checksums/fashion_mnist.txt).
SOURCES = {
    "train": (
        Source(f"{URL}/train-images-idx3-ubyte.gz", "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26_421_880),
        Source(f"{URL}/train-labels-idx1-ubyte.gz", "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29_515),
    ),
    "test": (
        Source(f"{URL}/t10k-images-idx3-ubyte.gz", "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4_422_102),
        Source(f"{URL}/t10k-labels-idx1-ubyte.gz", "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5_148),
    ),
}
MAX_SAMPLES = 60_000


class FashionMnistOptions(Options):
    """Options of `fashion_mnist`.

    Attributes:
        download: fetch the four files (31 MB) where they are absent (never with --quicktest).
    """

    download: bool = False


def read_idx(file: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Bytes [N, *shape] of a gzipped IDX file: 0, 0, 8 (bytes), the number of axes, big-endian sizes, values.

    Raises:
        DataError: the file is damaged, or holds something else.
    """
    item = int(np.prod(shape))
    head = 4 + 4 * (1 + len(shape))
    try:
        with gzip.open(file) as stream:
            content = stream.read(head + MAX_SAMPLES * item + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: cannot be unpacked: {error}") from error
    sizes = tuple(int(size) for size in np.frombuffer(content[4:head], ">u4")) if len(content) >= head else ()
    if content[:4] != bytes([0, 0, 8, 1 + len(shape)]) or sizes[1:] != shape or len(content) - head != sizes[0] * item:
        raise DataError(f"{file}: expected an IDX file of at most {MAX_SAMPLES} x {list(shape)} bytes, received sizes {list(sizes)}")
    return np.frombuffer(content, np.uint8, offset=head).reshape(sizes)


def make(absent: list[Path]) -> None:
    """Fetches Zalando's files and writes the absent ones of fashion_mnist_train.npz and fashion_mnist_test.npz.

    Raises:
        DataError: a file could not be fetched, or is damaged.
    """
    for path in absent:
        sources = SOURCES["test" if path.stem.endswith("test") else "train"]
        images, labels = (fetch(source.url, resolve(source.name), sha256=source.sha256, size=source.size) for source in sources)
        write_split(path, read_idx(images, SHAPE[:2])[..., np.newaxis], read_idx(labels, ()))


def load(options: FashionMnistOptions, *, seed: int, quicktest: bool) -> Dataset:
    """Grey images of clothing, uint8 [N, 28, 28, 1], ten classes, from fashion_mnist_train.npz and fashion_mnist_test.npz.

    Each file in TINYKIT_DATA holds `x` ([N, 28, 28] or with the channel axis, which is added) and integer labels `y`. 10 % of
    the training file, stratified and fixed, is val. Source: Xiao, Rasul and Vollgraf, arXiv:1708.07747 (MIT licence).

    Example:
        data: {name: fashion_mnist, preprocess: [{divide: {by: 255}}]}
    """
    source = "Fashion-MNIST (Xiao et al. 2017), fashion_mnist_train.npz and fashion_mnist_test.npz"
    every = [entry for pair in SOURCES.values() for entry in pair]
    hint = (
        f". To fetch and convert it ({megabytes(sum(entry.size for entry in every))}): --set data.options.download=true; or by hand "
        f"first: {'; '.join(by_hand(entry.url, resolve(entry.name)) for entry in every)}"
    )
    wanted = make if options.download else None
    return load_pair("fashion_mnist", source, CLASS_NAMES, SHAPE, seed=seed, quicktest=quicktest, make=wanted, hint=hint)
