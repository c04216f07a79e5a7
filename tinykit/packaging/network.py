"""The network that a package holds: generated C, vectors that prove it, labels; from a run or from any `.tflite`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinykit.compile import read_model
from tinykit.engine.generate import build_engine, check_name
from tinykit.engine.memory import inputs_of, outputs_of, pack, pack_codes, random_samples
from tinykit.engine.select import Preference
from tinykit.engine.storage import AS_IT_PAYS, StorageWish
from tinykit.errors import ModelError
from tinykit.export.golden import Golden, read_golden
from tinykit.graph import ir, reference
from tinykit.graph.reader import read_tflite
from tinykit.packaging.interface import Interface, Port, read_interface
from tinykit.packaging.names import network_name

MOST_VECTORS = 8
VECTOR_BYTES = 32_000
"""Flash that a package's golden vectors may take; there is always one."""

LARGEST_SOURCE = 256 << 20
MOST_LABELS = 1000
_LABEL_LETTERS = 40


@dataclass(frozen=True)
class Network:
    """What is deployed.

    Attributes:
        name: prefix of every symbol.
        title: what the user calls it.
        interface: the public side of its C.
        files: its generated C, <name>.h and <name>.c.
        vectors: (input, output): bytes of all inputs of a sample and of the outputs that belong to them.
        labels: one name a score of the first output, or none.
        graph: the integers that every implementation of it computes.
        origin: in words, with a hash.
        of_run: it comes from a run, not from a file.
    """

    name: str
    title: str
    interface: Interface
    files: Mapping[str, str]
    vectors: tuple[tuple[bytes, bytes], ...]
    labels: tuple[str, ...]
    graph: ir.Graph
    origin: str
    of_run: bool = False


def network_of_model(path: Path, name: str | None = None, storage: StorageWish = AS_IT_PAYS) -> Network:
    """The network of a `.tflite`; its vectors are random inputs with the reference executor's outputs.

    Raises:
        ModelError: the file cannot be read exactly, or `name` is no C name.
    """
    model = read_model(path)
    preference = Preference(storage=storage)
    engine = build_engine(model.deployed, check_name(name) if name else network_name(path.stem), preference)
    interface = read_interface(engine.files[f"{engine.name}.h"], engine.name, path.name)
    graph, count = engine.graph, _vector_count(interface, MOST_VECTORS)
    samples = random_samples(graph, count)
    truth = reference.run_all(graph, dict(samples))
    results = {t.name: np.broadcast_to(truth[t.name], (count, *t.shape)) for t in outputs_of(graph)}
    vectors = tuple((pack(inputs_of(graph), samples, i), pack(outputs_of(graph), results, i)) for i in range(count))
    origin = f"{path.name}, sha256 {model.sha256[:16]}; {model.summary}"
    return Network(engine.name, path.stem, interface, engine.files, vectors, (), graph, origin)


def network_of_run(workdir: Path, name: str | None = None) -> Network:
    """The network of a finished run: its engine as it was verified, its golden samples, the names of its classes.

    Raises:
        ModelError: there is no finished run, or it ended without an integer network; or `name` is no C name.
    """
    _check_finished(workdir)
    header = _engine_header(workdir)
    own = header.stem
    if not re.fullmatch("[a-z][a-z0-9_]*", own):
        raise ModelError(f"{header}: is not called like a network of tinykit's; run the recipe again to make it")
    interface = read_interface(_text(header), own, str(header))
    golden = read_golden(workdir / "golden.npz")
    count = _vector_count(interface, len(golden.input))
    vectors = tuple(_golden_bytes(interface, golden, i) for i in range(count))
    files = {path.name: _text(path) for path in (header, header.with_suffix(".c"))}
    title = str(_config(workdir).get("task") or workdir.resolve().name)
    wanted = check_name(name) if name else network_name(own)
    if wanted != own:
        files = _renamed(files, own, wanted)
        interface = Interface(wanted, interface.arena_bytes, interface.inputs, interface.outputs)
    names = workdir / "classes.json"
    classes = _json(names) if names.is_file() else ()  # runs of older versions have none
    graph = read_tflite(_bytes(workdir / "model.tflite"), "model.tflite")
    metrics = _json(workdir / "metrics.json")
    note = "; a quicktest, whose accuracy means nothing" if isinstance(metrics, dict) and metrics.get("quicktest") else ""
    return Network(
        wanted, title, interface, files, vectors, _labels(classes, interface), graph,
        f"the run {workdir.resolve().name}, model sha256 {golden.model_sha256[:16]}{note}", True,
    )  # fmt: skip


def _check_finished(workdir: Path) -> None:
    if not workdir.is_dir():
        raise ModelError(f"--workdir {workdir}: no such folder; expected one that `python -m tinykit.train` wrote")
    if not (workdir / "DONE").is_file():
        raise ModelError(f"--workdir {workdir}: holds no finished run; finish it with `python -m tinykit.train`, the same command resumes")


def _json(path: Path) -> object:
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError) as problem:
        raise ModelError(f"{path}: is not JSON: {problem}; run the recipe again to make it") from None


def _engine_header(workdir: Path) -> Path:
    found = [p for p in sorted((workdir / "engine").glob("*.h")) if not p.stem.endswith("_selftest") and p.with_suffix(".c").is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        raise ModelError(f"{workdir / 'engine'}: expected one network, found {', '.join(p.name for p in found)}")
    raise ModelError(
        f"--workdir {workdir}: has no engine/: the run ended with a float model, or its network does not fit the board; "
        "choose a recipe that ends with integers (recipe=int8), or a board that holds it"
    )


def _config(workdir: Path) -> Mapping[str, Any]:
    from tinykit.config.loading import read_document

    data = read_document(workdir / "config.resolved.yaml").data
    return data if isinstance(data, dict) else {}


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST_SOURCE:
            raise ModelError(f"{path}: {path.stat().st_size:,} bytes; at most {LARGEST_SOURCE:,} are read")
        return path.read_bytes()
    except OSError as problem:
        raise ModelError(f"{path}: cannot be read: {problem.strerror or problem}; run the recipe again to make it") from None


def _text(path: Path) -> str:
    try:
        return _bytes(path).decode()
    except UnicodeDecodeError:
        raise ModelError(f"{path}: is not text; run the recipe again to make it") from None


def _vector_count(interface: Interface, available: int) -> int:
    each = interface.input_bytes + interface.output_bytes
    return max(1, min(available, MOST_VECTORS, VECTOR_BYTES // each))


def _golden_bytes(interface: Interface, golden: Golden, index: int) -> tuple[bytes, bytes]:
    """Raises ModelError where golden.npz belongs to another network."""
    given = _stored_bytes(interface.inputs[0], golden.input[index])
    expected = _stored_bytes(interface.outputs[0], golden.output[index])
    if (len(given), len(expected)) != (interface.input_bytes, interface.output_bytes):
        raise ModelError(
            f"golden.npz: a sample has {len(given)} and {len(expected)} bytes, the engine takes {interface.input_bytes} and "
            f"gives {interface.output_bytes}; run the recipe again to make both"
        )
    return given, expected


def _stored_bytes(port: Port, values: np.ndarray) -> bytes:
    if port.packed:
        return pack_codes(values.ravel().astype(np.int64) - port.low, port.bits)
    kinds = {"int8_t": "<i1", "uint8_t": "<u1", "int16_t": "<i2", "int32_t": "<i4", "float": "<f4"}
    return values.astype(kinds[port.ctype]).tobytes()


_PUBLIC = "input|output|invoke|load|store|run|check"
_MACROS = "ARENA|INPUT|OUTPUT|H"


def _renamed(files: Mapping[str, str], own: str, wanted: str) -> dict[str, str]:
    """The files with every public name, and nothing else, under another prefix."""

    def text(old: str) -> str:
        new = re.sub(rf"\b{own}_(?=(?:{_PUBLIC})(?:_\d+)?\b)", f"{wanted}_", old)
        new = re.sub(rf"\b{own.upper()}_(?=(?:{_MACROS})(?:_\w+)?\b)", f"{wanted.upper()}_", new)
        return new.replace(f'"{own}.h"', f'"{wanted}.h"')

    return {path.replace(own, wanted, 1): text(content) for path, content in files.items()}


def _labels(classes: object, interface: Interface) -> tuple[str, ...]:
    """Names of the scores, printable; none where they are not one a score."""
    if not isinstance(classes, Sequence) or isinstance(classes, str) or len(classes) != interface.outputs[0].size:
        return ()
    return tuple("".join(c if c.isprintable() else "?" for c in str(label))[:_LABEL_LETTERS] for label in classes[:MOST_LABELS])
