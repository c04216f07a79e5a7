"""Pruned, Huffman-coded and few-valued weights behind DECODE: exact in TFLM, read back, where the file shrinks; damage is refused."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Net

from tinykit.errors import ModelError
from tinykit.graph import decodetypes, encodings, ir, lut, reference, writer
from tinykit.graph.decodetypes import HEADER, decode_huffman, decode_prune, encode_huffman, encode_prune
from tinykit.graph.reader import read_tflite
from tinykit.graph.writer import write
from tinykit.verify.runner import OracleMissing
from tinykit.verify.tflm import TflmRunner


class Lively(Net):
    """Networks whose results move, so that a wrong weight is seen."""

    def zero_point(self) -> int:
        return int(self.rng.integers(-20, 21))


def network(seed: int, zeros: float, values: int) -> ir.Graph:
    """Convolution, depthwise and dense layers, a share of their weights 0, the others of so many values."""
    net = Lively(seed)
    x = net.conv(net.input((9, 7, 5)), 24, (3, 3), spread=0.4)
    x = net.depthwise(x, spread=0.4)
    x = net.conv(x, 40, (1, 1), spread=0.4)
    net.dense(x, 13, spread=0.4)
    graph, step = net.done(), 256 // values
    made = []
    for op in graph.ops:
        if isinstance(op, ir.Weighted):
            weights = op.weights.astype(np.int64) // step * step + (0 if zeros else step // 2)  # as many below 0 as above
            weights.ravel()[np.argsort(np.abs(weights), axis=None)[: int(zeros * weights.size)]] = 0
            op = dataclasses.replace(op, weights=weights.astype(np.int8), bias=op.bias >> 4)
        made.append(op)
    graph.ops = made
    return graph


def layers(graph: ir.Graph) -> list[ir.Weighted]:
    return [op for op in graph.ops if isinstance(op, ir.Weighted)]


def check(graph: ir.Graph, tflite: bytes, tally, what: str) -> None:
    """The file, in TFLM and read back, against the graph."""
    back = read_tflite(tflite, "written")
    for mine, found in zip(layers(graph), layers(back), strict=True):
        np.testing.assert_array_equal(mine.weights, found.weights)
    x = np.random.default_rng(0).integers(-128, 128, (4, *graph.tensors[graph.inputs[0]].shape)).astype(np.int8)
    truth = reference.run_all(graph, {graph.inputs[0]: x})[graph.outputs[0]]
    try:
        runner = TflmRunner(tflite)
    except OracleMissing as missing:
        pytest.skip(str(missing))
    got = np.stack([runner._invoke([sample[None]])[0].reshape(truth.shape[1:]) for sample in x])
    tally(what, int((got != truth).sum()), truth.size)
    assert len(np.unique(truth)) > 10
    np.testing.assert_array_equal(got, truth)


@pytest.mark.parametrize(("kind", "zeros", "values"), [("PRUNE", 0.8, 256), ("HUFFMAN", 0.6, 64), ("HUFFMAN", 0, 2), ("HUFFMAN", 0, 128)])
def test_every_layer_runs_in_tflm(tally, kind: str, zeros: float, values: int) -> None:
    graph = network(1, zeros, values)
    tflite = writer._build(graph, False, {op.output: kind for op in layers(graph)}).pack(graph.outputs)
    check(graph, tflite, tally, f"{kind} in TFLM vs reference")


@pytest.mark.parametrize("bits", range(1, 8))
def test_tables_of_every_width_run_in_tflm(tally, bits: int) -> None:
    graph = network(bits, 0.0, 1 << bits)
    assert {lut.index_bits(op.weights) for op in layers(graph)} == {bits}
    tflite = writer._build(graph, False, {op.output: f"LUT{bits}" for op in layers(graph)}).pack(graph.outputs)
    check(graph, tflite, tally, "LUT of 1 to 7 bits in TFLM vs reference")


@pytest.mark.parametrize(("zeros", "values", "kinds"), [(0.8, 256, {"PRUNE"}), (0.0, 16, {"LUT4"}), (0.8, 16, {"HUFFMAN"})])
def test_the_file_becomes_smaller_and_stays_exact(tally, zeros: float, values: int, kinds: set[str]) -> None:
    graph = network(2, zeros, values)
    plain, written = write(graph, lut=False), write(graph)
    assert kinds <= {e.encoding for e in written.encodings}
    assert len(written.tflite) < len(plain.tflite)
    assert "AddDecode" in written.methods
    assert all(e.scratch == (0 if e.encoding == "int8" else op.weights.size) for e, op in zip(written.encodings, layers(graph)))
    assert "DECODE" in encodings.note(written.encodings)
    check(graph, written.tflite, tally, "smallest encodings in TFLM vs reference")


def test_dense_weights_and_litert_s_files_stay_int8() -> None:
    assert {e.encoding for e in write(network(3, 0.0, 256)).encodings} == {"int8"}
    assert {e.encoding for e in write(network(3, 0.8, 16), keep_names=True).encodings} == {"int8"}


def test_weights_that_are_merely_uneven_stay_int8() -> None:
    """Codes would be a third shorter, but nobody asked for them: a usual training must not cost RAM for a whole layer's weights."""
    net = Lively(5)
    net.dense(net.input((1, 1, 256)), 64)
    graph = net.done()
    uneven = np.clip(np.random.default_rng(5).laplace(0, 5, (64, 256)).round(), -80, 80).astype(np.int8)
    graph.ops = [dataclasses.replace(op, weights=uneven) if isinstance(op, ir.Weighted) else op for op in graph.ops]
    assert sum(map(len, encode_huffman(uneven))) < 0.7 * uneven.size and len(np.unique(uneven)) > 64
    assert {e.encoding for e in write(graph).encodings} == {"int8"}


VALUES = st.builds(
    lambda seed, count, zeros, most: np.where(
        np.random.default_rng(seed).random(count) < zeros, 0, np.random.default_rng(seed).integers(-most, most, count)
    ).astype(np.int8),
    st.integers(0, 2**32), st.integers(1, 2000), st.sampled_from([0.0, 0.5, 0.95, 1.0]), st.sampled_from([1, 8, 100]),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(values=VALUES)
def test_what_is_encoded_comes_back(values: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_prune(*encode_prune(values), values.size), values)
    np.testing.assert_array_equal(decode_huffman(*encode_huffman(values), values.size), values)


@settings(max_examples=60, deadline=None)
@given(values=VALUES, place=st.integers(0, 10**6), byte=st.integers(0, 255), cut=st.integers(0, 40))
def test_damage_gives_an_error_or_as_many_weights(values: np.ndarray, place: int, byte: int, cut: int) -> None:
    for encode, decode in ((encode_prune, decode_prune), (encode_huffman, decode_huffman)):
        for which in (0, 1):
            pair = [part.copy() for part in encode(values)]
            start = HEADER * which
            if len(pair[which]) > start:
                pair[which][start + place % (len(pair[which]) - start)] = byte
            pair[which] = pair[which][: max(start, len(pair[which]) - cut)]
            try:
                assert decode(pair[0], pair[1], values.size).shape == values.shape
            except ModelError:
                pass


def test_sizes_that_do_not_fit_are_refused() -> None:
    values = np.array([0, 3, 0, 5, -7, 0, 0, 0, 0, 1], np.int8)
    packed, ancillary = encode_prune(values)
    for wrong in ((packed[:1], ancillary, 10), (packed, ancillary[:-1], 10), (packed, ancillary, 30)):
        with pytest.raises(ModelError):
            decode_prune(*wrong)
    packed, ancillary = encode_huffman(values)
    levels = ancillary.copy()
    levels[HEADER + 1] = 0  # an entry that is no value
    wide = ancillary.copy()
    wide[5] |= 1
    for wrong in ((packed[:0], ancillary, 10), (packed, ancillary[:-2], 10), (packed, levels, 10), (packed, wide, 10)):
        with pytest.raises(ModelError):
            decode_huffman(*wrong)
    with pytest.raises(ModelError, match="at most"):
        decode_huffman(packed, ancillary, decodetypes.MAX_CODES + 1)
