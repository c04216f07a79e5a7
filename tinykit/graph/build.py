"""Makes ops from scales, deriving every integer parameter as TFLM's Prepare functions do. The reader and the lowering both build ops here,
so that there is one place where a scale becomes a multiplier.

Scales are float32 in a `.tflite`; products and quotients are taken in the precision that TFLM takes them in, because a multiplier that
differs in its last bit changes outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tinykit.errors import ModelError
from tinykit.graph import fixedpoint as fp
from tinykit.graph import ir

# (scale, zero point) that the format prescribes for an output, because kernels do not look at it
FIXED_OUTPUT = {"softmax": (1 / 256, -128), "logistic": (1 / 256, -128), "tanh": (1 / 128, 0)}
ACTIVATIONS = ("none", "relu", "relu6", "relu_n1_to_1")


def clamp_range(output: ir.Tensor, activation: str = "none") -> tuple[int, int]:
    """(act_min, act_max) of a fused activation on `output`'s stored integers (TFLM kernel_util, CalculateActivationRangeQuantized)."""

    def stored(real: float) -> int:
        with np.errstate(over="ignore"):
            q = np.float32(real) / np.float32(output.scale)
        if not np.abs(q) < 2.0**31 - 256:
            raise ModelError(f"tensor {output.name!r}: scale {output.scale:g} is too small for the bound {real:g} of its fused activation")
        return output.zero_point + int(np.floor(np.abs(q) + np.float32(0.5)) * np.sign(q))

    low, high = output.low, output.high
    if activation == "none":
        return low, high
    if activation == "relu":
        return max(low, stored(0.0)), high
    if activation == "relu6":
        return max(low, stored(0.0)), min(high, stored(6.0))
    if activation == "relu_n1_to_1":
        return max(low, stored(-1.0)), min(high, stored(1.0))
    raise ModelError(f"unknown fused activation {activation!r}; expected one of {', '.join(ACTIVATIONS)}")


def weight_multipliers(x: ir.Tensor, weight_scale: np.ndarray, y: ir.Tensor, out_channels: int) -> tuple[np.ndarray, np.ndarray]:
    """(multipliers, shifts), one an output channel, of CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED.

    The product of the scales is taken in double. TFLM releases differ here: older ones round the product of a per-tensor FULLY_CONNECTED to
    float32, which shows in one output of a hundred thousand. The interpreter that tinykit pins takes all of them in double
    (tests/verify/test_multipliers.py hunts for scales that tell).
    """
    scales = np.broadcast_to(np.asarray(weight_scale, np.float32), (out_channels,)).astype(np.float64)
    product = np.float64(np.float32(x.scale)) * scales
    return fp.quantize_multipliers(product / np.float64(np.float32(y.scale)))


def binary_parameters(a: ir.Tensor, b: ir.Tensor, y: ir.Tensor, left_shift: int = 20) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """(multipliers, shifts) of ADD and SUB (TFLM add_common, sub_common)."""
    s1, s2, sy = (float(np.float32(t.scale)) for t in (a, b, y))
    twice = 2.0 * max(s1, s2)
    pairs = [fp.quantize_multiplier(r) for r in (s1 / twice, s2 / twice, twice / ((1 << left_shift) * sy))]
    if any(shift > 0 for _, shift in pairs):
        raise ModelError(
            f"output {y.name!r}: scale {y.scale:g} is too small for inputs of scale {a.scale:g} and {b.scale:g} (TFLM stops there)"
        )
    return (pairs[0][0], pairs[1][0], pairs[2][0]), (pairs[0][1], pairs[1][1], pairs[2][1])


def mul_parameters(a: ir.Tensor, b: ir.Tensor, y: ir.Tensor) -> tuple[int, int]:
    """(multiplier, shift) of MUL (TFLM mul_common): the quotient is taken in double."""
    s1, s2, sy = (float(np.float32(t.scale)) for t in (a, b, y))
    return fp.quantize_multiplier(s1 * s2 / sy)


def requantize_parameters(x: ir.Tensor, y: ir.Tensor) -> tuple[int, int]:
    """(multiplier, shift) of QUANTIZE from integers to integers."""
    return fp.quantize_multiplier(float(np.float32(x.scale)) / float(np.float32(y.scale)))


def mean_parameters(x: ir.Tensor, y: ir.Tensor, count: int) -> tuple[int, int]:
    """(multiplier, shift) of MEAN over `count` elements: the division is folded into the multiplier (reference_ops::QuantizedMeanOrSum)."""
    m, shift = requantize_parameters(x, y)
    extra = min(count.bit_length() - 1, 32, 31 + shift)
    return (m << extra) // count, shift - extra


def softmax_parameters(x: ir.Tensor, beta: float = 1.0) -> tuple[int, int, int]:
    """(multiplier, left shift, diff_min) of SOFTMAX: 5 integer bits for the scaled difference."""
    real = min(float(np.float32(beta)) * float(np.float32(x.scale)) * float(1 << 26), float((1 << 31) - 1))
    if real <= 1.0:
        raise ModelError(f"tensor {x.name!r}: scale {x.scale} is too small for an integer softmax")
    m, shift = fp.quantize_multiplier(real, 31)
    return m, shift, -fp.input_radius(5, shift)


def function_table(function: str, x: ir.Tensor, y: ir.Tensor, alpha: float = 0.0) -> np.ndarray:
    """The 256 stored outputs of an element-wise function, within y's range, for stored inputs -128..127, by TFLM's integer algorithm."""
    try:
        build = _TABLES[function]
    except KeyError:
        raise ModelError(f"no integer table for {function!r}; there are {', '.join(sorted(_TABLES))}") from None
    stored = np.arange(-128, 128, dtype=np.int64)
    return np.clip(build(stored - x.zero_point, x, y, alpha), y.low, y.high).astype(np.int8)


def expect_fixed_output(label: str, y: ir.Tensor, function: str) -> None:
    """Refuses another output scale or zero point than the prescribed one. Raises ModelError, which starts with `label`."""
    wanted = FIXED_OUTPUT.get(function)
    if wanted is not None and (y.scale, y.zero_point) != wanted:
        raise ModelError(
            f"{label}: output {y.name!r} has scale {y.scale:g} and zero point {y.zero_point}; "
            f"the format prescribes {wanted[0]:g} and {wanted[1]}"
        )


def table_functions() -> Sequence[str]:
    """Names of the element-wise functions that have an integer table."""
    return tuple(_TABLES)


def _sigmoidal(
    centred: np.ndarray, x: ir.Tensor, low: int, squash: Callable[[np.ndarray, int], np.ndarray], fraction_bits: int, zero_point: int
) -> np.ndarray:
    """Input in Q4.27, function in Q0.31, output rounded to `fraction_bits` (TFLM reference_integer_ops Logistic and Tanh)."""
    real = min(float(np.float32(x.scale)) * float(1 << 27), float((1 << 31) - 1))  # beyond it only the sign of the input counts
    m, shift = fp.quantize_multiplier(real, 31)
    radius = fp.input_radius(4, shift)
    inside = np.clip(centred, -max(radius - 1, 0), max(radius - 1, 0))
    q4 = fp.multiply_by_quantized_multiplier(inside, m, shift)
    y = np.clip(fp.rounding_divide_by_pot(squash(q4, 4), 31 - fraction_bits) + zero_point, -128, 127)
    return np.where(centred <= -radius, low, np.where(centred >= radius, 127, y))


def _logistic(centred: np.ndarray, x: ir.Tensor, y: ir.Tensor, alpha: float) -> np.ndarray:
    return _sigmoidal(centred, x, -128, fp.logistic, 8, -128)


def _tanh(centred: np.ndarray, x: ir.Tensor, y: ir.Tensor, alpha: float) -> np.ndarray:
    return _sigmoidal(centred, x, -128, fp.tanh, 7, 0)


def _int16_multiplier(real: float) -> tuple[int, int]:
    m, shift = fp.quantize_multiplier(real)
    return min(max((m + (1 << 15)) >> 16, -(1 << 15)), (1 << 15) - 1), shift


def _high_multiply16(a: np.ndarray, b: np.ndarray | int, rounding: bool) -> np.ndarray:
    """Doubling high multiply of 16-bit integers: rounding as gemmlowp does, or truncating towards zero."""
    product = a * b
    if rounding:
        return np.minimum((product + (1 << 14)) >> 15, (1 << 15) - 1)
    quotient = np.abs(product) >> 15
    return np.minimum(np.where(product < 0, -quotient, quotient), (1 << 15) - 1)


def _hard_swish(centred: np.ndarray, x: ir.Tensor, y: ir.Tensor, alpha: float) -> np.ndarray:
    """x * relu6(x + 3) / 6 in 16-bit fixed point (TFLM reference_ops::HardSwish)."""
    fine = np.float32(1.0 / 128.0) * np.float32(x.scale)
    out_m, out_shift = _int16_multiplier(float(fine) / float(np.float32(y.scale)))
    gate_m, gate_shift = _int16_multiplier(float(fine) / (3.0 / 32768.0))
    if out_shift > 0:
        raise ModelError(f"hard-swish into {y.name!r}: the output scale {y.scale} is too small for the input scale {x.scale}")
    v = centred << 7
    prescaled = _high_multiply16(v, out_m, rounding=True)
    gate = fp.saturating_shift_left(v, gate_shift - 1, 16) if gate_shift > 0 else v
    gate = _high_multiply16(gate, gate_m, rounding=True)
    if gate_shift > 0:
        gate = fp.saturating_shift_left(gate, 1, 16)
    elif gate_shift < 0:
        gate = fp.rounding_divide_by_pot(gate, -gate_shift)
    gate = (gate + (1 << 15)) >> 1
    product = _high_multiply16(gate, prescaled, rounding=False)
    return np.clip(fp.rounding_divide_by_pot(product, -out_shift) + y.zero_point, -128, 127)


def _leaky_relu(centred: np.ndarray, x: ir.Tensor, y: ir.Tensor, alpha: float) -> np.ndarray:
    sx, sy, slope_ratio = float(np.float32(x.scale)), float(np.float32(y.scale)), float(np.float32(alpha))
    ratio, slope = sx / sy, sx * slope_ratio / sy  # all in double (tests/verify/test_tables.py)
    positive = fp.multiply_by_quantized_multiplier(centred, *fp.quantize_multiplier(ratio))
    m, shift = fp.quantize_multiplier(abs(slope))
    negative = fp.multiply_by_quantized_multiplier(centred, -m if slope < 0 else m, shift)
    return np.clip(np.where(centred >= 0, positive, negative) + y.zero_point, -128, 127)


def _clamped(activation: str) -> Callable[[np.ndarray, ir.Tensor, ir.Tensor, float], np.ndarray]:
    def build(centred: np.ndarray, x: ir.Tensor, y: ir.Tensor, alpha: float) -> np.ndarray:
        low, high = clamp_range(y, activation)
        scaled = fp.multiply_by_quantized_multiplier(centred, *requantize_parameters(x, y))
        return np.clip(scaled + y.zero_point, low, high)

    return build


_TABLES = {
    "logistic": _logistic,
    "tanh": _tanh,
    "hard_swish": _hard_swish,
    "leaky_relu": _leaky_relu,
    "relu": _clamped("relu"),
    "relu6": _clamped("relu6"),
    "relu_n1_to_1": _clamped("relu_n1_to_1"),
}
