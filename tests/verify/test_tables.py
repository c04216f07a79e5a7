"""Every element-wise function for all 256 inputs, over random scales and over scales for which float32 and double differ."""

import numpy as np
import pytest
from nets import Net

from tinykit.graph import build, ir
from tinykit.verify.compare import compare_tflm

ALL = np.arange(-128, 128, dtype=np.int8)[None]


@pytest.mark.parametrize("function", build.table_functions())
def test_all_inputs_over_random_scales(function: str) -> None:
    bad = total = 0
    for seed in range(150):
        net = Net(seed)
        x = net.input((256,), scale=10 ** net.rng.uniform(-3.5, 1.3))
        alpha = float(np.float32(net.rng.uniform(-0.7, 1.5))) if function == "leaky_relu" else 0.0
        net.table(function, x, alpha)
        result = compare_tflm(net.done(), None, ALL)
        bad, total = bad + result.mismatches, total + result.elements
        assert result.mismatches == 0, str(result)
    print(f"{function}: {bad} of {total} elements differ")


def hunted(ratio: float, factor: float, rng: np.random.Generator) -> tuple[float, float]:
    """Scales (input, output) whose quotient times `factor` is `ratio` in float32 and just beside it in double."""
    while True:
        sx = np.float32(10 ** rng.uniform(-2, 0))
        sy = np.float32(sx * np.float32(factor) / np.float32(ratio))
        if np.float32(sx * np.float32(factor) / sy) == np.float32(ratio) and float(sx) * float(np.float32(factor)) / float(sy) != ratio:
            return float(sx), float(sy)


@pytest.mark.parametrize("kind", ["leaky_relu", "relu", "requantize", "mean"])
def test_precision_of_the_scale_quotient(kind: str) -> None:
    """Rounding ties show in which precision TFLM divides."""
    rng, total = np.random.default_rng(0), 0
    for i in range(60):
        net = Net(i)
        sx, sy = hunted((1.5, 0.75, 1.25, 0.375, 0.625)[i % 5], 0.3 if kind == "leaky_relu" and i % 2 else 1.0, rng)
        x = net.input((256, 1) if kind == "mean" else (256,), scale=sx)
        y = net.tensor((256,), sy)
        if kind == "requantize":
            net.put(ir.Requantize, [x], y, *build.requantize_parameters(net[x], y))
        elif kind == "mean":
            net.put(ir.Mean, [x], y, (1,), False, *build.mean_parameters(net[x], y, 1))
        else:
            net.put(ir.Table, [x], y, kind, build.function_table(kind, net[x], y, 0.3), 0.3)
        result = compare_tflm(net.done(), None, ALL.reshape(1, *net[x].shape))
        total += result.elements
        assert result.mismatches == 0, str(result)
    print(f"{kind}: 0 of {total} elements differ")


def test_precision_of_hard_swish() -> None:
    """Scales for which the 16-bit multiplier depends on the precision of the quotient."""
    rng, hits = np.random.default_rng(1), 0
    scales = 10 ** rng.uniform(-2.3, -0.7, 200000)
    outs = np.float32(scales.astype(np.float32) * 10 ** rng.uniform(0.1, 0.6, scales.shape))
    fine = np.float32(1 / 128) * scales.astype(np.float32)
    exact, single = fine.astype(np.float64) / outs.astype(np.float64), (fine / outs).astype(np.float64)
    differ = [i for i in np.flatnonzero(_int16(exact) != _int16(single))]
    for i in differ[:150]:
        net = Net(int(i))
        x, y = net.input((256,), scale=float(np.float32(scales[i]))), net.tensor((256,), float(outs[i]))
        net.put(ir.Table, [x], y, "hard_swish", build.function_table("hard_swish", net[x], y))
        result = compare_tflm(net.done(), None, ALL)
        assert result.mismatches == 0, str(result)
        hits += 1
    assert hits >= 50
    print(f"hard_swish: 0 of {256 * hits} elements differ on scales where the precision matters")


def _int16(real: np.ndarray) -> np.ndarray:
    fraction = np.frexp(real)[0]
    return (np.floor(fraction * (1 << 31) + 0.5).astype(np.int64) + (1 << 15)) >> 16


@pytest.mark.parametrize("bits", [2, 4])
def test_narrow_tables_ride_in_int8(bits: int) -> None:
    for function in ("relu", "relu6", "leaky_relu", "relu_n1_to_1"):
        net = Net(bits)
        x = net.input((256,), scale=0.1, zero_point=-3)
        y = net.tensor((256,), 0.15, -5, bits, -5)
        table = np.clip(build.function_table(function, net[x], y, 0.1), y.low, y.high).astype(np.int8)
        net.put(ir.Table, [x], y, function, table, float(np.float32(0.1)))
        assert compare_tflm(net.done(), None, ALL).mismatches == 0
