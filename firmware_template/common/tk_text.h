/* Text without printf: what the sketches print, byte by byte through tk_port.h. */
#ifndef TK_TEXT_H
#define TK_TEXT_H

#include <stdint.h>

#include "tk_port.h"

static inline void tk_text(const char *text)
{
    while (*text)
        tk_port_putc((uint8_t)*text++);
}

static inline void tk_line(const char *text)
{
    tk_text(text);
    tk_text("\r\n");
}

static inline void tk_number(uint32_t value)
{
    char digits[11];
    char *p = digits + sizeof digits - 1;
    *p = 0;
    do {
        *--p = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    tk_text(p);
}

/* A real value to three decimals, rounded; "nan", and "inf" for what is beyond four million. */
static inline void tk_thousandths(float value)
{
    if (value < 0) {
        tk_text("-");
        value = -value;
    }
    if (!(value < 4.0e6f)) {
        tk_text(value >= 4.0e6f ? "inf" : "nan");
        return;
    }
    const uint32_t thousandths = (uint32_t)(value * 1000.0f + 0.5f);
    tk_number(thousandths / 1000);
    tk_text(".");
    for (uint32_t place = 100; place > 0; place /= 10)
        tk_port_putc((uint8_t)('0' + thousandths / place % 10));
}

/* The value of a hexadecimal digit, -1 if `c` is none. */
static inline int tk_hex_digit(int c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

#endif
