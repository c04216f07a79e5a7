/* What the programs ask of Mbed: a byte stream, a clock, a place for the arena. For another serial port change this file and nothing else. */
#ifndef TK_PORT_H
#define TK_PORT_H

#include "mbed.h"

#include <stdint.h>

/* Before the definition of an arena; a section of fast memory could be named here. */
#define TK_PORT_ARENA __attribute__((aligned(16)))

static mbed::BufferedSerial tk_port_serial(CONSOLE_TX, CONSOLE_RX, 115200);

/* The port opens itself. */
static inline void tk_port_init(void) {}

/* Sends one byte. */
static inline void tk_port_putc(uint8_t byte) { tk_port_serial.write(&byte, 1); }

/* Waits for one byte. */
static inline uint8_t tk_port_getc(void)
{
    uint8_t byte = 0;
    while (tk_port_serial.read(&byte, 1) != 1) {
    }
    return byte;
}

/* Microseconds since some moment, modulo 2^32. */
static inline uint32_t tk_port_microseconds(void) { return us_ticker_read(); }

#endif
