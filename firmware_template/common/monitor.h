/*
 * The serial monitor of MLPerf Tiny (own implementation of the documented protocol), with extensions of ours.
 *
 * A command is ASCII, words separated by spaces, ended by '%', at most 80 characters. Answers are lines ended by CR LF; the last one is
 * "m-ready". Errors are lines "e-[...]". The x- commands are ours; every answer of theirs is "m-x-<name>-[...]".
 *
 * A program defines what is different from board to board, and then includes this file:
 *   TK_BOARD_NAME               a string
 *   tk_arena                    the memory of the network
 *   monitor_clock_hz()          core clock, 0 where it is not known
 *   monitor_cycles()            core cycles, modulo 2^32; where the clock is not known, anything
 *   monitor_watched_invoke()    an inference whose stack put_stack can tell of
 *   put_stack()                 bytes of stack
 *   put_static()                bytes of static data, "unknown" where that cannot be told
 *   MONITOR_MORE_COMMANDS       more lines of the table of commands, if there are any
 * Then it calls monitor_begin once and monitor_step forever.
 */
#ifndef MONITOR_H
#define MONITOR_H

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

#ifndef MONITOR_MORE_COMMANDS
#define MONITOR_MORE_COMMANDS
#endif

static uint32_t has_output;
static uint32_t inference_cycles;

static void put_lap(void) { put_line("m-lap-us-", tk_port_microseconds(), ""); }

/* ---- commands ---- */

static void command_name(void) { tk_line("m-name-dut-[" TK_BOARD_NAME "]"); }

static void command_profile(void)
{
    tk_line("m-profile-[ULPMark for tinyML Firmware V0.0.1]");
    tk_line("m-model-[" TK_MLPERF_MODEL "]");
}

/* Inferences from what `db` loaded; the copy into the arena is part of each. */
static void run(uint32_t inferences)
{
    while (inferences-- > 0) {
        tk_model_load(tk_arena, tk_monitor_input);
        const uint32_t start = monitor_cycles();
        tk_model_invoke(tk_arena);
        inference_cycles = monitor_cycles() - start;
        (void)tk_port_microseconds(); /* it must not miss 2^32 cycles */
    }
}

static void command_infer(void)
{
    uint32_t inferences = 1, warmups = DEFAULT_WARMUPS;
    const char *word = next_word();
    if (*word && (!read_number(word, &inferences) || inferences == 0)) {
        tk_line("e-[infer: expected a number of inferences of at least 1]");
        return;
    }
    word = next_word();
    if (*word && !read_number(word, &warmups)) {
        tk_line("e-[infer: expected a number of warm-up inferences]");
        return;
    }
    put_line("m-warmup-start-", warmups, "");
    run(warmups);
    tk_line("m-warmup-done");
    put_line("m-infer-start-", inferences, "");
    put_lap();
    run(inferences);
    put_lap();
    tk_line("m-infer-done");
    tk_model_store(tk_arena, tk_monitor_output);
    has_output = 1;
    put_results();
}

static int need_output(void)
{
    if (!has_output)
        tk_line("e-[no inference yet: send infer first]");
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
    tk_text("m-x-out-[");
    for (uint32_t i = 0; i < TK_OUTPUT_SIZE; i++)
        put_hex(tk_monitor_output[i], 2);
    tk_line("]");
}

/* Bytes of the self-test's output that are wrong. Leaves the loaded input alone. */
static void command_self_test(void)
{
    uint32_t differences = 0;
    tk_model_load(tk_arena, tk_selftest_input);
    monitor_watched_invoke();
    tk_model_store(tk_arena, tk_monitor_output);
    for (uint32_t i = 0; i < TK_OUTPUT_SIZE; i++)
        differences += tk_monitor_output[i] != tk_selftest_output[i];
    has_output = 1;
    put_line("m-x-self-[", differences, "]");
}

/* Bytes of stack that were used; "overflow" if it was all of them. */
static void command_stack(void)
{
    tk_text("m-x-stack-[");
    put_stack();
    tk_line("]");
}

/* Bytes of static data, the monitor's own buffers included, and of the arena. */
static void command_ram(void)
{
    tk_text("m-x-ram-[");
    put_static();
    put_line(",", TK_ARENA_SIZE, "]");
}

/* Bytes that `db load` takes for one inference and what they are, bytes of the stored input and of the output, core clock in Hz, 0 if it is not known. */
static void command_info(void)
{
    tk_text("m-x-info-[" TK_MODEL_NAME ",");
    tk_text(TK_WIRE_KIND);
    const uint32_t figures[] = {TK_WIRE_SIZE, TK_INPUT_SIZE, TK_OUTPUT_SIZE, monitor_clock_hz()};
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
        tk_port_putc(',');
        tk_number(figures[i]);
    }
    tk_line("]");
}

/* Core cycles of the last inference, without the copy of its input. */
static void command_cycles(void)
{
    if (monitor_clock_hz() == 0)
        tk_line("m-x-cyc-[unknown]");
    else
        put_line("m-x-cyc-[", inference_cycles, "]");
}

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
    MONITOR_MORE_COMMANDS
};

static void command_help(void)
{
    tk_text("m-help-[");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        tk_text(i ? " " : "");
        tk_text(commands[i].name);
    }
    tk_line("]");
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
    tk_text("e-[Unknown command: ");
    tk_text(word);
    tk_line("]");
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

static inline void monitor_begin(void)
{
    tk_line("m-timestamp-mode-performance");
    put_lap();
    tk_line("m-init-done");
}

/* Waits for a command and answers it. */
static inline void monitor_step(void)
{
    static char line[COMMAND_SIZE + 1];
    tk_line("m-ready");
    if (read_command(line))
        dispatch(line);
    else
        put_line("e-[command longer than ", COMMAND_SIZE, " characters]");
}

#endif
