"""Costs of graphs: hand-computed cases, and the MLPerf Tiny reference models (TINYKIT_DATA names the folder that holds them)."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simplify_graphs import Net

from tinykit.graph import costs, ir
from tinykit.graph.reader import read_tflite

DATA = os.environ.get("TINYKIT_DATA")
MODELS = ("vww_96_int8", "kws_ref_model_int8", "ic_pretrainedResnet_int8", "ad01_int8")


def reference_model(name: str) -> ir.Graph:
    if not DATA:
        pytest.skip("TINYKIT_DATA is not set")
    return read_tflite(Path(DATA) / "reference_models" / f"{name}.tflite")


def residual() -> tuple[ir.Graph, list[str]]:
    """x -> a -> b; a + b -> c; flattened; dense."""
    net = Net((4, 5, 3))
    a = net.conv("x", np.ones((2, 3, 3, 3)), padding=(1, 1, 1, 1))
    b = net.depthwise(a, np.ones((3, 3, 2)), padding=(1, 1, 1, 1))
    c = net.add(a, b)
    flat = net.reshape(c, (40,))
    y = net.dense(flat, np.ones((7, 40)))
    return net.graph(y), [a, b, c, flat, y]


def test_macs_and_weight_bytes() -> None:
    graph, _ = residual()
    assert [costs.op_macs(graph, op) for op in graph.ops] == [20 * 54, 20 * 18, 0, 0, 280]
    assert costs.total_macs(graph) == 1080 + 360 + 280
    assert costs.op_weight_bytes(graph.ops[0]) == costs.WeightBytes(54, 8)
    assert costs.op_weight_bytes(graph.ops[2]) == costs.WeightBytes(0, 0)
    assert costs.op_weight_bytes(dataclasses.replace(graph.ops[1], weight_bits=4)) == costs.WeightBytes(9, 8)
    assert costs.op_weight_bytes(dataclasses.replace(graph.ops[1], weight_bits=2)) == costs.WeightBytes(5, 8)


def test_liveness() -> None:
    graph, (a, b, c, flat, y) = residual()
    steps = costs.liveness(graph)
    assert [s.live for s in steps] == [{"x": 60, a: 40}, {a: 40, b: 40}, {a: 40, b: 40, c: 40}, {c: 40}, {c: 40, y: 7}]
    assert [s.total for s in steps] == [100, 80, 120, 40, 47]
    assert costs.peak(graph) == steps[2]
    assert steps[2].op == f"op_{c}"


def test_liveness_of_edges() -> None:
    """An output that is written early stays to the end, also through an alias; an input lives until its last reader."""
    net = Net((10,))
    a = net.dense("x", np.ones((4, 10)))
    flat = net.reshape(a, (2, 2))
    b = net.dense("x", np.ones((3, 10)))
    c = net.dense(b, np.ones((5, 3)))
    steps = costs.liveness(net.graph(flat, c))
    assert [s.live for s in steps] == [{"x": 10, a: 4}, {"x": 10, a: 4}, {"x": 10, a: 4, b: 3}, {a: 4, b: 3, c: 5}]
    empty = ir.Graph({"x": ir.Tensor("x", (9,), bits=4)}, [], ("x",), ("x",))
    assert costs.peak(empty).total == 5
    assert costs.tflm_arena_estimate(empty).activations == 16


def test_constants_and_bits() -> None:
    net = Net((10,))
    net.tensors["x"] = ir.Tensor("x", (10,), dtype=ir.Dtype.FLOAT, bits=32)
    a = net.emit(ir.Quantize, ("x",), (10,))
    net.tensors[a] = dataclasses.replace(net.tensors[a], bits=2)
    b = net.emit(ir.Minimum, (a, net.constant(np.ones(10))), (10,))
    assert [s.live for s in costs.liveness(net.graph(b))] == [{"x": 40, a: 3}, {a: 3, b: 10}]


def test_layer_rows() -> None:
    graph, (a, *_, y) = residual()
    rows = costs.layer_rows(graph)
    assert rows[0] == costs.LayerRow(f"op_{a}", "conv2d", (4, 5, 3), (4, 5, 2), 1080, 8, 8, 54, 8, 16, 100)
    assert rows[2].weight_bits == rows[2].quant_bytes == 0
    assert rows[4] == costs.LayerRow(f"op_{y}", "fully_connected", (40,), (7,), 280, 8, 8, 280, 28, 56, 47)
    assert sum(r.macs for r in rows) == costs.total_macs(graph)


def test_greedy_planner_by_hand() -> None:
    """The middle one is largest and goes to 0; of the equal two behind it the later goes first; 10 bytes take 16."""
    assert costs.greedy_offsets([(32, 0, 1), (64, 1, 2), (32, 2, 3)]) == [(64, 32), (0, 64), (64, 32)]
    assert costs.greedy_offsets([(32, 0, 1), (32, 1, 2), (10, 1, 1)]) == [(32, 32), (0, 32), (64, 16)]
    assert costs.greedy_offsets([]) == []


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 100), st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_planned_buffers_do_not_overlap(raw: list[tuple[int, int, int]]) -> None:
    buffers = [(size, min(a, b), max(a, b)) for size, a, b in raw]
    plan = costs.greedy_offsets(buffers)
    for i, ((offset, size), (need, first, last)) in enumerate(zip(plan, buffers)):
        assert offset % 16 == 0
        assert need <= size < need + 16
        for (other, other_size), (_, other_first, other_last) in zip(plan[:i], buffers):
            assert other_first > last or first > other_last or other + other_size <= offset or offset + size <= other


@pytest.mark.parametrize(("name", "macs"), zip(MODELS, (7_489_664, 2_656_768, 12_501_632, 264_192)))
def test_macs_of_reference_models(name: str, macs: int) -> None:
    assert costs.total_macs(reference_model(name)) == macs


@pytest.mark.parametrize(("name", "peak"), zip(MODELS, (55_296, 16_000, 49_152, 768)))
def test_peaks_of_reference_models(name: str, peak: int) -> None:
    assert costs.peak(reference_model(name)).total == peak


@pytest.mark.parametrize(
    ("name", "activations", "persistent"),
    zip(MODELS, (73_728, 16_000, 49_152, 768), (26_884, 6_724, 5_140, 1_444)),
)
def test_arena_estimate_of_reference_models(name: str, activations: int, persistent: int) -> None:
    """Measured with reference kernels on a Cortex-M4F, the planner outside the arena."""
    estimate = costs.tflm_arena_estimate(reference_model(name))
    assert estimate.activations == activations
    assert abs(estimate.persistent - persistent) <= 116
    assert estimate.total == estimate.activations + estimate.persistent
    assert "116 B" in estimate.error_note
