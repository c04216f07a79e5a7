/*
 * firmware.elf: straight after reset, one inference on the self-test vector between tk_bench_begin and tk_bench_end; then the number of
 * wrong output bytes in tk_selftest_differences, and tk_done. No peripheral is touched and no interrupt used, so any tool can count it.
 */
#include <stdint.h>

#include "tk_model.h"

__attribute__((aligned(16), section(".bss.tk_arena"))) uint8_t tk_arena[TK_ARENA_SIZE];

/* Of the check, not of the model: reported apart from the model's RAM. */
volatile uint32_t tk_selftest_differences;

void tk_main(void);
void tk_bench_begin(void);
void tk_bench_end(void);
void tk_done(void);

/* Two bodies that differ, or a linker may fold them into one address. */
__attribute__((noinline, used)) void tk_bench_begin(void) { __asm volatile("nop" ::: "memory"); }
__attribute__((noinline, used)) void tk_bench_end(void) { __asm volatile("nop\n nop" ::: "memory"); }

__attribute__((noinline, used)) void tk_done(void)
{
    for (;;) {
    }
}

void tk_main(void)
{
    tk_selftest_differences = TK_OUTPUT_SIZE; /* what a run that never comes to the comparison has got right: nothing */
    tk_model_load(tk_arena, tk_selftest_input);
    tk_bench_begin();
    tk_model_invoke(tk_arena);
    tk_bench_end();
    tk_selftest_differences = tk_model_check(tk_arena, tk_selftest_output);
    tk_done();
}
