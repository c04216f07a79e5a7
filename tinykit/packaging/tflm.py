"""The other engine: the `.tflite` in TensorFlow Lite Micro's interpreter, behind the same C functions as those of our own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tinykit.engine.ctext import float_literal
from tinykit.errors import ModelError, ParityError
from tinykit.export.c_array import model_data
from tinykit.export.resolver import op_resolver_header
from tinykit.graph import costs, ir
from tinykit.graph.reader import read_tflite
from tinykit.graph.writer import Written, write
from tinykit.packaging.interface import Interface, Port
from tinykit.packaging.network import Network


@dataclass(frozen=True)
class ArduinoLibrary:
    """A port of TFLM that the Library Manager has.

    Attributes:
        name, version: as the Library Manager spells them.
        header: what a sketch includes, so that the IDE finds it.
        ops: methods of its resolver that are known to be there.
        source: where this comes from.
    """

    name: str
    version: str
    header: str
    ops: frozenset[str]
    source: str


ARDUINO_LIBRARY = ArduinoLibrary(
    "Chirale_TensorFLowLite",
    "2.0.0",
    "Chirale_TensorFlowLite.h",
    frozenset(
        "AddAdd AddArgMax AddAveragePool2D AddConcatenation AddConv2D AddDepthwiseConv2D AddDequantize AddFullyConnected AddHardSwish "
        "AddLeakyRelu AddLogistic AddMaxPool2D AddMaximum AddMean AddMinimum AddMul AddPad AddPadV2 AddQuantize AddRelu AddRelu6 "
        "AddReshape AddSoftmax AddStridedSlice AddSub AddTanh AddTranspose".split()
    ),
    "name, version and header from projects that install it; ops from TFLM's AllOpsResolver, which it ships",
)
"""The library that Arduino's tutorials name was taken out of the Library Manager; this one is in it. A list of ops does not tell whether
kernels take weights of 4 bits, so that is not counted on."""


@dataclass(frozen=True)
class TflmModel:
    """A model that TFLM takes.

    Attributes:
        network: with files that call TFLM, and vectors in int8.
        tflite: the file.
        notes: what was chosen and what it costs, in words.
        header: of the library, for the include that the Arduino IDE finds it by; None: no library.
        arena_note: where the arena's size comes from.
    """

    network: Network
    tflite: bytes
    notes: tuple[str, ...]
    header: str | None
    arena_note: str


def tflm_model(network: Network, library: ArduinoLibrary | None) -> TflmModel:
    """The network's `.tflite` for TFLM; its files are not rendered yet.

    Args:
        library: what the user installs; None: a TFLM of today, in source.

    Raises:
        ModelError: `library` lacks an op that the model cannot do without; names every one.
    """
    graph = network.graph
    written = write(graph)
    notes: list[str] = []
    if library is not None:
        written, notes = _for_library(graph, written, library)
    notes.insert(0, f"Model: {len(written.tflite):,} bytes; operators: {', '.join(m.removeprefix('Add') for m in written.methods)}.")
    read = read_tflite(written.tflite, f"{network.name}.tflite")
    estimate = costs.tflm_arena_estimate(read)
    arena = -(-(estimate.total + max(2048, estimate.total // 8)) // 16) * 16
    note = f"an estimate of {estimate.total:,} for TFLM's reference kernels, and an eighth or 2,048 bytes for CMSIS-NN and its own error"
    inputs, outputs = (_ports(read, names, word) for names, word in ((read.inputs, "input"), (read.outputs, "output")))
    interface = Interface(network.name, arena, inputs, outputs)
    if (interface.input_bytes, interface.output_bytes) != (network.interface.input_bytes, network.interface.output_bytes):
        raise ModelError(f"{network.title}: its inputs or outputs are packed, which TFLM cannot take; use --engine tinykit")
    files = model_data(written.tflite, network.name)
    sources = {
        f"{network.name}_data.h": files[f"{network.name}_data.h"],
        f"{network.name}_data.cpp": files[f"{network.name}_data.cc"],  # Arduino compiles no .cc
        f"{network.name}_op_resolver.h": op_resolver_header(written.methods, network.name),
    }
    return TflmModel(
        replace(network, interface=interface, files=sources), written.tflite, tuple(notes), library.header if library else None, note
    )


def _for_library(graph: ir.Graph, written: Written, library: ArduinoLibrary) -> tuple[Written, list[str]]:
    """The file for an older TFLM: weights of fewer bits ride in int8 there."""
    notes = [f"Library: install {library.name} {library.version} with the Library Manager ({library.source})."]
    narrow = any(encoding.encoding != "int8" for encoding in written.encodings)
    if narrow:
        before, written = len(written.tflite), write(graph, int4=False, lut=False)
        notes.append(
            f"Weights of 4 and 2 bits are stored as int8, because {library.name} {library.version} is not known to take others: "
            f"{len(written.tflite):,} bytes for {before:,}; every result is the same."
        )
    missing = [method for method in written.methods if method not in library.ops]
    if missing:
        raise ModelError(
            [f"{library.name} {library.version} has no {method.removeprefix('Add')}, which the model needs" for method in missing]
            + ["use --engine tinykit, which needs no library, or --target cmake with a TFLM of today"]
        )
    return written, notes


def _ports(graph: ir.Graph, names: Sequence[str], word: str) -> tuple[Port, ...]:
    found = []
    for i, name in enumerate(names):
        tensor, is_float = graph.tensors[name], graph.tensors[name].dtype == ir.Dtype.FLOAT
        ctype = "float" if is_float else {16: "int16_t", 32: "int32_t"}.get(tensor.bits, "int8_t")
        scale, zero = ("1.0f", 0) if is_float else (float_literal(tensor.scale), tensor.zero_point)
        bits = {"int8_t": 8, "int16_t": 16}.get(ctype, 32)
        found.append(Port(word if i == 0 else f"{word}_{i}", ctype, tensor.size, tuple(tensor.shape), scale, zero, bits, 0))
    return tuple(found)


def check_on_host(model: TflmModel) -> str:
    """Runs the golden vectors in TFLM's own interpreter on this computer; says what was compared.

    Raises:
        ParityError: a byte differs.
    """
    from tinykit.verify.runner import OracleMissing
    from tinykit.verify.tflm import TflmRunner

    network = model.network
    try:
        runner = TflmRunner(model.tflite)
    except OracleMissing as problem:
        return f"not run in TFLM here: {problem}"
    details = runner.input_details
    for number, (given, expected) in enumerate(network.vectors):
        arrays, at = [], 0
        for port, (shape, dtype) in zip(network.interface.inputs, details):
            arrays.append(np.frombuffer(given[at : at + port.bytes], dtype).reshape(shape))
            at += port.bytes
        got = b"".join(np.ascontiguousarray(output).tobytes() for output in runner.run(arrays))
        if got != expected:
            raise ParityError(f"{network.name}: golden vector {number + 1}: TFLM answers other bytes than the reference")
    return "every output byte right in TFLM's interpreter on this computer"
