/* What goes into the network and comes out of it, in the host's terms: the buffer of `db`, and scores as decimals. */
#ifndef MONITOR_DATA_H
#define MONITOR_DATA_H

#include <stdint.h>
#include <string.h>

#include "monitor_text.h"
#include "tk_model.h"
#include "tk_port.h"

#define BYTES_A_LINE 8

/*
 * What the bytes of `db` are. MLPerf Tiny's scripts send pixels 0..255 to ic01 and vww01 and float32 to ad01; everything else is sent as it
 * is stored. The generated header says so by one of
 *   TK_INPUT_FLIP    each byte is a pixel: stored = pixel - 128
 *   TK_INPUT_SCALE   float32, with TK_INPUT_ZERO: stored = round(value / scale) + zero, int8
 */
#ifndef TK_INPUT_FLIP
#define TK_INPUT_FLIP 0
#endif
#ifdef TK_INPUT_SCALE
#define TK_WIRE_SIZE (4 * TK_INPUT_SIZE)
#define TK_WIRE_KIND "float32"
#else
#define TK_WIRE_SIZE TK_INPUT_SIZE
#define TK_WIRE_KIND (TK_INPUT_FLIP ? "pixels" : "stored")
#endif

/* What "results" shows is (output - zero) * scale; a generated header that says nothing has a softmax, whose scale is 1/256. */
#ifndef TK_RESULT_ZERO
#define TK_RESULT_ZERO (-128)
#endif
#ifndef TK_RESULT_SCALE_Q24
#define TK_RESULT_SCALE_Q24 0x10000
#endif
/* Bits of a result, the first one of a packed byte in the lowest; how many there are; what is added to each. */
#ifndef TK_RESULT_BITS
#define TK_RESULT_BITS 8
#define TK_RESULT_COUNT TK_OUTPUT_SIZE
#define TK_RESULT_LOW 0
#endif

/* The network's input as it is stored. A buffer of its own: invoke may overwrite the arena's, and every inference starts from this one. */
static uint8_t tk_monitor_input[TK_INPUT_SIZE];

/* The last inference's output as it is stored, if there was one. */
static uint8_t tk_monitor_output[TK_OUTPUT_SIZE];

static uint32_t load_size, load_count; /* of `db load`: bytes announced, bytes received */

#ifdef TK_INPUT_SCALE
static uint8_t received[TK_WIRE_SIZE];

static inline float received_float(uint32_t i)
{
    float value;
    memcpy(&value, received + 4 * i, sizeof value);
    return value;
}

/* Rounds half away from zero; what is too large, or no number, becomes one of the ends. */
static inline int8_t quantized(float value)
{
    float scaled = value / TK_INPUT_SCALE;
    if (!(scaled > -1000.0f))
        scaled = -1000.0f;
    if (scaled > 1000.0f)
        scaled = 1000.0f;
    const int32_t stored = (int32_t)(scaled < 0.0f ? scaled - 0.5f : scaled + 0.5f) + (TK_INPUT_ZERO);
    return (int8_t)(stored < -128 ? -128 : stored > 127 ? 127 : stored);
}

static inline void input_clear(void)
{
    memset(received, 0, sizeof received);
    memset(tk_monitor_input, (TK_INPUT_ZERO) & 255, sizeof tk_monitor_input);
}

static inline void input_byte(uint32_t i, uint8_t byte)
{
    received[i] = byte;
    if (i % 4 == 3)
        tk_monitor_input[i / 4] = (uint8_t)quantized(received_float(i / 4));
}

static inline uint8_t input_shown(uint32_t i) { return received[i]; }
#else
static inline void input_clear(void) { memset(tk_monitor_input, TK_INPUT_FLIP, sizeof tk_monitor_input); }

static inline void input_byte(uint32_t i, uint8_t byte) { tk_monitor_input[i] = byte ^ TK_INPUT_FLIP; }

static inline uint8_t input_shown(uint32_t i) { return tk_monitor_input[i] ^ TK_INPUT_FLIP; }
#endif

static inline void db_load(void)
{
    uint32_t size;
    load_size = load_count = 0;
    if (!read_number(next_word(), &size) || size == 0 || size > TK_WIRE_SIZE) {
        put_line("e-[db load: expected a number of bytes from 1 to ", TK_WIRE_SIZE, "]");
        return;
    }
    input_clear();
    load_size = size;
    put_line("m-[Expecting ", size, " bytes]");
}

static inline void db_print(void)
{
    for (uint32_t i = 0; i < load_count; i++) {
        if (i % BYTES_A_LINE == 0)
            tk_text(i ? "\r\nm-buffer" : "m-buffer");
        tk_port_putc('-');
        put_hex(input_shown(i), 2);
    }
    tk_line("");
}

static inline void db_bytes(const char *hex)
{
    for (; *hex; hex += 2) {
        const int high = tk_hex_digit(hex[0]);
        const int low = high < 0 ? -1 : tk_hex_digit(hex[1]);
        if (low < 0) {
            tk_line("e-[db: expected pairs of hexadecimal digits]");
            return;
        }
        if (load_count == load_size) {
            put_line("e-[db: more bytes than the announced ", load_size, "]");
            return;
        }
        input_byte(load_count++, (uint8_t)(high << 4 | low));
        if (load_count == load_size)
            tk_line("m-load-done");
    }
}

/* `db load N`, `db HH...`, `db print` */
static inline void command_db(void)
{
    const char *word = next_word();
    if (same(word, "load"))
        db_load();
    else if (same(word, "print"))
        db_print();
    else if (*word)
        db_bytes(word);
    else
        tk_line("e-[db: expected load, print or bytes]");
}

/* ---- results ---- */

#if defined TK_RESULT_FLOAT || defined TK_RESULT_ERROR
static inline void put_float(float value)
{
    if (!(value > -2.0e6f)) /* NaN too */
        value = -2.0e6f;
    if (value > 2.0e6f)
        value = 2.0e6f;
    put_thousandths((int32_t)(1000.0f * value + (value < 0.0f ? -0.5f : 0.5f)));
}
#endif

#if defined TK_RESULT_FLOAT
static inline void put_result(uint32_t i)
{
    float value;
    memcpy(&value, tk_monitor_output + 4 * i, sizeof value);
    put_float(value);
}
#else
static inline int32_t stored_result(uint32_t i)
{
#if TK_RESULT_BITS == 32
    int32_t value;
    memcpy(&value, tk_monitor_output + 4 * i, sizeof value);
    return value;
#elif TK_RESULT_BITS == 16
    int16_t value;
    memcpy(&value, tk_monitor_output + 2 * i, sizeof value);
    return value;
#elif TK_RESULT_BITS == 8
    return (int8_t)tk_monitor_output[i];
#else
    const uint32_t place = i * TK_RESULT_BITS;
    return ((tk_monitor_output[place / 8] >> (place % 8)) & ((1 << TK_RESULT_BITS) - 1)) + (TK_RESULT_LOW);
#endif
}
#endif

#if defined TK_RESULT_ERROR
/* m-results-[...]: an autoencoder's score is its mean squared error against what the host has sent. */
static inline void put_results(void)
{
    const float scale = (float)(TK_RESULT_SCALE_Q24) / 16777216.0f;
    float sum = 0.0f;
    for (uint32_t i = 0; i < TK_RESULT_COUNT; i++) {
        const float difference = (float)(stored_result(i) - (TK_RESULT_ZERO)) * scale - received_float(i);
        sum += difference * difference;
    }
    tk_text("m-results-[");
    put_float(sum / (float)(TK_RESULT_COUNT));
    tk_line("]");
}
#else
#if !defined TK_RESULT_FLOAT
static inline void put_result(uint32_t i)
{
    const int64_t scaled = ((int64_t)stored_result(i) - (TK_RESULT_ZERO)) * (TK_RESULT_SCALE_Q24) * 1000;
    const int64_t thousandths = (scaled + (1 << 23)) >> 24;
    put_thousandths((int32_t)(thousandths < -INT32_MAX ? -INT32_MAX : thousandths > INT32_MAX ? INT32_MAX : thousandths));
}
#endif

/* m-results-[...]: the scores of the first output. */
static inline void put_results(void)
{
    tk_text("m-results-[");
    for (uint32_t i = 0; i < TK_RESULT_COUNT; i++) {
        if (i)
            tk_port_putc(',');
        put_result(i);
    }
    tk_line("]");
}
#endif

#endif
