"""Random single operations, built as graphs with random scales, against TFLM through the writer. Every element must agree."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nets import Net

from tinykit.errors import ModelError
from tinykit.graph import build, ir
from tinykit.verify.compare import compare_tflm

quick = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
primes = st.sampled_from([1, 2, 3, 5, 7, 11, 13])
size = st.sampled_from([2, 3, 5, 7, 11, 13])
seeds = st.integers(0, 1 << 30)
small = st.tuples(st.integers(1, 3), st.integers(1, 3))
activations = st.sampled_from(["none", "relu", "relu6", "relu_n1_to_1"])
spreads = st.sampled_from([0.003, 0.1, 1.0, 1.0, 30.0])
paddings = st.one_of(st.sampled_from(["same", "valid"]), st.tuples(*[st.integers(0, 3)] * 4))

TOTAL: dict[str, list[int]] = {}


def exact(kind: str, net: Net, n: int = 3, x: np.ndarray | None = None) -> None:
    result = compare_tflm(net.done(), None, net.samples(n) if x is None else x, "all")
    count = TOTAL.setdefault(kind, [0, 0])
    count[0], count[1] = count[0] + result.mismatches, count[1] + result.elements
    assert result.mismatches == 0, str(result)


@pytest.fixture(autouse=True)
def counted(tally):
    """Adds what each test compared to the totals that the test session shows."""
    TOTAL.clear()
    yield
    for bad, n in TOTAL.values():
        tally("TFLM vs reference, random single ops", bad, n)


@quick
@given(seeds, size, size, primes, primes, small, small, small, paddings, activations, st.booleans(), st.sampled_from([8, 4, 2]), spreads)
def test_conv(seed, h, w, c, out, kernel, stride, dilation, padding, act, per_channel, bits, spread) -> None:
    if padding != "same" and ((kernel[0] - 1) * dilation[0] >= h or (kernel[1] - 1) * dilation[1] >= w):
        padding = "same"
    net = Net(seed)
    net.conv(net.input((h, w, c)), out, kernel, stride, dilation, padding, act, per_channel, bits, spread)
    exact("conv2d", net)


@quick
@given(
    seeds,
    size,
    size,
    primes,
    st.integers(1, 3),
    small,
    small,
    small,
    paddings,
    activations,
    st.booleans(),
    st.sampled_from([8, 4]),
    spreads,
)
def test_depthwise(seed, h, w, c, mult, kernel, stride, dilation, padding, act, per_channel, bits, spread) -> None:
    if padding != "same" and ((kernel[0] - 1) * dilation[0] >= h or (kernel[1] - 1) * dilation[1] >= w):
        padding = "same"
    net = Net(seed)
    net.depthwise(net.input((h, w, c)), mult, kernel, stride, dilation, padding, act, per_channel, bits, spread)
    exact("depthwise_conv2d", net)


@quick
@given(seeds, st.sampled_from([(1,), (37,), (3, 5), (2, 3, 5)]), primes, activations, st.booleans(), st.sampled_from([8, 4, 2]), spreads)
def test_fully_connected(seed, shape, out, act, per_channel, bits, spread) -> None:
    net = Net(seed)
    net.dense(net.input(shape), out, act, per_channel, bits, spread)
    exact("fully_connected", net, 8)


PAIRS = [
    ((5, 7, 3), (5, 7, 3)), ((5, 7, 3), (1, 1, 3)), ((5, 7, 3), (1, 1, 1)), ((5, 1, 3), (1, 7, 1)), ((1, 1, 3), (5, 7, 3)),
    ((7, 3), (3,)), ((11,), (11,)), ((5, 7, 3), (3,)), ((5, 7, 3), (7, 1)), ((1,), (13,)),
]  # fmt: skip


@quick
@given(seeds, st.sampled_from(PAIRS), st.sampled_from(["add", "sub", "mul"]), activations, spreads, st.booleans())
def test_binary(seed, shapes, kind, act, spread, swap) -> None:
    net = Net(seed)
    operands = [net.input(shapes[0]), net.constant(shapes[1])]
    net.binary(kind, *(operands[::-1] if swap else operands), act, max(spread, 0.1))
    exact(kind, net)


@quick
@given(seeds, st.sampled_from(PAIRS), st.sampled_from(["minimum", "maximum"]))
def test_extremum(seed, shapes, kind) -> None:
    net = Net(seed)
    x = net.input(shapes[0])
    net.extremum(kind, x, net.constant(shapes[1], scale=net[x].scale, zero_point=net[x].zero_point))
    exact(kind, net)


@quick
@given(seeds, size, size, primes, small, small, st.sampled_from(["same", "valid"]), activations, st.sampled_from(["average", "max"]))
def test_pool(seed, h, w, c, window, stride, padding, act, kind) -> None:
    if window[0] > h or window[1] > w:
        padding = "same"
    net = Net(seed)
    net.pool(kind, net.input((h, w, c)), window, stride, padding, act)
    exact(f"{kind}_pool", net)


@quick
@given(seeds, size, size, primes, st.sets(st.integers(0, 2), min_size=1), st.booleans(), st.booleans())
def test_mean(seed, h, w, c, axes, keep, same_scale) -> None:
    net = Net(seed)
    net.mean(net.input((h, w, c)), tuple(sorted(axes)), keep, same_scale)
    exact("mean", net, 5)


@quick
@given(seeds, st.sampled_from([(1,), (2,), (10,), (301,), (3, 7), (2, 3, 5)]), st.floats(-4, 2), st.sampled_from([1.0, 0.5, 2.0, 0.1]))
def test_softmax(seed, shape, exponent, beta) -> None:
    net = Net(seed)
    x = net.input(shape, scale=10**exponent)
    net.softmax(x, beta)
    samples = net.samples(8)
    samples[1] = 0
    samples[2] = net.rng.integers(-3, 4, samples[2].shape)
    exact("softmax", net, x=samples)


@quick
@given(
    seeds,
    size,
    size,
    primes,
    st.tuples(*[st.tuples(st.integers(0, 3), st.integers(0, 3))] * 3),
    st.one_of(st.none(), st.integers(-128, 127)),
)
def test_pad(seed, h, w, c, amounts, value) -> None:
    net = Net(seed)
    net.pad(net.input((h, w, c)), amounts, value)
    exact("pad", net)


@quick
@given(seeds, size, size, primes, st.data())
def test_strided_slice(seed, h, w, c, data) -> None:
    begin, end, step = [], [], []
    for d in (h, w, c):
        low = data.draw(st.integers(0, d - 1))
        high = data.draw(st.integers(low + 1, d))
        stride, back = data.draw(st.integers(1, 3)), data.draw(st.booleans())
        begin.append(high - 1 if back else low)
        end.append(low - 1 if back else high)
        step.append(-stride if back else stride)
    net = Net(seed)
    net.slice(net.input((h, w, c)), begin, end, step)
    exact("strided_slice", net)


@quick
@given(seeds, size, size, primes, st.permutations([0, 1, 2]), st.integers(0, 2))
def test_movers(seed, h, w, c, order, axis) -> None:
    net = Net(seed)
    x = net.input((h, w, c))
    same = {"scale": net[x].scale, "zero_point": net[x].zero_point}
    shape = [h, w, c]
    shape[axis] = 2
    y = net.concat([x, net.constant(shape, **same), x], axis)
    y = net.transpose(y, order)
    net.reshape(y, (net[y].size,))
    exact("concat, transpose, reshape", net)


@quick
@given(seeds, size, size, primes, st.integers(0, 2))
def test_argmax_requantize_dequantize(seed, h, w, c, axis) -> None:
    net = Net(seed)
    y = net.requantize(net.input((h, w, c)))
    net.argmax(y, axis)
    net.dequantize(y)
    exact("requantize, argmax, dequantize", net)


@quick
@given(seeds, st.sampled_from([(5, 7, 3), (31,)]))
def test_quantize_from_float(seed, shape) -> None:
    net = Net(seed)
    x = net.input(shape, dtype=ir.Dtype.FLOAT, bits=32, scale=1.0, zero_point=0)
    y = net.quantize(x)
    steps = net.rng.integers(-300, 300, (6, *shape)) + net.rng.choice([0.0, 0.5, -0.5, 0.25], (6, *shape))
    exact("quantize", net, x=(steps * net[y].scale).astype(np.float32))


@pytest.mark.parametrize("multiplier", [1.0, 1.5, 700.0, 2.0**20])
def test_multipliers_above_one(multiplier) -> None:
    """Scale ratios from 1 up, where the accumulator is shifted left."""
    net = Net(3)
    x = net.input((4, 4, 2), scale=1.0, zero_point=0)
    ws = np.array([1.0, 0.5, 0.75], np.float32)
    y = net.tensor((4, 4, 3), 1.0 / multiplier, 5)
    w = net.rng.integers(-1, 2, (3, 1, 1, 2)).astype(np.int8)
    m, s = build.weight_multipliers(net[x], ws, y, 3)
    net.put(ir.Conv2D, [x], y, w, np.array([1, -1, 0], np.int32), m, s, ws)
    exact("conv2d", net, 20, net.rng.integers(-3, 4, (20, 4, 4, 2)).astype(np.int8))


def test_saturation_and_clamp_corners() -> None:
    """Accumulators far beyond 8 bits, extreme zero points, extreme weights and biases."""
    for zero_point in (-128, 0, 127):
        for bias in (-(1 << 27), 1 << 27, 0):
            net = Net(1)
            x = net.input((3, 3, 64), scale=0.5, zero_point=zero_point)
            ws, y = np.array([0.25, 0.001], np.float32), net.tensor((3, 3, 2), 0.5, zero_point)
            w = np.full((2, 3, 3, 64), -128, np.int8)
            w[1] = 127
            m, s = build.weight_multipliers(net[x], ws, y, 2)
            net.put(ir.Conv2D, [x], y, w, np.full(2, bias, np.int32), m, s, ws, padding=(1, 1, 1, 1))
            exact("conv2d", net)


def test_overflowing_accumulator_is_refused() -> None:
    net = Net(1)
    x = net.input((4,), scale=1.0, zero_point=0)
    y = net.tensor((1,), 2.0**-25, 0)
    ws = np.ones(1, np.float32)
    m, s = build.weight_multipliers(net[x], ws, y, 1)
    net.put(ir.FullyConnected, [x], y, np.full((1, 4), 127, np.int8), np.zeros(1, np.int32), m, s, ws)
    with pytest.raises(ModelError, match="leaves 32 bits"):
        compare_tflm(net.done(), None, np.full((1, 4), 127, np.int8))
