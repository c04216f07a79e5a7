"""The comparison itself: it sees every kind of fault, compares what it says, and runs small networks of many ops exactly."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import Net

from tinykit.errors import ModelError
from tinykit.graph import ir
from tinykit.graph.writer import write_tflite
from tinykit.verify.compare import compare_tflm


def small_net(seed: int = 0) -> Net:
    net = Net(seed)
    a = net.conv(net.input((7, 5, 3), scale=0.1, zero_point=3), 5, act="relu")
    b = net.depthwise(a, padding="same")
    c = net.binary("add", a, b)
    d = net.pool("average", c, (3, 3), (2, 2), "same")
    e = net.reshape(d, (net[d].size,))
    f = net.dense(e, 6)
    net.softmax(f)
    return net


def mutated(graph: ir.Graph, index: int, **arrays: np.ndarray) -> ir.Graph:
    other = graph.copy()
    other.ops[index] = dataclasses.replace(other.ops[index], **arrays)
    return other


def flipped(array: np.ndarray, by: int) -> np.ndarray:
    changed = array.copy()
    changed.reshape(-1)[0] ^= by
    return changed


def test_clean_net_agrees() -> None:
    net = small_net()
    result = compare_tflm(net.done(), None, net.samples(40), "all")
    assert result.mismatches == 0 and result.samples == 40 and result.first is None
    assert result.elements == 40 * sum(net[op.output].size for op in net.graph.ops)


@pytest.mark.parametrize("index", [0, 1, 5])
@pytest.mark.parametrize("field", ["weights", "bias", "multiplier", "shift"])
def test_every_mutation_is_seen_and_named(index: int, field: str) -> None:
    net = small_net()
    graph, x = net.done(), net.samples(40)
    file = write_tflite(graph, keep_names=True)
    op = graph.ops[index]
    by = {"weights": 64, "bias": 1 << 14, "multiplier": 1 << 27, "shift": 1}[field]
    broken = mutated(graph, index, **{field: flipped(getattr(op, field), by)})
    result = compare_tflm(broken, file, x, "all")
    assert result.mismatches > 0
    assert f"tensor {op.output!r}" in result.first and "reference" in result.first


def test_one_weight_by_one_step_is_seen() -> None:
    net = Net(5)
    net.dense(net.input((9,), scale=0.1), 4, spread=0.2)
    graph, x = net.done(), net.samples(200)
    broken = mutated(graph, 0, weights=flipped(graph.ops[0].weights, 1))
    assert compare_tflm(broken, write_tflite(graph), x).mismatches > 0


def test_last_bit_of_a_multiplier_is_refused_by_the_writer() -> None:
    net = small_net()
    graph = net.done()
    broken = mutated(graph, 0, multiplier=flipped(graph.ops[0].multiplier, 1))
    with pytest.raises(ModelError, match="op 'op0'.*would derive multipliers"):
        write_tflite(broken)


def test_inputs_outside_of_int8_are_refused_not_wrapped() -> None:
    net = small_net()
    with pytest.raises(ModelError, match="expects stored integers -128..127"):
        compare_tflm(net.done(), None, net.samples(2).astype(np.int16) + 200)


def test_several_inputs_are_compared() -> None:
    net = Net(4)
    net.binary("sub", net.input((5, 3)), net.input((5, 3)))
    graph = net.done()
    x = {name: net.rng.integers(-128, 128, (6, 5, 3)).astype(np.int8) for name in graph.inputs}
    assert str(compare_tflm(graph, None, x)) == "0 of 90 elements differ, 6 samples"


def test_unknown_kind_of_comparison() -> None:
    net = small_net()
    with pytest.raises(ModelError, match="expected 'outputs' or 'all'"):
        compare_tflm(net.done(), None, net.samples(2), "some")


def test_bounded_memory_makes_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinykit.verify.compare.MEMORY", 5 * 8 * 1500)
    net = small_net()
    graph, x = net.done(), net.samples(23)
    assert compare_tflm(graph, None, x, "all").samples == 23
    broken = mutated(graph, 6, multiplier=graph.ops[6].multiplier // 2)
    x[:-2] = x[0]
    first = compare_tflm(broken, write_tflite(graph), x).first
    assert first is None or "sample" in first


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 1 << 30), st.lists(st.integers(0, 9), min_size=2, max_size=7))
def test_random_chains(seed: int, steps: list[int]) -> None:
    """Random graphs of many ops with skip connections: every inner tensor agrees."""
    net = Net(seed)
    r = net.rng
    now = net.input((11, 7, 3), scale=0.05)
    now = net.conv(now, 5, (3, 3), (2, 1), act="relu6")
    for step in steps:
        x = net[now]
        if step <= 1:
            now = net.conv(now, int(r.integers(1, 8)), (3, 1), (1, 1), padding="same", bits=[8, 4][step])
        elif step == 2:
            now = net.depthwise(now, 2, (2, 3), padding=(0, 1, 2, 0))
        elif step == 3:
            now = net.binary("add", now, net.conv(now, x.channels, (1, 1)), "relu")
        elif step == 4:
            now = net.binary("mul", now, net.table("logistic", now))
        elif step == 5:
            now = net.table("hard_swish", now)
        elif step == 6:
            now = net.concat([now, net.pool("max", now, (3, 3), (1, 1), "same")], 2)
        elif step == 7:
            now = net.binary("mul", now, net.table("logistic", net.mean(now, (0, 1), keep=True)))
        elif step == 8:
            now = net.pad(now, ((0, 1), (1, 0), (0, 0)))
        else:
            now = net.binary("sub", net.requantize(now), now)
    result = compare_tflm(net.done(), None, net.samples(3), "all")
    assert result.mismatches == 0, str(result)


@pytest.mark.parametrize("bits", [2, 4])
def test_narrow_activations_ride_in_int8(bits: int) -> None:
    """Clamps of 4 and 2 bits through every kind of op that has one."""
    total = 0
    for seed in range(12):
        net = Net(seed)
        low = int(net.rng.integers(-128, 128 - (1 << bits)))
        x = net.input((7, 5, 3), bits=bits, qmin=low, zero_point=low, scale=0.3)
        y = net.tensor((7, 5, 4), 0.9, low, bits, low)
        a = net.conv(x, 4, bits=bits, y=y, clamp=(y.low, y.high))
        b = net.pool("average", a, (2, 2), (1, 1), "same")
        z = net.tensor((7, 5, 4), 1.3, low + 1, bits, low)
        c = net.put(ir.Requantize, [b], z, *requantize(net[b], z))
        m = net.tensor((4,), 1.1, low, bits, low)
        net.put(ir.Mean, [c], m, (0, 1), False, *mean(z, m, 35))
        net.pool("max", c, (3, 3), (2, 2), "same")
        result = compare_tflm(net.done(), None, net.samples(4), "all")
        assert result.mismatches == 0, str(result)
        total += result.elements
    print(f"{bits}-bit activations: 0 of {total} elements differ")


def requantize(x: ir.Tensor, y: ir.Tensor) -> tuple[int, int]:
    from tinykit.graph import build

    return build.requantize_parameters(x, y)


def mean(x: ir.Tensor, y: ir.Tensor, count: int) -> tuple[int, int]:
    from tinykit.graph import build

    return build.mean_parameters(x, y, count)
