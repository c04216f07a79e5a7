/*
 * monitor.elf: the serial monitor of MLPerf Tiny (own implementation of the documented protocol), with extensions of ours.
 *
 * A command is ASCII, words separated by spaces, ended by '%', at most 80 characters. Answers are lines ended by CR LF; the last one is
 * "m-ready". Errors are lines "e-[...]". The x- commands are ours; every answer of theirs is "m-x-<name>-[...]".
 */
#include <stddef.h>
#include <stdint.h>

#include "monitor_data.h"
#include "monitor_text.h"
#include "tk_model.h"
#include "tk_port.h"

#define COMMAND_SIZE 80
#define DEFAULT_WARMUPS 10

/* The name by which MLPerf Tiny's runner chooses its script: kws01, vww01, ad01, ic01. */
#ifndef TK_MLPERF_MODEL
#define TK_MLPERF_MODEL TK_MODEL_NAME
#endif

__attribute__((aligned(16), section(".bss.tk_arena"))) uint8_t tk_arena[TK_ARENA_SIZE];

static uint32_t has_output;
static uint32_t inference_cycles;

extern uint32_t _estack[], _stack_limit[], _sdata[], _edata[], _sbss[], _ebss[];

void tk_main(void);
void HardFault_Handler(void);
void tk_report_fault(uint32_t pc, uint32_t lr);

static void put_hex_word(const char *label, uint32_t value)
{
    put_text(label);
    put_hex(value, 8);
}

static void put_lap(void) { put_line("m-lap-us-", tk_port_microseconds(), ""); }

/* ---- commands ---- */

static void command_name(void) { put_end("m-name-dut-[" TK_BOARD_NAME "]"); }

static void command_profile(void)
{
    put_end("m-profile-[ULPMark for tinyML Firmware V0.0.1]");
    put_end("m-model-[" TK_MLPERF_MODEL "]");
}

/* Inferences from what `db` loaded; the copy into the arena is part of each. */
static void run(uint32_t inferences)
{
    while (inferences-- > 0) {
        tk_model_load(tk_arena, tk_monitor_input);
        const uint32_t start = tk_port_cycles();
        tk_model_invoke(tk_arena);
        inference_cycles = tk_port_cycles() - start;
        (void)tk_port_microseconds(); /* it must not miss 2^32 cycles */
    }
}

static void command_infer(void)
{
    uint32_t inferences = 1, warmups = DEFAULT_WARMUPS;
    const char *word = next_word();
    if (*word && (!read_number(word, &inferences) || inferences == 0)) {
        put_end("e-[infer: expected a number of inferences of at least 1]");
        return;
    }
    word = next_word();
    if (*word && !read_number(word, &warmups)) {
        put_end("e-[infer: expected a number of warm-up inferences]");
        return;
    }
    put_line("m-warmup-start-", warmups, "");
    run(warmups);
    put_end("m-warmup-done");
    put_line("m-infer-start-", inferences, "");
    put_lap();
    run(inferences);
    put_lap();
    put_end("m-infer-done");
    tk_model_store(tk_arena, tk_monitor_output);
    has_output = 1;
    put_results();
}

static int need_output(void)
{
    if (!has_output)
        put_end("e-[no inference yet: send infer first]");
    return (int)has_output;
}

static void command_results(void)
{
    if (need_output())
        put_results();
}

static void command_output(void)
{
    if (!need_output())
        return;
    put_text("m-x-out-[");
    for (uint32_t i = 0; i < TK_OUTPUT_SIZE; i++)
        put_hex(tk_monitor_output[i], 2);
    put_end("]");
}

/* Bytes of the self-test's output that are wrong. Leaves the loaded input alone. */
static void command_self_test(void)
{
    uint32_t differences = 0;
    tk_model_load(tk_arena, tk_selftest_input);
    tk_model_invoke(tk_arena);
    tk_model_store(tk_arena, tk_monitor_output);
    for (uint32_t i = 0; i < TK_OUTPUT_SIZE; i++)
        differences += tk_monitor_output[i] != tk_selftest_output[i];
    has_output = 1;
    put_line("m-x-self-[", differences, "]");
}

/* Bytes of stack used so far, by whatever ran; "overflow" if the last painted word is gone. */
static void command_stack(void)
{
    const volatile uint32_t *p = _stack_limit;
    if (*p != TK_STACK_PAINT) {
        put_end("m-x-stack-[overflow]");
        return;
    }
    while ((uintptr_t)p < (uintptr_t)_estack && *p == TK_STACK_PAINT)
        p++;
    put_line("m-x-stack-[", (uint32_t)((uintptr_t)_estack - (uintptr_t)p), "]");
}

/* Bytes of static data, the monitor's own buffers included, and of the arena. */
static void command_ram(void)
{
    put_text("m-x-ram-[");
    put_number((uint32_t)((uintptr_t)_edata - (uintptr_t)_sdata + (uintptr_t)_ebss - (uintptr_t)_sbss));
    put_line(",", TK_ARENA_SIZE, "]");
}

/* Bytes that `db load` takes for one inference and what they are, bytes of the stored input and of the output, core clock in Hz. */
static void command_info(void)
{
    put_text("m-x-info-[" TK_MODEL_NAME ",");
    put_text(TK_WIRE_KIND);
    static const uint32_t figures[] = {TK_WIRE_SIZE, TK_INPUT_SIZE, TK_OUTPUT_SIZE, TK_CPU_HZ};
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
        tk_port_putc(',');
        put_number(figures[i]);
    }
    put_end("]");
}

/* Core cycles of the last inference, without the copy of its input. */
static void command_cycles(void) { put_line("m-x-cyc-[", inference_cycles, "]"); }

#ifdef TK_TEST_HOOKS
static uint32_t read_address(void)
{
    uint32_t address = 0;
    for (const char *word = next_word(); read_digit(*word) >= 0; word++)
        address = address << 4 | (uint32_t)read_digit(*word);
    return address;
}

/* Writes to an address, so that a test can see memory protection at work. */
static void command_poke(void)
{
    const uint32_t address = read_address();
    TK_REGISTER(address) = 0x12345678u;
    __asm volatile("dsb" ::: "memory");
    put_hex_word("m-x-poke-[", TK_REGISTER(address));
    put_end("]");
}

/* Loads a double word, which must be aligned to 4. */
static void command_ldrd(void)
{
    const uint32_t address = read_address();
    uint32_t low, high;
    __asm volatile("ldrd %0, %1, [%2]" : "=&r"(low), "=&r"(high) : "r"(address) : "memory");
    put_hex_word("m-x-ldrd-[", high);
    put_hex_word("", low);
    put_end("]");
}
#endif

static void command_help(void);

static const struct {
    const char *name;
    void (*run)(void);
} commands[] = {
    {"name", command_name},
    {"profile", command_profile},
    {"timestamp", put_lap},
    {"db", command_db},
    {"infer", command_infer},
    {"results", command_results},
    {"x-out", command_output},
    {"x-self", command_self_test},
    {"x-stack", command_stack},
    {"x-ram", command_ram},
    {"x-cyc", command_cycles},
    {"x-info", command_info},
    {"help", command_help},
#ifdef TK_TEST_HOOKS
    {"x-poke", command_poke},
    {"x-ldrd", command_ldrd},
#endif
};

static void command_help(void)
{
    put_text("m-help-[");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        put_text(i ? " " : "");
        put_text(commands[i].name);
    }
    put_end("]");
}

/* ---- the loop ---- */

static void dispatch(char *line)
{
    start_words(line);
    const char *word = next_word();
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (same(word, commands[i].name)) {
            commands[i].run();
            return;
        }
    }
    put_text("e-[Unknown command: ");
    put_text(word);
    put_end("]");
}

/* Reads one command without its '%'. Line ends are ignored, other unprintable bytes become '?'. 0: it was too long and is dropped. */
static int read_command(char *line)
{
    uint32_t length = 0;
    for (;;) {
        const uint8_t byte = tk_port_getc();
        if (byte == '%')
            break;
        if (byte == '\r' || byte == '\n' || byte == 0)
            continue;
        if (length < COMMAND_SIZE)
            line[length] = byte < 32 || byte > 126 ? '?' : (char)byte;
        if (length <= COMMAND_SIZE)
            length++;
    }
    line[length <= COMMAND_SIZE ? length : 0] = 0;
    return length <= COMMAND_SIZE;
}

void tk_main(void)
{
    static char line[COMMAND_SIZE + 1];
    tk_port_init();
    put_end("m-timestamp-mode-performance");
    put_lap();
    put_end("m-init-done");
    for (;;) {
        put_end("m-ready");
        if (read_command(line))
            dispatch(line);
        else
            put_line("e-[command longer than ", COMMAND_SIZE, " characters]");
    }
}

/* The exception frame on the stack holds, from word 5: lr, pc. */
__attribute__((naked)) void HardFault_Handler(void)
{
    __asm volatile(
        "ldr r0, [sp, #24] \n"
        "ldr r1, [sp, #20] \n"
        "b tk_report_fault \n");
}

/* Tells the host, then stops: only a reset helps. */
__attribute__((used, noreturn)) void tk_report_fault(uint32_t pc, uint32_t lr)
{
    put_hex_word("\r\ne-[fault: cfsr 0x", TK_REGISTER(0xE000ED28));
    put_hex_word(", hfsr 0x", TK_REGISTER(0xE000ED2C));
    put_hex_word(", bfar 0x", TK_REGISTER(0xE000ED38));
    put_hex_word(", pc 0x", pc);
    put_hex_word(", lr 0x", lr);
    put_end("; the board stops until it is reset]");
    put_end("m-ready");
    for (;;) {
    }
}
