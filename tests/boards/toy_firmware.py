"""A model small enough to be written by hand: a dense layer of int8, as sources for build_firmware and as numpy."""

import numpy as np

INPUTS, OUTPUTS = 24, 10
_RNG = np.random.default_rng(7)
WEIGHTS = _RNG.integers(-128, 128, (OUTPUTS, INPUTS))
BIAS = _RNG.integers(-1000, 1000, OUTPUTS)
ZERO = 3
INPUT = _RNG.integers(-128, 128, INPUTS).astype(np.int8)


def expected(inputs: bytes) -> bytes:
    """The model's output for `inputs`."""
    x = np.frombuffer(inputs, np.int8).astype(np.int64)
    sums = ((x - ZERO) @ WEIGHTS.T + BIAS) >> 9
    return np.clip(sums, -128, 127).astype(np.int8).tobytes()


def toy_sources(arena: int = 64, padding: int = 0, body: str = "", variable: int = 0, wrong: int = 0) -> dict[str, str]:
    """The sources.

    Args:
        arena: bytes.
        padding: bytes of weights that nothing uses but the program.
        body: C statements at the start of invoke.
        variable: bytes of static data with initial values.
        wrong: how many bytes of the expected self-test output are wrong.
    """
    result = (np.frombuffer(expected(INPUT.tobytes()), np.int8) ^ np.array([1] * wrong + [0] * (OUTPUTS - wrong))).astype(np.int8)
    return {"tk_model.h": _header(arena), "toy.c": _model(padding, variable, body), "toy_selftest.c": _vectors(result)}


def _header(arena: int) -> str:
    return f"""#ifndef TK_MODEL_H
#define TK_MODEL_H
#include <stdint.h>
#include <string.h>
#define TK_MODEL_NAME "toy"
#define TK_ARENA_SIZE {arena}
#define TK_INPUT_SIZE {INPUTS}
#define TK_OUTPUT_SIZE {OUTPUTS}
extern const uint8_t tk_selftest_input[TK_INPUT_SIZE], tk_selftest_output[TK_OUTPUT_SIZE];
void tk_model_invoke(void *arena);
static inline void tk_model_load(void *arena, const void *bytes) {{ memcpy(arena, bytes, TK_INPUT_SIZE); }}
static inline void tk_model_store(const void *arena, void *bytes) {{ memcpy(bytes, (const uint8_t *)arena + 32, TK_OUTPUT_SIZE); }}
static inline uint32_t tk_model_check(const void *arena, const void *expected)
{{
    uint32_t wrong = 0;
    for (int i = 0; i < TK_OUTPUT_SIZE; i++)
        wrong += ((const uint8_t *)arena)[32 + i] != ((const uint8_t *)expected)[i];
    return wrong;
}}
#endif
"""


def _model(padding: int, variable: int, body: str) -> str:
    more = f"__attribute__((used)) static const int8_t tk_w_more[{padding}] = {{1}};\n" if padding else ""
    more += f"__attribute__((used)) static uint8_t toy_variable[{variable}] = {{1, 2, 3}};\n" if variable else ""
    keep = '    __asm volatile("" :: "r"(tk_w_more));\n' if padding else ""
    keep += '    __asm volatile("" :: "r"(toy_variable) : "memory");\n' if variable else ""
    return f"""#include "tk_model.h"
static const int8_t tk_w_dense[{WEIGHTS.size}] = {{{", ".join(map(str, WEIGHTS.ravel()))}}};
static const int32_t tk_q_bias[{OUTPUTS}] = {{{", ".join(map(str, BIAS))}}};
static const int8_t tk_c_zero[4] = {{{ZERO}, {ZERO}, {ZERO}, {ZERO}}};
{more}
void tk_model_invoke(void *arena)
{{
{keep}{body}
    const int8_t *x = arena;
    int8_t *y = (int8_t *)arena + 32;
    for (int o = 0; o < {OUTPUTS}; o++) {{
        int32_t sum = tk_q_bias[o];
        for (int i = 0; i < {INPUTS}; i++)
            sum += (x[i] - *(const volatile int8_t *)&tk_c_zero[i & 3]) * tk_w_dense[o * {INPUTS} + i];
        sum >>= 9;
        y[o] = (int8_t)(sum < -128 ? -128 : sum > 127 ? 127 : sum);
    }}
    memset(arena, 0x55, {INPUTS}); /* a model may overwrite its input */
}}
"""


def _vectors(result: np.ndarray) -> str:
    return f"""#include "tk_model.h"
const uint8_t tk_selftest_input[TK_INPUT_SIZE] = {{{", ".join(map(str, INPUT.view(np.uint8)))}}};
const uint8_t tk_selftest_output[TK_OUTPUT_SIZE] = {{{", ".join(map(str, result.view(np.uint8)))}}};
"""
