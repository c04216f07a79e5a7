"""The simplifier on hand-made graphs with hand-computed answers."""

import numpy as np
import pytest
from simplify_graphs import Net, check, inputs_for, mismatches, with_output

from tinykit.errors import ModelError
from tinykit.graph import fixedpoint as fp
from tinykit.graph import ir
from tinykit.graph.passes import demand, ranges
from tinykit.graph.simplify import simplify

ONES3 = np.ones((1, 3, 3, 1), int)


def pointwise(*rows: list[int]) -> np.ndarray:
    """1x1 convolution weights from a matrix."""
    return np.array(rows)[:, None, None, :]


def constant_then(value: int, zero_point: int, padding: tuple[int, int, int, int]) -> ir.Graph:
    """A 1x1 convolution whose second channel is always `value`, read by a 3x3 convolution."""
    net = Net((5, 7, 1))
    a = net.conv("x", pointwise([40], [0]), bias=[0, 50 * (value - zero_point)], zero_point=zero_point)
    r = np.random.default_rng(3)
    return net.graph(net.conv(a, r.integers(-9, 10, (3, 3, 3, 2)), padding=padding, real=0.01))


def test_zero_weights_fold_into_the_bias() -> None:
    net = Net((3, 5, 2))
    a = net.conv("x", pointwise([1, 2], [0, 0], [3, 4]), bias=[0, 100, 0], zero_point=7)  # 100 * 0.02 = 2: always 9
    y = net.conv(a, pointwise([1, 10, 2], [5, -4, 0]), bias=[3, 1])
    result = check(net.graph(y))
    first, second = result.graph.ops
    assert result.kept[a].tolist() == [0, 2]
    assert first.weights[:, 0, 0].tolist() == [[1, 2], [3, 4]]
    assert second.weights[:, 0, 0].tolist() == [[1, 2], [5, 0]]
    assert second.bias.tolist() == [3 + 10 * 2, 1 - 4 * 2]
    assert result.graph.tensors[a].shape == (3, 5, 2)
    assert result.removed.channels == {a: 1}
    assert result.removed.macs == (15 * (6 + 6), 15 * (4 + 4))
    assert result.removed.weight_bytes == (12, 8)
    assert "120" in str(result.removed)


def test_padded_reader_keeps_a_constant_that_is_not_the_zero_point() -> None:
    graph = constant_then(value=9, zero_point=-4, padding=(1, 1, 1, 1))
    result = check(graph)
    assert result.kept["t0_conv2d"].tolist() == [0, 1]
    assert not result.removed.channels


@pytest.mark.parametrize(("value", "zero_point", "padding"), [(-4, -4, (1, 1, 1, 1)), (9, -4, (0, 0, 0, 0)), (5, 5, (0, 1, 0, 0))])
def test_foldable_constants_go(value: int, zero_point: int, padding: tuple[int, int, int, int]) -> None:
    result = check(constant_then(value, zero_point, padding))
    assert result.kept["t0_conv2d"].tolist() == [0]


@pytest.mark.parametrize("padding", [(1, 1, 1, 1), (1, 0, 0, 0), (0, 0, 0, 1)])
def test_a_wrong_folding_is_caught(monkeypatch: pytest.MonkeyPatch, padding: tuple[int, int, int, int]) -> None:
    """Folding a constant whatever the padding must not get past the comparison."""
    graph = constant_then(value=9, zero_point=-4, padding=padding)
    monkeypatch.setattr(demand, "foldable", lambda graph, op, x: x.constant)
    result = simplify(graph)
    assert result.kept["t0_conv2d"].tolist() == [0]
    wrong, _ = mismatches(graph, result, inputs_for(graph))
    assert wrong == ["t1_conv2d", "t1_conv2d"]  # as an inner tensor and as the output


def test_wrong_intervals_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """An analysis that forgets the padding sees a constant behind a padded depthwise layer where there is none."""
    net = Net((5, 5, 1))
    a = net.conv("x", pointwise([0], [30]), bias=[400, 0], zero_point=3)  # channel 0 is always 11
    b = net.depthwise(a, np.full((3, 3, 2), 5), padding=(1, 1, 1, 1), real=0.1)
    graph = net.graph(net.conv(b, pointwise([3, 4])))
    assert check(graph).kept[b].tolist() == [0, 1]
    monkeypatch.setattr(ranges, "is_padded", lambda op: False)
    wrong, _ = mismatches(graph, simplify(graph), inputs_for(graph))
    assert wrong


def test_unread_channels_vanish_backwards() -> None:
    net = Net((5, 5, 2))
    r = np.random.default_rng(0)
    a = net.conv("x", r.integers(-50, 50, (4, 3, 3, 2)), padding=(1, 1, 1, 1))
    b = net.depthwise(a, r.integers(-50, 50, (3, 3, 4)), padding=(1, 1, 1, 1))
    c = net.pool(ir.MaxPool, b, (2, 2))
    result = check(net.graph(net.conv(c, pointwise([1, 0, 3, 0], [2, 0, 0, 0]))))
    assert [result.kept[t].tolist() for t in (a, b, c)] == [[0, 2]] * 3


def test_residual_add_ties_its_operands() -> None:
    """Channel 1 is unread behind the sum and channel 2 everywhere, but a second reader wants channel 1 of the shortcut."""
    for second_reader, expected in ((True, [0, 1]), (False, [0])):
        net = Net((3, 3, 2))
        r = np.random.default_rng(1)
        a = net.conv("x", r.integers(20, 50, (3, 1, 1, 2)))
        b = net.conv("x", r.integers(20, 50, (3, 1, 1, 2)))
        y = net.conv(net.add(a, b), pointwise([7, 0, 0]))
        outputs = (y, net.conv(b, pointwise([0, 9, 0]))) if second_reader else (y,)
        result = check(net.graph(*outputs))
        assert [result.kept[t].tolist() for t in (a, b, "t2_add")] == [expected] * 3


def test_flatten_maps_channels_to_features() -> None:
    net = Net((2, 3, 1))
    a = net.conv("x", pointwise([20], [0], [30]))
    flat = net.reshape(a, (18,))
    weights = np.arange(1, 19)[None]
    result = check(net.graph(net.dense(flat, weights)))
    assert result.kept[a].tolist() == [0, 2]
    assert result.kept[flat].tolist() == [f for f in range(18) if f % 3 != 1]
    assert result.graph.ops[-1].weights.tolist() == [[f + 1 for f in range(18) if f % 3 != 1]]


def test_concat_maps_by_offset_and_drops_unread_inputs() -> None:
    net = Net((3, 3, 1))
    a, b, c = (net.conv("x", pointwise([20 + i], [30 + i])) for i in range(3))
    joined = net.emit(ir.Concat, (a, b, c), (3, 3, 6), axis=2)
    result = check(net.graph(net.conv(joined, pointwise([1, 1, 0, 0, 0, 5]))))
    assert result.kept[joined].tolist() == [0, 1, 5]
    assert result.kept[c].tolist() == [1]
    assert b not in result.kept
    assert result.removed.ops == (f"op_{b}",)
    assert result.removed.channels[b] == 2


def test_saturated_clamp_is_a_constant() -> None:
    """Inputs reach +-128 * 10 * 0.02 = +-25.6: a bias worth 160 saturates at 127, one worth 100 does not."""
    net = Net((3, 3, 1))
    a = net.conv("x", pointwise([10], [10]), bias=[8000, 5000])
    result = check(net.graph(net.conv(a, pointwise([3, 4]))))
    assert result.kept[a].tolist() == [1]
    assert result.graph.ops[-1].bias.tolist() == [3 * 127]


def test_zero_multiplier_is_a_constant() -> None:
    net = Net((3, 3, 1))
    a = net.conv("x", pointwise([90], [10]), multiplier=np.array([False, True]), zero_point=12)
    assert check(net.graph(net.conv(a, pointwise([3, 4])))).kept[a].tolist() == [1]


def test_a_bound_beyond_int32_is_unknown() -> None:
    """The same clamp saturates on paper, but an accumulator that can leave int32 means nothing."""
    for bias, expected in (((1 << 31) - 1, [0, 1]), ((1 << 31) - 1 - 10 * 128, [1])):
        net = Net((3, 3, 1))
        a = net.conv("x", pointwise([-10], [10]), bias=[bias, 0])
        graph = net.graph(net.conv(a, pointwise([3, 4])))
        assert simplify(graph).kept[a].tolist() == expected


def test_left_shift_beyond_int32_is_unknown() -> None:
    net = Net((3, 3, 1))
    a = net.conv("x", pointwise([1], [10]), bias=[1 << 29, 0], real=[3.0, 0.02])  # shift 2: 2^29 * 4 leaves int32
    assert simplify(net.graph(net.conv(a, pointwise([3, 4])))).kept[a].tolist() == [0, 1]


def test_a_fold_that_would_overflow_the_bias_is_not_made() -> None:
    for bias, weight, expected in ((99, 10, [0, 1]), (100, 10, [0]), (99, -10, [0, 1]), (100, -10, [0])):
        net = Net((3, 3, 1))
        a = net.conv("x", pointwise([1], [0]), bias=[0, 500])  # channel 1 is always 10
        near_the_end = (fp.INT32_MAX - bias) * (1 if weight > 0 else -1)
        y = net.conv(a, pointwise([1, weight]), bias=[near_the_end], real=2.0**-25)
        assert simplify(net.graph(y)).kept[a].tolist() == expected


def test_no_tensor_becomes_empty() -> None:
    net = Net((3, 3, 2))
    a = net.conv("x", np.zeros((5, 1, 1, 2)), bias=[1000, 0, 0, 0, 0])
    flat = net.reshape(a, (45,))
    result = check(net.graph(net.dense(flat, np.ones((3, 45)))))
    assert all(t.size for t in result.graph.tensors.values())
    assert [len(result.kept[t]) for t in (a, flat)] == [1, 9]


def test_a_constant_that_must_exist_has_no_weights() -> None:
    """Depthwise channel 0 saturates at 127; the padded reader cannot fold it, so it stays, but costs nothing to store."""
    net = Net((5, 5, 2))
    a = net.depthwise("x", np.full((3, 3, 2), 4), bias=[1 << 24, 0], padding=(1, 1, 1, 1))
    result = check(net.graph(net.conv(a, np.full((1, 3, 3, 2), 2), padding=(1, 1, 1, 1))))
    assert result.kept[a].tolist() == [0, 1]
    assert not result.graph.ops[0].weights[..., 0].any()
    assert result.graph.ops[0].weights[..., 1].all()


def test_constants_flow_through_other_ops() -> None:
    """A constant channel stays one through depthwise, pools, tables, sums, pads with its value, and means."""
    net = Net((7, 7, 1))
    t = net.conv("x", pointwise([0], [30]), bias=[0, 0], zero_point=5)  # channel 0 is always 5
    t = net.depthwise(t, np.full((3, 3, 2), 7), padding=(1, 1, 1, 1), bias=[150, 0], zero_point=5)  # 8
    t = net.emit(ir.Pad, (t,), (8, 8, 2), amounts=((1, 0), (0, 1), (0, 0)), value=8)
    t = net.pool(ir.AveragePool, t, (2, 2), (2, 2))
    t = net.pool(ir.MaxPool, t, (3, 3), padding=(1, 1, 1, 1))
    table = np.arange(-128, 128)[::-1].astype(np.int8)
    t = net.emit(ir.Table, (t,), net.shape(t), function="relu", table=table)
    t = net.add(t, t)
    t = net.emit(ir.Mean, (t,), (2,), axes=(0, 1), keep_dims=False, multiplier=1 << 30, shift=-3)
    graph = net.graph(net.dense(t, np.array([[3, 4]])))
    interval = ranges.value_ranges(graph)
    assert all(interval[op.output].constant[0] for op in graph.ops[:-1])
    assert interval["t2_pad"].low[0] == 8
    assert interval["t5_table"].low[0] == -9
    assert len(check(graph).kept[t]) == 1


def test_a_pad_with_another_value_is_no_constant() -> None:
    net = Net((3, 3, 1))
    a = net.conv("x", pointwise([0], [30]), bias=[250, 0])
    padded = net.emit(ir.Pad, (a,), (4, 3, 2), amounts=((1, 0), (0, 0), (0, 0)), value=0)
    assert check(net.graph(net.conv(padded, pointwise([3, 4])))).kept[a].tolist() == [0, 1]


def test_noops_vanish() -> None:
    net = Net((4, 4, 3))
    m, s = fp.quantize_multiplier(1.0)
    x = net.conv("x", np.random.default_rng(0).integers(-50, 50, (3, 1, 1, 3)))
    t = net.reshape(x, (4, 4, 3))
    t = net.emit(ir.Requantize, (t,), (4, 4, 3), multiplier=m, shift=s)
    t = net.emit(ir.Transpose, (t,), (4, 4, 3), permutation=(0, 1, 2))
    t = net.emit(ir.Pad, (t,), (4, 4, 3), amounts=((0, 0), (0, 0), (0, 0)), value=1)
    t = net.pool(ir.AveragePool, t, (1, 1))
    t = net.emit(ir.Concat, (t,), (4, 4, 3), axis=0)
    t = net.emit(ir.StridedSlice, (t,), (4, 4, 3), begin=(0, 0, 0), end=(4, 4, 3), step=(1, 1, 1))
    t = net.emit(ir.Table, (t,), (4, 4, 3), function="relu", table=np.arange(-128, 128).astype(np.int8))
    t = net.reshape(net.reshape(t, (16, 3)), (2, 8, 3))
    y = net.conv(t, pointwise([1, 2, 3]))
    result = check(net.graph(y))
    assert [op.kind for op in result.graph.ops] == ["conv2d", "reshape", "conv2d"]
    assert len(result.removed.ops) == 9
    assert set(result.graph.tensors) == {"x", x, t, y}


def test_what_changes_a_byte_stays() -> None:
    net = Net((4, 4, 3))
    m, s = fp.quantize_multiplier(1.0)
    t = net.emit(ir.Requantize, ("x",), (4, 4, 3), zero_point=1, multiplier=m, shift=s)
    t = net.pool(ir.MaxPool, t, (1, 1), act_min=-100)
    t = net.pool(ir.MaxPool, t, (1, 1), stride=(2, 2))
    t = net.emit(ir.Transpose, (t,), (2, 2, 3), permutation=(1, 0, 2))
    t = net.emit(ir.StridedSlice, (t,), (2, 2, 3), begin=(1, 0, 0), end=(-1, 2, 3), step=(-1, 1, 1))
    table = np.arange(-128, 128).astype(np.int8)
    table[255] = 0
    t = net.emit(ir.Table, (t,), (2, 2, 3), function="relu", table=table)
    assert not check(net.graph(t)).removed.ops


def test_a_pool_over_one_element_and_a_narrowed_table_vanish() -> None:
    """Values behind the convolution lie in 0..127, where the table is the identity; a 3x3 pool over one padded element is that element."""
    net = Net((1, 1, 3))
    a = net.conv("x", np.full((2, 1, 1, 3), 9), act_min=0)
    t = net.pool(ir.MaxPool, a, (3, 3), padding=(1, 1, 1, 1))
    t = net.emit(ir.Table, (t,), (1, 1, 2), function="relu", table=np.maximum(np.arange(-128, 128), 0).astype(np.int8))
    t = net.emit(ir.Mean, (t,), (1, 1, 2), axes=(0, 1), keep_dims=True, multiplier=1 << 30, shift=1)
    t = net.emit(ir.Mean, (t,), (2,), axes=(0, 1), keep_dims=False, multiplier=1 << 30, shift=1)
    result = check(net.graph(t))
    assert [op.kind for op in result.graph.ops] == ["conv2d", "reshape"]
    assert result.graph.ops[-1].output == t


def test_graph_outputs_keep_their_names() -> None:
    net = Net((4, 4, 3))
    a = net.conv("x", pointwise([1, 2, 3]))
    y = net.reshape(a, (4, 4, 1))
    result = check(net.graph(y))
    assert [op.output for op in result.graph.ops] == [y]
    assert a not in result.kept
    only = Net((4, 4, 3))
    assert len(check(only.graph(only.reshape("x", (4, 4, 3)))).graph.ops) == 1  # nobody else can write the output


def test_dead_ops_and_constants_vanish() -> None:
    net = Net((3, 3, 2))
    a = net.conv("x", pointwise([1, 2], [3, 4]))
    net.add(a, net.constant(np.full((2,), 3)))
    result = check(with_output(net.graph(a), a))
    assert len(result.graph.ops) == 1
    assert not result.graph.constants
    assert set(result.graph.tensors) == {"x", a}


def test_constant_operands_are_sliced() -> None:
    net = Net((3, 3, 2))
    a = net.conv("x", pointwise([1, 2], [3, 4], [5, 6]))
    b = net.add(a, net.constant(np.array([10, 20, 30])))
    result = check(net.graph(net.conv(b, pointwise([1, 0, 2]))))
    assert result.graph.constants["c0"].tolist() == [10, 30]


def test_per_channel_arrays_are_sliced_together() -> None:
    for per_channel, scales in ((True, 2), (False, 1)):
        net = Net((3, 3, 2))
        a = net.conv("x", pointwise([1, 2], [3, 4], [5, 6]), bias=[1, 2, 3], real=[0.1, 0.2, 0.3], per_channel=per_channel)
        op = check(net.graph(net.conv(a, pointwise([1, 0, 2])))).graph.ops[0]
        assert op.bias.tolist() == [1, 3]
        assert op.multiplier.tolist() == [fp.quantize_multiplier(r)[0] for r in (0.1, 0.3)]
        assert op.weight_scale.shape == (scales,)


def test_a_per_channel_dense_layer_keeps_two_rows() -> None:
    """With one scale it would count as per-tensor, for which TFLM computes the multiplier in another precision."""
    for per_channel, rows in ((True, 2), (False, 1)):
        net = Net((5,))
        a = net.dense("x", np.arange(20).reshape(4, 5), per_channel=per_channel)
        result = check(net.graph(net.dense(a, np.array([[0, 0, 5, 0]]))))
        assert len(result.graph.ops[0].bias) == rows
        assert 2 in result.kept[a]


def test_the_original_is_left_alone() -> None:
    graph = constant_then(-4, -4, (1, 1, 1, 1))
    before = [op.weights.copy() for op in graph.ops]
    simplify(graph)
    assert all((op.weights == old).all() for op, old in zip(graph.ops, before))
    assert graph.tensors["t0_conv2d"].shape == (5, 7, 2)


def test_a_damaged_graph_is_refused() -> None:
    graph = constant_then(-4, -4, (0, 0, 0, 0))
    graph.ops.reverse()
    with pytest.raises(ModelError, match="before it is written"):
        simplify(graph)


@pytest.mark.parametrize(("begin", "end", "step", "read"), [(1, 4, 1, [1, 2, 3]), (0, 5, 2, [0, 2, 4]), (4, -1, -2, [4, 2, 0])])
def test_slices_of_channels(begin: int, end: int, step: int, read: list[int]) -> None:
    """A contiguous slice reads its channels only; one that skips or reverses keeps all."""
    net = Net((2, 3, 2))
    a = net.conv("x", pointwise(*[[10 + i, 3] for i in range(5)]))
    part = net.emit(ir.StridedSlice, (a,), (2, 3, 3), begin=(0, 0, begin), end=(2, 3, end), step=(1, 1, step))
    graph = net.graph(net.conv(part, pointwise([0, 2, 5])))
    assert ranges.sliced_channels(graph.ops[1], 5) == range(begin, end, step)
    assert list(range(begin, end, step)) == read
    assert check(graph).kept[a].tolist() == ([2, 3] if step == 1 else [0, 1, 2, 3, 4])


def test_float_edges() -> None:
    net = Net((3, 3, 2))
    net.tensors["x"] = ir.Tensor("x", (3, 3, 2), dtype=ir.Dtype.FLOAT, bits=32)
    a = net.emit(ir.Quantize, ("x",), (3, 3, 2), zero_point=3)
    b = net.conv(a, pointwise([1, 2], [3, 0]))
    net.tensors["y"] = ir.Tensor("y", (3, 3, 2), dtype=ir.Dtype.FLOAT, bits=32)
    net.ops.append(ir.Dequantize("out", (b,), "y"))
    result = simplify(net.graph("y"))
    assert not result.removed.channels
    wrong, _ = mismatches(net.graph("y"), result, np.random.default_rng(0).normal(size=(4, 3, 3, 2)).astype(np.float32))
    assert not wrong
