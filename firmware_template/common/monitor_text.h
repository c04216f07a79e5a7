/* Text to and from the host: lines that are sent, words of the command that was received. */
#ifndef MONITOR_TEXT_H
#define MONITOR_TEXT_H

#include <stdint.h>

void put_text(const char *text);

/* text CR LF */
void put_end(const char *text);

void put_number(uint32_t value);

/* The lowest `digits` hexadecimal digits. */
void put_hex(uint32_t value, int digits);

/* A value in thousandths, as a decimal with three places. */
void put_thousandths(int32_t value);

/* label number tail CR LF */
void put_line(const char *label, uint32_t value, const char *tail);

/* What next_word() reads from now on: it writes zeros behind the words. */
void start_words(char *command);

/* The next word of the command, "" if there is none. */
const char *next_word(void);

int same(const char *a, const char *b);

/* Reads a decimal number below 10^9; 0 if `word` is none. */
int read_number(const char *word, uint32_t *value);

/* The value of a hexadecimal digit, -1 if `c` is none. */
int read_digit(char c);

#endif
