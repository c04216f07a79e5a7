"""What is fuzzed: for each kind of file, small good ones, how they are mutated, and the way that a user's file takes through tinykit."""

from __future__ import annotations

import io
import json
import os
import random
import sys
import tarfile
import wave
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), *(str(HERE.parent / folder) for folder in ("verify", "models"))]

import flatplaces  # noqa: E402
import mutations  # noqa: E402

Target = Callable[[Path], None]
SMALL_MACS, SMALL_ELEMENTS = 200_000, 20_000
"""Networks up to here are also run; larger ones are only planned and generated."""


@dataclass
class Kind:
    """Files of one kind.

    Attributes:
        suffix: of the files.
        seeds: makes the good files.
        mutate: (chance, file, all files) -> mutant.
        target: reads a file; returns where it was accepted, raises TinykitError where it is refused.
    """

    suffix: str
    seeds: Callable[[], list[bytes]]
    mutate: mutations.Mutator
    target: Target
    _made: list[bytes] = field(default_factory=list)

    def files(self) -> list[bytes]:
        """The good files, made once a process."""
        if not self._made:
            self._made += self.seeds()
        return self._made

    def mutant(self, name: str, seed: int, index: int) -> bytes:
        """Mutant `index` of a seed: the same on every machine."""
        rng = random.Random(f"{name} {seed} {index}")
        files = self.files()
        return self.mutate(rng, files[rng.randrange(len(files))], files)


# ---- .tflite


def _networks() -> list[bytes]:
    """Networks of two to five operations, all operations among them."""
    from nets import Net

    from tinykit.graph.writer import write_tflite

    def image(seed: int) -> tuple[Net, str]:
        net = Net(seed)
        return net, net.input((5, 4, 3), scale=0.1, zero_point=3)

    files = []

    def done(net: Net, *outputs: str) -> None:
        files.append(write_tflite(net.done(*outputs), keep_names=len(files) % 2 == 0))

    net, x = image(1)
    done(net, net.softmax(net.dense(net.pool("max", net.conv(x, 4, act="relu")), 3)))
    net, x = image(2)
    done(net, net.mean(net.binary("add", net.depthwise(x), x), (0, 1)))
    net, x = image(3)
    done(net, net.concat([net.pool("average", x), net.pool("max", x)], 2))
    net, x = image(4)
    done(net, net.binary("mul", net.table("logistic", net.conv(x, 3, bits=4)), net.constant((1, 1, 3))))
    net, x = image(5)
    done(net, net.slice(net.transpose(net.pad(x, ((0, 1), (1, 0), (0, 0))), (1, 0, 2)), (4, 0, 0), (-1, 2, 3), (-2, 1, 1)))
    net = Net(6)
    x = net.quantize(net.input((6,), scale=1.0, zero_point=0, bits=32, dtype=_float()))
    done(net, net.dequantize(net.extremum("maximum", x, net.concat([net.slice(x, (3,), (6,), (1,)), net.slice(x, (0,), (3,), (1,))], 0))))
    net = Net(7)
    x = net.input((4, 6), scale=0.05, zero_point=-2)
    done(net, net.argmax(net.requantize(net.table("hard_swish", x)), 1))
    net = Net(8)
    x = net.input((2, 6), scale=0.05, zero_point=-2)
    done(net, net.binary("sub", net.reshape(x, (3, 4)), net.table("leaky_relu", net.reshape(x, (3, 4)), 0.1, same=True)))
    net, x = image(9)
    done(net, net.extremum("minimum", net.table("tanh", x), net.table("tanh", net.conv(x, 3, kernel=(1, 1)))))
    net, x = image(10)
    files.append(write_tflite(net.done(net.conv(x, 40, bits=2)), lut=True))  # behind a DECODE
    return files


def _float() -> object:
    from tinykit.graph.ir import Dtype

    return Dtype.FLOAT


def reference_models() -> list[bytes]:
    """The smaller ones of MLPerf Tiny's .tflite files in TINYKIT_DATA, [] where it is not set."""
    folder = os.environ.get("TINYKIT_DATA")
    return [p.read_bytes() for p in sorted(Path(folder, "reference_models").glob("*_int8.tflite"))] if folder else []


_PLACES: dict[bytes, flatplaces.Places] = {}


def _mutate_tflite(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    if data not in _PLACES:
        _PLACES[data] = flatplaces.find(data)
    return flatplaces.mutate(rng, data, _PLACES[data], others)


def compile_file(path: Path) -> None:
    """Reads, simplifies, plans and generates as `python -m tinykit.profile` does; a small network also runs, and the simplified one must
    give the same bytes."""
    from tinykit import profile
    from tinykit.compile import read_model
    from tinykit.graph import costs, reference

    model = read_model(path)
    profile.profile(model)
    graph = model.graph
    if costs.total_macs(graph) > SMALL_MACS or sum(t.size for t in graph.activations()) > SMALL_ELEMENTS:
        return
    chance = np.random.default_rng(0)
    x = {}
    for name in graph.inputs:
        t = graph.tensors[name]
        numbers = chance.integers(-128, 128, (1, *t.shape))
        x[name] = numbers.astype(np.float32) if t.dtype == _float() else np.clip(numbers, t.low, t.high).astype(np.int8)
    before, after = reference.run_all(graph, x), reference.run_all(model.deployed, x)
    for name in graph.outputs:
        if not np.array_equal(before[name], after[name], equal_nan=before[name].dtype.kind == "f"):
            raise AssertionError(f"the simplified network's {name!r} differs")


# ---- Keras


def _models(form: str) -> list[bytes]:
    import tempfile

    import keras
    from elsewhere import network, save

    layers = keras.layers
    sequential = keras.Sequential([layers.Input((6,)), layers.Dense(4, "relu"), layers.BatchNormalization(), layers.Dense(3, "softmax")])
    nested = keras.Sequential([layers.Input((6, 6, 3)), keras.Sequential([layers.DepthwiseConv2D(3), layers.ReLU()]), layers.Flatten()])
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for model in (network(keras), sequential, nested):
            found.append(save(model, Path(folder), form).read_bytes())
    return found


def _mutate_h5(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Half the mutants have another description of the layers in a file that is sound, half are damaged bytes."""
    if rng.random() < 0.5:
        return mutations.raw(rng, data, others)
    import h5py

    out = io.BytesIO(data)
    with h5py.File(out, "r+") as file:
        name = rng.choice(("model_config", "model_config", "model_config", "model_config", "keras_version", "layer_names", "weight_names"))
        if name in file.attrs and name == "model_config":
            file.attrs[name] = mutations.json_text(rng, file.attrs[name].encode()).decode("utf-8", "replace").replace("\0", "?")
        else:
            _spoil(rng, file)
    return out.getvalue()


def _spoil(rng: random.Random, file) -> None:  # noqa: ANN001 - h5py
    """Changes attributes or arrays somewhere in an HDF5 file."""
    import h5py

    items: list = []
    file.visititems(lambda _, item: items.append(item))
    item = rng.choice([file, *items])
    if len(item.attrs) and rng.random() < 0.6:
        name = rng.choice(list(item.attrs))
        item.attrs[name] = rng.choice(("", "x" * 3000, 3, np.zeros(5), np.array([b"a", b"b"]), np.float32(1)))
    elif isinstance(item, h5py.Dataset):
        parent, name = item.parent, item.name
        del parent[name]
        parent.create_dataset(name, rng.choice(((0,), (1,), (1 << 20,), (2, 2, 2), (1 << 34,))), rng.choice(("f4", "f8", "i1", "S8")),
                              chunks=True, compression="gzip")  # fmt: skip
    elif item.name != "/":
        del item.parent[item.name]


def _inner_keras(rng: random.Random, name: str, content: bytes) -> bytes:
    if name.endswith(".json"):
        return mutations.json_text(rng, content)
    return _mutate_h5(rng, content, ()) if name.endswith(".h5") else mutations.raw(rng, content, ())


def load_keras(path: Path) -> None:
    """As a configuration's `model.path` is loaded; what is accepted is taken apart as calibration does."""
    from tinykit.models import load_model
    from tinykit.models.macs import layer_macs

    layer_macs(load_model(path))


# ---- configurations


def _shipped(kind: str) -> list[bytes]:
    return [file.read_bytes() for file in sorted((ROOT / kind).glob("*.yaml"))]


def load_configuration(path: Path) -> None:
    """As `--config` reads it."""
    from tinykit.config.loading import load_config

    load_config(str(path)).to_yaml()


def read_yaml(path: Path) -> None:
    """The syntax alone, which is fast; what is read must be written and read again as the same."""
    from tinykit.config.document import dump_yaml, parse_yaml
    from tinykit.config.loading import read_document

    data = read_document(path).data
    if repr(parse_yaml(dump_yaml(data), "again").data) != repr(data):
        raise AssertionError("a document reads otherwise than it was written")


def load_recipe(path: Path) -> None:
    """As a configuration's `recipe` reads it."""
    from tinykit.config.loading import load_config

    load_config(str(ROOT / "configs" / "digits.yaml"), [f"recipe={path}"])


# ---- data


def _archives() -> list[bytes]:
    chance = np.random.default_rng(0)
    arrays = {"x": chance.integers(0, 256, (40, 4, 3, 1)).astype(np.uint8), "y": np.arange(40) % 2}
    found = []
    for save in (np.savez, np.savez_compressed):
        for more in ({}, {"speaker": np.arange(40) // 4}):
            out = io.BytesIO()
            save(out, **arrays, **more)
            found.append(out.getvalue())
    return found


def load_npz(path: Path) -> None:
    """As `data: {name: npz}` reads it."""
    from tinykit.data import npz

    npz.load(npz.NpzOptions(path=str(path)), seed=0, quicktest=False)


def _pictures() -> list[bytes]:
    from PIL import Image

    chance = np.random.default_rng(0)
    pixels = chance.integers(0, 256, (9, 11, 3)).astype(np.uint8)
    found = []

    def add(image: Image.Image, form: str, **options: object) -> None:
        out = io.BytesIO()
        image.save(out, form, **options)
        found.append(out.getvalue())

    colour = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[274], exif[270] = 6, "text"
    add(colour, "PNG")
    add(colour.quantize(7), "PNG", transparency=0)
    add(colour.convert("1"), "PNG", exif=exif)
    add(Image.fromarray(chance.integers(0, 1 << 16, (5, 6)).astype(np.uint16)), "PNG")
    add(colour, "JPEG", exif=exif)
    add(colour.convert("L"), "JPEG", progressive=True)
    add(colour.convert("CMYK"), "JPEG")
    return found


def read_picture(path: Path) -> None:
    """As `data: {name: image_folder}` reads each file."""
    from tinykit.data.image_folder import decode

    for grayscale in (False, True):
        decode(path, (8, 6), grayscale)


def _sounds() -> list[bytes]:
    found = []
    for count in (1, 300):
        out = io.BytesIO()
        with wave.open(out, "wb") as sound:
            sound.setparams((1, 2, 16000, count, "NONE", ""))
            sound.writeframes(bytes(range(200)) * (2 * count // 200 + 1))
        found.append(out.getvalue())
    size = len(found[1]) + 12
    return [*found, found[1][:4] + size.to_bytes(4, "little") + found[1][8:36] + b"LIST\4\0\0\0text" + found[1][36:]]


def read_sound(path: Path) -> None:
    """As the sets of sound read each clip."""
    from tinykit.data.audio.wav import fitted, read_wav

    fitted(read_wav(path, 16000), 16000)


def _annotations() -> list[bytes]:
    images = [{"id": i, "file_name": f"COCO_{i:03}.jpg", "width": 64, "height": 48, "license": 1} for i in range(6)]
    boxes = [
        {"id": 10 + i, "image_id": i % 6, "category_id": 1 + i % 2, "bbox": [1, 2.5, 10 + i, 9], "area": 80.5 + i, "iscrowd": 0,
         "segmentation": [[1, 2, 3, 4, 5, 6]]} for i in range(9)
    ]  # fmt: skip
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}]
    return [json.dumps({"info": {}, "images": images, "annotations": boxes, "categories": categories}).encode()]


def read_annotations(path: Path) -> None:
    """As `data: {name: vww}` reads COCO's instances_*.json."""
    from tinykit.data.coco import read_labels

    read_labels(path, 0.005, "box")
    read_labels(path, 0.005, "mask")


def _tables() -> list[bytes]:
    rows = [f"{0.1 * i:.3f},{-i}, {i}e-3 ,{'walk' if i % 2 else 'sit'},r{i // 5}" for i in range(30)]
    return ["\n".join(["a,b,c,label,run", *rows]).encode(), ("\ufeff" + "\r\n".join(['a,"b","c ",label,run', *rows, ""])).encode()]


def read_text_table(path: Path) -> None:
    """As `data: {name: csv}` reads each file, and as the sets of text files do."""
    from tinykit.data.textfiles import Columns, read_table
    from tinykit.errors import TinykitError

    try:
        read_table(path, Columns(None, "label", "run"), header=True, delimiter=",", most=1000)
    except TinykitError:
        read_table(path, Columns(None, 3, None), header=False, delimiter=",", most=1000)


def _packed() -> list[bytes]:
    found = []
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode=mode, format=tarfile.PAX_FORMAT if mode == "w" else tarfile.GNU_FORMAT) as archive:
            for name in ("a/one.txt", "a/" + "long" * 40 + "/two.txt", "b.bin"):
                member = tarfile.TarInfo(name)
                member.size = 700
                archive.addfile(member, io.BytesIO(bytes(700)))
        found.append(out.getvalue())
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as archive:
            for name in ("a/one.txt", "a/sub/", "b.bin"):
                archive.writestr(name, b"" if name.endswith("/") else bytes(700))
        found.append(out.getvalue())
    return found


def _mutate_archive(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Tar headers get their checksum back, so that their fields are read."""
    out = bytearray(mutations.raw(rng, data, others))
    if data[257:262] == b"ustar" and rng.random() < 0.7:
        for at in range(0, len(out) - 511, 512):
            if out[at + 257 : at + 262] == b"ustar":
                out[at + 148 : at + 156] = b" " * 8
                out[at + 148 : at + 156] = f"{sum(out[at : at + 512]):06o}\0 ".encode()
    return bytes(out)


def unpack(path: Path) -> None:
    """As a download is unpacked."""
    import shutil

    from tinykit.data.archive import extract

    target = path.parent / "unpacked"
    try:
        extract(path, target, max_bytes=1 << 24, max_files=1000)
    finally:
        shutil.rmtree(target, ignore_errors=True)


KINDS: dict[str, Kind] = {
    "tflite": Kind(".tflite", _networks, _mutate_tflite, compile_file),
    "reference": Kind(".tflite", reference_models, _mutate_tflite, compile_file),
    "h5": Kind(".h5", lambda: _models("h5"), _mutate_h5, load_keras),
    "keras": Kind(".keras", lambda: _models("keras"), mutations.zip_members(_inner_keras, mutations.METHODS[:3]), load_keras),
    "yaml": Kind(".yaml", lambda: _shipped("configs"), mutations.text, load_configuration),
    "document": Kind(".yaml", lambda: _shipped("configs"), mutations.text, read_yaml),
    "recipe": Kind(".yaml", lambda: _shipped("recipes"), mutations.text, load_recipe),
    "npz": Kind(".npz", _archives, mutations.zip_members(mutations.npy), load_npz),
    "image": Kind(".png", _pictures, mutations.png, read_picture),
    "wav": Kind(".wav", _sounds, mutations.raw, read_sound),
    "coco": Kind(".json", _annotations, mutations.json_text, read_annotations),
    "csv": Kind(".csv", _tables, mutations.text, read_text_table),
    "archive": Kind(".tar", _packed, _mutate_archive, unpack),
}
