/* Text to and from the host, beside tk_text.h: lines that are sent, words of the command that was received. */
#ifndef MONITOR_TEXT_H
#define MONITOR_TEXT_H

#include <stdint.h>

#include "tk_text.h"

static char *monitor_rest; /* what of the command is not read yet */

/* The lowest `digits` hexadecimal digits. */
static inline void put_hex(uint32_t value, int digits)
{
    while (digits-- > 0)
        tk_port_putc((uint8_t)"0123456789abcdef"[value >> 4 * digits & 15]);
}

/* A value in thousandths, as a decimal with three places. */
static inline void put_thousandths(int32_t value)
{
    if (value < 0)
        tk_port_putc('-');
    const uint32_t size = value < 0 ? 0u - (uint32_t)value : (uint32_t)value;
    tk_number(size / 1000);
    tk_port_putc('.');
    for (uint32_t place = 100; place > 0; place /= 10)
        tk_port_putc((uint8_t)('0' + size / place % 10));
}

/* label number tail CR LF */
static inline void put_line(const char *label, uint32_t value, const char *tail)
{
    tk_text(label);
    tk_number(value);
    tk_line(tail);
}

/* What next_word() reads from now on: it writes zeros behind the words. */
static inline void start_words(char *command) { monitor_rest = command; }

/* The next word of the command, "" if there is none. */
static inline const char *next_word(void)
{
    while (*monitor_rest == ' ')
        monitor_rest++;
    char *word = monitor_rest;
    while (*monitor_rest && *monitor_rest != ' ')
        monitor_rest++;
    if (*monitor_rest)
        *monitor_rest++ = 0;
    return word;
}

static inline int same(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

/* Reads a decimal number below 10^9; 0 if `word` is none. */
static inline int read_number(const char *word, uint32_t *value)
{
    uint32_t sum = 0;
    int digits = 0;
    for (; *word >= '0' && *word <= '9' && digits < 9; word++, digits++)
        sum = 10 * sum + (uint32_t)(*word - '0');
    *value = sum;
    return digits > 0 && *word == 0;
}

#endif
