"""In which precision TFLM forms multipliers, clamps and quantised inputs: inputs chosen so that float32 and double give different bytes.

Random networks show such an error once in a hundred thousand elements. These tests compute where the two precisions part and go there.
"""

import numpy as np
import pytest
from nets import Net

from tinykit.graph import build, ir
from tinykit.graph import fixedpoint as fp
from tinykit.graph.writer import write_tflite
from tinykit.verify.compare import compare_tflm
from tinykit.verify.tflm import TflmRunner


def telling_biases(sx: np.float32, sw: np.float32, sy: np.float32, rng: np.random.Generator) -> np.ndarray:
    """Accumulators next to a rounding tie for which the two precisions of sx * sw give different outputs."""
    double, single = float(sx) * float(sw) / float(sy), float(sx * sw) / float(sy)
    near = np.round((rng.integers(-100, 100, 300) + 0.5) / double)[:, None] + np.arange(-30, 31)
    acc = near.reshape(-1).astype(np.int64)
    acc = acc[np.abs(acc) < 1 << 30]
    a, b = (fp.multiply_by_quantized_multiplier(acc, *fp.quantize_multiplier(r)) for r in (single, double))
    return acc[(a != b) & (np.abs(b) < 127)][:200]


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", ["fully_connected", "conv2d", "depthwise_conv2d"])
def test_product_of_scales(kind: str, per_channel: bool) -> None:
    total = 0
    for i in range(150):
        net = Net(i)
        sx, sw, sy = (np.float32(10 ** net.rng.uniform(*r)) for r in ((-2, 0), (-3, -1), (-0.5, 0.5)))
        bias = telling_biases(sx, sw, sy, net.rng).astype(np.int32)
        out = len(bias)
        if not out:
            continue
        flat = kind == "fully_connected"
        x = net.input((1,) if flat else (1, 1, 1), scale=sx, zero_point=0)
        y = net.tensor((out,) if flat else (1, 1, out), sy, 0)
        ws = np.full(out if per_channel else 1, sw, np.float32)
        weights = np.zeros({"fully_connected": (out, 1), "conv2d": (out, 1, 1, 1), "depthwise_conv2d": (1, 1, out)}[kind], np.int8)
        extra = {"depth_multiplier": out} if kind == "depthwise_conv2d" else {}
        net.put(ir.OPS[kind], [x], y, weights, bias, *build.weight_multipliers(net[x], ws, y, out), ws, **extra)
        result = compare_tflm(net.done(), None, np.zeros((1, *net[x].shape), np.int8))
        assert result.mismatches == 0, str(result)
        total += result.elements
    assert total >= 20
    print(
        f"{kind}, {'per channel' if per_channel else 'per tensor'}: 0 of {total} elements differ where the precision of the product tells"
    )


def test_all_pairs_of_binary_ops() -> None:
    """Every pair of stored values: 65,536 elements a graph, enough for a last-bit error of a multiplier to show."""
    total = 0
    for i in range(24):
        kind = ("add", "sub", "mul")[i % 3]
        net = Net(i)
        x, b = net.input((256, 256)), net.constant((1, 256))
        net.graph.constants[b] = np.arange(-128, 128, dtype=np.int8)[None]
        net.binary(kind, x, b, spread=10 ** net.rng.uniform(-0.7, 0.7))
        rows = np.broadcast_to(np.arange(-128, 128, dtype=np.int8)[:, None], (256, 256))
        result = compare_tflm(net.done(), None, rows[None])
        assert result.mismatches == 0, str(result)
        total += result.elements
    print(f"add, sub, mul on all pairs: 0 of {total} elements differ")


def test_product_of_scales_of_mul() -> None:
    total = 0
    rng = np.random.default_rng(5)
    for i in range(60):
        ratio = (1.5, 0.75, 0.375, 0.3125, 0.1875)[i % 5] / 64
        while True:
            s1, s2 = (np.float32(10 ** rng.uniform(-2, 0)) for _ in range(2))
            sy = np.float32(s1 * s2 / np.float32(ratio))
            if float(s1 * s2) / float(sy) == ratio != float(s1) * float(s2) / float(sy):
                break
        net = Net(i)
        x, b = net.input((256, 256), scale=s1, zero_point=0), net.constant((1, 256), scale=s2, zero_point=0)
        net.graph.constants[b] = np.arange(-128, 128, dtype=np.int8)[None]
        y = net.tensor((256, 256), sy, 0)
        net.put(ir.Mul, [x, b], y, *build.mul_parameters(net[x], net[b], y))
        rows = np.broadcast_to(np.arange(-128, 128, dtype=np.int8)[:, None], (256, 256))
        result = compare_tflm(net.done(), None, rows[None])
        assert result.mismatches == 0, str(result)
        total += result.elements
    print(f"mul at ties: 0 of {total} elements differ")


def test_clamp_of_relu6_is_rounded_in_float32() -> None:
    rng, seen = np.random.default_rng(0), 0
    while seen < 40:
        scale = np.nextafter(np.float32(6 / (rng.integers(10, 200) + 0.5)), np.float32(rng.integers(0, 2)))
        single, double = np.floor(np.float32(6) / scale + np.float32(0.5)), np.floor(6 / float(scale) + 0.5)
        if single == double:
            continue
        seen += 1
        net = Net(seen)
        x, one = net.input((256,), scale=scale, zero_point=-128), net.tensor((1,), 1.0, 0)
        net.graph.constants[one.name] = np.ones(1, np.int8)
        y = net.tensor((256,), scale, -128)
        net.put(ir.Mul, [x, one.name], y, *build.mul_parameters(net[x], one, y), *build.clamp_range(y, "relu6"))
        graph = net.done()
        assert graph.ops[0].act_max == -128 + single
        assert b"minimum" not in write_tflite(graph, keep_names=True)
        got = TflmRunner(write_tflite(graph)).run(np.arange(-128, 128, dtype=np.int8)[None])[0]
        assert got.max() == graph.ops[0].act_max


def test_quantize_divides_in_float32() -> None:
    total = 0
    for i in range(40):
        net = Net(i)
        s = np.float32(10 ** net.rng.uniform(-3, 0))
        v = ((net.rng.integers(-100, 100, 4000) + 0.5) * s).astype(np.float32)
        v = np.concatenate([v, np.nextafter(v, np.float32(9)), np.nextafter(v, np.float32(-9))])
        single, double = (v / s).astype(np.float64), v.astype(np.float64) / float(s)
        v = v[np.trunc(np.abs(single) + 0.5) != np.trunc(np.abs(double) + 0.5)]
        if not len(v):
            continue
        x = net.input((len(v),), dtype=ir.Dtype.FLOAT, bits=32, scale=1.0, zero_point=0)
        net.put(ir.Quantize, [x], net.tensor((len(v),), s, 3))
        result = compare_tflm(net.done(), None, v[None])
        assert result.mismatches == 0, str(result)
        total += result.elements
    assert total > 1000
    print(f"quantize: 0 of {total} elements differ where the precision tells")
