/* What the programs ask of the outside, on this computer: standard input and output, the system's clock. */
#ifndef TK_PORT_H
#define TK_PORT_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define TK_PORT_ARENA __attribute__((aligned(16)))

static inline void tk_port_init(void) { setvbuf(stdout, NULL, _IOLBF, BUFSIZ); }

static inline void tk_port_putc(uint8_t byte) { putchar(byte); }

/* Ends the program with its input. */
static inline uint8_t tk_port_getc(void)
{
    const int byte = getchar();
    if (byte == EOF)
        exit(0);
    return (uint8_t)byte;
}

static inline uint32_t tk_port_microseconds(void)
{
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (uint32_t)((uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u);
}

#endif
