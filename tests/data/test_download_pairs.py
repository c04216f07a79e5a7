"""cifar10 and fashion_mnist made from their published files, which tests generate small, in the true formats."""

import gzip
import hashlib
import io
import struct
import tarfile

import numpy as np
import pytest

from tinykit.data import cifar10, download, fashion_mnist, load_dataset
from tinykit.data.download import Source
from tinykit.errors import DataError


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty TINYKIT_DATA; attempts to fetch follow each other without a pause."""
    monkeypatch.setenv("TINYKIT_DATA", str(tmp_path))
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)
    return tmp_path


def load(name, **options):
    return load_dataset(name, options, seed=0, quicktest=False)


def source(path):
    """As if `path`, which is there, had been fetched from a server that is gone."""
    content = path.read_bytes()
    return Source(f"http://127.0.0.1:9/{path.name}", hashlib.sha256(content).hexdigest(), len(content))


def cifar_archive(root, count=30, label=None):
    random = np.random.RandomState(3)
    images, labels = {}, {}
    with tarfile.open(root / "cifar-10-binary.tar.gz", "w:gz") as opened:
        for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
            images[name] = random.randint(0, 256, (count, 32, 32, 3)).astype(np.uint8)
            labels[name] = np.arange(count) % 10 if label is None else np.full(count, label)
            content = b"".join(
                bytes([y]) + b"".join(x[..., channel].tobytes() for channel in range(3)) for x, y in zip(images[name], labels[name])
            )
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    return images, labels


def test_cifar10(root, monkeypatch):
    images, labels = cifar_archive(root)
    monkeypatch.setattr(cifar10, "SOURCE", source(root / "cifar-10-binary.tar.gz"))
    data = load("cifar10", download=True)
    np.testing.assert_array_equal(data.test.x, images["test_batch"])
    assert np.array_equal(data.test.y, labels["test_batch"]) and (len(data.train), len(data.val)) == (130, 20)
    everything = {x.tobytes() for name, part in images.items() if name != "test_batch" for x in part}
    assert {x.tobytes() for part in (data.train, data.val) for x in part.x} == everything
    again = load("cifar10")
    assert again.content_sha256 == data.content_sha256


@pytest.mark.parametrize(("options", "message"), [({"label": 10}, "labels must be 0 to 9"), ({"count": 0}, "expected 1 to 10000 records")])
def test_cifar10_damaged(root, monkeypatch, options, message):
    cifar_archive(root, **options)
    monkeypatch.setattr(cifar10, "SOURCE", source(root / "cifar-10-binary.tar.gz"))
    with pytest.raises(DataError, match=message):
        load("cifar10", download=True)
    assert not list(root.glob("*.npz"))


def idx(path, array, kind=8):
    path.write_bytes(gzip.compress(bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()))


def fashion_files(root, monkeypatch, **changes):
    random = np.random.RandomState(4)
    made, sources = {}, {}
    for part, start, count in (("train", "train", 100), ("test", "t10k", 20)):
        x, y = random.randint(0, 256, (count, 28, 28)).astype(np.uint8), (np.arange(count) % 10).astype(np.uint8)
        files = [root / f"{start}-images-idx3-ubyte.gz", root / f"{start}-labels-idx1-ubyte.gz"]
        for file, array in zip(files, (x, y)):
            idx(file, array, **changes)
        made[part], sources[part] = (x, y), tuple(source(file) for file in files)
    monkeypatch.setattr(fashion_mnist, "SOURCES", sources)
    return made


def test_fashion_mnist(root, monkeypatch):
    made = fashion_files(root, monkeypatch)
    data = load("fashion_mnist", download=True)
    np.testing.assert_array_equal(data.test.x[..., 0], made["test"][0])
    assert np.array_equal(data.test.y, made["test"][1]) and (len(data.train), len(data.val)) == (90, 10)
    assert load("fashion_mnist").content_sha256 == data.content_sha256


def test_fashion_mnist_damaged(root, monkeypatch):
    fashion_files(root, monkeypatch, kind=9)
    with pytest.raises(DataError, match="expected an IDX file"):
        load("fashion_mnist", download=True)
    for content in (
        b"no gzip",
        gzip.compress(b""),
        gzip.compress(bytes([0, 0, 8, 3]) + struct.pack(">3I", 5, 28, 28)),
        gzip.compress(bytes(60))[:20],
    ):
        (root / "x.gz").write_bytes(content)
        with pytest.raises(DataError, match="x.gz"):
            fashion_mnist.read_idx(root / "x.gz", (28, 28))
    monkeypatch.setattr(fashion_mnist, "MAX_SAMPLES", 4)
    idx(root / "x.gz", np.zeros((5, 28, 28), np.uint8))
    with pytest.raises(DataError, match="at most 4 x"):
        fashion_mnist.read_idx(root / "x.gz", (28, 28))


@pytest.mark.parametrize(("name", "commands"), [("cifar10", 1), ("fashion_mnist", 4)])
def test_absent_and_offline(root, monkeypatch, name, commands):
    with pytest.raises(DataError) as caught:
        load(name)
    assert caught.value.problems[0].count("curl ") == commands and "download=true" in str(caught.value)
    gone = Source("http://127.0.0.1:9/file.gz", "0" * 64, 100)
    monkeypatch.setattr(cifar10, "SOURCE", gone)
    monkeypatch.setattr(fashion_mnist, "SOURCES", {"train": (gone, gone), "test": (gone, gone)})
    with pytest.raises(DataError, match="file.gz does not exist, and fetching it failed.*curl.*--quicktest"):
        load(name, download=True)
    data = load_dataset(name, {"download": True}, seed=0, quicktest=True)
    assert data.synthetic and not list(root.iterdir()), "a quicktest never fetches"
