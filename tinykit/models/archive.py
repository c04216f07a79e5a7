"""What a user's model file says about itself, read with bounds and without making anything of it."""

import collections
import dataclasses
import json
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from tinykit.errors import ModelError

MAX_FILE_BYTES = 2 << 30
MAX_CONFIG_BYTES = 64 << 20
MAX_HDF5_OBJECTS = 100_000


@dataclasses.dataclass(frozen=True)
class Described:
    """A file's own words.

    Attributes:
        configurations: JSON values that describe the model and its layers.
        version: of the Keras that wrote it, "" where it does not say.
        values: numbers that it holds; a model that wants more weights than that is not the one that was saved.
    """

    configurations: list[Any]
    version: str
    values: int


def describe_hdf5(file: Path) -> Described:
    """A `.h5` model.

    Raises:
        ModelError: damaged, weights alone, links to other files, or more than it may hold.
    """
    import h5py

    try:
        with h5py.File(file, "r") as archive:
            values = _held(archive, str(file))
            text = archive.attrs.get("model_config")
            version = archive.attrs.get("keras_version", "")
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise ModelError(f"{file}: damaged HDF5 file: {error}; copy it again") from error
    if text is None:
        raise ModelError(f"{file}: holds weights but no model; save the whole model with model.save(...)")
    if not isinstance(text, (str, bytes)):
        raise ModelError(f"{file}: its model_config is no text")
    if len(text) > MAX_CONFIG_BYTES:
        raise ModelError(f"{file}: model_config is larger than {MAX_CONFIG_BYTES} bytes")
    known = version.decode("ascii", "replace") if isinstance(version, bytes) else str(version)
    return Described([_json(str(file), text)], known, values)


def describe_zip(file: Path) -> Described:
    """A `.keras` archive; its part on optimiser and loss, which is never loaded, is left out.

    Raises:
        ModelError: as `describe_hdf5`; the weights inside are an HDF5 file too.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            _check_members(file, archive)
            members = [name for name in ("config.json", "metadata.json") if name in archive.namelist()]
            if any(archive.getinfo(name).file_size > MAX_CONFIG_BYTES for name in members):
                raise ModelError(f"{file}: config.json or metadata.json is larger than {MAX_CONFIG_BYTES} bytes")
            configuration, metadata = (_json(str(file), archive.read(name)) for name in [*members, "config.json"][:2])
            values = sum(_held_in_member(file, archive, name) for name in archive.namelist() if name.endswith((".h5", ".hdf5")))
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"{file}: damaged .keras file: {error}; copy it again") from error
    if not isinstance(configuration, dict):
        raise ModelError(f"{file}: config.json is no JSON object")
    configuration.pop("compile_config", None)
    version = metadata.get("keras_version", "") if isinstance(metadata, dict) else ""
    return Described([configuration], str(version), values)


def describe_saved_model(folder: Path) -> Described:
    """A SavedModel folder that tf_keras wrote.

    Raises:
        ModelError: no such folder, too large, without Keras's description of the layers, or one that cannot be read.
    """
    metadata = folder / "keras_metadata.pb"
    if not (folder / "saved_model.pb").is_file():
        raise ModelError(f"{folder}: a folder without saved_model.pb; expected a SavedModel, or name the .keras or .h5 file in it")
    size = sum(entry.stat().st_size for entry in folder.rglob("*") if entry.is_file())
    if size > MAX_FILE_BYTES:
        raise ModelError(f"{folder}: {size} bytes, more than the limit of {MAX_FILE_BYTES}")
    if not metadata.is_file():
        raise ModelError(
            f"{folder}: a SavedModel without keras_metadata.pb, such as Keras 3's model.export writes, holds no Keras layers; in the"
            " program that made it, save the model with model.save('model.keras') instead"
        )
    content = metadata.read_bytes()
    if len(content) > MAX_CONFIG_BYTES:
        raise ModelError(f"{folder}: keras_metadata.pb is larger than {MAX_CONFIG_BYTES} bytes")
    return Described(list(_saved_nodes(folder, content)), "2.", size)


def _saved_nodes(folder: Path, content: bytes) -> Iterator[Any]:
    try:
        from tf_keras.protobuf import saved_metadata_pb2
    except ImportError as error:
        raise ModelError(
            f"{folder}: if this SavedModel folder was written by Keras 2, tf_keras is needed to read it: pip install tf_keras"
        ) from error
    try:
        nodes = saved_metadata_pb2.SavedMetadata.FromString(content).nodes
    except Exception as error:  # the class of protobuf's DecodeError depends on its version
        raise ModelError(f"{folder}: cannot be read: keras_metadata.pb is damaged: {error}") from error
    for node in nodes:
        yield _json(str(folder), node.metadata)


def _json(where: str, text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{where}: the model's configuration is no JSON: {error}") from error


def _check_members(file: Path, archive: zipfile.ZipFile) -> None:
    total = sum(info.file_size for info in archive.infolist())
    if total > MAX_FILE_BYTES:
        raise ModelError(f"{file}: {total} bytes unpacked, more than the limit of {MAX_FILE_BYTES}")
    names = archive.namelist()
    if "config.json" not in names:
        raise ModelError(f"{file}: a zip file without config.json is no .keras file")
    if len(names) > MAX_HDF5_OBJECTS:
        raise ModelError(f"{file}: {len(names)} members, more than the limit of {MAX_HDF5_OBJECTS}")
    for info in archive.infolist():
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # LZMA may ask for 4 GiB before the first byte
            raise ModelError(f"{file}: member {info.filename!r} is compressed by method {info.compress_type}, which Keras does not write")
    for name, count in collections.Counter(names).items():
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or count > 1:
            raise ModelError(f"{file}: no .keras file has a member {name!r}" + (" twice" if count > 1 else ""))


def _held_in_member(file: Path, archive: zipfile.ZipFile, name: str) -> int:
    """`_held` of an HDF5 file inside a zip file; unpacked to disk, because HDF5 jumps to and fro."""
    import h5py

    with tempfile.TemporaryFile() as copy:
        with archive.open(name) as stream:
            shutil.copyfileobj(stream, copy, 1 << 20)
        copy.seek(0)
        try:
            with h5py.File(copy, "r") as weights:
                return _held(weights, f"{file}: {name}")
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            raise ModelError(f"{file}: {name}: damaged HDF5 file: {error}; copy it again") from error


def _held(archive: Any, where: str) -> int:
    """Numbers in all arrays of an HDF5 file. Refuses what reaches outside it, and arrays that only compression makes small."""
    import h5py

    todo, seen, values, size = [archive], set(), 0, 0
    while todo:
        group = todo.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ModelError(f"{where}: {group.name}/{name} is a link, which can lead out of the file; save the model again")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if len(seen) > MAX_HDF5_OBJECTS:
                raise ModelError(f"{where}: more than {MAX_HDF5_OBJECTS} objects")
            if isinstance(item, h5py.Group):
                todo.append(item)
            elif isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise ModelError(f"{where}: {item.name} keeps its data in another file; save the model again")
                values += int(item.size or 0)
                size += int(item.nbytes)
                if size > MAX_FILE_BYTES:
                    raise ModelError(
                        f"{where}: {item.name} of shape {list(item.shape)} brings the file to {size} bytes unpacked, more than the "
                        f"limit of {MAX_FILE_BYTES}"
                    )
    return values
