/* See monitor_data.h. */
#include "monitor_data.h"

#include <string.h>

#include "monitor_text.h"
#include "tk_port.h"

#define BYTES_A_LINE 8

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

uint8_t tk_monitor_input[TK_INPUT_SIZE];
uint8_t tk_monitor_output[TK_OUTPUT_SIZE];

static uint32_t load_size, load_count; /* of `db load`: bytes announced, bytes received */

#ifdef TK_INPUT_SCALE
static uint8_t received[TK_WIRE_SIZE];

static float received_float(uint32_t i)
{
    float value;
    memcpy(&value, received + 4 * i, sizeof value);
    return value;
}

/* Rounds half away from zero; what is too large, or no number, becomes one of the ends. */
static int8_t quantized(float value)
{
    float scaled = value / TK_INPUT_SCALE;
    if (!(scaled > -1000.0f))
        scaled = -1000.0f;
    if (scaled > 1000.0f)
        scaled = 1000.0f;
    const int32_t stored = (int32_t)(scaled < 0.0f ? scaled - 0.5f : scaled + 0.5f) + (TK_INPUT_ZERO);
    return (int8_t)(stored < -128 ? -128 : stored > 127 ? 127 : stored);
}

static void input_clear(void)
{
    memset(received, 0, sizeof received);
    memset(tk_monitor_input, (TK_INPUT_ZERO) & 255, sizeof tk_monitor_input);
}

static void input_byte(uint32_t i, uint8_t byte)
{
    received[i] = byte;
    if (i % 4 == 3)
        tk_monitor_input[i / 4] = (uint8_t)quantized(received_float(i / 4));
}

static uint8_t input_shown(uint32_t i) { return received[i]; }
#else
static void input_clear(void) { memset(tk_monitor_input, TK_INPUT_FLIP, sizeof tk_monitor_input); }

static void input_byte(uint32_t i, uint8_t byte) { tk_monitor_input[i] = byte ^ TK_INPUT_FLIP; }

static uint8_t input_shown(uint32_t i) { return tk_monitor_input[i] ^ TK_INPUT_FLIP; }
#endif

static void db_load(void)
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

static void db_print(void)
{
    for (uint32_t i = 0; i < load_count; i++) {
        if (i % BYTES_A_LINE == 0)
            put_text(i ? "\r\nm-buffer" : "m-buffer");
        tk_port_putc('-');
        put_hex(input_shown(i), 2);
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
        input_byte(load_count++, (uint8_t)(high << 4 | low));
        if (load_count == load_size)
            put_end("m-load-done");
    }
}

void command_db(void)
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

/* ---- results ---- */

#if defined TK_RESULT_FLOAT || defined TK_RESULT_ERROR
static void put_float(float value)
{
    if (!(value > -2.0e6f)) /* NaN too */
        value = -2.0e6f;
    if (value > 2.0e6f)
        value = 2.0e6f;
    put_thousandths((int32_t)(1000.0f * value + (value < 0.0f ? -0.5f : 0.5f)));
}
#endif

#if defined TK_RESULT_FLOAT
static void put_result(uint32_t i)
{
    float value;
    memcpy(&value, tk_monitor_output + 4 * i, sizeof value);
    put_float(value);
}
#else
static int32_t stored_result(uint32_t i)
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
/* An autoencoder's score is its mean squared error against what the host has sent. */
void put_results(void)
{
    const float scale = (float)(TK_RESULT_SCALE_Q24) / 16777216.0f;
    float sum = 0.0f;
    for (uint32_t i = 0; i < TK_RESULT_COUNT; i++) {
        const float difference = (float)(stored_result(i) - (TK_RESULT_ZERO)) * scale - received_float(i);
        sum += difference * difference;
    }
    put_text("m-results-[");
    put_float(sum / (float)(TK_RESULT_COUNT));
    put_end("]");
}
#else
#if !defined TK_RESULT_FLOAT
static void put_result(uint32_t i)
{
    const int64_t scaled = ((int64_t)stored_result(i) - (TK_RESULT_ZERO)) * (TK_RESULT_SCALE_Q24) * 1000;
    const int64_t thousandths = (scaled + (1 << 23)) >> 24;
    put_thousandths((int32_t)(thousandths < -INT32_MAX ? -INT32_MAX : thousandths > INT32_MAX ? INT32_MAX : thousandths));
}
#endif

void put_results(void)
{
    put_text("m-results-[");
    for (uint32_t i = 0; i < TK_RESULT_COUNT; i++) {
        if (i)
            tk_port_putc(',');
        put_result(i);
    }
    put_end("]");
}
#endif
