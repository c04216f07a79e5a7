/*
 * monitor.elf: the serial monitor of MLPerf Tiny (own implementation of the documented protocol), with extensions of ours.
 *
 * A command is ASCII, words separated by spaces, ended by '%', at most 80 characters. Answers are lines ended by CR LF; the last one is
 * "m-ready". Errors are lines "e-[...]". The x- commands are ours; every answer of theirs is "m-x-<name>-[...]".
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "tk_model.h"
#include "tk_port.h"

#define COMMAND_SIZE 80
#define BYTES_A_LINE 8
#define DEFAULT_WARMUPS 10

/* What "results" shows is (output - zero) * scale; a generated header that says nothing has a softmax, whose scale is 1/256. */
#ifndef TK_RESULT_ZERO
#define TK_RESULT_ZERO (-128)
#endif
#ifndef TK_RESULT_SCALE_Q24
#define TK_RESULT_SCALE_Q24 0x10000
#endif
/* Of a packed output: bits of a result, the first in the lowest ones; how many there are; what is added to each. */
#ifndef TK_RESULT_BITS
#define TK_RESULT_BITS 8
#define TK_RESULT_COUNT TK_OUTPUT_SIZE
#define TK_RESULT_LOW 0
#endif
/* The name by which MLPerf Tiny's runner chooses its script: kws01, vww01, ad01, ic01. */
#ifndef TK_MLPERF_MODEL
#define TK_MLPERF_MODEL TK_MODEL_NAME
#endif

__attribute__((aligned(16), section(".bss.tk_arena"))) uint8_t tk_arena[TK_ARENA_SIZE];

/* A buffer of its own: invoke may overwrite the arena's input, and every inference of `infer` starts from the same one. */
static uint8_t input[TK_INPUT_SIZE];
static uint8_t output[TK_OUTPUT_SIZE];
static uint32_t load_size, load_count; /* of `db load`: bytes announced, bytes received */
static uint32_t has_output;
static uint32_t inference_cycles;
static char *rest; /* what of the command is not read yet */

extern uint32_t _estack[], _stack_limit[], _sdata[], _edata[], _sbss[], _ebss[];

void tk_main(void);
void HardFault_Handler(void);
void tk_report_fault(uint32_t pc, uint32_t lr);

/* ---- output ---- */

static void put_text(const char *text)
{
    while (*text)
        tk_port_putc((uint8_t)*text++);
}

static void put_end(const char *text)
{
    put_text(text);
    put_text("\r\n");
}

static void put_number(uint32_t value)
{
    char digits[11];
    char *p = digits + sizeof digits - 1;
    *p = 0;
    do {
        *--p = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    put_text(p);
}

static void put_hex(uint32_t value, int digits)
{
    while (digits-- > 0)
        tk_port_putc((uint8_t)"0123456789abcdef"[value >> 4 * digits & 15]);
}

static void put_hex_word(const char *label, uint32_t value)
{
    put_text(label);
    put_hex(value, 8);
}

static void put_thousandths(int32_t value)
{
    if (value < 0)
        tk_port_putc('-');
    const uint32_t size = value < 0 ? 0u - (uint32_t)value : (uint32_t)value;
    put_number(size / 1000);
    tk_port_putc('.');
    for (uint32_t place = 100; place > 0; place /= 10)
        tk_port_putc((uint8_t)('0' + size / place % 10));
}

/* label number tail CR LF */
static void put_line(const char *label, uint32_t value, const char *tail)
{
    put_text(label);
    put_number(value);
    put_end(tail);
}

static void put_lap(void) { put_line("m-lap-us-", tk_port_microseconds(), ""); }

/* ---- input ---- */

/* The next word of the command, "" if there is none. */
static const char *next_word(void)
{
    while (*rest == ' ')
        rest++;
    char *word = rest;
    while (*rest && *rest != ' ')
        rest++;
    if (*rest)
        *rest++ = 0;
    return word;
}

static int same(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

/* Reads a decimal number below 10^9; 0 if `word` is none. */
static int read_number(const char *word, uint32_t *value)
{
    uint32_t sum = 0;
    int digits = 0;
    for (; *word >= '0' && *word <= '9' && digits < 9; word++, digits++)
        sum = 10 * sum + (uint32_t)(*word - '0');
    *value = sum;
    return digits > 0 && *word == 0;
}

/* The value of a hexadecimal digit, -1 if `c` is none. */
static int read_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* ---- commands ---- */

static void command_name(void) { put_end("m-name-dut-[" TK_BOARD_NAME "]"); }

static void command_profile(void)
{
    put_end("m-profile-[ULPMark for tinyML Firmware V0.0.1]");
    put_end("m-model-[" TK_MLPERF_MODEL "]");
}

static void db_load(void)
{
    uint32_t size;
    load_size = load_count = 0;
    if (!read_number(next_word(), &size) || size == 0 || size > TK_INPUT_SIZE) {
        put_line("e-[db load: expected a number of bytes from 1 to ", TK_INPUT_SIZE, "]");
        return;
    }
    memset(input, 0, sizeof input);
    load_size = size;
    put_line("m-[Expecting ", size, " bytes]");
}

static void db_print(void)
{
    for (uint32_t i = 0; i < load_count; i++) {
        if (i % BYTES_A_LINE == 0)
            put_text(i ? "\r\nm-buffer" : "m-buffer");
        tk_port_putc('-');
        put_hex(input[i], 2);
    }
    put_end("");
}

static void db_bytes(const char *hex)
{
    for (; *hex; hex += 2) {
        const int high = read_digit(hex[0]);
        const int low = high < 0 ? -1 : read_digit(hex[1]);
        if (low < 0) {
            put_end("e-[db: expected pairs of hexadecimal digits]");
            return;
        }
        if (load_count == load_size) {
            put_line("e-[db: more bytes than the announced ", load_size, "]");
            return;
        }
        input[load_count++] = (uint8_t)(high << 4 | low);
        if (load_count == load_size)
            put_end("m-load-done");
    }
}

static void command_db(void)
{
    const char *word = next_word();
    if (same(word, "load"))
        db_load();
    else if (same(word, "print"))
        db_print();
    else if (*word)
        db_bytes(word);
    else
        put_end("e-[db: expected load, print or bytes]");
}

/* Inferences from what `db` loaded; the copy into the arena is part of each. */
static void run(uint32_t inferences)
{
    while (inferences-- > 0) {
        tk_model_load(tk_arena, input);
        const uint32_t start = tk_port_cycles();
        tk_model_invoke(tk_arena);
        inference_cycles = tk_port_cycles() - start;
        (void)tk_port_microseconds(); /* it must not miss 2^32 cycles */
    }
}

static int32_t result(uint32_t i)
{
#if TK_RESULT_BITS == 8
    return (int8_t)output[i];
#else
    const uint32_t place = i * TK_RESULT_BITS;
    return ((output[place / 8] >> (place % 8)) & ((1 << TK_RESULT_BITS) - 1)) + (TK_RESULT_LOW);
#endif
}

static void put_results(void)
{
    put_text("m-results-[");
    for (uint32_t i = 0; i < TK_RESULT_COUNT; i++) {
        const int64_t scaled = (int64_t)(result(i) - (TK_RESULT_ZERO)) * (TK_RESULT_SCALE_Q24) * 1000;
        if (i)
            tk_port_putc(',');
        put_thousandths((int32_t)((scaled + (1 << 23)) >> 24));
    }
    put_end("]");
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
    tk_model_store(tk_arena, output);
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
        put_hex(output[i], 2);
    put_end("]");
}

/* Bytes of the self-test's output that are wrong. Leaves the loaded input alone. */
static void command_self_test(void)
{
    uint32_t differences = 0;
    tk_model_load(tk_arena, tk_selftest_input);
    tk_model_invoke(tk_arena);
    tk_model_store(tk_arena, output);
    for (uint32_t i = 0; i < TK_OUTPUT_SIZE; i++)
        differences += output[i] != tk_selftest_output[i];
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
#ifdef TK_TEST_HOOKS
    {"x-poke", command_poke},
    {"x-ldrd", command_ldrd},
#endif
};

/* ---- the loop ---- */

static void dispatch(char *line)
{
    rest = line;
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
