/* golden: made by tinykit. Do not edit.
 *
 * One inference: write the input to golden_input(arena), call golden_invoke(arena), read golden_output(arena).
 * The arena is GOLDEN_ARENA_SIZE bytes, aligned to GOLDEN_ARENA_ALIGN, and belongs to the caller; nothing else is
 * written, and several arenas may be used at once. The input may be overwritten. A real value is
 * SCALE * (stored - ZERO_POINT). */
#ifndef GOLDEN_H
#define GOLDEN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GOLDEN_ARENA_SIZE 428
#define GOLDEN_ARENA_ALIGN 4
#define GOLDEN_INPUT_BYTES 105 /* of all inputs */
#define GOLDEN_OUTPUT_BYTES 4 /* of all outputs */
#define GOLDEN_INPUT_SIZE 105 /* elements, 7x5x3 */
#define GOLDEN_INPUT_SCALE 0.007686180993914604f
#define GOLDEN_INPUT_ZERO_POINT 127
#define GOLDEN_OUTPUT_SIZE 4 /* elements, 4 */
#define GOLDEN_OUTPUT_SCALE 0.11653140187263489f
#define GOLDEN_OUTPUT_ZERO_POINT -128

int8_t *golden_input(void *arena);
void golden_invoke(void *arena);
const int8_t *golden_output(const void *arena);

/* All inputs or outputs one after the other, copied in or out; run does all three steps. */
void golden_load(void *arena, const void *input);
void golden_store(const void *arena, void *output);
void golden_run(void *arena, const void *input, void *output);

/* Number of output bytes that differ from the expected ones, for a self-test. */
uint32_t golden_check(const void *arena, const void *expected);

#ifdef __cplusplus
}
#endif
#endif
