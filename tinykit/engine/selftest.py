"""The self-test vector: one input and the bytes that the network must answer."""

from __future__ import annotations

import numpy as np

from tinykit.engine.ctext import array
from tinykit.engine.memory import is_packed
from tinykit.graph import ir


def selftest_source(prefix: str, given: bytes, expected: bytes) -> str:
    """C definitions of `<prefix>_selftest_input` and `<prefix>_selftest_output`: the bytes of all inputs, of all outputs."""
    parts = [f'/* Made by tinykit. One input and the output that belongs to it. */\n#include "{prefix}_selftest.h"\n']
    for name, data in (("input", given), ("output", expected)):
        text = array("uint8_t", f"{prefix}_selftest_{name}", np.frombuffer(data, np.uint8))
        parts.append(text.removeprefix("static "))
    return "\n".join(parts)


def selftest_header(prefix: str, given: bytes, expected: bytes) -> str:
    """Declarations for `selftest_source`."""
    guard = f"{prefix.upper()}_SELFTEST_H"
    return (
        f"#ifndef {guard}\n#define {guard}\n\n#include <stdint.h>\n\n"
        '#ifdef __cplusplus\nextern "C" {\n#endif\n'
        f"extern const uint8_t {prefix}_selftest_input[{len(given)}];\n"
        f"extern const uint8_t {prefix}_selftest_output[{len(expected)}];\n"
        "#ifdef __cplusplus\n}\n#endif\n#endif\n"
    )


def firmware_header(name: str, result: ir.Tensor) -> str:
    """`tk_model.h`: the names by which the firmware's sources call any network.

    `result`: the first output, whose scores the monitor prints as real values."""
    upper = name.upper()
    packed = f"""
/* Several results a byte, as stored - low. */
#define TK_RESULT_BITS {result.bits}
#define TK_RESULT_COUNT {result.size}
#define TK_RESULT_LOW ({result.low})
"""
    return f"""\
/* Made by tinykit: the network that this firmware runs. */
#ifndef TK_MODEL_H
#define TK_MODEL_H

#include "{name}.h"
#include "tk_selftest.h"

#define TK_MODEL_NAME "{name}"
#define TK_ARENA_SIZE {upper}_ARENA_SIZE
#define TK_INPUT_SIZE {upper}_INPUT_BYTES
#define TK_OUTPUT_SIZE {upper}_OUTPUT_BYTES
#define tk_model_load {name}_load
#define tk_model_invoke {name}_invoke
#define tk_model_store {name}_store
#define tk_model_check {name}_check

/* The scores that the monitor prints are (stored - zero) * scale; the scale in units of 2^-24. */
#define TK_RESULT_ZERO ({result.zero_point})
#define TK_RESULT_SCALE_Q24 {round(float(np.float32(result.scale)) * (1 << 24))}
{packed if is_packed(result) else ""}
#endif
"""
