"""Data that are missing, damaged, or of another kind than declared. All of it is found before TensorFlow is imported."""

import io
import json
import struct
import wave
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from badinput_config import wrote
from badinput_kind import kind

DATA = "data"
WORKDIR = "w"
EVERYTHING = {"heavy": False, "workdir": WORKDIR}


def configured(folder: Path, name: str, options: Any, *, model: str = "cnn", extra: str = "") -> Sequence[str]:
    """The arguments of a run on a dataset with these options."""
    return wrote(folder, f"data: {{name: {name}, options: {json.dumps(options)}{extra}}}\nmodel: {{name: {model}}}\nrecipe: float\n")


def samples(count: int = 40, shape: tuple[int, ...] = (8, 8, 1), classes: int = 2) -> dict[str, Any]:
    """Good arrays for an .npz file."""
    random = np.random.RandomState(0)
    return {"x": random.randint(0, 256, (count, *shape)).astype(np.uint8), "y": np.arange(count) % classes}


def npz(name: str, change: Callable[[dict[str, Any]], object], *says: str, extra: str = "", options: Any = None, **more: Any) -> None:
    """An .npz file whose arrays `change` spoils."""

    def make(folder: Path) -> Sequence[str]:
        arrays = samples()
        change(arrays)
        np.savez(folder / "data.npz", **arrays)
        return configured(folder, "npz", {"path": "data.npz", **(options or {})}, extra=extra)

    kind(DATA, f"npz: {name}", *says, **EVERYTHING, **more)(make)


def put(**arrays: Any) -> Callable[[dict[str, Any]], object]:
    """Replaces arrays."""
    return lambda given: given.update(arrays)


def spoilt(array: np.ndarray, value: float) -> np.ndarray:
    """float32 with one other value."""
    array = array.astype(np.float32)
    array.flat[7] = value
    return array


X, Y = samples()["x"], samples()["y"]
npz("the array of labels is missing", lambda arrays: arrays.pop("y"), "data.npz", "array 'y' is missing", "known: x")
npz("pickled objects", put(x=np.array([{"a": 1}] * 40, object)), "data.npz, array 'x'", "pickled Python objects", "store numbers instead")
npz("samples of another dtype", put(x=X.astype(np.uint32)), "data.npz, array 'x'", "uint32 is not supported", "expected one of uint8")
npz("samples that are text", put(x=np.full((40, 8), "a")), "data.npz, array 'x'", "dtype <U1", "expected one of uint8")
npz("samples with NaN", put(x=spoilt(X, np.nan)), "data.npz, array 'x'", "1 of 2560 values are NaN or infinite", "repair or leave out")
npz("samples with infinity", put(x=spoilt(X, np.inf)), "data.npz, array 'x'", "1 of 2560 values are NaN or infinite", "repair or leave out")
npz("samples without a shape", put(x=np.arange(40, dtype=np.uint8)), "data.npz, array 'x'", "expected [samples, ...]")
npz("no samples", put(x=X[:0], y=Y[:0]), "data.npz, array 'x'", "at least one value")
npz("lengths of x and y that differ", put(y=Y[:39]), "data.npz", "40 samples in 'x'", "39 labels in 'y'")
npz("labels that are no integers", put(y=Y.astype(np.float32)), "data.npz, array 'y'", "labels must be integers", "float32")
npz("labels below 0", put(y=Y - 1), "data.npz, array 'y'", "labels must be 0 or more", "-1")
npz(
    "labels beyond the declared classes",
    put(y=Y * 5),
    "data.npz, array 'y'",
    "labels must be 0 to 1",
    "0 to 5",
    options={"classes": ["a", "b"]},
)
npz("labels with two axes", put(y=np.eye(2, dtype=int)[Y]), "data.npz, array 'y'", "one label a sample", "(40, 2)")
npz("one class only", put(y=Y * 0), "data.npz", "one class only", "two or more")
npz("too few samples for three splits", put(x=X[:2], y=np.array([0, 1])), "data.npz", "2 samples are too few", "train, a val and a test")
npz(
    "another shape than declared",
    put(),
    "data.npz, array 'x'",
    "declared shape [6, 6, 1]",
    "received [8, 8, 1]",
    options={"shape": [6, 6, 1]},
)
npz(
    "an operation that does not suit the samples",
    put(),
    "preprocess[0] reshape",
    "shape [8, 8, 1]",
    "[65]",
    extra=", preprocess: [{reshape: {shape: [65]}}]",
)
npz(
    "greyscale of what is grey already",
    put(),
    "preprocess[0] grayscale",
    "needs images [height, width, 3]",
    "[8, 8, 1]",
    extra=", preprocess: [grayscale]",
)
npz(
    "greyscale of values that are no bytes",
    put(x=np.zeros((40, 8, 8, 3), np.int16)),
    "preprocess[0] grayscale",
    "needs uint8",
    "int16",
    extra=", preprocess: [grayscale]",
)
npz(
    "an augmentation that does not suit the samples",
    put(x=np.zeros((40, 8), np.uint8)),
    "data.augment",
    "rotate",
    "[8]",
    extra=", augment: [{rotate: {degrees: 5}}]",
)


@kind(DATA, "npz: an empty test split", "test.npz, array 'x'", "at least one value", **EVERYTHING)
def _no_test(folder: Path) -> Sequence[str]:
    np.savez(folder / "data.npz", **samples())
    np.savez(folder / "test.npz", x=X[:0], y=Y[:0])
    return configured(folder, "npz", {"path": "data.npz", "test_path": "test.npz"})


@kind(
    DATA,
    "npz: train and test of different shapes",
    "data.npz and test.npz",
    "samples differ: [8, 8, 1] uint8 against [8, 8] uint8",
    **EVERYTHING,
)
def _other_test(folder: Path) -> Sequence[str]:
    np.savez(folder / "data.npz", **samples())
    np.savez(folder / "test.npz", **samples(shape=(8, 8)))
    return configured(folder, "npz", {"path": "data.npz", "test_path": "test.npz"})


@kind(DATA, "npz: a file that is not there", "absent.npz does not exist", "TINYKIT_DATA is not set", "--quicktest", **EVERYTHING)
def _absent(folder: Path) -> Sequence[str]:
    return configured(folder, "npz", {"path": "absent.npz"})


@kind(
    DATA,
    "TINYKIT_DATA that names no folder",
    "/nowhere/data/absent.npz",
    "TINYKIT_DATA=/nowhere/data",
    environment={"TINYKIT_DATA": "/nowhere/data"},
    **EVERYTHING,
)
def _nowhere(folder: Path) -> Sequence[str]:
    return configured(folder, "npz", {"path": "absent.npz"})


@kind(DATA, "npz: a truncated file", "data.npz", "no .npz file, or a damaged one", "copy it again", **EVERYTHING)
def _truncated(folder: Path) -> Sequence[str]:
    np.savez(folder / "data.npz", **samples())
    content = (folder / "data.npz").read_bytes()
    (folder / "data.npz").write_bytes(content[: len(content) // 2])
    return configured(folder, "npz", {"path": "data.npz"})


@kind(DATA, "npz: bytes that changed on the way", "data.npz, array 'x'", "cannot be read", "copy it again", **EVERYTHING)
def _flipped(folder: Path) -> Sequence[str]:
    np.savez(folder / "data.npz", **samples())
    content = bytearray((folder / "data.npz").read_bytes())
    content[1500] ^= 1
    (folder / "data.npz").write_bytes(content)
    return configured(folder, "npz", {"path": "data.npz"})


@kind(DATA, "npz: a header that promises a terabyte", "data.npz, array 'x'", "more than the limit of", **EVERYTHING)
def _promise(folder: Path) -> Sequence[str]:
    import zipfile

    with zipfile.ZipFile(folder / "data.npz", "w") as archive:
        for name, array in samples().items():
            stream = io.BytesIO()
            np.lib.format.write_array(stream, array)
            content = stream.getvalue()
            if name == "x":
                content = content.replace(b"(40, 8, 8, 1)", b"(40, 1<<40,1)"[:13]).replace(b"1<<40", b"99999")
                content = content.replace(b"(40, 99999,1)", b"(999999999,9)")
            archive.writestr(f"{name}.npy", content)
    return configured(folder, "npz", {"path": "data.npz"})


@kind(DATA, "npz: a folder instead of the file", "data.npz", "is no file", **EVERYTHING)
def _npz_folder(folder: Path) -> Sequence[str]:
    (folder / "data.npz").mkdir()
    return configured(folder, "npz", {"path": "data.npz"})


@kind(DATA, "npz: a card beside it that is no JSON", "data.json", "cannot be read as JSON", **EVERYTHING)
def _card(folder: Path) -> Sequence[str]:
    np.savez(folder / "data.npz", **samples())
    (folder / "data.json").write_text("{")
    return configured(folder, "npz", {"path": "data.npz"})


# ---- pictures


def png(width: int, height: int, content: bytes | None = None) -> bytes:
    """A greyscale PNG; `content` in place of its pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    pixels = zlib.compress(b"".join(b"\0" + bytes(width) for _ in range(height))) if content is None else content
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def pictures(name: str, change: Callable[[Path], object], *says: str, options: Any = None, **more: Any) -> None:
    """Two folders of pictures, which `change` spoils."""

    def make(folder: Path) -> Sequence[str]:
        for cls in ("cats", "dogs"):
            (folder / "photos" / cls).mkdir(parents=True)
            for index in range(8):
                (folder / "photos" / cls / f"{index}.png").write_bytes(png(8, 8))
        change(folder / "photos")
        return configured(folder, "image_folder", {"path": "photos", "size": [8, 8], **(options or {})})

    kind(DATA, f"pictures: {name}", *says, **EVERYTHING, **more)(make)


def emptied(root: Path) -> None:
    """A class folder without pictures."""
    for file in (root / "dogs").iterdir():
        file.unlink()


def without(root: Path) -> None:
    """One class folder only."""
    emptied(root)
    (root / "dogs").rmdir()


pictures("a class folder that is empty", emptied, "photos/dogs", "holds no .png, .jpg, .jpeg file")
pictures("one class folder only", without, "photos", "one class only, 'cats'", "expected samples of two or more")
pictures(
    "a class folder that is not declared",
    lambda root: None,
    "photos/dogs",
    "class folder is not among the classes",
    options={"classes": ["cats"]},
)
pictures(
    "a declared class without its folder",
    lambda root: None,
    "photos/cows",
    "class folder is missing",
    options={"classes": ["cats", "cows", "dogs"]},
)
pictures(
    "a picture of 0 bytes",
    lambda root: (root / "cats/3.png").write_bytes(b""),
    "photos/cats/3.png",
    "cannot be decoded",
    "repair or remove it",
)
pictures(
    "a picture that is cut short", lambda root: (root / "cats/3.png").write_bytes(png(8, 8)[:-30]), "photos/cats/3.png", "cannot be decoded"
)
pictures(
    "text that is called .png",
    lambda root: (root / "cats/3.png").write_text("hello"),
    "photos/cats/3.png",
    "cannot be decoded",
    "repair or remove it",
)
pictures(
    "a picture of 10^10 pixels",
    lambda root: (root / "cats/3.png").write_bytes(png(100000, 100000, zlib.compress(b"\0" * 9))),
    "photos/cats/3.png",
    "10000000000 pixels",
    "exceeds limit",
)
pictures(
    "a picture of 10^8 pixels",
    lambda root: (root / "cats/3.png").write_bytes(png(10000, 10000, zlib.compress(b"\0" * 9))),
    "photos/cats/3.png",
    "10000 x 10000 pixels",
    "more than the limit of",
)
pictures(
    "two damaged pictures",
    lambda root: [(root / f"dogs/{i}.png").write_bytes(b"x") for i in (1, 2)],
    "photos/dogs/1.png",
    "photos/dogs/2.png",
    problems=2,
)


@kind(DATA, "pictures: a file instead of the folder", "photos", "expected a folder with a folder for each class", **EVERYTHING)
def _photos_file(folder: Path) -> Sequence[str]:
    (folder / "photos").write_text("")
    return configured(folder, "image_folder", {"path": "photos", "size": [8, 8]})


# ---- tables


def table(name: str, content: str | bytes, *says: str, options: Any = None, **more: Any) -> None:
    """A CSV file."""

    def make(folder: Path) -> Sequence[str]:
        (folder / "t.csv").write_bytes(content.encode() if isinstance(content, str) else content)
        given = {"path": "t.csv", "label": "move", "window": 4, **(options or {})}
        return configured(folder, "csv", given, model="conv1d")

    kind(DATA, f"csv: {name}", *says, **EVERYTHING, **more)(make)


ROWS = "".join(f"{i % 7},{i % 5},{'wave' if i // 20 % 2 else 'rest'}\n" for i in range(200))
HEAD = "ax,ay,move\n"
table("an empty file", "", "t.csv", "holds no rows")
table("no rows below the header", HEAD, "t.csv", "holds no rows below its header line")
table("a row of another length", HEAD + ROWS + "1,2\n", "t.csv:202", "expected 3 fields", "received 2")
table("text where a number is expected", HEAD + "1,two,rest\n" + ROWS, "t.csv:2", "column ay", "expected a finite number", "'two'")
table("NaN as a number", HEAD + "1,nan,rest\n" + ROWS, "t.csv:2", "column ay", "expected a finite number", "'nan'")
table("a column that is missing", HEAD + ROWS, "t.csv:1", "no column 'movement'", "did you mean 'move'?", options={"label": "movement"})
table("a label that is empty", HEAD + "1,2,\n" + ROWS, "t.csv:2", "the label is empty")
table("one class only", HEAD + ROWS.replace("wave", "rest"), "t.csv", "one class only", "'rest'")
table("a window longer than every recording", HEAD + ROWS, "t.csv", "no window of 4000 rows", "has 20", options={"window": 4000})
table("a quotation mark that is never closed", HEAD + '1,"2,rest\n' + ROWS, "t.csv:", "no CSV")
table("another character set", (HEAD + "1,2,rest\n").encode() + b"1,2,\xe9t\xe9\n", "t.csv:3", "no UTF-8 text", "save the file as UTF-8")
table("a NUL in it", HEAD + "1,2,re\0st\n" + ROWS, "t.csv:2", "zero byte")
table("two things wrong", HEAD + "1,two,rest\n" + ROWS + "1,2\n", "t.csv:2", "t.csv:203", problems=2)


# ---- other data


@kind(
    DATA, "har: a folder that is incomplete", "total_acc_z_test.txt does not exist", "y_test.txt does not exist", problems=2, **EVERYTHING
)
def _har(folder: Path) -> Sequence[str]:
    from tinykit.data.har import CHANNELS

    for part in ("train", "test"):
        signals = folder / "UCI" / part / "Inertial Signals"
        signals.mkdir(parents=True)
        for name in CHANNELS:
            (signals / f"{name}_{part}.txt").write_text((" ".join(["0.5"] * 128) + "\n") * 8)
        (folder / "UCI" / part / f"y_{part}.txt").write_text("".join(f"{1 + i // 2}\n" for i in range(8)))
        (folder / "UCI" / part / f"subject_{part}.txt").write_text("".join(f"{i // 4 + (part == 'test') * 9 + 1}\n" for i in range(8)))
    (folder / "UCI/test/Inertial Signals/total_acc_z_test.txt").unlink()
    (folder / "UCI/test/y_test.txt").unlink()
    return configured(folder, "har", {"path": "UCI"}, model="conv1d")


def sound(seconds: float = 1.0, rate: int = 16000, width: int = 2) -> bytes:
    """A WAV file of silence."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(bytes(int(seconds * rate) * width))
    return stream.getvalue()


def sounds(name: str, change: Callable[[Path], object], *says: str, **more: Any) -> None:
    """Folders of words, which `change` spoils."""

    def make(folder: Path) -> Sequence[str]:
        for word in ("yes", "no"):
            (folder / "words" / word).mkdir(parents=True)
            for index in range(12):
                (folder / "words" / word / f"{index:08x}_nohash_0.wav").write_bytes(sound(0.1))
        listed = ("validation", "testing")
        for number, name in enumerate(listed):
            (folder / "words" / f"{name}_list.txt").write_text("".join(f"{w}/{number:08x}_nohash_0.wav\n" for w in ("yes", "no")))
        change(folder / "words")
        options = {"path": "words", "words": ["yes", "no"], "silence_percentage": 0, "unknown_percentage": 0, "copies": 0}
        return configured(folder, "kws", options, model="ds_cnn")

    kind(DATA, f"sound: {name}", *says, **EVERYTHING, **more)(make)


CLIP = "yes/00000005_nohash_0.wav"
sounds("a WAV file that is cut short", lambda root: (root / CLIP).write_bytes(sound()[:900]), CLIP, "damaged", "copy it again")
sounds("a WAV file of 8 bits", lambda root: (root / CLIP).write_bytes(sound(width=1)), CLIP, "expected 1 channel, 16 bits", "8 bits", "sox")
sounds("a WAV file of another rate", lambda root: (root / CLIP).write_bytes(sound(rate=8000)), CLIP, "16000 Hz", "8000 Hz", "sox")
sounds("text that is called .wav", lambda root: (root / CLIP).write_text("hello"), CLIP, "cannot be read as a WAV file", "copy it again")
sounds("a word without its folder", lambda root: (root / "no").rename(root / "on"), "words/no", "missing")


def coco(name: str, change: Callable[[Path, dict[str, Any]], object], *says: str, **more: Any) -> None:
    """Pictures with COCO's annotations, which `change` spoils."""

    def make(folder: Path) -> Sequence[str]:
        root = folder / "coco"
        (root / "annotations").mkdir(parents=True)
        (root / "images").mkdir()
        content: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}]}
        for index in range(60):
            content["images"].append({"id": index, "file_name": f"{index}.png", "width": 8, "height": 8})
            (root / "images" / f"{index}.png").write_bytes(png(8, 8))
            if index % 2:
                content["annotations"].append({"image_id": index, "category_id": 1, "bbox": [0, 0, 4, 4], "area": 16})
        file = root / "annotations" / "instances_all.json"
        replaced = change(root, content)
        file.write_text(replaced if isinstance(replaced, str) else json.dumps(content))
        return configured(folder, "vww", {"path": "coco", "size": 8})

    kind(DATA, f"coco: {name}", *says, **EVERYTHING, **more)(make)


FILE = "instances_all.json"
coco("annotations that are no JSON", lambda root, content: '{"images": [', FILE, "cannot be read as JSON")
coco("a picture that is missing", lambda root, content: (root / "images/7.png").unlink(), "images/7.png", "missing, but in " + FILE)
coco(
    "an annotation of no picture",
    lambda root, content: content["annotations"][3].update(image_id=999),
    FILE,
    "annotations[3]",
    "no image has the id 999",
)
coco(
    "a picture without an id",
    lambda root, content: content["images"][3].pop("id") and None,
    FILE,
    "images[3]",
    "expected an object with id",
)
coco("no category of persons", lambda root, content: content.update(categories=[]), FILE, "no category 'person'")
coco(
    "a file name that leads elsewhere",
    lambda root, content: content["images"][2].update(file_name="../../etc/passwd"),
    FILE,
    "images[2]",
    "expected a path inside",
    problems=1,
)
coco("a list without annotations", lambda root, content: '{"images": [], "categories": []}', FILE, "expected a list 'annotations'")
