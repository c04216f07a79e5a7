/* See monitor_text.h. No printf: it would bring a C library, and floating point with it. */
#include "monitor_text.h"

#include "tk_port.h"

static char *rest; /* what of the command is not read yet */

void put_text(const char *text)
{
    while (*text)
        tk_port_putc((uint8_t)*text++);
}

void put_end(const char *text)
{
    put_text(text);
    put_text("\r\n");
}

void put_number(uint32_t value)
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

void put_hex(uint32_t value, int digits)
{
    while (digits-- > 0)
        tk_port_putc((uint8_t)"0123456789abcdef"[value >> 4 * digits & 15]);
}

void put_thousandths(int32_t value)
{
    if (value < 0)
        tk_port_putc('-');
    const uint32_t size = value < 0 ? 0u - (uint32_t)value : (uint32_t)value;
    put_number(size / 1000);
    tk_port_putc('.');
    for (uint32_t place = 100; place > 0; place /= 10)
        tk_port_putc((uint8_t)('0' + size / place % 10));
}

void put_line(const char *label, uint32_t value, const char *tail)
{
    put_text(label);
    put_number(value);
    put_end(tail);
}

void start_words(char *command) { rest = command; }

const char *next_word(void)
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

int same(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

int read_number(const char *word, uint32_t *value)
{
    uint32_t sum = 0;
    int digits = 0;
    for (; *word >= '0' && *word <= '9' && digits < 9; word++, digits++)
        sum = 10 * sum + (uint32_t)(*word - '0');
    *value = sum;
    return digits > 0 && *word == 0;
}

int read_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}
