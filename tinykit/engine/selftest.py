"""The self-test vector: one input and the bytes that the network must answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tinykit.engine.ctext import array
from tinykit.engine.memory import is_packed
from tinykit.engine.mlperf import wire_macros
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


def firmware_header(
    name: str,
    source: ir.Tensor,
    result: ir.Tensor,
    task: str | None = None,
    headers: Sequence[str] | None = None,
    names: Mapping[str, str] | None = None,
) -> str:
    """`tk_model.h`: the names by which the firmware's sources call any network.

    Args:
        name: prefix of the network's symbols.
        source: the first input.
        result: the first output, whose scores the monitor prints as real values.
        task: the MLPerf Tiny task as which the monitor answers, None where it is none.
        headers: what it includes; default: the engine's and the self-test's.
        names: more names, name -> what it stands for.
    """
    upper = name.upper()
    includes = "\n".join(f'#include "{header}"' for header in headers or (f"{name}.h", "tk_selftest.h"))
    more = "".join(f"#define {known} {real}\n" for known, real in (names or {}).items())
    return f"""\
/* Made by tinykit: the network that this firmware runs. */
#ifndef TK_MODEL_H
#define TK_MODEL_H

{includes}

#define TK_MODEL_NAME "{name}"
#define TK_ARENA_SIZE {upper}_ARENA_SIZE
#define TK_INPUT_SIZE {upper}_INPUT_BYTES
#define TK_OUTPUT_SIZE {upper}_OUTPUT_BYTES
#define tk_model_load {name}_load
#define tk_model_invoke {name}_invoke
#define tk_model_store {name}_store
#define tk_model_check {name}_check
{more}{wire_macros(task, source)}
/* The scores that the monitor prints are (stored - zero) * scale; the scale in units of 2^-24. */
#define TK_RESULT_ZERO ({result.zero_point})
#define TK_RESULT_SCALE_Q24 {round(float(np.float32(result.scale)) * (1 << 24))}
{_result_macros(result)}
#endif
"""


def _result_macros(result: ir.Tensor) -> str:
    """How the monitor finds a score in the output's bytes."""
    if result.dtype == ir.Dtype.FLOAT:
        return (
            f"/* They are float32 already. */\n#define TK_RESULT_FLOAT\n#define TK_RESULT_BITS 32\n#define TK_RESULT_COUNT {result.size}\n"
        )
    packed = "/* Several results a byte, as stored - low. */\n" if is_packed(result) else ""
    low = result.low if is_packed(result) else 0
    return f"{packed}#define TK_RESULT_BITS {result.bits}\n#define TK_RESULT_COUNT {result.size}\n#define TK_RESULT_LOW ({low})\n"
