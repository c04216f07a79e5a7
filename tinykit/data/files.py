"""Reading of data files that may be damaged or hostile: sizes are checked in the headers before anything is allocated."""

import json
import lzma
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from tinykit.data.dataset import RAW_DTYPES, Split
from tinykit.errors import DataError, collected, one_line
from tinykit.options import nearest

MAX_ARRAY_BYTES = 8 << 30
MAX_CARD_BYTES = 1 << 20
MAX_DICTIONARY = 1 << 26  # of LZMA, bytes: as xz -9 has it
ENVIRONMENT_VARIABLE = "TINYKIT_DATA"
# What zipfile, its decompressors and numpy.lib.format raise for damaged bytes.
DAMAGED = (
    ValueError,
    TypeError,
    OSError,
    EOFError,
    SyntaxError,
    RecursionError,
    NotImplementedError,
    tokenize.TokenError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
)


def data_root() -> Path | None:
    """The folder that TINYKIT_DATA names, or None where it is not set."""
    value = os.environ.get(ENVIRONMENT_VARIABLE, "")
    return Path(os.path.expanduser(value)) if value else None


def resolve(path: str) -> Path:
    """An absolute path as it is; a relative one below TINYKIT_DATA, or below the working folder where that is not set."""
    given = Path(os.path.expanduser(path))
    root = data_root()
    return given if given.is_absolute() or root is None else root / given


def missing_message(name: str, path: Path) -> str:
    """What to say when the data of dataset `name` is not at `path`."""
    root = data_root()
    state = f"{ENVIRONMENT_VARIABLE}={root}" if root else f"{ENVIRONMENT_VARIABLE} is not set"
    return (
        f"dataset {name}: {path} does not exist ({state}). Set the folder that holds it: "
        f"{ENVIRONMENT_VARIABLE}=/path python -m tinykit.train ...; to try the flow on generated samples, add --quicktest"
    )


def check_dictionary(file: IO[bytes], info: zipfile.ZipInfo, where: str) -> None:
    """Refuses a member of the zip file `file` whose LZMA data ask for a dictionary of up to 4 GiB before the first byte comes out.

    Raises:
        DataError: begins with `where`.
    """
    if info.compress_type != zipfile.ZIP_LZMA:
        return
    file.seek(info.header_offset)
    name, extra = struct.unpack_from("<26xHH", file.read(30).ljust(30, b"\0"))
    file.seek(info.header_offset + 30 + name + extra)
    size = int.from_bytes(file.read(9)[5:9], "little")  # behind version, length of the properties, and the first of them
    if size > MAX_DICTIONARY:
        raise DataError(f"{where}: asks for an LZMA dictionary of {size} bytes, more than the limit of {MAX_DICTIONARY}")


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype, int]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f".npy version {version} is not supported")
    return shape, dtype, stream.tell()


def _member(archive: zipfile.ZipFile, path: Path, name: str) -> np.ndarray:
    """Reads one array of the archive; raises DataError naming file and array."""
    where = f"{path}, array {name!r}"
    info = archive.getinfo(f"{name}.npy")
    try:
        with path.open("rb") as file:
            check_dictionary(file, info, where)
        with archive.open(info) as stream:
            shape, dtype, start = _header(stream)
        if dtype.hasobject:
            raise DataError(f"{where}: holds pickled Python objects, which are never loaded; store numbers instead")
        if any(size < 0 for size in shape):
            raise DataError(f"{where}: negative size in shape {shape}")
        size = dtype.itemsize
        for extent in shape:
            size *= int(extent)
        if size > MAX_ARRAY_BYTES:
            raise DataError(f"{where}: {size} bytes ({shape} {dtype}) is more than the limit of {MAX_ARRAY_BYTES}")
        if size != info.file_size - start:
            raise DataError(f"{where}: damaged: the header says {size} bytes ({shape} {dtype}), {info.file_size - start} follow")
        with archive.open(info) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    except DAMAGED as error:
        raise DataError(f"{where}: cannot be read: {one_line(error)}; the file is damaged or incomplete, copy it again") from error
    except (RuntimeError, MemoryError) as error:  # an encrypted member; not enough memory
        raise DataError(f"{where}: cannot be read: {one_line(error)}") from error


def read_npz(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Reads named arrays of an .npz file (stored, deflated, bzip2 or LZMA members).

    Shape and dtype are taken from each member's header and checked before the array is read; nothing is ever unpickled.

    Args:
        path: of the file.
        required: names of arrays that must be there.
        optional: names of arrays that are read where present.

    Raises:
        DataError: the file is absent, damaged, too large, or lacks a required array; every problem at once.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist or is no file")
    try:
        archive = zipfile.ZipFile(path)
    except DAMAGED as error:
        raise DataError(f"{path}: no .npz file, or a damaged one ({error}); copy it again") from error
    with archive:
        names = {entry[:-4] for entry in archive.namelist() if entry.endswith(".npy")}
        problems = [f"{path}: array {name!r} is missing: {nearest(name, names)}" for name in required if name not in names]
        arrays = {}
        for name in [*required, *optional]:
            if name not in names:
                continue
            with collected(DataError, problems):
                arrays[name] = _member(archive, path, name)
    if problems:
        raise DataError(problems)
    return arrays


def check_samples(path: Path | str, x: np.ndarray, y: np.ndarray, classes: int | None) -> list[str]:
    """Problems of a pair of raw arrays: dtype, rank, lengths, NaN and infinities, labels.

    Args:
        path: named in the messages.
        x: [N, ...] samples.
        y: [N] labels.
        classes: number of classes, None where the labels decide.
    """
    problems = []
    if x.dtype.name not in (*RAW_DTYPES, "float16", "float64"):
        problems.append(
            f"{path}, array 'x': dtype {x.dtype} is not supported, expected one of {', '.join(RAW_DTYPES)}; "
            "if the values fit, store x.astype(numpy.uint8) or another of these"
        )
    elif x.dtype.kind == "f" and not np.isfinite(x).all():
        problems.append(
            f"{path}, array 'x': {np.count_nonzero(~np.isfinite(x))} of {x.size} values are NaN or infinite, "
            f"the first at {np.argwhere(~np.isfinite(x))[0].tolist()}; repair or leave out these samples"
        )
    if x.ndim < 2 or 0 in x.shape:
        problems.append(f"{path}, array 'x': expected [samples, ...] with at least one value, received shape {x.shape}")
    if y.ndim != 1:
        problems.append(f"{path}, array 'y': expected one label a sample, received shape {y.shape}")
    if x.ndim and y.ndim and len(x) != len(y):
        problems.append(f"{path}: lengths differ: {len(x)} samples in 'x', {len(y)} labels in 'y'")
    if y.dtype.kind not in "iub":
        problems.append(f"{path}, array 'y': labels must be integers, received dtype {y.dtype}")
    elif y.size:
        low, high = int(y.min()), int(y.max())
        if low < 0 or (classes is not None and high >= classes):
            limit = "0 or more" if classes is None else f"0 to {classes - 1}"
            problems.append(f"{path}, array 'y': labels must be {limit}, received {low} to {high}")
    return problems


def as_split(x: np.ndarray, y: np.ndarray) -> Split:
    """A Split in native byte order; float16 (exactly) and float64 (rounded) become float32, labels int64."""
    dtype = np.dtype(np.float32) if x.dtype.kind == "f" else x.dtype.newbyteorder("=")
    return Split(np.ascontiguousarray(x, dtype), y.astype(np.int64))


def read_card(path: Path) -> dict[str, Any]:
    """The .json card beside a data file (`classes`: {"0": name, ...}), or an empty dict where there is none.

    Raises:
        DataError: the card is there and is no JSON object, or is larger than 1 MiB.
    """
    card = path.with_suffix(".json")
    if not card.is_file():
        return {}
    try:
        if card.stat().st_size > MAX_CARD_BYTES:
            raise DataError(f"{card}: larger than {MAX_CARD_BYTES} bytes, no card")
        value = json.loads(card.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{card}: cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{card}: expected a JSON object, received {type(value).__name__}")
    return value


def card_classes(card: dict[str, Any], path: Path) -> tuple[str, ...] | None:
    """Class names of a card, None where it has none.

    Raises:
        DataError: the keys are not "0", "1", ... without a gap.
    """
    classes = card.get("classes")
    if classes is None:
        return None
    if not isinstance(classes, dict) or sorted(classes) != sorted(str(i) for i in range(len(classes))):
        raise DataError(f'{path.with_suffix(".json")}: "classes" must map "0", "1", ... to names, received {classes!r}')
    return tuple(str(classes[str(index)]) for index in range(len(classes)))
